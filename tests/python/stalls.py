"""Holds up a loop of asyncio in known functions, each called by one task alone. Prints how often
each did.

    python3 stalls.py ROUNDS MS [LOOP]

LOOP: uvloop, or python for tasks that are written in Python.
"""

import asyncio
import collections
import json
import sys
import time

rounds, ms = int(sys.argv[1]), int(sys.argv[2])
kind = sys.argv[3] if len(sys.argv) > 3 else ""
calls = collections.Counter()


def counted(function):
    def call():
        calls[function.__name__] += 1
        function()
    return call


def nap():
    time.sleep(ms / 1000)


def crunch():
    end = time.thread_time_ns() + ms * 1_000_000
    while time.thread_time_ns() < end:
        sum(range(1_000))


@counted
def stall_named():
    nap()


@counted
def stall_computing():
    crunch()


@counted
def stall_numbered():
    nap()


@counted
def stall_gathered():
    nap()


@counted
def stall_main():
    nap()


@counted
def stall_callback():
    nap()


async def work(stall):
    for _ in range(rounds):
        await asyncio.sleep(ms / 500)
        stall()


async def awaits(task):
    await task


def named(name, coroutine):
    task = asyncio.get_running_loop().create_task(coroutine)
    task.set_name(name)
    return task


def python_task(loop, coroutine, **more):
    if more.get("name", "") is None:
        del more["name"]
    return asyncio.tasks._PyTask(coroutine, loop=loop, **more)


async def main():
    # Until the recorder knows where asyncio is.
    await asyncio.sleep(0.8)
    inner = named("fetch-7", work(stall_named))
    tasks = [
        named("awaits fetch-7", awaits(inner)),
        named("größe", work(stall_computing)),
        asyncio.get_running_loop().create_task(work(stall_numbered)),
    ]
    for task in tasks:
        await task
    await asyncio.gather(named("gathered", work(stall_gathered)), asyncio.sleep(0.01))
    for _ in range(rounds):
        asyncio.get_running_loop().call_soon(stall_callback)
        await asyncio.sleep(ms / 500)
    for _ in range(rounds):
        stall_main()
        await asyncio.sleep(ms / 500)


if kind == "uvloop":
    import uvloop

    loop = uvloop.new_event_loop()
else:
    loop = asyncio.new_event_loop()
if kind == "python":
    loop.set_task_factory(python_task)
loop.run_until_complete(main())
print(json.dumps(calls))
