# Nine threads and the main one, twenty functions deep each, that wait.
import sys
import threading

event = threading.Event()
ready = threading.Semaphore(0)


def deeper(count, then):
    if count:
        return deeper(count - 1, then)
    return then()


def wait():
    ready.release()
    event.wait()


threads = [threading.Thread(target=deeper, args=(13, wait), daemon=True) for _ in range(9)]
for thread in threads:
    thread.start()
for thread in threads:
    ready.acquire()


def say():
    print("ready", flush=True)
    sys.stdin.readline()


deeper(17, say)
