"""What is loaded, as the runtime and its pool tell each other and the user."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Protocol

from anyform.contract.facts import BackendInfo, Capabilities, Plan, Settings, fact
from anyform.contract.model import LoadedModel
from anyform.kernel.router import Decision
from anyform.kernel.rule import Rule

if TYPE_CHECKING:
    from anyform.kernel.admission import Bytes


@fact
class Held:
    """What the pool keeps beside a loaded model."""

    plan: Plan
    asked: Settings
    decision: Decision
    reductions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """What its load met: a capped context, failed tries, reduced settings."""
    needs: Mapping[str, int] = field(default_factory=dict)
    """Bytes that it was estimated to take, by device."""


@fact
class Resident:
    """One model of the pool at one moment."""

    name: str
    state: str
    """loading, ready or leaving."""
    model: LoadedModel | None
    held: Held | None
    since_s: float
    users: int
    jobs: int
    """Requests that it works on; users may also just hold it."""
    waiting: int
    idle_s: float
    expires_s: float | None
    pinned: bool
    promised: Mapping[str, int]


@fact
class Loaded:
    """One loaded model, for `ps` and /runtime/status."""

    model: str
    state: str
    plugin: str
    backend: str
    format: str
    device: str
    pid: int | None
    port: int | None
    context: int | None
    context_why: str
    parallel: int
    memory_bytes: int
    """Measured resident bytes of its worker; the estimate where that cannot be measured."""
    estimated_bytes: int
    since_s: float
    active: int
    waiting: int
    idle_s: float
    expires_s: float | None
    """In how many seconds it will be unloaded unless it is used; None: not while it is used or pinned."""
    pinned: bool
    reductions: tuple[str, ...] = ()
    """What was reduced to make it load, in words."""
    warnings: tuple[str, ...] = ()
    runs_on: str = ""
    """What its engine says that it really computes on; empty: it does not say."""


@fact
class Ask:
    """What a caller wants of the pool."""

    name: str
    serves: Callable[[Held], bool]
    """Whether a model that is loaded so will do."""
    load: Callable[[Admit], tuple[LoadedModel, Held]]
    check: Callable[[], None] = lambda: None
    """Raises what such a load would be refused with: before a model that does not serve is given up for it."""
    pin: bool | None = None
    """None: as it is."""
    pinned: bool = False
    """Whether it is pinned when it is loaded."""
    keep_alive_s: float | None = None
    """How long it stays after this use; negative: for ever; None: as it is."""
    anew: bool = False
    """Whether it is asked for by a user's own word, so that earlier crashes are forgiven."""


class Admit(Protocol):
    """Blocks until there is room for so many bytes, by device. Raises OutOfMemory if there never is, Overloaded."""

    def __call__(self, needs: Bytes) -> None: ...


class Loader(Protocol):
    """Makes loaded models out of plans: in workers, or in this process."""

    isolated: bool
    """Whether a crash of a model leaves this process alive."""

    def load(self, plan: Plan, progress: Callable[[int], None] | None = None) -> LoadedModel:
        """Blocks; tells *progress* how many bytes are there. Raises a Fault; details crashed=True if a process died."""

    def rehearse(self, plan: Plan) -> None:
        """Load in a throw-away worker and close. Raises as `load` does."""

    def probe(self, plugin: str, backend: BackendInfo) -> Capabilities:
        """Ask the backend's plugin to import its engine, in a throw-away worker."""


@fact
class Order:
    """What is to be loaded."""

    decision: Decision
    known: Mapping[tuple[str, str], tuple[BackendInfo, str]]
    """(plugin, backend) -> its facts, and its key in `Learned`."""
    rule: Rule
    wanted: Settings


class Loads(Protocol):
    """Loads what was decided: reduces step by step, then falls back to the next backend."""

    def at(self, where: str = "") -> Loader:
        """The loader of that place; empty: the usual one. Raises Invalid for a place that there is not."""

    def run(self, order: Order, admit: Admit) -> tuple[LoadedModel, Held]:
        """The first plan that can be loaded; raises the last fault if none can, with what was tried in its details."""


class Pool(Protocol):
    """Holds loaded models by name; loads once while others wait."""

    epoch: int
    """Changes with each load and each end."""
    ended: Callable[[Held, int], None]
    """Is told of each model that ends, with the bytes that it had at the most, where those were measured."""

    def lease(self, ask: Ask, hold: bool = False) -> LoadedModel: ...
    def residents(self) -> list[Resident]: ...
    def room(self, free: Bytes, going: str = "") -> Mapping[str, int]:
        """Device -> bytes that a model may take once all that may go, and *going*, have gone, of what is *free* now."""

    def failed(self) -> Mapping[str, str]:
        """Models that crashed too often to be loaded by themselves, with the reason."""

    def unload(self, name: str, now: bool = False) -> bool: ...
    def close(self) -> None: ...


def loaded(at: Resident) -> Loaded | None:
    """The facts for users; None while there is nothing to tell of."""
    if at.held is None:
        return None
    plan, estimated = at.held.plan, sum(at.promised.values())
    return Loaded(
        model=at.name,
        state=at.state,
        plugin=plan.plugin,
        backend=plan.backend,
        format=plan.match.format,
        device=", ".join(device.id for device in plan.devices),
        pid=getattr(at.model, "pid", None),
        port=getattr(at.model, "port", None),
        context=plan.settings.context,
        context_why=at.held.decision.context_why,
        parallel=at.model.parallel if at.model else 0,
        memory_bytes=getattr(at.model, "memory_bytes", 0) or estimated,
        estimated_bytes=estimated,
        since_s=at.since_s,
        active=at.jobs,
        waiting=at.waiting,
        idle_s=at.idle_s,
        expires_s=at.expires_s,
        pinned=at.pinned,
        reductions=at.held.reductions,
        warnings=at.held.notes,
        runs_on=getattr(at.model, "runs_on", ""),
    )
