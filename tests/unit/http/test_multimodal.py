"""Requests for a text about a picture: which jobs they are, and what is refused under which name."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest

from anyform.contract.errors import Fault
from anyform.contract.jobs import Answer, Caption, Picture
from anyform.http import multimodal
from anyform.http.fields import Upload, Written
from anyform.http.media import Media

LIMIT = 1000
DATA = b"\x89PNG...."
TEXT = b64encode(DATA).decode()
URL = f"data:image/png;base64,{TEXT}"
PNG = Picture(data=DATA, media_type="image/png")
FILE = Upload(data=DATA, filename="a.png", media_type="image/png")


@pytest.mark.parametrize(
    ("fields", "job"),
    [
        ({"image": URL}, Caption(picture=PNG)),
        ({"image": TEXT}, Caption(picture=Picture(data=DATA))),
        ({"image": FILE, "max_tokens": Written("7")}, Caption(picture=PNG, max_tokens=7)),
        ({"image": [URL]}, Caption(picture=PNG)),
        ({"images": [URL]}, Caption(picture=PNG)),
        ({"image": {"url": URL}}, Caption(picture=PNG)),
        ({"image_url": {"url": URL}}, Caption(picture=PNG)),
        ({"image": URL, "max_tokens": 1}, Caption(picture=PNG, max_tokens=1)),
        ({"image": URL, "max_length": 20}, Caption(picture=PNG, max_tokens=20)),
        ({"image": URL, "max_new_tokens": 20}, Caption(picture=PNG, max_tokens=20)),
        ({"image": URL, "max_completion_tokens": 20}, Caption(picture=PNG, max_tokens=20)),
        ({"image": URL, "max_tokens": None}, Caption(picture=PNG)),
    ],
)
def test_captions(fields: dict[str, Any], job: object) -> None:
    ask = multimodal.read_caption({"model": "m", **fields}, Media(LIMIT))
    named = next(name for name in multimodal.IMAGE_NAMES if name in fields)
    assert (ask.jobs, ask.model, ask.stream, ask.prompt) == ((job,), "m", False, named)


def test_answers() -> None:
    body = {"model": "m", "image": URL, "question": "what?", "max_tokens": 5, "stream": Written("true")}
    ask = multimodal.read_answer(body, Media(LIMIT))
    assert ask.jobs == (Answer(picture=PNG, question="what?", max_tokens=5),)
    assert (ask.stream, ask.prompt) == (True, "question")


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"model": None}, "model"),
    ({"model": []}, "model"),
    ({"image": None}, "image"),
    ({"image": 3}, "image"),
    ({"image": ""}, "image"),
    ({"image": []}, "image"),
    ({"image": {}}, "image.image"),
    ({"image": "@@@"}, "image"),
    ({"image": ["@@@"]}, "image[0]"),
    ({"image": [URL, URL]}, "image"),
    ({"image": "data:image/png;base64"}, "image"),
    ({"image": "A" * 1400}, "image"),
    ({"image": Upload(data=b"x" * (LIMIT + 1))}, "image"),
    ({"image": "http://localhost/a.png"}, "image"),
    ({"image": {"url": "file:///etc/passwd"}}, "image.url"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_length": -1}, "max_length"),
    ({"max_tokens": "5"}, "max_tokens"),
    ({"max_tokens": 1.5}, "max_tokens"),
    ({"stream": "yes"}, "stream"),
    ({"stream_options": 3, "stream": True}, "stream_options"),
]


@pytest.mark.parametrize(("fields", "param"), [*WRONG, ({"prompt": "a picture of"}, "prompt")])
def test_caption_refuses(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Fault) as caught:
        multimodal.read_caption({"model": "m", "image": URL, **fields}, Media(LIMIT))
    assert caught.value.details["param"] == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [*WRONG, ({"question": None}, "question"), ({"question": ""}, "question"), ({"question": ["a"]}, "question")],
)
def test_vqa_refuses(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Fault) as caught:
        multimodal.read_answer({"model": "m", "image": URL, "question": "what?", **fields}, Media(LIMIT))
    assert caught.value.details["param"] == param
