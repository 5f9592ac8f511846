"""What the plan says of sampling and pooling, in the words of the text toolkit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anyform.contract.errors import LoadFailed, Unsupported
from anyform.contract.facts import Plan

_SAMPLING = {
    "temp": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "typ_p": "typical_p",
    "penalty_repeat": "repeat_penalty",
}
"""A GGUF's names below general.sampling, which metadata use, and those of a Sampling."""
_MODULES = ("Transformer", "Pooling", "Normalize")
POOLINGS = ("cls", "mean", "max", "last")


def sampling(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What generation_config.json asks for, from the metadata's `extra`."""
    said = facts.get("sampling", {})
    found = {ours: said[name] for name, ours in _SAMPLING.items() if name in said}
    if "repeat_penalty" in found:
        found["repeat_last_n"] = -1  # transformers looks at all tokens
    return found


def pooling(plan: Plan, asked: str) -> str:
    """cls, mean, max or last: as *asked*, else as the folder says, else empty. Raises Unsupported, LoadFailed."""
    strange = next((kind for kind in _modules(plan) if kind not in _MODULES), None)
    if strange is not None:
        raise Unsupported(
            f"{plan.model} has a module {strange!r} of sentence-transformers, which this backend does not run.",
            f"It runs {', '.join(_MODULES)}.",
        )
    kind = asked or str(plan.metadata.extra.get("pooling", ""))
    if kind and kind not in POOLINGS:
        raise Unsupported(
            f"{plan.model} pools by {kind}, which this backend does not.", f"It pools by one of {', '.join(POOLINGS)}."
        )
    return kind


def _modules(plan: Plan) -> list[str]:
    """The kinds of sentence-transformers' modules, in their order."""
    listing = next((name for name in plan.match.files if Path(name).name == "modules.json"), None)
    if listing is None:
        return []
    try:
        said = json.loads((Path(plan.path) / listing).read_text(encoding="utf-8"))
        return [str(one["type"]).rpartition(".")[2] for one in said]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise LoadFailed(f"{listing} of {plan.model} cannot be read: {error}.", "Get the model again.") from error
