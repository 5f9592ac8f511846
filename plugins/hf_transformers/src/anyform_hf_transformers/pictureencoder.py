"""Models that look at whole pictures: batches of them, or of texts about them, to one row of numbers each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from anyform.contract.errors import Fault
from anyform.picture.seen import Seen
from anyform.picture.texts import Texts
from anyform.text.vectormodel import Floats
from anyform_hf_transformers.backend import torch
from anyform_hf_transformers.encoder import EncodeFailed


class PictureEncoder(ABC):
    """A model, and how its output becomes rows."""

    def __init__(self, model: Any, device: str, texts: Texts | None = None) -> None:
        """*texts*: None where it reads none."""
        self._model = model
        self._device = device
        self._texts = texts

    def rows(self, inputs: Sequence[Seen]) -> Floats:
        """One row for each of *inputs*, which are all of one key."""
        with torch.inference_mode():
            made: Floats = self._compute(self.given(inputs), bool(inputs[0].arrays)).float().cpu().numpy()
            return made

    def given(self, inputs: Sequence[Seen]) -> dict[str, Any]:
        """What the model takes for *inputs*, on its device."""
        arrays: dict[str, Any] = {name: np.stack([one.arrays[name] for one in inputs]) for name in inputs[0].arrays}
        if self._texts is not None and inputs[0].tokens:
            arrays |= self._texts.batch(inputs)
        return {name: self._tensor(array) for name, array in arrays.items()}

    def _tensor(self, array: Any) -> Any:
        made = torch.from_numpy(array).to(self._device)
        return made.to(self._model.dtype) if made.is_floating_point() else made

    @abstractmethod
    def _compute(self, given: Mapping[str, Any], seeing: bool) -> Any:
        """A tensor of rows. *seeing*: pictures, with or without texts; otherwise texts alone."""

    def free(self) -> None:
        """Give the weights back."""
        self._model = None
        if self._device.startswith("cuda"):
            torch.cuda.empty_cache()


class Labelling(PictureEncoder):
    """The logits of a classifier's labels."""

    def _compute(self, given: Mapping[str, Any], seeing: bool) -> Any:
        return self._model(**given).logits


class Pooling(PictureEncoder):
    """Vectors of pictures."""

    def __init__(self, model: Any, device: str, kind: str) -> None:
        """*kind*: pooler (the model's own, where it has one, else as cls), cls (the first patch's), mean (of all)."""
        super().__init__(model, device)
        self._kind = kind

    def _compute(self, given: Mapping[str, Any], seeing: bool) -> Any:
        out = self._model(**given)
        for name in ("image_embeds", "pooler_output") if self._kind == "pooler" else ():
            if out.get(name) is not None:
                return out[name].flatten(1)
        hidden = out.last_hidden_state
        if hidden.ndim == 4:  # a map of features: channels first
            return hidden.float().mean((2, 3))
        return hidden.float().mean(1) if self._kind == "mean" else hidden[:, 0]


class Pairing(PictureEncoder):
    """Vectors of pictures and of texts in one space."""

    def _compute(self, given: Mapping[str, Any], seeing: bool) -> Any:
        made = (self._model.get_image_features if seeing else self._model.get_text_features)(**given)
        return made if isinstance(made, torch.Tensor) else made.pooler_output


def failed(index: int, error: Exception) -> Fault:
    """What is told of the input *index*, which could not be computed."""
    return EncodeFailed(
        f"torch could not compute input {index}: {type(error).__name__}: {error}.", "Send fewer or smaller ones."
    )
