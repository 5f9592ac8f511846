"""One job in a thread of its own: it waits for its turn, runs, and tells its reader what comes; or ends early."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue

from anyform.contract.errors import Closed
from anyform.contract.events import Done, Event
from anyform.contract.model import Stop
from anyform_rkllm.turn import Place, Turn


class Work:
    """A job. What it does must run nothing once `cancelled` is true."""

    def __init__(self, turn: Turn, stop: Stop) -> None:
        self.stop = Stop()
        """Set when the job is stopped, and when its reader has left."""
        self._turn = turn
        self._told: SimpleQueue[Event | BaseException] = SimpleQueue()
        stop.when_set(self.stop.set)

    @property
    def cancelled(self) -> bool:
        """Whether nobody wants the rest."""
        return self.stop.is_set() or self._turn.closed

    def tell(self, event: Event) -> None:
        """Give *event* to the reader."""
        self._told.put(event)

    def events(self, do: Callable[[Work], Done]) -> Iterator[Event]:
        """What *do* tells, and its Done. Raises what it raises, and Closed. To leave early is to cancel."""
        place = self._turn.queue()
        thread = threading.Thread(target=self._run, args=(do, place), name="rkllm-job", daemon=True)
        try:
            thread.start()
        except BaseException:
            place.leave()
            raise
        try:
            while not isinstance(event := self._next(), Done):
                yield event
        finally:
            self.stop.set()
            thread.join()
        yield event

    def _next(self) -> Event:
        message = self._told.get()
        if isinstance(message, BaseException):
            raise message
        return message

    def _run(self, do: Callable[[Work], Done], place: Place) -> None:
        try:
            self._told.put(self._done(do, place))
        except BaseException as error:
            self._told.put(error)

    def _done(self, do: Callable[[Work], Done], place: Place) -> Done:
        try:
            place.wait(self.stop)
            done = do(self)
        finally:
            place.leave()
        if self._turn.closed:
            raise Closed("the model was closed while it answered.", "Open it again.")
        return done
