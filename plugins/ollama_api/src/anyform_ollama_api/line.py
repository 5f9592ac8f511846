"""Writes answers of /api/chat and /api/generate: a line for each piece and one for the end, or all in one object."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from json.encoder import encode_basestring_ascii as quote
from typing import Any

from anyform.dialect import JSON, NDJSON, Done, Event, Head, dumps, finish, remarks
from anyform_ollama_api.clock import nanoseconds, now
from anyform_ollama_api.piece import Piece, Pieces, likelihoods

Say = Callable[[str, str, Sequence[Mapping[str, Any]]], str]
"""Content, thinking and calls -> the fields that hold them, as JSON without braces."""
More = Callable[[str], Mapping[str, Any]]
"""The whole content -> further fields of the last object."""


def message(content: str, thinking: str, calls: Sequence[Mapping[str, Any]]) -> str:
    """Those of /api/chat."""
    thought = f',"thinking":{quote(thinking)}' if thinking else ""
    called = f',"tool_calls":{dumps(list(calls))}' if calls else ""
    return f'"message":{{"role":"assistant","content":{quote(content)}{thought}{called}}}'


def response(content: str, thinking: str, calls: Sequence[Mapping[str, Any]]) -> str:
    """Those of /api/generate, which knows no calls."""
    thought = f',"thinking":{quote(thinking)}' if thinking else ""
    return f'"response":{quote(content)}{thought}'


def nothing(content: str) -> Mapping[str, Any]:
    """No further fields."""
    return {}


class Stream:
    """Writes an answer line by line."""

    media_type = NDJSON

    def __init__(self, head: Head, say: Say, more: More = nothing) -> None:
        self._head, self._say, self._more = head, say, more
        self._open = f'{{"model":{quote(head.model)},"created_at":"'
        self._pieces, self._content, self._keeps = Pieces(), list[str](), more is not nothing

    def write(self, event: Event, job: int = 0) -> bytes:
        lines = "".join([self._line(piece) for piece in self._pieces.of(event)])
        if isinstance(event, Done):
            last = ending(self._head, event, self._more("".join(self._content)))
            lines += f'{self._open}{now()}",{self._say("", "", ())},{last}\n'
        return lines.encode("ascii")

    def end(self) -> bytes:
        return b""

    def _line(self, piece: Piece) -> str:
        if self._keeps and piece.content:
            self._content.append(piece.content)
        said = self._say(piece.content, piece.thinking, (piece.call,) if piece.call else ())
        logs = f',"logprobs":{likelihoods(piece.logprobs)}' if piece.logprobs else ""
        return f'{self._open}{now()}",{said}{logs},"done":false}}\n'


class Whole:
    """Collects an answer into one object."""

    media_type = JSON

    def __init__(self, head: Head, say: Say, more: More = nothing) -> None:
        self._head, self._say, self._more = head, say, more
        self._made, self._said, self._done = Pieces(), list[Piece](), Done()

    def write(self, event: Event, job: int = 0) -> bytes:
        self._said.extend(self._made.of(event))
        if isinstance(event, Done):
            self._done = event
        return b""

    def end(self) -> bytes:
        content = "".join(piece.content for piece in self._said)
        thinking = "".join(piece.thinking for piece in self._said)
        said = self._say(content, thinking, [piece.call for piece in self._said if piece.call])
        tokens = tuple(token for piece in self._said for token in piece.logprobs)
        logs = f',"logprobs":{likelihoods(tokens)}' if tokens else ""
        open_ = f'{{"model":{quote(self._head.model)},"created_at":"{now()}"'
        return f"{open_},{said}{logs},{ending(self._head, self._done, self._more(content))}".encode("ascii")


def ending(head: Head, done: Done, more: Mapping[str, Any]) -> str:
    """The rest of the last object: why it ended, *more*, how long it took, and what is to be remarked."""
    course, told, elapsed_s = head.course, remarks(done), head.course.elapsed_s()
    prompt_s = done.prompt_s or elapsed_s - course.load_s - done.generate_s  # some engines do not say
    if course.cut:
        told = [f"Messages left out, the oldest first, since the whole is over the context: {course.cut}.", *told]
    fields: dict[str, Any] = {
        "done": True,
        "done_reason": "length" if finish(done, 0) == "length" else "stop",
        **more,
        "total_duration": nanoseconds(elapsed_s),
        "load_duration": nanoseconds(course.load_s),
        "prompt_eval_count": done.usage.prompt_tokens,
        **({"prompt_eval_cached_count": done.usage.cached_tokens} if done.usage.cached_tokens else {}),
        "prompt_eval_duration": nanoseconds(prompt_s),
        "eval_count": done.usage.completion_tokens,
        "eval_duration": nanoseconds(done.generate_s),
        **({"truncated": course.cut} if course.cut else {}),
        **({"remarks": told} if told else {}),
    }
    return dumps(fields)[1:]
