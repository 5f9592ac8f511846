"""Answers of /api/v1/chat: one object, or named events that end with it."""

from __future__ import annotations

from json.encoder import encode_basestring_ascii as quote
from typing import Any

from anyform.contract.errors import Fault
from anyform.contract.jobs import Generation
from anyform.dialect import (
    JSON,
    SSE,
    Done,
    Event,
    Head,
    Progress,
    Reasoning,
    Text,
    ToolCall,
    WholeResponse,
    Wish,
    dumps,
    remarks,
)
from anyform_lmstudio_api.form import error, event
from anyform_lmstudio_api.pace import Pace

MESSAGE, REASONING, CALL = "message", "reasoning", "invalid_tool_call"


class Item:
    """One item of the output in the making."""

    __slots__ = ("call", "kind", "pieces")

    def __init__(self, kind: str, call: ToolCall | None = None) -> None:
        self.kind, self.call = kind, call
        self.pieces: list[str] = []

    def told(self) -> dict[str, Any]:
        if self.call is None:
            return {"type": self.kind, "content": "".join(self.pieces)}
        return {"type": CALL, **missing(self.call)}


def missing(call: ToolCall) -> dict[str, Any]:
    """A call that the model made although it was given no tools."""
    return {
        "reason": f"Cannot find tool with name {call.name}.",
        "metadata": {"type": "invalid_name", "tool_name": call.name},
    }


class Answer:
    """What has come so far."""

    def __init__(self, head: Head, wish: Wish, wanted: Generation) -> None:
        self._head, self._wanted = head, wanted
        self._kept = WholeResponse(head, wish) if wish.store is not None else None
        self.items: list[Item] = []
        self.pace = Pace(head.course)

    @property
    def instance(self) -> str:
        """The name of the model that answers."""
        loaded = self._head.course.loaded
        return loaded.model if loaded else self._head.model

    def take(self, event: Event) -> Item | None:
        """The item that *event* belongs to, which has it now; None: it belongs to none."""
        self.pace.take(event)
        if self._kept is not None:
            self._kept.write(event)
        if isinstance(event, ToolCall):
            if not event.name:
                return None
            self.items.append(Item(CALL, event))
            return self.items[-1]
        if not isinstance(event, Text | Reasoning) or not event.text:
            return None
        kind = MESSAGE if isinstance(event, Text) else REASONING
        if not self.items or self.items[-1].kind != kind:
            self.items.append(Item(kind))
        self.items[-1].pieces.append(event.text)
        return self.items[-1]

    def result(self, whole: bool = True) -> dict[str, Any]:
        """The answer's object; it is kept if it is *whole*."""
        pace, usage = self.pace, self.pace.usage
        told: dict[str, Any] = {
            "model_instance_id": self.instance,
            "output": [item.told() for item in self.items],
            "stats": {
                "input_tokens": usage.prompt_tokens,
                "total_output_tokens": usage.completion_tokens,
                "reasoning_output_tokens": usage.reasoning_tokens,
                "tokens_per_second": pace.rate,
                "time_to_first_token_seconds": pace.first_s,
                "stop_reason": pace.reason(self._wanted),
            },
        }
        if pace.load_s is not None:
            told["stats"]["model_load_time_seconds"] = pace.load_s
        if pace.dones and (said := remarks(pace.dones[0])):
            told["remarks"] = said
        if whole and self._kept is not None:
            self._kept.end()
            told["response_id"] = f"resp_{self._head.key}"
        return told


class Whole:
    """One object."""

    media_type = JSON

    def __init__(self, head: Head, wish: Wish, wanted: Generation) -> None:
        self._answer = Answer(head, wish, wanted)

    def write(self, event: Event, job: int) -> bytes:
        self._answer.take(event)
        return b""

    def end(self) -> bytes:
        return dumps(self._answer.result()).encode("ascii")


class Stream:
    """Named events: of the load, the prompt, then each item of the output; `chat.end` has the whole."""

    media_type = SSE

    def __init__(self, head: Head, wish: Wish, wanted: Generation) -> None:
        self._answer = Answer(head, wish, wanted)
        self._begun = self._reading = False
        self._open: Item | None = None

    def write(self, event: Event, job: int) -> bytes:
        before = b"" if self._begun else self._begin()
        item = self._answer.take(event)
        if isinstance(event, Progress) and event.stage == "prompt":
            return before + self._read(event)
        if item is None and not isinstance(event, Done):
            return before
        if item is not self._open:
            before += self._turn(item)
        if item is None or not isinstance(event, Text | Reasoning):
            return before
        delta = f'event: {item.kind}.delta\ndata: {{"type":"{item.kind}.delta","content":{quote(event.text)}}}\n\n'
        return before + delta.encode("ascii")

    def end(self) -> bytes:
        return self._finish() + event("chat.end", result=self._answer.result())

    def failed(self, fault: Fault) -> bytes:
        """The end of an answer that *fault* broke off: with what came of it."""
        before = b"" if self._begun else self._begin()
        told = event("error", error=error(fault))
        return before + self._finish() + told + event("chat.end", result=self._answer.result(whole=False))

    def _begin(self) -> bytes:
        """That it begins, and that the model was loaded for it: nothing is told before the prompt is accepted."""
        self._begun, name = True, self._answer.instance
        told = event("chat.start", model_instance_id=name)
        load_s = self._answer.pace.load_s
        if load_s is not None:
            told += event("model_load.start", model_instance_id=name)
            told += event("model_load.progress", model_instance_id=name, progress=1)
            told += event("model_load.end", model_instance_id=name, load_time_seconds=load_s)
        return told

    def _read(self, at: Progress) -> bytes:
        told = b"" if self._reading else event("prompt_processing.start")
        self._reading = True
        return told + event("prompt_processing.progress", progress=at.done / at.total if at.total else 1)

    def _turn(self, item: Item | None) -> bytes:
        """From the item that is open to *item*."""
        told = self._finish()
        if item is None:
            return told
        if item.call is not None:
            return told + event("tool_call.failure", **missing(item.call))
        self._open = item
        return told + event(f"{item.kind}.start")

    def _finish(self) -> bytes:
        told = b""
        if self._reading:
            told, self._reading = event("prompt_processing.end"), False
        if self._open is not None:
            told, self._open = told + event(f"{self._open.kind}.end"), None
        return told
