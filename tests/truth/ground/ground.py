"""Shared by the Python workloads: `key=value` arguments, and a clock."""

import ctypes
import sys
import threading
import time

BEGAN = time.monotonic_ns()
now = time.monotonic_ns


def options(**defaults):
    """The arguments, each with a default; one that nobody asked for is a mistake in a table."""
    found = dict(defaults)
    for argument in sys.argv[1:]:
        key, _, value = argument.partition("=")
        if key not in defaults:
            sys.exit(f"unknown argument {argument}")
        found[key] = type(defaults[key])(value)
    return found


def say(key, value):
    print(f"{key}={int(value)}", flush=True)


def name_thread(name):
    """The name that the kernel shows."""
    ctypes.CDLL(None).prctl(15, name.encode(), 0, 0, 0)
    threading.current_thread().name = name


def run_delay():
    """How long this thread could run and had no CPU, by the scheduler's own count."""
    with open("/proc/thread-self/schedstat", encoding="ascii") as books:
        return int(books.read().split()[1])


def done(rounds):
    wall = now() - BEGAN
    say("wall", wall)
    say("rounds", rounds)
    say("cpu", time.process_time_ns())
