"""Decoders over onnxruntime: tokens of many sequences in, rows of logits out. Each sequence has a slot.

`RowDecoder` runs all sequences of a step as one batch. onnxruntime's graphs take one block of keys and values, so the
shorter sequences are padded in front, as transformers pads them. What a step gives back is the next one's block as it
stands; only when other sequences run than before is it put together anew.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anyform.contract.errors import LoadFailed
from anyform.text.decoder import PROBE, Decoder, computes, first_sound, near
from anyform.text.sampling import Floats
from anyform_onnx.cachegraph import CacheGraph, Tokens
from anyform_onnx.shared import SharedDecoder, may_share

LOGITS_BYTES = 32 << 20
"""Of the logits of a prompt, of which only the last token's are wanted: above it they are not computed."""
_STEPPED = 8
"""Tokens behind others that are read one by one where the graph reads no more at once; more: all from the start."""
SHARING = "GroupQueryAttention"
"""Attention that may write what is new into the buffer of what was, and looks its places up in a table."""
_ROUNDING = {"DynamicQuantizeLinear", "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "MatMulNBits", "QLinearMatMul"}
"""Operators that round what is read together on one scale, so that numbers hang on how a text is cut."""
_SINGLE, _HALF, _ROUNDED, _ROUNDED_ALONE = 1e-3, 5e-2, 1e-1, 4e-1
"""How far the logits of a decoder may lie from the graph's own, as a share of their spread; the last where they are
computed one after another with nothing padded, which is as near as a graph that rounds can come."""


@dataclass(slots=True)
class _Block:
    """Keys and values of some slots: [rows, heads, width, size] each; a row's own are its last ones."""

    values: list[Any]
    slots: list[int]
    lengths: list[int]
    width: int


class RowDecoder:
    """See the module."""

    fewest = 1
    batched = True

    def __init__(self, graph: CacheGraph, slots: int, *, rows: bool) -> None:
        """*rows*: False: the slots of a step are computed one after another."""
        self.slots = slots
        self.rows = rows
        self.together = rows
        self._graph = graph
        self._blocks: list[_Block | None] = [None] * slots
        self._read: list[list[int]] = [[] for _ in range(slots)]
        """What lies in each slot, kept for graphs that read no more than one token behind others."""

    def read(self, slot: int, start: int, tokens: Sequence[int], *, every: bool) -> Floats:
        if not self._graph.many and (start or not self._graph.begins):
            return self._behind(slot, start, list(tokens), every)
        self._note(slot, start, tokens)
        if not every and len(tokens) > 1 and len(tokens) * self._graph.vocabulary * 4 > LOGITS_BYTES:
            self._pass(slot, start, tokens[:-1], logits=False)
            start, tokens = start + len(tokens) - 1, tokens[-1:]
        rows = self._pass(slot, start, tokens, last=not every)
        return rows if every else rows[-1:]

    def _behind(self, slot: int, start: int, tokens: list[int], every: bool) -> Floats:
        """`read` with a graph that reads one token behind others, or all from the start."""
        if len(tokens) > _STEPPED and self._graph.begins:
            rows = self.read(slot, 0, [*self._read[slot][:start], *tokens], every=every)
            return rows[start:] if every else rows
        self._note(slot, start, tokens)
        found = [self._pass(slot, start + place, [token]) for place, token in enumerate(tokens)]
        return np.concatenate(found if every else found[-1:])

    def _note(self, slot: int, start: int, tokens: Sequence[int]) -> None:
        if not self._graph.many:
            self._read[slot][start:] = tokens

    def _pass(self, slot: int, start: int, tokens: Sequence[int], *, logits: bool = True, last: bool = False) -> Floats:
        end = start + len(tokens)
        past = self._alone(slot, start) if start else None
        ids, positions = np.array([list(tokens)], np.int64), np.arange(start, end)[None]
        mask = np.ones((1, end), np.int64)
        rows, values = self._graph.run(ids, positions, mask, past, logits=logits, last=last)
        self._blocks[slot] = _Block(values, [slot], [end], end)
        found: Floats = rows[0]
        return found

    def read_all(self, slots: Sequence[int], starts: Sequence[int], prompts: Sequence[Sequence[int]]) -> Floats:
        longest = max(map(len, prompts))
        uneven = any(starts) and any(len(tokens) != longest for tokens in prompts)
        pieces = not self._graph.many and (any(starts) or not self._graph.begins)
        if not self.rows or uneven or pieces or self._is_wide(len(prompts) * longest):
            each = zip(slots, starts, prompts, strict=True)
            return np.concatenate([self.read(slot, start, tokens, every=False)[-1:] for slot, start, tokens in each])
        ids = np.zeros((len(slots), longest), np.int64)
        for row, (slot, start, tokens) in enumerate(zip(slots, starts, prompts, strict=True)):
            self._note(slot, start, tokens)
            ids[row, longest - len(tokens) :] = tokens
        ends = [start + len(tokens) for start, tokens in zip(starts, prompts, strict=True)]
        return self._together(slots, starts, ids, ends)

    def _is_wide(self, tokens: int) -> bool:
        return tokens * self._graph.vocabulary * 4 > LOGITS_BYTES

    def step(self, slots: Sequence[int], tokens: Sequence[int], positions: Sequence[int]) -> Floats:
        each = list(zip(slots, tokens, positions, strict=True))
        for slot, token, at in each:
            self._note(slot, at, [token])
        if not self.rows or len(slots) == 1:
            return np.concatenate([self._pass(slot, at, [token]) for slot, token, at in each])
        return self._together(slots, positions, np.array(tokens, np.int64)[:, None], [at + 1 for at in positions])

    def _together(self, slots: Sequence[int], starts: Sequence[int], ids: Tokens, ends: list[int]) -> Floats:
        """The logits of the last of *ids* in each row, which are padded in front where there is no past."""
        past = self._joined(list(slots), list(starts)) if any(starts) else None
        width = (past.width if past else 0) + ids.shape[1]
        columns = np.arange(width)
        gaps = np.array(ends)[:, None] - width  # below 0: so many columns of padding
        mask = (columns + gaps >= 0).astype(np.int64)
        positions = np.maximum(columns[-ids.shape[1] :] + gaps, 0)
        rows, values = self._graph.run(ids, positions, mask, past.values if past else None, logits=True, last=True)
        block = _Block(values, list(slots), ends, width)
        for slot in slots:
            self._blocks[slot] = block
        found: Floats = rows[:, -1]
        return found

    def _joined(self, slots: list[int], lengths: list[int]) -> _Block:
        """The first *lengths* tokens of *slots* as one block: the one that they have if it is so, else a new one."""
        found = self._blocks[slots[0]]
        theirs = all(self._blocks[slot] is found for slot in slots)  # each may have gone on elsewhere
        if found is not None and theirs and found.slots == slots and found.lengths == lengths:
            return found
        width = max(lengths)
        arrays = [np.zeros((len(slots), one.heads, width, one.size), one.dtype) for one in self._graph.entries]
        for row, (slot, length) in enumerate(zip(slots, lengths, strict=True)):
            if not length:
                continue  # a prompt from its start on: all of its columns are padding
            offset, views = self._views(slot)
            for array, view in zip(arrays, views, strict=True):
                array[row, :, width - length :] = view[:, offset : offset + length]
        blocks = {id(block): block for slot in slots if (block := self._blocks[slot]) is not None}
        for block in blocks.values():
            self._leave(block, set(slots))
        return _Block([self._graph.value(array) for array in arrays], slots, lengths, width)

    def _leave(self, block: _Block, going: set[int]) -> None:
        """Give the rows of *block* that do not go on memory of their own, so that the block's can be given back."""
        for slot in block.slots:
            if slot not in going and self._blocks[slot] is block:
                length = block.lengths[block.slots.index(slot)]
                self._blocks[slot] = _Block(self._cut(slot, length), [slot], [length], length)

    def _alone(self, slot: int, length: int) -> list[Any]:
        """The first *length* tokens of *slot* as a block of its own."""
        found = self._blocks[slot]
        if found is not None and found.slots == [slot] and found.width == length:
            return found.values
        return self._cut(slot, length)

    def _cut(self, slot: int, length: int) -> list[Any]:
        offset, views = self._views(slot)
        # a copy always: a view of an OrtValue that was made of an array does not keep that array alive
        return [self._graph.value(view[None, :, offset : offset + length].copy()) for view in views]

    def _views(self, slot: int) -> tuple[int, list[NDArray[Any]]]:
        """Where the slot's own columns begin, and [heads, width, size] of each entry."""
        block = self._blocks[slot]
        if block is None:
            raise IndexError(f"slot {slot} is empty.")
        row = block.slots.index(slot)
        return block.width - block.lengths[row], [value.numpy()[row] for value in block.values]

    def copy(self, source: int, target: int, count: int) -> None:
        self._blocks[target] = _Block(self._cut(source, count), [target], [count], count)
        self._read[target] = self._read[source][:count]

    def free(self) -> None:
        self._blocks = [None] * self.slots
        del self._graph  # and the weights with it, where no other decoder has it


def open_decoder(graph: CacheGraph, slots: int, context: int, operators: Collection[str]) -> Decoder:
    """The quickest decoder that gives what *graph*, which is made of *operators*, alone gives. Raises LoadFailed."""
    expected = graph.whole(PROBE)
    if not np.isfinite(expected).all():
        raise LoadFailed("the model computes numbers that are not finite.", "Get it again, or take another variant.")
    exact = _HALF if graph.half else _SINGLE
    rounds = not _ROUNDING.isdisjoint(operators)

    def sound(decoder: Decoder) -> bool:
        alone = isinstance(decoder, RowDecoder) and not decoder.rows
        tolerance = (_ROUNDED_ALONE if alone else _ROUNDED) if rounds else exact
        return computes(decoder, expected, tolerance) and _agree(decoder, expected, tolerance)

    def stepwise(rows: bool) -> Decoder:
        graph.many = False
        return RowDecoder(graph, slots, rows=rows)

    kinds = [False] if graph.alone else [True, False]
    makers: list[Callable[[], Decoder]] = [partial(RowDecoder, graph, slots, rows=rows) for rows in kinds]
    if SHARING in operators and may_share(graph):
        makers.insert(0, partial(SharedDecoder, graph, slots, context))
    if graph.many:  # and is right for single tokens alone, as one that was traced with a single one
        makers += [partial(stepwise, rows) for rows in kinds]
    return first_sound(makers, sound, (Exception,))  # onnxruntime's own errors have no other class in common


def _agree(decoder: Decoder, expected: Floats, tolerance: float) -> bool:
    """Whether steps of two slots whose texts are of different length give *expected*, too."""
    if decoder.slots < 2:
        return True
    one, other, ahead = decoder.slots - 2, decoder.slots - 1, 3
    decoder.read(one, 0, PROBE[:2], every=False)
    decoder.read(other, 0, PROBE[: 2 + ahead], every=False)
    for at in (2, 3):
        places = [at, at + ahead]
        rows = decoder.step([one, other], [PROBE[place] for place in places], places)
        if not near(rows, expected[places], tolerance):
            return False
    return True
