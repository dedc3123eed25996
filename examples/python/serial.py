"""One thread that sleeps, computes and writes to the disk, one after the other.

The report must show one thread and three phases: `sleep` in `load`, `running` in `compute` and
`disk` under fsync in `store`. Nothing overlaps, so the critical path is the program itself. On a
file system in memory (tmpfs) fsync does not wait, and the report must say that too.

    timesink run -- python3 serial.py --load-ms 700 --cpu-ms 700
"""

import argparse
import os
import tempfile
import time

now = time.monotonic_ns


def options():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--load-ms", type=int, default=700, help="sleeps this long (%(default)s)")
    parser.add_argument("--cpu-ms", type=int, default=700, help="CPU time used (%(default)s)")
    parser.add_argument("--store-ms", type=int, default=700, help="stores this long (%(default)s)")
    parser.add_argument("--dir", help="stores there (the temporary directory)")
    return parser.parse_args()


def load(ms):
    began = now()
    time.sleep(ms / 1000)
    return now() - began


def compute(ms):
    """Uses `ms` of CPU time, however long that takes on a busy machine."""
    began = now()
    end = time.thread_time_ns() + ms * 1_000_000
    total = 0
    while time.thread_time_ns() < end:
        for i in range(2_000):
            total += i & 3
    return now() - began


def store(directory, ms):
    """Writes blocks for that long, each forced to the disk; the time in fsync alone."""
    syncing, end = 0, now() + ms * 1_000_000
    # Unlinked at once: gone when the descriptor is, whatever happens.
    with tempfile.TemporaryFile(dir=directory) as file:
        while now() < end:
            # Always the same place: the file does not grow, however fast the disk is.
            file.seek(0)
            file.write(b"x" * 65_536)
            file.flush()
            began = now()
            os.fsync(file.fileno())
            syncing += now() - began
    return syncing


def main():
    o = options()
    began = now()
    loaded, computed, synced = load(o.load_ms), compute(o.cpu_ms), store(o.dir, o.store_ms)
    wall, cpu = now() - began, time.process_time_ns()
    print(
        f"slept {loaded / 1e9:.2f} s, computed for {computed / 1e9:.2f} s, "
        f"waited {synced / 1e9:.2f} s for the disk"
    )
    print(f"sleep_ns={loaded} compute_ns={computed} disk_ns={synced} cpu_ns={cpu} wall_ns={wall}")


if __name__ == "__main__":
    main()
