"""Encoders: texts of many requests, batched by length, to one vector or one row of scores each."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from anyform.contract.errors import Area, Fault
from anyform.text.vectormodel import Floats, Input
from anyform.text.vectorqueue import VectorQueue, Waiting, input_of
from anyform_hf_transformers.backend import torch

_TOGETHER = 64
"""Texts that one step takes at the most."""
_PADDING = 1.25
"""How much longer than the shortest text of a step its longest may be: the shorter are padded to it."""


class EncodeFailed(Fault):
    """torch could not compute a batch; its requests are lost, the model goes on."""

    code = "hf_transformers.encode_failed"
    area = Area.BACKEND


class Encoder:
    """A model that reads whole texts: padded batches in, one row for each text out."""

    def __init__(self, model: Any, device: str, pooling: str, pad: int) -> None:
        """*pooling*: mean, cls, last or max; empty: the model's own `logits` are the rows. *pad*: the padding token."""
        self._model = model
        self._device = device
        self._pooling = pooling
        self._pad = pad

    def rows(self, inputs: Sequence[Input]) -> Floats:
        """One row for each of *inputs*."""
        with torch.inference_mode():
            given = {name: value.to(self._device) for name, value in self._padded(inputs).items()}
            out = self._model(**given)
            if self._pooling:
                pooled = _pool(out.last_hidden_state, given["attention_mask"], self._pooling)
            else:
                pooled = out.logits
            made: Floats = pooled.float().cpu().numpy()
            return made

    def _padded(self, inputs: Sequence[Input]) -> dict[str, Any]:
        longest = max(map(len, inputs))
        tokens = torch.full((len(inputs), longest), self._pad)
        mask = torch.zeros((len(inputs), longest), dtype=torch.long)
        types = torch.zeros_like(mask)
        for row, one in enumerate(inputs):
            tokens[row, : len(one)] = torch.as_tensor(one.tokens)
            mask[row, : len(one)] = 1
            if one.types:
                types[row, : len(one)] = torch.as_tensor(one.types)
        typed = {"token_type_ids": types} if any(one.types for one in inputs) else {}
        return {"input_ids": tokens, "attention_mask": mask, **typed}

    def free(self) -> None:
        """Give the weights back."""
        self._model = None
        if self._device.startswith("cuda"):
            torch.cuda.empty_cache()


def _pool(hidden: Any, mask: Any, kind: str) -> Any:
    """sentence-transformers' poolings; sums in single precision."""
    if kind == "cls":
        return hidden[:, 0]
    if kind == "last":
        return hidden[torch.arange(hidden.shape[0], device=hidden.device), mask.sum(1) - 1]
    weights = mask[:, :, None].float()
    if kind == "max":
        return hidden.float().masked_fill(weights == 0, -torch.inf).amax(1)
    return (hidden.float() * weights).sum(1) / weights.sum(1)


class EncoderLoop(VectorQueue):
    """Runs tickets: the text that has waited longest, and those of about its length, whoever sent them."""

    def __init__(self, encoder: Encoder, batch: int) -> None:
        """*batch*: most tokens of one step, padding included; a longer text goes alone."""
        self._encoder = encoder
        self._batch = batch
        super().__init__()

    def _free(self) -> None:
        self._encoder.free()

    def _step(self) -> None:
        self._sweep()
        batch = self._pack()
        if not batch:
            return
        try:
            rows = self._encoder.rows([input_of(one) for one in batch])
        except RuntimeError as error:  # torch's only class, out of memory included
            self._lose(batch, error)
            return
        for (ticket, index), row in zip(batch, rows, strict=True):
            ticket.results.put((index, np.ascontiguousarray(row)))

    def _pack(self) -> list[Waiting]:
        """The first, and the others that come nearest to its length, as long as they fit."""
        if not self._waiting:
            return []
        length = len(input_of(self._waiting[0]))
        near = sorted(enumerate(self._waiting), key=lambda one: abs(len(input_of(one[1])) - length))
        chosen: list[int] = []
        least = most = length
        for place, one in near:
            least, most = min(least, len(input_of(one))), max(most, len(input_of(one)))
            full = len(chosen) == _TOGETHER or most * (len(chosen) + 1) > self._batch
            if chosen and (full or most > _PADDING * least):
                break
            chosen.append(place)
        batch = [self._waiting[place] for place in chosen]
        taken = set(chosen)
        self._waiting = deque(one for place, one in enumerate(self._waiting) if place not in taken)
        return batch

    def _lose(self, batch: Sequence[Waiting], error: RuntimeError) -> None:
        fault = EncodeFailed(
            f"torch could not compute {len(batch)} texts: {error}.",
            "Send fewer or shorter texts, or load the model with a smaller option batch.",
        )
        for ticket in {id(ticket): ticket for ticket, _ in batch}.values():
            ticket.failed = True
            ticket.results.put(fault)
