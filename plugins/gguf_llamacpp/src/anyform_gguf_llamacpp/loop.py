"""The decode loop: one thread that owns a context and runs many answers as sequences of one batch.

Answers join and leave at any step. Every running answer gets a token in every step; prompts are read in chunks that
fill up the rest of the batch, as long as the running answers need not wait much longer for it.
"""

from __future__ import annotations

import time
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from anyform.contract.errors import Area, Fault
from anyform.text.decodeloop import DecodeLoop
from anyform.text.slot import Slot, position, share_out, shared, whole
from anyform.text.ticket import Answer
from anyform_gguf_llamacpp.engine import Context
from anyform_gguf_llamacpp.layout import Layout

SCORED_ROWS = 64
"""Prompt rows that one step may score; the context is made for as many outputs beside one for each slot."""
_PROMPT_S = 0.1
"""How long prompts may keep running answers waiting in one step; or as long as the step takes without them."""
_SMALLEST_CHUNK = 16
_COPY_GAIN = 64
"""Prompt tokens that must be saved before another slot's memory is copied."""
_COPY_BYTES_S = 1e9
"""How fast a slot is copied, at the least; slow, since its pages may be touched for the first time."""


class DecodeFailed(Fault):
    """llama.cpp could not decode a batch; the answer is lost, the model goes on."""

    code = "gguf_llamacpp.decode_failed"
    area = Area.BACKEND


class Projector(Protocol):
    """Reads pictures into the memory of a sequence."""

    def read(self, chunk: Any, sequence: int, position: int) -> int:
        """Decode *chunk* at *position*; 0, or llama.cpp's code."""

    def free(self) -> None: ...


class Loop(DecodeLoop):
    """Runs tickets on a llama.cpp context."""

    def __init__(
        self, context: Context, parallel: int, projector: Projector | None = None, text_interval_s: float = 0.0
    ) -> None:
        """*parallel*: how many answers may run at once; the context has at least as many slots.

        *text_interval_s*: how long a token may be held back to travel with the next.
        """
        self._context = context
        self._projector = projector
        self._chosen: NDArray[np.intp] = np.empty(0, np.intp)
        """The tokens that the last step chose, in the order of its rows."""
        self._prompt_token_s = 0.0
        super().__init__(context.slots, parallel, text_interval_s)
        self._layout = Layout(context, self._slots)

    def _free(self) -> None:
        if self._projector:
            self._projector.free()
        self._context.free()

    def _step(self) -> None:
        self._sweep()
        if self._waiting:
            self._admit()
        if self._projector:
            self._read_pictures(self._projector)
        if not self._active:
            return
        started = time.perf_counter()
        if self._stale:
            self._layout.write(self._active, self._counts())
        else:
            self._layout.advance(self._chosen)
        if not self._layout.rows:
            return  # each waits for its next picture
        code = self._context.decode(self._layout.rows)
        if code:
            self._rescue(code)
        else:
            self._settle()
            self._learn(time.perf_counter() - started)

    def _settle(self) -> None:
        """After a decode: note what lies in memory now, and choose the next tokens."""
        layout = self._layout
        for answer, count in layout.chunks:
            answer.decoded += count
        if layout.fillers:
            layout.undo_fillers()
        self._stale = not layout.steady or len(layout.chunks) != len(self._active)
        if layout.outputs:
            rows = self._context.logits(layout.outputs)
            for answer, first, count in layout.scored:
                self._score(answer, rows[first : first + count])
            if layout.speaking:
                spoken = rows if layout.outputs == len(layout.speaking) else rows[layout.spoken]
                self._chosen = self._speak(spoken, layout.speaking).tokens

    def _counts(self) -> dict[int, int]:
        """How many tokens of each active answer go into the next step, by slot."""
        reading = sorted((answer for answer in self._active if answer.reading), key=lambda answer: answer.seat)
        counts = {answer.slot: 1 for answer in self._active if not answer.reading}
        if self._context.exact and reading:
            return self._count_alone(reading[0])
        budget = self._prompt_budget(len(counts))
        wanted = [self._readable(answer) for answer in reading]
        for answer, count in zip(reading, share_out(wanted, budget), strict=True):
            counts[answer.slot] = min(count, SCORED_ROWS // len(reading)) if answer.ticket.score_prompt else count
        return counts

    def _count_alone(self, answer: Answer) -> dict[int, int]:
        """A prompt by itself, in chunks that hang on nothing else, and none of a single token."""
        wanted = self._readable(answer)
        most = SCORED_ROWS if answer.ticket.score_prompt else self._context.ubatch
        return {answer.slot: wanted if wanted <= most else min(most, wanted - 2)}

    def _readable(self, answer: Answer) -> int:
        """Prompt tokens up to the next picture."""
        ends = (part.start for part in answer.ticket.media if part.start >= answer.decoded)
        return next(ends, len(answer.ticket.prompt)) - answer.decoded

    def _prompt_budget(self, running: int) -> int:
        most = min(self._context.ubatch, self._context.batch - running)
        if not running or not self._prompt_token_s:
            return most
        affordable = int(max(_PROMPT_S, self._step_s) / self._prompt_token_s)
        return max(1, min(most, max(_SMALLEST_CHUNK, affordable)))

    def _learn(self, spent_s: float) -> None:
        """Keep running averages of what a step and a prompt token cost."""
        prompt_rows = self._layout.prompt_rows
        if not prompt_rows:
            self._step_s += 0.2 * (spent_s - self._step_s)
        elif prompt_rows >= _SMALLEST_CHUNK:
            others = self._step_s if self._layout.rows > prompt_rows else 0.0
            each = max(spent_s - others, 0.2 * spent_s) / prompt_rows
            self._prompt_token_s = each if not self._prompt_token_s else 0.7 * self._prompt_token_s + 0.3 * each

    def _reuse(self, slot: Slot, answer: Answer, length: int) -> int:
        """Keep or copy what some memory has of the prompt; how many tokens need not be decoded again.

        The last token always is, since its logits are needed; for exactness not alone.
        """
        media = answer.ticket.media
        most = len(answer.tokens) - (2 if self._context.exact else 1)
        most = 0 if answer.ticket.score_prompt and not answer.index else max(most, 0)
        kept = whole(min(length, most), media)
        source, longer = self._source(slot, answer)
        longer = whole(min(longer, most), media)
        if source is not None and self._copy_pays(longer - kept):
            self._context.cut(slot.id, 0)
            self._context.copy(source, slot.id)
            kept = longer
        elif self._context.sealed and kept < len(slot.tokens):
            kept = 0
        if kept and self._covers(slot.id, kept) and self._context.cut(slot.id, position(kept, media)):
            return kept
        self._context.cut(slot.id, 0)
        return 0

    def _copy_pays(self, gain: int) -> bool:
        """Whether copying a whole slot takes less time than reading *gain* tokens of prompt."""
        return gain >= _COPY_GAIN and self._context.slot_bytes / _COPY_BYTES_S < gain * (self._prompt_token_s or 0.001)

    def _covers(self, sequence: int, kept: int) -> bool:
        """Whether a sliding window has left all that the token at *kept* looks back on."""
        if self._context.sealed:
            return True
        return self._context.first(sequence) <= (max(0, kept - self._context.window) if self._context.window else 0)

    def _source(self, slot: Slot, answer: Answer) -> tuple[int | None, int]:
        """Another slot whose memory has most of the prompt, and how many tokens; its tail must be cut after copying."""
        if self._context.sealed:
            return None, 0
        lengths = {other.id: shared(other.tokens, answer.tokens) for other in self._slots if other is not slot}
        for other in self._active:
            lengths[other.slot] = min(shared(other.tokens, answer.tokens), other.decoded)
        best = max(lengths, key=lambda id: lengths[id], default=None)
        return best, lengths[best] if best is not None else 0

    def _read_pictures(self, projector: Projector) -> None:
        """Read the picture that each answer has come to; the others wait for it."""
        for answer in [a for a in self._active if a.reading]:
            part = next((part for part in answer.ticket.media if part.start == answer.decoded), None)
            if part is None:
                continue
            code = projector.read(part.chunk, answer.slot, position(part.start, answer.ticket.media))
            if code:
                self._lose(answer, _failed(code, 1))
            else:
                answer.decoded = part.end

    def _rescue(self, code: int) -> None:
        """A batch failed: try its answers one by one, so that only those that cannot be decoded are lost."""
        batch = [answer for answer, _ in self._layout.chunks]
        self._layout.undo_fillers()
        self._stale = True
        for answer in batch:
            if answer not in self._active:
                continue
            intact = self._context.cut(answer.slot, position(answer.decoded, answer.ticket.media))
            if intact and len(batch) > 1:
                code = self._decode_alone(answer)
            if code or not intact:
                self._context.cut(answer.slot, 0)
                answer.decoded = 0
                self._lose(answer, _failed(code, len(batch)))

    def _decode_alone(self, answer: Answer) -> int:
        count = min(self._readable(answer), _SMALLEST_CHUNK) if answer.reading else 1
        self._layout.write(self._active, {answer.slot: count})
        code = self._context.decode(self._layout.rows)
        if not code:
            self._settle()
            self._stale = True
        return code


def _failed(code: int, size: int) -> DecodeFailed:
    why = "it found no room in the KV memory" if code == 1 else "it gave an error"
    return DecodeFailed(
        f"llama.cpp could not decode this request: {why} (code {code}, {size} requests in the batch).",
        "Try again; if it happens again, load the model with a smaller context or fewer parallel requests.",
        decode_code=code,
    )
