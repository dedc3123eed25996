"""A parent that asks a child over pipes, waits for each answer, and then runs short commands.

The report must show the parent waiting at a `pipe` in `ask`, and what the child did meanwhile:
it slept in `answer`. Then `child`: each command of `run_commands` is waited for before the next
begins. Faster answers, or several questions at once, make the run shorter; faster Python does not.

    timesink run -- python3 subprocess_pipe.py --questions 40 --answer-ms 30
"""

import argparse
import subprocess
import sys
import time

now = time.monotonic_ns


def options():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--questions", type=int, default=40, help="questions (%(default)s)")
    parser.add_argument("--answer-ms", type=int, default=30, help="to answer one (%(default)s)")
    parser.add_argument("--commands", type=int, default=8, help="commands run (%(default)s)")
    parser.add_argument("--command-ms", type=int, default=80, help="length of one (%(default)s)")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def answer(ms):
    began = now()
    time.sleep(ms / 1000)
    return now() - began


def child(o):
    """Answers each line with how long it took, until there are no more."""
    for _ in sys.stdin:
        print(answer(o.answer_ms), flush=True)


def ask(helper):
    """One question: how long the answer was waited for, and how long the child took for it."""
    began = now()
    helper.stdin.write("question\n")
    helper.stdin.flush()
    answered = int(helper.stdout.readline())
    return now() - began, answered


def run_commands(count, ms):
    """Commands one after the other; the wait for them, the start of each included."""
    began = now()
    for _ in range(count):
        subprocess.run(["sleep", str(ms / 1000)], check=True)
    return now() - began


def main():
    o = options()
    if o.child:
        return child(o)
    began = now()
    command = [sys.executable, __file__, "--child", "--answer-ms", str(o.answer_ms)]
    pipe = subprocess.PIPE
    # Leaving the block closes the pipes, which ends the child, and waits for it.
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, universal_newlines=True) as helper:
        times = [ask(helper) for _ in range(o.questions)]
    commands = run_commands(o.commands, o.command_ms)
    wall = now() - began
    asked, slept = (sum(time[i] for time in times) for i in range(2))
    print(
        f"{len(times)} answers were waited for {asked / 1e9:.2f} s, "
        f"{o.commands} commands {commands / 1e9:.2f} s, in {wall / 1e9:.2f} s"
    )
    print(
        f"questions={len(times)} pipe_ns={asked} child_sleep_ns={slept} child_ns={commands} "
        f"cpu_ns={time.process_time_ns()} wall_ns={wall}"
    )
    return None


if __name__ == "__main__":
    main()
