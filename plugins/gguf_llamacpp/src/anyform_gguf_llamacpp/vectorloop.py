"""Embeds texts of many requests together: whole inputs are packed into one batch, each as a sequence of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from anyform.text.vectorqueue import VectorQueue, Waiting, input_of
from anyform_gguf_llamacpp.engine import Context
from anyform_gguf_llamacpp.loop import DecodeFailed

_PACKED = 512
"""Tokens of short inputs that are computed together; more would only make each wait for the others."""


class VectorLoop(VectorQueue):
    """Runs tickets on a context that pools."""

    def __init__(self, context: Context, width: int) -> None:
        """*width*: numbers in a pooled output."""
        self._context = context
        self._width = width
        super().__init__()

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

    def _pack(self) -> list[Waiting]:
        """The inputs that come next, as many as go together; one long one goes alone."""
        batch: list[Waiting] = []
        used = 0
        while self._waiting and len(batch) < self._context.slots:
            used += len(input_of(self._waiting[0]))
            if batch and used > min(_PACKED, self._context.batch):
                break
            batch.append(self._waiting.popleft())
        return batch

    def _run_batch(self, batch: Sequence[Waiting]) -> int:
        context = self._context
        context.clear()
        row = 0
        for sequence, one in enumerate(batch):
            tokens = input_of(one).tokens
            end = row + len(tokens)
            context.token[row:end] = tokens
            context.position[row:end] = np.arange(len(tokens))
            context.sequence[row:end] = sequence
            context.output[row:end] = 1
            row = end
        return context.decode(row)

    def _settle(self, batch: Sequence[Waiting], code: int) -> None:
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
