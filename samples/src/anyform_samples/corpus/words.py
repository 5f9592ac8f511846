"""Names and words to be copied: known ones, and ones made up of syllables, so that copying is learnt and not names."""

from __future__ import annotations

import tomllib
from importlib.resources import files

from anyform_samples.corpus.draw import Draw

_LISTS = tomllib.loads(files(__package__).joinpath("words.toml").read_text(encoding="utf-8"))


def _listed(key: str) -> tuple[str, ...]:
    return tuple(word.replace("_", " ") for word in _LISTS[key].split())


NAMES = _listed("names")
CITIES = _listed("cities")
COLOURS = _listed("colours")
THINGS = _listed("things")
TOPICS = _listed("topics")
PEOPLE = _listed("people")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip

_ONSETS = (
    "b", "c", "d", "f", "g", "h", "j", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "z",
    "br", "ch", "cl", "dr", "fl", "gr", "kr", "pl", "sh", "st", "th", "tr",
)  # fmt: skip
_VOWELS = ("a", "e", "i", "o", "u", "a", "e", "i", "o", "ai", "ea", "ie", "oo")
_CODAS = ("", "", "", "", "n", "l", "r", "s", "t", "m", "x", "nd", "rk", "lt")


def made_up(draw: Draw) -> str:
    """A word that nobody knows, of two or three syllables, in lower case."""
    syllables = range(draw.one((2, 2, 3)))
    return "".join(draw.one(_ONSETS) + draw.one(_VOWELS) + draw.one(_CODAS) for _ in syllables)


def name(draw: Draw) -> str:
    """A person's first name of this side of the split."""
    return draw.value(lambda: draw.one(NAMES) if draw.chance(0.35) else made_up(draw).capitalize())


def city(draw: Draw) -> str:
    """A city's name of this side of the split."""
    return draw.value(lambda: draw.one(CITIES) if draw.chance(0.4) else made_up(draw).capitalize())


def thing(draw: Draw) -> str:
    """A thing in the singular, in lower case, of this side of the split."""
    return draw.value(lambda: draw.one(THINGS) if draw.chance(0.5) else made_up(draw))


def colour(draw: Draw) -> str:
    """A colour, in lower case. There are too few of them to keep some apart."""
    return draw.one(COLOURS)


def number(draw: Draw, low: int, high: int) -> int:
    """A number from *low* to *high*, both included, of this side of the split."""
    return draw.value(lambda: draw.random.randint(low, high))
