# ruff: noqa: E501
"""The router by tables: gates in their order, points with reasons, ties, preference."""

from __future__ import annotations

from dataclasses import replace

import pytest

from anyform.contract.facts import (
    BackendInfo,
    Capabilities,
    Device,
    Evidence,
    Finding,
    FormatMatch,
    MemoryEstimate,
    Metadata,
    Settings,
    Severity,
)
from anyform.kernel.advice import Advice
from anyform.kernel.context import Context
from anyform.kernel.router import Candidate, Need, judge, rank

GIB = 1 << 30
MATCH = FormatMatch(format="gguf", entry="m.gguf", files=("m.gguf",), evidence=Evidence.MAGIC, why="magic")
MODEL = Metadata(tasks=("chat", "complete"), context=8192)
NEED = Need(model="m", path="/models/m", task="chat")
GPU = Device(kind="cuda", name="RTX 4090", total_bytes=24 * GIB, free_bytes=22 * GIB)
LLAMA = Candidate(
    plugin="gguf_llamacpp",
    backend=BackendInfo(name="llamacpp", reads=("gguf",), tasks=("chat", "complete"), engine=("llama-cpp-python",)),
    capabilities=Capabilities(engine_version="1", devices=("cuda", "cpu")),
    estimate=MemoryEstimate(weights_bytes=GIB),
    context=Context(tokens=8192, why="trained"),
    device=GPU,
    settings=Settings(context=8192, parallel=1),
)
HF = replace(
    LLAMA,
    plugin="hf_transformers",
    backend=BackendInfo(name="transformers", reads=("safetensors",), converts=("gguf",), tasks=("chat", "complete")),
    estimate=MemoryEstimate(weights_bytes=3 * GIB),
)
UNFIT = Context(tokens=9, why="asked", fits=False)
SMALLER = Advice(text="--context 4", saves_bytes=GIB, enough=True)
NPU = replace(LLAMA, plugin="rkllm", backend=BackendInfo(name="rkllm", reads=("rkllm",), tasks=("chat",)))


def test_the_designs_own_example() -> None:
    decision = rank([(MATCH, MODEL, [], c) for c in (NPU, HF, LLAMA)], NEED)
    assert decision.lines() == [
        "1 gguf_llamacpp    100  native format +40 · cuda:0 RTX 4090 +30 · 1.0 GiB of 22.0 GiB +20 · chat, complete +10",
        "2 hf_transformers   75  converts on load +15 · cuda:0 RTX 4090 +30 · 3.0 GiB of 22.0 GiB +20 · chat, complete +10",
        "- rkllm              -  reads rkllm, not gguf",
    ]
    assert decision.plan is not None
    assert decision.plan.plugin == "gguf_llamacpp"
    assert [plan.plugin for plan in decision.plans] == ["gguf_llamacpp", "hf_transformers"]


@pytest.mark.parametrize(
    ("change", "gate", "words"),
    [
        ({"backend": replace(LLAMA.backend, reads=("onnx",))}, "format", "reads onnx, not gguf"),
        ({"backend": replace(LLAMA.backend, tasks=("embed",))}, "task", "does embed, not chat"),
        ({"broken": "it raised"}, "sound", "its plugin is broken: it raised"),
        ({"missing": ("llama-cpp-python",)}, "engine", "llama-cpp-python is not installed"),
        ({"unusable": "no libcuda"}, "engine", "no libcuda"),
        ({"device": None}, "device", "no such device here"),
        ({"context": UNFIT, "advice": (SMALLER,)}, "memory", "Try --context 4: 1.0 GiB less"),
        ({"context": UNFIT}, "memory", "smaller quantization"),
    ],
)
def test_each_gate_refuses_in_words(change: dict[str, object], gate: str, words: str) -> None:
    verdict = judge(MATCH, MODEL, [], replace(LLAMA, **change), NEED)  # type: ignore[arg-type]
    assert verdict.points is None
    assert (verdict.gate, words in verdict.refusal) == (gate, True), verdict.refusal


def test_a_critical_finding_and_a_ban_refuse() -> None:
    finding = Finding(code="gguf.truncated", severity=Severity.CRITICAL, text="It ends early.")
    assert judge(MATCH, MODEL, [finding], LLAMA, NEED).gate == "sound_model"
    assert judge(MATCH, MODEL, [replace(finding, severity=Severity.WARNING)], LLAMA, NEED).points == 100
    assert judge(MATCH, MODEL, [], LLAMA, replace(NEED, forbid=("gguf_llamacpp",))).gate == "forbidden"


def test_a_task_that_the_model_lacks_is_told_before_memory() -> None:
    verdict = judge(MATCH, MODEL, [], replace(LLAMA, device=None), replace(NEED, task="embed"))
    assert verdict.refusal == "m does chat, complete, not embed"


def test_preference_comes_before_points_and_ties_go_by_name() -> None:
    pairs = [(MATCH, MODEL, [], c) for c in (LLAMA, HF)]
    assert rank(pairs, NEED, ["hf_transformers"]).verdicts[0].plugin == "hf_transformers"
    twins = [(MATCH, MODEL, [], replace(LLAMA, plugin=name)) for name in ("b", "a")]
    assert [verdict.plugin for verdict in rank(twins, NEED).verdicts] == ["a", "b"]


def test_what_has_no_context_is_told_without_one() -> None:
    wide = replace(LLAMA, estimate=MemoryEstimate(weights_bytes=30 * GIB), settings=Settings(parallel=4),
                   context=Context(tokens=None, why="", fits=False))  # fmt: skip
    refusal = judge(MATCH, MODEL, [], wide, NEED).refusal
    assert refusal.startswith("needs 30.0 GiB; cuda:0 has 22.0 GiB free. Try")


@pytest.mark.parametrize(("gib", "points"), [(2, 20), (11, 20), (12, 10), (17, 10), (18, 5), (21, 5)])
def test_memory_points(gib: int, points: int) -> None:
    verdict = judge(MATCH, MODEL, [], replace(LLAMA, estimate=MemoryEstimate(weights_bytes=gib * GIB)), NEED)
    assert next(reason.points for reason in verdict.reasons if reason.code == "memory") == points


def test_an_unproven_engine_is_marked() -> None:
    verdict = judge(MATCH, MODEL, [], replace(LLAMA, capabilities=None), NEED)
    assert any("unproven" in reason.text for reason in verdict.reasons)


def test_ranking_is_pure() -> None:
    pairs = [(MATCH, MODEL, [], c) for c in (NPU, HF, LLAMA)]
    assert rank(pairs, NEED) == rank(list(reversed(pairs)), NEED)


TWO = [
    replace(
        LLAMA, plugin="command", backend=replace(LLAMA.backend, name=name), estimate=MemoryEstimate(weights_bytes=GIB)
    )
    for name in ("old-build", "recent-build")
]


def test_a_backend_that_the_rule_names_refuses_the_others() -> None:
    pairs = [(MATCH, MODEL, [], c) for c in (LLAMA, HF, NPU)]
    for name in ("hf_transformers", "transformers"):
        decision = rank(pairs, replace(NEED, backend=name))
        assert [plan.plugin for plan in decision.plans] == ["hf_transformers"]
        refused = {verdict.plugin: (verdict.gate, verdict.refusal) for verdict in decision.verdicts[1:]}
        said = ("rule", f"the rule for this model names {name}")
        assert refused == {"gguf_llamacpp": said, "rkllm": said}


def test_a_form_that_the_rule_names_refuses_the_others() -> None:
    other = replace(MATCH, format="safetensors")
    reads_both = replace(HF, backend=replace(HF.backend, converts=("gguf",)))
    decision = rank([(m, MODEL, [], reads_both) for m in (MATCH, other)], replace(NEED, format="gguf"))
    assert [plan.match.format for plan in decision.plans] == ["gguf"]
    assert decision.verdicts[1].refusal == "the rule for this model names the format gguf"


def test_backends_of_one_plugin_go_by_their_own_names() -> None:
    decision = rank([(MATCH, MODEL, [], c) for c in (*TWO, LLAMA)], NEED)
    assert [line.split()[1] for line in decision.lines()] == ["old-build", "recent-build", "gguf_llamacpp"]
    assert decision.runner == "old-build"
    preferred = rank([(MATCH, MODEL, [], c) for c in (*TWO, LLAMA)], NEED, ["recent-build", "gguf_llamacpp"])
    assert [line.split()[1] for line in preferred.lines()] == ["recent-build", "gguf_llamacpp", "old-build"]
    forbidden = judge(MATCH, MODEL, [], TWO[0], replace(NEED, forbid=("old-build",)))
    assert forbidden.gate == "forbidden"


def test_a_tie_goes_to_the_one_that_knows_its_memory_better() -> None:
    sure = replace(LLAMA, plugin="z", estimate=MemoryEstimate(weights_bytes=GIB, confidence=0.9))
    decision = rank([(MATCH, MODEL, [], c) for c in (LLAMA, sure)], NEED)
    assert [verdict.plugin for verdict in decision.verdicts] == ["z", "gguf_llamacpp"]


def test_what_lies_in_main_memory_is_told_and_planned() -> None:
    cpu = Device(kind="cpu", name="Ryzen", total_bytes=64 * GIB, free_bytes=50 * GIB)
    large = replace(LLAMA, estimate=MemoryEstimate(weights_bytes=40 * GIB), spill=cpu, room_bytes=72 * GIB)
    decision = rank([(MATCH, MODEL, [], large)], NEED)
    assert "40.0 GiB of 22.0 GiB, the rest in main memory +5" in decision.lines()[0]
    assert decision.plan is not None
    assert [device.id for device in decision.plan.devices] == ["cuda:0", "cpu"]
    refused = judge(MATCH, MODEL, [], replace(large, context=UNFIT), NEED)
    assert "cuda:0 and main memory have 72.0 GiB free" in refused.refusal
