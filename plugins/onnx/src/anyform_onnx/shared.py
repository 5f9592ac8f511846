"""The decoder for graphs whose attention writes what is new into the buffer of what was (GroupQueryAttention).

onnxruntime-genai's builder makes them. Nothing is copied from step to step, nor moved when sequences come and go: a
slot has a row of the buffers, and neighbouring rows are a batch as they lie. Where a row's next token goes the graph
tells from how many columns of the mask are 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from anyform.text.sampling import Floats
from anyform.text.slot import gaps
from anyform_onnx.cachegraph import CacheGraph, Tokens

_WIDEST = 2
"""Idle slots between running ones that are computed with them rather than in a pass of their own."""


class SharedDecoder:
    """See the module. In main memory."""

    fewest = 1
    batched = together = True

    def __init__(self, graph: CacheGraph, slots: int, context: int) -> None:
        self.slots = slots
        self._graph = graph
        self._columns = context
        self._stores = [np.zeros((slots, one.heads, self._columns, one.size), one.dtype) for one in graph.entries]
        self._lengths = [0] * slots

    def read(self, slot: int, start: int, tokens: Sequence[int], *, every: bool) -> Floats:
        end = start + len(tokens)
        found: Floats = self._run(slot, np.array([list(tokens)], np.int64), [start], [end], last=not every)[0]
        self._lengths[slot] = end
        return found if every else found[-1:]

    def read_all(self, slots: Sequence[int], starts: Sequence[int], prompts: Sequence[Sequence[int]]) -> Floats:
        longest = max(map(len, prompts))
        if any(starts) or slots[-1] - slots[0] + 1 != len(slots):
            each = zip(slots, starts, prompts, strict=True)
            return np.concatenate([self.read(slot, start, tokens, every=False)[-1:] for slot, start, tokens in each])
        ids = np.zeros((len(slots), longest), np.int64)
        for row, tokens in enumerate(prompts):
            ids[row, : len(tokens)] = tokens
        ends = [len(tokens) for tokens in prompts]
        found = self._run(slots[0], ids, [0] * len(slots), ends)
        for slot, end in zip(slots, ends, strict=True):
            self._lengths[slot] = end
        rows: Floats = found[np.arange(len(slots)), np.array(ends) - 1]
        return rows

    def step(self, slots: Sequence[int], tokens: Sequence[int], positions: Sequence[int]) -> Floats:
        given = {slot: (token, at) for slot, token, at in zip(slots, tokens, positions, strict=True)}
        found = np.empty((len(slots), self._graph.vocabulary), np.float32)
        for first, end in _runs(self._bridged(slots)):
            row = range(first, end)
            ids = np.array([[given.get(slot, (0, 0))[0]] for slot in row], np.int64)
            starts = [given[slot][1] if slot in given else self._lengths[slot] for slot in row]
            rows = self._run(first, ids, starts, [start + 1 for start in starts])[:, -1]
            for place, slot in enumerate(slots):
                if slot in row:
                    found[place] = rows[slot - first]
                    self._lengths[slot] = given[slot][1] + 1
        return found

    def _bridged(self, slots: Sequence[int]) -> list[int]:
        """*slots*, and the idle ones between them that have a column left for what they write."""
        return sorted({*slots, *(slot for slot in gaps(slots, _WIDEST) if self._lengths[slot] < self._columns)})

    def _run(self, first: int, ids: Tokens, starts: list[int], ends: list[int], *, last: bool = False) -> Floats:
        """Logits of *ids*, the rows of the slots from *first* on."""
        mask = (np.arange(max(ends)) < np.array(ends)[:, None]).astype(np.int64)
        positions = np.array(starts)[:, None] + np.arange(ids.shape[1])
        buffers = [store[first : first + len(ids)] for store in self._stores]
        return self._graph.run_in_place(ids, positions, mask, buffers, last=last)

    def copy(self, source: int, target: int, count: int) -> None:
        for store in self._stores:
            store[target, :, :count] = store[source, :, :count]
        self._lengths[target] = count

    def free(self) -> None:
        self._stores.clear()
        del self._graph  # and the weights with it, where no other decoder has it


def may_share(graph: CacheGraph) -> bool:
    """Whether the graph's memory is one that numpy can point to."""
    return graph.many and graph.device == "cpu" and not graph.alone


def _runs(ids: Sequence[int]) -> list[tuple[int, int]]:
    """Ascending *ids* as ranges: first, and one behind the last."""
    found: list[tuple[int, int]] = []
    for id in ids:
        if found and found[-1][1] == id:
            found[-1] = (found[-1][0], id + 1)
        else:
            found.append((id, id + 1))
    return found
