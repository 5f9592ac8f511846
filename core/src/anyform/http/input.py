"""Reads `input`: texts and pictures, one or many, as embeddings and classifications take them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from anyform.contract.jobs import Picture
from anyform.http.fields import Fields, Upload, mistyped, wrong
from anyform.http.media import Media

INPUTS = 2048
PICTURE = "data:image/"
"""What begins so is a picture also where a text may stand, since nobody means its letters."""

T = TypeVar("T")


def many(fields: Fields, *names: str, one: Callable[[str, Any], T], what: str = "input") -> tuple[T, ...]:
    """What the first of *names* that is there holds: a value or an array of them, each read by *one* (param, value)."""
    name, value = fields.find(*names)
    param = fields.path(name)
    if value is None:
        fields.missing(name)
    if not isinstance(value, list):
        return (one(param, value),)
    if not value:
        wrong(param, "empty array", f"Expected at least one {what}.")
    if len(value) > INPUTS:
        wrong(param, f"{len(value)} {what}s", f"Expected at most {INPUTS}.")
    return tuple(one(f"{param}[{at}]", item) for at, item in enumerate(value))


def item(param: str, value: Any, media: Media) -> str | Picture:
    """A text, `{"text": ...}`, or a picture as `{"image": ...}`, `{"image_url": ...}`, data: URL or file of a form."""
    if isinstance(value, str):
        return media.written(value, param) if value.startswith(PICTURE) else value or text(param, value)
    if isinstance(value, dict) and value.get("text") is not None:
        fields = Fields(value, f"{param}.")
        if fields.find("image", "image_url")[1] is not None:
            wrong(param, "it is both a text and a picture", "Send them as two inputs.")
        return text(fields.path("text"), fields.need_text("text"))
    if not isinstance(value, dict | Upload):
        mistyped(param, "a string or an object with 'text' or 'image'", value)
    return media.picture(value, param)


def text(param: str, value: str) -> str:
    """*value*, which must not be empty."""
    return value or wrong(param, "empty string", "Expected some text.")
