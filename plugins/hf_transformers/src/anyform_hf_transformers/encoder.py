"""Encoders: texts of many requests, batched by length, to one vector or one row of scores each."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np

from anyform.contract.errors import Area, Fault
from anyform.text.vectormodel import Floats, Input
from anyform.text.vectorqueue import VectorQueue, Waiting, input_of
from anyform_hf_transformers.backend import torch
from anyform_hf_transformers.head import Head
from anyform_hf_transformers.lane import Lanes

_TOGETHER = 64
"""Texts that one step takes at the most."""
_PADDING, _SLACK = 1.25, 4
"""How much longer than the shortest text of a step its longest may be, in parts or in tokens; the others are padded."""
_LOOKED_AT = 512
"""Texts among which those of one length are sought."""


class EncodeFailed(Fault):
    """torch could not compute a batch; its requests are lost, the model goes on."""

    code = "hf_transformers.encode_failed"
    area = Area.BACKEND


class Encoder:
    """A model that reads whole texts: padded batches in, one row for each text out. Several threads may compute."""

    def __init__(self, model: Any, device: str, head: Head | None, pad: int) -> None:
        """*head*: what makes the rows; None: the model's own `logits` are. *pad*: the padding token."""
        self._model = model
        self._device = device
        self._head = head
        self._pad = pad

    def rows(self, inputs: Sequence[Input]) -> Floats:
        """One row for each of *inputs*."""
        with torch.inference_mode():
            given = {name: torch.from_numpy(value).to(self._device) for name, value in self._padded(inputs).items()}
            out = self._model(**given)
            if self._head is not None:
                rows = self._head.rows(out, given["attention_mask"], [one.skipped for one in inputs])
            else:
                rows = out.logits
            made: Floats = rows.float().cpu().numpy()
            return made

    def _padded(self, inputs: Sequence[Input]) -> dict[str, Any]:
        shape = len(inputs), max(map(len, inputs))
        made = {"input_ids": np.full(shape, self._pad), "attention_mask": np.zeros(shape, np.int64)}
        if any(one.types for one in inputs):
            made["token_type_ids"] = np.zeros(shape, np.int64)
        for row, one in enumerate(inputs):
            made["input_ids"][row, : len(one)] = one.tokens
            made["attention_mask"][row, : len(one)] = 1
            if one.types:
                made["token_type_ids"][row, : len(one)] = one.types
        return made

    def free(self) -> None:
        """Give the weights back."""
        self._model = None
        if self._device.startswith("cuda"):
            torch.cuda.empty_cache()


class EncoderLoop(VectorQueue):
    """Runs tickets: the text that has waited longest, and those of about its length, whoever sent them.

    A batch is packed when a lane is free for it, and no earlier: what came meanwhile goes with it. So a lone text
    starts at once, and under load the batches are as full as they can be.
    """

    def __init__(self, encoder: Encoder, batch: int, lanes: Lanes, *, even: bool = False) -> None:
        """*batch*: most tokens of one step, padding included; a longer text goes alone. *even*: no padding at all."""
        self._encoder = encoder
        self._batch = batch
        self._lanes = lanes
        self._even = even
        super().__init__()

    def _free(self) -> None:
        self._lanes.close()
        self._encoder.free()

    def _receive(self) -> bool:
        self._lanes.wait()
        return super()._receive()

    def _step(self) -> None:
        self._sweep()
        batch = self._pack()
        if batch:
            tokens = len(batch) * max(len(input_of(one)) for one in batch)
            self._lanes.run(lambda: self._compute(batch), tokens, more=bool(self._waiting))

    def _compute(self, batch: Sequence[Waiting]) -> None:
        try:
            rows = self._encoder.rows([input_of(one) for one in batch])
        except Exception as error:  # torch and the model's own code raise whatever they like
            if len(batch) == 1:
                self._lose(batch[0], error)
                return
            for one in batch:  # whatever one text did, the others did not
                self._compute([one])
            return
        for one, row in zip(batch, rows, strict=True):
            if np.isfinite(row).all():
                one[0].results.put((one[1], np.ascontiguousarray(row)))
            else:
                self._lose(one, ValueError("not all numbers are finite"))

    def _pack(self) -> list[Waiting]:
        """The first, and the others that come nearest to its length, as long as they fit."""
        if not self._waiting:
            return []
        lengths = [len(input_of(one).tokens) for one in islice(self._waiting, _LOOKED_AT)]
        near = sorted(range(len(lengths)), key=lambda place: abs(lengths[place] - lengths[0]))
        chosen: set[int] = set()
        least = most = lengths[0]
        for place in near:
            least, most = min(least, lengths[place]), max(most, lengths[place])
            full = len(chosen) == _TOGETHER or most * (len(chosen) + 1) > self._batch
            if chosen and (full or most > self._longest(least)):
                break
            chosen.add(place)
        looked = [self._waiting.popleft() for _ in lengths]
        self._waiting.extendleft(looked[place] for place in reversed(range(len(looked))) if place not in chosen)
        return [looked[place] for place in sorted(chosen)]

    def _longest(self, least: int) -> float:
        return least if self._even else max(_PADDING * least, least + _SLACK)

    def _lose(self, one: Waiting, error: Exception) -> None:
        ticket, index = one
        ticket.failed = True
        ticket.results.put(
            EncodeFailed(
                f"torch could not compute input {index}: {type(error).__name__}: {error}.",
                "Send a shorter text, or load the model with a smaller option batch, or dtype=float32.",
            )
        )
