"""Who runs: the library does one thing at a time, so jobs stand in line, first come, first served."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from anyform.contract.errors import Closed
from anyform.contract.model import Stop

AGAIN_S = 0.05
"""How long an end that was asked for may take until it is asked for again: it may have come before the run began."""


class Turn:
    """The line in front of one engine."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._line: deque[Place] = deque()
        self._closed = False

    @property
    def closed(self) -> bool:
        return self._closed

    def check(self) -> None:
        """Raise Closed if nobody runs any more."""
        if self._closed:
            raise Closed("the model was closed.", "Open it again.")

    def queue(self) -> Place:
        """The last place in the line. Raises Closed."""
        with self._changed:
            self.check()
            place = Place(self)
            self._line.append(place)
        return place

    def wait(self, place: Place, stop: Stop) -> bool:
        """Block until it is *place*'s turn; False where *stop* came first. Raises Closed."""
        stop.when_set(self._wake)
        with self._changed:
            self._changed.wait_for(lambda: self._closed or stop.is_set() or self._line[0] is place)
            self.check()
            return not stop.is_set()

    def leave(self, place: Place) -> None:
        """Give up *place*, wherever in the line it is."""
        with self._changed:
            if place in self._line:
                self._line.remove(place)
            self._changed.notify_all()

    def close(self, end: Callable[[], None]) -> None:
        """Let nobody run any more, and wait until nobody does. *end*: ends what runs. Idempotent."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        while True:
            end()
            with self._changed:
                if self._changed.wait_for(lambda: not self._line, AGAIN_S):
                    return

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()


class Place:
    """One job's place in a line."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn

    def wait(self, stop: Stop) -> bool:
        """See `Turn.wait`."""
        return self._turn.wait(self, stop)

    def leave(self) -> None:
        """See `Turn.leave`."""
        self._turn.leave(self)
