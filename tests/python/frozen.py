"""What a frozen program (PyInstaller) is to a reader: a library whose files have no directories. One thread
computes, the first one joins it.
"""

import importlib.util
import sys
import time

spec = importlib.util.find_spec("threading")
source = spec.loader.get_source("threading")
threading = type(sys)("threading")
sys.modules["threading"] = threading
exec(compile(source, "threading.py", "exec"), threading.__dict__)


def compute():
    end = time.thread_time() + 0.05
    while time.thread_time() < end:
        time.sleep(0.001)
        sum(range(1000))


# Until the recorder knows the interpreter, and after it was waited for, so that it can still be read.
time.sleep(0.5)
thread = threading.Thread(target=compute, name="the worker")
thread.start()
thread.join()
time.sleep(0.2)
