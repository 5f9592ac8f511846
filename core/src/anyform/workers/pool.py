"""Holds loaded models. Callers say `lease`; nobody reads a state and then acts on it.

One condition variable, never held over slow work or outward calls. Who may load when, and who goes for it, is decided
by `kernel.admission`; what a crash means by `workers.trouble`; this does as they say.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from anyform.contract.errors import Closed, Fault, OutOfMemory, Overloaded
from anyform.kernel import admission
from anyform.kernel.admission import Admission, Budget, Bytes, Tenant
from anyform.kernel.news import News
from anyform.kernel.residence import Ask, Held, Resident
from anyform.kernel.units import size
from anyform.workers.leased import Leased
from anyform.workers.lifecycle import Lifecycle
from anyform.workers.slot import Slot, State
from anyform.workers.trouble import Troubles

log = logging.getLogger("anyform.workers")
LOOK_S = 0.5
"""How often a model that waits for memory looks at what other programs left free."""
BACK_S = 5.0
"""How long at the most an ended worker's memory is waited for."""


class Pool:
    """Loaded models by name."""

    def __init__(
        self,
        lifecycle: Lifecycle | None = None,
        free: Callable[[], Bytes] = dict,
        news: News | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """*free*: asks each device for its free bytes now; those that do not know are left out."""
        self.lifecycle = lifecycle or Lifecycle()
        self._free, self._news, self._clock = free, news or News(), clock
        self._changed = threading.Condition()
        self._slots: dict[str, Slot] = {}
        self._line: list[Wait] = []
        """Loads that wait for room, the eldest first."""
        self._troubles = Troubles(clock)
        self._lasting: dict[str, tuple[bool, float | None]] = {}
        """Pin and keep-alive of models that are to be loaded again at once."""
        self._sweeper: threading.Thread | None = None
        self._wake = threading.Event()
        self._closed = False
        self.ended: Callable[[Held, int], None] = lambda held, peak_bytes: None
        self.epoch = 0
        """Counts loads and ends: what was free before one does not go with what is held after it."""

    def lease(self, ask: Ask, hold: bool = False) -> Leased:
        """The model called *ask.name* if it serves; loads it if it is cold; replaces it, once idle, if it does not.

        Blocks. While one caller loads, the others wait, and share its fault if it fails. With *hold* the model counts
        as in use from now until the lease is closed; else from the start of each job to its end.
        """
        return Leased(self, ask, self.claim(ask), hold)

    def claim(self, ask: Ask) -> Slot:
        """A ready slot, with one user more; `leave` takes him away again."""
        with self._changed:
            slot, mine = self._claimed(ask)
        if mine:
            self._fill(slot, ask)
        return slot

    def _claimed(self, ask: Ask) -> tuple[Slot, bool]:
        """(slot, whether this caller must fill it)."""
        if ask.anew:
            self._troubles.forgive(ask.name)
        checked = False
        while True:
            if self._closed:
                raise Closed("the runtime is closed.")
            slot = self._slots.get(ask.name)
            if slot is None:
                pause_s = self._troubles.pause_s(ask.name)
                if pause_s <= 0:
                    return self._begun(ask), True
                self._changed.wait(pause_s)
            elif slot.state is State.LOADING:
                self._await_load(slot)
            elif slot.state is State.LEAVING:
                self._await(slot, slot.is_gone)
            elif not slot.alive():
                self._died(slot)
            elif slot.held is None or not ask.serves(slot.held):
                self._replace(slot, ask, checked)
                checked = True
            elif self._yields(slot):
                self._await(slot, partial(self._passes, slot), LOOK_S)
            else:
                self._enter(slot, ask)
                return slot, False

    def _replace(self, slot: Slot, ask: Ask, checked: bool) -> None:
        """Make room for the same model with other settings; not before it is known that it can be loaded so."""
        if checked:
            self._lasting[slot.name] = (slot.pinned, slot.keep_alive_s)
            self._drain(slot, "replaced")
            return
        self._changed.release()
        try:
            ask.check()
        finally:
            self._changed.acquire()

    def _begun(self, ask: Ask) -> Slot:
        slot = self._slots[ask.name] = Slot(ask.name, self._clock())
        slot.users = 1
        slot.pinned, slot.keep_alive_s = self._lasting.pop(ask.name, (ask.pinned, None))
        self._keep(slot, ask)
        return slot

    def enter(self, slot: Slot) -> bool:
        """One user more with a job, if the model is still there."""
        with self._changed:
            there = slot.alive() and (slot.ready or (slot.state is State.LEAVING and slot.users > 0))
            slot.users += there
            slot.jobs += there
            return there

    def work(self, slot: Slot) -> None:
        """A user who is counted already has a job."""
        with self._changed:
            slot.jobs += 1

    def _enter(self, slot: Slot, ask: Ask) -> None:
        slot.users += 1
        self._keep(slot, ask)

    def _keep(self, slot: Slot, ask: Ask) -> None:
        if ask.pin is not None:
            slot.pinned = ask.pin
        if ask.keep_alive_s is not None:
            slot.keep_alive_s = ask.keep_alive_s
            self._wake.set()

    def _await(self, slot: Slot, until: Callable[[], bool], timeout_s: float | None = None) -> None:
        slot.waiting += 1
        try:
            self._changed.wait_for(lambda: until() or self._closed, timeout_s)
        finally:
            slot.waiting -= 1

    def _await_load(self, slot: Slot) -> None:
        """Wait while another caller loads; raises the fault that it met. Nobody evicts it before this one had it."""
        slot.coming += 1
        try:
            self._await(slot, lambda: slot.state is not State.LOADING)
        finally:
            slot.coming -= 1
        if isinstance(slot.fault, Fault):
            raise Fault.revive(slot.fault.as_dict())
        if slot.fault is not None:
            raise slot.fault

    def _yields(self, slot: Slot) -> bool:
        """Whether a request must let a model go first that has waited too long for this one's room."""
        overdue = (wait for wait in self._line if self._clock() - wait.since > self.lifecycle.patience_s)
        return not slot.pinned and any(slot.name in wait.holders for wait in overdue)

    def _passes(self, slot: Slot) -> bool:
        return not slot.ready or not self._yields(slot)

    def _fill(self, slot: Slot, ask: Ask) -> None:
        """Load into *slot*, outside of the lock."""
        try:
            model, held = ask.load(lambda needs: self._admit(slot, needs))
        except BaseException as error:
            self._unfilled(slot, error)
            raise
        with self._changed:
            slot.filled(model, held, self._clock())
            self.epoch += 1
            late = self._closed
            unwanted = slot.unwanted and not late
            if unwanted:
                slot.state = State.LEAVING
            if self._sweeper is None and not late:
                self._sweeper = threading.Thread(target=self._sweep_on, name="anyform-sweep", daemon=True)
                self._sweeper.start()
            self._changed.notify_all()
        if late:
            model.close()
            raise Closed("the runtime was closed while the model loaded.")
        if unwanted:
            self._end(slot, "asked")
            raise Closed(f"{slot.name} was unloaded while it loaded.", "Ask again to load it anew.")
        about = {"runs_on": getattr(model, "runs_on", ""), "warnings": list(held.notes)}
        self._news.tell("loaded", slot.name, seconds=round(slot.load_s, 3), bytes=dict(slot.promised), **about)

    def _unfilled(self, slot: Slot, error: BaseException) -> None:
        with self._changed:
            slot.fault = error
            self._gone(slot)
            if isinstance(error, Fault) and error.details.get("crashed"):
                self._troubles.add(slot.name, error.message)
        code = error.code if isinstance(error, Fault) else type(error).__name__
        self._news.tell("failed", slot.name, code=code, message=str(error))

    def _gone(self, slot: Slot) -> None:
        slot.state, slot.promised, slot.admitted = State.GONE, {}, False
        self.epoch += 1
        if self._slots.get(slot.name) is slot:
            del self._slots[slot.name]
        self._changed.notify_all()

    # room

    def room(self, free: Bytes, going: str = "") -> dict[str, int]:
        """Device -> bytes that a model may take once all that may go, and *going*, have gone; without what has no
        known end.
        """
        with self._changed:
            tenants = [replace(t, pinned=t.pinned and t.name != going) for t in self._tenants(free)]
            return admission.room(self._budget(free), tenants)

    def _budget(self, free: Bytes) -> Budget:
        return Budget(free=free, limits=self.lifecycle.limit_bytes, most=self.lifecycle.max_models)

    def _tenants(self, free: Bytes) -> list[Tenant]:
        now = self._clock()
        return [slot.tenant(now, free) for slot in self._slots.values() if slot.admitted]

    def _admit(self, slot: Slot, needs: Bytes) -> None:
        """Block until *needs* fits, evicting what may go. Raises OutOfMemory, Overloaded, Closed."""
        wait = Wait(slot, self._clock())
        with self._in_line(wait):
            while True:
                epoch, free = self.epoch, self._free()
                with self._changed:
                    if epoch != self.epoch:
                        continue
                    verdict = self._judged(wait, needs, free)
                    if verdict.fits:
                        slot.promised, slot.before, slot.admitted = dict(needs), free, True
                        return
                    victims = [self._slots[name] for name in verdict.evict]
                    for victim in victims:
                        victim.state = State.LEAVING
                self._waits(wait, needs)
                if victims:
                    self._evict(victims, free)
                    continue
                with self._changed:
                    self._changed.wait(LOOK_S)

    @contextmanager
    def _in_line(self, wait: Wait) -> Iterator[None]:
        with self._changed:
            wait.slot.promised, wait.slot.admitted = {}, False  # a try with less begins anew
            self._line.append(wait)
        try:
            yield
        finally:
            with self._changed:
                self._line.remove(wait)
                self._changed.notify_all()

    def _judged(self, wait: Wait, needs: Bytes, free: Bytes) -> Admission:
        """What to do about the load now; raises when there is no hope."""
        if self._closed:
            raise Closed("the runtime was closed while the model loaded.")
        if wait.slot.unwanted:
            raise Closed(f"{wait.slot.name} was unloaded while it waited.", "Ask again to load it anew.")
        now = self._clock()
        verdict = admission.admit(needs, self._budget(free), self._tenants(free))
        if verdict.never:
            raise self._crowded(wait.slot.name) or self._too_big(wait.slot.name, needs, free)
        wait.holders = verdict.holders
        if not verdict.fits and now - wait.since > self.lifecycle.wait_s:
            raise Overloaded(
                f"{wait.slot.name} waited {self.lifecycle.wait_s:g} s for {', '.join(verdict.holders)} to make room.",
                "Try again later, or unload one of them.",
                retry_after_s=60,
                holders=list(verdict.holders),
            )
        elder = next((other for other in self._line if other is not wait and other.since < wait.since), None)
        if verdict.fits and elder is not None and now - elder.since > self.lifecycle.patience_s:
            return Admission(fits=False, holders=(elder.slot.name,))
        return verdict

    def _crowded(self, name: str) -> Overloaded | None:
        """The fault for a model for which not bytes are lacking, but a place among those that may be loaded at once."""
        pinned = sorted(slot.name for slot in self._slots.values() if slot.pinned and slot.name != name)
        most = self.lifecycle.max_models
        if not 0 < most <= len(pinned):
            return None
        return Overloaded(
            f"{name} is not loaded: {most} model{'s' if most > 1 else ''} may be (max_models), and "
            f"{', '.join(pinned)} {'are' if len(pinned) > 1 else 'is'} pinned.",
            f"Unload one: `anyform unload {pinned[0]}`, or raise max_models in [lifecycle].",
            holders=pinned,
        )

    def _too_big(self, name: str, needs: Bytes, free: Bytes) -> OutOfMemory:
        pinned = sorted(slot.name for slot in self._slots.values() if slot.pinned and slot.name != name)
        room = admission.room(self._budget(free), self._tenants(free))
        ends = {device: f", which has room for {size(max(number, 0))}" for device, number in room.items()}
        wanted = " and ".join(f"{size(number)} on {device}{ends.get(device, '')}" for device, number in needs.items())
        beside = f" beside what is pinned ({', '.join(pinned)})" if pinned else ""
        first = f"Unload one of these: `anyform unload {pinned[0]}`, or take" if pinned else "Take"
        hint = f"{first} a smaller --context or quantization."
        return OutOfMemory(f"{name} needs {wanted}{beside}.", hint, needs=dict(needs), room=room)

    def _waits(self, wait: Wait, needs: Bytes) -> None:
        if not wait.told:
            wait.told = True
            self._news.tell("waiting", wait.slot.name, needs=dict(needs), holders=list(wait.holders))

    def _evict(self, victims: list[Slot], free: Bytes) -> None:
        """Close *victims* and wait, some seconds at most, until their devices say that the memory is back."""
        expected = {
            device: number + sum(slot.taken(free).get(device, 0) for slot in victims) for device, number in free.items()
        }
        for victim in victims:
            self._end(victim, "evicted")
        until = time.monotonic() + BACK_S
        while time.monotonic() < until:
            now_free = self._free()
            if all(now_free.get(device, 0) >= 0.9 * number for device, number in expected.items()):
                return
            time.sleep(0.05)

    # going

    def leave(self, slot: Slot, worked: bool = False) -> None:
        """One user less. *worked*: he had a job; once one was answered whole, earlier crashes are forgiven."""
        with self._changed:
            slot.users -= 1
            slot.jobs -= worked
            slot.used = self._clock()
            if worked and slot.ready and slot.answered and slot.alive():
                self._troubles.forgive(slot.name)
            if not slot.users:
                self._changed.notify_all()
                if slot.keep_alive_s is not None:
                    self._wake.set()

    def _drain(self, slot: Slot, why: str) -> None:
        """Let running requests end, then close. Called with the lock held, which it lets go of while it closes."""
        slot.state = State.LEAVING
        self._await(slot, lambda: not slot.users)
        if self._closed or slot.state is State.GONE:
            return
        self._changed.release()
        try:
            self._end(slot, why)
        finally:
            self._changed.acquire()

    def _end(self, slot: Slot, why: str) -> None:
        """Close a slot that is leaving; without the lock. Only then is its room free."""
        try:
            self._close(slot)
        finally:
            with self._changed:
                first = slot.state is not State.GONE
                self._gone(slot)
            if first:
                log.info("%s: unloaded (%s)", slot.name, why)
                self._news.tell("unloaded", slot.name, why=why)

    def _close(self, slot: Slot) -> None:
        """Close its model, and say how large it was."""
        peak_bytes = getattr(slot.model, "peak_bytes", 0)
        if slot.model is not None:
            slot.model.close()
        if slot.held is not None and peak_bytes:
            self.ended(slot.held, peak_bytes)

    def _died(self, slot: Slot) -> None:
        """A worker that has ended by itself. Called with the lock held."""
        said = str(getattr(slot.model, "obituary", "its worker ended"))
        self._troubles.add(slot.name, said)
        self._lasting[slot.name] = (slot.pinned, slot.keep_alive_s)
        self._gone(slot)
        log.warning("%s: crashed: %s", slot.name, said)
        self._news.tell("crashed", slot.name, message=said)
        if slot.model is not None:
            threading.Thread(target=slot.model.close, name="anyform-collect", daemon=True).start()

    def residents(self) -> list[Resident]:
        """All slots at this moment; dead ones are buried first."""
        now = self._clock()
        with self._changed:
            for slot in [slot for slot in self._slots.values() if slot.ready and not slot.alive()]:
                self._died(slot)
            return [slot.resident(now, self.lifecycle.idle_s) for slot in self._slots.values()]

    def failed(self) -> Mapping[str, str]:
        """Models that crashed too often, with the reason."""
        return self._troubles.failed()

    def unload(self, name: str, now: bool = False) -> bool:
        """Close the model once its requests have ended, or *now*; False if there is none. Blocks."""
        with self._changed:
            self._lasting.pop(name, None)
            slot = self._slots.get(name)
            if slot is not None and slot.state is State.LOADING:
                slot.unwanted = True
                self._changed.notify_all()
                self._await(slot, slot.is_gone)
                return True
            if slot is None or slot.model is None or slot.state is State.GONE:
                return False
            if slot.state is State.LEAVING and not now:
                self._await(slot, slot.is_gone)
                return True
            slot.state = State.LEAVING
            if not now:
                self._drain(slot, "asked")
                return True
        self._end(slot, "asked")
        return True

    def sweep(self) -> float:
        """Unload what is idle for too long, bury the dead, end the stuck. Returns seconds until it should run again."""
        usual, now = self.lifecycle.idle_s, self._clock()
        with self._changed:
            slots = list(self._slots.values())
            stuck = [slot for slot in slots if not slot.stuck and 0 < self.lifecycle.stuck_s < slot.quiet_s()]
            for slot in stuck:
                slot.stuck = True
            for slot in (slot for slot in slots if slot.ready and not slot.alive()):
                self._died(slot)
            ends = [(slot, slot.expires_s(now, usual)) for slot in slots if slot.ready and not slot.waiting]
            expired = [slot for slot, end in ends if end is not None and end <= 0]
            for slot in expired:
                slot.state = State.LEAVING
            coming = [end for slot, end in ends if end is not None and end > 0]
        for slot in expired:
            self._end(slot, "idle")
        for slot in stuck:
            self._unstick(slot)
        return min([self.lifecycle.check_s, *coming])

    def _unstick(self, slot: Slot) -> None:
        """End a worker that says nothing; its requests are told, and the next one starts another."""
        quiet_s = slot.quiet_s()
        log.warning("%s: said nothing for %.0f s and was ended", slot.name, quiet_s)
        self._news.tell("stuck", slot.name, seconds=round(quiet_s, 1))
        kill = getattr(slot.model, "kill", None)
        if kill is not None:
            kill(f"it said nothing for {quiet_s:.0f} s and was ended")

    def _sweep_on(self) -> None:
        while not self._closed:
            try:
                pause_s = self.sweep()
            except Exception:
                log.exception("looking for idle models failed")
                pause_s = self.lifecycle.check_s
            self._wake.wait(max(pause_s, 0.05))
            self._wake.clear()

    def close(self) -> None:
        """Close everything at once, running requests included. Idempotent."""
        with self._changed:
            self._closed = True
            slots, self._slots = list(self._slots.values()), {}
            self._changed.notify_all()
        self._wake.set()
        closers = [threading.Thread(target=self._close, args=(slot,)) for slot in slots if slot.model is not None]
        for closer in closers:
            closer.start()
        for closer in closers:
            closer.join()


class Wait:
    """A load that waits for room."""

    def __init__(self, slot: Slot, since: float) -> None:
        self.slot, self.since = slot, since
        self.holders: tuple[str, ...] = ()
        self.told = False
