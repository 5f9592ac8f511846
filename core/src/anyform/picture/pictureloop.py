"""Pictures, and texts beside them, of many requests: those of one shape are computed together."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from anyform.contract.errors import Fault
from anyform.picture.seen import Seen
from anyform.text.vectormodel import Floats
from anyform.text.vectorqueue import VectorQueue, Waiting, input_of


class Rows(Protocol):
    """A model that makes one row of numbers of each input."""

    def rows(self, inputs: Sequence[Seen]) -> Floats:
        """One row for each of *inputs*, which are all of one key."""

    def free(self) -> None:
        """Give the weights back."""


class PictureLoop(VectorQueue):
    """Runs tickets: the input that has waited longest, and those of its key, whoever sent them."""

    def __init__(self, encoder: Rows, together: int, failed: Callable[[int, Exception], Fault]) -> None:
        """*together*: most inputs of one step. *failed*: what is told of an input that could not be computed."""
        self._encoder = encoder
        self._together = together
        self._failed = failed
        super().__init__()

    def _free(self) -> None:
        self._encoder.free()

    def _step(self) -> None:
        self._sweep()
        batch = self._pack()
        if batch:
            self._compute(batch)

    def _compute(self, batch: Sequence[Waiting]) -> None:
        try:
            rows = self._encoder.rows([_seen(one) for one in batch])
        except Exception as error:  # engines raise whatever they like
            if len(batch) == 1:
                self._lose(batch[0], error)
                return
            for one in batch:  # whatever one input did, the others did not
                self._compute([one])
            return
        for one, row in zip(batch, rows, strict=True):
            if np.isfinite(row).all():
                one[0].results.put((one[1], np.ascontiguousarray(row)))
            else:
                self._lose(one, ValueError("not all numbers are finite"))

    def _pack(self) -> list[Waiting]:
        taken: list[Waiting] = []
        left: deque[Waiting] = deque()
        for one in self._waiting:
            fits = len(taken) < self._together and (not taken or _seen(one).key == _seen(taken[0]).key)
            (taken if fits else left).append(one)
        self._waiting = left
        return taken

    def _lose(self, one: Waiting, error: Exception) -> None:
        ticket, index = one
        ticket.failed = True
        ticket.results.put(self._failed(index, error))


def _seen(one: Waiting) -> Seen:
    made = input_of(one)
    assert isinstance(made, Seen)
    return made
