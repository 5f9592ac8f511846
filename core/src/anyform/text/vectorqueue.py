"""What every loop over texts to embed does: holds those that wait, drops the cancelled, fails them all."""

from __future__ import annotations

from collections import deque
from typing import TypeAlias

from anyform.contract.errors import Fault
from anyform.text.enginethread import EngineThread
from anyform.text.vectormodel import Input, VectorTicket

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


def input_of(one: Waiting) -> Input:
    """What is to be computed."""
    return one[0].inputs[one[1]]
