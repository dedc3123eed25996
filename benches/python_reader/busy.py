# Threads that call, return, raise, run generators, make and drop functions, and end, as fast as
# they can. Whoever calls level_N is level_N-1, always: a stack that says otherwise is torn.
import sys
import threading

LEVELS = 24
text = "".join(f"""
def level_{n}(count):
    if count % {n + 2} == 0:
        return short(count)
    if count % 7 == 0:
        return sum(value for value in generated(count % 5))
    result = level_{n + 1}(count + 1)
    return result + level_{n + 1}(count // 2) if count % 3 == 0 else result
""" for n in range(LEVELS)) + f"""
def level_{LEVELS}(count):
    return short(count)
"""
exec(compile(text, "levels.py", "exec"))


def short(count):
    return count & 255


def generated(count):
    for value in range(count):
        yield short(value)


def makes(count):
    made = {}
    exec(compile(f"def made_{count % 97}(x):\n    return [short(y) for y in range(x)]", "made.py",
                 "exec"), {"short": short}, made)
    return made.popitem()[1](3)


def burn(count):
    for step in range(count):
        level_0(step)
        if step % 50 == 0:
            makes(step)
        try:
            raise KeyError(step)
        except KeyError:
            short(step)


def begin():
    while True:
        threads = [threading.Thread(target=burn, args=(2000,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


threading.Thread(target=begin, daemon=True).start()
print("busy", flush=True)
sys.stdin.readline()
