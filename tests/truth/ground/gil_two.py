"""Workload 8: threads that only compute Python, and one lock that lets one of them run.

T is the time of one thread times `threads`; each of two waits for the GIL half of its time.
`how=processes`: the same work in processes, each with a GIL of its own.
"""

import multiprocessing
import threading
import time

from ground import done, name_thread, now, options, run_delay, say

o = options(threads=2, loops=12_000_000, how="threads")
running, life, runnable = ([0] * o["threads"] for _ in range(3))


def crunch(loops):
    total = 0
    for i in range(loops):
        total += i & 3
    return total


def work(index):
    name_thread(f"cruncher-{index}")
    began, cpu = now(), time.thread_time_ns()
    crunch(o["loops"])
    running[index] = time.thread_time_ns() - cpu
    life[index] = now() - began
    runnable[index] = run_delay()


kind = threading.Thread if o["how"] == "threads" else multiprocessing.get_context("fork").Process
began = now()
workers = [kind(target=work, args=(index,)) for index in range(o["threads"])]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
say("join", now() - began)
if o["how"] == "threads":
    say("cruncher.running", sum(running))
    say("cruncher.runnable", sum(runnable))
    # All else is waiting for the GIL.
    say("cruncher.gil", sum(life) - sum(running) - sum(runnable))
done(o["threads"])
