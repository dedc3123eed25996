"""Threads that write blocks to files, force each to the disk, and read it back.

The report must show `disk` as the largest state of the writers, waited for under fsync in
`write_block`, and hardly any wait for the GIL: a thread that waits for the disk does not hold
it, so these waits overlap (`sync_ns` is more than `wall_ns`). On a file system in memory (tmpfs)
nothing waits.

    timesink run -- python3 threads_io.py --threads 3 --run-ms 2000
"""

import argparse
import os
import tempfile
import threading
import time

now = time.monotonic_ns


def options():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=3, help="threads (%(default)s)")
    parser.add_argument("--run-ms", type=int, default=2000, help="how long (%(default)s)")
    parser.add_argument("--block-kb", type=int, default=64, help="size of one (%(default)s)")
    parser.add_argument("--dir", help="writes there (the temporary directory)")
    return parser.parse_args()


def write_block(file, block):
    """Time in write and in fsync. Always the same place: the file does not grow."""
    began = now()
    os.pwrite(file, block, 0)
    written = now()
    os.fsync(file)
    return written - began, now() - written


def read_block(file, size):
    """Time in read: the pages are still in memory."""
    began = now()
    os.pread(file, size, 0)
    return now() - began


def work(o, times):
    block, end = b"x" * (o.block_kb * 1024), now() + o.run_ms * 1_000_000
    blocks = writing = syncing = reading = 0
    # Unlinked at once: gone when the descriptor is, whatever happens.
    with tempfile.TemporaryFile(dir=o.dir, buffering=0) as file:
        while now() < end:
            wrote, synced = write_block(file.fileno(), block)
            reading += read_block(file.fileno(), len(block))
            writing += wrote
            syncing += synced
            blocks += 1
    times.append((blocks, writing, syncing, reading))


def main():
    o = options()
    times = []
    threads = [
        threading.Thread(target=work, args=(o, times), name=f"writer-{i}") for i in range(o.threads)
    ]
    began = now()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall = now() - began
    blocks, writing, syncing, reading = (sum(time[i] for time in times) for i in range(4))
    print(
        f"{len(times)} threads wrote {blocks} blocks and waited {syncing / 1e9:.2f} s for the "
        f"disk in {wall / 1e9:.2f} s: {syncing / wall:.1f} waits at a time"
    )
    print(
        f"threads={len(times)} blocks={blocks} write_ns={writing} disk_ns={syncing} "
        f"read_ns={reading} cpu_ns={time.process_time_ns()} wall_ns={wall}"
    )


if __name__ == "__main__":
    main()
