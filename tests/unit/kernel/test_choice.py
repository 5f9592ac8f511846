"""What backends are asked before one is chosen, and what is said where nothing runs a model."""

from __future__ import annotations

from typing import Any

import pytest

from anyform.contract.errors import OutOfMemory
from anyform.contract.facts import (
    BackendInfo,
    Device,
    Evidence,
    Finding,
    FormatMatch,
    MemoryEstimate,
    Metadata,
    Saving,
    Settings,
    Severity,
)
from anyform.contract.hooks import hookimpl
from anyform.kernel.choice import Choice, refusal
from anyform.kernel.context import Sizing
from anyform.kernel.hardware import Hardware
from anyform.kernel.learned import memory_key, placed
from anyform.kernel.plugins import Plugins
from anyform.kernel.router import Decision, Need
from anyform.workers.calibration import Calibration
from anyform.workers.learned import Learned


def test_a_broken_file_is_told_of_once_for_each_kind_of_fault() -> None:
    cut = [Finding(code="truncated", severity=Severity.CRITICAL, text=f"tensor {at} is cut.") for at in range(200)]
    other = Finding(code="key", severity=Severity.CRITICAL, text="a key is missing.")
    remark = Finding(code="old", severity=Severity.WARNING, text="it is old.")
    fault = refusal(Decision(model="m", task=None, plan=None, verdicts=()), [*cut, remark, other], {})
    assert fault.message == "m is not a sound model: tensor 0 is cut. a key is missing."
    assert len(fault.details["findings"]) == 201


GIB = 1 << 30


class Sized:
    """A backend that says what it is asked with."""

    ANYFORM_CONTRACT = 1

    parallel = 4

    def __init__(self) -> None:
        self.asked: list[Settings] = []

    @hookimpl
    def list_backends(self) -> list[BackendInfo]:
        devices = ("cpu", "cuda")
        return [BackendInfo(name="sized", reads=("x",), tasks=("chat",), devices=devices, parallel=self.parallel)]

    @hookimpl
    def estimate_memory(self, metadata: Metadata, settings: Settings) -> MemoryEstimate:
        self.asked.append(settings)
        saving = Saving(options={"cache": "small"}, bytes=GIB, why="worse answers")
        twice = 2 if settings.device == "cpu" else 1
        return MemoryEstimate(
            weights_bytes=twice * GIB,
            bytes_per_token=1 << 20,
            overhead_bytes=(settings.context or 0) << 10,
            savings=(saving,),
        )


MATCH = FormatMatch(format="x", entry="m", files=("m",), evidence=Evidence.MAGIC, why="canned")
MODEL = Metadata(tasks=("chat",), context=4096)
CPU = Device(kind="cpu", total_bytes=16 * GIB, free_bytes=11 * GIB)


def decided(
    settings: Settings,
    metadata: Metadata = MODEL,
    calibration: Calibration | None = None,
    sizing: Sizing | None = None,
    **need: Any,
) -> tuple[Decision, Sized, Choice]:
    plugin = Sized()
    hardware = Hardware(devices=(CPU,), fingerprint="f")
    choice = Choice(Plugins.of({"sized": plugin}), hardware, Learned(None), None, calibration, sizing)
    wanted = Need(model="m", path="/m", device=settings.device, **need)
    return choice.decide([(MATCH, metadata, [])], wanted, settings, ()), plugin, choice


def test_the_estimate_is_of_the_device_and_the_context_that_were_chosen() -> None:
    decision, plugin, _ = decided(Settings(parallel=2))
    assert (plugin.asked[0].device, plugin.asked[0].context) == (None, None)
    assert (plugin.asked[-1].device, plugin.asked[-1].context) == ("cpu", 2048)  # 0.8 * 11 - 2 = 6.8 GiB
    assert decision.estimate_bytes == 2 * GIB + (2048 << 10) + 2 * 2048 * (1 << 20)
    assert decision.plan is not None
    assert decision.plan.settings.device is None


def test_a_backend_says_how_many_at_once_unless_the_user_does(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Metadata(tasks=("chat",), context=512)

    def at_once(settings: Settings) -> int | None:
        decision, plugin, _ = decided(settings, small)
        assert decision.plan is not None
        assert {asked.parallel for asked in plugin.asked} == {decision.plan.settings.parallel}
        return decision.plan.settings.parallel

    assert (at_once(Settings()), at_once(Settings(parallel=3))) == (4, 3)
    monkeypatch.setattr(Sized, "parallel", 1)
    assert (at_once(Settings()), at_once(Settings(parallel=3))) == (1, 3)


def test_a_measured_peak_is_told_the_next_time() -> None:
    calibration = Calibration(None)
    first, _, _ = decided(Settings(parallel=2), calibration=calibration)
    assert first.plan is not None
    assert first.estimate_bytes is not None
    peak = first.estimate_bytes + GIB // 2
    mark = memory_key("sized/sized", "f", "x", MODEL)
    calibration.record(mark, placed(first.plan), peak)
    again, _, _ = decided(Settings(parallel=2), calibration=calibration)
    assert again.estimate_bytes == peak
    assert again.verdicts[0].memory is not None
    assert "measured 1 times" in again.verdicts[0].memory.why


def test_names_tell_contexts_and_factors_count() -> None:
    silent = Metadata(tasks=("chat",), name="A Parrot")
    sizing = Sizing(patterns={"*parrot*": 1024})
    assert decided(Settings(), silent, sizing=sizing)[0].context == 1024
    assert decided(Settings(), silent, sizing=Sizing(fallback=512))[0].context == 512


def test_what_does_not_fit_is_refused_with_what_helps() -> None:
    decision, _, choice = decided(Settings(context=3072, parallel=4), variants={"m:small": 2 * GIB, "m:tiny": 6 * GIB})
    memory = decision.verdicts[0].memory
    assert memory is not None
    assert [one.text for one in memory.advice if one.enough] == ["--context 2303", "--parallel 2", "the smaller m:tiny"]
    fault = refusal(decision, [], choice.unfit)
    assert isinstance(fault, OutOfMemory)
    assert fault.message.endswith("cpu has 11.0 GiB free.")
    assert fault.hint.startswith("Try --context 2303: 3.0 GiB less; --parallel 2:")
    assert "Try --context" in decision.lines()[0]
