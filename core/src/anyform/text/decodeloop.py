"""What every decode loop does with answers: seats them in slots, hands out their tokens, ends and drops them."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections import deque
from collections.abc import Sequence

from anyform.contract.errors import Fault
from anyform.text.enginethread import EngineThread
from anyform.text.picking import Picks, pick, score
from anyform.text.sampling import Floats
from anyform.text.slot import Slot, choose
from anyform.text.ticket import Answer, End, Likelihood, Scored, Ticket


class DecodeLoop(EngineThread[Ticket]):
    """Runs tickets; the messages of each end with one End for each answer, or with a Fault.

    A subclass computes: it says in `_step` which answers get a token, and in `_reuse` what a slot has of a prompt.
    """

    def __init__(self, slots: int, parallel: int, text_interval_s: float = 0.0) -> None:
        """*parallel*: how many answers may run at once, at most *slots*.

        *text_interval_s*: how long a token may be held back to travel with the next.
        """
        self._slots = [Slot(id) for id in range(slots)]
        self._parallel = parallel
        self._text_interval_s = text_interval_s
        self._waiting: deque[Answer] = deque()
        self._active: list[Answer] = []
        """By slot."""
        self._stale = True
        """Whether other answers run than in the last step."""
        self._step_s = 0.0
        """What a step without prompts takes; kept by the subclass."""
        self._releases = self._seats = 0
        super().__init__()

    @abstractmethod
    def _reuse(self, slot: Slot, answer: Answer, length: int) -> int:
        """Keep what *slot* has of the prompt, *length* tokens at the most; how many need not be decoded again."""

    def _take(self, work: Ticket) -> None:
        self._waiting.extend(work.answers)

    def _busy(self) -> bool:
        return bool(self._active or self._waiting)

    def _fail(self, fault: Fault) -> None:
        for ticket in {id(answer.ticket): answer.ticket for answer in (*self._active, *self._waiting)}.values():
            ticket.tell(fault)
        self._active.clear()
        self._waiting.clear()

    def _speak(self, rows: Floats, answers: Sequence[Answer]) -> Picks:
        """Choose the next token of each of *answers* from its row, and deliver it."""
        picks = pick(rows, answers)
        for place, (answer, token) in enumerate(zip(answers, picks.tokens.tolist(), strict=True)):
            if picks.failures and place in picks.failures:
                self._lose(answer, picks.failures[place])
            else:
                self._deliver(answer, token, picks.likelihoods.get(place) if picks.likelihoods else None)
        self._tell(answers)
        return picks

    def _tell(self, answers: Sequence[Answer]) -> None:
        """Wake the readers of what is new, save those whose next token comes soon enough to travel with it.

        A reader, the server and the client take half a millisecond of CPU for each waking, cold as their code is
        after a step, and on a small machine the step waits for it. So no waking is spent where a step is quicker.
        """
        steady = not self._stale and not self._waiting and self._inbox.empty()
        next_s = time.perf_counter() + self._step_s
        for answer in answers:
            ticket = answer.ticket
            if ticket.held and not (steady and next_s <= ticket.told_s + self._text_interval_s):
                ticket.tell()

    def _deliver(self, answer: Answer, token: int, likelihood: Likelihood | None) -> None:
        ticket = answer.ticket
        if answer.left <= 0:  # the prompt was only to be scored
            self._end(answer, "length")
            return
        if not ticket.first_s:
            ticket.first_s = time.perf_counter()
        answer.tokens.append(token)
        answer.left -= 1
        if token in ticket.ends:
            self._end(answer, "stop")
            return
        ticket.held.append((answer.index, token, likelihood))
        if answer.constraint is not None and answer.constraint.finished:
            self._end(answer, "stop")
        elif answer.left <= 0:
            self._end(answer, "length")

    def _score(self, answer: Answer, rows: Floats) -> None:
        """Report how likely the prompt tokens after each of *rows* were."""
        start = answer.decoded - len(rows)
        following = answer.ticket.prompt[start + 1 : answer.decoded + 1]
        answer.ticket.tell(Scored(score(rows[: len(following)], following, answer.ticket.top_logprobs)))

    def _sweep(self) -> None:
        """Drop what was cancelled, running or waiting."""
        for answer in [a for a in self._active if a.dropped or a.ticket.stop.is_set()]:
            self._end(answer, "cancelled")
        if any(a.dropped or a.ticket.stop.is_set() for a in self._waiting):
            waiting, self._waiting = self._waiting, deque()
            for answer in waiting:
                if answer.dropped or answer.ticket.stop.is_set():
                    answer.ticket.tell(End(answer.index, "cancelled", 0))
                else:
                    self._waiting.append(answer)

    def _end(self, answer: Answer, reason: str) -> None:
        self._release(answer)
        ticket = answer.ticket
        ticket.ended_s = time.perf_counter()
        ticket.tell(End(answer.index, reason, len(answer.tokens) - len(ticket.prompt)))

    def _lose(self, answer: Answer, fault: Fault) -> None:
        """End the whole request of *answer* with *fault*."""
        for sibling in answer.ticket.answers:
            if sibling in self._active:
                self._release(sibling)
            sibling.dropped = True
        answer.ticket.tell(fault)

    def _release(self, answer: Answer) -> None:
        slot = self._slots[answer.slot]
        slot.tokens = answer.tokens[: answer.decoded]
        slot.media = tuple(part for part in answer.ticket.media if part.end <= answer.decoded)
        slot.busy = False
        self._releases += 1
        slot.used = self._releases
        self._active.remove(answer)
        self._stale = True

    def _admit(self) -> None:
        """Give waiting answers, first come first served, the slots that are free."""
        for answer in list(self._waiting):
            first = answer.ticket.answers[0]
            if answer is not first and first in self._active and first.reading:
                continue  # it copies the prompt that the first of its request is reading
            found = choose(self._slots[: self._parallel], answer.tokens)
            if found is None:
                return
            self._waiting.remove(answer)
            self._seat(answer, *found)

    def _seat(self, answer: Answer, slot: Slot, length: int) -> None:
        answer.slot = slot.id
        answer.decoded = self._reuse(slot, answer, length)
        slot.tokens, slot.media, slot.busy = [], (), True
        ticket = answer.ticket
        if not ticket.started_s:
            ticket.started_s = time.perf_counter()
            ticket.cached = answer.decoded
        self._seats += 1
        answer.seat = self._seats
        self._active.append(answer)
        self._active.sort(key=lambda a: a.slot)
        self._stale = True
