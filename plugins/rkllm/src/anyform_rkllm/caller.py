"""One thread that makes all calls to a model which may take long. The library computes with threads that belong to the
one that calls it (OpenMP); and a caller that waits here, and not in the library, can give up.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any


class Call:
    """One call, made or to be made."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work, self._over, self._lock = work, threading.Event(), threading.Lock()
        self._answer: Any = None
        self._error: BaseException | None = None

    def wait(self, seconds: float | None = None) -> bool:
        """Whether it is over, or was before so many seconds."""
        return self._over.wait(seconds)

    def answer(self) -> Any:
        """Wait for it. Raises what the work raised."""
        self._over.wait()
        if self._error is not None:
            raise self._error
        return self._answer

    def fail(self, error: BaseException) -> None:
        """Let nobody wait for it any longer; what it gives later is not heard."""
        self._end(None, error)

    def make(self) -> None:
        """In the thread."""
        try:
            self._end(self._work(), None)
        except BaseException as error:
            self._end(None, error)

    def _end(self, answer: Any, error: BaseException | None) -> None:
        with self._lock:
            if not self._over.is_set():
                self._answer, self._error = answer, error
                self._over.set()


class Caller:
    """The thread. Calls are made one after the other, in order."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[Call | None] = SimpleQueue()
        threading.Thread(target=self._run, name="rkllm", daemon=True).start()

    def start(self, work: Callable[[], Any]) -> Call:
        """Make it in the thread, soon."""
        call = Call(work)
        self._calls.put(call)
        return call

    def end(self) -> None:
        """End the thread after what was started. No `start` after it."""
        self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            call.make()
            del call  # what it holds is to go now, and not with the next
