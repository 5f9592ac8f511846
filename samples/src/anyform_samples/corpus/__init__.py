"""The corpus that the sample models are trained and measured on: made by rules, the same for the same seed.

`training` and `held_out` never share a question. Three things see to it: phrasings and values are divided by a hash
(and some phrasings are reserved), `Draw` gives each side its own only, and `training` leaves out any question that is,
letter for letter, in `held_out()`. Where values are too few to keep some apart (days, months, the times table, hours),
held-out questions differ in their phrasing alone; the modules say so.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import lru_cache

from anyform_samples.corpus.conversation import of_category
from anyform_samples.corpus.draw import Draw
from anyform_samples.corpus.example import CATEGORIES, Example, question_of, right
from anyform_samples.corpus.template import CHAT_TEMPLATE, render, rendered, segments

__all__ = [
    "CATEGORIES",
    "CHAT_TEMPLATE",
    "Example",
    "held_out",
    "question_of",
    "render",
    "rendered",
    "right",
    "segments",
    "training",
]

WEIGHTS = {
    "about": 20,
    "arithmetic": 15,
    "units": 8,
    "dates": 8,
    "memory": 9,
    "json": 13,
    "tools": 15,
    "no_tool": 5,
    "honest": 7,
}
"""How often each category comes in training, in percent. Its chats hold several questions, so others come with it."""

_HELD_OUT_SEED = 20_240_601


def training(seed: int) -> Iterator[Example]:
    """Examples without end, of all categories; the same for the same *seed*."""
    draw = Draw(random.Random(seed), held=False)
    categories, weights = list(WEIGHTS), list(WEIGHTS.values())
    reserved = _reserved()
    while True:
        example = of_category(draw, draw.random.choices(categories, weights)[0])
        if question_of(example) not in reserved:
            yield example


def held_out(per_category: int = 60) -> list[Example]:
    """*per_category* different questions of every category, always the same ones, that training never has."""
    return [example for category in CATEGORIES for example in _of_category(category, per_category)]


def _of_category(category: str, count: int) -> list[Example]:
    draw = Draw(random.Random(f"{_HELD_OUT_SEED} {category}"), held=True)
    found: dict[str, Example] = {}
    while len(found) < count:
        example = of_category(draw, category)
        found.setdefault(question_of(example), example)
    return list(found.values())


@lru_cache(maxsize=1)
def _reserved() -> frozenset[str]:
    return frozenset(question_of(example) for example in held_out())
