"""Slots: which sequence of the KV memory a new answer takes, so that most of its prompt is there already. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any


@dataclass(frozen=True, slots=True)
class Media:
    """A picture in a prompt: tokens `start` to `end` stand for it; they may take fewer positions than tokens."""

    start: int
    end: int
    positions: int
    chunk: Any = None
    """What the projector reads it from."""


@dataclass(slots=True)
class Slot:
    """One sequence of the KV memory, and the tokens that lie in it."""

    id: int
    tokens: list[int] = field(default_factory=list)
    """What lies in its memory, in order; empty while it is busy. Tokens below 0 stand for pictures."""
    media: tuple[Media, ...] = ()
    busy: bool = False
    used: int = 0
    """When it was last released, as a count; 0: never."""


def stand_in(digest: bytes, offset: int, place: int = 0) -> int:
    """What stands in a prompt for token *offset* of a picture: below 0, and another for another content.

    *digest*: of the content. *place*: which of several that share it.
    """
    return -1 - (((int.from_bytes(digest[:8], "little") + (place << 64)) << 24) + offset)


def position(index: int, media: Sequence[Media]) -> int:
    """The position that token *index* has in the sequence."""
    return index - sum(part.end - part.start - part.positions for part in media if part.end <= index)


def shared(left: Sequence[int], right: Sequence[int]) -> int:
    """Length of the common prefix. Compares slices, so that long prompts cost microseconds."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def whole(length: int, media: Sequence[Media]) -> int:
    """*length*, or the start of the picture that it would cut."""
    return next((part.start for part in media if part.start < length < part.end), length)


def choose(slots: Iterable[Slot], prompt: Sequence[int]) -> tuple[Slot, int] | None:
    """The idle slot with the longest common prefix, and its length; None if all are busy.

    A prefix of one token or under a tenth of the prompt is not worth another conversation's memory: then an
    unused slot is taken, else the one that was released longest ago.
    """
    idle = [slot for slot in slots if not slot.busy]
    if not idle:
        return None
    best, length = max(((slot, shared(slot.tokens, prompt)) for slot in idle), key=lambda found: found[1])
    if length > 1 and length * 10 >= len(prompt):
        return best, length
    oldest = min(idle, key=lambda slot: (bool(slot.tokens), slot.used, slot.id))
    return oldest, shared(oldest.tokens, prompt)


def gaps(taken: Sequence[int], widest: int) -> list[int]:
    """Ids between the ascending *taken* ids that must be filled to close each hole of at most *widest* ids."""
    filled: list[int] = []
    for left, right in pairwise(taken):
        if right - left - 1 <= widest:
            filled.extend(range(left + 1, right))
    return filled


def share_out(wanted: Sequence[int], budget: int) -> list[int]:
    """Divide *budget* among *wanted* amounts, of which the first has waited longest.

    It gets half, so that it is never starved; the other half serves those with the least left, so that they finish one
    after another instead of all late together; what they leave goes to the first as well.
    """
    if not wanted:
        return []
    given = [min(wanted[0], (budget + 1) // 2)] + [0] * (len(wanted) - 1)
    left = budget - given[0]
    for place in sorted(range(1, len(wanted)), key=lambda place: wanted[place]):
        given[place] = min(wanted[place], left)
        left -= given[place]
    given[0] += min(wanted[0] - given[0], left)
    return given
