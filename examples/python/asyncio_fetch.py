"""An event loop that fetches from a slow server, several requests at a time, on one thread.

The report must show one thread that waits in `poll` nearly all the time and runs for the rest:
an event loop with little to do. The waits of all requests (`latency_ns`) overlap, so they sum to
several times the run. With --at-once 1 the run is as long as all of them together.

    timesink run -- python3 asyncio_fetch.py --requests 200 --at-once 10
"""

import argparse
import asyncio
import time

now = time.monotonic_ns


def options():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=200, help="requests (%(default)s)")
    parser.add_argument("--at-once", type=int, default=10, help="at a time (%(default)s)")
    parser.add_argument("--delay-ms", type=int, default=100, help="server takes (%(default)s)")
    return parser.parse_args()


async def serve(reader, writer, delay_ms):
    """Answers each line of a connection after the delay."""
    while True:
        line = await reader.readline()
        if not line:
            break
        await asyncio.sleep(delay_ms / 1000)
        writer.write(line)
        await writer.drain()
    writer.close()


async def fetch(port, numbers, latencies):
    """One connection that asks for what is left, one after the other."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for number in numbers:
        began = now()
        writer.write(b"%d\n" % number)
        answer = await reader.readline()
        latencies.append(now() - began)
        assert int(answer) == number, "each gets its own answer"
    writer.close()
    await writer.wait_closed()


async def fetch_all(o):
    server = await asyncio.start_server(
        lambda reader, writer: serve(reader, writer, o.delay_ms), "127.0.0.1", 0
    )
    port = server.sockets[0].getsockname()[1]
    # One iterator that all of them take from: whoever is free takes the next.
    numbers, latencies = iter(range(o.requests)), []
    began = now()
    await asyncio.gather(*(fetch(port, numbers, latencies) for _ in range(o.at_once)))
    wall = now() - began
    server.close()
    await server.wait_closed()
    return latencies, wall


def main():
    o = options()
    cpu = time.process_time_ns()
    latencies, wall = asyncio.run(fetch_all(o))
    cpu = time.process_time_ns() - cpu
    total = sum(latencies)
    print(
        f"{len(latencies)} requests waited {total / 1e9:.2f} s in {wall / 1e9:.2f} s: "
        f"{total / wall:.1f} at a time, on one thread that ran {100 * cpu / wall:.0f} % of it"
    )
    print(
        f"requests={len(latencies)} latency_ns={total} poll_ns={max(0, wall - cpu)} "
        f"loop_cpu_ns={cpu} wall_ns={wall}"
    )


if __name__ == "__main__":
    main()
