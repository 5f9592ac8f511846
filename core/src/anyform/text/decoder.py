"""What a decode loop needs of an engine: tokens of many sequences in, rows of logits out; and whether it is right.

Each sequence has a slot, which keeps its keys and values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import numpy as np

from anyform.contract.errors import LoadFailed
from anyform.text.sampling import Floats

PROBE = (3, 5, 1, 7, 2, 6, 4)
"""Tokens that every model has, to try it with."""

_KEPT = 3
"""Of them, in a slot before more are read."""


class Decoder(Protocol):
    """What the decode loop needs. Slots are numbered from 0; only one thread may call it."""

    slots: int
    fewest: int
    """Tokens of a prompt that are read together at the least."""
    batched: bool
    """Whether `copy` works and a slot may be cut anywhere."""
    together: bool
    """Whether `read_all` works."""

    def read(self, slot: int, start: int, tokens: Sequence[int], *, every: bool) -> Floats:
        """Read *tokens* of a prompt at positions from *start*; the logits of the last, or of *every* one."""

    def read_all(self, slots: Sequence[int], starts: Sequence[int], prompts: Sequence[Sequence[int]]) -> Floats:
        """`read` for each of *slots*, ascending, in one pass; the logits of each one's last token."""

    def step(self, slots: Sequence[int], tokens: Sequence[int], positions: Sequence[int]) -> Floats:
        """One token for each of *slots*, ascending; a row of logits for each."""

    def copy(self, source: int, target: int, count: int) -> None:
        """Give *target* the first *count* positions of *source*."""

    def free(self) -> None:
        """Give the weights and the memory back."""


AnyDecoder = TypeVar("AnyDecoder", bound=Decoder)


def first_sound(
    makers: Sequence[Callable[[], AnyDecoder]],
    sound: Callable[[AnyDecoder], bool],
    troubles: tuple[type[Exception], ...],
) -> AnyDecoder:
    """The first of the decoders that *sound* finds to compute what its model does. Raises LoadFailed.

    *troubles*: what the engine raises where a decoder is not for this model.
    """
    trouble: Exception | None = None
    for make in makers:
        decoder = make()
        try:
            if sound(decoder):
                return decoder
        except troubles as error:
            if isinstance(error, MemoryError) or "memory" in str(error).lower():
                raise
            trouble = error
        decoder.free()
    raise LoadFailed(
        "the model gives other numbers with its cache than without.", "It cannot be run token by token."
    ) from trouble


def computes(decoder: Decoder, expected: Floats, tolerance: float) -> bool:
    """Whether PROBE gives *expected*, a row for each of its tokens, in the last slot: whole, in pieces, and by steps.

    Says so of two prompts at once, too, and turns `together` off where they do not. Leaves nothing behind that matters.
    """
    slot, half = decoder.slots - 1, len(PROBE) - 2
    rows = [*decoder.read(slot, 0, PROBE[:half], every=True)]
    rows += [decoder.step([slot], [PROBE[at]], [at])[0] for at in range(half, len(PROBE))]
    decoder.read(slot, 0, PROBE[:_KEPT], every=False)
    behind = [
        decoder.read(slot, _KEPT, PROBE[_KEPT:half], every=False)[-1],
        decoder.step([slot], [PROBE[half]], [half])[0],
    ]
    if decoder.together and slot:
        both = decoder.read_all([slot - 1, slot], [0, 0], [PROBE, PROBE[:half]])
        decoder.together = near(both, expected[[-1, half - 1]], tolerance) and _goes_on(decoder, expected, tolerance)
    return near(np.stack([*rows, *behind]), expected[[*range(len(PROBE)), half - 1, half]], tolerance)


def _goes_on(decoder: Decoder, expected: Floats, tolerance: float) -> bool:
    """Whether `read_all` gives *expected* behind what two slots keep, of which one has less."""
    one, other, less = decoder.slots - 2, decoder.slots - 1, _KEPT - 2
    decoder.read(one, 0, PROBE[:_KEPT], every=False)
    decoder.read(other, 0, PROBE[:less], every=False)
    both = decoder.read_all([one, other], [_KEPT, less], [PROBE[_KEPT:], PROBE[less:-2]])
    return near(both, expected[[-1, -3]], tolerance)


def near(found: Floats, expected: Floats, tolerance: float) -> bool:
    """Whether logits are the same but for *tolerance*, a share of their spread."""
    spread = float(expected.max() - expected.min()) or 1.0
    return bool(np.abs(found - expected).max() <= tolerance * spread)
