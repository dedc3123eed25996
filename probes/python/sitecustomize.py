"""timesink's probe for Python: tells the kernel the names of threads, and nothing else.

Loaded when an interpreter starts, since `timesink run --python-probe` puts its directory first in
PYTHONPATH. CPython tells the kernel itself from 3.14 on; before that all threads are `python3`.

What it does to the program: one write to /proc when a thread starts, 20 us or so, for which the new
thread gives the GIL up once or twice more. It imports nothing that is not loaded already, leaves
no frame on any stack, takes itself out of sys.path, and loads the sitecustomize that it hides.
The processes that a program starts inherit it, forked ones as they are.
"""

import os
import sys

try:
    import _thread
except ImportError:  # An interpreter without threads has no names to tell.
    _thread = None

# What the kernel keeps of a name, in bytes.
LONGEST = 15
STARTERS = ("start_new_thread", "start_joinable_thread")


def tell_kernel(name):
    """Names the calling thread as `ps` and the recorder show it."""
    native = _thread.get_native_id()
    if native == os.getpid():
        return  # The name of the main thread is that of the process.
    # A letter cut in two is no letter.
    text = name.encode("utf-8", "replace")[:LONGEST].decode("utf-8", "ignore").encode()
    try:
        file = os.open("/proc/self/task/%d/comm" % native, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.write(file, text)
    except OSError:
        pass  # A name is never worth an error.
    finally:
        os.close(file)


def follow(threading):
    """From here on each Thread says its name where it learns its id, in the new thread."""
    learn_id = threading.Thread._set_native_id

    def _set_native_id(self):
        learn_id(self)
        # Threads that others made have names from those, and a dummy has none.
        if not isinstance(self, threading._DummyThread):
            tell_kernel(self._name)

    threading.Thread._set_native_id = _set_native_id


def wait_for_threading():
    """The module `threading` is not imported for this: it shows itself with its first thread.

    It takes the functions that start threads from `_thread` when it is imported. Ours are given
    back before the first thread starts.
    """
    originals = {name: getattr(_thread, name) for name in STARTERS if hasattr(_thread, name)}

    def stand_in(name):
        def start(*args, **named):
            threading = sys.modules.get("threading")
            if threading is not None and hasattr(threading, "Thread"):
                give_back(threading)
            return originals[name](*args, **named)

        return start

    def give_back(threading):
        if getattr(threading.Thread._set_native_id, "__module__", None) == __name__:
            return  # Two threads were the first.
        follow(threading)
        for name, original in originals.items():
            for module, attribute in ((_thread, name), (threading, "_" + name)):
                if getattr(getattr(module, attribute, None), "__module__", None) == __name__:
                    setattr(module, attribute, original)

    for name in originals:
        setattr(_thread, name, stand_in(name))


def load_the_hidden():
    """The sitecustomize that would have been found without this one."""
    # As it stands in PYTHONPATH: absolute.
    here = os.path.dirname(__file__)
    sys.path[:] = [entry for entry in sys.path if entry != here]
    own = sys.modules.pop(__name__, None)
    try:
        __import__(__name__)
    except ImportError as error:
        if getattr(error, "name", None) != __name__:
            raise
        # There is none. The import system expects to find this one where it put it.
        sys.modules[__name__] = own


def wanted():
    return (
        _thread is not None
        and (3, 8) <= sys.version_info < (3, 14)
        and sys.implementation.name == "cpython"
        and hasattr(_thread, "get_native_id")
    )


if wanted():
    if "threading" in sys.modules:
        follow(sys.modules["threading"])
    else:
        wait_for_threading()
load_the_hidden()
