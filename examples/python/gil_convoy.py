"""A thread that asks and waits for short answers, alone and then beside threads that compute.

Each answer of the child takes a millisecond. But a thread gives the GIL up while it waits, and to
get it back from a thread that computes it has to wait for the switch interval (5 ms), more where
several compute: the convoy effect. The report must show `io` waiting for the GIL most of its life
and at the socket (`pipe`) for the smaller part, and the burners waiting for the GIL too, since
only one of them runs at a time. A smaller --interval-us shortens the waits; computing in other
processes, or a free-threaded interpreter, ends them.

    timesink run -- python3 gil_convoy.py --requests 150 --burners 2

The report must agree with `io_gil_ns` (latency beside the burners less latency alone, over all
requests) and, for all threads of the second part, with `gil_or_queue_ns`: the burners' life less
their CPU time, and `io_gil_ns`. `queue_ns` of it they were ready and had no CPU, by the scheduler's
own count; what is left, `gil_ns`, is the wait for the GIL.
"""

import argparse
import socket
import subprocess
import sys
import threading
import time

now = time.monotonic_ns


def options():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=150, help="in each part (%(default)s)")
    parser.add_argument("--burners", type=int, default=2, help="threads that compute (%(default)s)")
    parser.add_argument("--answer-us", type=int, default=1000, help="answer takes (%(default)s)")
    parser.add_argument(
        "--interval-us", type=int, default=5000, help="Python's switch interval (%(default)s)"
    )
    parser.add_argument("--echo", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def echo(descriptor, answer_us):
    """The child: sends back what comes, a little later, until the other end is closed."""
    with socket.socket(fileno=descriptor) as end:
        while True:
            data = end.recv(64)
            if not data:
                return
            time.sleep(answer_us / 1e6)
            end.sendall(data)


class Times:
    """What one thread measured of itself."""

    def __init__(self):
        self.life = self.cpu = self.queued = 0
        self.latencies = []


    def close(self, began):
        """Called by the thread at its end: its clock and books began with it."""
        self.life, self.cpu, self.queued = now() - began, time.thread_time_ns(), queued()


def queued():
    """How long this thread was ready and had no CPU, ns; 0 where the kernel does not say."""
    try:
        with open("/proc/thread-self/schedstat", encoding="ascii") as books:
            return int(books.read().split()[1])
    except OSError:
        return 0


def request(end):
    end.sendall(b"ping")
    end.recv(64)


def io(end, count, times):
    began = last = now()
    for _ in range(count):
        request(end)
        done = now()
        times.latencies.append(done - last)
        last = done
    times.close(began)


def burn(stop, times):
    began = now()
    total = 0
    while not stop.is_set():
        for i in range(2_000):
            total += i & 3
    times.close(began)


def both_parts(o, end):
    """The I/O thread alone, then beside the burners."""
    alone, loaded = Times(), Times()
    thread = threading.Thread(target=io, args=(end, o.requests, alone), name="io-alone")
    thread.start()
    thread.join()
    stop, burning = threading.Event(), [Times() for _ in range(o.burners)]
    burners = [
        threading.Thread(target=burn, args=(stop, times), name=f"burner-{i}")
        for i, times in enumerate(burning)
    ]
    for thread in burners:
        thread.start()
    thread = threading.Thread(target=io, args=(end, o.requests, loaded), name="io")
    thread.start()
    thread.join()
    stop.set()
    for thread in burners:
        thread.join()
    return alone, loaded, burning


def median(values):
    return sorted(values)[len(values) // 2] if values else 0


def main():
    o = options()
    if o.echo is not None:
        return echo(o.echo, o.answer_us)
    sys.setswitchinterval(o.interval_us / 1e6)
    began = now()
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            answers = ["--echo", str(theirs.fileno()), "--answer-us", str(o.answer_us)]
            command = [sys.executable, __file__, *answers]
            child = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        try:
            request(ours)  # Until the child has started it does not count.
            alone, loaded, burning = both_parts(o, ours)
        finally:
            # The end of the conversation, which ends the child.
            ours.close()
            child.wait()
    wall = now() - began
    report(o, wall, alone, loaded, burning)
    return None


def report(o, wall, alone, loaded, burning):
    life, cpu = sum(times.life for times in burning), sum(times.cpu for times in burning)
    io_gil = max(0, sum(loaded.latencies) - sum(alone.latencies))
    wait = max(0, life - cpu) + io_gil
    queue = loaded.queued + sum(times.queued for times in burning)
    print(
        f"a request takes {median(alone.latencies) / 1e3:.0f} us alone and "
        f"{median(loaded.latencies) / 1e3:.0f} us beside {o.burners} burners; the longest "
        f"{max(loaded.latencies, default=0) / 1e6:.1f} ms"
    )
    print(
        f"requests={o.requests} burners={o.burners} alone_ns={sum(alone.latencies)} "
        f"loaded_ns={sum(loaded.latencies)} io_gil_ns={io_gil} io_cpu_ns={loaded.cpu} "
        f"burners_wall_ns={life} burners_cpu_ns={cpu} "
        f"gil_or_queue_ns={wait} queue_ns={queue} gil_ns={max(0, wait - queue)} wall_ns={wall}"
    )


if __name__ == "__main__":
    main()
