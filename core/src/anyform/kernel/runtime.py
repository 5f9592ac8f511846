"""Runtime, the one facade: find, explain, open, generate, unload, close. Decides by asking; runs by delegating."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from anyform.contract.errors import Closed, Fault, Invalid, ModelNotFound, Unsupported, WorkerDied
from anyform.contract.facts import BackendInfo, Finding, FormatMatch, Metadata, Plan, Settings, fact
from anyform.contract.model import LoadedModel, Stop
from anyform.kernel.advice import smaller
from anyform.kernel.choice import Choice, EngineState, Model, foremost, refusal
from anyform.kernel.context import Sizing
from anyform.kernel.entry import Entry
from anyform.kernel.hardware import Hardware, snapshot
from anyform.kernel.learned import Calibration, Learned, engine_key, load_key, memory_key, placed
from anyform.kernel.news import News
from anyform.kernel.plugins import Plugins
from anyform.kernel.residence import Admit, Ask, Held, Loaded, Loads, Order, Pool, loaded
from anyform.kernel.router import Decision, Need, Verdict
from anyform.kernel.rule import Rule, Rules, over

if TYPE_CHECKING:
    from anyform.contract.events import Event
    from anyform.contract.jobs import Job

T = TypeVar("T")
U = TypeVar("U")
HARDWARE_S = 5.0
"""How long a hardware snapshot serves."""
CONTEXTS = (2048, 8192, 32768)
"""Contexts that memory is told for, beside the one that a model was trained for and the one that it would get."""


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


@fact
class Use:
    """How a caller means to use a model, beyond what it asks of it."""

    settings: Settings | None = None
    """Load-time settings; they hold until an unload."""
    backend: str = ""
    """The plugin or backend that must run it."""
    pin: bool | None = None
    keep_alive_s: float | None = None
    """Seconds that it stays loaded after this; negative: for ever; None: as configured."""
    anew: bool = False
    """Whether a user asks for it by name, so that earlier crashes are forgiven."""


class Reader(Protocol):
    """Asks format plugins about a model's files."""

    def metadata(self, entry: Entry, plugin: str, match: FormatMatch) -> Metadata: ...
    def findings(self, entry: Entry, plugin: str, match: FormatMatch) -> list[Finding]: ...
    def model(self, entry: Entry, plugin: str, match: FormatMatch) -> Model: ...
    def together(self, work: Callable[[T], U], items: Iterable[T]) -> Iterator[U]:
        """`map`, by several threads where there is much to do."""

    def forget(self) -> None:
        """Ask anew: the plugins are others."""

    def close(self) -> None: ...


class Shelf(Protocol):
    """Where models are looked for."""

    @property
    def reader(self) -> Reader: ...

    troubles: list[str]
    """What could not be looked at the last time, in words."""


class Library(Protocol):
    """Which models there are, and what their names mean."""

    @property
    def shelf(self) -> Shelf: ...
    def entries(self) -> tuple[Entry, ...]: ...
    def refresh(self) -> None: ...
    def find(self, name: str) -> Entry:
        """Raises ModelNotFound, ModelAmbiguous."""

    def admit(self, entry: Entry) -> None:
        """Let an *entry* that no source finds be found by its name."""

    def choice(self, name: str) -> str:
        """Which variant *name* was taken to mean, in words; empty where it leaves nothing open."""

    def near(self, name: str) -> list[str]:
        """Names that are like *name*, which has no model."""


class Runtime:
    """All models of one library on one machine. Safe between threads. `anyform.start` makes one."""

    def __init__(
        self,
        plugins: Plugins,
        library: Library,
        loads: Loads,
        pool: Pool,
        learned: Learned,
        news: News,
        *,
        calibration: Calibration | None = None,
        sizing: Sizing | None = None,
        rules: Rules = lambda entry: Rule(),
        prefer: Sequence[str] = (),
        forbid: Sequence[str] = (),
    ) -> None:
        """*rules*: what the user's configuration says about a model. *prefer*, *forbid*: plugin names."""
        self.plugins, self.library, self._reader = plugins, library, library.shelf.reader
        self.learned, self.news = learned, news
        self.loads, self.pool, self._rules = loads, pool, rules
        self._calibration, self._sizing = calibration, sizing
        pool.ended = self._measured
        self._prefer, self._forbid = tuple(prefer), tuple(forbid)
        self._asked: dict[str, Use] = {}
        """What a load was told beyond the configuration, by name: it holds until an unload, also when a worker dies."""
        self._hardware: tuple[float, int, Hardware] | None = None
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

    def rule(self, entry: Entry) -> Rule:
        """What the configuration says about it."""
        return self._rules(entry)

    def refresh_plugins(self) -> dict[str, list[str]]:
        """Find plugins that were installed, changed or removed since; what runs goes on. Blocks for seconds."""
        changes = self.plugins.refresh()
        if any(changes.values()):
            self._reader.forget()
            self._hardware = None
        self.library.refresh()
        self.news.tell("plugins", "", **changes)
        return changes

    def hardware(self) -> Hardware:
        """The devices, at most a few seconds old, and not from before the last load."""
        now, epoch = time.monotonic(), self.pool.epoch
        if self._hardware is None or now - self._hardware[0] > HARDWARE_S or epoch != self._hardware[1]:
            self._hardware = (now, epoch, snapshot(self.plugins))
        return self._hardware[2]

    def explain(self, model: str | Entry, task: str | None = None, use: Use | None = None) -> Decision:
        """What would run *model*, and why; loads and probes nothing. For a loaded model also what its load taught."""
        entry = self.find(model) if isinstance(model, str) else model
        use = use or Use()
        decision = self._decide(entry, task, self._wanted(entry, None, use.settings), self._choice(False), use=use)
        lessons = self._lessons(decision.plan) if decision.plan else ()
        left_open = self.library.choice(model) if isinstance(model, str) else ""
        there = [at.held for at in self.pool.residents() if at.name == entry.name and at.held]
        met = (f"when it was loaded: {note}" for held in there for note in held.notes)
        return replace(decision, notes=(*filter(None, [left_open]), *decision.notes, *lessons, *met))

    def estimate(self, entry: Entry, contexts: Sequence[int] = ()) -> list[Verdict]:
        """For each of *contexts* (none: a few that tell) what would run *entry* with it, or came nearest, and the
        memory that it takes; loads and probes nothing. A model that has no context is told of once.
        """
        wanted: Sequence[int | None] = contexts or self._telling(entry) or (None,)
        made = (self.explain(entry, use=Use(settings=Settings(context=context))) for context in wanted)
        return [verdict for decision in made if (verdict := foremost(decision))]

    def _telling(self, entry: Entry) -> list[int]:
        trained, own = self.metadata(entry).context or 0, self.explain(entry).context
        return sorted({*(context for context in CONTEXTS if context < trained), trained, own or 0} - {0})

    def describe(self, entries: Sequence[Entry]) -> Iterator[Description]:
        """What there is to say of each, in their order; many are read at once."""
        choice = self._choice(probe=False)
        yield from self._reader.together(lambda entry: self._describe(entry, choice), entries)

    def _describe(self, entry: Entry, choice: Choice) -> Description:
        try:
            models = self._models(entry)
            decision = self._decide(entry, None, self._wanted(entry, None, None), choice, models)
        except Fault as unreadable:
            return Description(entry=entry, fault=unreadable)
        _, metadata, findings = models[0]
        known = Description(entry=entry, metadata=metadata, findings=tuple(findings))
        if decision.plan is not None:
            return replace(known, plugin=decision.runner)
        return replace(known, fault=refusal(decision, findings, choice.unfit))

    def _lessons(self, plan: Plan) -> Iterator[str]:
        """What earlier loads on this machine taught about such a plan, in words."""
        backends = {(plugin, info.name): info for plugin, info in self._choice(False).backends()}
        why = self.learned.why(self._load_key(plan, backends[plan.plugin, plan.backend]))
        if why:
            yield f"learnt on this machine: {why}"

    def _load_key(self, plan: Plan, info: BackendInfo) -> str:
        return load_key(plan.plugin, info, self.hardware().fingerprint, plan.match.format, plan.metadata)

    def open(
        self,
        model: str,
        job: Job | None = None,
        settings: Settings | None = None,
        use: Use | None = None,
        hold: bool = False,
    ) -> LoadedModel:
        """The loaded model of that name, loading it first if need be; blocks.

        *job* says the task and the context that it needs; a loaded model that can serve it is never loaded anew.
        With *hold* it counts as in use until it is closed; else only while it works, and it may be unloaded meanwhile:
        its next job loads it again.
        Raises ModelNotFound, Unsupported, InvalidModel, NoBackend, EngineMissing, OutOfMemory, LoadFailed, Overloaded.
        """
        if self._closed:
            raise Closed("the runtime is closed.")
        entry = self.find(model)
        task = job.task if job is not None else None
        if task is not None:
            self.require_task(entry, task)
        asked, rule = self._asked_of(entry, settings, use), self.rule(entry)
        wanted = self._wanted(entry, job, asked.settings)
        ask = Ask(
            name=entry.name,
            serves=lambda held: _serves(held, wanted, asked.backend),
            load=lambda admit: self._load(entry, task, wanted, asked, admit),
            check=lambda: self._plan(entry, task, wanted, asked, entry.name) and None,
            pin=asked.pin,
            pinned=rule.pin,
            keep_alive_s=asked.keep_alive_s if asked.keep_alive_s is not None else rule.keep_alive_s,
            anew=asked.anew,
        )
        leased = self.pool.lease(ask, hold)
        self._asked[entry.name] = replace(asked, pin=None, keep_alive_s=None, anew=False)
        return leased

    def _asked_of(self, entry: Entry, settings: Settings | None, use: Use | None) -> Use:
        """What is asked for now, over what was asked for when it was loaded."""
        before, use = self._asked.get(entry.name, Use()), use or Use()
        asked = over(over(before.settings or Settings(), settings), use.settings)
        return replace(use, settings=asked, backend=use.backend or before.backend)

    def generate(self, model: str, job: Job, stop: Stop | None = None) -> Iterator[Event]:
        """Open the model and do the job; events as `LoadedModel.generate` yields them.

        A worker that is found dead before the first event is replaced, once; after it nothing is tried again.
        """
        stop = stop or Stop()
        with closing(self.open(model, job, hold=True)) as leased:
            running = leased.generate(job, stop)
            try:
                first = next(running)
            except WorkerDied:
                running = leased.generate(job, stop)
            else:
                yield first
            yield from running

    def loaded(self) -> list[Loaded]:
        """What is loaded now, by name."""
        found = [told for at in self.pool.residents() if (told := loaded(at))]
        return sorted(found, key=lambda model: model.model)

    def unload(self, model: str, now: bool = False) -> bool:
        """Unload after its running requests have ended, or *now*; False if it was not loaded."""
        name = model if any(at.name == model for at in self.pool.residents()) else self.find(model).name
        self._asked.pop(name, None)
        return self.pool.unload(name, now)

    def close(self) -> None:
        """Unload everything. Idempotent."""
        self._closed = True
        self.pool.close()
        self._reader.close()

    def capabilities(self, probe: bool = True) -> list[EngineState]:
        """Every backend with its engine: installed, proven, or in trouble. With *probe*, unproven ones are tried."""
        choice = self._choice(probe)
        return [choice.engine_state(plugin, info) for plugin, info in choice.backends()]

    def require_task(self, entry: Entry, task: str) -> None:
        """Raise Unsupported unless some form of the model does *task*; ModelNotFound if its files are gone."""
        if not (Path(entry.path) / entry.match.entry).exists():
            raise ModelNotFound(
                f"the files of {entry.name} are gone: {entry.match.entry} is not there.", "Put them back."
            )
        own = self.metadata(entry).tasks
        if own and task not in own and not any(task in self._reader.metadata(entry, *at).tasks for at in entry.others):
            raise Unsupported(
                f"{entry.name} does {', '.join(own)}, not {task}.",
                "Ask another model, or see what this one can do with `anyform show`.",
                model=entry.name,
                tasks=list(own),
            )

    def _wanted(self, entry: Entry, job: Job | None, given: Settings | None) -> Settings:
        """What a caller asks for: the settings of the model's rule, then of the call, and the context of the job."""
        wanted = over(self.rule(entry).settings, given)
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

    def _choice(self, probe: bool, going: str = "") -> Choice:
        """With what is free now, and what would be if every model that may go, and *going*, had gone."""
        hardware = self.hardware()
        room = self.pool.room(hardware.free, going)
        devices = tuple(replace(d, free_bytes=max(room[d.id], 1)) if d.id in room else d for d in hardware.devices)
        there, prober = replace(hardware, devices=devices), self.loads.at().probe if probe else None
        return Choice(self.plugins, there, self.learned, prober, self._calibration, self._sizing)

    def _measured(self, held: Held, peak_bytes: int) -> None:
        """A model has ended, which had so many bytes of main memory at the most."""
        plan = held.plan
        if self._calibration is None or [device.kind for device in plan.devices] != ["cpu"]:
            return
        infos = {(plugin, info.name): info for plugin, info in self._choice(False).backends()}
        engine = engine_key(plan.plugin, infos[plan.plugin, plan.backend])
        key = memory_key(engine, self.hardware().fingerprint, plan.match.format, plan.metadata)
        self._calibration.record(key, placed(plan), peak_bytes)

    def _decide(
        self,
        entry: Entry,
        task: str | None,
        wanted: Settings,
        choice: Choice,
        models: Sequence[Model] = (),
        use: Use | None = None,
    ) -> Decision:
        rule = self.rule(entry)
        need = Need(
            model=entry.name,
            path=entry.path,
            task=task,
            forbid=self._forbid,
            device=wanted.device,
            format=rule.format,
            backend=(use.backend if use else "") or rule.backend,
            variants={} if models else smaller(entry, self.library.entries()),
        )
        return choice.decide(models or self._models(entry), need, wanted, self._prefer)

    def _models(self, entry: Entry) -> list[Model]:
        """The entry's forms, the one of the strongest evidence first."""
        forms = ((entry.plugin, entry.match), *entry.others)
        return [self._reader.model(entry, plugin, match) for plugin, match in forms]

    def _plan(self, entry: Entry, task: str | None, wanted: Settings, use: Use, going: str) -> tuple[Choice, Decision]:
        """What would be loaded, once the model *going* has gone. Raises why nothing can be."""
        choice = self._choice(True, going)
        decision = self._decide(entry, task, wanted, choice, use=use)
        if decision.plan is None:
            raise refusal(decision, self.findings(entry), choice.unfit)
        return choice, decision

    def _load(
        self, entry: Entry, task: str | None, wanted: Settings, use: Use, admit: Admit
    ) -> tuple[LoadedModel, Held]:
        choice, decision = self._plan(entry, task, wanted, use, "")
        infos = {(plugin, info.name): info for plugin, info in choice.backends()}
        keys = {(plan.plugin, plan.backend): plan for plan in decision.plans}
        known = {at: (infos[at], self._load_key(plan, infos[at])) for at, plan in keys.items()}
        return self.loads.run(Order(decision=decision, known=known, rule=self.rule(entry), wanted=wanted), admit)


def _serves(held: Held, wanted: Settings, backend: str) -> bool:
    """Whether a model loaded as *held* can serve a request that wants *wanted* of *backend* (empty: any)."""
    has = held.plan.settings
    if wanted.context is not None and (has.context or 0) < wanted.context:
        return False
    if backend and backend not in (held.plan.plugin, held.plan.backend):
        return False
    same_options = all(has.options.get(name) == value for name, value in wanted.options.items())
    return same_options and wanted.parallel in (None, has.parallel) and wanted.device in (None, held.asked.device)
