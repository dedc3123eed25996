"""Threads that only compute Python: the GIL lets one of them run at a time.

The report must show that the threads took turns: all together they ran about as long as one CPU
could (wall time), and the rest of their time each waited for the GIL. With --threads 1 that wait
is gone and the CPU time is the same. A free-threaded interpreter has no GIL to wait for: there
the threads use as many CPUs as there are.

    timesink run -- python3 threads_cpu.py --threads 4 --cpu-ms 500

`gil_or_queue_ns` is what the report must find in the workers: the sum over the threads of their
life less their CPU time. `queue_ns` of it the threads were ready and had no CPU, by the
scheduler's own count; what is left, `gil_ns`, is the wait for the GIL.
"""

import argparse
import sys
import threading
import time

now = time.monotonic_ns


def options():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=4, help="threads (%(default)s)")
    parser.add_argument("--cpu-ms", type=int, default=500, help="CPU time of each (%(default)s)")
    return parser.parse_args()


def compute(ms):
    """Uses `ms` of this thread's CPU time."""
    end = time.thread_time_ns() + ms * 1_000_000
    total = 0
    while time.thread_time_ns() < end:
        for i in range(2_000):
            total += i & 3
    return total


def queued():
    """How long this thread was ready and had no CPU, ns; 0 where the kernel does not say."""
    try:
        with open("/proc/thread-self/schedstat", encoding="ascii") as books:
            return int(books.read().split()[1])
    except OSError:
        return 0


def work(ms, times):
    began = now()
    compute(ms)
    # The thread's own clock and books began with it.
    cpu, queue = time.thread_time_ns(), queued()
    times.append((now() - began, cpu, queue))


def gil_is_on():
    return getattr(sys, "_is_gil_enabled", lambda: True)()


def main():
    o = options()
    times = []
    threads = [
        threading.Thread(target=work, args=(o.cpu_ms, times), name=f"cruncher-{i}")
        for i in range(o.threads)
    ]
    began = now()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall = now() - began
    life, cpu, queue = (sum(time[i] for time in times) for i in range(3))
    wait = max(0, life - cpu)
    gil = max(0, wait - queue) if gil_is_on() else 0
    print(
        f"{o.threads} threads used {cpu / 1e9:.2f} s of CPU in {wall / 1e9:.2f} s: "
        f"{cpu / wall:.2f} CPUs; they waited {gil / 1e9:.2f} s for the GIL"
    )
    print(
        f"threads={o.threads} threads_wall_ns={life} threads_cpu_ns={cpu} gil_or_queue_ns={wait} "
        f"queue_ns={queue} gil_ns={gil} wall_ns={wall}"
    )


if __name__ == "__main__":
    main()
