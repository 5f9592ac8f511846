"""Runs a command for as long as its own standard input is open, then ends it with all its children.

A script, not imported: started by `process.py`, so that no server outlives the process that asked for it, even when
that one is killed. Standard library only; `python -I -S guard.py COMMAND...`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

GRACE_S = 3.0


def main(command: list[str]) -> int:
    """Run *command*; its exit code, or 127 when it cannot be started."""
    if hasattr(os, "setsid"):
        os.setsid()
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda *_: None)
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        return 127
    ending = threading.Event()
    guard = threading.Thread(target=_end_at_eof, args=(child, ending), daemon=True)
    guard.start()
    code = child.wait()
    if ending.is_set():
        guard.join()
    return code


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
