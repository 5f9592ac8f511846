"""POST /v1/embeddings: one vector for each text or picture, as floats or as base64 of little-endian float32."""

from __future__ import annotations

import sys
from array import array
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

from anyform.contract.events import Done, Event, Usage, Vector
from anyform.contract.jobs import Embed, Picture
from anyform.http.fields import Fields, is_tokens, tokens, wrong
from anyform.http.input import item, many
from anyform.http.media import Media
from anyform.http.reply import JSON, Ask, Head, Writer, dumps

Input = str | tuple[int, ...] | Picture


def read(body: Mapping[str, Any], media: Media) -> Ask:
    """The request as an Embed job. Raises Invalid, TooLarge."""
    fields = Fields(body)
    model = fields.need_text("model")
    form = fields.choice("encoding_format", "float", "base64") or "float"
    job = Embed(
        inputs=_inputs(fields, media),
        dimensions=fields.integer("dimensions", low=1),
        truncate=bool(fields.flag("truncate")),
    )

    def writer(head: Head) -> Writer:
        return Whole(head, form)

    return Ask(model=model, jobs=(job,), writer=writer, prompt="input")


def _inputs(fields: Fields, media: Media) -> tuple[Input, ...]:
    value: Any = fields.data.get("input")
    if is_tokens(value):
        return (tokens(fields.path("input"), value),)
    return many(fields, "input", one=lambda param, value: _input(param, value, media))


def _input(param: str, value: Any, media: Media) -> Input:
    if type(value) is not list:
        return item(param, value, media)
    if not value:
        wrong(param, "empty array", "Expected at least one token id.")
    return tokens(param, value)


class Whole:
    """Collects vectors, which may come in any order, into one list object."""

    media_type = JSON

    def __init__(self, head: Head, form: str) -> None:
        """*form*: float or base64."""
        self._model = head.model
        self._encode = _base64 if form == "base64" else floats
        self._vectors: dict[int, bytes] = {}
        self._usage = Usage()

    def write(self, event: Event, job: int = 0) -> bytes:
        if isinstance(event, Vector):
            self._vectors[event.index] = event.data
        elif isinstance(event, Done):
            self._usage = event.usage
        return b""

    def end(self) -> bytes:
        items = (
            f'{{"object":"embedding","index":{index},"embedding":{self._encode(self._vectors[index])}}}'
            for index in sorted(self._vectors)
        )
        count = self._usage.prompt_tokens
        tail = dumps({"model": self._model, "usage": {"prompt_tokens": count, "total_tokens": count}})
        return f'{{"object":"list","data":[{",".join(items)}],{tail[1:]}'.encode("ascii")


def _base64(data: bytes) -> str:
    return f'"{b64encode(data).decode("ascii")}"'


def floats(data: bytes) -> str:
    """A JSON array with nine digits a number, which is all that a float32 holds."""
    numbers = array("f", data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return f"[{','.join(map(_number, numbers))}]"


def _number(value: float) -> str:
    text = f"{value:.9g}"
    return text if "." in text or "e" in text else text + ".0"
