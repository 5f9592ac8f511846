"""A server process on a loopback port: started, waited for, ended with all its children."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from anyform.contract.errors import LoadFailed

HOST = "127.0.0.1"
LAST_LINES = 3
POLL_S = 0.05


class Claim:
    """A loopback port for one command, which no other process of anyform's takes meanwhile.

    Between our look at a port and the command's listening on it another worker may look too, and its command would
    then be asked for ours. So whoever claims a TCP port holds the UDP port of that number, which the system gives to
    one process, and takes back when that ends in whatever way.
    """

    def __init__(self, port: int) -> None:
        """Raises OSError for a port that is claimed or listened on. 0: any other."""
        self._held = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._held.bind((HOST, port))
            self.port = int(self._held.getsockname()[1])
            if taken(self.port):
                raise OSError(f"port {self.port} is in use")
        except BaseException:
            self._held.close()
            raise

    @classmethod
    def of(cls, ports: range | None, refused: Collection[int] = ()) -> Claim:
        """The first of *ports* that is free, *refused* left out; None: any. Raises LoadFailed."""
        for port in (port for port in ports or [0] * 20 if port not in refused):
            with suppress(OSError):
                return cls(port)
        named = f"of {ports[0]}-{ports[-1]} " if ports else ""
        raise LoadFailed(f"no port {named}is free for the command.", "End what listens there, or give other ports.")

    def close(self) -> None:
        """Let go. Idempotent."""
        self._held.close()


def taken(port: int) -> bool:
    """Whether something listens on that loopback port."""
    with socket.socket() as probe:
        if os.name == "posix":  # else connections that ended a moment ago look like a listener
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False


class Server:
    """A command that serves HTTP on `port`; gone when `close` is called or when this process ends, however it ends."""

    def __init__(
        self, command: Sequence[str], claim: Claim, folder: Path | None = None, env: Mapping[str, str] | None = None
    ) -> None:
        """Starts *command* in *folder* (None: here); it must listen on the claimed port of 127.0.0.1.

        *env*: variables beside those of this process. Raises LoadFailed where the system cannot set them.
        """
        if env and os.name != "posix":
            raise LoadFailed("a command's env needs a POSIX system.", "Set the variables before you start anyform.")
        self.command, self.port, self._claim = list(command), claim.port, claim
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
        self._late = taken(self.port)  # by a stranger: the guard starts the command at the line below
        assert self._process.stdin is not None
        with suppress(OSError):  # it ended already, which waiting tells
            self._process.stdin.write(json.dumps(dict(env or {})).encode() + b"\n")
            self._process.stdin.flush()
        self._reader = threading.Thread(target=self._read, name=f"output of {self.command[0]}", daemon=True)
        self._reader.start()

    def alive(self) -> bool:
        """Whether the command still runs."""
        return self._process.poll() is None

    def ends_within(self, seconds: float) -> bool:
        """Whether the command has ended; blocks for at most *seconds* to see."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def ending(self) -> str:
        """How the command ended, in words; of one that has."""
        code = self._process.poll()
        return f"was ended by signal {code - 128}" if code and code > 128 else f"ended with exit code {code}"

    def last_lines(self) -> str:
        """What the command printed last: for the log and this machine's user, since it may name files."""
        if self.ends_within(0):
            self._reader.join(timeout=1)
        return "\n".join(self._lines)

    def wait_until_ready(self, path: str, timeout_s: float) -> None:
        """Block until GET *path* answers 200. Raises LoadFailed, with the last lines, if it ends or takes too long.

        details port_taken: something else listens on its port.
        """
        if self._late:
            self._fail("cannot have its port")
        deadline = time.monotonic() + timeout_s
        answer: int | None = None
        while answer != 200:
            answer = self._answer(path)
            if answer != 200 and time.monotonic() > deadline:
                said = f": {answer}" if answer else ""
                self._fail(f"was not ready after {timeout_s:g} s (GET {path}{said})", missing=answer == 404)
            if self.ends_within(POLL_S):  # also after an answer, which a stranger may have given
                self._fail(f"{self.ending()} before it was ready")

    def close(self) -> None:
        """End the command and its children; returns when they have gone. Idempotent."""
        self.closed.set()
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()
        self._process.wait()
        self._reader.join(timeout=1)
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._claim.close()

    def _answer(self, path: str) -> int | None:
        """The status with which it answers; None where it does not."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=2)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def _fail(self, what: str, missing: bool = False) -> None:
        """Raise LoadFailed. *missing*: it answers, but has nothing at the path that was asked for."""
        ended = not self.alive()
        self.close()
        said, busy = self.last_lines(), self._late or (ended and taken(self.port))
        stranger = f" Something else listens on port {self.port}." if busy else ""
        wait = "Give the path at which it says so: ready." if missing else "Run it by hand, or raise ready_timeout_s."
        raise LoadFailed(
            f"the command {Path(self.command[0]).name!r} {what}.{stranger}",
            wait,
            command=self.command,
            output=said,
            port_taken=busy,
        )

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.strip():
                self._lines.append(line.decode(errors="replace").rstrip())
