# A loop of asyncio that stops in known tasks and callbacks. Says in which one it is (name and function,
# then those of who awaits it, one after the other), and waits for a line.
import asyncio
import json
import sys

newest = sys.version_info >= (3, 14)


def stop(*tasks):
    print(json.dumps({"tasks": tasks}), flush=True)
    sys.stdin.readline()


async def twice(*tasks):
    """At its first step, and when what it awaited is there."""
    stop(*tasks)
    await asyncio.sleep(0)
    stop(*tasks)
    await asyncio.sleep(0.01)
    stop(*tasks)


async def begins(task, by):
    """By when nobody awaits it yet."""
    stop(task)
    await asyncio.sleep(0)
    stop(task, by)


async def deeper(*tasks):
    await twice(*tasks)


async def later(*tasks):
    """By when whoever made it awaits it."""
    await asyncio.sleep(0)
    await twice(*tasks)


async def awaits(task):
    await task


class Own(asyncio.Task):
    pass


def named(name, coroutine):
    task = asyncio.get_running_loop().create_task(coroutine)
    task.set_name(name)
    return task


async def main():
    loop = asyncio.get_running_loop()
    me = [None, "main"]
    await twice(me)
    await loop.create_task(twice([None, "twice"], me))
    await named("fetch-7", deeper(["fetch-7", "deeper"], me))
    await named("größe \U00010280", twice(["größe \U00010280", "twice"], me))
    await named(5, twice(["5", "twice"], me))
    # One that is awaited by one that is.
    outer = named("outer", awaits(named("inner", later(
        ["inner", "later"], ["outer", "awaits"], me))))
    await outer
    # Gathered: older versions do not tell by whom.
    by = [me] if newest else []
    await asyncio.gather(named("one", twice(["one", "twice"], *by)), asyncio.sleep(0))
    # Awaited by nobody meanwhile.
    alone = named("alone", twice(["alone", "twice"]))
    await asyncio.sleep(0.1)
    await alone
    loop.set_task_factory(lambda loop, coro, **more: Own(coro, loop=loop, **more))
    await named("own", twice(["own", "twice"], me))
    # Written in Python: by whom they are awaited is not told.
    loop.set_task_factory(lambda loop, coro, **more: asyncio.tasks._PyTask(coro, loop=loop, **more))
    known = [] if newest else [["slow", "twice"]]
    await named("slow", twice(*known))
    if sys.version_info >= (3, 12):
        # Begun within the step of the one that makes it.
        await asyncio.eager_task_factory(loop, begins(["eager", "begins"], me), name="eager")
    loop.set_task_factory(None)
    # No tasks: a callback, a method, and one that has a task as its argument.
    loop.call_soon(stop)
    loop.call_later(0.001, stop)
    done = named("done", asyncio.sleep(0))
    done.add_done_callback(lambda task: stop())
    await done
    await asyncio.sleep(0.05)


asyncio.run(main())
print(json.dumps({"end": True}), flush=True)
