"""Encoders: padded batches of texts through a graph, to one vector or one row of scores each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from anyform.contract.errors import Area, Fault, Invalid, Unsupported
from anyform.text.encoderinputs import Whole, padded
from anyform.text.vectormodel import Floats, Input
from anyform_onnx import role
from anyform_onnx.head import Head
from anyform_onnx.session import Array, Session, Value

_IDS, _MASK, _TYPES, _POSITIONS = "input_ids", "attention_mask", "token_type_ids", "position_ids"
_TAKEN: Mapping[str, type] = {
    "I64": np.int64, "I32": np.int32, "BOOL": np.bool_, "F32": np.float32, "F16": np.float16,
}  # fmt: skip
_GIVEN = ("F32", "F16", "F64")
STATES = ("last_hidden_state", "token_embeddings", "hidden_states")
"""Outputs with a vector a token: as transformers, sentence-transformers' exporter, and others call them."""
POOLED = ("sentence_embedding", "text_embeds", "embeddings", "pooler_output")
"""Outputs with a vector a text, the one that is meant to be used first."""
LOGITS = ("logits",)


class EncodeFailed(Fault):
    """onnxruntime could not compute a batch; its requests are lost, the model goes on."""

    code = "onnx.encode_failed"
    area = Area.BACKEND


class Encoder:
    """A graph that reads whole texts: padded batches in, one row for each text out. Several threads may compute."""

    def __init__(self, session: Session, output: str, head: Head | None, pad: int, first: int = 0) -> None:
        """*head*: what makes the rows of *output*; None: it has a row a text. *pad*: the padding token.

        *first*: the position of the first token, where the graph wants to be told. Raises Unsupported.
        """
        self._session: Session | None = session
        self._output = output
        self._head = head
        self._pad = pad
        self._first = first
        self._inputs = dict(session.inputs)
        _check(session, output)
        self.texts, self.tokens = _fixed(session)

    def rows(self, inputs: Sequence[Input]) -> Floats:
        """One row for each of *inputs*; not more of them than `texts`, if that is not 0."""
        assert self._session is not None
        made = padded(inputs, self._pad, self.texts, self.tokens)
        made[_MASK][len(inputs) :, 0] = 1  # rows without any token give no numbers, and may spoil others
        made[_POSITIONS] = self._positions(made[_MASK])
        feed = {name: self._fed(name, value, made) for name, value in self._inputs.items()}
        (values,) = self._session.run([self._output], feed)
        rows: Floats = values[: len(inputs)].astype(np.float32, copy=False)
        if self._head is None:
            return rows
        mask = made[_MASK][: len(inputs)].astype(np.float32)
        return self._head.rows(rows, mask, [one.skipped for one in inputs])

    def _positions(self, mask: Whole) -> Whole:
        counted = np.cumsum(mask, axis=1) - 1 + self._first
        made: Whole = np.where(mask == 1, counted, max(0, self._first - 1))
        return made

    def _fed(self, name: str, value: Value, made: Mapping[str, Whole]) -> Array:
        kind, shape = value
        if name in made:
            return made[name].astype(_TAKEN[kind], copy=False)
        sides = [side if isinstance(side, int) else 0 for side in shape]  # a cache of no tokens
        return np.zeros((len(made[_IDS]), *sides[1:]), _TAKEN[kind])

    def free(self) -> None:
        """Give the weights back."""
        self._session = None


def failed(index: int, error: Exception) -> Fault:
    """What is told of the input *index*, which could not be computed."""
    said = error.message if isinstance(error, Fault) else f"{type(error).__name__}: {error}."
    return EncodeFailed(
        f"input {index} could not be computed: {said}",
        "Send a shorter text, or load the model with a smaller option batch.",
    )


def output_of(session: Session, names: Sequence[str], sides: int) -> str:
    """The first of *names* that the graph has; else its only output with so many *sides*; empty: there is none."""
    known = next((name for name in names if name in session.outputs), "")
    others = [name for name, (_, shape) in session.outputs.items() if len(shape) == sides and name not in _KNOWN]
    return known or (others[0] if len(others) == 1 else "")


_KNOWN = frozenset((*STATES, *POOLED, *LOGITS))


def vector_output(session: Session, *, wanted: str, pools: bool, unpooled: str) -> tuple[str, bool]:
    """The output that vectors are made of, and whether it has one a token. *wanted*: what the folder's modules take.

    *pools*: whether the folder or its user says how tokens are pooled otherwise than the graph does, *unpooled*: in
    words, what for. Raises Invalid, Unsupported.
    """
    states = output_of(session, (wanted, *STATES), 3)
    if not pools and POOLED[0] in session.outputs:
        return POOLED[0], False
    if states:
        return states, states not in POOLED
    if pools and unpooled:
        has = ", ".join(session.outputs)
        raise Invalid(
            f"{session.model} cannot have {unpooled}: its graph gives no vectors of tokens, but {has}.", "Leave it out."
        )
    pooled = output_of(session, POOLED, 2)
    if not pooled:
        raise Unsupported(f"{session.model} has no output with vectors, but {', '.join(session.outputs)}.")
    return pooled, False


def logits_output(session: Session) -> str:
    """The output with a row of scores a text. Raises Unsupported."""
    found = output_of(session, LOGITS, 2)
    if not found:
        raise Unsupported(f"{session.model} has no output logits, but {', '.join(session.outputs)}.")
    return found


def _check(session: Session, output: str) -> None:
    """Raise Unsupported for what cannot be fed or read."""
    known = (_IDS, _MASK, _TYPES, _POSITIONS)
    strange = [name for name in session.inputs if name not in known and not role.is_cache(name)]
    if _IDS not in session.inputs or strange:
        has = ", ".join(strange or session.inputs)
        raise Unsupported(
            f"the graph of {session.model} wants {has}, which this backend does not give an encoder.",
            f"It gives {', '.join(known)}.",
        )
    types: list[tuple[str, Any]] = [(name, kind) for name, (kind, _) in session.inputs.items() if kind not in _TAKEN]
    kind = session.outputs[output][0]
    if types or kind not in _GIVEN:
        name, strange_kind = types[0] if types else (output, kind)
        raise Unsupported(f"{name} of {session.model} is of type {strange_kind}, which this backend does not use here.")


def _fixed(session: Session) -> tuple[int, int]:
    """Texts of each step, and tokens of each text, where the graph was exported for so many and no other; else 0."""
    shape = session.inputs[_IDS][1]
    texts, tokens = (side if isinstance(side, int) and side > 0 else 0 for side in (*shape, "", "")[:2])
    return texts, tokens
