"""Workload 15: an event loop whose callbacks now and then sleep on their own.

A ticker should run each 5 ms; each block makes it late by the block's length.
"""

import asyncio
import time

from ground import done, name_thread, now, options, run_delay, say

o = options(ticks=150, tick=5.0, blocks=10, block=50.0, every=60.0)
blocked, lags = [], []


def block_the_loop():
    began = now()
    if o["block"] > 0:
        time.sleep(o["block"] / 1000)
    blocked.append(now() - began)


async def ticker():
    for _ in range(o["ticks"]):
        due = now() + int(o["tick"] * 1e6)
        await asyncio.sleep(o["tick"] / 1000)
        lags.append(now() - due)


async def blocker():
    for _ in range(o["blocks"]):
        await asyncio.sleep(o["every"] / 1000)
        block_the_loop()


async def main():
    name_thread("loop")
    await asyncio.gather(ticker(), blocker())


began = now()
asyncio.run(main())
took = now() - began
say("loop", took)
say("loop.sleep", sum(blocked))
say("loop.poll", took - sum(blocked))
say("lags_over_10_ms", sum(lag > 10_000_000 for lag in lags))
say("longest_lag", max(lags))
say("loop.runnable", run_delay())
done(o["ticks"])
