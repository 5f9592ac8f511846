"""A loaded model: one object with one method, the same in this process and in a worker."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from anyform.contract.events import Event
    from anyform.contract.jobs import Job


class Stop:
    """A request to end a generation early. Set once, by any thread; polled by the engine at each step."""

    __slots__ = ("_calls", "_event", "_lock")

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._calls: list[Callable[[], None]] = []

    def set(self) -> None:
        with self._lock:
            self._event.set()
            calls, self._calls = self._calls, []
        for call in calls:
            call()

    def when_set(self, call: Callable[[], None]) -> None:
        """Run *call* once, in the thread that sets this; at once if it is set already. It must not block or raise."""
        with self._lock:
            if not self._event.is_set():
                self._calls.append(call)
                return
        call()

    def is_set(self) -> bool:
        return self._event.is_set()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Block until set or *timeout_s* has passed; whether it is set."""
        return self._event.wait(timeout_s)


@runtime_checkable
class LoadedModel(Protocol):
    """What `load` returns. Safe to call from several threads.

    It may have two attributes more, which are told to users where they look for loaded models: `runs_on`, a str: what
    its engine really computes on, read back from it (`CUDA, CPU`); `notes`, a tuple of str: warnings about this load,
    such as an accelerator that was to be used and is not.
    """

    parallel: int
    """How many generate() may overlap; more are queued by the model itself, never shortened."""

    def generate(self, job: Job, stop: Stop) -> Iterator[Event]:
        """Do *job*, yielding events; exactly one Done, last. Blocks between events.

        Ends within one engine step after *stop* is set, with a Done whose reason is "cancelled".
        Raises `Fault` before the first event if the job cannot be done (context exceeded, task
        unsupported, invalid grammar), and in the middle only if the engine itself failed.
        """

    def close(self) -> None:
        """Free everything. Idempotent; running jobs end first with a fault."""
