"""Whether a decoder is right is tried every way in which the decode loop runs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from anyform.contract.errors import LoadFailed

np = pytest.importorskip("numpy")


def row(tokens: Sequence[int]) -> Any:
    """The logits behind *tokens*, each of which counts, and its place."""
    return np.cos(np.arange(9) * sum((place + 2) * token for place, token in enumerate(tokens))).astype(np.float32)


class Remembering:
    """A decoder whose slots keep tokens; *wrong* is what it gets wrong."""

    fewest = 1
    batched = True

    def __init__(self, wrong: str = "", slots: int = 3) -> None:
        self.wrong, self.slots, self.together = wrong, slots, True
        self.kept: list[list[int]] = [[] for _ in range(slots)]
        self.freed = False

    def read(self, slot: int, start: int, tokens: Sequence[int], *, every: bool) -> Any:
        if self.wrong == "behind" and start and len(tokens) > 1:
            tokens = tokens[::-1]
        text = self.kept[slot] = [*self.kept[slot][:start], *tokens]
        rows = np.stack([row(text[: start + place + 1]) for place in range(len(tokens))])
        return rows if every else rows[-1:]

    def read_all(self, slots: Sequence[int], starts: Sequence[int], prompts: Sequence[Sequence[int]]) -> Any:
        if self.wrong == "all" or (self.wrong == "all behind" and any(starts)):
            prompts = [tokens[::-1] for tokens in prompts]
        each = zip(slots, starts, prompts, strict=True)
        return np.concatenate([self.read(slot, start, tokens, every=False) for slot, start, tokens in each])

    def step(self, slots: Sequence[int], tokens: Sequence[int], positions: Sequence[int]) -> Any:
        if self.wrong == "step":
            tokens = [token + 1 for token in tokens]
        return self.read_all(slots, positions, [[token] for token in tokens])

    def copy(self, source: int, target: int, count: int) -> None:
        self.kept[target] = self.kept[source][:count]

    def free(self) -> None:
        self.freed = True


def expected() -> Any:
    from anyform.text.decoder import PROBE

    return np.stack([row(PROBE[: place + 1]) for place in range(len(PROBE))])


@pytest.mark.parametrize(
    ("wrong", "computes", "together"),
    [
        ("", True, True),
        ("step", False, True),
        ("behind", False, True),
        ("all", True, False),
        ("all behind", True, False),
    ],
)
def test_what_is_wrong_is_found(wrong: str, computes: bool, together: bool) -> None:
    """Prompts, several tokens behind others, steps; and several prompts at once, which the loop can do without."""
    from anyform.text import decoder

    made = Remembering(wrong)
    assert decoder.computes(made, expected(), 1e-3) == computes
    if computes:
        assert made.together == together


def test_one_slot_has_nothing_to_be_read_with() -> None:
    from anyform.text import decoder

    assert decoder.computes(Remembering(slots=1), expected(), 1e-3)


def test_the_first_that_is_sound_is_taken_and_the_others_are_freed() -> None:
    from anyform.text.decoder import computes, first_sound

    made: list[Remembering] = []

    def maker(wrong: str) -> Any:
        def make() -> Remembering:
            made.append(Remembering(wrong))
            return made[-1]

        return make

    def sound(decoder: Remembering) -> bool:
        return computes(decoder, expected(), 1e-3)

    found = first_sound([maker("step"), maker("behind"), maker(""), maker("")], sound, ())
    assert found is made[2]
    assert [one.freed for one in made] == [True, True, False]
    with pytest.raises(LoadFailed, match="other numbers with its cache"):
        first_sound([maker("step")], sound, ())


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("out of memory")])
def test_where_memory_ends_no_other_decoder_is_tried(error: Exception) -> None:
    from anyform.text.decoder import first_sound

    def sound(decoder: Remembering) -> bool:
        raise error

    with pytest.raises(type(error)):
        first_sound([Remembering, Remembering], sound, (Exception,))
