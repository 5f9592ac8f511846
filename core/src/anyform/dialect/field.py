"""Short words for the fields of a table."""

from __future__ import annotations

from typing import Any

from anyform.dialect.table import Field


def heeded(name: str, note: str = "", example: Any = None, wrong: Any = None, **beside: Any) -> Field:
    """One that does what its documentation says, or what *note* does."""
    return Field(name=name, treatment="heeded", note=note, example=example, wrong=wrong, beside=tuple(beside.items()))


def ignored(name: str, note: str = "", example: Any = None, wrong: Any = None, **beside: Any) -> Field:
    """One that changes nothing; *note*: why."""
    return Field(name=name, treatment="ignored", note=note, example=example, wrong=wrong, beside=tuple(beside.items()))


def refused(name: str, note: str, example: Any) -> Field:
    """One with which a request is refused; *note*: what to do instead."""
    return Field(name=name, treatment="refused", note=note, example=example)
