"""Workload 21: a pool whose jobs wait, with too few workers; `inside` of each job is under one lock.

All jobs are handed in first. With w workers the run takes jobs * job / w, but never less than
jobs * inside: with a lock that is always held more workers gain nothing.
"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from ground import done, name_thread, now, options, say

o = options(workers=2, jobs=100, job=20.0, inside=0.0)
guard = threading.Lock()
slept, locked = [], []


def nap(ms):
    began = now()
    time.sleep(ms / 1000)
    slept.append(now() - began)


def run_job(_):
    if o["inside"] > 0:
        began = now()
        with guard:
            locked.append(now() - began)
            nap(o["inside"])
    if o["job"] > o["inside"]:
        nap(o["job"] - o["inside"])


began = now()
with ThreadPoolExecutor(o["workers"], initializer=name_thread, initargs=("worker",)) as pool:
    list(pool.map(run_job, range(o["jobs"])))
say("pool", now() - began)
say("worker.sleep", sum(slept))
say("worker.lock", sum(locked))
done(o["jobs"])
