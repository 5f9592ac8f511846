"""Runs the answers to one job, one after another, and turns the library's bytes into events."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from anyform.contract.events import Done, Event, Finish, Reasoning, Text, ToolCall, Usage
from anyform.contract.jobs import Call, Message
from anyform.contract.jobs import Text as Said
from anyform.text.stream import AnswerStream
from anyform.text.words import Words
from anyform_rkllm.engine import End, Engine, Perf
from anyform_rkllm.history import History
from anyform_rkllm.prompting import Asked
from anyform_rkllm.work import Work


class Answering:
    """One job's answers."""

    def __init__(self, engine: Engine, history: History, asked: Asked, words: Words | None, interval_s: float) -> None:
        """*interval_s*: how long text may be held back so that it travels with the next."""
        self._engine, self._history, self._asked, self._words = engine, history, asked, words
        self._interval_s = interval_s
        self._remarks = list(asked.remarks)
        self._sums = _Sums()

    def do(self, work: Work) -> Done:
        """In the job's turn."""
        answers = [self._answer(index, work) for index in range(self._asked.n)]
        return Done(
            finishes=tuple(answer.finish for answer in answers),
            usage=Usage(
                prompt_tokens=max(self._asked.prompt_tokens, 0 if self._asked.exact else self._sums.prompt_tokens),
                completion_tokens=sum(answer.count for answer in answers),
                reasoning_tokens=sum(answer.thoughts for answer in answers),
            ),
            prompt_s=self._sums.prompt_s,
            generate_s=self._sums.generate_s,
            extra=self._extra(),
        )

    def _answer(self, index: int, work: Work) -> _Answer:
        answer = _Answer(index, self._asked, self._words, work, self._interval_s)
        if self._asked.echo and not work.cancelled:
            work.tell(Text(text=self._asked.echo, index=index))
        if work.cancelled or self._asked.limit == 0:
            answer.finish = Finish(reason="cancelled" if work.cancelled else "length")
            return answer
        began = time.perf_counter()
        end = self._run(answer, work)
        ended = time.perf_counter()
        self._sums.add(end.perf, began, answer.first_s or ended, ended)
        answer.close(end, cancelled=work.cancelled, full=self._full(end))
        if self._asked.conversation is not None and answer.whole and not work.cancelled:
            self._asked.conversation.answered(self._history, answer.message())
        return answer

    def _run(self, answer: _Answer, work: Work) -> End:
        run = self._asked.run
        if self._asked.conversation is not None:
            run, remarks = self._asked.conversation.say(run, self._engine, self._history)
            self._remarks += [remark for remark in remarks if remark not in self._remarks]
        elif self._engine.abi.keeps_history and not self._history.empty:
            self._engine.clear()
            self._history.cleared()
        if run.keep_history:
            self._history.forget()
        return self._engine.run(run, answer.take, work.stop)

    def _full(self, end: End) -> bool:
        """Whether the context is, as far as the library's figures tell."""
        perf = end.perf
        return perf is not None and perf.prompt_tokens + perf.generated_tokens >= self._engine.context

    def _extra(self) -> dict[str, Any]:
        extra: dict[str, Any] = {"perf": self._sums.told()} if self._sums.measured else {}
        return extra | ({"remarks": list(self._remarks)} if self._remarks else {})


class _Answer:
    """One answer in the making. `take` is called in the library's thread."""

    def __init__(self, index: int, asked: Asked, words: Words | None, work: Work, interval_s: float) -> None:
        parser = asked.parser(index) if asked.parser else None
        self._stream = AnswerStream(parser, (*asked.stops, *asked.own_stops), index=index)
        self._index, self._asked, self._words, self._work = index, asked, words, work
        self._interval_s, self._told_s = interval_s, 0.0
        self._held: list[Event] = []
        self._said: list[Event] = []
        self.count = self.thoughts = 0
        self.first_s = 0.0
        self.finish = Finish(reason="cancelled")

    def take(self, text: bytes, token: int) -> bool:
        """One token; whether to go on."""
        if self.count >= self._asked.limit:
            return False
        now = time.perf_counter()
        self.first_s = self.first_s or now
        self.count += 1
        self.thoughts += self._stream.reasoning
        self._say(self._stream.token(self._shown(text, token)))
        if now - self._told_s >= self._interval_s:
            self._tell(now)
        return not self._stream.over and not self._work.cancelled

    def close(self, end: End, *, cancelled: bool, full: bool) -> None:
        """The run is over."""
        over = self._stream.over
        self._say(self._stream.finish())
        self._tell(time.perf_counter())
        reason = "stop" if over else "cancelled" if cancelled else "length" if full or end.full else "stop"
        stop = self._stream.stop or ""
        self.finish = Finish(reason=self._stream.finish_reason(reason), stop=stop if stop in self._asked.stops else "")
        self.whole = end.finished and reason == "stop"

    whole = False
    """Whether the model ended it by itself, and nothing of it was left out."""

    def message(self) -> Message:
        """What was answered, as the next request will repeat it."""
        text = "".join(event.text for event in self._said if isinstance(event, Text))
        calls: dict[int, Call] = {}
        for event in self._said:
            if isinstance(event, ToolCall):
                known = calls.get(event.call, Call(id="", name="", arguments=""))
                calls[event.call] = Call(
                    id=known.id or event.id,
                    name=known.name or event.name,
                    arguments=known.arguments + event.arguments,
                )
        return Message(role="assistant", parts=(Said(text=text),) if text else (), calls=tuple(calls.values()))

    def _shown(self, text: bytes, token: int) -> bytes:
        """*text*, less what is a control token's; with what the library leaves out and the parser must see."""
        words = self._words
        if words is None or not words.is_control(token):
            return text
        name = words.piece(token, True)
        if token in self._asked.visible:
            return text or name
        return b"" if text == name else text

    def _say(self, events: list[Event]) -> None:
        for event in events:
            self._said.append(event)
            last = self._held[-1] if self._held else None
            if isinstance(event, Text | Reasoning) and type(last) is type(event):
                self._held[-1] = type(event)(text=last.text + event.text, index=self._index)
            else:
                self._held.append(event)

    def _tell(self, now: float) -> None:
        for event in self._held:
            self._work.tell(event)
        self._held, self._told_s = [], now


@dataclass(slots=True)
class _Sums:
    """Figures over all answers: the library's own where it gives them, else by the clock."""

    prompt_s: float = 0.0
    generate_s: float = 0.0
    prompt_tokens: int = 0
    """Of the answer with the most."""
    read: int = 0
    written: int = 0
    memory_bytes: int = 0
    measured: bool = field(default=False)

    def add(self, perf: Perf | None, began: float, first: float, ended: float) -> None:
        if perf is None:
            self.prompt_s += first - began
            self.generate_s += ended - first
            return
        self.measured = True
        self.prompt_s += perf.prompt_s
        self.generate_s += perf.generate_s
        self.prompt_tokens = max(self.prompt_tokens, perf.prompt_tokens)
        self.read += perf.prompt_tokens
        self.written += perf.generated_tokens
        self.memory_bytes = max(self.memory_bytes, perf.memory_bytes)

    def told(self) -> dict[str, Any]:
        """For `Done.extra`: JSON values."""
        return {
            "prompt_tokens": self.read,
            "generated_tokens": self.written,
            "prompt_tokens_per_s": _rate(self.read, self.prompt_s),
            "generated_tokens_per_s": _rate(self.written, self.generate_s),
            "memory_bytes": self.memory_bytes,
        }


def _rate(count: int, seconds: float) -> float | None:
    return round(count / seconds, 3) if seconds > 0 else None
