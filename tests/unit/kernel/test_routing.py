"""Which backend runs which model on six machines, against tables in tests/golden/routing, byte for byte.

A change that is meant is written by `python tests/unit/kernel/test_routing.py`, and its difference read before it is
kept. Machines, models and engines are canned; the choice, the context, the router and the command backend are real.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from anyform.builtin import command
from anyform.contract.errors import Fault
from anyform.contract.facts import (
    BackendInfo,
    Capabilities,
    Device,
    Evidence,
    FormatMatch,
    MemoryEstimate,
    Metadata,
    Settings,
)
from anyform.contract.hooks import hookimpl
from anyform.kernel.choice import Choice, refusal
from anyform.kernel.hardware import Hardware
from anyform.kernel.learned import engine_key
from anyform.kernel.plugins import Plugins
from anyform.kernel.router import Need
from anyform.kernel.rule import Rule
from anyform.kernel.units import size
from anyform.testing import hardware
from anyform.workers.learned import Learned

GOLDEN = Path(__file__).parents[2] / "golden" / "routing"
MACHINES = {
    "laptop": hardware.LAPTOP,
    "rtx_4090": hardware.RTX_4090,
    "h200": hardware.H200,
    "m3_max": hardware.M3_MAX,
    "rk3588": hardware.RK3588,
    "two_gpu": hardware.TWO_GPU,
}
MIB, GB = 1 << 20, 10**9
INSTALLED = ("pluggy",)
"""Stands for an engine that is installed: anyform itself needs it."""
ABSENT = ("an-engine-that-nobody-installs",)
TABLE = {
    "command": sys.executable,  # which is there
    "args": ["-m", "{model_path}", "--port", "{port}"],
    "reads": ["gguf"],
    "tasks": ["chat", "complete"],
    "devices": ["cpu", "cuda"],
}


@dataclass(frozen=True)
class Model:
    """One model in all its forms: format -> bytes of weights."""

    name: str
    forms: Mapping[str, int]
    context: int | None
    shape: tuple[int, int, int] = (0, 0, 0)
    """Layers, KV heads, and the length of a head."""
    tasks: tuple[str, ...] = ("chat", "complete")
    rule: Rule = field(default_factory=Rule)


MODELS = (
    Model("qwen3-0.6b:Q4_K_M", {"gguf": 397 * MIB}, 40960, (28, 8, 128)),
    Model("llama-3.1-8b:Q4_K_M", {"gguf": 4693 * MIB}, 131072, (32, 8, 128)),
    Model(
        "llama-3.1-8b:Q4_K_M with context 131072",
        {"gguf": 4693 * MIB},
        131072,
        (32, 8, 128),
        rule=Rule(settings=Settings(context=131072, parallel=1)),
    ),
    Model(
        "llama-3.1-8b:Q4_K_M by rule",
        {"gguf": 4693 * MIB},
        131072,
        (32, 8, 128),
        rule=Rule(settings=Settings(context=8192, device="cpu"), backend="llama-server"),
    ),
    Model("qwen2.5-32b:Q4_K_M", {"gguf": 18932 * MIB}, 32768, (64, 8, 128)),
    Model("llama-3.3-70b:Q4_K_M", {"gguf": 40550 * MIB}, 131072, (80, 8, 128)),
    Model("qwen2.5-0.5b", {"safetensors": 943 * MIB}, 32768, (24, 2, 64)),
    Model("llama-3.1-8b", {"safetensors": 15317 * MIB}, 131072, (32, 8, 128)),
    Model("phi-3-mini in two forms", {"safetensors": 7288 * MIB, "onnx": 2596 * MIB}, 4096, (32, 32, 96)),
    Model("phi-4-mini for onnxruntime-genai", {"onnx_genai": 4866 * MIB}, 131072, (32, 8, 128)),
    Model(
        "phi-4-mini for onnxruntime-genai by rule",
        {"onnx_genai": 4866 * MIB},
        131072,
        (32, 8, 128),
        rule=Rule(backend="onnxruntime"),
    ),
    Model("bge-small", {"onnx": 127 * MIB}, 512, tasks=("embed",)),
    Model("bge-small in two forms", {"safetensors": 127 * MIB, "onnx": 127 * MIB}, 512, tasks=("embed",)),
    Model("qwen3-4b-w8a8", {"rkllm": 4410 * MIB}, 4096, (36, 8, 128)),
    Model("a server's folder", {"command": 1 * MIB}, 8192),
)


class Engine:
    """A plugin whose estimate is the weights, the KV cache in 16 bits, and an overhead."""

    ANYFORM_CONTRACT = 1

    def __init__(
        self, info: BackendInfo, overhead_bytes: int, factors: Mapping[str, float] | None = None, *others: BackendInfo
    ) -> None:
        """*factors*: what becomes of a format's weights once loaded. *others*: further backends of the plugin."""
        self.info, self._overhead, self._factors = info, overhead_bytes, factors or {}
        self._others = others

    @hookimpl
    def list_backends(self) -> list[BackendInfo]:
        return [self.info, *self._others]

    @hookimpl
    def estimate_memory(self, metadata: Metadata, settings: Settings) -> MemoryEstimate:
        layers, heads, length = (metadata.extra[name] for name in ("layers", "kv_heads", "key_length"))
        return MemoryEstimate(
            weights_bytes=round((metadata.weight_bytes or 0) * self._factors.get(metadata.extra["format"], 1)),
            bytes_per_token=layers * heads * 2 * length * 2,
            overhead_bytes=self._overhead,
            why="canned",
        )

    @hookimpl
    def load(self) -> None:
        raise Fault("this is a test")


def engines(machine: str) -> dict[str, Engine]:
    """The plugins that are, or will be; rkllm's engine is installed on its board alone, onnxruntime-genai not there."""
    text, more = ("chat", "complete", "embed", "rerank"), ("tools", "vision")
    rkllm, genai = (INSTALLED, ABSENT) if machine == "rk3588" else (ABSENT, INSTALLED)
    return {
        "gguf_llamacpp": Engine(
            BackendInfo(
                name="llama.cpp",
                reads=("gguf",),
                tasks=text,
                devices=("cpu", "cuda", "metal"),
                engine=INSTALLED,
                features=more,
            ),
            320 * MIB,
        ),
        "hf_transformers": Engine(
            BackendInfo(
                name="transformers",
                reads=("safetensors",),
                converts=("gguf",),
                tasks=text,
                devices=("cpu", "cuda", "metal"),
                engine=INSTALLED,
                features=more,
            ),
            900 * MIB,
            {"gguf": 3.4},
        ),
        "onnx": Engine(
            BackendInfo(
                name="onnxruntime",
                reads=("onnx", "onnx_export"),
                converts=("onnx_genai",),
                tasks=(*text, "classify", "zero_shot"),
                devices=("cpu", "cuda"),
                engine=INSTALLED,
                features=("tools",),
            ),
            300 * MIB,
            None,
            BackendInfo(
                name="onnxruntime_genai",
                reads=("onnx_genai",),
                tasks=("chat", "complete"),
                devices=("cpu", "cuda"),
                engine=genai,
                install="pip install onnxruntime-genai",
                features=("tools",),
            ),
        ),
        "rkllm": Engine(
            BackendInfo(
                name="rkllm",
                reads=("rkllm",),
                tasks=("chat",),
                devices=("rknpu",),
                engine=rkllm,
                install="see the page of the rkllm plugin",
            ),
            200 * MIB,
        ),
    }


def learned(machine: str, plugins: Mapping[str, Engine]) -> Learned:
    """Every engine is proven, with the devices that the machine has, but for ONNX Runtime."""
    known = Learned(None)
    kinds = {device.kind for device in MACHINES[machine]}
    for name, engine in plugins.items():
        if name != "onnx":
            has = tuple(kind for kind in engine.info.devices if kind in kinds)
            found = Capabilities(
                engine_version="1", devices=has, features=engine.info.features, spills=name == "gguf_llamacpp"
            )
            known.remember_probe(engine_key(name, engine.info), found)
    return known


def forms(model: Model) -> list[tuple[FormatMatch, Metadata, list[Any]]]:
    """What format plugins would say of it."""
    layers, heads, length = model.shape
    found: list[tuple[FormatMatch, Metadata, list[Any]]] = []
    for name, weights in model.forms.items():
        shape = {"layers": layers, "kv_heads": heads, "key_length": length, "value_length": length, "format": name}
        metadata = Metadata(tasks=model.tasks, context=model.context, weight_bytes=weights, extra=shape)
        match = FormatMatch(format=name, entry="m", files=("m",), evidence=Evidence.MAGIC, why="canned")
        found.append((match, metadata, []))
    return found


def page(machine: str) -> str:
    """The table of one machine."""
    found = engines(machine)
    plugins = Plugins.of({**found, "command": command})
    plugins.tables = {"command": {"llama-server": TABLE}}
    devices = sorted(MACHINES[machine], key=lambda device: (device.kind == "cpu", device.kind, device.index))
    choice = Choice(plugins, Hardware(devices=tuple(devices), fingerprint=machine), learned(machine, found), None)
    lines = [f"{machine}: {' · '.join(map(_device, devices))}"]
    for model in MODELS:
        lines += ["", *_decided(choice, model)]
    return "\n".join(lines) + "\n"


def _device(device: Device) -> str:
    return f"{device.id} {device.name}, {size(device.free_bytes)} of {size(device.total_bytes)} free"


def _decided(choice: Choice, model: Model) -> Iterator[str]:
    weights = ", ".join(f"{name} {size(count)}" for name, count in model.forms.items())
    yield f"== {model.name}: {weights}"
    settings = model.rule.settings
    need = Need(model=model.name, path="/m", device=settings.device, backend=model.rule.backend)
    decision = choice.decide(forms(model), need, settings, ())
    yield from decision.lines()
    if decision.plan is None:
        yield f"refused: {refusal(decision, [], choice.unfit)}"
        return
    on = " + ".join(device.id for device in decision.plan.devices)
    yield f"runs by {decision.runner} on {on}, {size(decision.estimate_bytes or 0)}"
    yield f"context {decision.context}, {decision.plan.settings.parallel} at once: {decision.context_why}"
    for note in (decision.context_warning, *decision.notes):
        if note:
            yield f"note: {note}"


@pytest.mark.parametrize("machine", MACHINES)
def test_the_decisions_are_the_golden_ones(machine: str) -> None:
    assert page(machine).encode() == (GOLDEN / f"{machine}.txt").read_bytes()


def test_every_golden_file_has_a_machine() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(MACHINES)


@pytest.mark.parametrize("machine", MACHINES)
def test_two_looks_decide_alike(machine: str) -> None:
    assert page(machine) == page(machine)


if __name__ == "__main__":
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for name in MACHINES:
        (GOLDEN / f"{name}.txt").write_bytes(page(name).encode())
