"""What events say, in the parts that Ollama's objects have; calls come whole."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from anyform.contract.events import TokenLogprob
from anyform.dialect import Done, Event, Reasoning, Text, ToolCall, dumps, logprob


@dataclass(slots=True)
class Piece:
    """A part of an answer."""

    content: str = ""
    thinking: str = ""
    call: Mapping[str, Any] | None = None
    logprobs: tuple[TokenLogprob, ...] = ()


class Pieces:
    """Turns the events of one answer into pieces."""

    def __init__(self) -> None:
        self._call: ToolCall | None = None
        self._arguments: list[str] = []
        self._count = 0

    def of(self, event: Event) -> Iterator[Piece]:
        """The pieces that are whole with *event*."""
        if isinstance(event, ToolCall):
            if self._call is None or event.call != self._call.call:
                yield from self._whole()
                self._call = event
            self._arguments.append(event.arguments)
            return
        if self._call is not None and isinstance(event, Text | Reasoning | Done):
            yield from self._whole()
        if isinstance(event, Text) and (event.text or event.logprobs):
            yield Piece(content=event.text, logprobs=event.logprobs)
        elif isinstance(event, Reasoning) and (event.text or event.logprobs):
            yield Piece(thinking=event.text, logprobs=event.logprobs)

    def _whole(self) -> Iterator[Piece]:
        """The call that has ended. One that broke off is told as text, as there is no object to give."""
        call, written = self._call, "".join(self._arguments)
        if call is None:
            return
        self._call, self._arguments = None, []
        arguments = _object(written)
        if arguments is None:
            yield Piece(content=f'{{"name": {json.dumps(call.name)}, "arguments": {written}')
            return
        function = {"index": self._count, "name": call.name, "arguments": arguments}
        self._count += 1
        yield Piece(call={**({"id": call.id} if call.id else {}), "function": function})


def _object(written: str) -> dict[str, Any] | None:
    try:
        value = json.loads(written or "{}")
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def likelihoods(tokens: tuple[TokenLogprob, ...]) -> str:
    """Ollama's `logprobs`, as JSON."""
    return dumps([_token(token) | {"top_logprobs": [_token(other) for other in token.top]} for token in tokens])


def _token(token: TokenLogprob) -> dict[str, Any]:
    return {"token": token.token, "logprob": logprob(token.logprob), "bytes": list(token.bytes)}
