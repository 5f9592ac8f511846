"""Which backend runs a model, and why. Pure: no I/O, no clock, no logging.

`judge` puts one (match, backend) pair through the gates, the first that fails being the refusal in words, and then
gives points; `rank` orders the verdicts. Only the kernel gives points; plugins give facts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, replace

from anyform.contract.facts import (
    BackendInfo,
    Capabilities,
    Device,
    Finding,
    FormatMatch,
    MemoryEstimate,
    Metadata,
    Plan,
    Settings,
    Severity,
    fact,
)
from anyform.kernel.advice import Advice, sentence
from anyform.kernel.context import Context
from anyform.kernel.units import size

NATIVE, CONVERTS = 40, 15
ACCELERATOR, CPU = 30, 10
ROOMY, SNUG, TIGHT = 20, 10, 5
FEATURES = 10


@fact
class Candidate:
    """All that is known of one backend for one match, gathered beforehand so that judging needs no I/O."""

    plugin: str
    backend: BackendInfo
    broken: str = ""
    """Why its plugin is broken; empty when sound."""
    missing: tuple[str, ...] = ()
    """Engine distributions that are not installed."""
    capabilities: Capabilities | None = None
    """None: not proven on this machine yet."""
    unfit: str = ""
    """Why its plugin refuses the settings, such as an unknown option."""
    unusable: str = ""
    """Why a probe of the engine failed."""
    estimate: MemoryEstimate | None = None
    context: Context | None = None
    device: Device | None = None
    """Where it would run; None: it can use none of this machine's."""
    room_bytes: int = 0
    """What is free there, and where the backend may spill to; 0: unknown."""
    spill: Device | None = None
    """Where the part lies that the device has no room for; None: all of it is to fit there."""
    settings: Settings = Settings()
    """With the chosen context and device filled in."""
    advice: tuple[Advice, ...] = ()
    """What would make it fit, where it does not."""


Pair = tuple[FormatMatch, Metadata, Sequence[Finding], Candidate]


@fact
class Need:
    """What the caller asks for."""

    model: str
    path: str
    task: str | None = None
    features: tuple[str, ...] = ()
    forbid: tuple[str, ...] = ()
    device: str | None = None
    format: str = ""
    """Only this form of the model, where it has several."""
    backend: str = ""
    """Only this one, by its plugin's name or its own."""
    variants: Mapping[str, int] = field(default_factory=dict)
    """Names of the model's smaller variants -> how many bytes smaller."""


@fact
class Reason:
    code: str
    points: int
    text: str


@fact
class Memory:
    """What a model takes with one backend at one context, and what there is. Bytes."""

    context: int | None
    parallel: int
    weights_bytes: int
    cache_bytes: int
    """The KV cache of all requests at once."""
    overhead_bytes: int
    total_bytes: int
    device: str
    """Empty: the backend can use none of this machine's."""
    room_bytes: int
    """What is free there, and where the backend may spill to; 0: unknown."""
    fits: bool | None
    """None: unknown."""
    why: str
    """The formula in words."""
    confidence: float = 0.5
    """0 a guess ... 1 measured."""
    advice: tuple[Advice, ...] = ()
    """What would make it fit, where it does not."""


@fact
class Verdict:
    """One pair, judged. refusal: the gate that failed, in words; empty when it passes."""

    plugin: str
    backend: str
    format: str
    points: int | None = None
    reasons: tuple[Reason, ...] = ()
    refusal: str = ""
    gate: str = ""
    install: str = ""
    memory: Memory | None = None
    """None: the backend's plugin was not asked, or could not say."""


@fact
class Decision:
    """What was decided for one model: the plan, all verdicts with reasons, and what happened at load."""

    model: str
    task: str | None
    plan: Plan | None
    verdicts: tuple[Verdict, ...]
    plans: tuple[Plan, ...] = ()
    """A plan for each verdict that passes, in their order."""
    estimates: tuple[MemoryEstimate | None, ...] = ()
    """What each of these plans takes."""
    context: int | None = None
    context_why: str = ""
    context_warning: str = ""
    estimate_bytes: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def runner(self) -> str:
        """What its foremost plan is run by, as users call it; empty where nothing runs it."""
        return called(self.verdicts[0], self.verdicts) if self.plan else ""

    def lines(self) -> list[str]:
        """The table that `explain` prints: rank, plugin, points, reasons; refusals last."""
        names = [called(verdict, self.verdicts) for verdict in self.verdicts]
        wide = max(map(len, names), default=0)
        out = []
        for place, (name, verdict) in enumerate(zip(names, self.verdicts, strict=True), start=1):
            passes = verdict.points is not None
            said = " · ".join(f"{r.text} +{r.points}" for r in verdict.reasons) if passes else verdict.refusal
            points = str(verdict.points) if passes else "-"
            out.append(f"{place if passes else '-'} {name:<{wide}}  {points:>3}  {said}")
        return out


def called(verdict: Verdict, among: Sequence[Verdict]) -> str:
    """The plugin's name; the backend's own where the plugin has several."""
    alone = all(other.backend == verdict.backend for other in among if other.plugin == verdict.plugin)
    return verdict.plugin if alone else verdict.backend


def rank(pairs: Sequence[Pair], need: Need, prefer: Sequence[str] = ()) -> Decision:
    """Judge every pair and order them: passing first, the user's `prefer` before points; ties go to the one that knows
    its memory better, then by plugin name.
    """
    judged = [(judge(*pair, need), pair) for pair in pairs]

    def place(item: tuple[Verdict, Pair]) -> tuple[bool, int, int, float, str, str]:
        verdict, (_, _, _, candidate) = item
        sure = candidate.estimate.confidence if candidate.estimate and verdict.points is not None else 0.0
        named = [prefer.index(name) for name in (verdict.plugin, verdict.backend) if name in prefer]
        favour = min(named, default=len(prefer))
        return (verdict.points is None, favour, -(verdict.points or 0), -sure, verdict.plugin, verdict.backend)

    judged.sort(key=place)
    plans = tuple(_plan(pair, need) for verdict, pair in judged if verdict.points is not None)
    estimates = tuple(pair[3].estimate for verdict, pair in judged if verdict.points is not None)
    best = judged[0][1][3] if plans else None
    return Decision(
        model=need.model,
        task=need.task,
        plan=plans[0] if plans else None,
        plans=plans,
        estimates=estimates,
        verdicts=tuple(verdict for verdict, _ in judged),
        context=best.context.tokens if best and best.context else None,
        context_why=best.context.why if best and best.context else "",
        estimate_bytes=best.estimate.at(best.settings) if best and best.estimate else None,
        context_warning=best.context.warning if best and best.context else "",
    )


def _plan(pair: Pair, need: Need) -> Plan:
    match, metadata, _, candidate = pair
    return Plan(
        plugin=candidate.plugin,
        backend=candidate.backend.name,
        model=need.model,
        path=need.path,
        match=match,
        metadata=metadata,
        settings=candidate.settings,
        devices=tuple(device for device in (candidate.device, candidate.spill) if device),
    )


def judge(
    match: FormatMatch, metadata: Metadata, findings: Sequence[Finding], candidate: Candidate, need: Need
) -> Verdict:
    """One verdict: the first gate that fails, or points with reasons."""
    memory = _taken(candidate)
    gate, refusal = _gates(match, metadata, findings, candidate, need, memory)
    verdict = Verdict(plugin=candidate.plugin, backend=candidate.backend.name, format=match.format, memory=memory)
    if refusal:
        return replace(verdict, refusal=refusal, gate=gate, install=candidate.backend.install)
    reasons = _reasons(match, metadata, candidate, need)
    return replace(verdict, points=sum(reason.points for reason in reasons), reasons=reasons)


def _gates(
    match: FormatMatch,
    metadata: Metadata,
    findings: Sequence[Finding],
    candidate: Candidate,
    need: Need,
    memory: Memory | None,
) -> tuple[str, str]:
    """(gate, refusal) of the first that fails; ("", "") when all pass."""
    info = candidate.backend
    if need.backend not in ("", candidate.plugin, info.name):
        return "rule", f"the rule for this model names {need.backend}"
    if need.format not in ("", match.format):
        return "rule", f"the rule for this model names the format {need.format}"
    if match.format not in (*info.reads, *info.converts):
        return "format", f"reads {', '.join((*info.reads, *info.converts))}, not {match.format}"
    critical = [finding for finding in findings if finding.severity is Severity.CRITICAL]
    if need.task and need.task not in metadata.tasks and not critical:
        return "task", f"{need.model} does {', '.join(metadata.tasks) or 'nothing that is known'}, not {need.task}"
    if need.task and need.task not in info.tasks:
        return "task", f"does {', '.join(info.tasks)}, not {need.task}"
    if not set(metadata.tasks) & set(info.tasks) and not critical:
        return (
            "task",
            f"does {', '.join(info.tasks)}; the model does {', '.join(metadata.tasks) or 'nothing that is known'}",
        )
    return _machine_gates(findings, candidate, need, memory)


def _machine_gates(
    findings: Sequence[Finding], candidate: Candidate, need: Need, memory: Memory | None
) -> tuple[str, str]:
    info = candidate.backend
    if candidate.broken:
        return "sound", f"its plugin is broken: {candidate.broken}"
    if candidate.unfit:
        return "settings", candidate.unfit
    if candidate.missing:
        return "engine", f"{', '.join(candidate.missing)} is not installed: {info.install}"
    if candidate.unusable:
        return "engine", f"its engine cannot be used: {candidate.unusable}"
    if candidate.device is None:
        has = ", ".join(candidate.capabilities.devices if candidate.capabilities else info.devices)
        return "device", f"runs on {has}; {'no such device here' if need.device is None else f'not on {need.device}'}"
    if memory and candidate.context and not candidate.context.fits:
        return "memory", _too_big(memory, candidate.device, candidate.spill)
    for finding in findings:
        if finding.severity is Severity.CRITICAL:
            return "sound_model", f"{finding.code}: {finding.text}"
    if candidate.plugin in need.forbid or info.name in need.forbid:
        return "forbidden", "forbidden by configuration"
    return "", ""


def _taken(candidate: Candidate) -> Memory | None:
    estimate, settings, device = candidate.estimate, candidate.settings, candidate.device
    if estimate is None:
        return None
    total, sized = estimate.at(settings), candidate.context
    return Memory(
        context=settings.context,
        parallel=settings.parallel or 1,
        weights_bytes=estimate.weights_bytes,
        cache_bytes=total - estimate.weights_bytes - estimate.overhead_bytes,
        overhead_bytes=estimate.overhead_bytes,
        total_bytes=total,
        device=device.id if device else "",
        room_bytes=candidate.room_bytes,
        fits=sized.fits if sized and candidate.room_bytes else None,
        why=estimate.why,
        confidence=estimate.confidence,
        advice=candidate.advice,
    )


def _too_big(memory: Memory, device: Device, spill: Device | None) -> str:
    needs, free = size(memory.total_bytes), size(memory.room_bytes or device.free_bytes)
    there = f"{device.id} and main memory have" if spill else f"{device.id} has"
    sized = f" at context {memory.context} for {memory.parallel} at once" if memory.context else ""
    return f"needs {needs}{sized}; {there} {free} free. {sentence(memory.advice)}"


def _reasons(match: FormatMatch, metadata: Metadata, candidate: Candidate, need: Need) -> tuple[Reason, ...]:
    info, device = candidate.backend, candidate.device
    assert device is not None
    native = match.format in info.reads
    unproven = "" if candidate.capabilities or not info.engine else " (unproven)"
    where = device.id if not device.name else f"{device.id} {device.name}"
    reasons = [
        Reason(code="format", points=NATIVE, text="native format")
        if native
        else Reason(code="format", points=CONVERTS, text="converts on load"),
        Reason(code="device", points=CPU if device.kind == "cpu" else ACCELERATOR, text=f"{where}{unproven}"),
        _memory(candidate, device),
        _features(metadata, candidate, need),
    ]
    return tuple(reason for reason in reasons if reason.points)


def _memory(candidate: Candidate, device: Device) -> Reason:
    if not candidate.estimate or not device.free_bytes:
        return Reason(code="memory", points=TIGHT, text="memory unknown")
    needs = candidate.estimate.at(candidate.settings)
    share = needs / device.free_bytes
    points = ROOMY if share <= 0.5 else SNUG if share <= 0.8 else TIGHT
    spilt = ", the rest in main memory" if needs > device.free_bytes else ""
    return Reason(code="memory", points=points, text=f"{size(needs)} of {size(device.free_bytes)}{spilt}")


def _features(metadata: Metadata, candidate: Candidate, need: Need) -> Reason:
    """Points by the share of the model's tasks, and of the features asked for, that the backend offers."""
    info = candidate.backend
    offered = set(candidate.capabilities.features if candidate.capabilities else info.features) | set(info.tasks)
    wanted = [*metadata.tasks, *need.features]
    has = [name for name in wanted if name in offered]
    points = round(FEATURES * len(has) / len(wanted)) if wanted else 0
    return Reason(code="features", points=points, text=", ".join(has))
