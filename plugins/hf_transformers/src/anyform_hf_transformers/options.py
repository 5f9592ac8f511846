"""The load options of the transformers backend: what they are called, what they may be, and their defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from anyform.contract.errors import Invalid

DTYPES = ("float32", "float16", "bfloat16")
ATTENTIONS = ("sdpa", "eager")
"""Those that take a mask of four dimensions, which sequences in slots need."""
POOLINGS = ("mean", "cls", "last", "max")


@dataclass(frozen=True, slots=True)
class Options:
    """What `Settings.options` may hold. None or empty: decided at load."""

    dtype: str = ""
    """Numbers to compute in. Default: those of the file on an accelerator; on a CPU float32, or bfloat16 where the file
    and the CPU have it."""
    attn_implementation: str = ""
    """sdpa or eager. Default: transformers' own choice, sdpa for most."""
    threads: int | None = None
    """Default: as many as torch takes, the physical cores; 1 where `exact`."""
    batch: int = 512
    """Most tokens of prompts, or of texts to embed, in one step."""
    exact: bool | None = None
    """Compute so that an answer does not hang on what else runs: one thread, and never fewer rows than from which on
    they come out alike. Default: for models under 32 MiB on a CPU."""
    pooling: str = ""
    """How an embedding model's tokens become one vector. Default: as its folder says."""
    trust_remote_code: bool = False
    """Run Python code that came with the model. Only for models whose code you have read."""
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


def _positive(name: str, value: Any) -> int:
    number = int(value) if isinstance(value, str) and value.isdigit() else value
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise _wrong(name, value, "a whole number, 1 or more")
    return number


def _truth(name: str, value: Any) -> bool:
    words = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}
    if str(value).lower() not in words:
        raise _wrong(name, value, "true or false")
    return words[str(value).lower()]


def _seconds(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if not 0.0 <= number < float("inf"):
        raise _wrong(name, value, "a number, 0 or more")
    return number


def _one_of(choices: Sequence[str]) -> Callable[[str, Any], str]:
    def check(name: str, value: Any) -> str:
        if value not in choices:
            raise _wrong(name, value, f"one of {', '.join(choices)}")
        return str(value)

    return check


_CHECKS: Mapping[str, Callable[[str, Any], Any]] = {
    "dtype": _one_of(DTYPES),
    "attn_implementation": _one_of(ATTENTIONS),
    "threads": _positive,
    "batch": _positive,
    "exact": _truth,
    "pooling": _one_of(POOLINGS),
    "trust_remote_code": _truth,
    "text_interval": _seconds,
}
