"""Contexts by the names of models that do not say theirs, from a data file that a user's own goes over."""

from __future__ import annotations

import tomllib
from pathlib import Path

from anyform.contract.errors import Invalid

OWN = Path(__file__).with_name("contexts.toml")


def contexts(*files: Path) -> dict[str, int]:
    """Pattern (fnmatch, lower case) -> tokens: those of *files*, then anyform's own; the first that matches counts.

    A file that is not there is no error. Raises Invalid for one that cannot be read.
    """
    found: dict[str, int] = {}
    for file in (*files, OWN):
        for pattern, tokens in _read(file).items() if file is OWN or file.exists() else ():
            found.setdefault(pattern, tokens)
    return found


def _read(file: Path) -> dict[str, int]:
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8")).get("contexts", {})
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Invalid(f"{file} cannot be read: {error}.", "Correct it, or remove it.") from error
    wrong = None if isinstance(table, dict) else f"contexts = {table!r}"
    for pattern, tokens in table.items() if isinstance(table, dict) else ():
        if isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 1:
            wrong = f"{pattern!r} = {tokens!r}"
    if wrong is not None:
        example = '"*my-model*" = 8192'
        raise Invalid(
            f"{file} says {wrong}.", f"Under [contexts] give each pattern a number of tokens, 1 or more: {example}."
        )
    return {pattern.lower(): tokens for pattern, tokens in table.items()}
