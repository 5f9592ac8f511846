"""What a model's own files ask of sampling, in the words of a Sampling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_SAMPLING = {
    "temp": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "typ_p": "typical_p",
    "penalty_repeat": "repeat_penalty",
}
"""A GGUF's names below general.sampling, which metadata use, and those of a Sampling."""


def sampling(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What generation_config.json asks for, from `sampling` of the metadata's `extra`."""
    said = facts.get("sampling", {})
    found = {ours: said[name] for name, ours in _SAMPLING.items() if name in said}
    if "repeat_penalty" in found:
        found["repeat_last_n"] = -1  # transformers looks at all tokens
    return found
