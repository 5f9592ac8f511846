"""Runtime, the one facade: find, explain, open, generate, unload, close. Decides by asking; runs by delegating."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from anyform.contract.errors import (
    Closed,
    Fault,
    Invalid,
    LoadFailed,
    ModelNotFound,
    OutOfMemory,
    Unsupported,
    WorkerDied,
)
from anyform.contract.facts import (
    BackendInfo,
    Capabilities,
    Finding,
    Metadata,
    Plan,
    Settings,
    fact,
)
from anyform.contract.model import LoadedModel, Stop
from anyform.kernel.choice import Choice, EngineState, Model, foremost, refusal
from anyform.kernel.entry import Entry
from anyform.kernel.hardware import Hardware, snapshot
from anyform.kernel.learned import Learned, load_key
from anyform.kernel.library import Library
from anyform.kernel.loading import Attempt, attempts
from anyform.kernel.plugins import Plugins
from anyform.kernel.reader import together
from anyform.kernel.router import Decision, Need, Verdict

if TYPE_CHECKING:
    from anyform.contract.events import Event
    from anyform.contract.jobs import Job

log = logging.getLogger("anyform")
HARDWARE_S = 5.0
"""How long a hardware snapshot serves."""
CONTEXTS = (2048, 8192, 32768)
"""Contexts that memory is told for, beside the one that a model was trained for and the one that it would get."""


@fact
class Held:
    """What the pool keeps beside a loaded model."""

    plan: Plan
    asked: Settings
    decision: Decision
    reductions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """What its load met: a capped context, failed tries, reduced settings."""


@fact
class Loaded:
    """One loaded model, for `ps` and /runtime/status."""

    model: str
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
    since_s: float
    active: int
    reductions: tuple[str, ...] = ()
    """What was reduced to make it load, in words."""
    warnings: tuple[str, ...] = ()


@fact
class Description:
    """One model of a listing."""

    entry: Entry
    metadata: Metadata | None = None
    """None: it cannot be read; `fault` says why."""
    findings: tuple[Finding, ...] = ()
    plugin: str = ""
    """What would run it; empty: nothing, and `fault` says why."""
    fault: Fault | None = None


class Loader(Protocol):
    """Makes loaded models out of plans: in workers, or in this process."""

    isolated: bool
    """Whether a crash of a model leaves this process alive."""

    def load(self, plan: Plan) -> LoadedModel:
        """Blocks. Raises a Fault; details crashed=True if a process died of it."""

    def rehearse(self, plan: Plan) -> None:
        """Load in a throw-away worker and close. Raises as `load` does."""

    def probe(self, plugin: str, backend: BackendInfo) -> Capabilities:
        """Ask the backend's plugin to import its engine, in a throw-away worker."""


class Pool(Protocol):
    """Holds loaded models by name; loads once while others wait."""

    def lease(
        self, name: str, serves: Callable[[Held], bool], load: Callable[[], tuple[LoadedModel, Held]]
    ) -> LoadedModel: ...
    def held(self) -> list[tuple[LoadedModel, Held, float, int]]:
        """(model, held, seconds since it was loaded, requests in progress)"""

    def unload(self, name: str) -> bool: ...
    def close(self) -> None: ...


class Runtime:
    """All models of one library on one machine. Safe between threads. `anyform.start` makes one."""

    def __init__(
        self,
        plugins: Plugins,
        library: Library,
        loader: Loader,
        pool: Pool,
        *,
        settings: Mapping[str, Settings] | None = None,
        defaults: Settings | None = None,
        prefer: Sequence[str] = (),
        forbid: Sequence[str] = (),
        state: Path | None = None,
    ) -> None:
        self.plugins, self.library, self._reader = plugins, library, library.shelf.reader
        self.learned = Learned(state)
        self._loader, self._pool = loader, pool
        self._settings, self._defaults = dict(settings or {}), defaults or Settings()
        self._prefer, self._forbid = tuple(prefer), tuple(forbid)
        self._asked: dict[str, Settings] = {}
        """What a load was told beyond the configuration, by name: it holds until an unload, also when a worker dies."""
        self._hardware: tuple[float, Hardware] | None = None
        self._lock = threading.Lock()
        self._closed = False

    def names(self) -> list[str]:
        """Names of all models, sorted."""
        return [entry.name for entry in self.library.entries()]

    def find(self, model: str) -> Entry:
        """The entry of that name. Raises ModelNotFound with the nearest names."""
        return self.library.find(model)

    def metadata(self, entry: Entry) -> Metadata:
        """What the model says of itself; read again only when its files change."""
        return self._reader.metadata(entry, entry.plugin, entry.match)

    def findings(self, entry: Entry) -> list[Finding]:
        """What validation remarks; empty when all is well."""
        return self._reader.findings(entry, entry.plugin, entry.match)

    def hardware(self) -> Hardware:
        """The devices, at most a few seconds old."""
        now = time.monotonic()
        if self._hardware is None or now - self._hardware[0] > HARDWARE_S:
            self._hardware = (now, snapshot(self.plugins))
        return self._hardware[1]

    def explain(self, model: str | Entry, task: str | None = None, settings: Settings | None = None) -> Decision:
        """What would run *model*, and why; loads and probes nothing. For a loaded model also what its load taught."""
        entry = self.find(model) if isinstance(model, str) else model
        decision = self._decide(entry, task, self._wanted(entry, None, settings), self._choice(probe=False))
        if decision.plan is not None:
            decision = replace(decision, notes=(*decision.notes, *self._lessons(decision.plan)))
        left_open = self.library.choice(model) if isinstance(model, str) else ""
        if left_open:
            decision = replace(decision, notes=(left_open, *decision.notes))
        for _, held, _, _ in self._pool.held():
            if held.plan.model == entry.name:
                met = (f"when it was loaded: {note}" for note in held.notes)
                decision = replace(decision, notes=(*decision.notes, *met))
        return decision

    def estimate(self, entry: Entry, contexts: Sequence[int] = ()) -> list[Verdict]:
        """For each of *contexts* (none: a few that tell) what would run *entry* with it, or came nearest, and the
        memory that it takes; loads and probes nothing. A model that has no context is told of once.
        """
        wanted: Sequence[int | None] = contexts or self._telling(entry) or (None,)
        made = (self.explain(entry, settings=Settings(context=context)) for context in wanted)
        return [verdict for decision in made if (verdict := foremost(decision))]

    def _telling(self, entry: Entry) -> list[int]:
        trained, own = self.metadata(entry).context or 0, self.explain(entry).context
        return sorted({*(context for context in CONTEXTS if context < trained), trained, own or 0} - {0})

    def describe(self, entries: Sequence[Entry]) -> Iterator[Description]:
        """What there is to say of each, in their order; many are read at once."""
        choice = self._choice(probe=False)
        yield from together(lambda entry: self._describe(entry, choice), entries)

    def _describe(self, entry: Entry, choice: Choice) -> Description:
        try:
            models = self._models(entry)
            decision = self._decide(entry, None, self._wanted(entry, None, None), choice, models)
        except Fault as unreadable:
            return Description(entry=entry, fault=unreadable)
        _, metadata, findings = models[0]
        known = Description(entry=entry, metadata=metadata, findings=tuple(findings))
        if decision.plan is not None:
            return replace(known, plugin=decision.plan.plugin)
        return replace(known, fault=refusal(decision, findings, choice.unfit))

    def _lessons(self, plan: Plan) -> Iterator[str]:
        """What earlier loads on this machine taught about such a plan, in words."""
        why = self.learned.why(self._load_key(plan))
        if why:
            yield f"learnt on this machine: {why}"

    def _backend(self, plan: Plan) -> BackendInfo:
        backends = self._choice(False).backends()
        return next(info for name, info in backends if (name, info.name) == (plan.plugin, plan.backend))

    def _load_key(self, plan: Plan) -> str:
        fingerprint = self.hardware().fingerprint
        return load_key(plan.plugin, self._backend(plan), fingerprint, plan.match.format, plan.metadata)

    def open(self, model: str, job: Job | None = None, settings: Settings | None = None) -> LoadedModel:
        """The loaded model of that name, loading it first if need be; blocks.

        *job* says the task and the context that it needs; a loaded model that can serve it is never loaded anew.
        Raises ModelNotFound, Unsupported, InvalidModel, NoBackend, EngineMissing, OutOfMemory, LoadFailed.
        """
        if self._closed:
            raise Closed("the runtime is closed.")
        entry = self.find(model)
        task = job.task if job is not None else None
        if task is not None:
            self._require_task(entry, task)
        asked = _over(self._asked.get(entry.name, Settings()), settings)
        wanted = self._wanted(entry, job, asked)
        leased = self._pool.lease(
            entry.name, lambda held: _serves(held, wanted), lambda: self._load(entry, task, wanted)
        )
        self._asked[entry.name] = asked
        return leased

    def generate(self, model: str, job: Job, stop: Stop | None = None) -> Iterator[Event]:
        """Open the model and do the job; events as `LoadedModel.generate` yields them.

        A worker that is found dead before the first event is replaced, once; after it nothing is tried again.
        """
        stop = stop or Stop()
        running = self.open(model, job).generate(job, stop)
        try:
            first = next(running)
        except WorkerDied:
            running = self.open(model, job).generate(job, stop)
        else:
            yield first
        yield from running

    def loaded(self) -> list[Loaded]:
        """What is loaded now, by name."""
        return sorted((_loaded(*item) for item in self._pool.held()), key=lambda loaded: loaded.model)

    def unload(self, model: str) -> bool:
        """Unload after its running requests have ended; False if it was not loaded."""
        name = self.find(model).name
        self._asked.pop(name, None)
        return self._pool.unload(name)

    def close(self) -> None:
        """Unload everything. Idempotent."""
        self._closed = True
        self._pool.close()
        self._reader.close()

    def capabilities(self, probe: bool = True) -> list[EngineState]:
        """Every backend with its engine: installed, proven, or in trouble. With *probe*, unproven ones are tried."""
        choice = self._choice(probe)
        return [choice.engine_state(plugin, info) for plugin, info in choice.backends()]

    def _require_task(self, entry: Entry, task: str) -> None:
        if not (Path(entry.path) / entry.match.entry).exists():
            raise ModelNotFound(
                f"the files of {entry.name} are gone: {entry.match.entry} is not in {entry.path}.", "Put them back."
            )
        metadata = self.metadata(entry)
        if metadata.tasks and task not in metadata.tasks and not entry.others:
            raise Unsupported(
                f"{entry.name} does {', '.join(metadata.tasks)}, not {task}.",
                "Ask another model, or see what this one can do with `anyform show`.",
                model=entry.name,
                tasks=list(metadata.tasks),
            )

    def _wanted(self, entry: Entry, job: Job | None, given: Settings | None) -> Settings:
        """What a caller asks for: defaults, then the settings of the model, of the call, and the context of the job."""
        wanted = _over(self._defaults, self._settings.get(entry.name))
        for alias in entry.aliases:
            wanted = _over(wanted, self._settings.get(alias))
        wanted = _over(wanted, given)
        context = getattr(getattr(job, "generation", None), "context", None)
        if context is None or context <= (wanted.context or 0):
            return wanted
        trained = self.metadata(entry).context
        if trained is not None and context > trained:
            raise Invalid(
                f"the request asks for a context of {context} tokens; {entry.name} was trained for {trained}.",
                f"Ask for {trained} at the most, or load the model with a larger --context.",
                context=trained,
            )
        return replace(wanted, context=context)

    def _choice(self, probe: bool) -> Choice:
        return Choice(self.plugins, self.hardware(), self.learned, self._loader.probe if probe else None)

    def _decide(
        self, entry: Entry, task: str | None, wanted: Settings, choice: Choice, models: Sequence[Model] = ()
    ) -> Decision:
        need = Need(model=entry.name, path=entry.path, task=task, forbid=self._forbid, device=wanted.device)
        return choice.decide(models or self._models(entry), need, wanted, self._prefer)

    def _models(self, entry: Entry) -> list[Model]:
        """The entry's forms, the one of the strongest evidence first."""
        forms = ((entry.plugin, entry.match), *entry.others)
        return [self._reader.model(entry, plugin, match) for plugin, match in forms]

    def _load(self, entry: Entry, task: str | None, wanted: Settings) -> tuple[LoadedModel, Held]:
        choice = self._choice(probe=True)
        decision = self._decide(entry, task, wanted, choice)
        if decision.plan is None:
            raise refusal(decision, self.findings(entry), choice.unfit)
        notes: list[str] = []
        last: Fault | None = None
        for plan in decision.plans:
            try:
                model, attempt = self._load_by(plan, wanted, notes)
            except (LoadFailed, OutOfMemory) as fault:
                last = fault
                continue
            met = (*((decision.context_warning,) if decision.context_warning else ()), *notes)
            decision = replace(decision, plan=attempt.plan)
            held = Held(plan=attempt.plan, asked=wanted, decision=decision, reductions=attempt.whys, notes=met)
            _say(held)
            return model, held
        assert last is not None
        last.details["tried"] = notes
        raise last

    def _load_by(self, plan: Plan, wanted: Settings, notes: list[str]) -> tuple[LoadedModel, Attempt]:
        """Load with one backend, reducing step by step. Raises the last fault when every step fails."""
        info, key = self._backend(plan), self._load_key(plan)
        known = self.learned.options(key)
        crashed = False
        last: Fault | None = None
        for attempt in attempts(plan, info.reductions, known or {}, self.learned.why(key), wanted.context is not None):
            try:
                if not self._loader.isolated and info.engine and known is None:
                    self._loader.rehearse(attempt.plan)
                model = self._loader.load(attempt.plan)
            except (LoadFailed, OutOfMemory) as fault:
                last = fault
                crashed = crashed or bool(fault.details.get("crashed"))
                notes.append(f"{plan.plugin} failed{_reduced(attempt)}: {fault.message}")
                log.warning("%s: %s", plan.model, notes[-1])
                continue
            if crashed or known is None:
                self.learned.remember(
                    key, attempt.options if crashed else {}, "; ".join(attempt.whys) if crashed else ""
                )
            notes.extend(f"loaded with less: {why}" for why in attempt.whys)
            return model, attempt
        assert last is not None
        raise last


def _reduced(attempt: Attempt) -> str:
    return f" with {', '.join(f'{k}={v}' for k, v in attempt.options.items())}" if attempt.options else ""


def _over(base: Settings, given: Settings | None) -> Settings:
    """*given* laid over *base*, field by field."""
    if given is None:
        return base
    return Settings(
        context=given.context if given.context is not None else base.context,
        parallel=given.parallel if given.parallel is not None else base.parallel,
        device=given.device if given.device is not None else base.device,
        options={**base.options, **given.options},
    )


def _serves(held: Held, wanted: Settings) -> bool:
    """Whether a model loaded as *held* can serve a request that wants *wanted*."""
    has = held.plan.settings
    if wanted.context is not None and (has.context or 0) < wanted.context:
        return False
    same_options = all(has.options.get(name) == value for name, value in wanted.options.items())
    return same_options and wanted.parallel in (None, has.parallel) and wanted.device in (None, held.asked.device)


def _say(held: Held) -> None:
    plan, context = held.plan, held.plan.settings.context
    where = ", ".join(device.id for device in plan.devices)
    log.info(
        "%s: loaded by %s on %s, context %s (%s)", plan.model, plan.plugin, where, context, held.decision.context_why
    )
    for note in held.notes:
        log.warning("%s: %s", plan.model, note)


def _loaded(model: LoadedModel, held: Held, since_s: float, active: int) -> Loaded:
    plan = held.plan
    return Loaded(
        model=plan.model,
        plugin=plan.plugin,
        backend=plan.backend,
        format=plan.match.format,
        device=", ".join(device.id for device in plan.devices),
        pid=getattr(model, "pid", None),
        port=getattr(model, "port", None),
        context=plan.settings.context,
        context_why=held.decision.context_why,
        parallel=model.parallel,
        memory_bytes=getattr(model, "memory_bytes", 0) or held.decision.estimate_bytes or 0,
        since_s=since_s,
        active=active,
        reductions=held.reductions,
        warnings=held.notes,
    )
