"""What lists say of a model beside its name: form, family, size; and what it can do."""

from __future__ import annotations

from typing import Any

from anyform.contract.errors import Fault
from anyform.contract.facts import Metadata
from anyform.dialect import Derived, Entry, Runtime
from anyform_ollama_api.identity import called

CAPABILITIES = {"tools": "tools", "fim": "insert", "vision": "vision", "audio": "audio", "thinking": "thinking"}
"""Our word for what a text model can do besides -> Ollama's."""
ASKED = {"tools": ".Tools", "insert": ".Suffix", "thinking": ".Thinking"}
"""What a template of Ollama's mentions for a model that does so; one without is what its files say."""
EYE = "clip"
"""The further family of models that see, by which older clients know them."""


def metadata(runtime: Runtime, entry: Entry) -> Metadata:
    """What the model says of itself; empty where that cannot be read, which whoever loads it is told."""
    try:
        return runtime.metadata(entry)
    except Fault:
        return Metadata()


def details(entry: Entry, said: Metadata) -> dict[str, Any]:
    """Ollama's `details`."""
    family = said.architecture or entry.match.format
    return {
        "parent_model": parent(entry),
        "format": entry.match.format,
        "family": family,
        "families": [family, EYE] if "vision" in said.features and family != EYE else [family],
        "parameter_size": amount(said.parameters) if said.parameters else "",
        "quantization_level": said.quantization or "unknown",
    }


def parent(entry: Entry) -> str:
    """The model that it was made from; empty for one that was not made."""
    if not isinstance(entry, Derived):
        return ""
    base = str(entry.recipe.about.get("parent") or entry.recipe.base)
    return called(base) if base else ""


def amount(number: int) -> str:
    """As Ollama rounds: 293K, 2.57M, 1.5B. Source: its format/format.go."""
    for unit, letter, places in ((10**9, "B", 1), (10**6, "M", 2), (10**3, "K", 0)):
        if number >= unit:
            whole = number % unit == 0
            return f"{number / unit:.{0 if whole else places}f}{letter}"
    return str(number)


def capabilities(entry: Entry, said: Metadata) -> list[str]:
    """Ollama's words for what the model does; those that it has no word for are left out."""
    tasks = set(said.tasks)
    found = ["completion"] if tasks & {"chat", "complete"} else []
    if "embed" in tasks:
        found.append("embedding")
    if "image" in tasks:
        found.append("image")
    if "completion" not in found:
        return found
    template = entry.recipe.about.get("template") if isinstance(entry, Derived) else None
    for ours, theirs in CAPABILITIES.items():
        asked = ASKED.get(theirs, "")
        there = asked in str(template) if template and asked else ours in said.features
        found += [theirs] if there else []
    return found
