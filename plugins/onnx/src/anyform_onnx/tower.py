"""Graphs that make one row of numbers of each picture, or of each text: what they are given, and which output it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from anyform.contract.errors import Area, Fault, Unsupported
from anyform.picture.seen import Seen
from anyform.picture.texts import Texts
from anyform.text.vectormodel import Floats
from anyform_onnx.session import Session

Array: TypeAlias = NDArray[Any]
PIXELS, TOKENS = "pixel_values", "input_ids"
TYPES: Mapping[str, Any] = {
    "F16": np.float16, "F32": np.float32, "F64": np.float64, "U8": np.uint8, "I32": np.int32, "I64": np.int64,
    "BOOL": np.bool_,
}  # fmt: skip
"""Of inputs."""


class ComputeFailed(Fault):
    """onnxruntime could not compute a batch of pictures; its requests are lost, the model goes on."""

    code = "onnx.compute_failed"
    area = Area.BACKEND


class Tower:
    """One output of a graph, for pictures or for texts. Several threads may compute."""

    def __init__(
        self,
        session: Session,
        output: str,
        pool: Callable[[Array], Array],
        *,
        texts: Texts | None = None,
        idle: Mapping[str, Array] | None = None,
    ) -> None:
        """*pool*: rows of numbers from the output. *texts*: where it reads some; None: pictures.

        *idle*: one row of what the graph wants beside that and *output* does not depend on. Raises Unsupported for a
        graph with an input that nothing is known to give to.
        """
        self._session = session
        self._output = output
        self._pool = pool
        self._texts = texts
        self._idle = idle or {}
        self._main = TOKENS if texts is not None else next(name for name in session.inputs if name not in self._idle)
        given = {self._main, *self._idle, *(BESIDE_TEXT if texts is not None else ())}
        for name, (kind, _) in session.inputs.items():
            if name not in given or kind not in TYPES:
                raise Unsupported(f"{session.model} has an input {name} ({kind}) that this backend has nothing for.")
        side = session.inputs[self._main][1][0]
        self.fixed = side if isinstance(side, int) else 0
        """Inputs that the graph takes at once, no more and no fewer; 0: any number."""
        self._sides = {name: shape[0] for name, (_, shape) in session.inputs.items() if shape}

    def rows(self, inputs: Sequence[Seen]) -> Floats:
        """One row for each of *inputs*, which are all of one key. Raises what `Session.run` does."""
        most = self.fixed or len(inputs)
        parts = [inputs[start : start + most] for start in range(0, len(inputs), most)]
        found = [self._pool(self.run(part, [self._output])[0][: len(part)]) for part in parts]
        made: Floats = np.asarray(np.concatenate(found), np.float32)
        return made

    def run(self, inputs: Sequence[Seen], outputs: Sequence[str]) -> list[Array]:
        """*outputs* of the graph for no more *inputs* than it takes at once."""
        if self._texts is not None:
            arrays: Mapping[str, Array] = self._texts.batch(inputs)
        else:
            arrays = {name: np.stack([one.arrays[name] for one in inputs]) for name in inputs[0].arrays}
        full = {name: _filled(array, self.fixed) for name, array in arrays.items()}
        feed = {name: self._given(name, kind, full) for name, (kind, _) in self._session.inputs.items()}
        return self._session.run(outputs, feed)

    def _given(self, name: str, kind: str, arrays: Mapping[str, Array]) -> Array:
        if name in arrays:
            found = arrays[name]
        elif name in self._idle:
            side = self._sides[name]
            as_many = side if isinstance(side, int) else len(arrays[self._main]) if self._shared(side) else 1
            found = _filled(self._idle[name], as_many)
        else:
            found = BESIDE_TEXT[name](arrays[TOKENS])
        return np.ascontiguousarray(found, TYPES[kind])

    def _shared(self, side: int | str) -> bool:
        """Whether an idle input has as many rows as the other: the graph calls both numbers the same."""
        return bool(side) and side == self._sides[self._main]

    def free(self) -> None:
        """Give the weights back."""
        del self._session


class Towers:
    """Pictures through one tower, texts through another."""

    def __init__(self, pictures: Tower, texts: Tower) -> None:
        self._pictures, self._texts = pictures, texts

    def rows(self, inputs: Sequence[Seen]) -> Floats:
        """One row for each of *inputs*, which are all of one key."""
        return (self._pictures if inputs[0].arrays else self._texts).rows(inputs)

    def free(self) -> None:
        """Give the weights back."""
        self._pictures.free()
        self._texts.free()


def flat(output: Array) -> Array:
    """Logits and pooled vectors as they are, whatever sides of one they have."""
    return output.reshape(len(output), -1)


def first(output: Array) -> Array:
    """The vector of the first patch; of a map of features (channels first) their mean."""
    return mean(output) if output.ndim == 4 else output[:, 0]


def mean(output: Array) -> Array:
    """The mean of all patches."""
    made: Array = output.astype(np.float32).mean((2, 3) if output.ndim == 4 else 1)
    return made


def failed(index: int, error: Exception) -> Fault:
    """What is told of the input *index*, which could not be computed."""
    return ComputeFailed(
        f"input {index} could not be computed: {str(error) or type(error).__name__}", "Send another picture or text."
    )


def _filled(array: Array, count: int) -> Array:
    """*array* with its last row again and again, until there are *count* at the least."""
    lacking = count - len(array)
    if lacking <= 0:
        return array
    made: Array = np.concatenate([array, np.repeat(array[-1:], lacking, 0)])
    return made


BESIDE_TEXT: Mapping[str, Callable[[Array], Array]] = {
    "attention_mask": np.ones_like,
    "token_type_ids": np.zeros_like,
    "position_ids": lambda tokens: np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape),
}
"""Inputs beside the tokens, where nothing else gives them."""
