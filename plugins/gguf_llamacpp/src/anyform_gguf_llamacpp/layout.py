"""Writes the batch of one step: which rows, of which sequences, at which positions, and which give logits.

llama.cpp computes neighbouring sequence ids together and starts anew at a hole. So rows go in the order of slots, and
small holes are closed by a row for an idle slot, whose effect on its memory is undone after the step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from anyform.text.slot import Slot, gaps, position
from anyform.text.ticket import Answer
from anyform_gguf_llamacpp.engine import Context

_WIDEST_HOLE = 4
"""A row costs about a fifth of a separate computation (0.1B and 0.6B models on CPU)."""


class Layout:
    """The rows of the last step, and how to write the next."""

    def __init__(self, context: Context, slots: Sequence[Slot]) -> None:
        self._context = context
        self._slots = slots
        self._speaking_rows: NDArray[np.intp] | slice = slice(0)
        self._running: dict[int, Answer] = {}
        self.rows = 0
        self.prompt_rows = 0
        self.outputs = 0
        self.fillers: list[int] = []
        self.chunks: list[tuple[Answer, int]] = []
        """Which answers are in the batch, and with how many tokens."""
        self.speaking: list[Answer] = []
        """Those that get their next token from this step."""
        self.spoken: list[int] = []
        """Which output row each of them reads."""
        self.scored: list[tuple[Answer, int, int]] = []
        """Prompts to be scored: answer, first output row, number of rows."""

    def write(self, active: Sequence[Answer], counts: Mapping[int, int]) -> None:
        """Lay out `counts[slot]` tokens of each of *active* that has a count; they are in the order of their slots."""
        self._reset()
        self._running = {answer.slot: answer for answer in active}
        chosen = [answer for answer in active if counts.get(answer.slot)]
        self.fillers = self._choose_fillers([answer.slot for answer in chosen], counts)
        idle = list(self.fillers)
        speaking_rows: list[int] = []
        for answer in chosen:
            while idle and idle[0] < answer.slot:
                self._write_filler(self._slots[idle.pop(0)])
            self._write_chunk(answer, counts[answer.slot])
            if self.speaking and self.speaking[-1] is answer:
                speaking_rows.append(self.rows - 1)
        while idle:
            self._write_filler(self._slots[idle.pop(0)])
        every = self.rows == len(speaking_rows)
        self._speaking_rows = slice(self.rows) if every else np.array(speaking_rows, np.intp)

    def advance(self, tokens: NDArray[np.intp]) -> None:
        """The same rows again, one position on, with the *tokens* that were chosen for them."""
        self._context.token[self._speaking_rows] = tokens
        self._context.position[self._speaking_rows] += 1

    @property
    def steady(self) -> bool:
        """Whether `advance` can write the next step: every answer in the batch goes on with one token."""
        return len(self.speaking) == len(self.chunks) and not self.prompt_rows and not self.scored

    def _choose_fillers(self, taken: Sequence[int], counts: Mapping[int, int]) -> list[int]:
        """Idle slots, ascending, that get a row: in small holes, and beside a row that would be computed alone."""
        context = self._context
        if context.exact and sum(counts.values()) == 1:
            return self._beside(taken[0])
        fillers = gaps(taken, context.slots if context.exact else _WIDEST_HOLE)
        room = context.batch - sum(counts.values())
        return [id for id in fillers if not self._slots[id].busy] if len(fillers) <= room else []

    def _beside(self, taken: int) -> list[int]:
        """The slot next to *taken*; one with a running answer only where the row can be taken out again."""
        near = [id for id in (taken + 1, taken - 1) if 0 <= id < self._context.slots]
        idle = [id for id in near if not self._slots[id].busy]
        return (idle or ([] if self._context.sealed else near))[:1]

    def _reset(self) -> None:
        self.rows = self.prompt_rows = self.outputs = 0
        self.chunks = []
        self.speaking = []
        self.spoken = []
        self.scored = []

    def _write_filler(self, slot: Slot) -> None:
        if not slot.busy and (self._context.sealed or len(slot.tokens) >= self._context.room):
            slot.tokens, slot.media = [], ()
            self._context.cut(slot.id, 0)
        row = self.rows
        self._context.token[row] = 0
        self._context.position[row] = self._end(slot)
        self._context.sequence[row] = slot.id
        self._context.output[row] = 0
        self.rows += 1

    def undo_fillers(self) -> None:
        """Take out of memory what was decoded only to fill the batch."""
        for id in self.fillers:
            self._context.cut(id, self._end(self._slots[id]))

    def _end(self, slot: Slot) -> int:
        """The position after what lies in the slot's memory."""
        running = self._running.get(slot.id)
        if running is not None:
            return position(running.decoded, running.ticket.media)
        return position(len(slot.tokens), slot.media)

    def _write_chunk(self, answer: Answer, count: int) -> None:
        context, ticket = self._context, answer.ticket
        start, row = answer.decoded, self.rows
        end = row + count
        place = position(start, ticket.media)
        context.token[row:end] = answer.tokens[start : start + count]
        context.position[row:end] = np.arange(place, place + count)
        context.sequence[row:end] = answer.slot
        outputs = self._mark_outputs(answer, row, count)
        if answer.reading:
            self.prompt_rows += count
        self.chunks.append((answer, count))
        self.rows = end
        self.outputs += outputs

    def _mark_outputs(self, answer: Answer, row: int, count: int) -> int:
        output = self._context.output
        end = row + count
        scored = answer.ticket.score_prompt and answer.reading and answer.index == 0
        output[row:end] = scored
        if answer.decoded + count == len(answer.tokens):
            output[end - 1] = 1
            self.speaking.append(answer)
            self.spoken.append(self.outputs + (count - 1 if scored else 0))
        if scored:
            self.scored.append((answer, self.outputs, count))
            return count
        return int(output[end - 1])
