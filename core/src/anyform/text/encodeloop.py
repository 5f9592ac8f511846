"""Texts of many requests, batched by length, to one vector or one row of scores each, whatever engine computes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Protocol

from anyform.contract.errors import Fault
from anyform.text.lane import Lanes
from anyform.text.vectormodel import Floats, Input
from anyform.text.vectorqueue import RowQueue, Waiting, input_of

TOGETHER = 64
"""Texts that one step takes at the most."""
_PADDING, _SLACK = 1.25, 4
"""How much longer than the shortest text of a step its longest may be, in parts or in tokens; the others are padded."""
_LOOKED_AT = 512
"""Texts among which those of one length are sought."""


class Rows(Protocol):
    """An engine with a model that reads whole texts. Several threads may compute."""

    def rows(self, inputs: Sequence[Input]) -> Floats:
        """One row for each of *inputs*. It may raise anything: then each is computed alone."""

    def free(self) -> None:
        """Give the weights back."""


class EncodeLoop(RowQueue):
    """Runs tickets: the text that has waited longest, and those of about its length, whoever sent them.

    A batch is packed when a lane is free for it, and no earlier: what came meanwhile goes with it. So a lone text
    starts at once, and under load the batches are as full as they can be.
    """

    def __init__(
        self,
        encoder: Rows,
        batch: int,
        lanes: Lanes,
        failed: Callable[[int, Exception], Fault],
        *,
        even: bool = False,
        padded: int = 0,
        together: int = TOGETHER,
    ) -> None:
        """*batch*: most tokens of one step, padding included; a longer text goes alone. *together*: most texts of one.

        *failed*: what is told of the input of that number that could not be computed. *even*: no padding at all.
        *padded*: tokens that every text is padded to; 0: as many as the longest of its step has.
        """
        self._encoder = encoder
        self._batch = batch
        self._lanes = lanes
        self._even = even
        self._padded = padded
        self._together = together
        super().__init__(failed)

    def _free(self) -> None:
        self._lanes.close()
        self._encoder.free()

    def _receive(self) -> bool:
        self._lanes.wait()
        return super()._receive()

    def _step(self) -> None:
        self._sweep()
        batch = self._pack()
        if not batch:
            return

        def lost(error: Exception) -> None:
            for one in batch:
                self._lose(one, error)

        tokens = len(batch) * max(map(self._length, batch))
        with self._begun(batch):
            self._lanes.run(lambda: self._compute(batch), tokens, more=bool(self._waiting), lost=lost)

    def _rows(self, batch: Sequence[Waiting]) -> Floats:
        return self._encoder.rows([input_of(one) for one in batch])

    def _pack(self) -> list[Waiting]:
        """The first, and the others that come nearest to its length, as long as they fit."""
        if not self._waiting:
            return []
        lengths = [self._length(one) for one in islice(self._waiting, _LOOKED_AT)]
        near = sorted(range(len(lengths)), key=lambda place: abs(lengths[place] - lengths[0]))
        chosen: set[int] = set()
        least = most = lengths[0]
        for place in near:
            least, most = min(least, lengths[place]), max(most, lengths[place])
            full = len(chosen) == self._together or most * (len(chosen) + 1) > self._batch
            if chosen and (full or most > self._longest(least)):
                break
            chosen.add(place)
        looked = [self._waiting.popleft() for _ in lengths]
        self._waiting.extendleft(looked[place] for place in reversed(range(len(looked))) if place not in chosen)
        return [looked[place] for place in sorted(chosen)]

    def _length(self, one: Waiting) -> int:
        return self._padded or len(input_of(one))

    def _longest(self, least: int) -> float:
        return least if self._even else max(_PADDING * least, least + _SLACK)
