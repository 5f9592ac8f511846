"""The parent's side of a worker: starts it, watches it, and makes it look like any loaded model."""

from __future__ import annotations

import hmac
import json
import logging
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from anyform.contract.errors import Fault, LoadFailed, WorkerDied
from anyform.contract.events import Done, Event
from anyform.contract.jobs import Job
from anyform.contract.model import Stop
from anyform.workers.wire import Channel, pack

log = logging.getLogger("anyform.workers")
START_S = 30.0
"""From the start of the process to its call home; loading itself may take as long as it likes."""
CLOSE_S = 15.0
"""How long a worker may take to close before it is killed."""
KEPT_LINES = 60


class Process:
    """One child process with its control connection."""

    def __init__(self) -> None:
        """Start the child and wait for its call. Raises LoadFailed if it does not come."""
        self.token = secrets.token_hex(16)
        self.output: deque[str] = deque(maxlen=KEPT_LINES)
        """The last lines that it printed; native libraries say there why they fail."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "anyform.workers.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            assert self._child.stdin is not None
            assert self._child.stdout is not None
            self._reader = threading.Thread(target=self._keep, args=(self._child.stdout,), daemon=True)
            self._reader.start()
            order = {"port": listener.getsockname()[1], "token": self.token}
            with suppress(OSError), self._child.stdin as stdin:
                stdin.write(json.dumps(order).encode() + b"\n")
            self.control = self._await_call(listener)

    @property
    def pid(self) -> int:
        return self._child.pid

    def _keep(self, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                text = line.decode(errors="replace").rstrip()
                if text:
                    self.output.append(text)
                    log.debug("worker %s: %s", self.pid, text)

    def _await_call(self, listener: socket.socket) -> Channel:
        """The connection that shows the token. Others are dropped."""
        listener.settimeout(0.2)
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self.alive():
            try:
                connection, _ = listener.accept()
                connection.settimeout(START_S)
                channel = Channel(connection)
                if hmac.compare_digest(str(channel.receive().get("token", "")), self.token):
                    connection.settimeout(None)
                    return channel
            except (TimeoutError, EOFError, ValueError, AttributeError):
                continue
        self.kill()
        raise LoadFailed(f"the worker process did not start: {self.ending()}.", "See `anyform doctor`.", crashed=False)

    def alive(self) -> bool:
        return self._child.poll() is None

    def ask(self, order: dict[str, Any], timeout_s: float | None = None) -> Any:
        """Send an order and wait for the reply. Raises its Fault; EOFError when the process ends; TimeoutError."""
        try:
            self.control.send(order)
        except OSError as error:
            raise EOFError(str(error)) from error
        self.control.socket.settimeout(timeout_s)
        reply = self.control.receive()
        self.control.socket.settimeout(None)
        if isinstance(reply, Fault):
            raise reply
        return reply

    def measured(self, field: str) -> int:
        """Bytes of a field of /proc/PID/status, such as VmRSS or VmHWM, its greatest yet, with the processes that it
        started; 0 where there is none.
        """
        return sum(_status(pid, field) for pid in _family(self.pid))

    def close(self) -> None:
        """Ask it to close, and kill it if it does not. Idempotent; blocks up to CLOSE_S seconds."""
        with suppress(OSError):
            self.control.send({"do": "close"})
        try:
            self._child.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            log.warning("worker %s did not close in %g s and was killed", self.pid, CLOSE_S)
        self.kill()

    def kill(self) -> None:
        """End it now and collect it. Idempotent."""
        self._child.kill()
        self._child.wait()
        self._reader.join(1.0)
        if hasattr(self, "control"):
            self.control.close()

    def ending(self) -> str:
        """How it ended, in words."""
        try:
            code = self._child.wait(2.0)
        except subprocess.TimeoutExpired:
            return "it still runs"
        if code < 0:
            with suppress(ValueError):
                return f"it was ended by {signal.Signals(-code).name}"
        return f"it ended with exit code {code}"

    def last_words(self) -> str:
        """Its last lines, for a hint; empty if it printed nothing."""
        self._reader.join(0.5)
        lines = [
            line
            for line in self.output
            if not line.startswith(("  File ", "Extension modules", "Thread 0x", "Current thread"))
        ]
        return f"Its last words: {' / '.join(lines[-3:])[-400:]}" if lines else ""


class RequestSocket(socket.socket):
    """A connection carrying one job. Closing it cancels the job and counts it as over."""

    on_close: Callable[[], None] | None = None

    def close(self) -> None:
        """Hang up. Idempotent."""
        over, self.on_close = self.on_close, None
        super().close()
        if over is not None:
            over()


class RemoteModel:
    """A `LoadedModel` in a worker process."""

    def __init__(
        self,
        process: Process,
        model: str,
        port: int,
        parallel: int,
        runs_on: str = "",
        notes: Sequence[str] = (),
    ) -> None:
        self.parallel, self.port, self.pid = parallel, port, process.pid
        self.runs_on, self.notes = runs_on, tuple(notes)
        self._process, self._model = process, model
        self._closed = self._died = False
        self._why = ""
        self._awaited = 0
        self._lock = threading.Lock()
        self.heard_s = time.monotonic()
        self.answers = 0
        """Requests that it has answered to their end."""

    @property
    def memory_bytes(self) -> int:
        """Resident bytes of the process; 0 where that cannot be read."""
        return self._process.measured("VmRSS")

    @property
    def private_bytes(self) -> int:
        """Of them, those that no file backs: what the machine's free memory lacks; 0 where that cannot be read."""
        return self._process.measured("RssAnon")

    @property
    def peak_bytes(self) -> int:
        """The most that it ever had resident; 0 where that cannot be read, or once it has ended."""
        return self._process.measured("VmHWM")

    def alive(self) -> bool:
        return not self._closed and not self._died and self._process.alive()

    @property
    def obituary(self) -> str:
        """How it ended, in words."""
        return self._why or self._process.ending()

    def quiet_s(self) -> float:
        """Seconds since the worker last sent anything; 0 while nobody waits for it."""
        return time.monotonic() - self.heard_s if self._awaited else 0.0

    def heard(self) -> None:
        """The worker has sent something."""
        self.heard_s = time.monotonic()

    def kill(self, why: str) -> None:
        """End the process at once; its requests meet WorkerDied, which says *why*."""
        self._why = why
        self._process.kill()

    def dial(self, job: Job) -> RequestSocket:
        """A connection with *job* already sent; then only frames come back. Raises WorkerDied."""
        sock = RequestSocket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.connect(("127.0.0.1", self.port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.sendall(pack({"token": self._process.token, "job": job}))
        except OSError as error:
            sock.close()
            raise self.death() from error
        return sock

    def awaited(self, more: int) -> None:
        """So many more requests wait for its next word; fewer, where their reader holds it back."""
        with self._lock:
            self._awaited += more
            self.heard()

    def answered(self) -> None:
        """A job's Done has come."""
        with self._lock:
            self.answers += 1

    def death(self) -> WorkerDied:
        """The fault for a connection that ended before Done."""
        said = self.obituary if not self._closed else "it was unloaded"
        self._why, self._died = said, True
        return WorkerDied(
            f"the worker of {self._model} is gone: {said}.",
            "The next request starts a new one, unless it crashed three times in a row.",
            model=self._model,
        )

    def generate(self, job: Job, stop: Stop) -> Iterator[Event]:
        with self.dial(job) as sock:
            channel = Channel(sock)
            stop.when_set(lambda: _half_close(sock))
            while True:
                self.awaited(1)
                try:
                    value = channel.receive()
                except (EOFError, OSError) as error:
                    raise self.death() from error
                finally:
                    self.awaited(-1)
                if isinstance(value, Fault):
                    raise value
                if isinstance(value, Done):
                    self.answered()
                    yield value
                    return
                yield value

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._process.close()


def _half_close(sock: socket.socket) -> None:
    """Tell the worker to stop, still listening for its Done."""
    with suppress(OSError):
        sock.shutdown(socket.SHUT_WR)


def _status(pid: int, field: str) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) << 10
    return 0


def _family(pid: int) -> Iterator[int]:
    """A process and those below it (https://man7.org/linux/man-pages/man5/proc_pid_task.5.html, children)."""
    yield pid
    with suppress(OSError):
        for file in Path(f"/proc/{pid}/task").glob("*/children"):
            with suppress(OSError):
                for child in file.read_text().split():
                    yield from _family(int(child))
