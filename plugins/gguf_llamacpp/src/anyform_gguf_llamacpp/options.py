"""The load options of the llama.cpp backend: what they are called, what they may be, and their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anyform import option
from anyform.option import amount, one_of, truth, whole, wrong

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
    return option.read(given, Options, _CHECKS)


def _truth_or_auto(name: str, value: Any) -> bool | None:
    return None if value == "auto" else truth(name, value)


def _mmproj(name: str, value: Any) -> str:
    return str(value) if value == "none" else _file(name, value)


def _file(name: str, value: Any) -> str:
    if not isinstance(value, str | Path) or not Path(value).is_file():
        raise wrong(name, value, "the path of a file that exists")
    return str(value)


def _lora(name: str, value: Any) -> tuple[Lora, ...]:
    parts = value if isinstance(value, list | tuple) else [value]
    return tuple(_one_lora(name, part) for part in parts)


def _one_lora(name: str, part: Any) -> Lora:
    if isinstance(part, str | Path):
        return Lora(_file(name, part))
    if not isinstance(part, Mapping) or "path" not in part or set(part) - {"path", "scale"}:
        raise wrong(name, part, "a path, or a list of {path, scale}")
    scale = part.get("scale", 1.0)
    if isinstance(scale, bool) or not isinstance(scale, int | float):
        raise wrong(name, part, "a list of {path, scale} with a number for scale")
    return Lora(_file(name, part["path"]), float(scale))


_CHECKS: Mapping[str, option.Check] = {
    "gpu_layers": whole(-1),
    "use_extra_bufts": truth,
    "threads": whole(1, MOST_THREADS),
    "threads_batch": whole(1, MOST_THREADS),
    "batch": whole(1),
    "ubatch": whole(1),
    "lora": _lora,
    "mmap": truth,
    "mlock": truth,
    "flash_attention": _truth_or_auto,
    "exact": truth,
    "cache_type_k": one_of(CACHE_TYPES),
    "cache_type_v": one_of(CACHE_TYPES),
    "swa_full": truth,
    "rope_freq_base": amount,
    "rope_freq_scale": amount,
    "mmproj": _mmproj,
    "offload_kqv": truth,
    "pooling": one_of(POOLINGS),
    "text_interval": amount,
}
