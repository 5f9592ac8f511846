"""One answer from tokens to events: bytes to text, stop strings, parsing, and each token's logprob with its text."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from anyform.contract.events import Event, Reasoning, Text, TokenLogprob
from anyform.text.answer import AnswerParser
from anyform.text.detokenize import Detokenizer
from anyform.text.stop import StopStrings


class AnswerStream:
    """Takes the tokens of one answer as they are drawn.

    *parser*: None for a plain completion, whose text is given as it is. Logprobs travel with the first Text or
    Reasoning event that comes once their token's text is no longer held back; those of a matched stop string are
    dropped, as are those of tool calls.
    """

    def __init__(self, parser: AnswerParser | None, stops: Sequence[str] = (), *, index: int = 0) -> None:
        self._parser = parser
        self._stops = StopStrings(stops)
        self._index = index
        self._decoder = Detokenizer()
        self._waiting: deque[tuple[int, TokenLogprob]] = deque()
        self._ready: list[TokenLogprob] = []
        self._came = self._left = 0

    @property
    def stop(self) -> str | None:
        """The stop string that ended the answer, if one did."""
        return self._stops.matched

    @property
    def over(self) -> bool:
        """Whether no more tokens are wanted: a stop string came, or the only call that is allowed."""
        return self.stop is not None or (self._parser is not None and self._parser.done)

    @property
    def reasoning(self) -> bool:
        """Whether the model is thinking: a constraint on the answer does not bind yet."""
        return self._parser is not None and self._parser.reasoning

    def token(self, data: bytes, logprob: TokenLogprob | None = None) -> list[Event]:
        """The events that one token completes. *data*: its bytes; b"" for a control token that is no text."""
        text = self._decoder.feed(data)
        if logprob is not None:
            self._waiting.append((self._came, logprob))
        self._came += len(text)
        out, stop = self._stops.feed(text)
        self._left += len(out)
        self._release(ended=False)
        if stop is not None:
            self._waiting.clear()
        return self._with_logprobs(self._parsed(out))

    def finish(self) -> list[Event]:
        """The events of what was still held back."""
        out = self._stops.flush()
        self._left += len(out)
        self._release(ended=self.stop is None)
        events = self._parsed(out)
        if self._parser is not None:
            events += self._parser.finish()
        given = self._with_logprobs(events)
        if self._ready:
            given.append(Text(text="", index=self._index, logprobs=tuple(self._ready)))
            self._ready = []
        return given

    def finish_reason(self, reason: str = "stop") -> str:
        """*reason*, or "tool_calls" where an answer that ended by itself made calls."""
        return reason if self._parser is None else self._parser.finish_reason(reason)

    def _parsed(self, text: str) -> list[Event]:
        if self._parser is not None:
            return self._parser.feed(text)
        return [Text(text=text, index=self._index)] if text else []

    def _release(self, *, ended: bool) -> None:
        """Tokens whose text has begun to leave are ready."""
        while self._waiting and (ended or self._waiting[0][0] < self._left):
            self._ready.append(self._waiting.popleft()[1])

    def _with_logprobs(self, events: list[Event]) -> list[Event]:
        for place, event in enumerate(events):
            if self._ready and isinstance(event, Text | Reasoning):
                events[place] = replace(event, logprobs=tuple(self._ready))
                self._ready = []
        if events and self._parser is not None and self._parser.calls:
            self._ready = []
        return events
