"""POST /v1/multimodal/caption and /v1/multimodal/vqa: text about a picture, whole or streamed."""

from __future__ import annotations

from collections.abc import Mapping
from json.encoder import encode_basestring_ascii as quote
from typing import Any

from anyform.contract.events import Done, Event, Text, Usage
from anyform.contract.jobs import Answer, Caption, Picture
from anyform.http import generation
from anyform.http.fields import Fields, wrong
from anyform.http.input import many, text
from anyform.http.media import Media
from anyform.http.reply import JSON, SSE, Ask, Chunk, Head, Writer, dumps, finish, whole

LONGEST = ("max_tokens", "max_completion_tokens", "max_new_tokens", "max_length")
"""Spellings of how many tokens there may be at the most."""
IMAGE_NAMES = ("image", "images", "image_url")


def read_caption(body: Mapping[str, Any], media: Media) -> Ask:
    """The request as a Caption job. Raises Invalid, Unsupported, TooLarge."""
    fields = Fields(body)
    model, picture = fields.need_text("model"), _picture(fields, media)
    fields.refuse("prompt", "A caption follows none; ask a question at /v1/multimodal/vqa.")
    return _ask(fields, model, Caption(picture=picture, **_longest(fields)), "caption", fields.find(*IMAGE_NAMES)[0])


def read_answer(body: Mapping[str, Any], media: Media) -> Ask:
    """The request as an Answer job. Raises Invalid, TooLarge."""
    fields = Fields(body)
    model, picture = fields.need_text("model"), _picture(fields, media)
    question = text(fields.path("question"), fields.need_text("question"))
    return _ask(fields, model, Answer(picture=picture, question=question, **_longest(fields)), "answer", "question")


def _picture(fields: Fields, media: Media) -> Picture:
    """The one picture; an array may hold it."""
    found = many(fields, *IMAGE_NAMES, one=lambda param, value: media.picture(value, param), what="picture")
    if len(found) > 1:
        wrong(fields.path(fields.find(*IMAGE_NAMES)[0]), f"{len(found)} pictures", "Send one a request.")
    return found[0]


def _longest(fields: Fields) -> dict[str, int]:
    """`max_tokens`, where the request says it; else the job's own."""
    longest = fields.integer(*LONGEST, low=1)
    return {} if longest is None else {"max_tokens": longest}


def _ask(fields: Fields, model: str, job: Caption | Answer, kind: str, prompt: str) -> Ask:
    stream = bool(fields.flag("stream"))
    counted = generation.includes_usage(fields, stream)

    def writer(head: Head) -> Writer:
        return Stream(head, kind, counted) if stream else Whole(head, kind)

    return Ask(model=model, jobs=(job,), writer=writer, stream=stream, prompt=prompt)


class Stream:
    """Writes a text as events of the kind `caption.chunk` or `answer.chunk`."""

    media_type = SSE

    def __init__(self, head: Head, kind: str, counted: bool) -> None:
        """*counted*: whether usage is wanted."""
        self._usage = Usage()
        self._chunk = Chunk(head, kind, f"{kind}.chunk", counted)

    def write(self, event: Event, job: int = 0) -> bytes:
        if isinstance(event, Text) and event.text:
            return f'{self._chunk.open}{{"index":0,"text":{quote(event.text)}{self._chunk.tail}'.encode("ascii")
        if isinstance(event, Done):
            self._usage = event.usage
            last = dumps({"index": 0, "text": "", "finish_reason": finish(event, 0)})
            return f"{self._chunk.open}{last}{self._chunk.close}".encode("ascii")
        return b""

    def end(self) -> bytes:
        return self._chunk.last(self._usage)


class Whole:
    """Collects a text into one object of the kind `caption` or `answer`."""

    media_type = JSON

    def __init__(self, head: Head, kind: str) -> None:
        self._head, self._kind = head, kind
        self._texts: list[str] = []
        self._done = Done()

    def write(self, event: Event, job: int = 0) -> bytes:
        if isinstance(event, Text):
            self._texts.append(event.text)
        elif isinstance(event, Done):
            self._done = event
        return b""

    def end(self) -> bytes:
        choice = {"index": 0, "text": "".join(self._texts), "finish_reason": finish(self._done, 0)}
        return whole(self._head, self._kind, self._kind, [choice], self._done.usage)
