"""The work of `threads_cpu` in a pool of processes: each has an interpreter and a GIL of its own.

The report must show the workers running on as many CPUs as there are, or ready and waiting for
a CPU, and none of them waiting for the GIL; the parent waits for results on a pipe or a lock.
Starting them costs too: with --start spawn each is a new interpreter that imports this file.

    timesink run -- python3 process_pool.py --workers 4 --jobs 16 --cpu-ms 150
"""

import argparse
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor

now = time.monotonic_ns


def options():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=4, help="processes (%(default)s)")
    parser.add_argument("--jobs", type=int, default=16, help="jobs (%(default)s)")
    parser.add_argument("--cpu-ms", type=int, default=150, help="CPU time of one (%(default)s)")
    parser.add_argument(
        "--start",
        choices=multiprocessing.get_all_start_methods(),
        default=multiprocessing.get_start_method(),
        help="how processes start (%(default)s)",
    )
    return parser.parse_args()


def compute(ms):
    """Uses `ms` of CPU time."""
    end = time.process_time_ns() + ms * 1_000_000
    total = 0
    while time.process_time_ns() < end:
        for i in range(2_000):
            total += i & 3
    return total


def job(ms):
    """Who did it, how long it took, and its CPU time."""
    began, cpu = now(), time.process_time_ns()
    compute(ms)
    return os.getpid(), now() - began, time.process_time_ns() - cpu


def main():
    o = options()
    context = multiprocessing.get_context(o.start)
    began = now()
    with ProcessPoolExecutor(max_workers=o.workers, mp_context=context) as pool:
        futures = [pool.submit(job, o.cpu_ms) for _ in range(o.jobs)]
        results = [future.result() for future in futures]
    wall = now() - began
    workers = len({pid for pid, _, _ in results})
    took, cpu = (sum(result[i] for result in results) for i in (1, 2))
    print(
        f"{len(results)} jobs on {workers} processes ({o.start}): {cpu / 1e9:.2f} s of CPU in "
        f"{wall / 1e9:.2f} s: {cpu / wall:.2f} CPUs"
    )
    print(
        f"jobs={len(results)} workers={workers} jobs_wall_ns={took} jobs_cpu_ns={cpu} "
        f"queue_ns={max(0, took - cpu)} parent_cpu_ns={time.process_time_ns()} wall_ns={wall}"
    )


if __name__ == "__main__":
    main()
