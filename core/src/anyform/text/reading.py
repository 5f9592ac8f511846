"""Reads a request's messages from the decode loop and turns them into the contract's events, in the caller's thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from anyform.contract.events import Done, Event, Finish, Progress, Reasoning, Text, TokenLogprob, Usage
from anyform.text.answer import AnswerParser
from anyform.text.prompt import Prompt
from anyform.text.stream import AnswerStream
from anyform.text.ticket import End, Likelihood, Message, Scored, Ticket
from anyform.text.tokenizer import Tokenizer


class Loop(Protocol):
    """Runs tickets in a thread of its own; the messages of each end with one End for each answer, or with a Fault."""

    def submit(self, work: Ticket) -> None:
        """Queue *work*. Raises Closed, or what broke the thread."""

    def check(self) -> None:
        """Raise Closed, or what broke the thread, if it takes no more work."""

    def close(self) -> None:
        """Fail all work with Closed, end the thread, free the engine. Idempotent."""


@dataclass(frozen=True, slots=True)
class Request:
    """A ticket, and how its answers are read."""

    ticket: Ticket
    stops: Sequence[str] = ()
    parser: Callable[[int], AnswerParser] | None = None
    """Makes the parser of answer `index`; None: a plain completion."""
    visible: frozenset[int] = frozenset()
    """Control tokens that the parser must see."""
    echo: Prompt | None = None
    """The prompt, if it is part of the answer."""


def read(loop: Loop, vocabulary: Tokenizer, request: Request) -> Iterator[Event]:
    """Submit *request* and yield its events; exactly one Done, last."""
    ticket = request.ticket
    reader = _Reader(vocabulary, request)
    try:
        loop.submit(ticket)
        yield Progress(stage="prompt", total=len(ticket.prompt))
        while reader.open:
            yield from reader.take(_drain(ticket))
        yield reader.done()
    finally:
        for answer in ticket.answers:
            answer.dropped = True


def _drain(ticket: Ticket) -> list[Message]:
    """The next messages, and those that have come behind them meanwhile."""
    queue = ticket.messages
    messages = queue.get()
    while not queue.empty():
        messages += queue.get()
    return messages


@dataclass(slots=True)
class _Answer:
    stream: AnswerStream
    tokens: int = 0
    reasoning: int = 0
    finish: Finish | None = None


@dataclass(slots=True)
class _Reader:
    vocabulary: Tokenizer
    request: Request
    open: int = 0
    answers: list[_Answer] = field(default_factory=list)
    scores: list[Likelihood] = field(default_factory=list)
    echoed: bool = False

    def __post_init__(self) -> None:
        make = self.request.parser
        for index in range(self.request.ticket.n):
            parser = make(index) if make else None
            self.answers.append(_Answer(AnswerStream(parser, self.request.stops, index=index)))
        self.open = len(self.answers)

    def take(self, messages: Sequence[Message]) -> Iterator[Event]:
        """The events of *messages*; Text of one answer that follows Text is joined to it."""
        joined: Event | None = None
        for event in self._events(messages):
            if joined is not None and (both := _join(joined, event)) is not None:
                joined = both
                continue
            if joined is not None:
                yield joined
            joined = event
        if joined is not None:
            yield joined

    def _events(self, messages: Sequence[Message]) -> Iterator[Event]:
        for message in messages:
            if isinstance(message, tuple):
                yield from self._echo()
                yield from self._token(*message)
            elif isinstance(message, End):
                yield from self._echo()
                yield from self._end(message)
            elif isinstance(message, Scored):
                self.scores.extend(message.likelihoods)
            else:
                raise message

    def _token(self, index: int, token: int, likelihood: Likelihood | None) -> Iterator[Event]:
        answer = self.answers[index]
        if answer.finish is not None:
            return
        stream = answer.stream
        answer.tokens += 1
        answer.reasoning += stream.reasoning
        data = self.vocabulary.piece(token, token in self.request.visible)
        yield from stream.token(data, None if likelihood is None else self._logprob(token, likelihood))
        if stream.over:
            self.request.ticket.answers[index].dropped = True
            yield from self._finish(answer, "stop")

    def _end(self, end: End) -> Iterator[Event]:
        answer = self.answers[end.index]
        if answer.finish is None:
            answer.tokens = end.tokens
            yield from self._finish(answer, end.reason)

    def _finish(self, answer: _Answer, reason: str) -> Iterator[Event]:
        yield from answer.stream.finish()
        answer.finish = Finish(reason=answer.stream.finish_reason(reason), stop=answer.stream.stop or "")
        self.open -= 1

    def _echo(self) -> Iterator[Event]:
        """The prompt, before the first token of any answer."""
        echo = self.request.echo
        if echo is None or self.echoed:
            return
        self.echoed = True
        tokens = self.request.ticket.prompt
        text = echo.text or b"".join(map(self.vocabulary.piece, tokens)).decode("utf-8", "replace")
        logprobs: tuple[TokenLogprob, ...] = ()
        if self.request.ticket.score_prompt:
            likelihoods = [None, *self.scores]  # nothing comes before the first token
            logprobs = tuple(self._logprob(*pair) for pair in zip(tokens, likelihoods, strict=True))
        for index in range(len(self.answers)):
            yield Text(text=text, index=index, logprobs=logprobs)

    def _logprob(self, token: int, likelihood: Likelihood | None) -> TokenLogprob:
        data = self.vocabulary.piece(token, True)
        top = likelihood.top if likelihood else ()
        return TokenLogprob(
            token=data.decode("utf-8", "replace"),
            id=token,
            bytes=tuple(data),
            logprob=likelihood.logprob if likelihood else None,
            top=tuple(self._logprob(other, Likelihood(logprob)) for other, logprob in top),
        )

    def done(self) -> Done:
        ticket = self.request.ticket
        first = ticket.first_s or ticket.ended_s
        extra: dict[str, Any] = {"seed": ticket.recipe.seed, **ticket.extra}
        if ticket.wants_gap and ticket.smallest_gap < float("inf"):
            extra["smallest_gap"] = ticket.smallest_gap
        return Done(
            finishes=tuple(answer.finish or Finish(reason="cancelled") for answer in self.answers),
            usage=Usage(
                prompt_tokens=len(ticket.prompt),
                completion_tokens=sum(answer.tokens for answer in self.answers),
                cached_tokens=ticket.cached,
                reasoning_tokens=sum(answer.reasoning for answer in self.answers),
            ),
            prompt_s=max(0.0, first - ticket.started_s) if ticket.started_s else 0.0,
            generate_s=max(0.0, ticket.ended_s - first) if first else 0.0,
            extra=extra,
        )


def _join(left: Event, right: Event) -> Event | None:
    """One event that says what both say; None where they are not of one kind."""
    if isinstance(left, Text) and isinstance(right, Text) and left.index == right.index:
        return Text(text=left.text + right.text, index=left.index, logprobs=left.logprobs + right.logprobs)
    if isinstance(left, Reasoning) and isinstance(right, Reasoning) and left.index == right.index:
        return Reasoning(text=left.text + right.text, index=left.index, logprobs=left.logprobs + right.logprobs)
    return None
