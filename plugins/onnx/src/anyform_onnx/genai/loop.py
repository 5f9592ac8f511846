"""The decode loop of onnxruntime-genai: its engine's batches, and sequences that we sample ourselves, in one thread."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

from anyform.contract.errors import Area, Fault, Unsupported
from anyform.text.sampling import Floats
from anyform.text.slot import Slot, shared
from anyform.text.slotloop import SlotLoop
from anyform.text.ticket import Answer, End, Ticket
from anyform_onnx.genai.decoder import GeneratorDecoder
from anyform_onnx.genai.wave import Grown, Wave, guidance, permits

log = logging.getLogger("anyform.onnx")
MOST_FAILURES = 3
"""After so many batches in a row that failed the engine is given up."""
MOST_BEGINNINGS = 3
"""How often an answer may be begun anew so that it runs together with those who came behind it."""
_CHUNK = 128
"""Most prompt tokens that a Generator is given at once: it keeps Python's lock while it computes."""
_WORTH_KEEPING = 128
"""Tokens of a prompt from which on it is worth not to read them again."""


class GenaiFailed(Fault):
    """onnxruntime-genai could not compute a step; its answers are lost, the model goes on."""

    code = "onnx.genai_failed"
    area = Area.BACKEND


@dataclass(slots=True)
class Running:
    """An answer in the engine."""

    answer: Answer
    wave: Wave


@dataclass(frozen=True, slots=True)
class Limits:
    """What the engine is not given."""

    batch: int
    """Prompt tokens of one step, padding included."""
    context: int


def asks_more(ticket: Ticket, limits: Limits) -> str:
    """What a request wants that the engine does not do, in a clause; empty: nothing."""
    recipe = ticket.recipe
    sampled = not recipe.greedy
    backward = recipe.repeat_last_n if recipe.repeat_last_n >= 0 else limits.context
    wants = {
        "it asks for log-probabilities": ticket.top_logprobs >= 0 or ticket.score_prompt,
        "it must follow a tool, or only once it has thought": any(guidance(one) is None for one in ticket.constraints),
        "it has a seed": recipe.seeded,
        "it has min_p, typical_p or a top_p of 0": sampled
        and (recipe.min_p > 0 or recipe.typical_p < 1 or recipe.top_p <= 0),
        "it is penalized": recipe.counts or (recipe.repeats and backward < limits.context),
        "tokens are banned or favoured": bool(recipe.bias_ids.size),
        "nothing is to be generated": ticket.limit < 1,
        f"its prompt is longer than {limits.batch} tokens": len(ticket.prompt) > limits.batch,
    }
    return next((said for said, true in wants.items() if true), "")


class GenaiLoop(SlotLoop):
    """Runs tickets in the engine, and what it does not do on a GeneratorDecoder; says in `extra` which, and why.

    At most `parallel` answers run at once, whichever way; where both wait for a place they take turns.
    """

    def __init__(
        self, decoder: GeneratorDecoder, parallel: int, text_interval_s: float, make: Callable[[], Wave], *,
        limits: Limits, dynamic: bool = False, why: str = "", lacks: str = "",
    ) -> None:  # fmt: skip
        """*make*: an engine. *dynamic*: requests may join one that runs.

        *why*: no engine is used, and the reason; *lacks*: the same of the decoder. One of them is empty.
        """
        self._make, self._limits, self._dynamic, self._why, self._lacks = make, limits, dynamic, why, lacks
        self._generators = decoder
        self._queue: deque[Answer] = deque()
        self._running: dict[int, Running] = {}
        self._waves: list[Wave] = []
        self._beginnings: dict[Answer, int] = {}
        self._begun = self._failures = 0
        self._ours_next = False
        super().__init__(decoder, parallel, min(limits.batch, _CHUNK), text_interval_s)

    def _failed(self, error: Exception, size: int) -> Fault:
        return failed(f"{type(error).__name__}: {error}", size)

    def _take(self, work: Ticket) -> None:
        why = self._why or asks_more(work, self._limits) or self._better_kept(work)
        work.extra["batching"] = f"own: {why}" if why else "engine"
        if not why and not work.recipe.greedy:
            work.extra["seed"] = None  # the engine draws from a stream of its own
        if why and self._lacks:
            work.tell(_unsupported(why, self._lacks))
        elif why:
            super()._take(work)
        else:
            self._queue.extend(work.answers)

    def _better_kept(self, work: Ticket) -> str:
        """Why a request is better off without the engine, which keeps nothing of it for the next one, in a clause.

        For one alone both are as quick.
        """
        size = len(work.prompt)
        if self._lacks or size < _WORTH_KEEPING or work.n > 1:
            return ""
        there = max((shared(slot.tokens, work.prompt) for slot in self._slots if not slot.busy), default=0)
        if 2 * there >= size:
            return "half of its prompt is there from before"
        alone = not self._busy() and self._inbox.empty()
        return "nothing else runs, and its text is kept for what follows" if alone else ""

    def _busy(self) -> bool:
        return bool(self._queue or self._running or super()._busy())

    def _step(self) -> None:
        self._leave()
        begun = self._begin() if self._queue else False
        started = time.perf_counter()
        for wave in list(self._waves):
            self._advance_wave(wave)
        if self._running:
            self._step_s += 0.2 * (time.perf_counter() - started - self._step_s)
        self._stale = begun
        self._tell([one.answer for one in self._running.values()])
        if super()._busy():
            super()._step()

    def _advance_wave(self, wave: Wave) -> None:
        try:
            grown = wave.step()
        except Exception as error:  # whatever it is: this engine is no longer to be trusted
            self._break(wave, f"{type(error).__name__}: {error}")
            return
        for one in grown:
            running = self._running.get(one.name)
            if running is not None and one.error:
                self._break(wave, one.error)
                return
            if running is not None:
                self._grow(one, running)
        if grown:
            self._failures = 0

    def _grow(self, one: Grown, running: Running) -> None:
        answer = running.answer
        constraint = answer.constraint
        if not permits(constraint, one.token):
            self._hand_over(answer, "the engine does not follow its grammar")
            return
        if one.token is not None:
            if constraint is not None:
                constraint.accept(one.token)
            self._deliver(answer, one.token, None)
        elif one.ended:
            answer.tokens.append(min(answer.ticket.ends, default=0))
            answer.ticket.first_s = answer.ticket.first_s or time.perf_counter()
            self._end(answer, "stop")

    def _hand_over(self, answer: Answer, why: str) -> None:
        """Go on with an answer of the engine's as one that it does not do."""
        log.warning("an answer goes on without onnxruntime-genai's engine: %s", why)
        self._beginnings.pop(answer, None)
        if self._lacks:
            self._lose(answer, failed(why, 1))
            return
        self._out(answer)
        answer.ticket.extra["batching"] = f"own: {why}"
        self._waiting.append(answer)

    def _begin(self) -> bool:
        """Give waiting answers their place, first come first served; whether there were any."""
        room = self._parallel - len(self._running) - len(self._active)
        if self._waiting and self._ours_next:
            room -= 1
        if room <= 0:
            return False
        group = self._group(room)
        self._ours_next = True
        self._spare(len(group))
        try:
            wave = self._waves.pop() if self._dynamic and self._waves else self._make()
        except Exception as error:  # as a step's: it is not ours to know what it may be
            self._blame(f"{type(error).__name__}: {error}", group)
            return True
        for answer in (*([] if self._dynamic else self._young(group)), *group):
            self._enter(wave, answer)
        if wave.names:
            self._waves.append(wave)
        else:
            wave.free()
        return True

    def _group(self, room: int) -> list[Answer]:
        """The next of the queue, as many as have room and whose prompts fit into one step, padded to one length."""
        first = self._queue.popleft()
        group, longest = [first], len(first.tokens)
        while self._queue and len(group) < room:
            longest = max(longest, len(self._queue[0].tokens))
            if longest * (len(group) + 1) > self._limits.batch:
                break
            group.append(self._queue.popleft())
        return group

    def _young(self, group: Sequence[Answer]) -> list[Answer]:
        """Take out of their waves the answers that are so short that reading them anew with *group* is soon made good.

        A step for two costs little more than one for one, but a static batch lets nobody join.
        """
        joined: list[Answer] = []
        longest = max(len(answer.tokens) for answer in group)
        for wave in list(self._waves):
            members = [self._running[name] for name in wave.names]
            if not all(self._may_begin_again(one) for one in members):
                continue
            answers = [one.answer for one in members]
            long = max([longest, *(len(answer.tokens) for answer in answers)])
            if long * (len(group) + len(joined) + len(answers)) <= self._limits.batch:
                longest = long
                joined += answers
                self._dissolve(wave)
        return joined

    def _may_begin_again(self, one: Running) -> bool:
        return one.answer.constraint is None and self._beginnings.get(one.answer, 0) < MOST_BEGINNINGS

    def _enter(self, wave: Wave, answer: Answer) -> None:
        ticket, name = answer.ticket, self._begun
        self._begun += 1
        self._beginnings[answer] = self._beginnings.get(answer, 0) + 1
        self._running[name] = Running(answer, wave)
        ticket.started_s = ticket.started_s or time.perf_counter()
        try:
            wave.add(name, answer.tokens, answer.left, ticket.recipe, answer.constraint)
        except Exception as error:  # such as a grammar that its llguidance, an older one, does not read
            self._hand_over(answer, f"the engine refuses it: {_short(str(error))}")

    def _spare(self, wanted: int, slot: Slot | None = None) -> None:
        """Forget what idle slots other than *slot* keep, so that no more than `parallel` sequences take memory."""
        idle = sorted((one for one in self._slots if not one.busy and one is not slot), key=lambda one: one.used)
        held = [one for one in idle if self._generators.holds(one.id)]
        over = len(held) + len(self._active) + len(self._running) + wanted - self._parallel
        for one in held[: max(over, 0)]:
            self._generators.forget(one.id)
            one.tokens = []

    def _admit(self) -> None:
        """As ever, and no more at once than the engine leaves of `parallel`."""
        room = self._parallel - len(self._running) - len(self._active)
        if self._queue and not self._ours_next:
            room -= 1
        if room <= 0:
            return
        waiting = self._waiting
        self._waiting = deque(islice(waiting, room))
        later = list(islice(waiting, room, None))
        before = len(self._active)
        super()._admit()
        self._waiting.extend(later)
        if len(self._active) > before:
            self._ours_next = False

    def _reuse(self, slot: Slot, answer: Answer, length: int) -> int:
        scored = answer.ticket.score_prompt and not answer.index
        kept = 0 if scored else min(length, len(answer.ticket.prompt) - 1)
        self._spare(1, slot)
        return self._generators.keep(slot.id, kept, len(answer.tokens) + max(answer.left, 1))

    def _compute(self, answer: Answer, start: int, tokens: Sequence[int], every: bool) -> Floats:
        """As ever; behind the prompt's last tokens those that the engine had made already."""
        rows = super()._compute(answer, start, tokens, every)
        end = start + len(tokens)
        made = answer.tokens[end:] if end == len(answer.ticket.prompt) else []
        if made:
            rows = super()._compute(answer, end, made, False)
            answer.decoded += len(made)
        return rows

    def _leave(self) -> None:
        """Drop what was cancelled, running or waiting."""
        for one in [one for one in self._running.values() if one.answer.dropped or one.answer.ticket.stop.is_set()]:
            self._end(one.answer, "cancelled")
        for answer in [one for one in self._queue if one.dropped or one.ticket.stop.is_set()]:
            self._queue.remove(answer)
            self._beginnings.pop(answer, None)
            made = len(answer.tokens) - len(answer.ticket.prompt)
            answer.ticket.tell(End(answer.index, "cancelled", made))

    def _release(self, answer: Answer) -> None:
        if not self._out(answer):
            super()._release(answer)

    def _out(self, answer: Answer) -> bool:
        """Take *answer* out of the engine; whether it was there."""
        name = next((name for name, one in self._running.items() if one.answer is answer), None)
        if name is None:
            return False
        wave = self._running.pop(name).wave
        self._stale = True
        wave.drop(name)
        self._beginnings.pop(answer, None)
        if not wave.names and wave in self._waves:
            self._waves.remove(wave)
            wave.free()
        return True

    def _lose(self, answer: Answer, fault: Fault) -> None:
        for sibling in answer.ticket.answers:
            if any(one.answer is sibling for one in self._running.values()):
                self._release(sibling)
            elif sibling in self._queue:
                self._queue.remove(sibling)
                self._beginnings.pop(sibling, None)
        super()._lose(answer, fault)

    def _dissolve(self, wave: Wave) -> list[Running]:
        """Free an engine in whose requests run; they are what is returned."""
        members = [self._running.pop(name) for name in wave.names if name in self._running]
        self._waves.remove(wave)
        wave.free()
        return members

    def _break(self, wave: Wave, said: str) -> None:
        """What ran in a failed engine goes on without one."""
        members = [one.answer for one in self._dissolve(wave)]
        self._blame(said, members)

    def _blame(self, said: str, answers: Sequence[Answer]) -> None:
        """An engine failed under *answers*; after too many of them nothing is given to engines any more."""
        self._failures += 1
        for answer in answers:
            self._beginnings.pop(answer, None)
            if not answer.dropped:
                self._hand_over(answer, f"the engine failed: {_short(said)}")
        if self._failures < MOST_FAILURES or self._lacks:
            return
        self._why = f"the engine failed {self._failures} times, last with {_short(said)}"
        log.warning("onnxruntime-genai's engine is given up: %s", self._why)
        waiting, self._queue = self._queue, deque()
        for answer in waiting:
            self._hand_over(answer, self._why)

    def _fail(self, fault: Fault) -> None:
        tickets = {id(one): one for one in [*(run.answer.ticket for run in self._running.values())]}
        tickets |= {id(answer.ticket): answer.ticket for answer in self._queue}
        ours = {id(answer.ticket) for answer in (*self._active, *self._waiting)}
        for key, ticket in tickets.items():
            if key not in ours:
                ticket.tell(fault)
        for wave in self._waves:
            wave.free()
        self._waves.clear()
        self._running.clear()
        self._queue.clear()
        self._beginnings.clear()
        super()._fail(fault)

    def _free(self) -> None:
        super()._free()
        del self._make  # which holds the model


def failed(said: str, size: int) -> GenaiFailed:
    """What is told of a step for *size* requests that was not computed."""
    return GenaiFailed(
        f"onnxruntime-genai could not compute this request: {_short(said)} ({size} requests in the batch).",
        "Try again; if it happens again, load the model with a smaller context or fewer parallel requests.",
    )


def _unsupported(why: str, lacks: str) -> Unsupported:
    return Unsupported(
        f"onnxruntime-genai's engine does not do this request ({why}), and without it the model does not run: {lacks}.",
        "Leave that out, or use the model in another format.",
    )


def _short(said: str) -> str:
    return " ".join(said.split())[:300].rstrip(".")
