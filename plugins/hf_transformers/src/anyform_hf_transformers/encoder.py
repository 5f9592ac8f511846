"""Encoders: padded batches of texts through torch, to one vector or one row of scores each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from anyform.contract.errors import Area, Fault
from anyform.text.encoderinputs import padded
from anyform.text.vectormodel import Floats, Input
from anyform_hf_transformers.backend import torch
from anyform_hf_transformers.head import Head


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
            made = padded(inputs, self._pad)
            if not any(one.types for one in inputs):
                del made["token_type_ids"]
            given = {name: torch.from_numpy(value).to(self._device) for name, value in made.items()}
            out = self._model(**given)
            if self._head is not None:
                rows = self._head.rows(out, given["attention_mask"], [one.skipped for one in inputs])
            else:
                rows = out.logits
            found: Floats = rows.float().cpu().numpy()
            return found

    def free(self) -> None:
        """Give the weights back."""
        self._model = None
        if self._device.startswith("cuda"):
            torch.cuda.empty_cache()


def failed(index: int, error: Exception) -> Fault:
    """What is told of the input *index*, which could not be computed."""
    return EncodeFailed(
        f"torch could not compute input {index}: {type(error).__name__}: {error}.",
        "Send a shorter text, or load the model with a smaller option batch, or dtype=float32.",
    )


def use_threads(count: int) -> None:
    """Have torch compute what the calling thread asks for with *count* threads."""
    if torch.get_num_threads() != count:
        torch.set_num_threads(count)  # of this very thread, says OpenMP
