"""Repositories to begin with, from a data file that its reader may replace."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anyform.contract.errors import Invalid
from anyform.contract.facts import fact

OWN = Path(__file__).with_name("suggestions.toml")
GB = 1_000_000_000


@fact
class Suggestion:
    """One model to pull."""

    name: str
    """What to pull."""
    tasks: tuple[str, ...] = ()
    size_bytes: int = 0
    """About."""
    why: str = ""


def suggestions(file: Path | None = None, task: str = "", most_bytes: int | None = None) -> list[Suggestion]:
    """The suggestions of *file* (None: anyform's own) for *task* ("": any) up to *most_bytes*, the smallest first.

    Raises Invalid for a file that cannot be read.
    """
    file = file or OWN
    try:
        found = [_suggestion(table) for table in tomllib.loads(file.read_text(encoding="utf-8"))["model"]]
    except (
        OSError,
        tomllib.TOMLDecodeError,
        UnicodeDecodeError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
    ) as bad:
        raise Invalid(f"{file.name} is no file of suggestions: {bad}.", "See anyform's own suggestions.toml.") from None
    fitting = [one for one in found if not task or task in one.tasks]
    small = [one for one in fitting if most_bytes is None or one.size_bytes <= most_bytes]
    return sorted(small, key=lambda one: one.size_bytes)


def _suggestion(table: Mapping[str, Any]) -> Suggestion:
    tasks: Sequence[Any] = table.get("tasks", ())
    return Suggestion(
        name=str(table["name"]),
        tasks=tuple(str(task) for task in tasks),
        size_bytes=round(float(table.get("size_gb", 0)) * GB),
        why=str(table.get("why", "")),
    )
