"""The object of the Responses API, and the items of its output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from anyform.contract.errors import Fault
from anyform.contract.events import Done, Event, Reasoning, Text, TokenLogprob, ToolCall, Usage
from anyform.http import chat, fault
from anyform.http.reply import JSON, Head, dumps, finish, remarks
from anyform.http.responsestore import PREFIX, Link, Store, item_id

MESSAGE, REASONING, CALL = "message", "reasoning", "function_call"


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the answer says of its request, and whether it is kept."""

    told: Mapping[str, Any]
    """The response's fields that repeat the request's."""
    logprobs: bool = False
    store: Store | None = None
    """Where the answer is kept; None: nowhere."""
    inputs: bytes = b"[]"
    """The items that the request brought, as JSON; for the store."""
    before: Link | None = None
    """The response that it goes on from."""


class Draft:
    """An item of the output in the making."""

    __slots__ = ("at", "call", "call_id", "id", "kind", "logprobs", "name", "pieces")

    def __init__(self, kind: str, key: str, at: int, event: ToolCall | None = None) -> None:
        """*at*: its place in the output of the response *key*; *event*: the first piece of a call."""
        self.id, self.kind, self.at = item_id(kind, key, "o", at), kind, at
        self.pieces: list[str] = []
        self.logprobs: list[TokenLogprob] = []
        self.call = event.call if event else -1
        self.name = event.name if event else ""
        self.call_id = chat.call_id(event, key) if event else ""

    @property
    def text(self) -> str:
        """All of it so far."""
        return "".join(self.pieces)

    def part(self) -> dict[str, Any]:
        """Its one part of content, with all that was said so far."""
        if self.kind == REASONING:
            return {"type": "reasoning_text", "text": self.text}
        return {"type": "output_text", "annotations": [], "logprobs": scores(self.logprobs), "text": self.text}

    def item(self, status: str) -> dict[str, Any]:
        """The item with all that was said so far."""
        if self.kind == CALL:
            return self._call(status, self.text or "{}")
        said = {"id": self.id, "type": self.kind, "status": status, "content": [self.part()]}
        return {**said, "role": "assistant"} if self.kind == MESSAGE else {**said, "summary": []}

    def empty(self) -> dict[str, Any]:
        """The item before anything was said."""
        if self.kind == CALL:
            return self._call("in_progress", "")
        said = {"id": self.id, "type": self.kind, "status": "in_progress", "content": []}
        return {**said, "role": "assistant"} if self.kind == MESSAGE else {**said, "summary": []}

    def _call(self, status: str, arguments: str) -> dict[str, Any]:
        called = {"id": self.id, "type": CALL, "status": status, "call_id": self.call_id, "name": self.name}
        return {**called, "arguments": arguments}


class Drafts:
    """The output: an item follows another where the model goes over to something else, or to another call."""

    def __init__(self, key: str) -> None:
        self._key = key
        self.all: list[Draft] = []

    @property
    def last(self) -> Draft | None:
        return self.all[-1] if self.all else None

    def take(self, event: Text | Reasoning | ToolCall) -> Draft:
        """The item that *event* belongs to, which has it now."""
        draft = self._of(event)
        if isinstance(event, ToolCall):
            draft.pieces.append(event.arguments)
        else:
            draft.pieces.append(event.text)
            draft.logprobs.extend(event.logprobs)
        return draft

    def _of(self, event: Text | Reasoning | ToolCall) -> Draft:
        kind = MESSAGE if isinstance(event, Text) else REASONING if isinstance(event, Reasoning) else CALL
        last = self.all[-1] if self.all else None
        call = event.call if isinstance(event, ToolCall) else -1
        if last is None or last.kind != kind or last.call != call:
            last = self.begin(kind, event if isinstance(event, ToolCall) else None)
        return last

    def begin(self, kind: str, event: ToolCall | None = None) -> Draft:
        """A further item."""
        draft = Draft(kind, self._key, len(self.all), event)
        self.all.append(draft)
        return draft

    def items(self, last: str) -> list[dict[str, Any]]:
        """All items; *last*: the status of the last."""
        return [draft.item(last if at == len(self.all) - 1 else "completed") for at, draft in enumerate(self.all)]


@dataclass(kw_only=True)
class Outcome:
    """How an answer ended."""

    done: Done = field(default_factory=Done)

    @property
    def cut(self) -> bool:
        """Whether the limit ended it: that of the request or of the context."""
        return finish(self.done, 0) == "length"

    @property
    def status(self) -> str:
        return "incomplete" if self.cut else "completed"


def body(head: Head, wish: Wish, status: str, output: Sequence[Any] = (), **ended: Any) -> dict[str, Any]:
    """The response object. *ended*: the fields that an answer has once it has ended."""
    return {
        "id": f"{PREFIX}{head.key}",
        "object": "response",
        "created_at": head.created,
        "status": status,
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "model": head.model,
        "output": list(output),
        "usage": None,
        **wish.told,
        **ended,
    }


def finished(head: Head, wish: Wish, drafts: Drafts, done: Done) -> dict[str, Any]:
    """The response object of an answer that has come to its end."""
    outcome = Outcome(done=done)
    if not drafts.all:
        drafts.begin(MESSAGE)
    ended: dict[str, Any] = {"usage": usage(done.usage)}
    if outcome.cut:
        ended["incomplete_details"] = {"reason": "max_output_tokens"}
    else:
        ended["completed_at"] = head.created + int(head.course.elapsed_s())
    if told := [*remarks(done), *_left_out(head.course.cut)]:
        ended["remarks"] = told
    return body(head, wish, outcome.status, drafts.items(outcome.status), **ended)


def _left_out(count: int) -> list[str]:
    if not count:
        return []
    what = "the oldest message was" if count == 1 else f"the oldest {count} messages were"
    return [f"The conversation is longer than the model's context: {what} left out, as 'truncation': 'auto' asks."]


def failed(head: Head, wish: Wish, drafts: Drafts, error: Fault) -> dict[str, Any]:
    """The response object of an answer that a fault ended."""
    return body(head, wish, "failed", drafts.items("incomplete"), error={"code": code(error), "message": str(error)})


def code(error: Fault) -> str:
    """One of the few codes that OpenAI's types know for a response that failed."""
    status = fault.status(error)
    if status == 429:
        return "rate_limit_exceeded"
    return "server_error" if status >= 500 else "invalid_prompt"


def keep(head: Head, wish: Wish, encoded: str) -> None:
    """Keep the response *encoded*, where the request wants that."""
    if wish.store is not None:
        wish.store.keep(Link(key=head.key, inputs=wish.inputs, body=encoded.encode("ascii"), before=wish.before))


def usage(counted: Usage) -> dict[str, Any]:
    """The tokens of a response."""
    return {
        "input_tokens": counted.prompt_tokens,
        "input_tokens_details": {"cached_tokens": counted.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": counted.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": counted.reasoning_tokens},
        "total_tokens": counted.prompt_tokens + counted.completion_tokens,
    }


def scores(tokens: Sequence[TokenLogprob]) -> list[dict[str, Any]]:
    """The logprobs of a part of text."""
    content: list[dict[str, Any]] = chat.logprobs(tuple(tokens))["content"] if tokens else []
    return content


class Whole:
    """Collects an answer into one response object."""

    media_type = JSON

    def __init__(self, head: Head, wish: Wish) -> None:
        self._head, self._wish = head, wish
        self._drafts = Drafts(head.key)
        self._done = Done()

    def write(self, event: Event, job: int = 0) -> bytes:
        if isinstance(event, Done):
            self._done = event
        elif isinstance(event, Text | Reasoning | ToolCall) and said(event):
            self._drafts.take(event)
        return b""

    def end(self) -> bytes:
        encoded = dumps(finished(self._head, self._wish, self._drafts, self._done))
        keep(self._head, self._wish, encoded)
        return encoded.encode("ascii")


def said(event: Text | Reasoning | ToolCall) -> bool:
    """Whether there is anything in *event*."""
    return isinstance(event, ToolCall) or bool(event.text or event.logprobs)
