"""The load options of the llama.cpp backend: what they are called, what they may be, and their defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from anyform.contract.errors import Invalid

CACHE_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "iq4_nl": 20, "bf16": 30}
"""Names of ggml_type (ggml.h) that llama.cpp allows for the KV cache."""
POOLINGS = {"mean": 1, "cls": 2, "last": 3, "rank": 4}
"""llama_pooling_type (llama.h)."""

MOST_THREADS = 512
"""GGML_MAX_N_THREADS (ggml.h): more end the process."""


@dataclass(frozen=True, slots=True)
class Lora:
    """An adapter file and how strongly it counts."""

    path: str
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Options:
    """What `Settings.options` may hold. None: decided at load."""

    gpu_layers: int | None = None
    """Layers on the accelerator; -1: all. Default: all if the plan has an accelerator, else 0."""
    use_extra_bufts: bool = True
    """Repack weights for this CPU; false avoids a crash of llama.cpp on CPUs with AMX tiles."""
    threads: int | None = None
    """For single tokens. Default: the physical cores that this process may use; 1 for models under 16 MiB."""
    threads_batch: int | None = None
    """For prompts and batches. Default: `threads`."""
    batch: int = 2048
    """Most tokens in one step."""
    ubatch: int = 512
    """Most tokens computed together."""
    lora: tuple[Lora, ...] = ()
    """Adapters: a path, or a list of {path, scale}."""
    mmap: bool = True
    mlock: bool = False
    flash_attention: bool | None = None
    """None: llama.cpp decides, save where `exact` needs it off."""
    exact: bool | None = None
    """Compute so that results hang as little as can be on what else runs: each prompt by itself, no single row, and
    without flash attention, which sums in half precision on a CPU. Default: for models under 16 MiB."""
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"
    swa_full: bool = False
    """Keep all of a sliding-window cache, so that a shared prefix can be reused; needs more memory."""
    rope_freq_base: float = 0.0
    """0: from the model."""
    rope_freq_scale: float = 0.0
    """0: from the model."""
    mmproj: str = ""
    """The file that reads pictures. Default: the one beside the model; "none": do not load it."""
    offload_kqv: bool = True
    """Keep the KV cache on the accelerator."""
    pooling: str = ""
    """For embedding models whose file does not say: mean, cls, last or rank."""
    text_interval: float = 0.05
    """Seconds that a token may be held back so that it travels with the next ones; 0: each leaves at once."""


def read(given: Mapping[str, Any]) -> Options:
    """Check *given*. Raises Invalid that names the option, its value and what it may be."""
    known = {field.name for field in fields(Options)}
    for name in given:
        if name not in known:
            raise Invalid(f"unknown load option {name!r}.", f"Known are {', '.join(sorted(known))}.", option=name)
    return Options(**{name: _CHECKS[name](name, value) for name, value in given.items() if value is not None})


def _wrong(name: str, value: object, wanted: str) -> Invalid:
    return Invalid(f"load option {name} is {value!r}.", f"It must be {wanted}.", option=name)


def _whole(least: int, most: int | None = None) -> Callable[[str, Any], int]:
    def check(name: str, value: Any) -> int:
        number = int(value) if isinstance(value, str) and value.lstrip("-").isdigit() else value
        if isinstance(number, bool) or not isinstance(number, int) or number < least:
            raise _wrong(name, value, f"a whole number, {least} or more")
        if most is not None and number > most:
            raise _wrong(name, value, f"a whole number, {least} to {most}")
        return number

    return check


def _truth(name: str, value: Any) -> bool:
    words = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}
    if isinstance(value, bool):
        return value
    if str(value).lower() not in words:
        raise _wrong(name, value, "true or false")
    return words[str(value).lower()]


def _truth_or_auto(name: str, value: Any) -> bool | None:
    return None if value == "auto" else _truth(name, value)


def _number(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if not 0.0 <= number < float("inf"):
        raise _wrong(name, value, "a number, 0 or more")
    return number


def _one_of(choices: Mapping[str, int]) -> Callable[[str, Any], str]:
    def check(name: str, value: Any) -> str:
        if value not in choices:
            raise _wrong(name, value, f"one of {', '.join(choices)}")
        return str(value)

    return check


def _mmproj(name: str, value: Any) -> str:
    return str(value) if value == "none" else _file(name, value)


def _file(name: str, value: Any) -> str:
    if not isinstance(value, str | Path) or not Path(value).is_file():
        raise _wrong(name, value, "the path of a file that exists")
    return str(value)


def _lora(name: str, value: Any) -> tuple[Lora, ...]:
    parts = value if isinstance(value, list | tuple) else [value]
    return tuple(_one_lora(name, part) for part in parts)


def _one_lora(name: str, part: Any) -> Lora:
    if isinstance(part, str | Path):
        return Lora(_file(name, part))
    if not isinstance(part, Mapping) or "path" not in part or set(part) - {"path", "scale"}:
        raise _wrong(name, part, "a path, or a list of {path, scale}")
    scale = part.get("scale", 1.0)
    if isinstance(scale, bool) or not isinstance(scale, int | float):
        raise _wrong(name, part, "a list of {path, scale} with a number for scale")
    return Lora(_file(name, part["path"]), float(scale))


_CHECKS: Mapping[str, Callable[[str, Any], Any]] = {
    "gpu_layers": _whole(-1),
    "use_extra_bufts": _truth,
    "threads": _whole(1, MOST_THREADS),
    "threads_batch": _whole(1, MOST_THREADS),
    "batch": _whole(1),
    "ubatch": _whole(1),
    "lora": _lora,
    "mmap": _truth,
    "mlock": _truth,
    "flash_attention": _truth_or_auto,
    "exact": _truth,
    "cache_type_k": _one_of(CACHE_TYPES),
    "cache_type_v": _one_of(CACHE_TYPES),
    "swa_full": _truth,
    "rope_freq_base": _number,
    "rope_freq_scale": _number,
    "mmproj": _mmproj,
    "offload_kqv": _truth,
    "pooling": _one_of(POOLINGS),
    "text_interval": _number,
}
