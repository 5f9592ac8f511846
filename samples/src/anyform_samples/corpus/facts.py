"""What there is to know about anyform: the facts of `facts.toml`."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True)
class Fact:
    """One answer, and patterns of what is asked: goals after `how do I`, things after `what is`, whole questions."""

    answer: str
    goals: tuple[str, ...] = ()
    things: tuple[str, ...] = ()
    questions: tuple[str, ...] = ()


def _read() -> tuple[Fact, ...]:
    told = tomllib.loads(files(__package__).joinpath("facts.toml").read_text(encoding="utf-8"))["fact"]
    return tuple(
        Fact(each["answer"], *(tuple(each.get(kind, ())) for kind in ("goals", "things", "questions"))) for each in told
    )


FACTS = _read()
