"""The threads that hear: each does one request at a time, in the order in which they came; the others wait."""

from __future__ import annotations

import atexit
import threading
from collections import deque
from collections.abc import Callable

from anyform.contract.errors import Closed
from anyform_audio.hearing.hearing import Hearing


class Crew:
    """`submit` and `close` may be called by any thread."""

    def __init__(self, hear: Callable[[Hearing], None], free: Callable[[], None], size: int) -> None:
        """*hear* does a request and raises nothing; *free*: called once, when the last one is over. *size*: threads."""
        self._hear, self._free = hear, free
        self._waiting: deque[Hearing] = deque()
        self._changed = threading.Condition()
        self._closing = self._freed = False
        self._threads = [threading.Thread(target=self._run, name="anyform-hearing", daemon=True) for _ in range(size)]
        for thread in self._threads:
            thread.start()
        atexit.register(self.close)  # native code must not run while the interpreter takes itself apart

    def check(self) -> None:
        """Raise Closed after `close`."""
        if self._closing:
            raise Closed("the model was closed.", "Load it again.")

    def submit(self, hearing: Hearing) -> None:
        """Put *hearing* at the end of the line, which it leaves when it is stopped. Raises Closed."""
        with self._changed:
            self.check()
            self._waiting.append(hearing)
            self._changed.notify()
        hearing.stop.when_set(lambda: self.withdraw(hearing))

    def withdraw(self, hearing: Hearing) -> None:
        """End *hearing* if it still waits."""
        with self._changed:
            if hearing not in self._waiting:
                return
            self._waiting.remove(hearing)
        hearing.cancel()

    def close(self) -> None:
        """Fail all requests with Closed, and free the engine. Idempotent; returns when it is done."""
        with self._changed:
            self._closing = True
            left, self._waiting = self._waiting, deque()
            self._changed.notify_all()
        for hearing in left:
            hearing.told.put(Closed("the model was closed before the request had its turn.", "Load it again."))
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()
        with self._changed:
            first, self._freed = not self._freed, True
        if first:
            self._free()
        atexit.unregister(self.close)

    def _run(self) -> None:
        while (hearing := self._next()) is not None:
            self._hear(hearing)

    def _next(self) -> Hearing | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            return None if self._closing else self._waiting.popleft()
