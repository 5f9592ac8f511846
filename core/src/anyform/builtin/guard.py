"""Runs a command for as long as its own standard input is open, then ends it with all its children.

A script, not imported: started by `process.py`, so that no server outlives the process that asked for it, even when
that one is killed. Standard library only; `python -I -S guard.py COMMAND...`, and on its first line of input a JSON
object of variables for the command, which stand in no process's arguments for longer than it takes to set them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

GRACE_S = 3.0


def main(command: list[str]) -> int:
    """Run *command*; its exit code, 127 when it cannot be started, 128 and the number of the signal that ended it."""
    if hasattr(os, "setsid"):
        os.setsid()
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda *_: None)
    variables = json.loads(_line() or b"{}")
    try:
        child = subprocess.Popen([*_setting(variables), *command], stdin=subprocess.DEVNULL)
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        return 127
    ending = threading.Event()
    guard = threading.Thread(target=_end_at_eof, args=(child, ending), daemon=True)
    guard.start()
    code = child.wait()
    if ending.is_set():
        guard.join()
    return code if code >= 0 else 128 - code


def _line() -> bytes:
    """The first line of the standard input, and not a byte more."""
    read = b""
    while not read.endswith(b"\n") and (byte := os.read(0, 1)):
        read += byte
    return read


def _setting(variables: dict[str, str]) -> list[str]:
    """What stands before a command so that it runs with *variables* (POSIX, env)."""
    return ["env", *(f"{name}={value}" for name, value in variables.items())] if variables else []


def _end_at_eof(child: subprocess.Popen[bytes], ending: threading.Event) -> None:
    while os.read(0, 4096):
        pass
    ending.set()
    if not hasattr(os, "killpg"):
        subprocess.run(["taskkill", "/F", "/T", "/PID", str(child.pid)], capture_output=True, check=False)
        return
    os.killpg(0, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_S
    while child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
