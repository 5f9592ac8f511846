"""Reads what a native library prints (file descriptors 1 and 2) while something is done. Nothing is lost by that: each
line goes on at once, the library's to standard error and what others print to where it was going.
"""

from __future__ import annotations

import ctypes
import logging
import os
import socket
import subprocess
import sys
import threading
from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from fcntl import ioctl
from functools import cache
from termios import FIONREAD

log = logging.getLogger("anyform.rkllm")

OUT, ERR = 1, 2
LINE_BUFFERED = 1
"""_IOLBF of glibc and musl."""
BUFFER_BYTES = 4096
CHUNK_BYTES = 1 << 16
LATE_S = 1.0
"""How long a thread that was in the middle of printing is waited for. All of it passes at once where no other process
was started meanwhile that has the descriptor, too."""
MOST_BYTES = 1 << 20
"""Kept for reading; more goes on all the same."""
LIBRARY = (b"rkllm", b"rknn")
"""One of these is in each line of the library's own, in whatever case."""
_one_at_a_time = threading.Lock()


class Printed:
    """What was printed so far; whole once the block is left."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._size = 0

    def add(self, line: bytes) -> None:
        self._size += len(line)
        if self._size <= MOST_BYTES:
            self._lines.append(line)

    @property
    def text(self) -> str:
        return b"".join(self._lines).decode(errors="replace")


@contextmanager
def printed() -> Iterator[Printed]:
    """Capture both descriptors inside the block. One block at a time in a process; others wait."""
    found = Printed()
    with _one_at_a_time, ExitStack() as after:  # each step of it is taken, whatever another raises
        _flush()
        _by_lines()
        streams = [_Stream(number, found) for number in (OUT, ERR) if _is_open(number)]
        after.callback(_Guard(streams).end)
        for stream in streams:
            after.callback(stream.restore)
            stream.begin()
        after.callback(_flush)
        yield found


class _Stream:
    """One descriptor that leads into a socket, and the thread that reads it.

    Nothing is taken out of the socket before it was passed on: where this process dies in between, it is printed twice,
    and not never.
    """

    def __init__(self, number: int, found: Printed) -> None:
        self._number, self._found = number, found
        self._own = os.dup(number)
        self._errors = os.dup(ERR) if _is_open(ERR) else os.dup(number)
        self.source, self._end = socket.socketpair()
        self._changed = threading.Condition()
        self._passed, self._ended, self._over = 0, False, False

    def begin(self) -> None:
        os.dup2(self._end.fileno(), self._number)
        self._end.close()
        threading.Thread(target=self._pump, name="rkllm-log", daemon=True).start()

    def restore(self) -> None:
        """Lead it back; all that was printed before has been passed on then."""
        os.dup2(self._own, self._number)
        with self._changed:
            waiting = array("i", [0])
            ioctl(self.source, FIONREAD, waiting)
            target = self._passed + waiting[0]
            self._changed.wait_for(lambda: self._passed >= target)
            self._changed.wait_for(lambda: self._ended, LATE_S)
            self._over = True
            self._changed.notify_all()

    def _pump(self) -> None:
        """To the end; that comes later where another process was started meanwhile, and still prints."""
        while data := self.source.recv(CHUNK_BYTES, socket.MSG_PEEK):
            if len(data) == CHUNK_BYTES:  # more waits: a line that was cut off comes whole with it
                data = data[: data.rfind(b"\n") + 1] or data
            for line in data.splitlines(keepends=True):
                self._pass_on(line)
            with self._changed:
                self.source.recv(len(data), socket.MSG_WAITALL)
                self._passed += len(data)
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._over)
        self.source.close()
        os.close(self._own)
        os.close(self._errors)

    def _pass_on(self, line: bytes) -> None:
        if not self._over:
            self._found.add(line)
        theirs = any(name in line.lower() for name in LIBRARY)
        with suppress(OSError):  # who read it has gone; the library's own print would have met the same
            _write(self._errors if theirs else self._own, line)


class _Guard:
    """A process that prints what is left when this one dies in the block: the last words of a library that crashes are
    the ones that matter, and no thread here lives to pass them on.
    """

    SCRIPT = """import os, sys
if not os.read(0, 1):
    for source in map(int, sys.argv[1:]):
        while data := os.read(source, 65536):
            os.write(1, data)
"""

    def __init__(self, streams: Sequence[_Stream]) -> None:
        sources = [stream.source.fileno() for stream in streams]
        wanted, self._alive = os.pipe()  # it reads a byte from us, or that there is nobody to write one
        self._process: subprocess.Popen[bytes] | None = None
        command = [sys.executable, "-I", "-S", "-c", self.SCRIPT, *map(str, sources)]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=wanted,
                stdout=ERR,
                pass_fds=sources,
                start_new_session=True,  # else Ctrl-C ends it, with a traceback
            )
        except OSError as error:
            log.debug("nothing will print a crashing library's last words: %s", error)
        finally:
            os.close(wanted)

    def end(self) -> None:
        with suppress(OSError):  # somebody ended it
            os.write(self._alive, b"\n")
        os.close(self._alive)
        if self._process is not None:
            self._process.wait()


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _flush() -> None:
    """Send on what Python and the C library hold back for the two, so that it goes where it was meant to."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # none, or closed
            stream.flush()
    process = ctypes.CDLL(None)
    for name in ("stdout", "stderr"):  # not all of them: one that a thread reads from would block us
        with suppress(ValueError):
            process.fflush(ctypes.c_void_p.in_dll(process, name))


@cache
def _by_lines() -> None:
    """From now on C holds back a line of its standard output at most: what is said before a crash is to be seen."""
    process = ctypes.CDLL(None)
    process.malloc.restype, process.malloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t,)
    with suppress(ValueError):
        buffer = ctypes.c_void_p(process.malloc(BUFFER_BYTES))  # C's until the process ends
        if buffer.value:
            process.setvbuf(
                ctypes.c_void_p.in_dll(process, "stdout"), buffer, LINE_BUFFERED, ctypes.c_size_t(BUFFER_BYTES)
            )


def set_variable(name: str, value: str) -> None:
    """Set a variable of the environment for native code alone: only the configuration reads Python's."""
    ctypes.CDLL(None).setenv(name.encode(), value.encode(), 1)
