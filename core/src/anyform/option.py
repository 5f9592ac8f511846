"""Reads load options for plugins: what a user wrote, as a backend wants it. Imports the contract alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from typing import Any, TypeVar

from anyform.contract.errors import Invalid

Check = Callable[[str, Any], Any]
"""(name, what was given) -> what is meant. Raises Invalid."""
T = TypeVar("T")

NUMBER = re.compile(r"-?[0-9]{1,18}")
TRUTHS: Mapping[str, bool] = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}


def read(given: Mapping[str, Any], kind: type[T], checks: Mapping[str, Check]) -> T:
    """The dataclass *kind*, with its defaults where an option is absent or None.

    Raises Invalid that names the option, its value and what it may be.
    """
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    for name in given:
        if name not in known:
            raise Invalid(f"unknown load option {name!r}.", f"Known are {', '.join(sorted(known))}.", option=name)
    return kind(**{name: checks[name](name, value) for name, value in given.items() if value is not None})


def wrong(name: str, value: object, wanted: str) -> Invalid:
    """The fault for a value that is none. *wanted*: what it must be, in words."""
    return Invalid(f"load option {name} is {value!r}.", f"It must be {wanted}.", option=name)


def whole(least: int, most: int | None = None) -> Callable[[str, Any], int]:
    """A whole number, also as text."""

    def check(name: str, value: Any) -> int:
        number = int(value) if isinstance(value, str) and NUMBER.fullmatch(value) else value
        if isinstance(number, bool) or not isinstance(number, int) or number < least:
            raise wrong(name, value, f"a whole number, {least} or more")
        if most is not None and number > most:
            raise wrong(name, value, f"a whole number, {least} to {most}")
        return number

    return check


def truth(name: str, value: Any) -> bool:
    """True or false, also as the words of a command line."""
    said = str(value).lower()
    if said not in TRUTHS:
        raise wrong(name, value, "true or false")
    return TRUTHS[said]


def amount(name: str, value: Any) -> float:
    """A number that is not negative, and has an end."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if not 0.0 <= number < float("inf"):
        raise wrong(name, value, "a number, 0 or more")
    return number


def one_of(choices: Iterable[str]) -> Callable[[str, Any], str]:
    """One of these words."""
    known = tuple(choices)

    def check(name: str, value: Any) -> str:
        if value not in known:
            raise wrong(name, value, f"one of {', '.join(known)}")
        return str(value)

    return check
