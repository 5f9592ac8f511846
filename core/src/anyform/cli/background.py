"""Runs blocking work in a thread of its own, so that Ctrl-C is felt at once and never lands inside the kernel."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from anyform.contract.model import Stop

if TYPE_CHECKING:
    from anyform.contract.events import Event

T = TypeVar("T")
TICK_S = 0.1
END_S = 5.0
"""How long a stopped answer may take to end."""


class Answer:
    """The events of one job. Leaving the `with` block early stops it and waits until it has ended."""

    def __init__(self, generate: Callable[[Stop], Iterator[Event]]) -> None:
        self._generate = generate
        self._stop = Stop()
        self._items: SimpleQueue[Event | BaseException | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._pump, name="answer", daemon=True)

    def __enter__(self) -> Answer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(END_S)

    def __iter__(self) -> Iterator[Event]:
        while (item := _taken(self._items)) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    def _pump(self) -> None:
        try:
            for event in self._generate(self._stop):
                self._items.put(event)
            self._items.put(None)
        except BaseException as trouble:
            self._items.put(trouble)


class Outcome(Generic[T]):
    """What a call came to."""

    value: T
    trouble: BaseException | None = None


def waited(call: Callable[[], T], waiting: Callable[[float], None]) -> T:
    """The result of *call*; meanwhile *waiting* is told the seconds so far, several times a second."""
    outcome: Outcome[T] = Outcome()
    began = time.monotonic()

    def work() -> None:
        try:
            outcome.value = call()
        except BaseException as trouble:
            outcome.trouble = trouble

    thread = threading.Thread(target=work, name="load", daemon=True)
    thread.start()
    thread.join(TICK_S)
    while thread.is_alive():
        waiting(time.monotonic() - began)
        thread.join(TICK_S)
    if outcome.trouble is not None:
        raise outcome.trouble
    return outcome.value


def _taken(items: SimpleQueue[Any]) -> Any:
    """The next item. Waits in short turns, since a wait without a limit cannot be interrupted on Windows."""
    while True:
        try:
            return items.get(timeout=TICK_S)
        except Empty:
            continue
