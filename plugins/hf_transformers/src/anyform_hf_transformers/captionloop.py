"""Texts about pictures, many at once: those that were asked for together begin together, and go on in one batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from typing import Any

from anyform.contract.errors import Area, Fault
from anyform.contract.model import Stop
from anyform.picture.seen import Seen
from anyform.text.enginethread import EngineThread
from anyform_hf_transformers.backend import torch, transformers
from anyform_hf_transformers.writer import Sheet, Writer


class WritingFailed(Fault):
    """torch could not compute a step; its texts are lost, the model goes on."""

    code = "hf_transformers.writing_failed"
    area = Area.BACKEND


@dataclass(slots=True, eq=False)
class CaptionTicket:
    """One text. Its tokens come as they are found; then why it ended: stop, length or cancelled."""

    seen: Seen
    most: int
    """Tokens."""
    stop: Stop
    results: SimpleQueue[int | str | Fault] = field(default_factory=SimpleQueue)
    written: int = 0
    left: bool = False
    """Nobody reads it any more."""


@dataclass(slots=True, eq=False)
class Cohort:
    """Tickets that began together; a row of the sheet each."""

    tickets: list[CaptionTicket]
    sheet: Sheet

    def keep(self, rows: Sequence[int]) -> None:
        self.tickets = [self.tickets[row] for row in rows]
        if rows:
            self.sheet.keep(rows)


class CaptionLoop(EngineThread[CaptionTicket]):
    """Runs tickets: a token for each cohort in turn. Greedy, with the penalties that generation_config.json names.

    Rows of one batch need as many tokens each, as models count positions from the first column. So who comes later does
    not join a batch that runs: those who wait begin one of their own after the next token, and none waits for an end.
    """

    def __init__(self, writer: Writer, most: int) -> None:
        """*most*: texts at once."""
        self._writer = writer
        self._most = most
        self._ends = writer.ends
        self._shape = penalties(writer.decoder.generation_config, writer.ends, writer.device)
        self._waiting: deque[CaptionTicket] = deque()
        self._cohorts: list[Cohort] = []
        super().__init__()

    def _take(self, work: CaptionTicket) -> None:
        self._waiting.append(work)

    def _busy(self) -> bool:
        return bool(self._waiting or self._cohorts)

    def _free(self) -> None:
        self._cohorts.clear()
        self._writer.model = None
        if self._writer.device.startswith("cuda"):
            torch.cuda.empty_cache()

    def _fail(self, fault: Fault) -> None:
        for ticket in [*self._waiting, *(one for cohort in self._cohorts for one in cohort.tickets)]:
            ticket.results.put(fault)
        self._waiting.clear()
        self._cohorts.clear()

    def _step(self) -> None:
        self._waiting = deque(one for one in self._waiting if not _ended(one))
        group = self._group()
        if group:
            self._guarded(group, partial(self._begin, group))
        for cohort in self._cohorts:
            cohort.keep([row for row, one in enumerate(cohort.tickets) if not _ended(one)])
            if cohort.tickets:
                self._guarded(cohort.tickets, partial(self._advance, cohort))
        self._cohorts = [one for one in self._cohorts if one.tickets]

    def _group(self) -> list[CaptionTicket]:
        """Those that wait and fit the first of them, as many as there is room for."""
        room = self._most - sum(len(one.tickets) for one in self._cohorts)
        group = [one for one in self._waiting if _kind(one) == _kind(self._waiting[0])][: max(room, 0)]
        self._waiting = deque(one for one in self._waiting if one not in group)
        return group

    def _begin(self, group: list[CaptionTicket]) -> None:
        with torch.inference_mode():
            self._cohorts.append(Cohort(group, self._writer.begin([one.seen for one in group])))

    def _advance(self, cohort: Cohort) -> None:
        with torch.inference_mode():
            logits = self._shape(cohort.sheet.tokens, self._writer.step(cohort.sheet).float())
            found = logits.argmax(-1)
            cohort.sheet.tokens = torch.cat([cohort.sheet.tokens, found[:, None]], 1)
        going = []
        for row, (ticket, token) in enumerate(zip(cohort.tickets, found.tolist(), strict=True)):
            if token in self._ends:
                ticket.results.put("stop")
                continue
            ticket.results.put(token)
            ticket.written += 1
            if ticket.written < ticket.most:
                going.append(row)
            else:
                ticket.results.put("length")
        cohort.keep(going)

    def _guarded(self, tickets: list[CaptionTicket], compute: Callable[[], None]) -> None:
        """Do it; where torch fails, only these texts are lost."""
        try:
            compute()
        except (RuntimeError, ValueError, IndexError) as error:
            fault = WritingFailed(
                f"torch could not write about {len(tickets)} pictures: {error}.", "Try again; send smaller pictures."
            )
            for ticket in tickets:
                ticket.left = True
                ticket.results.put(fault)


def _kind(ticket: CaptionTicket) -> Any:
    """Those of the same kind may begin together.

    Not questions of several lengths: BLIP's decoder in transformers 5.23 looks at the padding, too, as its
    cross-attention drops the mask (BlipTextAttention.forward does not pass it on).
    """
    return len(ticket.seen), ticket.seen.key


def _ended(ticket: CaptionTicket) -> bool:
    if ticket.stop.is_set() and not ticket.left:
        ticket.left = True
        ticket.results.put("cancelled")
    return ticket.left


def penalties(asked: Any, ends: frozenset[int], device: str) -> Callable[[Any, Any], Any]:
    """Transformers' own, as generation_config.json asks for them; what makes answers random is not used."""
    made = transformers.LogitsProcessorList()
    if asked.repetition_penalty is not None and asked.repetition_penalty != 1.0:
        made.append(transformers.RepetitionPenaltyLogitsProcessor(asked.repetition_penalty))
    if asked.no_repeat_ngram_size:
        made.append(transformers.NoRepeatNGramLogitsProcessor(asked.no_repeat_ngram_size))
    if asked.min_length and ends:
        made.append(transformers.MinLengthLogitsProcessor(asked.min_length, sorted(ends), device=device))
    if asked.suppress_tokens:
        made.append(transformers.SuppressTokensLogitsProcessor(asked.suppress_tokens, device=device))
    processed: Callable[[Any, Any], Any] = made
    return processed
