"""Execution providers: which of those that the installed onnxruntime has are used, in which order, and for what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from anyform.contract.errors import Invalid
from anyform_onnx import wheel

SUFFIX = "ExecutionProvider"
CPU = "CPUExecutionProvider"

DEVICES: Mapping[str, tuple[str, ...]] = {
    "CUDA": ("cuda",),
    "MIGraphX": ("rocm",),
    "ROCM": ("rocm",),
    "Dml": ("cuda", "rocm", "vulkan", "directml"),
    "OpenVINO": ("cpu", "openvino"),
    "CoreML": ("metal",),
}
"""What is taken where nobody names providers, in this order, each for the kinds of devices that it computes on; the CPU
comes last, always. Not among them: TensorRT, whose engines take minutes to build; Azure, which sends what it is given
to a server; and whatever else is built for one kind of phone or board. They are taken if they are named.
"""
NUMBERED = ("CUDA", "MIGraphX", "ROCM")
"""Those that count devices as anyform does."""
WHEELS: Mapping[str, str] = {
    "CUDA": "onnxruntime-gpu",
    "Tensorrt": "onnxruntime-gpu",
    "Dml": "onnxruntime-directml",
    "OpenVINO": "onnxruntime-openvino",
    "QNN": "onnxruntime-qnn",
    "MIGraphX": "onnxruntime-migraphx",
    "ROCM": "onnxruntime-rocm",
}
"""Which distribution brings it."""
_TOLD = ("cuda", "dml", "webgpu", "nvtensorrtrtx")
"""Those that a model of onnxruntime-genai says it is on; with others, such as CoreML, it is said to be on the CPU."""
_WORDS = {"directml": "dml", "trt": "tensorrt"}
"""How people also call them."""


def devices(available: Sequence[str]) -> tuple[str, ...]:
    """Kinds of devices that *available* providers can compute on; the CPU always."""
    names = [name.removesuffix(SUFFIX) for name in available]
    return tuple(dict.fromkeys(("cpu", *(kind for name in names for kind in DEVICES.get(name, ())))))


def chosen(asked: Sequence[str], available: Sequence[str], device: str) -> tuple[str, ...]:
    """The providers to try, in order, as onnxruntime names them; the CPU is among them, for what the others lack.

    *asked*: as a user wrote them; empty: those of DEVICES that compute on *device*, a `Device.id`. Raises Invalid for
    one that is not *available*.
    """
    kind = device.partition(":")[0]
    if not asked:
        taken = [f"{name}{SUFFIX}" for name, kinds in DEVICES.items() if kind in kinds]
        return (*(name for name in taken if name in available), CPU)
    named = dict.fromkeys(_found(one, available) for one in asked)
    return (*named, CPU) if CPU not in named else tuple(named)


def check_options(given: Mapping[str, Mapping[str, str]], names: Sequence[str]) -> None:
    """Raise Invalid for options of a provider, as a user calls it, that is none of *names*, which were chosen."""
    takers = {word(name): short(name) for name in names if name != CPU}
    for one in (name for name, said in given.items() if said and word(name) not in takers):
        if word(one) == word(CPU):
            hint = "Leave them out: threads, spinning and optimization are load options themselves."
            raise Invalid(f"load option provider_options has some for {one!r}, which has none of its own.", hint)
        hint = "Name the provider in the option providers, too: else the CPU alone runs it."
        hint = f"It can be {', '.join(takers.values())}." if takers else hint
        raise Invalid(f"load option provider_options names {one!r}, which is not to run the model.", hint)


def unmet(asked: Sequence[str], available: Sequence[str], device: str) -> tuple[str, ...]:
    """A note that *device* was planned and nothing *available* computes on it; none where a user named providers."""
    kind = device.partition(":")[0]
    if asked or kind == "cpu" or chosen(asked, available, device) != (CPU,):
        return ()
    brings = next((WHEELS[name] for name, kinds in DEVICES.items() if kind in kinds and name in WHEELS), "")
    advice = f" {_instead(brings)}" if brings else ""
    has = ", ".join(map(short, available))
    return (f"{device} was planned, and the installed onnxruntime has {has} alone: the CPU runs the model.{advice}",)


def fallen(names: Sequence[str], runs_on: str) -> tuple[str, ...]:
    """A note that onnxruntime-genai *runs_on* the CPU alone, as its model tells, where *names* were chosen."""
    wanted = [short(name) for name in names if word(name) in _TOLD]
    if not wanted or runs_on.upper() != "CPU":
        return ()
    return (f"{' and '.join(wanted)} was to run the model, and onnxruntime-genai runs it on the CPU instead.",)


def _instead(wheel_name: str) -> str:
    """How to come to another wheel."""
    there = " ".join(wheel.installed("onnxruntime")) or "onnxruntime"
    return f"{wheel_name} has what lacks: `pip uninstall -y {there}`, then `pip install {wheel_name}`."


def short(name: str) -> str:
    """A provider as people say it: `CUDA`."""
    return name.removesuffix(SUFFIX)


def _found(asked: str, available: Sequence[str]) -> str:
    called = word(asked)
    for name in available:
        if word(name) == called:
            return name
    has = ", ".join(short(name) for name in available)
    brings = next((distribution for name, distribution in WHEELS.items() if word(name) == called), "")
    hint = f"It can be {has}.{f' {_instead(brings)}' if brings else ''}"
    raise Invalid(f"load option providers names {asked!r}, which the installed onnxruntime has not.", hint)


def word(name: str) -> str:
    """A provider, whoever names it, so that it can be compared: `cuda`."""
    small = name.strip().lower().removesuffix(SUFFIX.lower())
    return _WORDS.get(small, small)
