"""Who computes now: a few requests at once, a sentence each, the others in the order in which they asked."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from anyform.contract.errors import Closed
from anyform.contract.model import Stop


class Request:
    """One request on its way: ended by its stop, or because the model is closed."""

    def __init__(self, stop: Stop, when_ended: Callable[[], None]) -> None:
        """*when_ended*: called once, by whoever ends it; it must not block or raise."""
        self.ended = False
        self.called = threading.Event()
        """Its turn has come, or it was ended."""
        self._when_ended = when_ended
        stop.when_set(self.end)

    def end(self) -> None:
        """It wants no more turns, and no more of the one that it has."""
        self.ended = True
        self._when_ended()
        self.called.set()


class Turns:
    """Shared by all requests of one model."""

    def __init__(self, lanes: int) -> None:
        """*lanes*: how many have their turn at the same time."""
        self._lanes = self._free = lanes
        self._waiting: deque[Request] = deque()
        self._requests: set[Request] = set()
        self._closed = False
        self._lock = threading.Lock()
        self._back = threading.Condition(self._lock)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def check(self) -> None:
        """Raises Closed."""
        if self._closed:
            raise Closed("the model was closed.", "Load it again.")

    @contextmanager
    def request(self, stop: Stop, when_ended: Callable[[], None]) -> Iterator[Request]:
        """One that may ask for turns. Raises Closed."""
        made = Request(stop, when_ended)
        with self._lock:
            self.check()
            self._requests.add(made)
        try:
            yield made
        finally:
            with self._lock:
                self._requests.discard(made)

    @contextmanager
    def turn(self, request: Request) -> Iterator[bool]:
        """Wait for a turn, and have it; False: *request* was ended before it came."""
        came = self._wait(request)
        try:
            yield came
        finally:
            if came:
                with self._lock:
                    self._pass_on()

    def close(self) -> None:
        """End all requests, and wait until none has its turn. Idempotent."""
        with self._lock:
            self._closed = True
            ended = list(self._requests)
        for request in ended:
            request.end()
        with self._lock:
            while self._free < self._lanes:
                self._back.wait()

    def _wait(self, request: Request) -> bool:
        with self._lock:
            if request.ended or self._closed:
                return False
            if self._free:
                self._free -= 1
                return True
            request.called.clear()
            if request.ended:  # by another thread, before the line above
                return False
            self._waiting.append(request)
        request.called.wait()
        with self._lock:
            if request in self._waiting:
                self._waiting.remove(request)
                return False
            if request.ended:
                self._pass_on()
            return not request.ended

    def _pass_on(self) -> None:
        """A turn is over: whose is the next? Held under the lock."""
        if self._waiting:
            self._waiting.popleft().called.set()
        else:
            self._free += 1
            self._back.notify_all()
