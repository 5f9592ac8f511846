"""A pooled model as callers see it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from anyform.contract.model import Stop
from anyform.kernel.residence import Ask

if TYPE_CHECKING:
    from anyform.contract.events import Event
    from anyform.contract.jobs import Job
    from anyform.workers.pool import Pool
    from anyform.workers.slot import Slot


class Leased:
    """Each job counts as a use of the model from its start to its end; with *hold* the lease does until it is closed.

    Without it the model may be unloaded between jobs; the next one loads it again.
    """

    def __init__(self, pool: Pool, ask: Ask, slot: Slot, hold: bool) -> None:
        """*slot*: claimed already, by one user who is this lease's."""
        assert slot.model is not None
        self._pool, self._ask, self._slot = pool, ask, slot
        self.parallel = slot.model.parallel
        self._lock = threading.Lock()
        self._holding = True
        if hasattr(slot.model, "dial"):
            self.dial = self._dial
        if not hold:
            self.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._slot.model, name)

    def generate(self, job: Job, stop: Stop) -> Iterator[Event]:
        slot = self._entered()
        assert slot.model is not None
        try:
            yield from slot.model.generate(job, stop)
        finally:
            self._pool.leave(slot, worked=True)

    def _entered(self) -> Slot:
        """The slot with one user more: the one that is held, while it lives; else as a new lease would find it."""
        if self._holding:
            if self._pool.enter(self._slot):
                return self._slot
            self.close()
        slot = self._slot = self._pool.claim(self._ask)
        self._pool.work(slot)
        return slot

    def _dial(self, job: Job) -> Any:
        """`RemoteModel.dial`, counted as a use until the socket is closed. Does not block: raises WorkerDied if the
        model has gone, which cannot be while it is held.
        """
        slot = self._slot
        if not self._pool.enter(slot):
            raise slot.model.death()  # type: ignore[union-attr]
        try:
            sock = slot.model.dial(job)  # type: ignore[union-attr]
        except BaseException:
            self._pool.leave(slot, worked=True)
            raise
        sock.on_close = lambda: self._pool.leave(slot, worked=True)
        return sock

    def close(self) -> None:
        """Let go. The pool owns the model. Idempotent."""
        with self._lock:
            held, self._holding = self._holding, False
        if held:
            self._pool.leave(self._slot)
