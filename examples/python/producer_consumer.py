"""A producer that makes items faster than the consumer uses them, and a bounded queue between.

The report must show the consumer as the slower stage: it sleeps in `use` nearly all the time,
and the producer waits in `put` for room in the queue, time that costs nothing. A longer queue
does not help: the run is as long as the consumer's work. With --make-ms 30 --use-ms 10 it is the
other way round, and the consumer waits in `get`.

    timesink run -- python3 producer_consumer.py --items 100 --make-ms 5 --use-ms 20
"""

import argparse
import queue
import threading
import time

now = time.monotonic_ns
END = None


def options():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=100, help="items (%(default)s)")
    parser.add_argument("--make-ms", type=int, default=5, help="to make one (%(default)s)")
    parser.add_argument("--use-ms", type=int, default=20, help="to use one (%(default)s)")
    parser.add_argument("--queue", type=int, default=8, help="room in the queue (%(default)s)")
    return parser.parse_args()


def make(ms):
    began = now()
    time.sleep(ms / 1000)
    return now() - began


def use(ms):
    began = now()
    time.sleep(ms / 1000)
    return now() - began


def produce(items, o, times):
    for _ in range(o.items):
        times["make"] += make(o.make_ms)
        began = now()
        items.put(began)
        times["put"] += now() - began
    items.put(END)


def consume(items, o, times):
    while True:
        began = now()
        item = items.get()
        times["get"] += now() - began
        if item is END:
            return
        times["use"] += use(o.use_ms)


def main():
    o = options()
    items = queue.Queue(maxsize=o.queue)
    times = dict.fromkeys(("make", "put", "get", "use"), 0)
    stages = [
        threading.Thread(target=produce, args=(items, o, times), name="producer"),
        threading.Thread(target=consume, args=(items, o, times), name="consumer"),
    ]
    began = now()
    for stage in stages:
        stage.start()
    for stage in stages:
        stage.join()
    wall = now() - began
    print(
        f"{o.items} items in {wall / 1e9:.2f} s: the producer waited {times['put'] / 1e9:.2f} s "
        f"for room, the consumer {times['get'] / 1e9:.2f} s for items"
    )
    print(
        f"items={o.items} make_ns={times['make']} use_ns={times['use']} "
        f"sleep_ns={times['make'] + times['use']} put_wait_ns={times['put']} "
        f"get_wait_ns={times['get']} cpu_ns={time.process_time_ns()} wall_ns={wall}"
    )


if __name__ == "__main__":
    main()
