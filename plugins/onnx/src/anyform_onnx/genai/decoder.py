"""One `og.Generator` for each sequence, run one after another: logits, for what onnxruntime-genai does not sample."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from anyform.text.sampling import Floats
from anyform_onnx.genai.backend import og

_LEAST = 256


@dataclass(slots=True)
class _Kept:
    """A sequence: what runs it, how many tokens it may hold, how many it holds."""

    generator: Any
    room: int
    tokens: int = 0


class GeneratorDecoder:
    """A Decoder (`anyform.text.decoder`) of one model. Its slots may be cut anywhere, and not be copied."""

    batched = together = False
    fewest = 1

    def __init__(self, model: Any, slots: int, context: int, padding: Collection[int] = ()) -> None:
        """*model*: an `og.Model`. *context*: most tokens of a sequence. *padding*: what may be genai's filler."""
        self.slots = slots
        self._model = model
        self._context = context
        self._padding = frozenset(padding)
        self._kept: list[_Kept | None] = [None] * slots
        self._cuts = self._whole = True

    def keep(self, slot: int, tokens: int, room: int) -> int:
        """How many of the first *tokens* of what *slot* holds it can go on behind, up to *room* in all; 0: it is new.

        Keys and values take memory for up to four times *room*, so that a conversation has room to go on, and never
        for more than the context.
        """
        kept = self._kept[slot]
        if kept is not None and 0 < tokens <= kept.tokens and room <= kept.room and self._cut(kept, tokens):
            return tokens
        self.forget(slot)
        room = min(self._context, max(_LEAST, 2 << (room - 1).bit_length()))
        self._kept[slot] = _Kept(self._generator(room), room)
        return 0

    def forget(self, slot: int) -> None:
        """Give the memory of *slot* back."""
        self._kept[slot] = None

    def holds(self, slot: int) -> bool:
        """Whether *slot* takes memory."""
        return self._kept[slot] is not None

    def _generator(self, room: int) -> Any:
        limits = og.GeneratorParams(self._model)
        limits.set_search_options(max_length=room, batch_size=1)
        return og.Generator(self._model, limits)

    def _cut(self, kept: _Kept, tokens: int) -> bool:
        """Models that keep more than keys and values cannot go back."""
        if kept.tokens == tokens:
            return True
        if not self._cuts:
            return False
        try:
            kept.generator.rewind_to(tokens)
        except RuntimeError:
            self._cuts = False
            return False
        kept.tokens = tokens
        return True

    def read(self, slot: int, start: int, tokens: Sequence[int], *, every: bool) -> Floats:
        kept = self._kept[slot]
        if kept is None or kept.tokens != start:
            if self.keep(slot, start, self._context) != start:
                raise RuntimeError(f"slot {slot} cannot go back to {start} tokens")
            kept = self._kept[slot]
        assert kept is not None
        if every and self._whole:
            rows = self._append_whole(kept, tokens)
            if rows is not None:
                return rows
        if every:
            return np.concatenate([self._append(kept, [token]) for token in tokens])
        return self._append(kept, tokens)

    def _append(self, kept: _Kept, tokens: Sequence[int]) -> Floats:
        """The last one's row. Of several tokens genai tells that of the last that is no padding: such goes alone."""
        if len(tokens) > 1 and tokens[-1] in self._padding:
            self._add(kept, tokens[:-1])
            tokens = tokens[-1:]
        return self._add(kept, tokens)

    def _add(self, kept: _Kept, tokens: Sequence[int]) -> Floats:
        kept.generator.append_tokens(np.asarray(tokens, np.int32))
        kept.tokens += len(tokens)
        found: Floats = np.array(kept.generator.get_logits()[0, -1:], np.float32)
        return found

    def _append_whole(self, kept: _Kept, tokens: Sequence[int]) -> Floats | None:
        """A row for each of *tokens*; None, and nothing is read: the graph gives the last one's alone."""
        before = kept.tokens
        self._add(kept, tokens)
        rows = kept.generator.get_output("logits")
        if rows.ndim == 3 and rows.shape[1] >= len(tokens):
            found: Floats = np.array(rows[0, -len(tokens) :], np.float32)
            return found
        self._whole = False
        if not before:
            kept.generator, kept.tokens = self._generator(kept.room), 0
        elif not self._cut(kept, before):
            raise RuntimeError("its graph gives the logits of a prompt's last token only, and it cannot go back")
        return None

    def read_all(self, slots: Sequence[int], starts: Sequence[int], prompts: Sequence[Sequence[int]]) -> Floats:
        raise NotImplementedError

    def step(self, slots: Sequence[int], tokens: Sequence[int], positions: Sequence[int]) -> Floats:
        rows = [
            self.read(slot, at, [token], every=False) for slot, token, at in zip(slots, tokens, positions, strict=True)
        ]
        return np.concatenate(rows)

    def copy(self, source: int, target: int, count: int) -> None:
        raise NotImplementedError

    def free(self) -> None:
        self._kept = [None] * self.slots
        self._model = None
