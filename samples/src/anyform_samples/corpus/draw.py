"""Random choices for one side of the split: phrasings and values that the other side never gets."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import TypeVar

from anyform_samples.corpus.example import kept_apart

T = TypeVar("T")

_TRIES = 2000
_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_FIELD = re.compile(r"(\{\w+\})")


class Draw:
    """Choices for training, or for the held-out split.

    A *pattern* is a phrasing with alternatives, `[How do|Can] I add {a} and {b}`, which may be nested. What it expands
    to is a phrasing; one in eight, by hash, is held out. All of a pattern that begins with `~` is.
    """

    def __init__(self, random_: random.Random, *, held: bool) -> None:
        self.random = random_
        self.held = held

    def chance(self, share: float) -> bool:
        """True in *share* of all cases."""
        return self.random.random() < share

    def one(self, options: Sequence[T]) -> T:
        """One of *options*, which both sides of the split may have."""
        return self.random.choice(options)

    def value(self, make: Callable[[], T]) -> T:
        """What *make* makes, made again until it is a value of this side."""
        for _ in range(_TRIES):
            value = make()
            if kept_apart(value) == self.held:
                return value
        raise ValueError(f"No value of this side of the split in {_TRIES} tries, such as {value!r}.")

    def phrasing(self, patterns: Sequence[str]) -> str:
        """A phrasing of this side, from any of *patterns*, with its `{fields}` still to be filled in.

        A reserved phrasing that the other patterns come to as well (`the option --json`, with and without backticks) is
        held out only if the hash holds it out.
        """
        common = [pattern for pattern in patterns if not pattern.startswith("~")]
        reserved = [pattern[1:] for pattern in patterns if pattern.startswith("~")] if self.held else []
        for _ in range(_TRIES):
            phrasing = self._expand(self.one(reserved if reserved and self.chance(0.5) else common))
            is_held = not self._may_be_trained(phrasing, common) if self.held else _is_held(bare(phrasing))
            if is_held == self.held:
                return phrasing
        raise ValueError(f"No phrasing of this side of the split in {_TRIES} tries: {common[0]!r}.")

    def _expand(self, pattern: str) -> str:
        while found := _CHOICE.search(pattern):
            choice = self.one(found[1].split("|"))
            pattern = pattern[: found.start()] + choice + pattern[found.end() :]
        return re.sub(r"  +", " ", pattern).strip()

    def question(self, patterns: Sequence[str], /, **values: object) -> str:
        """A question as somebody might type it: a phrasing, with manners, case and slips, then *values* filled in.

        What is held out is so with any manners that training might have put around it as well.
        """
        for _ in range(_TRIES):
            text = self._typed(self.phrasing(patterns))
            if not self.held or not self._may_be_trained(text, [each for each in patterns if each[0] != "~"]):
                return text.format(**values)
        raise ValueError(f"No question of this side of the split in {_TRIES} tries: {patterns[0]!r}.")

    def _may_be_trained(self, text: str, common: Sequence[str]) -> bool:
        """Whether training might have *text*, from the patterns in *common*, with manners or without."""
        reach = _reach(tuple(common))
        return any(reach.fullmatch(each) and not _is_held(each) for each in _with_fewer_manners(bare(text)))

    def _typed(self, phrasing: str) -> str:
        """*phrasing* with what people put around questions, and their slips; never within a `{field}`."""
        text = phrasing if phrasing.startswith(("{", "`")) else phrasing[0].upper() + phrasing[1:]
        if self.chance(0.2) and not phrasing.startswith(("{", "`")):
            before = self.one(_BEFORE)
            text = before + (_lower_first(phrasing) if before[-2] == "," or before[-2].isalpha() else text)
        asks = bool(_ASKS.match(bare(phrasing)))
        kind = self.random.random()
        if kind < 0.12:
            text += self.one(_AFTER) + ("?" if asks else ".")
        elif kind < 0.85 and text[-1].isalnum() | (text[-1] in "`}'"):
            text += "?" if asks else "."
        if self.chance(0.12):
            text = "".join(part if part.startswith("{") else part.lower() for part in _FIELD.split(text))
        return self._slip(text) if self.chance(0.02) else text

    def _slip(self, text: str) -> str:
        """*text* with two letters of one longer word swapped."""
        spots = [found.start() for found in re.finditer(r"(?<=[a-z])[a-z]{2}(?=[a-z])", _FIELD.sub("{0}", text))]
        if not spots or "{" in text[: spots[-1] + 3]:
            return text
        at = self.one(spots)
        return text[:at] + text[at + 1] + text[at] + text[at + 2 :]


_BEFORE = (
    "Please, ", "Hey, ", "Hi, ", "Hello, ", "Hi! ", "OK, ", "So, ", "Quick question: ", "Question: ", "Tell me: ",
)  # fmt: skip
_AFTER = (" please", ", please", " then", ", thanks", " for me")
_ASKS = re.compile(
    r"(what|whats|how|which|where|when|who|whom|whose|why|is|are|do|does|did|can|could|would|will|should|has|have|in)\b"
)


def _is_held(phrasing: str) -> bool:
    return kept_apart(phrasing, share=8)


@lru_cache(maxsize=512)
def _reach(patterns: tuple[str, ...]) -> re.Pattern[str]:
    """What the bare phrasings of *patterns* look like, or a little more: spaces may be anywhere between words."""
    special = {"[": "(?:", "|": "|", "]": ")"}
    written = ("".join(special.get(each) or re.escape(bare(each)) or " *" for each in pattern) for pattern in patterns)
    return re.compile("|".join(re.sub(r"(?: \*)+", " *", each) for each in written))


def _with_fewer_manners(text: str) -> Iterator[str]:
    """The bare *text*, and what is left of it without what training may put before and after phrasings."""
    for before in ("", *(bare(each) + " " for each in _BEFORE)):
        for after in ("", *(" " + bare(each) for each in _AFTER)):
            if text.startswith(before) and text.endswith(after):
                yield text[len(before) : len(text) - len(after)]


def bare(text: str) -> str:
    """*text* in lower case, without punctuation: what makes two phrasings the same."""
    return " ".join(re.sub(r"[^\w{}+*/=-]+", " ", text.lower()).split())


def _lower_first(text: str) -> str:
    return text if text.startswith("I ") else text[0].lower() + text[1:]
