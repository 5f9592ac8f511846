"""Holds loaded models. Callers say `lease`; nobody reads a state and then acts on it.

One condition variable, never held over slow work or outward calls.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from anyform.contract.errors import Closed, Fault
from anyform.contract.model import LoadedModel, Stop
from anyform.kernel.runtime import Held

if TYPE_CHECKING:
    from anyform.contract.events import Event
    from anyform.contract.jobs import Job

Load = Callable[[], tuple[LoadedModel, Held]]


class Slot:
    """The place of one name: loading, ready, or closing."""

    __slots__ = ("active", "closing", "fault", "held", "leased", "model", "since", "waiting")

    def __init__(self) -> None:
        self.model: LoadedModel | None = None
        self.held: Held | None = None
        self.fault: BaseException | None = None
        self.since = 0.0
        self.active = 0
        self.waiting = 0
        self.closing = False


class Pool:
    """Loaded models by name."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._slots: dict[str, Slot] = {}
        self._closed = False

    def lease(self, name: str, serves: Callable[[Held], bool], load: Load) -> LoadedModel:
        """The model called *name* if it *serves*; loads it if it is cold; replaces it, once idle, if it does not serve.

        Blocks. While one caller loads, the others wait, and share its fault if it fails.
        """
        slot, old = self._claim(name, serves)
        if old is not None:
            old.close()
        if slot.model is None:
            self._fill(name, slot, load)
        return Leased(self, slot)

    def _claim(self, name: str, serves: Callable[[Held], bool]) -> tuple[Slot, LoadedModel | None]:
        """A ready slot; or one that this caller must fill, with the model that it replaces."""
        with self._changed:
            while True:
                if self._closed:
                    raise Closed("the runtime is closed.")
                slot = self._slots.get(name)
                if slot is None:
                    slot = self._slots[name] = Slot()
                    return slot, None
                if slot.model is None or slot.closing:
                    self._await(slot)
                    continue
                if not _alive(slot.model) or (not slot.active and slot.held is not None and not serves(slot.held)):
                    old = slot.model
                    slot = self._slots[name] = Slot()
                    return slot, old
                if slot.held is not None and serves(slot.held):
                    return slot, None
                slot.closing = True
                self._await_idle(slot)
                slot.closing = False

    def _await(self, slot: Slot) -> None:
        """Wait while another caller loads or replaces; raises the fault that it met."""
        slot.waiting += 1
        self._changed.wait_for(
            lambda: slot.fault is not None or (slot.model is not None and not slot.closing) or self._closed
        )
        slot.waiting -= 1
        if isinstance(slot.fault, Fault):
            raise Fault.revive(slot.fault.as_dict())
        if slot.fault is not None:
            raise slot.fault

    def _await_idle(self, slot: Slot) -> None:
        self._changed.wait_for(lambda: not slot.active or self._closed)

    def _fill(self, name: str, slot: Slot, load: Load) -> None:
        try:
            model, held = load()
        except BaseException as error:
            with self._changed:
                slot.fault = error
                if self._slots.get(name) is slot:
                    del self._slots[name]
                self._changed.notify_all()
            raise
        with self._changed:
            slot.model, slot.held, slot.since = model, held, time.monotonic()
            late = self._closed
            self._changed.notify_all()
        if late:
            model.close()
            raise Closed("the runtime was closed while the model loaded.")

    def enter(self, slot: Slot) -> None:
        with self._changed:
            slot.active += 1

    def leave(self, slot: Slot) -> None:
        with self._changed:
            slot.active -= 1
            self._changed.notify_all()

    def held(self) -> list[tuple[LoadedModel, Held, float, int]]:
        """(model, held, seconds since it was loaded, requests in progress) of what is loaded and alive."""
        now = time.monotonic()
        with self._changed:
            slots = list(self._slots.values())
        return [
            (slot.model, slot.held, now - slot.since, slot.active)
            for slot in slots
            if slot.model is not None and slot.held is not None and _alive(slot.model)
        ]

    def unload(self, name: str) -> bool:
        """Close the model once its requests have ended; False if there is none. Blocks."""
        with self._changed:
            slot = self._slots.get(name)
            if slot is None or slot.model is None or slot.closing:
                return False
            slot.closing = True
            self._await_idle(slot)
            self._slots.pop(name, None)
            slot.fault = Closed(f"{name} was unloaded.", "Ask again to load it anew.")
            self._changed.notify_all()
        slot.model.close()
        return True

    def close(self) -> None:
        """Close everything at once, running requests included. Idempotent."""
        with self._changed:
            self._closed = True
            slots, self._slots = list(self._slots.values()), {}
            self._changed.notify_all()
        closers = [threading.Thread(target=slot.model.close) for slot in slots if slot.model is not None]
        for closer in closers:
            closer.start()
        for closer in closers:
            closer.join()


def _alive(model: LoadedModel) -> bool:
    alive = getattr(model, "alive", None)
    return bool(alive()) if alive is not None else True


class Leased:
    """A pooled model as callers see it: each job counts as in use from its start to its end. `close` only lets go."""

    def __init__(self, pool: Pool, slot: Slot) -> None:
        assert slot.model is not None
        self._pool, self._slot, self._model = pool, slot, slot.model
        self.parallel = slot.model.parallel
        if hasattr(slot.model, "dial"):
            self.dial = self._dial

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def generate(self, job: Job, stop: Stop) -> Iterator[Event]:
        self._pool.enter(self._slot)
        try:
            yield from self._model.generate(job, stop)
        finally:
            self._pool.leave(self._slot)

    def _dial(self, job: Job) -> Any:
        """`RemoteModel.dial`, counted as in use until the socket is closed."""
        self._pool.enter(self._slot)
        try:
            sock = self._model.dial(job)  # type: ignore[attr-defined]
        except BaseException:
            self._pool.leave(self._slot)
            raise
        sock.on_close = lambda: self._pool.leave(self._slot)
        return sock

    def close(self) -> None:
        """Nothing: the pool owns the model."""
