"""What measured peaks do to later estimates."""

from __future__ import annotations

from pathlib import Path

import pytest

from anyform.contract.facts import Device, Evidence, FormatMatch, MemoryEstimate, Metadata, Plan, Settings
from anyform.kernel.learned import memory_key, placed
from anyform.workers.calibration import Calibration

MIB = 1 << 20
SAID = MemoryEstimate(
    weights_bytes=100 * MIB, bytes_per_token=MIB // 8, overhead_bytes=50 * MIB, confidence=0.6, why="said"
)
HERE = Settings(context=800, parallel=1, device="cpu")
"""100 MiB of cache: 250 MiB in all."""
OTHER = Settings(context=1600, parallel=1, device="cpu")


def learnt(*peaks: int, settings: Settings = HERE, state: Path | None = None) -> Calibration:
    calibration = Calibration(state)
    calibration.apply("k", SAID, settings)
    for peak in peaks:
        calibration.record("k", settings, peak * MIB)
    return calibration


def test_nothing_measured_changes_nothing() -> None:
    assert Calibration(None).apply("k", SAID, HERE) is SAID


def test_the_same_settings_take_what_was_measured() -> None:
    found = learnt(270).apply("k", SAID, HERE)
    assert found.at(HERE) == 270 * MIB
    assert found.confidence >= 0.9
    assert found.why == "said; measured 1 times on this machine"
    assert (found.weights_bytes, found.bytes_per_token) == (SAID.weights_bytes, SAID.bytes_per_token)


def test_measuring_often_makes_no_engine_the_default() -> None:
    """Ties go to the surer estimate, and an engine's own formula may be 0.9 sure."""
    assert learnt(*(270,) * 9).apply("k", SAID, HERE).confidence == 0.9


def test_other_settings_are_corrected_in_their_fixed_part() -> None:
    found = learnt(270).apply("k", SAID, OTHER)
    assert found.at(OTHER) == SAID.at(OTHER) + 20 * MIB
    assert SAID.confidence < found.confidence < learnt(270).apply("k", SAID, HERE).confidence
    assert found.why.endswith("measured 1 times on this machine, with other settings")


@pytest.mark.parametrize(
    "settings",
    [
        Settings(context=800, parallel=1, device="cuda:0"),
        Settings(context=800, parallel=1, device="cpu", options={"mlock": True}),
        Settings(context=800, parallel=2, device="cpu"),
    ],
)
def test_another_device_or_option_is_another_setting(settings: Settings) -> None:
    assert "other settings" in learnt(270).apply("k", SAID, settings).why


def test_one_odd_measurement_among_several_does_not_count() -> None:
    assert learnt(270, 5000, 271, 1).apply("k", SAID, HERE).at(HERE) in (270 * MIB, 271 * MIB)


@pytest.mark.parametrize(("peak", "total"), [(100_000, 500), (201, 201), (1, 200)])
def test_corrections_are_bounded(peak: int, total: int) -> None:
    """Twice the estimate at the most; of what is less, the weights and the cache at least."""
    assert learnt(peak).apply("k", SAID, HERE).at(HERE) == total * MIB


def test_measurements_are_not_corrected_twice() -> None:
    """What is recorded after a corrected estimate still stands beside what the plugin said."""
    calibration = learnt(270)
    for _ in range(5):
        calibration.apply("k", SAID, HERE)
        calibration.record("k", HERE, 270 * MIB)
    assert calibration.apply("k", SAID, OTHER).at(OTHER) == SAID.at(OTHER) + 20 * MIB


def test_a_better_formula_of_the_same_engine_keeps_what_was_measured() -> None:
    better = MemoryEstimate(weights_bytes=100 * MIB, bytes_per_token=MIB // 8, overhead_bytes=72 * MIB)
    assert learnt(270).apply("k", better, HERE).at(HERE) == 270 * MIB


def test_what_was_never_estimated_is_not_recorded(tmp_path: Path) -> None:
    calibration = Calibration(tmp_path)
    calibration.record("k", HERE, MIB)
    learnt(0, state=tmp_path)
    assert not (tmp_path / "memory.json").exists()


def test_it_outlives_the_process_and_a_broken_file(tmp_path: Path) -> None:
    learnt(270, state=tmp_path)
    assert Calibration(tmp_path).apply("k", SAID, HERE).at(HERE) == 270 * MIB
    assert Calibration(tmp_path).apply("another", SAID, HERE) == SAID
    file = tmp_path / "memory.json"
    for broken in ('{"k": 7}', '{"k": [1, [1, 2], ["x", -1, 5], ["x", "y", 5]]}', "nonsense"):
        file.write_text(broken)
        assert Calibration(tmp_path).apply("k", SAID, HERE) == SAID


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    calibration = learnt(*[300] * 40, *[260] * 16, state=tmp_path)
    assert calibration.apply("k", SAID, HERE).at(HERE) == 260 * MIB


def test_a_key_tells_models_engines_and_machines_apart() -> None:
    model = Metadata(architecture="llama", quantization="Q8_0", parameters=7, weight_bytes=8)
    keys = {
        memory_key(engine, machine, form, facts)
        for engine in ("p/b e 1", "p/b e 2")
        for machine in ("m", "n")
        for form in ("x", "y")
        for facts in (model, Metadata(), Metadata(architecture="llama", quantization="Q8_0", parameters=9))
    }
    assert len(keys) == 24


def test_a_plan_is_placed_where_it_runs() -> None:
    match = FormatMatch(format="x", entry="m", files=("m",), evidence=Evidence.NAME, why="")
    plan = Plan(
        plugin="p", backend="b", model="m", path="/", match=match, metadata=Metadata(), settings=Settings(context=7)
    )
    assert placed(plan) == Settings(context=7)
    device = Device(kind="cuda", index=1)
    there = Plan(
        plugin="p",
        backend="b",
        model="m",
        path="/",
        match=match,
        metadata=Metadata(),
        settings=Settings(context=7),
        devices=(device,),
    )
    assert placed(there) == Settings(context=7, device="cuda:1")
