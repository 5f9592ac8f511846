"""The decode loop over a Decoder: a chunk of prompts and a token for every running answer in each step."""

from __future__ import annotations

import logging
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence

from anyform.contract.errors import Fault
from anyform.text.decodeloop import DecodeLoop
from anyform.text.decoder import Decoder
from anyform.text.sampling import Floats
from anyform.text.slot import Slot, shared, whole
from anyform.text.ticket import Answer

log = logging.getLogger("anyform.text")
SCORED_ROWS = 64
"""Prompt tokens whose likelihoods are reckoned together; each takes a row as wide as the vocabulary."""
_PADDING = 1.5
"""How much of a pass over several prompts may be padding: as many tokens again as half of theirs."""


class SlotLoop(DecodeLoop):
    """Runs tickets on a Decoder; answers join and leave at every step."""

    @abstractmethod
    def _failed(self, error: Exception, size: int) -> Fault:
        """What is told of a step for *size* requests that the engine did not compute."""

    def __init__(self, decoder: Decoder, parallel: int, batch: int, text_interval_s: float = 0.0) -> None:
        """*batch*: most prompt tokens of one step."""
        self._decoder = decoder
        self._batch = max(batch, 2 * decoder.fewest)
        super().__init__(decoder.slots, parallel, text_interval_s)

    def _free(self) -> None:
        self._decoder.free()

    def _step(self) -> None:
        self._sweep()
        if self._waiting:
            self._admit()
        self._stale = False
        reading = self._chosen()
        if reading:
            self._stale = True
            self._guarded(reading, self._read if len(reading) == 1 else self._read_all)
        running = [one for one in self._active if not one.reading and one not in reading]
        if running:
            started = time.perf_counter()
            self._guarded(running, self._advance)
            self._step_s += 0.2 * (time.perf_counter() - started - self._step_s)

    def _guarded(self, answers: list[Answer], compute: Callable[[list[Answer]], None]) -> None:
        """Do it; where it fails, with whatever error, only the requests of *answers* are lost."""
        try:
            compute(answers)
        except Exception as error:  # engines have classes of their own, and no one error is worth all other requests
            log.warning("a step failed", exc_info=error)
            for answer in [one for one in answers if one in self._active]:
                answer.decoded = 0
                self._lose(answer, self._failed(error, len(answers)))

    def _chosen(self) -> list[Answer]:
        """Whose prompts are read in this step: the one that has waited longest, and whole ones of about its length."""
        chosen: list[Answer] = []
        for one in sorted((one for one in self._active if one.reading), key=lambda one: one.seat):
            trial = [*chosen, one]
            lengths = [len(each.ticket.prompt) - each.decoded for each in trial]
            padded = len(trial) * max(lengths)
            fits = padded <= min(self._batch, _PADDING * sum(lengths))
            if chosen and not (fits and self._decoder.together and not any(each.ticket.score_prompt for each in trial)):
                break
            chosen = trial
        return sorted(chosen, key=lambda one: one.slot)

    def _read_all(self, answers: list[Answer]) -> None:
        """The rest of several prompts, and their answers' first tokens."""
        rows = self._decoder.read_all(
            [one.slot for one in answers],
            [one.decoded for one in answers],
            [one.ticket.prompt[one.decoded :] for one in answers],
        )
        for one in answers:
            one.decoded = len(one.ticket.prompt)
        self._speak(rows, answers)

    def _read(self, answers: list[Answer]) -> None:
        """The next tokens of a prompt; behind its last one, the answer's first."""
        (answer,) = answers
        ticket = answer.ticket
        scored = ticket.score_prompt and answer.index == 0
        start = answer.decoded
        tokens = ticket.prompt[start : start + self._count(answer, scored)]
        rows = self._compute(answer, start, tokens, scored)
        answer.decoded += len(tokens)
        if scored:
            self._score(answer, rows)
        if not answer.reading:
            self._speak(rows[-1:], [answer])

    def _compute(self, answer: Answer, start: int, tokens: Sequence[int], every: bool) -> Floats:
        return self._decoder.read(answer.slot, start, tokens, every=every)

    def _count(self, answer: Answer, scored: bool) -> int:
        """As many as a step takes, and never so that fewer than a few are left over."""
        wanted = len(answer.ticket.prompt) - answer.decoded
        most = min(self._batch, SCORED_ROWS) if scored else self._batch
        return wanted if wanted <= most else min(most, wanted - self._decoder.fewest)

    def _advance(self, answers: list[Answer]) -> None:
        """A token for each of *answers*."""
        rows = self._decoder.step(
            [answer.slot for answer in answers],
            [answer.tokens[answer.decoded] for answer in answers],
            [answer.decoded for answer in answers],
        )
        for answer in answers:
            answer.decoded += 1
        self._speak(rows, answers)

    def _reuse(self, slot: Slot, answer: Answer, length: int) -> int:
        """Keep what the slot has of the prompt, or copy what another has more of; the last tokens are always read."""
        most = max(len(answer.tokens) - self._decoder.fewest, 0)
        if answer.ticket.score_prompt and not answer.index:
            return 0
        if not self._decoder.batched:
            return length if length == len(slot.tokens) and 0 < length <= most else 0
        source, longer = self._source(slot, answer)
        media = answer.ticket.media
        kept, longer = whole(min(length, most), media), whole(min(longer, most), media)
        if source is None or longer <= kept:
            return kept
        self._decoder.copy(source, slot.id, longer)
        return longer

    def _source(self, slot: Slot, answer: Answer) -> tuple[int | None, int]:
        """Another slot that has most of the prompt, and how many tokens."""
        lengths = {other.id: shared(other.tokens, answer.tokens) for other in self._slots if other is not slot}
        for other in self._active:
            lengths[other.slot] = min(shared(other.tokens, answer.tokens), other.decoded)
        best = max(lengths, key=lambda id: lengths[id], default=None)
        return best, lengths[best] if best is not None else 0
