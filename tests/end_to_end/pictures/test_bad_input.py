"""Input that is no good: each a clear 400 with its field before anything is computed, and the same worker goes on."""

from __future__ import annotations

import struct
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import httpx
import pytest

from .direct import NEEDS, PROMPT, SIDE, photo, png, same, transparent

pytestmark = NEEDS

GENERATIONS, EDITS, VARIATIONS = "/v1/images/generations", "/v1/images/edits", "/v1/images/variations"
GOOD = {"model": "sd", "prompt": PROMPT, "size": f"{SIDE}x{SIDE}", "num_inference_steps": 2, "seed": 1}


@pytest.fixture(scope="module")
def before(studio: Any) -> tuple[Any, int]:
    """A picture, and the worker that made it."""
    return studio.paint(), studio.loaded("sd")["pid"]


@pytest.fixture
def unharmed(studio: Any, before: tuple[Any, int]) -> Iterator[Any]:
    """The server; in the test nothing may be computed, and its worker must live on."""
    mark = studio.watch.mark()
    yield studio
    assert [kind for kind, _ in studio.watch.told[mark:] if kind in ("queued", "step", "loading", "crashed")] == []
    assert studio.loaded("sd")["pid"] == before[1]


def refusal(answer: httpx.Response, param: str | None, status: int = 400) -> dict[str, Any]:
    assert answer.status_code == status, (answer.status_code, answer.text[:500])
    error: dict[str, Any] = answer.json()["error"]
    assert error["param"] == param, error
    assert error["message"].endswith(".")
    assert len(error["message"]) < 1000
    assert "internal" not in error["code"]
    return error


@cache
def bomb(side: int = 20_000) -> bytes:
    """A PNG of few bytes and very many pixels (https://www.w3.org/TR/png-3/)."""
    packer, row = zlib.compressobj(9), bytes(1 + side // 8)
    pixels = b"".join([*(packer.compress(row) for _ in range(side)), packer.flush()])
    made = b"\x89PNG\r\n\x1a\n"
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    for kind, data in ((b"IHDR", head), (b"IDAT", pixels), (b"IEND", b"")):
        made += struct.pack(">I4s", len(data), kind) + data + struct.pack(">I", zlib.crc32(kind + data))
    return made


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"size": "17x9"}, "size"),
        ({"size": "65x64"}, "size"),
        ({"size": "0x64"}, "size"),
        ({"size": "-64x64"}, "size"),
        ({"size": "64"}, "size"),
        ({"size": "large"}, "size"),
        ({"size": [64, 64]}, "size"),
        ({"size": "100000x64"}, "size"),
        ({"size": "100000x100000"}, "size"),
        ({"size": f"{10**30}x64"}, "size"),
        ({"n": 0}, "n"),
        ({"n": 100}, "n"),
        ({"n": 1.5}, "n"),
        ({"n": "two"}, "n"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": " \n\t"}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": ["a"]}, "prompt"),
        ({"prompt": "word " * 200}, "prompt"),
        ({"prompt": "x" * 100_000}, "prompt"),
        ({"negative_prompt": "word " * 200}, "negative_prompt"),
        ({"num_inference_steps": 0}, "num_inference_steps"),
        ({"num_inference_steps": -1}, "num_inference_steps"),
        ({"num_inference_steps": 10_000}, "num_inference_steps"),
        ({"num_inference_steps": "many"}, "num_inference_steps"),
        ({"guidance_scale": "much"}, "guidance_scale"),
        ({"guidance_scale": -1}, "guidance_scale"),
        ({"guidance_scale": 1e9}, "guidance_scale"),
        ({"seed": "seven"}, "seed"),
        ({"seed": -2}, "seed"),
        ({"seed": 2**70}, "seed"),
        ({"scheduler": "Nobody"}, "scheduler"),
        ({"scheduler": "FlowMatchEulerDiscreteScheduler"}, "scheduler"),
        ({"scheduler": "os.system"}, "scheduler"),
        ({"loras": {"nobody": 1.0}}, "loras"),
        ({"loras": {"wild": "much"}}, "loras.wild"),
        ({"loras": {"wild": 1e9}}, "loras.wild"),
        ({"loras": {"wild": 50}}, "loras"),
        ({"loras": "wild"}, "loras"),
        ({"quality": "best"}, "quality"),
        ({"output_format": "bmp"}, "output_format"),
        ({"output_format": "gif"}, "output_format"),
        ({"output_format": "jpeg", "output_compression": 101}, "output_compression"),
        ({"output_format": "jpeg", "output_compression": -1}, "output_compression"),
        ({"response_format": "file"}, "response_format"),
        ({"partial_images": 9}, "partial_images"),
        ({"partial_images": -1}, "partial_images"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_bad_field(unharmed: Any, fields: dict[str, Any], param: str, stream: bool) -> None:
    if "partial_images" in fields and not stream:
        pytest.skip("of streams")
    refusal(unharmed.http.post(GENERATIONS, json={**GOOD, "stream": stream, **fields}), param)


BAD_PICTURES: dict[str, Callable[[], bytes]] = {
    "text": lambda: b"no picture, whatever its name says. " * 99,
    "nothing": lambda: b"",
    "zeros": lambda: bytes(10_000),
    "half": lambda: png(photo())[:500],
    "bomb": bomb,
    "svg": lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
}


@pytest.mark.parametrize("where", ["form", "json"])
@pytest.mark.parametrize("name", BAD_PICTURES)
@pytest.mark.parametrize("field", ["image", "mask"])
def test_a_bad_picture(unharmed: Any, name: str, field: str, where: str) -> None:
    given = {"image": png(photo()), "mask": png(transparent()), field: BAD_PICTURES[name]()}
    refusal(edited(unharmed, given, where), field)


def edited(studio: Any, given: dict[str, bytes], where: str = "form", **fields: Any) -> httpx.Response:
    body = {**GOOD, **fields}
    if where == "form":
        files = {field: (f"{field}.png", data, "image/png") for field, data in given.items()}
        found: httpx.Response = studio.http.post(
            EDITS, data={name: str(value) for name, value in body.items()}, files=files
        )
        return found
    coded = {field: b64encode(data).decode() for field, data in given.items()}
    answer: httpx.Response = studio.http.post(EDITS, json={**body, **coded})
    return answer


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"strength": 0}, "strength"),
        ({"strength": 2}, "strength"),
        ({"strength": -0.5}, "strength"),
        ({"strength": "much"}, "strength"),
        ({"size": "17x9"}, "size"),
        ({"prompt": ""}, "prompt"),
        ({"n": 0}, "n"),
    ],
    ids=lambda value: str(value)[:40],
)
@pytest.mark.parametrize("where", ["form", "json"])
def test_a_bad_field_of_an_edit(unharmed: Any, fields: dict[str, Any], param: str, where: str) -> None:
    refusal(edited(unharmed, {"image": png(photo())}, where, **fields), param)


def test_a_mask_is_of_the_pictures_size(unharmed: Any) -> None:
    refusal(edited(unharmed, {"image": png(photo()), "mask": png(transparent(SIDE // 2))}), "mask")


def test_an_edit_without_a_picture(unharmed: Any) -> None:
    refusal(unharmed.http.post(EDITS, json=GOOD), "image")
    refusal(unharmed.http.post(VARIATIONS, json=GOOD), "image")


@pytest.mark.parametrize("strength", [0, 2, "much"])
def test_a_bad_variation(unharmed: Any, strength: Any) -> None:
    body = {"model": "sd", "image": b64encode(png(photo())).decode(), "strength": strength}
    refusal(unharmed.http.post(VARIATIONS, json=body), "strength")


@pytest.mark.parametrize(
    "picture", ["http://127.0.0.1/a.png", "file:///etc/passwd", "/etc/passwd", "../../etc/passwd"], ids=str
)
def test_nothing_that_a_request_names_is_opened(unharmed: Any, picture: str) -> None:
    answer = unharmed.http.post(EDITS, json={**GOOD, "image": picture})
    assert answer.status_code in (400, 403), answer.text
    assert "root:" not in answer.text


@pytest.mark.parametrize(
    "body",
    [
        b'{"model": "sd", "prompt": "a", "guidance_scale": NaN}',
        b'{"model": "sd", "prompt": "a", "strength": Infinity}',
        b'{"model": "sd", "prompt": "half \\ud83d of it"}',
        b'{"model": "sd", "prompt": "a',
        b"",
    ],
)
def test_a_bad_body(unharmed: Any, body: bytes) -> None:
    refusal(unharmed.http.post(GENERATIONS, content=body, headers={"content-type": "application/json"}), None)


def test_a_model_that_is_not_there(unharmed: Any) -> None:
    refusal(unharmed.http.post(GENERATIONS, json={**GOOD, "model": "nobody"}), "model", 404)


def test_after_all_that_the_picture_is_what_it_was(studio: Any, before: tuple[Any, int]) -> None:
    painted, pid = before
    assert same(studio.paint(), painted)
    assert studio.loaded("sd")["pid"] == pid
