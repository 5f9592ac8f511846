"""Writes pictures as OpenAI does: one object once all are made, or events as they come. They are files already."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from anyform.contract.events import Blob, Done, Event, Progress, Usage
from anyform.http.gallery import PATH
from anyform.http.reply import JSON, SSE, Head, dumps, remarks

Keep = Callable[[Sequence[tuple[bytes, str]]], Sequence[str]]
"""Keeps files, each with its media type, to be fetched under the names that it gives them."""
FACTS = ("seed", "width", "height", "steps", "steps_run", "scheduler", "flagged")
"""What is told of each picture beside it, if the model says it."""
BACKGROUND = "opaque"
PIECE = 3 * 2**17
"""Bytes that are encoded at once; a multiple of 3, so that only the last has padding."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the answer is to look like."""

    noun: str
    """What its events are called after: image_generation, image_edit or image_variation."""
    form: str = "png"
    quality: str = "auto"
    n: int = 1
    size: str = "auto"
    keep: Keep | None = None
    """None: pictures are in the answer itself."""


def is_whole(blob: Blob) -> bool:
    """Whether it is a finished picture."""
    return blob.extra.get("partial") is None


def _size(blob: Blob, otherwise: str) -> str:
    width, height = blob.extra.get("width"), blob.extra.get("height")
    return f"{width}x{height}" if width and height else otherwise


def _facts(blob: Blob) -> dict[str, Any]:
    return {name: blob.extra[name] for name in FACTS if blob.extra.get(name) is not None}


def _encoded(blob: Blob) -> bytes:
    """The picture as a member of an object. In pieces, so that other threads get a word in."""
    pieces = (b64encode(blob.data[at : at + PIECE]) for at in range(0, len(blob.data), PIECE))
    return b'"b64_json":"%s"' % b"".join(pieces)


def _placed(wish: Wish, head: Head, blobs: Sequence[Blob]) -> list[bytes]:
    """Each picture, or where it is, as a member of an object."""
    if wish.keep is None:
        return [_encoded(blob) for blob in blobs]
    names = wish.keep([(blob.data, blob.media_type) for blob in blobs])
    return [f'"url":{dumps(f"{head.origin}{PATH}{name}")}'.encode("ascii") for name in names]


def _object(member: bytes, others: Mapping[str, Any]) -> bytes:
    """A JSON object. To look through a picture's base64 for what is to be escaped would take longer than all else."""
    rest = dumps(others).encode("ascii")
    return b"{" + member + (b"," if others else b"") + rest[1:]


def _ended(done: Done) -> dict[str, Any]:
    """What the end tells: tokens, and what the model remarks on the request."""
    told = remarks(done)
    return {"usage": usage(done.usage)} | ({"remarks": told} if told else {})


def usage(counted: Usage) -> dict[str, Any]:
    """OpenAI's usage object of pictures; no model here counts these as tokens."""
    return {
        "input_tokens": counted.prompt_tokens,
        "input_tokens_details": {"text_tokens": counted.prompt_tokens, "image_tokens": 0},
        "output_tokens": counted.completion_tokens,
        "total_tokens": counted.prompt_tokens + counted.completion_tokens,
    }


class Whole:
    """Collects finished pictures into OpenAI's object."""

    media_type = JSON

    def __init__(self, head: Head, wish: Wish) -> None:
        self._head, self._wish = head, wish
        self._blobs: dict[int, Blob] = {}
        self._done = Done()

    def write(self, event: Event, job: int = 0) -> bytes:
        if isinstance(event, Blob) and is_whole(event):
            self._blobs[event.index] = event
        elif isinstance(event, Done):
            self._done = event
        return b""

    def end(self) -> bytes:
        blobs = [self._blobs[index] for index in sorted(self._blobs)]
        placed = _placed(self._wish, self._head, blobs)
        data = b",".join(_object(one, _facts(blob)) for one, blob in zip(placed, blobs, strict=True))
        quality = {} if self._wish.quality == "auto" else {"quality": self._wish.quality}
        others = {
            "size": _size(blobs[0], self._wish.size) if blobs else self._wish.size,
            **quality,
            "output_format": self._wish.form,
            "background": BACKGROUND,
            **_ended(self._done),
        }
        return _object(b'"created":%d,"data":[%s]' % (self._head.created, data), others)


class Stream:
    """Writes OpenAI's events: partial_image and completed; and the runtime's own between them: queued and progress."""

    media_type = SSE

    def __init__(self, head: Head, wish: Wish) -> None:
        self._head, self._wish = head, wish
        self._left = wish.n
        self._last: Blob | None = None
        self._done = Done()

    def write(self, event: Event, job: int = 0) -> bytes:
        if isinstance(event, Progress) and event.stage == "queue":
            return self._told("queued", position=event.total)
        if isinstance(event, Progress) and event.stage == "step":
            return self._told("progress", step=event.done, steps=event.total)
        if isinstance(event, Done):
            self._done = event
        return self._picture(event) if isinstance(event, Blob) else b""

    def end(self) -> bytes:
        return b"" if self._last is None else self._completed(self._last, self._done)

    def _picture(self, blob: Blob) -> bytes:
        """The last one waits for the count of tokens, which comes with the end."""
        if not is_whole(blob):
            number = {"index": blob.index, "partial_image_index": blob.extra["partial"]}
            return self._told("partial_image", _encoded(blob), **number, **self._manner(blob))
        self._left -= 1
        if self._left:
            return self._completed(blob, Done())
        self._last = blob
        return b""

    def _completed(self, blob: Blob, done: Done) -> bytes:
        (placed,) = _placed(self._wish, self._head, [blob])
        facts = {"index": blob.index, **_facts(blob)}
        return self._told("completed", placed, **facts, **self._manner(blob), **_ended(done))

    def _manner(self, blob: Blob) -> dict[str, Any]:
        return {
            "created_at": self._head.created,
            "size": _size(blob, self._wish.size),
            "quality": self._wish.quality,
            "background": BACKGROUND,
            "output_format": self._wish.form,
        }

    def _told(self, what: str, picture: bytes = b"", **facts: Any) -> bytes:
        kind = f"{self._wish.noun}.{what}".encode("ascii")
        member = b'"type":"%s"%s' % (kind, b"," + picture if picture else b"")
        return b"event: %s\ndata: %s\n\n" % (kind, _object(member, facts))
