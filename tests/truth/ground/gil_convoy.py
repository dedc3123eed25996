"""Workload 9: a thread that sleeps 1 ms at a time, and hogs that keep the GIL from it.

Each wake costs a switch interval per hog: the period is sleep + hogs * interval. When the
ticker is done the process ends, with its hogs: they fall asleep before a word is said, as each line
written would be one more chance to wait for the GIL, of which the ticker's measure knows nothing.
`how=processes`: hogs elsewhere.
"""

import multiprocessing
import os
import sys
import threading
import time

from ground import done, name_thread, now, options, run_delay, say

o = options(hogs=1, rounds=150, sleep=1.0, interval=5.0, how="threads")
sys.setswitchinterval(o["interval"] / 1000)


over = False


def hog():
    name_thread("hog")
    total = 0
    while not over:
        total += 1
    time.sleep(60)


def one_tick():
    time.sleep(o["sleep"] / 1000)


def tick(rounds):
    began = now()
    for _ in range(rounds):
        one_tick()
    return now() - began


name_thread("ticker")
# How long a sleep takes while nobody wants the GIL.
alone = 20
calm = tick(alone) // alone
kind = threading.Thread if o["how"] == "threads" else multiprocessing.get_context("fork").Process
hogs = [kind(target=hog, daemon=True) for _ in range(o["hogs"])]
for one in hogs:
    one.start()
took = tick(o["rounds"])
over = True
say("period", took // o["rounds"])
say("calm_period", calm)
say("ticker.sleep", calm * (o["rounds"] + alone))
say("ticker.gil", max(0, took - calm * o["rounds"]))
say("ticker.runnable", run_delay())
done(o["rounds"])
if o["how"] != "threads":
    for one in hogs:
        one.kill()
        one.join()
os._exit(0)
