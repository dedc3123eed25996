"""Worker processes that take jobs from one queue and put results into another; one is slower.

The report must show the workers asleep in `do_job`, then waiting at the queue: whoever waits for
a job waits for the queue's semaphore, which the one next in line holds while it reads the pipe.
The parent, which deals jobs slower than the workers do them, sleeps in `deal`. A thread per
queue (the feeder) writes what is put.

    timesink run -- python3 processes_queue.py --workers 3 --jobs 60 --every-ms 30
"""

import argparse
import multiprocessing
import time

now = time.monotonic_ns


def options():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=3, help="processes (%(default)s)")
    parser.add_argument("--jobs", type=int, default=60, help="jobs (%(default)s)")
    parser.add_argument("--job-ms", type=int, default=40, help="length of one (%(default)s)")
    parser.add_argument("--every-ms", type=int, default=30, help="time between jobs (%(default)s)")
    parser.add_argument(
        "--start",
        choices=multiprocessing.get_all_start_methods(),
        default=multiprocessing.get_start_method(),
        help="how processes start (%(default)s)",
    )
    return parser.parse_args()


def do_job(ms):
    began = now()
    time.sleep(ms / 1000)
    return now() - began


def worker(index, jobs, results):
    """Does jobs until it is told that there are none: how many, the wait for them, the work."""
    done = waited = worked = 0
    while True:
        asked = now()
        ms = jobs.get()
        waited += now() - asked
        if ms is None:
            break
        # The first worker takes twice as long for everything.
        worked += do_job(ms * 2 if index == 0 else ms)
        done += 1
    results.put((done, waited, worked))


def deal(jobs, count, job_ms, every_ms):
    slept = 0
    for _ in range(count):
        jobs.put(job_ms)
        began = now()
        time.sleep(every_ms / 1000)
        slept += now() - began
    return slept


def main():
    o = options()
    context = multiprocessing.get_context(o.start)
    jobs, results = context.Queue(), context.Queue()
    began = now()
    workers = [
        context.Process(target=worker, args=(i, jobs, results), name=f"worker-{i}")
        for i in range(o.workers)
    ]
    for process in workers:
        process.start()
    slept = deal(jobs, o.jobs, o.job_ms, o.every_ms)
    for _ in workers:
        jobs.put(None)
    # Results first: a process ends only when what it put into a queue was taken.
    times = [results.get() for _ in workers]
    for process in workers:
        process.join()
    wall = now() - began
    done, waited, worked = (sum(time[i] for time in times) for i in range(3))
    print(
        f"{done} jobs on {o.workers} processes ({o.start}): {worked / 1e9:.2f} s of work, "
        f"{waited / 1e9:.2f} s waiting for work, in {wall / 1e9:.2f} s"
    )
    print(
        f"jobs={done} work_ns={worked} deal_ns={slept} sleep_ns={worked + slept} "
        f"job_wait_ns={waited} cpu_ns={time.process_time_ns()} wall_ns={wall}"
    )


if __name__ == "__main__":
    main()
