"""Runs a command on a pseudo-terminal and types: WAIT TYPE WAIT TYPE ... -- COMMAND.

Waits until WAIT has appeared after the last wait, a little longer, then types TYPE (with \\x03
and \\n as escapes). What is typed is echoed, so WAIT must not be part of it. Prints everything that appeared, then `exit CODE`. Ends after 60 s.
"""
import os
import pty
import select
import sys
import time

split = sys.argv.index("--")
script, command = sys.argv[1:split], sys.argv[split + 1 :]
child, master = pty.fork()
if child == 0:
    os.execvp(command[0], command)

seen, looked, deadline = b"", 0, time.monotonic() + 60
while True:
    if time.monotonic() > deadline:
        os.kill(child, 9)
        sys.stdout.buffer.write(seen)
        sys.exit("still waiting for %r" % (script[:1] or "the end"))
    if script and (at := seen.find(script[0].encode(), looked)) >= 0:
        looked = at + len(script[0].encode())
        time.sleep(0.3)
        os.write(master, script[1].encode().decode("unicode_escape").encode())
        script = script[2:]
    if select.select([master], [], [], 0.05)[0]:
        try:
            data = os.read(master, 65536)
        except OSError:
            data = b""
        if not data:
            break
        seen += data
status = os.waitpid(child, 0)[1]
sys.stdout.buffer.write(seen)
print("\nexit", os.waitstatus_to_exitcode(status))
sys.exit("never appeared: %r" % script[0] if script else 0)
