"""The place of one model in the pool: what is loaded there and who uses it. Touched under the pool's lock."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from anyform.contract.model import LoadedModel
from anyform.kernel.admission import Tenant
from anyform.kernel.residence import Held, Resident


class State(StrEnum):
    """A slot's life goes one way."""

    LOADING = "loading"
    READY = "ready"
    LEAVING = "leaving"
    GONE = "gone"


class Slot:
    """One name's model from before its load to after its end."""

    def __init__(self, name: str, now: float) -> None:
        self.name = name
        self.state = State.LOADING
        self.model: LoadedModel | None = None
        self.held: Held | None = None
        self.fault: BaseException | None = None
        """Why there is no model: for all who waited for it."""
        self.admitted = False
        """Whether its bytes count, since it may be loaded."""
        self.promised: Mapping[str, int] = {}
        self.before: Mapping[str, int] = {}
        """What its devices had free when it was admitted."""
        self.users = self.jobs = 0
        self.unwanted = False
        """Whether it was unloaded before it was loaded."""
        self.waiting = 0
        self.coming = 0
        """Of those who wait, the ones that wait for its load."""
        self.began = self.since = self.used = now
        self.load_s = 0.0
        self.stuck = False
        """Whether its worker is being ended for saying nothing: two who sweep at once would both do it."""
        self.pinned = False
        self.keep_alive_s: float | None = None

    @property
    def ready(self) -> bool:
        return self.state is State.READY

    def is_gone(self) -> bool:
        return self.state is State.GONE

    def filled(self, model: LoadedModel, held: Held, now: float) -> None:
        self.model, self.held, self.state = model, held, State.READY
        self.since = self.used = now
        self.load_s = now - self.began
        self.promised = held.needs

    def alive(self) -> bool:
        """Whether its process runs; a model in this process always does."""
        alive = getattr(self.model, "alive", None)
        return bool(alive()) if alive is not None else True

    @property
    def answered(self) -> bool:
        """Whether its worker has answered a whole request; taken for granted of a model in this process."""
        return bool(getattr(self.model, "answers", 1))

    def quiet_s(self) -> float:
        """Seconds since its worker said anything, while it has requests; 0 where that is not known."""
        quiet = getattr(self.model, "quiet_s", None)
        return float(quiet()) if quiet is not None and self.users else 0.0

    def taken(self, free: Mapping[str, int]) -> dict[str, int]:
        """Bytes that its devices' *free* memory lacks already. A worker's own are measured, and are less than its
        weights where it maps these from their file; what lies on an accelerator is there once it is loaded. While it
        loads: what is free less than when it began.
        """
        if self.model is None:
            less = ((device, self.before.get(device, 0) - free.get(device, 0)) for device in self.promised)
            return {device: min(max(number, 0), self.promised[device]) for device, number in less}
        there = {device: number for device, number in self.promised.items() if device != "cpu"}
        return {**there, "cpu": getattr(self.model, "private_bytes", 0)}

    def expires_s(self, now: float, usual_s: float) -> float | None:
        """In how many seconds it would be unloaded if nobody used it; None: never."""
        keep = self.keep_alive_s if self.keep_alive_s is not None else usual_s
        if self.pinned or keep < 0 or not self.ready or self.users or self.coming:
            return None
        return self.used + keep - now

    def tenant(self, now: float, free: Mapping[str, int]) -> Tenant:
        return Tenant(
            name=self.name,
            promised=self.promised,
            taken=self.taken(free),
            idle=self.ready and not self.users and not self.coming and not self.pinned,
            pinned=self.pinned,
            leaving=self.state is State.LEAVING,
            loading=self.state is State.LOADING,
            idle_s=now - self.used,
            load_s=self.load_s,
        )

    def resident(self, now: float, usual_s: float) -> Resident:
        return Resident(
            name=self.name,
            state=self.state.value,
            model=self.model,
            held=self.held,
            since_s=now - self.since,
            users=self.users,
            jobs=self.jobs,
            waiting=self.waiting,
            idle_s=0.0 if self.users or not self.ready else now - self.used,
            expires_s=self.expires_s(now, usual_s),
            pinned=self.pinned,
            promised=dict(self.promised),
        )
