# Threads that wait in known functions. Says of each what Python itself knows of it, then waits
# for a line, then computes in three threads.
import json
import sys
import threading
import time

ready = threading.Semaphore(0)
event = threading.Event()


def wait():
    ready.release()
    event.wait()


class Box:
    def __init__(self):
        self.event = event

    def hold(self):
        self.inner(1,
                   2)

    def inner(self, one, two):
        three = one + two
        wait()
        return three

    def captured(self):
        function = lambda: self
        wait()
        return function

    @classmethod
    def of_class(cls):
        wait()


def generator():
    yield 1
    wait()
    yield 2


def generates():
    for value in generator():
        assert value


def sorts():
    def key(value):
        if value == 2:
            wait()
        return value
    sorted([1, 2, 3], key=key)


def größe():
    wait()


def функция():
    größe()


def 𐊀():
    функция()


def deep(count):
    if count:
        return deep(count - 1)
    wait()


def wide(count):
    a = b = c = d = e = f = g = h = i = j = k = l = m = n = o = p = count
    q = r = s = t = u = v = w = x = y = z = aa = bb = cc = dd = ee = ff = a
    if count:
        return wide(count - 1)
    wait()
    return [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z, aa, bb,
            cc, dd, ee, ff]


def catches():
    try:
        raise ValueError
    except ValueError:
        with threading.Lock():

            wait()


def long_lines():
    x = [

        1,




















































































































































        wait(),
    ]
    return x


async def coroutine():
    wait()


async def outer():
    await coroutine()


def drives():
    outer().send(None)


def lambdas():
    (lambda: [wait() for _ in range(1)])()


def burn():
    while True:
        work(100)


def work(count):
    return sum(step(value) for value in range(count))


def step(value):
    return value * value


def described(thread):
    frame = sys._current_frames()[thread.ident]
    frames = []
    while frame:
        code = frame.f_code
        first = None
        if code.co_argcount:
            name = code.co_varnames[0]
            if sys.version_info >= (3, 11) or name not in code.co_cellvars:
                value = frame.f_locals[name]
                user = type(value).__flags__ & (1 << 9)
                first = [id(value), type(value).__name__ if user else ""]
        name = getattr(code, "co_qualname", code.co_name)
        frames.append([name, code.co_filename, frame.f_lineno, first])
        frame = frame.f_back
    return {"ident": thread.ident, "tid": thread.native_id, "name": thread.name, "frames": frames}


# The line of each is another one than that of its call.
targets = [Box().hold, Box().captured, Box.of_class, generates, sorts, 𐊀, lambda: deep(100),
           lambda: wide(120), lambda: deep(400), catches, long_lines, drives, lambdas]
threads = [threading.Thread(target=target, daemon=True) for target in targets]
threads[1].name = "größe"
threads[2].of_its_own = "an attribute of one thread alone"
vars(threads[3])["name"] = "not this one"
for thread in threads:
    thread.start()
for thread in threads:
    ready.acquire()
seen = None
while True:
    time.sleep(0.1)
    before, seen = seen, [described(thread) for thread in threads]
    if before == seen:
        break

own_gil = False
try:
    if sys.version_info >= (3, 13):
        import _interpreters as interpreters
        other = interpreters.create()
        own_gil = True
    elif sys.version_info >= (3, 12):
        import _xxsubinterpreters as interpreters
        other = interpreters.create(isolated=True)
        own_gil = True
except ImportError:
    pass

print(json.dumps({
    "version": sys.version_info[:3],
    "interval": sys.getswitchinterval(),
    "own_gil": own_gil,
    "threads": seen,
}), flush=True)
sys.stdin.readline()
for _ in range(3):
    threading.Thread(target=burn, daemon=True).start()
print("busy", flush=True)
sys.stdin.readline()
