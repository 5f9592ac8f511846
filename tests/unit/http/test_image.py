"""Bodies -> Image, EditImage and VaryImage jobs; and pictures -> OpenAI's object and its events."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyform.contract.errors import Fault, Invalid, OutOfMemory, TooLarge, Unsupported
from anyform.contract.events import Blob, Done, Event, Progress, Usage
from anyform.contract.jobs import EditImage, Image, Picture, VaryImage
from anyform.http import fault, fields, image, imagereply
from anyform.http.config import HttpConfig
from anyform.http.fields import Upload, Written
from anyform.http.gallery import Gallery
from anyform.http.media import Media
from anyform.http.reply import Head

LIMIT = 100
HEAD = Head(key="k", created=1700000000, model="m", origin="http://here:1")
FILE = Upload(data=b"a picture", filename="a.png", media_type="image/png")
MASK = Upload(data=b"a mask", filename="m.png", media_type="image/png")
PICTURE = Picture(data=b"a picture", media_type="image/png")
BASE64 = b64encode(b"a picture").decode()
GALLERY = Gallery(HttpConfig(images_folder="/nowhere"))
PICTURED = {"image": BASE64}
EXTRA = {"seed": 7, "width": 64, "height": 32, "steps": 2, "scheduler": "DDIMScheduler"}


def made(index: int = 0, **extra: Any) -> Blob:
    return Blob(data=b"picture %d" % index, media_type="image/png", index=index, extra={**EXTRA, **extra})


EVENTS: tuple[Event, ...] = (
    Progress(stage="queue", total=1),
    Progress(stage="queue", total=0),
    Progress(stage="step", done=1, total=2),
    made(partial=0),
    Progress(stage="step", done=2, total=2),
    made(),
    Done(usage=Usage(prompt_tokens=5), generate_s=2.0),
)


def read(**given: Any) -> Any:
    return image.read({"model": "m", "prompt": "a cat", **given}, Media(LIMIT), GALLERY)


def edit(**given: Any) -> Any:
    return image.read_edit({"model": "m", "prompt": "a cat", "image": FILE, **given}, Media(LIMIT), GALLERY)


def vary(**given: Any) -> Any:
    return image.read_variation({"model": "m", "image": FILE, **given}, Media(LIMIT), GALLERY)


def written(ask: Any, events: Sequence[Event] = EVENTS) -> str:
    writer = ask.writer(HEAD)
    return (b"".join(writer.write(event, 0) for event in events) + writer.end()).decode("ascii")


def told(ask: Any, events: Sequence[Event] = EVENTS) -> list[dict[str, Any]]:
    """The stream's events; each says its type twice, and its data are one line."""
    found = []
    for block in written(ask, events).removesuffix("\n\n").split("\n\n"):
        name, _, data = block.partition("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
        assert "\n" not in data
    return found


def test_the_least_requests() -> None:
    assert read().jobs == (Image(prompt="a cat"),)
    assert edit().jobs == (EditImage(pictures=(PICTURE,), image=Image(prompt="a cat")),)
    assert vary().jobs == (VaryImage(picture=PICTURE, image=Image(prompt="")),)
    for ask in (read(), edit(), vary()):
        assert (ask.model, ask.stream, ask.heavy, ask.told) == ("m", False, True, True)


ALL = {
    "negative_prompt": "dogs",
    "n": 3,
    "size": "640x480",
    "quality": "hd",
    "num_inference_steps": 20,
    "guidance_scale": 3.5,
    "seed": 42,
    "scheduler": "DDIMScheduler",
    "output_format": "webp",
    "output_compression": 80,
    "background": "auto",
    "moderation": "low",
    "user": "somebody",
    "response_format": "b64_json",
    "stream": True,
    "partial_images": 2,
}
ALL_OF_IT = Image(
    prompt="a cat",
    negative_prompt="dogs",
    n=3,
    width=640,
    height=480,
    quality="high",
    steps=20,
    guidance=3.5,
    seed=42,
    scheduler="DDIMScheduler",
    loras={"ink": 0.5, "oil": 1.0},
    partials=2,
    media_type="image/webp",
    compression=80,
)


@pytest.mark.parametrize("route", [read, edit, vary])
def test_all_fields_as_json_and_as_a_form_writes_them(route: Callable[..., Any]) -> None:
    as_form = {name: Written(str(value).lower() if value is True else value) for name, value in ALL.items()}
    loras: dict[str, Any]
    for said, loras in (
        (ALL, {"loras": {"ink": 0.5, "oil": 1}}),
        (as_form, {"loras": Written('{"ink": 0.5, "oil": 1}')}),
        (as_form, {"loras[ink]": Written("0.5"), "loras[oil]": Written("1")}),
    ):
        ask = route(prompt=Written("a cat"), **said, **loras)
        (job,) = ask.jobs
        assert getattr(job, "image", job) == ALL_OF_IT
        assert ask.stream


def test_other_spellings() -> None:
    (job,) = read(steps=5, guidance=2, width=64, height=32).jobs
    assert (job.steps, job.guidance, job.width, job.height) == (5, 2.0, 64, 32)
    (same,) = read(steps=5, num_inference_steps=5, size="64x32", width=64, height=32).jobs
    assert (same.steps, same.width, same.height) == (5, 64, 32)


@pytest.mark.parametrize(
    ("quality", "meant"),
    [("auto", ""), ("standard", ""), ("low", "low"), ("medium", "medium"), ("high", "high"), ("hd", "high")],
)
def test_qualities(quality: str, meant: str) -> None:
    assert read(quality=quality).jobs[0].quality == meant


@pytest.mark.parametrize("size", ["auto", None, ""])
def test_a_size_left_to_the_model(size: str | None) -> None:
    (job,) = read(size=size).jobs
    assert (job.width, job.height) == (None, None)


def test_a_seed_of_minus_one_is_drawn() -> None:
    assert read(seed=-1).jobs[0].seed is None
    assert read(seed=0).jobs[0].seed == 0
    assert read(seed=2**63 - 1).jobs[0].seed == 2**63 - 1


def test_all_that_is_lossless_may_be_of_full_quality() -> None:
    assert read(output_compression=100).jobs[0].compression is None
    assert read(output_compression=100, output_format="jpeg").jobs[0].compression == 100


@pytest.mark.parametrize(
    "value",
    [FILE, [FILE], BASE64, f"data:image/png;base64,{BASE64}", {"image_url": f"data:image/png;base64,{BASE64}"},
     {"b64_json": BASE64}, {"image_url": {"url": f"data:image/png;base64,{BASE64}"}}, [{"image": BASE64}]],
)  # fmt: skip
@pytest.mark.parametrize("name", ["image", "images"])
def test_a_picture_in_every_form(value: Any, name: str) -> None:
    given = {"model": "m", "prompt": "a cat", name: value, "mask": value[0] if isinstance(value, list) else value}
    (job,) = image.read_edit(given, Media(LIMIT), GALLERY).jobs
    assert [picture.data for picture in job.pictures] == [b"a picture"]
    assert job.mask.data == b"a picture"
    del given["mask"]
    assert image.read_variation(given, Media(LIMIT), GALLERY).jobs[0].picture.data == b"a picture"


def test_several_pictures_a_mask_and_a_strength() -> None:
    (job,) = edit(image=[FILE, MASK], mask=MASK, strength=0.25).jobs
    assert [picture.data for picture in job.pictures] == [b"a picture", b"a mask"]
    assert (job.mask.data, job.strength) == (b"a mask", 0.25)
    (varied,) = vary(prompt="bluer", strength=Written("1")).jobs
    assert (varied.image.prompt, varied.strength) == ("bluer", 1.0)


def test_an_elsewhere_picture_is_noted_where_it_may_be_fetched() -> None:
    class All:
        def judge(self, reference: str, wanted: Any) -> None: ...
        def is_path(self, text: str) -> bool:
            return False

    media = Media(LIMIT, All())
    body = {"model": "m", "prompt": "a cat", "image": {"image_url": "https://a.example/b.png"}}
    image.read_edit(body, media, GALLERY)
    assert list(media.wanted) == ["https://a.example/b.png"]
    with pytest.raises(Invalid, match="nothing is fetched"):
        edit(image="https://a.example/b.png")


BAD: dict[str, list[Any]] = {
    "prompt": [None, "", " \n", 3, "x" * 32_001],
    "negative_prompt": ["x" * 32_001, ["x"]],
    "model": [None],
    "n": [0, 100, -1, "2", 1.5, True],
    "size": [
        *("0x0", "512x0", "100000x100000", "64x999999999", "axb", "512", "512x", "512x512x3", "-512x512", "1e3x10"),
        *("\u0665\u0661\u0662x\u0665\u0661\u0662", "512 x 512", 512),
    ],
    "quality": ["ultra", 3],
    "num_inference_steps": [0, 10_000, "many", 1.5],
    "steps": [0, 10_000],
    "guidance_scale": [-1, "much"],
    "guidance": [1e9],
    "seed": [-2, 2**63, "x"],
    "scheduler": [3],
    "output_format": ["gif", "svg", 3],
    "output_compression": [50, 101, -1],
    "background": ["pink"],
    "response_format": ["json"],
    "stream": ["yes"],
    "partial_images": [1],
    "loras": ["ink", ["ink"], {f"l{number}": 1 for number in range(17)}, Written("{")],
    "user": [3],
}
"""What no request may say in a field."""
BAD_TOGETHER: list[tuple[dict[str, Any], str]] = [
    ({"width": 64}, "height"),
    ({"height": 64}, "width"),
    ({"width": 0, "height": 64}, "width"),
    ({"width": 100_000, "height": 64}, "width"),
    ({"size": "64x64", "width": 32, "height": 64}, "size"),
    ({"steps": 4, "num_inference_steps": 5}, "steps"),
    ({"output_compression": 101, "output_format": "jpeg"}, "output_compression"),
    ({"partial_images": 4, "stream": True}, "partial_images"),
    ({"partial_images": -1, "stream": True}, "partial_images"),
    ({"loras": {"ink": "much"}}, "loras.ink"),
    ({"loras": {"ink": None}}, "loras.ink"),
    ({"loras": {"ink": 1e9}}, "loras.ink"),
]


@pytest.mark.parametrize(
    ("given", "param"),
    [*(({name: value}, name) for name, values in BAD.items() for value in values), *BAD_TOGETHER],
)
@pytest.mark.parametrize("route", [read, edit, vary])
def test_bad_input(route: Callable[..., Any], given: dict[str, Any], param: str) -> None:
    if route is vary and "prompt" in given and not str(given["prompt"] or "").strip():
        assert route(**given).jobs[0].image.prompt == (given["prompt"] or "")
        return
    with pytest.raises(Invalid) as caught:
        route(**given)
    assert caught.value.details["param"] == param
    assert fault.status(caught.value) == 400


@pytest.mark.parametrize(
    ("given", "param"),
    [({"background": "transparent"}, "background"), *(({name: "x"}, name) for name in image.NOT_DONE)],
)
@pytest.mark.parametrize("route", [read, edit, vary])
def test_what_is_not_done_is_refused(route: Callable[..., Any], given: dict[str, Any], param: str) -> None:
    with pytest.raises(Unsupported) as caught:
        route(**given)
    assert caught.value.details["param"] == param
    assert caught.value.hint


@pytest.mark.parametrize("value", ["x", 0, 1.5, Written("7")])
@pytest.mark.parametrize(("name", "meant"), image.MEANT.items())
@pytest.mark.parametrize("route", [read, edit, vary])
def test_a_name_that_others_use_is_refused(route: Callable[..., Any], name: str, meant: str, value: Any) -> None:
    with pytest.raises(Unsupported, match=f"'{name}'. Did you mean {meant}") as caught:
        route(**{name: value})
    assert caught.value.details["param"] == name
    assert route(**{name: None})


@pytest.mark.parametrize(
    ("route", "given", "param"),
    [
        *((edit, {"image": value}, "image") for value in (None, [], "not base64!", Upload(data=b""), 3, [FILE] * 17)),
        *((edit, {"mask": value}, "mask") for value in ("not base64!", [MASK])),
        *((vary, {"image": value}, "image") for value in (None, [FILE, FILE])),
        *((route, {"strength": value}, "strength") for route in (edit, vary) for value in (0, -0.1, 1.01, "x")),
        *((route, {name: BASE64}, name) for route in (edit, vary) for name in ("images", "image_url")),
        (edit, {"image": {"file_id": "f"}}, "image.image"),
        (edit, {"mask": {"image_url": "http://x.example/"}}, "mask.image_url"),
    ],
)
def test_bad_pictures(route: Callable[..., Any], given: dict[str, Any], param: str) -> None:
    with pytest.raises(Invalid) as caught:
        route(**given)
    assert caught.value.details["param"] == param


def test_a_picture_over_the_limit() -> None:
    for value in (Upload(data=bytes(LIMIT + 1)), b64encode(bytes(LIMIT + 1)).decode()):
        with pytest.raises(TooLarge) as caught:
            edit(image=value)
        assert caught.value.details["param"] == "image"


@pytest.mark.parametrize("name", ["image", "images", "image_url", "mask"])
def test_a_picture_where_none_is_taken(name: str) -> None:
    with pytest.raises(Unsupported, match="/v1/images/edits"):
        read(**{name: FILE})
    if name == "mask":
        with pytest.raises(Unsupported, match="/v1/images/edits"):
            vary(mask=MASK)


def test_a_server_that_keeps_none_refuses_urls() -> None:
    body = {"model": "m", "prompt": "x", "response_format": "url"}
    with pytest.raises(Unsupported, match="images_bytes"):
        image.read(body, Media(LIMIT), Gallery(HttpConfig(images_bytes=0)))


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([*ALL, "steps", "guidance", "width", "height", "loras", "prompt", "image", "mask", "strength"]),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text(), max_size=2)
        | st.dictionaries(st.text(max_size=3), st.floats() | st.text(max_size=3), max_size=2) | st.text().map(Written),
        max_size=6,
    )
)  # fmt: skip
def test_any_body_is_a_job_or_a_clear_refusal(body: dict[str, Any]) -> None:
    for route, image_of in ((image.read, {}), (image.read_edit, PICTURED), (image.read_variation, PICTURED)):
        outcome: Any
        try:
            outcome = route({"model": "m", "prompt": "x", **image_of, **body}, Media(LIMIT), GALLERY)
        except Fault as refusal:
            outcome = refusal
        if isinstance(outcome, Fault):
            assert fault.status(outcome) in (400, 413)
            assert outcome.details["param"]
        else:
            (job,) = outcome.jobs
            wanted = job if isinstance(job, Image) else job.image
            assert 1 <= wanted.n <= 10
            assert wanted.width is None or 1 <= wanted.width <= image.LONGEST_SIDE


@pytest.mark.parametrize(
    ("given", "model_says", "param"),
    [
        ({"steps": 5}, "num_inference_steps", "steps"),
        ({}, "num_inference_steps", "num_inference_steps"),
        ({"guidance": 5}, "guidance_scale", "guidance"),
        ({"width": 17, "height": 9}, "size", "width"),
        ({"size": "17x9"}, "size", "size"),
        ({"images": [BASE64], "image": None}, "image[0]", "images[0]"),
        ({}, "mask", "mask"),
    ],
)
def test_what_the_model_refuses_is_told_by_the_requests_own_name(
    given: dict[str, Any], model_says: str, param: str
) -> None:
    ask = edit(**given)
    seen = fields.judged(Invalid("no.", param=model_says), ask.judged, ask.spelt)
    assert isinstance(seen, Invalid)
    assert (seen.details["param"], seen.code) == (param, "invalid_value")


def test_other_faults_of_the_model_stay_what_they_are() -> None:
    ask = read(width=64, height=64)
    seen = fields.judged(OutOfMemory("too large", param="size"), ask.judged, ask.spelt)
    assert isinstance(seen, OutOfMemory)
    assert seen.details["param"] == "width"
    assert fields.judged(ValueError("x"), ask.judged, ask.spelt).args == ("x",)


def test_the_whole_answer() -> None:
    answer = json.loads(written(read(quality="hd")))
    assert answer == {
        "created": 1700000000,
        "data": [{"b64_json": b64encode(b"picture 0").decode(), **EXTRA}],
        "size": "64x32",
        "quality": "high",
        "output_format": "png",
        "background": "opaque",
        "usage": {
            "input_tokens": 5,
            "input_tokens_details": {"text_tokens": 5, "image_tokens": 0},
            "output_tokens": 0,
            "total_tokens": 5,
        },
    }
    assert "quality" not in json.loads(written(read()))


def test_pictures_come_in_order_whatever_is_ready_first() -> None:
    events = (made(2), made(0), made(1, partial=0), made(1), Done())
    data = json.loads(written(read(n=3), events))["data"]
    assert [b64decode(one["b64_json"]) for one in data] == [b"picture 0", b"picture 1", b"picture 2"]


@pytest.mark.parametrize("route", [read, edit, vary])
def test_a_url_answer(route: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[tuple[bytes, str]] = []

    def keep(pictures: Sequence[tuple[bytes, str]]) -> list[str]:
        kept.extend(pictures)
        return [f"{at}.png" for at in range(len(pictures))]

    monkeypatch.setattr(GALLERY, "keep", keep)
    ask = route(response_format="url", n=2)
    answer = json.loads(written(ask, (made(1), made(0), Done())))
    assert answer["data"] == [{"url": f"http://here:1/v1/images/files/{at}.png", **EXTRA} for at in range(2)]
    assert kept == [(b"picture 0", "image/png"), (b"picture 1", "image/png")]
    streamed = told(route(response_format="url", n=1, stream=True), (made(partial=0), made(), Done()))
    assert "b64_json" in streamed[0]
    assert streamed[1]["url"] == "http://here:1/v1/images/files/0.png"
    assert "b64_json" not in streamed[1]


@pytest.mark.parametrize(
    ("route", "noun"), [(read, "image_generation"), (edit, "image_edit"), (vary, "image_variation")]
)
def test_the_stream(route: Callable[..., Any], noun: str) -> None:
    manner = {
        "created_at": 1700000000, "size": "64x32", "quality": "low", "background": "opaque", "output_format": "png",
    }  # fmt: skip
    encoded = b64encode(b"picture 0").decode()
    counted = json.loads(written(route()))["usage"]
    assert told(route(stream=True, quality="low")) == [
        {"type": f"{noun}.queued", "position": 1},
        {"type": f"{noun}.queued", "position": 0},
        {"type": f"{noun}.progress", "step": 1, "steps": 2},
        {"type": f"{noun}.partial_image", "b64_json": encoded, "index": 0, "partial_image_index": 0, **manner},
        {"type": f"{noun}.progress", "step": 2, "steps": 2},
        {"type": f"{noun}.completed", "b64_json": encoded, "index": 0, **EXTRA, **manner, "usage": counted},
    ]


def test_each_of_several_pictures_comes_when_it_is_made() -> None:
    writer = read(n=2, stream=True, size="64x32").writer(HEAD)
    first = writer.write(made(0), 0)
    assert b'"index":0' in first
    assert json.loads(first.partition(b"data: ")[2])["usage"]["total_tokens"] == 0
    assert writer.write(made(1), 0) == b""
    assert writer.write(Done(usage=Usage(prompt_tokens=3)), 0) == b""
    last = json.loads(writer.end().partition(b"data: ")[2])
    assert (last["index"], last["usage"]["total_tokens"]) == (1, 3)


@pytest.mark.parametrize("size", [0, 1, imagereply.PIECE - 1, imagereply.PIECE, imagereply.PIECE + 1, 2**20])
def test_a_picture_of_any_size_is_encoded_as_one(size: int) -> None:
    data = bytes(at % 251 for at in range(size))
    events = (Blob(data=data, media_type="image/png"), Done())
    (one,) = json.loads(written(read(), events))["data"]
    assert one == {"b64_json": b64encode(data).decode()}
    assert told(read(stream=True), events)[0]["b64_json"] == b64encode(data).decode()


def test_an_engine_that_says_little_of_its_pictures() -> None:
    bare = Blob(data=b"x", media_type="image/png")
    events = (Blob(data=b"y", media_type="image/png", extra={"partial": 0}), bare, Done())
    assert json.loads(written(read(size="8x4"), events))["size"] == "8x4"
    assert json.loads(written(read(), (Done(),)))["data"] == []
    partly, whole = told(read(stream=True), events)
    assert (partly["size"], whole["size"], "seed" in whole) == ("auto", "auto", False)
    assert written(read(stream=True), (Done(),)) == ""


def test_what_the_model_remarks_is_told_with_the_pictures() -> None:
    events = (made(), Done(extra={"steps": 2, "remarks": ("the picture was stretched",)}))
    assert json.loads(written(read(), events))["remarks"] == ["the picture was stretched"]
    assert told(read(stream=True), events)[-1]["remarks"] == ["the picture was stretched"]
    assert "remarks" not in json.loads(written(read(), (made(), Done())))


def test_writers_know_what_was_asked_for() -> None:
    assert isinstance(read().writer, partial)
    assert read(stream=True).writer(HEAD).media_type.startswith("text/event-stream")
    assert read().writer(HEAD).media_type == "application/json"
