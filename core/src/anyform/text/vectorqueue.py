"""What every loop over inputs that give rows does: holds those that wait, drops the cancelled, fails one or all."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

import numpy as np

from anyform.contract.errors import Fault
from anyform.text.enginethread import EngineThread
from anyform.text.vectormodel import Floats, Input, VectorTicket

Waiting: TypeAlias = tuple[VectorTicket, int]
"""A request, and which of its inputs."""


class VectorQueue(EngineThread[VectorTicket]):
    """Inputs of all requests, in the order in which they came. A subclass takes some in `_step`, and computes them."""

    def __init__(self) -> None:
        self._waiting: deque[Waiting] = deque()
        super().__init__()

    def _take(self, work: VectorTicket) -> None:
        self._waiting.extend((work, index) for index in range(len(work.inputs)))

    def _busy(self) -> bool:
        return bool(self._waiting)

    def _fail(self, fault: Fault) -> None:
        for ticket in {id(ticket): ticket for ticket, _ in self._waiting}.values():
            ticket.results.put(fault)
        self._waiting.clear()

    def _sweep(self) -> None:
        """Drop what was cancelled, and what nobody reads any more."""
        stopped = {id(ticket): ticket for ticket, _ in self._waiting if ticket.stop.is_set()}
        self._waiting = deque(one for one in self._waiting if id(one[0]) not in stopped and not one[0].failed)
        for ticket in stopped.values():
            ticket.results.put(None)


class RowQueue(VectorQueue):
    """Computes what it takes by an engine that gives a row for each input of a batch, or raises anything.

    A subclass says in `_rows` what the engine is asked, and has `_compute` run in `_step`, by `_begun`.
    """

    def __init__(self, failed: Callable[[int, Exception], Fault]) -> None:
        """*failed*: what is told of the input of that number that could not be computed."""
        self._failed = failed
        super().__init__()

    @contextmanager
    def _begun(self, batch: Sequence[Waiting]) -> Iterator[None]:
        """Around what has *batch* computed, which waits no more: if that fails, it waits again, to be told of it."""
        try:
            yield
        except BaseException:
            self._waiting.extendleft(reversed(batch))
            raise

    def _rows(self, batch: Sequence[Waiting]) -> Floats:
        """One row for each of *batch*."""
        raise NotImplementedError

    def _compute(self, batch: Sequence[Waiting]) -> None:
        """Answer each of *batch*, by its row or by what is told of its failure."""
        try:
            rows = self._rows(batch)
            if len(rows) != len(batch):
                raise ValueError(f"the model gives {len(rows)} rows for {len(batch)} inputs")
            finite = [bool(np.isfinite(row).all()) for row in rows]
        except Exception as error:  # engines and the models' own code raise whatever they like
            if len(batch) == 1:
                self._lose(batch[0], error)
                return
            for one in batch:  # whatever one input did, the others did not
                self._compute([one])
            return
        for one, row, sound in zip(batch, rows, finite, strict=True):
            if sound:
                one[0].results.put((one[1], np.ascontiguousarray(row)))
            else:
                self._lose(one, ValueError("not all numbers are finite"))

    def _lose(self, one: Waiting, error: Exception) -> None:
        ticket, index = one
        ticket.failed = True
        ticket.results.put(self._failed(index, error))


def input_of(one: Waiting) -> Input:
    """What is to be computed."""
    return one[0].inputs[one[1]]
