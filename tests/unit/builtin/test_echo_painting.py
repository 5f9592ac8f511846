"""What echo paints: a PNG that depends on all that was asked for; one job at a time, the others in a queue."""

from __future__ import annotations

import struct
import threading
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from anyform.builtin import echo, echo_picture
from anyform.builtin.echo_engine import EchoModel
from anyform.contract.errors import Closed, Fault, Invalid, Unsupported
from anyform.contract.events import Blob, Done, Event, Progress
from anyform.contract.jobs import EditImage, Image, Picture, VaryImage
from anyform.contract.model import Stop
from anyform.kernel.files import FolderFiles
from anyform.testing.picture import png

FOX = "a red fox"
STEPS = echo_picture.STEPS


def model(**options: Any) -> EchoModel:
    return EchoModel("e", echo.TASKS, 100, 2, options)


def paint(job: Image | EditImage | VaryImage | None = None, **fields: Any) -> list[Event]:
    return list(model().generate(job or Image(**{"prompt": FOX, "seed": 7, **fields}), Stop()))


def blobs(events: list[Event]) -> list[Blob]:
    return [event for event in events if isinstance(event, Blob)]


def picture(**fields: Any) -> bytes:
    return blobs(paint(**fields))[0].data


def edited(data: bytes, mask: bytes | None = None, **fields: Any) -> list[Event]:
    covered = None if mask is None else Picture(data=mask)
    image = Image(**{"prompt": FOX, "seed": 7, **fields})
    return paint(EditImage(pictures=(Picture(data=data),), mask=covered, image=image))


def chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of each, as PNG has them; a wrong checksum fails."""
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    at = 8
    while at < len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        body = data[at + 4 : at + 8 + size]
        assert struct.pack(">I", zlib.crc32(body)) == data[at + 8 + size : at + 12 + size]
        yield body[:4], body[4:]
        at += 12 + size


def test_first_comes_the_queue_then_each_step_then_the_picture() -> None:
    events = paint(n=2)
    step = [Progress(stage="step", done=done, total=2 * STEPS) for done in range(1, 2 * STEPS + 1)]
    kinds = [event if isinstance(event, Progress) else type(event) for event in events]
    assert kinds == [Progress(stage="queue"), *step[:STEPS], Blob, *step[STEPS:], Blob, Done]
    facts = {"width": 64, "height": 64, "steps": STEPS, "scheduler": "EchoScheduler"}
    assert [(blob.index, blob.media_type, blob.extra) for blob in blobs(events)] == [
        (0, "image/png", {"seed": 7, **facts}), (1, "image/png", {"seed": 8, **facts}),
    ]  # fmt: skip
    last = events[-1]
    assert isinstance(last, Done)
    assert [finish.reason for finish in last.finishes] == ["stop", "stop"]


def test_it_is_a_png_of_that_size_which_says_what_it_is() -> None:
    found = list(chunks(picture(prompt="a fox, ünique", width=24, height=40)))
    assert [name for name, _ in found] == [b"IHDR", *[b"tEXt"] * 6, b"IDAT", b"IEND"]
    assert struct.unpack(">2I5B", found[0][1]) == (24, 40, 8, 2, 0, 0, 0)
    assert (b"tEXt", "prompt\0a fox, ünique".encode("latin-1")) in found
    assert (b"tEXt", b"seed\x007") in found
    rows = zlib.decompress(dict(found)[b"IDAT"])
    assert len(rows) == 40 * (1 + 3 * 24)
    assert set(rows[:: 1 + 3 * 24]) == {0}
    assert (b"iTXt", b"prompt\0\0\0\0\0" + "狐?".encode()) in list(chunks(picture(prompt="狐\ud800")))


def test_it_depends_on_what_is_asked_for_and_on_nothing_else() -> None:
    assert picture() == picture()
    second = blobs(paint(n=2))[1].data
    assert second == picture(seed=8)
    others = [
        {"prompt": "a blue fox"}, {"seed": 9}, {"steps": 5}, {"width": 128}, {"negative_prompt": "hens"},
        {"guidance": 3.0}, {"scheduler": "EchoAncestralScheduler"}, {"quality": "high"},
    ]  # fmt: skip
    start = png(16, 24)
    edits = [
        edited(start), edited(start, png(16, 24, seed=1)), edited(start, png(16, 24, seed=2)), edited(png(16, 24, 3)),
        paint(VaryImage(picture=Picture(data=start), image=Image(prompt=FOX, seed=7))),
        paint(VaryImage(picture=Picture(data=start), image=Image(prompt=FOX, seed=7), strength=0.5)),
    ]  # fmt: skip
    painted = [picture(), second, *(picture(**other) for other in others), *(blobs(edit)[0].data for edit in edits)]
    assert len(set(painted)) == len(painted)


def test_without_a_seed_one_is_drawn_and_told() -> None:
    first, second = (blobs(paint(seed=None))[0] for _ in range(2))
    assert first.extra["seed"] != second.extra["seed"]
    assert picture(seed=first.extra["seed"]) == first.data


def test_an_edit_keeps_the_size_as_far_as_can_be() -> None:
    assert blobs(edited(png(35, 24)))[0].extra["width"] == 32
    assert blobs(edited(png(35, 24)))[0].extra["height"] == 24
    long = blobs(edited(png(4096, 30)))[0].extra
    assert (long["width"], long["height"]) == (2048, 8)
    assert blobs(edited(png(35, 24), width=8, height=16))[0].extra["height"] == 16


def test_unfinished_states_are_shown() -> None:
    events = blobs(paint(n=2, partials=3))
    assert [(blob.index, blob.extra.get("partial")) for blob in events] == [
        (index, partial) for index in (0, 1) for partial in (0, 1, 2, None)
    ]
    assert len({blob.data for blob in events}) == 8
    assert all(list(chunks(blob.data)) for blob in events)


def test_quality_is_steps_where_none_are_given() -> None:
    said = [blobs(paint(**fields))[0].extra["steps"] for fields in ({"quality": "low"}, {"quality": "high"})]
    assert said == [STEPS // 2, STEPS * 2]
    assert blobs(paint(quality="low", steps=7))[0].extra["steps"] == 7


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": " \n"}, "prompt"),
        ({"n": 0}, "n"),
        ({"n": 11}, "n"),
        ({"steps": 0}, "num_inference_steps"),
        ({"steps": 10_000}, "num_inference_steps"),
        ({"width": 17, "height": 9}, "size"),
        ({"width": 100_000}, "size"),
        ({"height": 0}, "size"),
        ({"scheduler": "Euler"}, "scheduler"),
        ({"quality": "best"}, "quality"),
        ({"loras": {"style": 1.0}}, "loras"),
    ],
)
def test_what_cannot_be_is_refused_before_any_event(fields: dict[str, Any], param: str) -> None:
    events = model().generate(Image(**{"prompt": FOX, **fields}), Stop())
    with pytest.raises(Invalid) as refused:
        next(events)
    assert refused.value.details["param"] == param
    assert refused.value.hint


def test_other_forms_than_png_are_not_supported() -> None:
    with pytest.raises(Unsupported, match="echo writes no image/webp") as refused:
        paint(media_type="image/webp")
    assert refused.value.details["param"] == "output_format"


@pytest.mark.parametrize(
    ("job", "param", "told"),
    [
        ({"pictures": ()}, "image", "no picture"),
        ({"pictures": (Picture(data=b"hello"),)}, "image", "no PNG file: its 5 bytes begin with 68 65"),
        ({"pictures": (Picture(data=png(8, 8)[:20]),)}, "image", "no PNG file"),
        ({"mask": Picture(data=png(8, 8))}, "mask", "8 x 8 pixels and the picture 16 x 16"),
        ({"mask": Picture(data=b"")}, "mask", "no PNG file"),
        ({"strength": 0.0}, "strength", "strength is 0"),
        ({"strength": 1.1}, "strength", "strength is 1.1"),
        ({"strength": float("nan")}, "strength", "strength is nan"),
    ],
)
def test_pictures_that_cannot_be_used_are_refused(job: dict[str, Any], param: str, told: str) -> None:
    with pytest.raises(Invalid, match=told) as refused:
        paint(EditImage(**{"pictures": (Picture(data=png(16, 16)),), "image": Image(prompt=FOX), **job}))
    assert refused.value.details["param"] == param


def test_a_bomb_is_refused_by_its_head() -> None:
    bomb = png(1, 1)[:16] + struct.pack(">2I", 100_000, 100_000) + png(1, 1)[24:]
    with pytest.raises(Invalid, match="100000 x 100000 pixels"):
        edited(bomb)


def test_a_variation_needs_no_prompt() -> None:
    varied = paint(VaryImage(picture=Picture(data=png(16, 16)), image=Image(prompt="")))
    assert blobs(varied)[0].extra["width"] == 16


def test_a_stop_ends_it_within_a_step_and_the_next_can_be_painted() -> None:
    painter, stop = model(), Stop()
    events = painter.generate(Image(prompt=FOX, n=2, steps=50), stop)
    seen = [next(events) for _ in range(4)]
    assert seen[-1] == Progress(stage="step", done=3, total=100)
    stop.set()
    rest = list(events)
    assert [type(event) for event in rest] == [Done]
    assert isinstance(rest[0], Done)
    assert [finish.reason for finish in rest[0].finishes] == ["cancelled", "cancelled"]
    assert blobs(list(painter.generate(Image(prompt=FOX, seed=7), Stop())))[0].data == picture()


def test_a_stop_is_felt_while_a_step_takes_long() -> None:
    stop = Stop()
    events = model(delay_s=1000).generate(Image(prompt=FOX), stop)
    assert next(events) == Progress(stage="queue")
    threading.Timer(0.05, stop.set).start()
    assert [type(event) for event in events] == [Done]


def test_one_is_painted_at_a_time_and_the_others_know_their_place() -> None:
    painter, stop = model(), Stop()
    first = painter.generate(Image(prompt=FOX), Stop())
    next(first)
    second, third = painter.generate(Image(prompt=FOX), stop), painter.generate(Image(prompt=FOX), Stop())
    assert next(second) == Progress(stage="queue", total=1)
    assert next(third) == Progress(stage="queue", total=2)
    stop.set()
    assert [type(event) for event in second] == [Done]
    assert next(third) == Progress(stage="queue", total=1)
    first.close()  # whoever asked is gone
    assert next(third) == Progress(stage="queue", total=0)
    assert next(third) == Progress(stage="step", done=1, total=STEPS)


def test_what_is_closed_paints_no_more() -> None:
    painter = model()
    events = painter.generate(Image(prompt=FOX), Stop())
    next(events)
    painter.close()
    with pytest.raises(Closed):
        list(events)


def test_one_that_does_not_paint() -> None:
    with pytest.raises(Fault, match="does not image"):
        EchoModel("e", echo.TEXT_TASKS, 100, 2, {}).generate(Image(prompt=FOX), Stop())


def test_sizes_steps_and_schedulers_are_in_the_metadata_of_who_paints(tmp_path: Any) -> None:
    (tmp_path / "a.echo.json").write_text('{"format": "echo", "tasks": ["vary_image"]}')
    (tmp_path / "b.echo.json").write_text('{"format": "echo"}')
    files = FolderFiles(tmp_path)
    paints, writes = [echo.extract_metadata(files, match) for match in sorted(echo.detect_format(files), key=str)]
    told = ("width", "height", "unit", "steps", "scheduler", "schedulers")
    schedulers = ["EchoScheduler", "EchoAncestralScheduler"]
    assert [paints.extra[name] for name in told] == [64, 64, 8, 4, "EchoScheduler", schedulers]
    assert "unit" not in writes.extra
