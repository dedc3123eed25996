"""Two locks that threads wait for at the same place: the second and third of each take turns.

usage: locks.py [SECONDS]

Prints, as JSON, for each lock its `id()` and how long it was waited for, and whether there is no
GIL; null where threads wait for a lock in a word of the lock's own, so that this is nothing special
(before 3.14, but for free-threaded builds of 3.13).
"""
import json
import sys
import sysconfig
import threading
import time

HELD = 0.004


def use(lock, until, waited):
    while time.monotonic() < until:
        asked = time.monotonic_ns()
        with lock:
            waited.append(time.monotonic_ns() - asked)
            time.sleep(HELD)
        # Whoever waits gets it: without a pause the same thread takes it again.
        time.sleep(HELD / 4)


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    parks = sys.version_info >= (3, 14)
    parks = parks or sys.version_info >= (3, 13) and bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    if not parks:
        return print("null")
    until = time.monotonic() + seconds
    locks = [(threading.Lock(), []) for _ in range(2)]
    threads = [
        threading.Thread(target=use, args=(lock, until, waited))
        for lock, waited in locks
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    said = [{"id": id(lock), "wait_ns": sum(waited)} for lock, waited in locks]
    free = not getattr(sys, "_is_gil_enabled", lambda: True)()
    print(json.dumps({"locks": said, "free_threaded": free}))


main()
