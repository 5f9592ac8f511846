"""Repositories to begin with, from data files: anyform's own, which its reader may replace, and those of backends."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from anyform.contract.errors import Invalid
from anyform.contract.facts import fact
from anyform.kernel.choice import EngineState

OWN = Path(__file__).with_name("suggestions.toml")
GB = 1_000_000_000


@fact
class Suggestion:
    """One model to pull."""

    name: str
    """What to pull."""
    tasks: tuple[str, ...] = ()
    size_bytes: int = 0
    """About; 0: unknown."""
    why: str = ""
    backend: str = ""
    """The backend that suggests it for this machine; empty: nobody in particular."""
    format: str = ""
    """What its files are, as backends name what they read; empty: it is not said."""


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


def gathered(
    engines: Iterable[EngineState], file: Path | None = None, task: str = "", most_bytes: int | None = None
) -> tuple[list[Suggestion], list[str]]:
    """`suggestions` of *file*, and those of every backend that can be used here, each name once: first those that a
    backend suggests, last those that nothing usable here reads, the smallest first of each.

    Beside them, in words, whose are left out, and why: a file that cannot be read costs only its own. Raises Invalid
    for *file*.
    """
    engines, troubles = tuple(engines), []
    found = suggestions(file, task, most_bytes)
    for engine in engines:
        name, listed = engine.backend.name, engine.backend.suggestions
        try:
            more = suggestions(Path(listed), task, most_bytes) if listed else []
        except Invalid as bad:
            troubles.append(f"the suggestions of {name} are left out: {bad.message}")
            continue
        if more and (engine.trouble or engine.missing):
            why = engine.trouble or f"it needs {', '.join(engine.missing)}"
            troubles.append(f"{name} would suggest {len(more)} more, but cannot be used here: {why}")
            continue
        found = [replace(one, backend=name) for one in more] + found
    by_name: dict[str, Suggestion] = {}
    for one in found:
        by_name.setdefault(one.name, one)
    unread = unreadable(engines, by_name.values())
    return sorted(by_name.values(), key=lambda one: (not one.backend, one.name in unread, one.size_bytes)), troubles


def unreadable(engines: Iterable[EngineState], found: Iterable[Suggestion]) -> frozenset[str]:
    """Names of those of *found* that no backend that can be used here reads; who does not say a format is not told."""
    usable = [engine.backend for engine in engines if not (engine.trouble or engine.missing)]
    read = {name for backend in usable for name in (*backend.reads, *backend.converts)}
    return frozenset(one.name for one in found if one.format and not one.backend and one.format not in read)


def _suggestion(table: Mapping[str, Any]) -> Suggestion:
    tasks: Sequence[Any] = table.get("tasks", ())
    return Suggestion(
        name=str(table["name"]),
        tasks=tuple(str(task) for task in tasks),
        size_bytes=round(float(table.get("size_gb", 0)) * GB),
        why=str(table.get("why", "")),
        format=str(table.get("format", "")),
    )
