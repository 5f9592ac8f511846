"""Writes an answer as the events of the Responses API. What no event changes is serialised once."""

from __future__ import annotations

from json.encoder import encode_basestring_ascii as quote
from typing import Any

from anyform.contract.errors import Closed, Fault
from anyform.contract.events import Done, Event, Reasoning, Text, ToolCall
from anyform.http.reply import SSE, Head, dumps
from anyform.http.responsereply import (
    CALL,
    MESSAGE,
    REASONING,
    Draft,
    Drafts,
    Outcome,
    Wish,
    body,
    failed,
    finished,
    keep,
    said,
    scores,
)

DELTAS = {
    MESSAGE: "response.output_text.delta",
    REASONING: "response.reasoning_text.delta",
    CALL: "response.function_call_arguments.delta",
}


class Stream:
    """Numbers its events 0, 1, 2, ...; every item begins, grows and ends before the next one does."""

    media_type = SSE

    def __init__(self, head: Head, wish: Wish) -> None:
        self._head, self._wish = head, wish
        self._drafts = Drafts(head.key)
        self._last: Draft | None = None
        """The item that is open."""
        self._done = Done()
        self._number = 0
        self._open = self._close = ""
        """Of a delta of the open item: what stands before its text, and between that and its number."""

    def write(self, event: Event, job: int = 0) -> bytes:
        if isinstance(event, Text | Reasoning | ToolCall):
            return self._say(event).encode("ascii") if said(event) else b""
        if isinstance(event, Done):
            self._done = event
        return self._begin().encode("ascii") if not self._number else b""

    def _begin(self) -> str:
        """The first events: there is a response, and it is being made."""
        made = dumps(body(self._head, self._wish, "in_progress"))
        return "".join(self._event(f"response.{name}", f'"response":{made}') for name in ("created", "in_progress"))

    def _event(self, kind: str, rest: str) -> str:
        number = self._number
        self._number += 1
        return f'event: {kind}\ndata: {{"type":"{kind}","sequence_number":{number},{rest}}}\n\n'

    def _say(self, event: Text | Reasoning | ToolCall) -> str:
        before = "" if self._number else self._begin()
        draft = self._drafts.take(event)
        if draft is not self._last:
            before += self._end_item("completed") + self._begin_item(draft)
        text, logs = (event.arguments, "") if isinstance(event, ToolCall) else (event.text, self._weigh(event))
        if not text and not logs:
            return before
        number = self._number
        self._number += 1
        return f"{before}{self._open}{quote(text)}{logs or self._close}{number}}}\n\n"

    def _weigh(self, event: Text | Reasoning) -> str:
        """The close of a delta with scored tokens, which only those of texts tell of."""
        if not event.logprobs or isinstance(event, Reasoning):
            return ""
        return f',"logprobs":{dumps(scores(event.logprobs))},"sequence_number":'

    def _begin_item(self, draft: Draft) -> str:
        """The open item is *draft*."""
        self._last = draft
        kind, part = DELTAS[draft.kind], '"content_index":0,' if draft.kind != CALL else ""
        at = f'"item_id":"{draft.id}","output_index":{draft.at},{part}'
        self._open = f'event: {kind}\ndata: {{"type":"{kind}",{at}"delta":'
        self._close = ',"logprobs":[],"sequence_number":' if draft.kind == MESSAGE else ',"sequence_number":'
        begun = self._event("response.output_item.added", f'"output_index":{draft.at},"item":{dumps(draft.empty())}')
        if draft.kind == CALL:
            return begun
        empty = {**draft.part(), "text": "", **({"logprobs": []} if draft.kind == MESSAGE else {})}
        return begun + self._event("response.content_part.added", f'{at}"part":{dumps(empty)}')

    def _end_item(self, status: str) -> str:
        draft, self._last = self._last, None
        if draft is None:
            return ""
        part = '"content_index":0,' if draft.kind != CALL else ""
        at = f'"item_id":"{draft.id}","output_index":{draft.at},{part}'
        done = DELTAS[draft.kind].replace(".delta", ".done")
        whole: dict[str, Any] = draft.part() if draft.kind != CALL else draft.item(status)
        if draft.kind == CALL:
            told = f'"name":{quote(draft.name)},"arguments":{quote(whole["arguments"])}'
        elif draft.kind == MESSAGE:
            told = f'"text":{quote(whole["text"])},"logprobs":{dumps(whole["logprobs"])}'
        else:
            told = f'"text":{quote(whole["text"])}'
        ended = self._event(done, at + told)
        if draft.kind != CALL:
            ended += self._event("response.content_part.done", f'{at}"part":{dumps(whole)}')
        item = dumps(draft.item(status))
        return ended + self._event("response.output_item.done", f'"output_index":{draft.at},"item":{item}')

    def end(self) -> bytes:
        status = Outcome(done=self._done).status
        before = "" if self._number else self._begin()
        if not self._drafts.all:
            before += self._begin_item(self._drafts.begin(MESSAGE))
        before += self._end_item(status)
        made = dumps(finished(self._head, self._wish, self._drafts, self._done))
        keep(self._head, self._wish, made)
        return (before + self._event(f"response.{status}", f'"response":{made}')).encode("ascii")

    def failed(self, error: Fault) -> bytes:
        """The end of an answer that *error* broke off: what it was, and the response as far as it came."""
        before = "" if self._number else self._begin()
        param = error.details.get("param")
        told = {"code": error.code, "message": str(error), "param": param if isinstance(param, str) else None}
        before += self._event("error", dumps(told)[1:-1])
        made = dumps(failed(self._head, self._wish, self._drafts, error))
        if not isinstance(error, Closed):  # by the end of the server, or by a client that has gone, whom it is not told
            keep(self._head, self._wish, made)
        return (before + self._event("response.failed", f'"response":{made}')).encode("ascii")
