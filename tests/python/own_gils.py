"""Two interpreters in one process, each with a GIL of its own and two threads that compute.

usage: own_gils.py [SECONDS]

Prints the threads of each interpreter by their kernel ids, as JSON; null where this Python cannot.
"""
import json
import os
import sys
import threading

BURN = """
import json, os, threading, time

def burn(until):
    ids.append(threading.get_native_id())
    while time.monotonic() < until:
        sum(value * value for value in range(1000))

ids = []
until = time.monotonic() + %f
threads = [threading.Thread(target=burn, args=(until,)) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
os.write(%d, json.dumps(ids).encode() + b"\\n")
"""


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 1.5
    if sys.version_info >= (3, 13):
        import _interpreters as interpreters
    elif sys.version_info >= (3, 12):
        import _xxsubinterpreters as interpreters
    else:
        return print("null")
    told, tell = os.pipe()
    each = [interpreters.create() for _ in range(2)]
    script = BURN % (seconds, tell)
    runs = [threading.Thread(target=interpreters.run_string, args=(it, script)) for it in each]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    os.close(tell)
    with os.fdopen(told) as lines:
        print(json.dumps([json.loads(line) for line in lines]), flush=True)
    # The end of 3.12 waits for ever for threads that ended in another interpreter.
    os._exit(0)


main()
