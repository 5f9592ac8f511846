"""The decode loop with transformers' continuous batching beside it: plain requests run there, all others as ever."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from anyform.contract.errors import Fault
from anyform.text.decoder import Decoder
from anyform.text.ticket import Answer, End, Ticket
from anyform_hf_transformers.loop import Loop, failed
from anyform_hf_transformers.paged import Paged, unfit, works

log = logging.getLogger("anyform.transformers")
MOST_FAILURES = 3
"""After so many steps that failed the pages are given up."""


def open_pages(model: Any, decoder: Decoder, make: Callable[[], Paged], *, exact: bool) -> tuple[Paged | None, str]:
    """The pages, tried once; or None, and why not."""
    why = unfit(model, decoder, exact)
    if why:
        return None, why
    try:
        paged = make()
        if works(paged, decoder):
            return paged, ""
        paged.free()
    except Exception as error:  # transformers raises whatever it likes where it cannot
        return None, f"transformers cannot: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return None, "it gives other tokens than the model"


def asks_more(ticket: Ticket) -> str:
    """What a request wants that the pages do not have, in a clause; empty: nothing."""
    recipe = ticket.recipe
    wants = {
        "it has pictures": bool(ticket.media),
        "it must follow a grammar, a schema or a tool": bool(ticket.constraints),
        "it has a seed": recipe.seeded,
        "it asks for log-probabilities": ticket.top_logprobs >= 0 or ticket.score_prompt,
        "it is sampled or penalized": not recipe.plain,
        "tokens are banned or favoured": bool(recipe.bias_ids.size),
        "nothing is to be generated": ticket.limit < 1,
    }
    return next((said for said, true in wants.items() if true), "")


class PagedLoop(Loop):
    """Runs tickets on a Decoder, and plain ones in pages. Says in each ticket's `extra` which, and why."""

    def __init__(
        self, decoder: Decoder, parallel: int, batch: int, text_interval_s: float, make: Callable[[], Paged],
        paged: Paged | None, why: str,
    ) -> None:  # fmt: skip
        """*paged*: None: there are no pages, *why* says the reason. *make*: pages anew, after they failed."""
        self._make, self._paged, self._why = make, paged, why
        self._queue: deque[Answer] = deque()
        self._running: dict[str, Answer] = {}
        self._begun = self._failures = 0
        super().__init__(decoder, parallel, batch, text_interval_s)

    def _take(self, work: Ticket) -> None:
        why = self._why if self._paged is None else asks_more(work)
        work.extra["batching"] = f"own: {why}" if why else "paged"
        if why:
            super()._take(work)
        else:
            self._queue.extend(work.answers)

    def _busy(self) -> bool:
        return bool(self._queue or self._running or super()._busy())

    def _step(self) -> None:
        if self._queue or self._running:
            self._paged_step()
        if super()._busy():
            super()._step()

    def _paged_step(self) -> None:
        self._leave()
        begun = self._begin()
        paged = self._paged
        if paged is None or not self._running:
            return
        started = time.perf_counter()
        try:
            grown = paged.step()
        except Exception as error:  # whatever it is: the pages are no longer to be trusted
            self._restart(error)
            return
        self._step_s += 0.2 * (time.perf_counter() - started - self._step_s)
        self._stale = begun
        spoken = [self._running[one.name] for one in grown if one.name in self._running]
        for one in grown:
            answer = self._running.get(one.name)
            if answer is None:
                continue
            if one.error:
                self._lose(answer, failed(RuntimeError(one.error), len(self._running)))
                continue
            for token in one.tokens[len(answer.tokens) - len(answer.ticket.prompt) :]:
                if one.name in self._running:
                    self._deliver(answer, token, None)
            if one.over and one.name in self._running:
                self._end(answer, "length")
        self._tell(spoken)

    def _begin(self) -> bool:
        """Give waiting answers their place, first come first served; whether there were any."""
        begun = False
        while self._queue and len(self._running) < self._parallel and self._paged is not None:
            answer = self._queue.popleft()
            ticket = answer.ticket
            name = f"{self._begun}"
            self._begun += 1
            self._running[name] = answer
            self._paged.add(name, ticket.prompt, answer.left, ticket.ends)
            ticket.started_s = ticket.started_s or time.perf_counter()
            begun = True
        return begun

    def _leave(self) -> None:
        """Drop what was cancelled, running or waiting."""
        for answer in [one for one in self._running.values() if one.dropped or one.ticket.stop.is_set()]:
            self._end(answer, "cancelled")
        gone = [one for one in self._queue if one.dropped or one.ticket.stop.is_set()]
        for answer in gone:
            self._queue.remove(answer)
            answer.ticket.tell(End(answer.index, "cancelled", 0))

    def _release(self, answer: Answer) -> None:
        name = next((name for name, one in self._running.items() if one is answer), None)
        if name is None:
            super()._release(answer)
            return
        del self._running[name]
        self._stale = True
        if self._paged is not None:
            self._paged.drop(name)

    def _lose(self, answer: Answer, fault: Fault) -> None:
        for sibling in answer.ticket.answers:
            if sibling in self._running.values():
                self._release(sibling)
            elif sibling in self._queue:
                self._queue.remove(sibling)
        super()._lose(answer, fault)

    def _restart(self, error: Exception) -> None:
        """End what ran in the pages; the next requests get new ones, or run as if there had never been any."""
        fault, lost = failed(error, len(self._running)), list(self._running.values())
        self._failures += 1
        log.warning("continuous batching failed: %s: %s", type(error).__name__, error)
        broken, self._paged = self._paged, None
        while lost:
            self._lose(lost[0], fault)
            lost = list(self._running.values())
        self._why = f"it failed {self._failures} times, last with {type(error).__name__}"
        try:
            if broken is not None:
                broken.free()
            if self._failures < MOST_FAILURES:
                self._paged = self._make()
        except Exception as again:  # as above
            log.warning("continuous batching is given up: %s: %s", type(again).__name__, again)
        if self._paged is None:
            waiting, self._queue = self._queue, deque()
            for ticket in {id(one.ticket): one.ticket for one in waiting}.values():
                ticket.extra["batching"] = f"own: {self._why}"
            self._waiting.extend(waiting)

    def _fail(self, fault: Fault) -> None:
        tickets = {id(one.ticket): one.ticket for one in (*self._running.values(), *self._queue)}
        for ticket in tickets.values():
            ticket.tell(fault)
        self._running.clear()
        self._queue.clear()
        super()._fail(fault)

    def _free(self) -> None:
        if self._paged is not None:
            self._paged.free()
        super()._free()
