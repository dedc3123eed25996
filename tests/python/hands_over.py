"""Hands so many pieces of so many bytes to other processes, and knows what it sent.

`python3 hands_over.py pool|executor|queue|manager PIECES BYTES`. A pool and an executor give each
piece back; the consumer of a queue and the process of a manager keep what they get.
"""

import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor


def back(piece):
    return piece


def consume(queue, pieces):
    for _ in range(pieces):
        queue.get()


def main(how, pieces, size):
    context = multiprocessing.get_context("fork")
    piece = b"x" * size
    if how == "pool":
        with context.Pool(2) as pool:
            for _ in pool.imap_unordered(back, [piece] * pieces):
                pass
            pool.close()
            pool.join()
    elif how == "executor":
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            for _ in pool.map(back, [piece] * pieces):
                pass
    elif how == "queue":
        queue = context.Queue()
        consumer = context.Process(target=consume, args=(queue, pieces))
        consumer.start()
        for _ in range(pieces):
            queue.put(piece)
        consumer.join()
    elif how == "manager":
        with multiprocessing.managers.SyncManager(ctx=context) as manager:
            kept = manager.list()
            for _ in range(pieces):
                kept.append(piece)
    print(pieces * size)


if __name__ == "__main__":
    import multiprocessing.managers

    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
