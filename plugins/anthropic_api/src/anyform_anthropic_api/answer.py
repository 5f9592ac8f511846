"""Writes an answer: a message with its content blocks, or the events that it is put together from."""

from __future__ import annotations

import json
from json.encoder import encode_basestring_ascii as quote
from typing import Any

from anyform.dialect import JSON, SSE, Done, Event, Head, Progress, Reasoning, Text, ToolCall, Usage, dumps, remarks

ENDS = {"tool_calls": "tool_use", "length": "max_tokens"}
UNREADABLE = "INVALID_JSON"
"""The member of a call's input that holds what is no JSON object: it was cut, or the model cannot write it."""


def usage(counted: Usage) -> dict[str, Any]:
    """Anthropic's: what was read from the cache is not among `input_tokens`."""
    return {
        "input_tokens": max(0, counted.prompt_tokens - counted.cached_tokens),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": counted.cached_tokens,
        "output_tokens": counted.completion_tokens,
        "output_tokens_details": {"thinking_tokens": counted.reasoning_tokens},
    }


def ending(done: Done, most: int) -> dict[str, Any]:
    """Why the answer ended. *most*: the tokens that it could have had, if the context had left room for them."""
    finish = done.finishes[0] if done.finishes else None
    stop, reason = (finish.stop, finish.reason) if finish else ("", "stop")
    why = "stop_sequence" if stop else ENDS.get(reason, "end_turn")
    if why == "max_tokens" and 0 < done.usage.completion_tokens < most:
        why = "model_context_window_exceeded"
    return {"stop_reason": why, "stop_sequence": stop or None}


def message(head: Head, content: list[dict[str, Any]], end: dict[str, Any], counted: Usage) -> dict[str, Any]:
    """The message object."""
    return {
        "id": f"msg_{head.key}",
        "type": "message",
        "role": "assistant",
        "model": head.model,
        "content": content,
        **end,
        "usage": {**usage(counted), "service_tier": "standard"},
    }


def call_id(event: ToolCall, key: str) -> str:
    """The call's own id, or one made of the answer's key and the call's place."""
    return event.id or f"toolu_{key}_{event.call}"


class Whole:
    """Collects an answer into one message."""

    media_type = JSON

    def __init__(self, head: Head, most: int, shown: bool) -> None:
        """*most*: max_tokens. *shown*: whether what the model thinks is told."""
        self._head, self._most, self._shown = head, most, shown
        self._blocks: list[tuple[dict[str, Any], list[str]]] = []
        self._kind: tuple[str, int] = ("", 0)
        self._done = Done()

    def write(self, event: Event, job: int = 0) -> bytes:
        if isinstance(event, Text):
            if event.text:
                self._add(("text", 0), {"type": "text"}, event.text)
        elif isinstance(event, Reasoning):
            if event.text:
                self._add(("thinking", 0), {"type": "thinking"}, event.text if self._shown else "")
        elif isinstance(event, ToolCall):
            made = {"type": "tool_use", "id": call_id(event, self._head.key), "name": event.name}
            self._add(("tool_use", event.call), made, event.arguments)
        elif isinstance(event, Done):
            self._done = event
        return b""

    def _add(self, kind: tuple[str, int], block: dict[str, Any], text: str) -> None:
        if kind != self._kind:
            self._kind = kind
            self._blocks.append((block, []))
        self._blocks[-1][1].append(text)

    def end(self) -> bytes:
        content = [_block(block, "".join(texts)) for block, texts in self._blocks]
        made = message(self._head, content, ending(self._done, self._most), self._done.usage)
        told = remarks(self._done)
        return dumps(made | ({"remarks": told} if told else {})).encode("ascii")


def _block(block: dict[str, Any], text: str) -> dict[str, Any]:
    match block["type"]:
        case "text":
            return {**block, "text": text, "citations": None}
        case "thinking":
            return {**block, "thinking": text, "signature": ""}
    return {**block, "input": _input(text)}


def _input(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {UNREADABLE: text}


class Stream:
    """Writes an answer as events, each with its name. A block ends where another begins."""

    media_type = SSE

    def __init__(self, head: Head, most: int, shown: bool) -> None:
        """As for Whole."""
        self._head, self._most, self._shown = head, most, shown
        self._begun = False
        self._index = -1
        self._kind: tuple[str, int] = ("", 0)
        self._delta = ""

    def write(self, event: Event, job: int = 0) -> bytes:
        if isinstance(event, Text):
            return self._say(("text", 0), event.text).encode("ascii") if event.text else b""
        if isinstance(event, Reasoning):
            return self._say(("thinking", 0), event.text if self._shown else "").encode("ascii") if event.text else b""
        if isinstance(event, ToolCall):
            return self._call(event).encode("ascii")
        if isinstance(event, Done):
            return (self._begin(event.usage) + self._close() + self._finish(event)).encode("ascii")
        if isinstance(event, Progress) and event.stage == "prompt":
            return self._begin(Usage(prompt_tokens=event.total)).encode("ascii")
        return b""

    def end(self) -> bytes:
        return _event("message_stop", {}).encode("ascii")

    def _begin(self, counted: Usage) -> str:
        """The first event; "" once it was sent."""
        if self._begun:
            return ""
        self._begun = True
        none = {"stop_reason": None, "stop_sequence": None}
        return _event("message_start", {"message": message(self._head, [], none, counted)})

    def _say(self, kind: tuple[str, int], text: str) -> str:
        opened = ""
        if kind != self._kind:
            empty = {"thinking": "", "signature": ""} if kind[0] == "thinking" else {"text": "", "citations": None}
            opened = self._open(kind, empty)
        return f"{opened}{self._delta}{quote(text)}}}}}\n\n" if text else opened

    def _call(self, event: ToolCall) -> str:
        kind, opened = ("tool_use", event.call), ""
        if kind != self._kind:
            opened = self._open(kind, {"id": call_id(event, self._head.key), "name": event.name, "input": {}})
        return f"{opened}{self._delta}{quote(event.arguments)}}}}}\n\n" if event.arguments else opened

    def _open(self, kind: tuple[str, int], empty: dict[str, Any]) -> str:
        """Ends the block before, and begins one; what no piece of it changes is serialised once."""
        before = self._begin(Usage()) + self._close()
        self._kind, self._index = kind, self._index + 1
        delta, field = _DELTAS[kind[0]]
        self._delta = (
            f'event: content_block_delta\ndata: {{"type":"content_block_delta","index":{self._index},'
            f'"delta":{{"type":"{delta}","{field}":'
        )
        begun = {"index": self._index, "content_block": {"type": kind[0], **empty}}
        return before + _event("content_block_start", begun)

    def _close(self) -> str:
        if self._index < 0:
            return ""
        signed = {"index": self._index, "delta": {"type": "signature_delta", "signature": ""}}
        signature = _event("content_block_delta", signed) if self._kind[0] == "thinking" else ""
        return signature + _event("content_block_stop", {"index": self._index})

    def _finish(self, done: Done) -> str:
        told = remarks(done)
        said = {"delta": ending(done, self._most), "usage": usage(done.usage)}
        return _event("message_delta", {**said, "remarks": told} if told else said)


_DELTAS = {
    "text": ("text_delta", "text"),
    "thinking": ("thinking_delta", "thinking"),
    "tool_use": ("input_json_delta", "partial_json"),
}


def _event(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {dumps({'type': name, **data})}\n\n"
