"""POST /v1/embeddings: one vector for each input, as floats or as base64 of little-endian float32."""

from __future__ import annotations

import sys
from array import array
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

from anyform.contract.events import Done, Event, Usage, Vector
from anyform.contract.jobs import Embed
from anyform.http.fields import Fields, is_tokens, mistyped, tokens, wrong
from anyform.http.reply import JSON, Ask, Head, Writer, dumps

INPUTS = 2048


def read(body: Mapping[str, Any]) -> Ask:
    """The request as an Embed job. Raises Invalid."""
    fields = Fields(body)
    model = fields.need_text("model")
    form = fields.choice("encoding_format", "float", "base64") or "float"
    job = Embed(
        inputs=_inputs(fields),
        dimensions=fields.integer("dimensions", low=1),
        truncate=bool(fields.flag("truncate")),
    )

    def writer(head: Head) -> Writer:
        return Whole(head, form)

    return Ask(model=model, jobs=(job,), writer=writer, prompt="input")


def _inputs(fields: Fields) -> tuple[str | tuple[int, ...], ...]:
    value = fields.data.get("input")
    param = fields.path("input")
    if value is None:
        fields.missing("input")
    if isinstance(value, str):
        return (_text(param, value),)
    if not isinstance(value, list):
        mistyped(param, "a string or an array", value)
    if not value:
        wrong(param, "empty array", "Expected at least one input.")
    if is_tokens(value):
        return (tokens(param, value),)
    if len(value) > INPUTS:
        wrong(param, f"{len(value)} inputs", f"Expected at most {INPUTS}.")
    return tuple(_input(f"{param}[{at}]", item) for at, item in enumerate(value))


def _input(param: str, item: Any) -> str | tuple[int, ...]:
    if isinstance(item, str):
        return _text(param, item)
    if not isinstance(item, list):
        mistyped(param, "a string or an array of token ids", item)
    if not item:
        wrong(param, "empty array", "Expected at least one token id.")
    return tokens(param, item)


def _text(param: str, text: str) -> str:
    return text or wrong(param, "empty string", "Expected some text.")


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
