"""A loop that waits for an executor whose workers are all busy: jobs queue behind each other.

`python3 busy_executor.py one|default ROUNDS`: eight jobs of 50 ms a round for one worker, or five for each
of the workers of asyncio's own executor.
"""
import asyncio
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor


def job():
    time.sleep(0.05)


async def ask(pool):
    await asyncio.get_running_loop().run_in_executor(pool, job)


async def main(which, rounds):
    pool = ThreadPoolExecutor(1, thread_name_prefix="jobs") if which == "one" else None
    jobs = 8 if which == "one" else 5 * min(32, os.cpu_count() + 4)
    for _ in range(rounds):
        await asyncio.gather(*(ask(pool) for _ in range(jobs)))


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
