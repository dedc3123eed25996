"""Threads that count in one variable: without a lock they lose updates, with one they pay for it.

Three rounds of the same work. `unlocked`: read, compute, write; whoever is interrupted between
the read and the write later writes an old value and undoes what the others did meanwhile. The
GIL does not prevent that: it changes hands between any two steps. `locked`: the same under a
lock; the count is right and each update dearer. `apart`: each thread counts on its own and the
counts are added at the end; right and cheap, since nothing is shared.

The report must show the wait for one lock taken in `locked` (`lock_wait_ns`, measured only where
the lock was taken already), and beside it the wait for the GIL, which all three rounds have.

    timesink run -- python3 lock_race.py --threads 4 --updates 500000
"""

import argparse
import sys
import threading
import time

now = time.monotonic_ns


class Count:
    """What is counted, and how long threads waited for the lock."""

    def __init__(self):
        self.value = 0
        self.lock = threading.Lock()
        self.waits = []


def options():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=4, help="threads (%(default)s)")
    parser.add_argument("--updates", type=int, default=500_000, help="of each (%(default)s)")
    parser.add_argument(
        "--interval-us",
        type=int,
        default=1000,
        help="how long a thread keeps the GIL that others want (%(default)s; Python's own: 5000)",
    )
    return parser.parse_args()


def one_more(value):
    return value + 1


def unlocked(count, updates):
    for _ in range(updates):
        value = count.value
        count.value = one_more(value)


def locked(count, updates):
    waited, lock = 0, count.lock
    for _ in range(updates):
        # Clocks are read only where the lock is not free: reading them costs more than the work.
        if not lock.acquire(blocking=False):
            began = now()
            lock.acquire()
            waited += now() - began
        value = count.value
        count.value = one_more(value)
        lock.release()
    count.waits.append(waited)


def apart(count, updates):
    own = 0
    for _ in range(updates):
        own = one_more(own)
    with count.lock:
        count.value += own


def race(way, o):
    """All threads count in this way: what they counted, and the time it took."""
    count = Count()
    threads = [
        threading.Thread(target=way, args=(count, o.updates), name=f"{way.__name__}-{i}")
        for i in range(o.threads)
    ]
    began = now()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return count, now() - began


def main():
    o = options()
    sys.setswitchinterval(o.interval_us / 1e6)
    began = now()
    (lost, lost_time), (right, right_time), (own, own_time) = (
        race(way, o) for way in (unlocked, locked, apart)
    )
    wall = now() - began
    expected = max(1, o.threads * o.updates)
    assert right.value == own.value == o.threads * o.updates, "nothing is lost under a lock"
    print(
        f"of {expected} updates {expected - lost.value} were lost without a lock "
        f"({lost_time // expected} ns each), none with it ({right_time // expected} ns each), "
        f"none apart ({own_time // expected} ns each)"
    )
    print(
        f"expected={expected} unlocked={lost.value} lost={expected - lost.value} "
        f"locked={right.value} apart={own.value} unlocked_ns={lost_time} locked_ns={right_time} "
        f"apart_ns={own_time} lock_wait_ns={sum(right.waits)} "
        f"cpu_ns={time.process_time_ns()} wall_ns={wall}"
    )


if __name__ == "__main__":
    main()
