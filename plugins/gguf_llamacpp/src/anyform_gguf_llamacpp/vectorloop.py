"""Embeds texts of many requests together: whole inputs are packed into one batch, each as a sequence of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TypeAlias

import numpy as np

from anyform.contract.errors import Fault
from anyform.contract.model import Stop
from anyform_gguf_llamacpp.engine import Context, Floats
from anyform_gguf_llamacpp.enginethread import EngineThread
from anyform_gguf_llamacpp.loop import DecodeFailed

_PACKED = 512
"""Tokens of short inputs that are computed together; more would only make each wait for the others."""

Pooled: TypeAlias = tuple[int, Floats]
"""Which input, and its pooled output."""


@dataclass(slots=True, eq=False)
class VectorTicket:
    """One request: token ids of each input. Its results come in any order; None ends a cancelled one early."""

    inputs: Sequence[Sequence[int]]
    stop: Stop
    results: SimpleQueue[Pooled | Fault | None] = field(default_factory=SimpleQueue)
    failed: bool = False


class VectorLoop(EngineThread[VectorTicket]):
    """Runs tickets on a context that pools."""

    def __init__(self, context: Context, width: int) -> None:
        """*width*: numbers in a pooled output."""
        self._context = context
        self._width = width
        self._waiting: deque[tuple[VectorTicket, int]] = deque()
        super().__init__()

    def _take(self, work: VectorTicket) -> None:
        self._waiting.extend((work, index) for index in range(len(work.inputs)))

    def _busy(self) -> bool:
        return bool(self._waiting)

    def _fail(self, fault: Fault) -> None:
        for ticket in {id(ticket): ticket for ticket, _ in self._waiting}.values():
            ticket.results.put(fault)
        self._waiting.clear()

    def _free(self) -> None:
        self._context.free()

    def _step(self) -> None:
        self._sweep()
        batch = self._pack()
        if not batch:
            return
        code = self._run_batch(batch)
        if code and len(batch) > 1:
            for one in batch:
                self._settle([one], self._run_batch([one]))
        else:
            self._settle(batch, code)

    def _sweep(self) -> None:
        stopped = {id(ticket): ticket for ticket, _ in self._waiting if ticket.stop.is_set()}
        self._waiting = deque(one for one in self._waiting if id(one[0]) not in stopped and not one[0].failed)
        for ticket in stopped.values():
            ticket.results.put(None)

    def _pack(self) -> list[tuple[VectorTicket, int]]:
        """The inputs that come next, as many as go together; one long one goes alone."""
        batch: list[tuple[VectorTicket, int]] = []
        used = 0
        while self._waiting and len(batch) < self._context.slots:
            ticket, index = self._waiting[0]
            used += len(ticket.inputs[index])
            if batch and used > min(_PACKED, self._context.batch):
                break
            batch.append(self._waiting.popleft())
        return batch

    def _run_batch(self, batch: Sequence[tuple[VectorTicket, int]]) -> int:
        context = self._context
        context.clear()
        row = 0
        for sequence, (ticket, index) in enumerate(batch):
            tokens = ticket.inputs[index]
            end = row + len(tokens)
            context.token[row:end] = tokens
            context.position[row:end] = np.arange(len(tokens))
            context.sequence[row:end] = sequence
            context.output[row:end] = 1
            row = end
        return context.decode(row)

    def _settle(self, batch: Sequence[tuple[VectorTicket, int]], code: int) -> None:
        for sequence, (ticket, index) in enumerate(batch):
            if code:
                ticket.failed = True
                ticket.results.put(_failed(code))
            else:
                ticket.results.put((index, self._context.pooled(sequence, self._width)))


def _failed(code: int) -> DecodeFailed:
    return DecodeFailed(
        f"llama.cpp could not compute this input (code {code}).",
        "Try again; if it happens again, load the model with a smaller context.",
        decode_code=code,
    )
