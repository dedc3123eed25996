"""A pool of threads with more jobs than workers; each job asks something slow and waits for it.

The report must show the workers asleep in `job` nearly all the time, and the main thread waiting
for their results: the pool's size limits the run, not the CPU. With more workers the jobs wait
less in the queue (`queued_ns`) and the run is shorter, GIL or not, since a thread that waits does
not hold the GIL. With more workers than jobs the rest is idle, which costs nothing.

    timesink run -- python3 thread_pool.py --workers 4 --jobs 80 --job-ms 100
"""

import argparse
import time
from concurrent.futures import ThreadPoolExecutor

now = time.monotonic_ns


def options():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=4, help="threads (%(default)s)")
    parser.add_argument("--jobs", type=int, default=80, help="jobs (%(default)s)")
    parser.add_argument("--job-ms", type=int, default=100, help="length of one (%(default)s)")
    return parser.parse_args()


def job(ms, submitted):
    """Time in the queue, and at work."""
    began = now()
    time.sleep(ms / 1000)
    return began - submitted, now() - began


def main():
    o = options()
    began = now()
    with ThreadPoolExecutor(max_workers=o.workers, thread_name_prefix="pool") as pool:
        futures = [pool.submit(job, o.job_ms, now()) for _ in range(o.jobs)]
        asked = now()
        times = [future.result() for future in futures]
        waited = now() - asked
    wall = now() - began
    queued, slept = (sum(time[i] for time in times) for i in range(2))
    print(
        f"{len(times)} jobs on {o.workers} threads: {slept / 1e9:.2f} s of work in "
        f"{wall / 1e9:.2f} s; a job was queued for {queued / max(1, len(times)) / 1e6:.0f} ms"
    )
    print(
        f"jobs={len(times)} workers={o.workers} sleep_ns={slept} queued_ns={queued} "
        f"result_wait_ns={waited} cpu_ns={time.process_time_ns()} wall_ns={wall}"
    )


if __name__ == "__main__":
    main()
