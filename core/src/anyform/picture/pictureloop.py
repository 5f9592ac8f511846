"""Pictures, and texts beside them, of many requests: those of one shape are computed together."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from anyform.contract.errors import Fault
from anyform.picture.seen import Seen
from anyform.text.vectormodel import Floats
from anyform.text.vectorqueue import RowQueue, Waiting, input_of


class Rows(Protocol):
    """A model that makes one row of numbers of each input."""

    def rows(self, inputs: Sequence[Seen]) -> Floats:
        """One row for each of *inputs*, which are all of one key."""

    def free(self) -> None:
        """Give the weights back."""


class PictureLoop(RowQueue):
    """Runs tickets: the input that has waited longest, and those of its key, whoever sent them."""

    def __init__(self, encoder: Rows, together: int, failed: Callable[[int, Exception], Fault]) -> None:
        """*together*: most inputs of one step. *failed*: what is told of an input that could not be computed."""
        self._encoder = encoder
        self._together = together
        super().__init__(failed)

    def _free(self) -> None:
        self._encoder.free()

    def _step(self) -> None:
        self._sweep()
        batch = self._pack()
        if batch:
            with self._begun(batch):
                self._compute(batch)

    def _rows(self, batch: Sequence[Waiting]) -> Floats:
        return self._encoder.rows([_seen(one) for one in batch])

    def _pack(self) -> list[Waiting]:
        taken: list[Waiting] = []
        left: deque[Waiting] = deque()
        for one in self._waiting:
            fits = len(taken) < self._together and (not taken or _seen(one).key == _seen(taken[0]).key)
            (taken if fits else left).append(one)
        self._waiting = left
        return taken


def _seen(one: Waiting) -> Seen:
    made = input_of(one)
    assert isinstance(made, Seen)
    return made
