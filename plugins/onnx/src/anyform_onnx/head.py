"""What follows an encoder's graph: sentence-transformers' modules, from the states of tokens to one vector a text.

Formulas and files: sentence_transformers' modules Pooling, Dense, LayerNorm and Normalize; torch.nn's activations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from anyform.contract.errors import Unsupported
from anyform.pretrained.sentence import Part, unknown_function
from anyform.text.vectormodel import Floats
from anyform_onnx import tensor

Step: TypeAlias = Callable[[Floats, Floats], Floats]
"""Values, and which tokens count -> values: [texts, tokens, width] until they are pooled, then [texts, width]."""
_NORM_EPSILON, _UNIT_EPSILON = 1e-5, 1e-12
"""torch.nn.LayerNorm's, and torch.nn.functional.normalize's."""


class Head:
    """Steps in their order; sums in single precision."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = steps

    def rows(self, values: Floats, mask: Floats, skipped: Sequence[int]) -> Floats:
        """One row a text. *mask*: [texts, tokens], 1 where there is one; *skipped*: first ones that do not count."""
        if any(skipped):
            mask = mask * (np.arange(mask.shape[1]) >= np.asarray(skipped)[:, None]).astype(np.float32)
        for step in self._steps:
            values = step(values, mask)
        return values


class Layers:
    """A `Maker` of steps in numpy."""

    def __init__(self, model: str) -> None:
        self._model = model

    def pool(self, kinds: Sequence[str]) -> Step:
        if len(kinds) == 1:
            return _POOL[kinds[0]]
        return lambda states, mask: np.concatenate([_POOL[kind](states, mask) for kind in kinds], -1)

    def dense(self, part: Part) -> Step:
        found = self._weights(part)
        matrix, bias = found["linear.weight"].T, found.get("linear.bias", np.zeros((), np.float32))
        function = activation(part.activation, f"{part.folder.name} of {self._model}")
        return lambda values, mask: function(values @ matrix + bias)

    def layer_norm(self, part: Part) -> Step:
        found = self._weights(part)
        scale, shift = found["norm.weight"], found["norm.bias"]

        def norm(values: Floats, mask: Floats) -> Floats:
            spread = np.sqrt(values.var(-1, keepdims=True) + np.float32(_NORM_EPSILON))
            made: Floats = (values - values.mean(-1, keepdims=True)) / spread * scale + shift
            return made

        return norm

    def normalize(self) -> Step:
        return lambda values, mask: values / np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), _UNIT_EPSILON)

    def _weights(self, part: Part) -> dict[str, Floats]:
        path = part.folder / "model.safetensors"
        if not path.is_file() and (part.folder / "pytorch_model.bin").is_file():
            raise Unsupported(
                f"{part.folder.name} of {self._model} has its weights as pytorch_model.bin, which only torch reads.",
                "Get the model with model.safetensors in that folder, or load it with hf_transformers.",
            )
        return tensor.read(path)


def activation(name: str, whose: str) -> Callable[[Floats], Floats]:
    """The function that torch calls *name*, such as torch.nn.modules.activation.Tanh. Raises Unsupported."""
    found = _FUNCTIONS.get(name.rpartition(".")[2]) if name.startswith("torch.nn.") else None
    if found is None:
        raise unknown_function(name, whose, f"It runs torch.nn's {', '.join(_FUNCTIONS)}.")
    return found


def _positions(mask: Floats) -> Floats:
    return np.arange(1, mask.shape[1] + 1, dtype=np.float32)


def _cls(states: Floats, mask: Floats) -> Floats:
    made: Floats = states[np.arange(len(states)), mask.argmax(1)]
    return made


def _last(states: Floats, mask: Floats) -> Floats:
    made: Floats = states[np.arange(len(states)), (_positions(mask) * mask).argmax(1)]
    return made


def _max(states: Floats, mask: Floats) -> Floats:
    made: Floats = np.where(mask[:, :, None] == 0, np.float32(-np.inf), states).max(1)
    return made


def _sum(states: Floats, weights: Floats) -> Floats:
    """Not by BLAS, whose threads would stand in the way of onnxruntime's."""
    made: Floats = np.einsum("bt,btw->bw", weights, states)
    return made


def _count(weights: Floats) -> Floats:
    made: Floats = np.maximum(weights.sum(1, keepdims=True), np.float32(1e-9))
    return made


def _mean(states: Floats, mask: Floats) -> Floats:
    return _sum(states, mask) / _count(mask)


def _mean_sqrt_len(states: Floats, mask: Floats) -> Floats:
    roots: Floats = np.sqrt(_count(mask))
    return _sum(states, mask) / roots


def _weighted_mean(states: Floats, mask: Floats) -> Floats:
    weights = mask * _positions(mask)
    return _sum(states, weights) / _count(weights)


_POOL: Mapping[str, Step] = {
    "cls": _cls,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len": _mean_sqrt_len,
    "weightedmean": _weighted_mean,
    "last": _last,
}
_ERF = np.vectorize(math.erf, otypes=[np.float64])


def _gelu(values: Floats) -> Floats:
    made: Floats = (0.5 * values * (1.0 + _ERF(values / math.sqrt(2.0)))).astype(np.float32)
    return made


def _sigmoid(values: Floats) -> Floats:
    made: Floats = (1.0 / (1.0 + np.exp(-values.astype(np.float64)))).astype(np.float32)
    return made


_FUNCTIONS: Mapping[str, Callable[[Floats], Floats]] = {
    "Identity": lambda values: values,
    "Tanh": np.tanh,
    "ReLU": lambda values: np.maximum(values, np.float32(0)),
    "GELU": _gelu,
    "Sigmoid": _sigmoid,
    "SiLU": lambda values: values * _sigmoid(values),
    "LeakyReLU": lambda values: np.where(values > 0, values, np.float32(0.01) * values),
    "ELU": lambda values: np.where(values > 0, values, np.expm1(np.minimum(values, np.float32(0)))),
    "Softplus": lambda values: np.logaddexp(values, np.float32(0)),
}
