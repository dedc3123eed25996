"""Python programs with a fixed amount of work, for measuring what tracing costs them.

usage: python.py burn N      N rounds of arithmetic in one thread
       python.py threads N   the same in each of two threads, which take turns under the GIL
       python.py handoff N   two threads that let go of the GIL N times each, for nothing
       python.py pools N     N small jobs through a queue to four threads
"""
import os
import queue
import sys
import threading


def burn(rounds):
    x = 0
    for i in range(rounds):
        x = (x * 31 + i) & 0xFFFFFFFF
    return x


def handoff(rounds):
    with open("/dev/zero", "rb", buffering=0) as file:
        fd = file.fileno()
        for _ in range(rounds):
            os.read(fd, 1)


def serve(jobs):
    while jobs.get() is not None:
        burn(20)


def spread(work, rounds, count=2):
    threads = [threading.Thread(target=work, args=(rounds,)) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def pools(rounds):
    jobs = queue.Queue()
    threads = [threading.Thread(target=serve, args=(jobs,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(rounds):
        jobs.put(number)
    for _ in threads:
        jobs.put(None)
    for thread in threads:
        thread.join()


def main():
    mode, rounds = sys.argv[1], int(sys.argv[2])
    if mode == "burn":
        burn(rounds)
    elif mode == "threads":
        spread(burn, rounds)
    elif mode == "handoff":
        spread(handoff, rounds)
    elif mode == "pools":
        pools(rounds)
    else:
        sys.exit(__doc__)


main()
