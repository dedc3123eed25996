"""Threads that compute under the GIL and write down when they had it.

usage: gil.py [SECONDS] [THREADS]

Each thread reads the clock every few microseconds. As long as it reads on, it has the GIL; where it
could not for a while, it waited for the GIL, or for a CPU. How long it waited for a CPU is what the
kernel says (`schedstat`, the second number). Prints, as JSON: each thread's wall time and its wait
for the GIL, and for each pair of threads for how long one kept the GIL while the other was without.
"""
import json
import sys
import threading
import time

LOST = 200_000  # ns: longer than this between two looks at the clock, it was without


def queued(tid):
    try:
        with open("/proc/self/task/%d/schedstat" % tid) as file:
            return int(file.read().split()[1])
    except (OSError, IndexError):
        return 0


def burn(until, out, gate):
    tid = threading.get_native_id()
    before = queued(tid)
    gate.wait()
    now = time.monotonic_ns
    start = begin = last = now()
    spans = []
    while last < until:
        for _ in range(100):
            pass
        t = now()
        if t - last > LOST:
            spans.append((begin, last))
            begin = t
        last = t
    spans.append((begin, last))
    out[tid] = (start, last, spans, queued(tid) - before)


def gaps(start, spans):
    edge = start
    for begin, end in spans:
        if begin > edge:
            yield edge, begin
        edge = end


def holds(out):
    """Who had it when: what a thread wrote down twice in a row it had in between too, without a CPU."""
    every = sorted((begin, end, tid) for tid, (_, _, spans, _) in out.items() for begin, end in spans)
    held = {tid: [] for tid in out}
    before = None
    for begin, end, tid in every:
        if before == tid:
            held[tid][-1] = (held[tid][-1][0], end)
        else:
            held[tid].append((begin, end))
        before = tid
    return held


def overlap(one, other):
    total, j = 0, 0
    for begin, end in one:
        while j < len(other) and other[j][1] <= begin:
            j += 1
        k = j
        while k < len(other) and other[k][0] < end:
            total += min(end, other[k][1]) - max(begin, other[k][0])
            k += 1
    return total


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 1.5
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    gate = threading.Barrier(count)
    out = {}
    until = time.monotonic_ns() + int(seconds * 1e9)
    threads = [threading.Thread(target=burn, args=(until, out, gate)) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows, pairs = [], []
    held = holds(out)
    # Those who were let through the gate after the first one waited for the GIL since then.
    first = min(start for start, _, _, _ in out.values())
    for tid, (_, end, spans, queue) in out.items():
        without = list(gaps(first, spans))
        lost = sum(b - a for a, b in without)
        rows.append({"tid": tid, "wall_ns": end - first, "gil_ns": max(0, lost - queue)})
        for holder in out:
            if holder != tid:
                pairs.append([tid, holder, overlap(without, held[holder])])
    print(json.dumps({"threads": rows, "pairs": pairs}))


main()
