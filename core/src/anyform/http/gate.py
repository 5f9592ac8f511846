"""How many requests run and wait for each model. One event loop's own: never touched from a thread."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TypeVar

from anyform.contract.errors import Overloaded

T = TypeVar("T")
LONGEST_S = 600


class Gate:
    """One line for each model; *queue*: how many requests may wait beside those that run."""

    def __init__(self, queue: int) -> None:
        self._queue = queue
        self._lines: dict[str, Line] = {}

    def present(self) -> dict[str, int]:
        """How many requests run or wait, for each model that has any."""
        return {model: line.present for model, line in self._lines.items() if line.present}

    def counts(self) -> dict[str, tuple[int, int]]:
        """(how many run, how many wait) for each model that has any."""
        return {
            model: (line.running, max(line.present - line.running, 0))
            for model, line in self._lines.items()
            if line.present or line.running
        }

    @contextmanager
    def place(self, model: str) -> Iterator[Place]:
        """A place in the line for *model*, waiting until its turn comes. Raises Overloaded when the line is full."""
        line = self._lines.setdefault(model, Line())
        if line.present >= self._queue + line.parallel:
            raise Overloaded(
                f"{line.present} requests for {model} run or wait already.",
                f"Try again later. The server's queue lets {self._queue} wait.",
                retry_after_s=line.wait_s(),
            )
        place = Place(line)
        line.present += 1
        try:
            yield place
        finally:
            line.present -= 1
            place.leave()


class Line:
    """The requests for one model, in the order in which they came."""

    def __init__(self) -> None:
        self.opening = asyncio.Lock()
        self.parallel = 1
        self.present = 0
        self.running = 0
        self.waiting: deque[asyncio.Future[None]] = deque()
        self._usual_s = 1.0

    def wait_s(self) -> int:
        """When a place will probably be free: from how long requests took lately, at least one second."""
        return min(LONGEST_S, max(1, math.ceil(self._usual_s * self.present / self.parallel)))

    def take(self) -> bool:
        """Run at once, if there is room and nobody waits."""
        if self.waiting or self.running >= self.parallel:
            return False
        self.running += 1
        return True

    def give_back(self, took_s: float) -> None:
        """One request has ended after *took_s*; the next in line runs."""
        self._usual_s += 0.2 * (took_s - self._usual_s)
        self.running -= 1
        self.admit()

    def admit(self) -> None:
        """Let those who wait run while there is room."""
        while self.waiting and self.running < self.parallel:
            turn = self.waiting.popleft()
            if not turn.done():
                self.running += 1
                turn.set_result(None)


class Place:
    """One request's place in a line."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._slots = 0
        self._since = time.monotonic()

    async def open(self, start: Callable[[], Awaitable[T]], abandon: Callable[[T], None] = lambda opened: None) -> T:
        """The result of *start*, which opens the model; one at a time, so that who waits for a load holds no thread.

        A call that was begun goes on to its end, even when its request is cancelled, and others wait for it; what
        nobody takes any more is given to *abandon*.
        """
        await self._line.opening.acquire()
        opened = asyncio.ensure_future(start())
        opened.add_done_callback(self._opened)
        try:
            return await asyncio.shield(opened)
        except asyncio.CancelledError:
            opened.add_done_callback(partial(_abandoned, abandon))
            raise

    def _opened(self, done: asyncio.Future[T]) -> None:
        self._line.opening.release()
        if not done.cancelled():
            done.exception()  # asyncio complains of one that was never looked at, as when the request was cancelled

    async def turn(self, parallel: int, before: Callable[[], None] = lambda: None) -> bool:
        """Wait until the request may run; whether it had to. *parallel*: how many the loaded model takes at once.
        *before*: called first if it must wait.
        """
        line = self._line
        line.parallel = max(1, parallel)
        line.admit()
        waits = not line.take()
        if waits:
            before()
            await self._wait(line)
        self._slots += 1
        self._since = time.monotonic()
        return waits

    async def _wait(self, line: Line) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line.waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                with suppress(ValueError):
                    line.waiting.remove(turn)
            else:
                line.running -= 1
                line.admit()
            raise

    def more(self, wanted: int) -> int:
        """Up to *wanted* further slots that are free right now, for a request of several jobs."""
        taken = 0
        while taken < wanted and self._line.take():
            taken += 1
        self._slots += taken
        return taken

    def leave(self) -> None:
        """Give all slots back."""
        took_s = time.monotonic() - self._since
        while self._slots:
            self._slots -= 1
            self._line.give_back(took_s)


def _abandoned(abandon: Callable[[T], None], done: asyncio.Future[T]) -> None:
    if not done.cancelled() and done.exception() is None:
        abandon(done.result())
