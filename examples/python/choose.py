"""Threads, processes or asyncio? The same work under each, measured, and the difference explained.

Two kinds of work: `cpu`, jobs that only compute Python, and `io`, jobs that ask a slow service and
wait. Each under threads, processes and asyncio, with as many workers: six cases. Each case runs
in a child process, so that the kernel's count of its CPU time and switches is its own (less the
start of that child; the start of workers is in it). The service answers from the parent. Prints a
table and, in plain words, why its rows differ.

The report must show the same: under `cpu` the threads wait for the GIL while the processes use all
CPUs and the event loop computes one job after the other; under `io` all three wait at the
`network` or in `poll` nearly all the time, and the processes cost most to start.

    timesink run -- python3 choose.py --workers 6 --cpu-ms 120 --requests 10
    timesink run -- python3 choose.py --only cpu-threads      (one case)
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

now = time.monotonic_ns
SLICE_MS = 5
CASES = [work + "-" + way for work in ("cpu", "io") for way in ("threads", "processes", "asyncio")]


def options():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=6, help="at a time (%(default)s)")
    parser.add_argument("--cpu-ms", type=int, default=120, help="CPU time of a job (%(default)s)")
    parser.add_argument("--requests", type=int, default=10, help="of an I/O job (%(default)s)")
    parser.add_argument("--delay-ms", type=int, default=30, help="service takes (%(default)s)")
    parser.add_argument("--only", choices=CASES, help="this case alone")
    parser.add_argument(
        "--start",
        choices=multiprocessing.get_all_start_methods(),
        default=multiprocessing.get_start_method(),
        help="how processes start (%(default)s)",
    )
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


# --- the work


def spin(ms):
    """Uses `ms` of this thread's CPU time."""
    end = time.thread_time_ns() + ms * 1_000_000
    total = 0
    while time.thread_time_ns() < end:
        for i in range(2_000):
            total += i & 3


def compute(o):
    spin(o.cpu_ms)
    return used()


def ask(o):
    with socket.create_connection(("127.0.0.1", o.port)) as service:
        for _ in range(o.requests):
            service.sendall(b"?")
            service.recv(1)
    return used()


async def compute_in_loop(o):
    # A slice at a time, as a polite task would: it does not help.
    for _ in range(o.cpu_ms // SLICE_MS):
        spin(SLICE_MS)
        await asyncio.sleep(0)
    spin(o.cpu_ms % SLICE_MS)


async def ask_in_loop(o):
    reader, writer = await asyncio.open_connection("127.0.0.1", o.port)
    for _ in range(o.requests):
        writer.write(b"?")
        await reader.readexactly(1)
    writer.close()
    await writer.wait_closed()


# --- the ways; each gives what all processes used


def under_threads(o, work):
    with ThreadPoolExecutor(max_workers=o.workers, thread_name_prefix="worker") as pool:
        list(pool.map({"cpu": compute, "io": ask}[work], [o] * o.workers))
    return used()


def under_processes(o, work):
    context = multiprocessing.get_context(o.start)
    with ProcessPoolExecutor(max_workers=o.workers, mp_context=context) as pool:
        done = list(pool.map({"cpu": compute, "io": ask}[work], [o] * o.workers))
        total = used()
    # The last that each worker said. The kernel's own sum for children would miss those that a
    # fork server started.
    for worker in {worker["pid"]: worker for worker in done}.values():
        for key in ("cpu", "voluntary", "involuntary", "memory_kb"):
            total[key] += worker[key]
    return total


def under_asyncio(o, work):
    async def all_jobs():
        job = {"cpu": compute_in_loop, "io": ask_in_loop}[work]
        await asyncio.gather(*(job(o) for _ in range(o.workers)))

    asyncio.run(all_jobs())
    return used()


def used():
    """What this process has used since it began, by the kernel's count."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "pid": os.getpid(),
        "cpu": int((usage.ru_utime + usage.ru_stime) * 1e9),
        "voluntary": usage.ru_nvcsw,
        "involuntary": usage.ru_nivcsw,
        "memory_kb": memory_kb(usage),
    }


def memory_kb(usage):
    """Memory of this process: pages shared with others count in part (PSS); else the peak."""
    try:
        with open("/proc/self/smaps_rollup", encoding="ascii") as lines:
            return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    except OSError:
        return usage.ru_maxrss


def run_case(o):
    """In the child: does the work and prints what it took, without the start of the child."""
    work, way = o.case.split("-")
    ways = {"threads": under_threads, "processes": under_processes, "asyncio": under_asyncio}
    before, began = used(), now()
    row = ways[way](o, work)
    row["wall"] = now() - began
    for key in ("cpu", "voluntary", "involuntary"):
        row[key] -= before[key]
    print(json.dumps(row))


# --- the service


class Service:
    """Answers each byte of each connection after a delay; a thread and an event loop."""

    def __init__(self, delay_ms):
        self.delay = delay_ms / 1000
        self.loop = asyncio.new_event_loop()
        self.port = self.loop.run_until_complete(self.listen())
        self.thread = threading.Thread(target=self.loop.run_forever, name="service")
        self.thread.start()

    async def listen(self):
        self.server = await asyncio.start_server(self.answer, "127.0.0.1", 0)
        return self.server.sockets[0].getsockname()[1]

    async def answer(self, reader, writer):
        while await reader.read(1):
            await asyncio.sleep(self.delay)
            writer.write(b"!")
        writer.close()

    def stop(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.server.close()
        self.loop.run_until_complete(self.server.wait_closed())
        self.loop.close()


# --- the comparison


def measure(o, case, port):
    """Runs a case in a child of its own: its times, and what it and its workers used."""
    command = [sys.executable, __file__, "--case", case, "--port", str(port)]
    for name in ("workers", "cpu-ms", "requests", "start"):
        command += ["--" + name, str(getattr(o, name.replace("-", "_")))]
    child = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return json.loads(child.stdout)


def print_table(rows):
    print("work  way        wall      CPU       CPUs  voluntary  involuntary  memory")
    for case, row in rows.items():
        work, way = case.split("-")
        print(
            f"{work:<5} {way:<9} {row['wall'] / 1e9:6.2f} s  {row['cpu'] / 1e9:6.2f} s "
            f"{row['cpu'] / row['wall']:8.2f} {row['voluntary']:10} {row['involuntary']:12} "
            f"{row['memory_kb'] / 1024:6.0f} MB"
        )


def gil_is_on():
    return getattr(sys, "_is_gil_enabled", lambda: True)()


def explain_cpu(rows):
    threads, processes, loop = (rows["cpu-" + way] for way in ("threads", "processes", "asyncio"))
    cpus = len(os.sched_getaffinity(0))
    if gil_is_on():
        yield (
            f"cpu: threads used {share(threads)} of {cpus} CPUs, for only the one that holds the "
            "GIL runs Python; the others wait for it, and each hand-over is a switch."
        )
    else:
        yield (
            f"cpu: this interpreter has no GIL, so threads may use all {cpus} CPUs, as processes "
            f"do, without starting any; they got {share(threads)}."
        )
    yield (
        f"cpu: processes may use all {cpus} CPUs, for each has an interpreter of its own; they got "
        f"{share(processes)}. That costs a start each, and here "
        f"{processes['memory_kb'] / max(1, threads['memory_kb']):.1f} times the memory of threads."
    )
    yield (
        f"cpu: asyncio used {share(loop)} CPUs: one thread, one job at a time. It hands over only "
        "where a job awaits, and what computes has nothing to wait for."
    )


def explain_io(rows):
    threads, processes, loop = (rows["io-" + way] for way in ("threads", "processes", "asyncio"))
    slowest = max(threads["wall"], processes["wall"], loop["wall"])
    yield (
        f"io: all three were done in {slowest / 1e9:.2f} s and used little CPU: they waited, and "
        "who waits for an answer does not hold the GIL, so that all waits overlap."
    )
    yield (
        "io: a thread or process sleeps once for each answer (voluntary switches: "
        f"{threads['voluntary']} and {processes['voluntary']}); the event loop sleeps once for all "
        f"answers that come together ({loop['voluntary']})."
    )
    yield (
        f"io: they differ in what a worker costs: processes took {used_by(processes)}, most of it "
        f"to start; threads {used_by(threads)}; asyncio {used_by(loop)}, and little more with a "
        "thousand jobs."
    )


def share(row):
    return f"{row['cpu'] / row['wall']:.1f}"


def used_by(row):
    return f"{row['cpu'] / 1e9:.2f} s of CPU and {row['memory_kb'] / 1024:.0f} MB"


def main():
    o = options()
    if o.case:
        return run_case(o)
    began = now()
    service = Service(o.delay_ms)
    try:
        cases = [o.only] if o.only else CASES
        rows = {case: measure(o, case, service.port) for case in cases}
    finally:
        service.stop()
    wall = now() - began
    print_table(rows)
    if not o.only:
        for line in (*explain_cpu(rows), *explain_io(rows)):
            print(line)
    pairs = [
        f"{case.replace('-', '_')}_{what}_ns={row[what]}"
        for case, row in rows.items()
        for what in ("wall", "cpu")
    ]
    print(" ".join(pairs), f"wall_ns={wall}")
    return None


if __name__ == "__main__":
    main()
