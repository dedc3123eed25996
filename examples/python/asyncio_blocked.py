"""An event loop in which some callbacks do not await: they sleep or compute on the loop itself.

While one of them is at it nothing else of the loop happens: a ticker that wants to run each 10 ms
comes late by as much as they take. The report must name an event loop held up, and by what:
`sleep` in `time.sleep` for one kind, `running` in `crunch` for the other. With --sleep-ms 0
--compute-ms 0 the loop is on time. The remedy: `await asyncio.sleep`, and run_in_executor for
what computes.

    timesink run -- python3 asyncio_blocked.py --blocks 8 --sleep-ms 60 --compute-ms 60
"""

import argparse
import asyncio
import time

now = time.monotonic_ns


def options():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--blocks", type=int, default=8, help="of each kind (%(default)s)")
    parser.add_argument("--sleep-ms", type=int, default=60, help="a sleep (%(default)s)")
    parser.add_argument("--compute-ms", type=int, default=60, help="CPU time used (%(default)s)")
    parser.add_argument("--every-ms", type=int, default=60, help="pause between (%(default)s)")
    parser.add_argument("--tick-ms", type=int, default=10, help="ticker's period (%(default)s)")
    return parser.parse_args()


def nap(ms):
    """The mistake: a call that waits, without await."""
    began = now()
    if ms:
        time.sleep(ms / 1000)
    return now() - began


def crunch(ms):
    """The other mistake: computing for long. Uses `ms` of CPU time."""
    began = now()
    end = time.thread_time_ns() + ms * 1_000_000
    total = 0
    while time.thread_time_ns() < end:
        for i in range(2_000):
            total += i & 3
    return now() - began


async def blocker(what, ms, blocks, every_ms):
    took = []
    for _ in range(blocks):
        await asyncio.sleep(every_ms / 1000)
        took.append(what(ms))
    return took


async def ticker(tick_ms, lags):
    """How late each tick comes, until it is cancelled."""
    while True:
        due = now() + tick_ms * 1_000_000
        await asyncio.sleep(tick_ms / 1000)
        lags.append(max(0, now() - due))


async def run_all(o):
    lags = []
    ticking = asyncio.ensure_future(ticker(o.tick_ms, lags))
    naps = await blocker(nap, o.sleep_ms, o.blocks, o.every_ms)
    crunches = await blocker(crunch, o.compute_ms, o.blocks, o.every_ms)
    # The last tick is late too: it has to be seen.
    await asyncio.sleep(2 * o.tick_ms / 1000)
    ticking.cancel()
    return naps, crunches, lags


def main():
    o = options()
    began, cpu = now(), time.process_time_ns()
    naps, crunches, lags = asyncio.run(run_all(o))
    wall, cpu = now() - began, time.process_time_ns() - cpu
    held = sum(naps) + sum(crunches)
    half = max(1, min(o.sleep_ms, o.compute_ms)) * 500_000
    late = sum(lag > half for lag in lags)
    print(
        f"{2 * o.blocks} calls held the loop for {held / 1e9:.2f} of {wall / 1e9:.2f} s; "
        f"{late} of {len(lags)} ticks were late, the worst by {max(lags) / 1e6:.0f} ms"
    )
    print(
        f"blocks={2 * o.blocks} sleep_ns={sum(naps)} crunch_ns={sum(crunches)} "
        f"late={late} ticks={len(lags)} lag_ns={sum(lags)} lag_max_ns={max(lags)} "
        f"poll_ns={max(0, wall - cpu - sum(naps))} loop_cpu_ns={cpu} wall_ns={wall}"
    )


if __name__ == "__main__":
    main()
