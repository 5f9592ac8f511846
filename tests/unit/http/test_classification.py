"""Requests to classify: which jobs they are, and what is refused under which name."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest

from anyform.contract.errors import Fault
from anyform.contract.events import Done, Scores, Usage
from anyform.contract.jobs import Classify, Picture, ZeroShot
from anyform.http import classification
from anyform.http.fields import Upload, Written
from anyform.http.input import INPUTS
from anyform.http.media import Media
from anyform.http.reply import Ask, Head

LIMIT = 1000
DATA = b"\x89PNG...."
TEXT = b64encode(DATA).decode()
URL = f"data:image/png;base64,{TEXT}"
PNG = Picture(data=DATA, media_type="image/png")
FILE = Upload(data=DATA, filename="a.png", media_type="image/png")
LABELS = ["a cat", "a dog"]


def read(**fields: Any) -> Ask:
    return classification.read({"model": "m", **fields}, Media(LIMIT))


@pytest.mark.parametrize(
    ("fields", "job"),
    [
        ({"input": "fine"}, Classify(inputs=("fine",))),
        ({"input": ["fine", "bad"], "top_k": 2}, Classify(inputs=("fine", "bad"), top_k=2)),
        ({"input": ["fine", {"text": "bad"}, {"image": TEXT}]}, Classify(inputs=("fine", "bad", Picture(data=DATA)))),
        ({"input": URL}, Classify(inputs=(PNG,))),
        ({"input": {"type": "image_url", "image_url": {"url": URL}}}, Classify(inputs=(PNG,))),
        ({"input": [FILE, Written("fine")]}, Classify(inputs=(PNG, "fine"))),
        ({"input": "fine", "labels": LABELS}, ZeroShot(inputs=("fine",), labels=("a cat", "a dog"))),
        ({"input": ["a"], "candidate_labels": LABELS}, ZeroShot(inputs=("a",), labels=("a cat", "a dog"))),
        ({"input": "a", "labels": None}, Classify(inputs=("a",))),
        ({"input": "a", "labels": ["x"], "top_k": 1, "multi_label": False}, ZeroShot(inputs=("a",), labels=("x",))),
        (
            {"input": Written("a"), "labels": Written("x"), "top_k": Written("1")},
            ZeroShot(inputs=("a",), labels=("x",)),
        ),
        ({"input": ["a"] * INPUTS}, Classify(inputs=("a",) * INPUTS)),
    ],
)
def test_texts(fields: dict[str, Any], job: object) -> None:
    ask = read(**fields)
    assert (ask.jobs, ask.model, ask.stream, ask.prompt) == ((job,), "m", False, "input")


@pytest.mark.parametrize("path", ["images", "image", "input"])
@pytest.mark.parametrize("one", [TEXT, URL, {"url": URL}, FILE])
def test_pictures(path: str, one: object) -> None:
    for value, count in ((one, 1), ([one], 1), ([one, one], 2)):
        (job,) = classification.read_pictures({"model": "m", path: value, "top_k": 3}, Media(LIMIT)).jobs
        assert isinstance(job, Classify)
        assert ([picture.data for picture in job.inputs if isinstance(picture, Picture)], job.top_k) == (
            [DATA] * count,
            3,
        )
        (job,) = classification.read_clip({"model": "m", path: value, "texts": LABELS}, Media(LIMIT)).jobs
        assert isinstance(job, ZeroShot)
        assert (len(job.inputs), job.labels) == (count, ("a cat", "a dog"))


WRONG_LABELS: list[tuple[dict[str, Any], str]] = [
    ({"labels": []}, "labels"),
    ({"labels": {}}, "labels"),
    ({"labels": 3}, "labels"),
    ({"labels": "cat"}, "labels"),
    ({"labels": ["cat", 3]}, "labels[1]"),
    ({"labels": ["cat", None]}, "labels[1]"),
    ({"labels": ["cat", ""]}, "labels[1]"),
    ({"labels": ["cat", " "]}, "labels[1]"),
    ({"labels": ["cat", "dog", "cat"]}, "labels[2]"),
    ({"labels": [["cat"]]}, "labels[0]"),
    ({"labels": FILE}, "labels[0]"),
    ({"candidate_labels": ["cat", 3]}, "candidate_labels[1]"),
    ({"labels": [str(at) for at in range(1001)]}, "labels"),
    ({"labels": ["cat"], "multi_label": True}, "multi_label"),
    ({"labels": ["cat"], "hypothesis_template": "{} it is"}, "hypothesis_template"),
]
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"model": None}, "model"),
    ({"model": 3}, "model"),
    ({"top_k": 0}, "top_k"),
    ({"top_k": -1}, "top_k"),
    ({"top_k": 1.5}, "top_k"),
    ({"top_k": "5"}, "top_k"),
    ({"top_k": True}, "top_k"),
    ({"top_k": Written("many")}, "top_k"),
]
WRONG_PICTURES: list[tuple[dict[str, Any], str]] = [
    ({"images": None}, "images"),
    ({"images": []}, "images"),
    ({"images": ""}, "images"),
    ({"images": 3}, "images"),
    ({"images": [TEXT, 3]}, "images[1]"),
    ({"images": [TEXT, None]}, "images[1]"),
    ({"images": [[TEXT]]}, "images[0]"),
    ({"images": ["@@@"]}, "images[0]"),
    ({"images": [{}]}, "images[0].image"),
    ({"images": [{"image": "@@@"}]}, "images[0].image"),
    ({"images": ["A" * 1400]}, "images[0]"),
    ({"images": [Upload(data=b"")]}, "images[0]"),
    ({"images": ["http://169.254.169.254/latest"]}, "images[0]"),
    ({"images": ["file:///etc/passwd"]}, "images[0]"),
    ({"images": [TEXT] * 257}, "images[256]"),
    ({"images": [TEXT] * 2049}, "images"),
    ({"images": None, "image": "@@@"}, "image"),
]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        *WRONG,
        *WRONG_LABELS,
        ({"input": None}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": 3}, "input"),
        ({"input": True}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": ["a", 3]}, "input[1]"),
        ({"input": [1, 2, 3]}, "input[0]"),
        ({"input": [["a"]]}, "input[0]"),
        ({"input": [{}]}, "input[0].image"),
        ({"input": {"text": 3}}, "input.text"),
        ({"input": {"text": ""}}, "input.text"),
        ({"input": {"text": "a", "image": TEXT}}, "input"),
        ({"input": {"image": "@@@"}}, "input.image"),
        ({"input": ["a"] * (INPUTS + 1)}, "input"),
    ],
)
def test_classify_refuses(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Fault) as caught:
        read(**{"input": "a", **fields})
    assert caught.value.details["param"] == param


@pytest.mark.parametrize(("fields", "param"), [*WRONG, *WRONG_PICTURES])
def test_vision_classify_refuses(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Fault) as caught:
        classification.read_pictures({"model": "m", "images": [TEXT], **fields}, Media(LIMIT))
    assert caught.value.details["param"] == param


@pytest.mark.parametrize(("fields", "param"), [*WRONG, *WRONG_PICTURES, *WRONG_LABELS, ({"labels": None}, "labels")])
def test_clip_refuses(fields: dict[str, Any], param: str) -> None:
    body = {"model": "m", "images": [TEXT], **({} if "candidate_labels" in fields else {"labels": LABELS}), **fields}
    with pytest.raises(Fault) as caught:
        classification.read_clip(body, Media(LIMIT))
    assert caught.value.details["param"] == param


def answered(ask: Ask, *events: Scores) -> list[dict[str, Any]]:
    writer = ask.writer(Head(key="k", created=0, model="m"))
    for event in (*events, Done(usage=Usage(prompt_tokens=4))):
        assert writer.write(event, 0) == b""
    body = json.loads(writer.end())
    assert (body["object"], body["model"]) == ("list", "m")
    assert body["usage"] == {"prompt_tokens": 4, "total_tokens": 4}
    found: list[dict[str, Any]] = body["data"]
    return found


def test_the_best_come_first_and_no_more_than_were_asked_for() -> None:
    scores = Scores(values=(0.1, 0.6, 0.3), labels=("x", "y", "z"))
    best = [{"label": "y", "score": 0.6}, {"label": "z", "score": 0.3}, {"label": "x", "score": 0.1}]
    whole = {"object": "classification", "index": 0, "label": "y", "score": 0.6}
    assert answered(read(input="a", labels=["x", "y", "z"]), scores) == [{**whole, "scores": best}]
    assert answered(read(input="a", labels=["x", "y", "z"], top_k=2), scores) == [{**whole, "scores": best[:2]}]


def test_inputs_keep_their_order_whatever_comes_first() -> None:
    one, two = (Scores(values=(1.0,), labels=(label,), index=at) for at, label in enumerate("ab"))
    assert [item["label"] for item in answered(read(input=["a", "b"]), two, one)] == ["a", "b"]
