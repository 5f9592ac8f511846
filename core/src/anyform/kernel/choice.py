"""Gathers what the router needs to know of every backend, asks it to rank, and turns a refusal into a fault."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from anyform.contract.errors import EngineMissing, Fault, InvalidModel, NoBackend, OutOfMemory, PluginFault, Unsupported
from anyform.contract.facts import (
    BackendInfo,
    Capabilities,
    Device,
    Finding,
    FormatMatch,
    MemoryEstimate,
    Metadata,
    Settings,
    Severity,
    fact,
)
from anyform.kernel import context
from anyform.kernel.advice import advise
from anyform.kernel.context import Sizing
from anyform.kernel.hardware import Hardware
from anyform.kernel.learned import Calibration, Learned, engine_key, engine_versions, memory_key
from anyform.kernel.plugins import Plugins
from anyform.kernel.router import Candidate, Decision, Need, Verdict, called, rank

FEW = 4096
"""Below so many tokens for each of them, one at a time is better."""

Model = tuple[FormatMatch, Metadata, list[Finding]]
Probe = Callable[[str, BackendInfo], Capabilities]

_GATES = ("rule", "format", "device", "task", "engine", "memory", "sound", "forbidden", "settings", "sound_model")
"""Which refusal is told when there are several: the one furthest to the right."""


@fact
class EngineState:
    """One backend on this machine, for `doctor`."""

    plugin: str
    backend: BackendInfo
    versions: Mapping[str, str]
    missing: tuple[str, ...] = ()
    capabilities: Capabilities | None = None
    trouble: str = ""


class Choice:
    """One choice of a backend: the facts of this moment, and the router's answer to them."""

    def __init__(
        self,
        plugins: Plugins,
        hardware: Hardware,
        learned: Learned,
        probe: Probe | None,
        calibration: Calibration | None = None,
        sizing: Sizing | None = None,
    ) -> None:
        """*probe*: how to prove an engine that was never proven here; None: leave it unproven."""
        self._plugins, self._hardware, self._learned, self._probe = plugins, hardware, learned, probe
        self._calibration, self._sizing = calibration, sizing
        self._backends: list[tuple[str, BackendInfo]] | None = None
        self._versions: dict[tuple[str, ...], tuple[dict[str, str], tuple[str, ...]]] = {}
        self.unfit: dict[str, Fault] = {}
        """Plugin -> the fault by which it refused the settings."""

    def backends(self) -> list[tuple[str, BackendInfo]]:
        """(plugin, backend) of every sound plugin."""
        if self._backends is None:
            asked = self._plugins.ask_all("list_backends")
            self._backends = [(plugin, info) for plugin, answer in asked for info in answer]
        return self._backends

    def decide(self, models: Sequence[Model], need: Need, wanted: Settings, prefer: Sequence[str]) -> Decision:
        """Judge every (form of the model, backend) pair."""
        pairs = [
            (match, metadata, findings, self._candidate(plugin, info, match, metadata, need, wanted))
            for match, metadata, findings in models
            for plugin, info in self.backends()
        ]
        decision = rank(pairs, need, prefer)
        unproven = dict.fromkeys(
            f"{candidate.plugin} is unproven: its engine was never imported on this machine; the first load tries it"
            for _, _, _, candidate in pairs
            if candidate.device and candidate.backend.engine and not (candidate.missing or candidate.capabilities)
        )
        broken = [f"plugin {r.name} is broken: {r.reason}" for r in self._plugins.records if not r.sound]
        failed = [str(fault.message) for fault in self._plugins.failures]
        return replace(decision, notes=(*decision.notes, *unproven, *broken, *failed))

    def engine_state(self, plugin: str, info: BackendInfo) -> EngineState:
        versions, missing = self._engine(info)
        capabilities, trouble = (None, "") if missing else self._capabilities(plugin, info)
        return EngineState(
            plugin=plugin, backend=info, versions=versions, missing=missing, capabilities=capabilities, trouble=trouble
        )

    def _engine(self, info: BackendInfo) -> tuple[dict[str, str], tuple[str, ...]]:
        """`engine_versions`, looked up once a choice: it reads several files."""
        known = self._versions.get(info.engine)
        if known is None:
            known = self._versions[info.engine] = engine_versions(info)
        return known

    def _capabilities(self, plugin: str, info: BackendInfo) -> tuple[Capabilities | None, str]:
        """(what is known, why the probe failed)."""
        key = engine_key(plugin, info, self._engine(info)[0])
        known = self._learned.capabilities(key)
        if known is not None or self._probe is None or not info.engine:
            return known, info.trouble
        try:
            known = self._probe(plugin, info)
        except Fault as fault:
            return None, str(fault)
        self._learned.remember_probe(key, known)
        return known, ""

    def _candidate(
        self, plugin: str, info: BackendInfo, match: FormatMatch, metadata: Metadata, need: Need, wanted: Settings
    ) -> Candidate:
        if match.format not in (*info.reads, *info.converts):
            return Candidate(plugin=plugin, backend=info)
        for parallel in (wanted.parallel,) if wanted.parallel else (info.parallel, 1):
            found = self._sized(plugin, info, match, metadata, need, replace(wanted, parallel=parallel))
            tokens = found.context.tokens if found.context else None
            if wanted.context or tokens is None or tokens >= min(FEW, metadata.context or FEW):
                break
        return found

    def _sized(
        self, plugin: str, info: BackendInfo, match: FormatMatch, metadata: Metadata, need: Need, wanted: Settings
    ) -> Candidate:
        versions, missing = self._engine(info)
        capabilities, unusable = (None, "") if missing else self._capabilities(plugin, info)
        settings = replace(wanted, options={**info.options, **wanted.options})
        mark = memory_key(engine_key(plugin, info, versions), self._hardware.fingerprint, match.format, metadata)

        def said(settings: Settings) -> MemoryEstimate:
            facts = {"backend": info, "metadata": metadata, "settings": settings}
            return self._plugins.ask_one(plugin, "estimate_memory", **facts)  # type: ignore[no-any-return]

        def estimated(settings: Settings) -> MemoryEstimate:
            return self._calibration.apply(mark, said(settings), settings) if self._calibration else said(settings)

        def needs(settings: Settings) -> int:
            return said(settings).at(settings) + off

        try:
            estimate = estimated(settings)
            device, spill = self._device(info, capabilities, estimate, settings)
            there = replace(settings, device=device.id if device else settings.device)
            estimate = estimated(there) if device else estimate
            off = estimate.at(there) - said(there).at(there)
            room_bytes, names = _room(device, spill), (need.model, metadata.name)
            sized = context.size(there, metadata.context, estimate, needs, room_bytes, self._sizing, names)
            there, alone = replace(there, context=sized.tokens), bool(device and device.kind != "cpu" and not spill)
            estimate = estimated(there)
            unfit = (estimate.savings, there, needs, room_bytes, metadata.context, need.variants, alone)
            advice = () if sized.fits else advise(*unfit)
        except PluginFault as fault:
            return Candidate(plugin=plugin, backend=info, missing=missing, broken=fault.message)
        except Fault as fault:
            self.unfit[plugin] = fault
            return Candidate(plugin=plugin, backend=info, missing=missing, unfit=str(fault))
        return Candidate(
            plugin=plugin,
            backend=info,
            missing=missing,
            capabilities=capabilities,
            unusable=unusable,
            estimate=estimate,
            context=sized,
            device=device,
            room_bytes=room_bytes,
            spill=spill,
            settings=there if settings.device else replace(settings, context=sized.tokens),
            advice=advice,
        )

    def _device(
        self, info: BackendInfo, capabilities: Capabilities | None, estimate: MemoryEstimate, settings: Settings
    ) -> tuple[Device | None, Device | None]:
        """(device, main memory if a part is to lie there): of the accelerators the one with room, then the one with
        most free; else an accelerator and main memory, where the backend spills; else main memory alone.
        """
        has = set(capabilities.devices if capabilities else info.devices)
        here = [device for device in self._hardware.of(settings.device) if device.kind in has]
        fixed, whole = estimate.weights_bytes + estimate.overhead_bytes, estimate.at(settings)
        fast = [device for device in here if device.kind != "cpu"]
        best = min(fast, key=lambda device: (not _holds(device, whole), -device.free_bytes), default=None)
        cpu = next((device for device in here if device.kind == "cpu"), None)
        if best and capabilities and capabilities.spills and not _holds(best, whole):
            main = next(iter(self._hardware.of("cpu")), None)
            if _room(best, main) > fixed:
                return best, main
        if best and (_holds(best, fixed) or not cpu or not _holds(cpu, fixed)):
            return best, None
        return cpu, None


def _holds(device: Device, needs_bytes: int) -> bool:
    return not device.free_bytes or device.free_bytes > needs_bytes


def _room(device: Device | None, spill: Device | None) -> int:
    """Bytes that a model may take there, and where it may spill to; an accelerator may share the main memory."""
    if device is None or spill is None:
        return device.free_bytes if device else 0
    shared = device.extra.get("unified")
    return max(device.free_bytes, spill.free_bytes) if shared else device.free_bytes + spill.free_bytes


def foremost(decision: Decision) -> Verdict | None:
    """The verdict that goes first; where none passes, the one that got through the most gates, and needs the least."""
    if decision.plan is not None:
        return decision.verdicts[0]

    def nearness(verdict: Verdict) -> tuple[int, int]:
        return _GATES.index(verdict.gate), -(verdict.memory.total_bytes if verdict.memory else 0)

    return max(decision.verdicts, key=nearness, default=None)


def refusal(decision: Decision, findings: Sequence[Finding], unfit: Mapping[str, Fault]) -> Fault:
    """The fault that says why nothing runs this model, and what would. *unfit*: `Choice.unfit`."""
    critical = [finding for finding in findings if finding.severity is Severity.CRITICAL]
    refusals = [f"{verdict.plugin}: {verdict.refusal}" for verdict in decision.verdicts]
    about: dict[str, Any] = {"model": decision.model, "refusals": refusals}
    if critical:
        codes = [finding.code for finding in critical]
        firsts = [finding.text for place, finding in enumerate(critical) if finding.code not in codes[:place]]
        told = " ".join(firsts[:3])  # a truncated file may lack hundreds of tensors
        return InvalidModel(
            f"{decision.model} is not a sound model: {told}",
            "`anyform show` lists all findings.",
            findings=codes,
            **about,
        )
    told_best = foremost(decision)
    if told_best is not None and told_best.gate == "rule":
        said = f"{told_best.refusal}, and nothing of that name reads {decision.model}."
        return NoBackend(said, "`anyform plugins` shows what is installed.", **about)
    if told_best is None or told_best.gate == "format":
        said = next((finding.text for finding in findings), "`anyform plugins` shows what is installed.")
        return NoBackend(f"no installed backend reads {decision.model}.", said, **about)
    if told_best.gate == "settings":
        return unfit[told_best.plugin]
    return _by_gate(decision.model, told_best, called(told_best, decision.verdicts), about)


def _by_gate(model: str, verdict: Verdict, name: str, about: Mapping[str, Any]) -> Fault:
    said = f"{model} cannot run on {name}: {verdict.refusal}."
    if verdict.gate == "engine" and "not installed" in verdict.refusal:
        return EngineMissing(
            f"{model} needs an engine that is not installed.", f"Install it with: {verdict.install}", **about
        )
    if verdict.gate == "memory":
        needs, _, advice = said.partition(". Try ")
        return OutOfMemory(f"{needs}.", f"Try {advice}" if advice else "", **about)
    if verdict.gate == "task":
        return Unsupported(said, "`anyform show` says what the model can do.", **about)
    return NoBackend(said, f"`anyform explain {model}` shows every backend with its reason.", **about)
