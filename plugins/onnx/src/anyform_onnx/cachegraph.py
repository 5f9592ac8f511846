"""A decoder's graph as it takes tokens and the keys and values of those before them, whichever exporter wrote it.

optimum and transformers.js write one graph (input_ids, attention_mask, position_ids, past_key_values.N.key ... give
logits, present.N.key ...), onnxruntime-genai's builder one without position_ids, and transformers' own exporter two:
one that reads a prompt, and one that reads a single token behind others. Names and shapes are read from the session.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anyform.contract.errors import LoadFailed, Unsupported
from anyform.text.sampling import Floats
from anyform_onnx.backend import onnxruntime
from anyform_onnx.session import Session

_ENTRY = re.compile(r"(\d+)[._](key|value)s?$")
_PAST = re.compile(r"past|cache", re.IGNORECASE)
_DTYPES: Mapping[str, Any] = {"F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32, "BOOL": np.bool_}
_ON_DEVICE = {"CUDAExecutionProvider": "cuda"}
"""Providers whose outputs stay in the memory of their device."""
_KEEP = ("num_logits_to_keep", "logits_to_keep")
Tokens = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Entry:
    """Keys or values of one layer: [batch, heads, tokens, size]."""

    past: str
    present: str
    heads: int
    size: int
    dtype: Any


@dataclass(frozen=True, slots=True)
class Size:
    """What a graph may leave open, from the folder's JSON; 0: unknown."""

    heads: int = 0
    size: int = 0
    vocabulary: int = 0


class CacheGraph:
    """Runs the graph; for one thread."""

    def __init__(self, session: Session, known: Size, first: Session | None = None) -> None:
        """*first*: the graph that reads prompts, where that is another one. Raises LoadFailed, Unsupported."""
        self._session, self._first = session, first
        if "input_ids" not in session.inputs:
            raise Unsupported("the graph has no input_ids.", "It runs decoders of text.")
        self.entries = _entries(session, known)
        self.many = first is None and _side(session.inputs["input_ids"][1][-1], 0) != 1
        """Whether several tokens may be read behind others."""
        self.begins = first is not None or self.many
        """Whether several may be read behind nothing."""
        self.masked = "attention_mask" in session.inputs
        self.logits = _logits(session)
        sides = session.outputs[self.logits][1]
        self.vocabulary = sides[-1] if isinstance(sides[-1], int) else known.vocabulary
        if not self.vocabulary:
            raise LoadFailed("the graph does not say how many tokens there are.", "Its config.json must: vocab_size.")
        self.half = session.outputs[self.logits][0] == "F16"
        """Whether it computes with 16 bits."""
        self.alone = any(_whole(value[1][:1]) == [1] for name, value in session.inputs.items() if name == "input_ids")
        """Whether it takes one sequence at a time only."""
        kinds = [_ON_DEVICE.get(name, "cpu") for name in session.providers[:1]]
        self.device = kinds[0] if kinds else "cpu"
        self.device_index = session.device_index if self.device != "cpu" else 0
        for one in (session, *([first] if first else [])):
            _check(one, {entry.past for entry in self.entries})
        self._binds = [self._bound(one) for one in (session, *([first] if first else []))]

    def _bound(self, session: Session) -> list[str]:
        """The names of *session*'s outputs for each of `entries`, which the two graphs may call otherwise."""
        names = {key: name for name in session.outputs if (key := _key(name))}
        keys = [_key(entry.present) for entry in self.entries]
        if any(key not in names for key in keys):
            raise LoadFailed("the graph for prompts keeps other layers than the one for tokens.", "Export it again.")
        return [names[key] for key in keys if key]

    def run(
        self, ids: Tokens, positions: Tokens, mask: Tokens, past: Sequence[Any] | None, *, logits: bool, last: bool
    ) -> tuple[Floats, list[Any]]:
        """Logits [batch, tokens, vocabulary], and the keys and values with the new ones behind them, as OrtValues.

        *ids*, *positions*: [batch, tokens]. *mask*: [batch, all tokens]; 0: not to be looked at. *past*: for each of
        `entries`; None: there is none. *logits*: False: they are not computed, and come empty. *last*: of the last
        token alone, where the graph can do so. Raises what `Session.run` does.
        """
        first = past is None and self._first is not None
        session = self._first if past is None and self._first is not None else self._session
        binding = session.raw.io_binding()
        self._words(session, binding, ids, positions, mask, past is not None, last)
        if not first:
            for entry, value in zip(self.entries, self.empty(len(ids)) if past is None else past, strict=True):
                binding.bind_ortvalue_input(entry.past, value)
        if logits:
            binding.bind_output(self.logits if self.logits in session.outputs else _logits(session))
        for name in self._binds[1 if first else 0]:
            binding.bind_output(name, self.device, self.device_index)
        with session.running() as options:
            options.only_execute_path_to_fetches = not logits
            session.raw.run_with_iobinding(binding, options)
        found = list(binding.get_outputs())
        rows = found.pop(0).numpy() if logits else np.zeros((len(ids), 0, self.vocabulary), np.float32)
        return rows.astype(np.float32), found

    def whole(self, tokens: Sequence[int]) -> Floats:
        """The logits of each of *tokens*, read behind nothing; at once where the graph can."""
        found: list[Floats] = []
        past: list[Any] | None = None
        for part in [tokens] if self.begins else [[token] for token in tokens]:
            start = len(found)
            positions = np.arange(start, start + len(part))[None]
            mask = np.ones((1, start + len(part)), np.int64)
            rows, past = self.run(np.array([part], np.int64), positions, mask, past, logits=True, last=False)
            found += [*rows[0]]
        return np.stack(found)

    def reaches(self, position: int) -> bool:
        """Whether it computes a token at *position*, as one with a table of positions does no longer behind its end.

        True as well where it is not told positions, and so cannot be tried with one token. Raises MemoryError.
        """
        if self._first is not None or "position_ids" not in self._session.inputs:
            return True
        one = np.ones((1, 1), np.int64)
        try:
            self.run(one, one * position, one, None, logits=True, last=True)
        except LoadFailed:
            return False
        return True

    def run_in_place(
        self, ids: Tokens, positions: Tokens, mask: Tokens, buffers: Sequence[NDArray[Any]], *, last: bool
    ) -> Floats:
        """`run` where what is new goes into the *buffers* of what was, [batch, heads, columns, size] in main memory."""
        binding = self._session.raw.io_binding()
        self._words(self._session, binding, ids, positions, mask, True, last)
        binding.bind_output(self.logits)
        for entry, buffer in zip(self.entries, buffers, strict=True):
            place = ("cpu", 0, entry.dtype, buffer.shape, buffer.ctypes.data)
            binding.bind_input(entry.past, *place)
            binding.bind_output(entry.present, *place)
        self._session.run_bound(binding)
        rows: Floats = binding.get_outputs()[0].numpy().astype(np.float32)
        return rows

    def _words(
        self, session: Session, binding: Any, ids: Tokens, positions: Tokens, mask: Tokens, behind: bool, last: bool
    ) -> None:
        """Bind all but keys and values; *behind*: whether there are any."""
        before = mask.shape[1] - ids.shape[1]
        for name, (kind, shape) in session.inputs.items():
            if name == "input_ids":
                given: Any = ids
            elif name == "attention_mask":
                given = mask
            elif name == "position_ids":
                given = positions if len(shape) < 3 else np.broadcast_to(positions, (_planes(shape), *positions.shape))
            elif name == "cache_position":
                given = np.arange(before, mask.shape[1])
            elif name == "use_cache_branch":
                given = np.array([behind])
            elif name in _KEEP:
                given = np.full([1] * len(shape), int(last))
            else:
                continue
            binding.bind_cpu_input(name, np.ascontiguousarray(given, dtype=_DTYPES[kind]))

    def empty(self, batch: int) -> list[Any]:
        """Keys and values of no tokens."""
        return [self.value(np.zeros((batch, one.heads, 0, one.size), one.dtype)) for one in self.entries]

    def value(self, array: NDArray[Any]) -> Any:
        """*array* where the graph runs, as an OrtValue."""
        return onnxruntime.OrtValue.ortvalue_from_numpy(array, self.device, self.device_index)


def _entries(session: Session, known: Size) -> list[Entry]:
    """In the order of the layers. Raises Unsupported, LoadFailed."""
    presents = {key: name for name in session.outputs if (key := _key(name))}
    found = []
    for name, (kind, shape) in session.inputs.items():
        if not _PAST.search(name) or name == "cache_position" or name == "use_cache_branch":
            continue
        key = _key(name)
        if key is None or len(shape) != 4 or key not in presents or ".encoder." in name:
            raise Unsupported(
                f"the graph keeps {name} from token to token, which this backend does not know.",
                "It runs decoders that keep keys and values, of four dimensions each.",
            )
        if kind not in _DTYPES:
            raise Unsupported(f"the graph keeps {name} as {kind}, which numpy has not.", "Export it as F32 or F16.")
        heads, size = _side(shape[1], known.heads), _side(shape[3], known.size)
        if not heads or not size:
            raise LoadFailed(
                f"the graph does not say how large {name} is.", "config.json must: num_key_value_heads and head_dim."
            )
        found.append((key, Entry(name, presents[key], heads, size, _DTYPES[kind])))
    if not found:
        raise Unsupported("the graph keeps no keys and values.", "Export it anew with its past.")
    return [entry for _, entry in sorted(found, key=lambda one: one[0])]


def _check(session: Session, known: set[str]) -> None:
    """Raises Unsupported: it wants what a text does not have."""
    own = {"input_ids", "attention_mask", "position_ids", "cache_position", "use_cache_branch", *_KEEP}
    strange = [name for name in session.inputs if name not in own | known]
    if strange:
        said = ", ".join(strange[:4])
        raise Unsupported(f"the graph wants {said}, which a text does not have.", "It runs decoders of text.")


def _key(name: str) -> tuple[int, str] | None:
    """The layer, and key or value."""
    found = _ENTRY.search(name)
    return (int(found[1]), found[2]) if found else None


def _logits(session: Session) -> str:
    """The name of the output that scores each token. Raises Unsupported."""
    scores = [name for name, (_, shape) in session.outputs.items() if len(shape) == 3 and not _key(name)]
    if "logits" not in session.outputs and len(scores) != 1:
        raise Unsupported("the graph has no output called logits.", "Export it as a decoder, with its language head.")
    return "logits" if "logits" in session.outputs else scores[0]


def _side(side: int | str, otherwise: int) -> int:
    """How long it is: an exporter may call it `64`."""
    if isinstance(side, int):
        return side
    return int(side) if side.isdecimal() else otherwise


def _whole(sides: Sequence[int | str]) -> list[int]:
    return [_side(side, 0) for side in sides]


def _planes(shape: Sequence[int | str]) -> int:
    """How many planes positions have (Qwen2-VL: time, height, width)."""
    return _side(shape[0], 3) or 3
