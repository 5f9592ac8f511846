"""The load options of the two backends: what they are called, what they may be, and their defaults."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from anyform import option
from anyform.option import amount, one_of, truth, whole, wrong

POOLINGS = ("mean", "cls", "last", "max", "mean_sqrt_len", "weightedmean")
MOST_THREADS = max(64, 4 * (os.cpu_count() or 1))
"""onnxruntime starts as many as it is told, and thousands that spin leave a machine no time for anything else."""
OPTIMIZATIONS = ("none", "basic", "extended", "all")


@dataclass(frozen=True, slots=True)
class Options:
    """What `Settings.options` may hold. None or empty: decided at load."""

    providers: tuple[str, ...] = ()
    """Execution providers in the order in which they are tried, as onnxruntime or without `ExecutionProvider`:
    `cuda,cpu`. Default: `provider.chosen`."""
    provider_options: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By provider: what onnxruntime passes to it."""
    threads: int | None = None
    """intra_op_num_threads. Default: the physical cores that this process may use."""
    inter_threads: int | None = None
    """inter_op_num_threads; more than 1 runs parts of a graph beside each other."""
    spinning: bool | None = None
    """Whether threads wait for the next operator, and the next run, without sleeping. Where several models compute
    on the same cores at the same time, false made them 2 to 4 times as fast; alone, true made one a fifth faster.
    Default: false for models that read whole texts, of which several batches are computed at once; true for the
    others."""
    optimization: str = "all"
    """How far onnxruntime rewrites the graph on load: none, basic, extended or all."""
    batch: int = 512
    """Most tokens of prompts, or of texts to embed, in one step."""
    pooling: str = ""
    """How an embedding model's tokens become one vector. Default: as its folder says."""
    max_pixels: int = 50_000_000
    """Width x height that a picture of a request may have."""
    hypothesis_template: str = ""
    """The sentence that a zero-shot label takes the place of {} in."""
    logit_scale: float | None = None
    """What a cosine of CLIP's or SigLIP's vectors is multiplied with. Default: as its graph says."""
    logit_bias: float | None = None
    """What is added to that. Default: as its graph says; 0 with a logit_scale."""
    text_interval: float = 0.05
    """Seconds that a token may be held back so that it travels with the next ones; 0: each leaves at once."""


def read(given: Mapping[str, Any]) -> Options:
    """Check *given*. Raises Invalid that names the option, its value and what it may be."""
    return option.read(given, Options, _CHECKS)


def _names(name: str, value: Any) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    if (
        not isinstance(parts, list | tuple)
        or not parts
        or not all(isinstance(one, str) and one.strip() for one in parts)
    ):
        raise wrong(name, value, "names of execution providers, such as cuda,cpu")
    return tuple(one.strip() for one in parts)


def _tables(name: str, value: Any) -> Mapping[str, Mapping[str, str]]:
    if not isinstance(value, Mapping) or not all(isinstance(one, Mapping) for one in value.values()):
        raise wrong(name, value, 'a table for each provider, such as {"cuda": {"device_id": 0}}')
    return {str(key): {str(inner): str(said) for inner, said in one.items()} for key, one in value.items()}


def _template(name: str, value: Any) -> str:
    if not isinstance(value, str) or "{}" not in value:
        raise wrong(name, value, "a text with {} in it")
    return value


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise wrong(name, value, "a number")
    return float(value)


_CHECKS: Mapping[str, option.Check] = {
    "providers": _names,
    "provider_options": _tables,
    "threads": whole(1, MOST_THREADS),
    "inter_threads": whole(1, MOST_THREADS),
    "spinning": truth,
    "optimization": one_of(OPTIMIZATIONS),
    "batch": whole(1),
    "pooling": one_of(POOLINGS),
    "max_pixels": whole(1),
    "hypothesis_template": _template,
    "logit_scale": _number,
    "logit_bias": _number,
    "text_interval": amount,
}
