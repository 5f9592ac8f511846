"""A server process on a free loopback port: started, waited for, ended with all its children."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from anyform.contract.errors import LoadFailed

HOST = "127.0.0.1"
LAST_LINES = 20
POLL_S = 0.05


def free_port() -> int:
    """A loopback port that nothing listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


class Server:
    """A command that serves HTTP on `port`; gone when `close` is called or when this process ends, however it ends."""

    def __init__(self, command: Sequence[str], port: int, folder: Path) -> None:
        """Starts *command* in *folder*; it must listen on *port* of 127.0.0.1."""
        self.command = list(command)
        self.port = port
        self.closed = threading.Event()
        self._lines: deque[str] = deque(maxlen=LAST_LINES)
        guard = Path(__file__).with_name("guard.py")
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(guard), *self.command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
        )
        self._reader = threading.Thread(target=self._read, name=f"output of {self.command[0]}", daemon=True)
        self._reader.start()

    def ends_within(self, seconds: float) -> bool:
        """Whether the command has ended; blocks for at most *seconds* to see."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def last_lines(self) -> str:
        """What the command printed last."""
        if self.ends_within(0):
            self._reader.join(timeout=1)
        return "\n".join(self._lines)

    def wait_until_ready(self, path: str, timeout_s: float) -> None:
        """Block until GET *path* answers 200. Raises LoadFailed, with the last lines, if it ends or takes too long."""
        deadline = time.monotonic() + timeout_s
        while not self._answers(path):
            if time.monotonic() > deadline:
                self._fail(f"was not ready after {timeout_s:g} s (GET {path})")
            if self.ends_within(POLL_S):
                self._fail(f"ended with exit code {self._process.returncode} before it was ready")

    def close(self) -> None:
        """End the command and its children; returns when they have gone. Idempotent."""
        self.closed.set()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()
        self._reader.join(timeout=1)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _answers(self, path: str) -> bool:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=2)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _fail(self, what: str) -> None:
        self.close()
        said = self.last_lines()
        raise LoadFailed(
            f"the command {self.command[0]!r} {what}. It said last:\n{said or '(nothing)'}",
            "Run it by hand, or give it longer with the option ready_timeout_s.",
            command=self.command,
            output=said,
        )

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.append(line.decode(errors="replace").rstrip())
