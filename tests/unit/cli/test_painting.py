"""What `imagine` makes of its arguments: names of files, sizes, add-ons, and one job."""

from __future__ import annotations

from argparse import ArgumentTypeError, Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from anyform.cli import imagine, painting
from anyform.cli.command import dispatch
from anyform.cli.parser import Parser
from anyform.contract.errors import Invalid
from anyform.contract.events import Blob, Event, Progress
from anyform.contract.jobs import EditImage, Image, Picture, VaryImage
from anyform.testing.picture import png


def read(*arguments: str) -> Namespace:
    parser = Parser("imagine", "[PROMPT ...]", "x")
    imagine.configure(parser)
    return parser.read(arguments)


def job(*arguments: str, **request: Any) -> Any:
    args = read(*arguments)
    return painting.job(args, "a fox", painting.pictures(args), request)


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("A red fox, in the snow!", "a-red-fox-in-the-snow"),
        ("../../etc/passwd", "etc-passwd"),
        ("ein Füchslein 狐", "ein-füchslein-狐"),
        (" \n!?", "picture"),
        ("", "picture"),
        ("one two three four five six seven eight nine ten", "one-two-three-four-five-six-seven-eight"),
        ("incomprehensibilities " * 8, "incomprehensibilities-incomprehensibilities"),
        ("狐" * 300, "狐" * 48),
        ("snake_case", "snake-case"),
    ],
)
def test_a_file_is_called_as_its_prompt(prompt: str, name: str) -> None:
    assert painting.named(prompt) == name


def test_without_an_output_a_name_is_taken_that_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def targets(*arguments: str) -> list[str]:
        return [str(path) for path in painting.targets(read(*arguments), "A fox")]

    assert targets() == ["a-fox.png"]
    assert targets("-n", "2", "--format", "jpeg") == ["a-fox-1.jpg", "a-fox-2.jpg"]
    for name in ("a-fox.png", "a-fox-2.png"):
        (tmp_path / name).touch()
    assert targets() == ["a-fox-3.png"]
    assert targets("-n", "3") == ["a-fox-1.png", "a-fox-3.png", "a-fox-4.png"]
    assert targets("--force") == ["a-fox.png"]
    assert targets("-o", "x/y.webp") == [str(Path("x/y.webp"))]
    assert targets("-o", "x/y.webp", "-n", "2") == [str(Path("x/y-1.webp")), str(Path("x/y-2.webp"))]
    assert targets("-o", "-") == []


def test_a_name_that_somebody_took_meanwhile_costs_no_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    args = read("A", "fox")
    easel = imagine.Easel(painting.targets(args, "A fox"), args)
    (tmp_path / "a-fox.png").write_bytes(b"theirs")
    easel.take(Blob(data=b"ours", media_type="image/png"))
    assert (tmp_path / "a-fox.png").read_bytes() == b"theirs"
    assert (tmp_path / "a-fox-2.png").read_bytes() == b"ours"
    assert capsys.readouterr().out == "a-fox-2.png\n"


def test_each_picture_has_its_own_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [100.0]
    monkeypatch.setattr(imagine, "monotonic", lambda: clock[0])
    monkeypatch.chdir(tmp_path)
    args = read("x", "-n", "4", "--json")
    easel = imagine.Easel(painting.targets(args, "x"), args)

    def after(seconds: float, event: Event) -> None:
        clock[0] += seconds
        easel.take(event)

    step = Progress(stage="step", done=1, total=9)
    after(2, step)
    after(1, Blob(data=b"1", media_type="image/png", index=0))
    after(4, step)
    after(1, Blob(data=b"2", media_type="image/png", index=1))
    after(6, step)  # two that are painted together
    after(0.5, Blob(data=b"3", media_type="image/png", index=2))
    after(0.25, Blob(data=b"4", media_type="image/png", index=3))
    assert [one["took_s"] for one in easel.told] == [3, 5, 6.5, 6.75]
    capsys.readouterr()


@pytest.mark.parametrize(("steps", "told"), [(1, "seed 7 · 1 step · "), (2, "seed 7 · 2 steps · ")])
def test_one_step_is_no_steps(
    steps: int, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    args = read("x")
    easel = imagine.Easel(painting.targets(args, "x"), args)
    easel.take(Blob(data=b"1", media_type="image/png", extra={"seed": 7, "steps": steps}))
    assert told in capsys.readouterr().err


def test_help_offers_what_painters_have(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read("--help")
    said = capsys.readouterr().out
    assert "--device" in said
    assert not any(name in said for name in ("--context", "--width", "--height"))


def test_an_ending_and_a_format_may_say_the_same(tmp_path: Path) -> None:
    assert painting.form(read("x", "-o", "c.jpg", "--format", "jpeg")) == "jpeg"
    assert painting.form(read("x", "-o", "c.doc", "--format", "webp")) == "webp"


def test_a_mask_of_another_size_is_told_before_a_model_is_looked_for(tmp_path: Path) -> None:
    start, mask = tmp_path / "start.png", tmp_path / "mask.png"
    start.write_bytes(png(16, 24))
    mask.write_bytes(png(8, 8))
    with pytest.raises(Invalid, match=r"the mask has 8 x 8 pixels and the picture 16 x 24\."):
        painting.pictures(read("x", "--edit", str(start), "--mask", str(mask)))
    mask.write_bytes(png(24, 16))  # one of the two may say that it is to be turned
    assert set(painting.pictures(read("x", "--edit", str(start), "--mask", str(mask)))) == {"edit", "mask"}
    mask.write_bytes(b"GIF89a...")
    assert set(painting.pictures(read("x", "--edit", str(start), "--mask", str(mask)))) == {"edit", "mask"}


@pytest.mark.parametrize(("text", "size"), [("512x768", (512, 768)), ("8X8", (8, 8)), ("64\u00d732", (64, 32))])
def test_a_size_is_width_and_height(text: str, size: tuple[int, int]) -> None:
    assert painting.size(text) == size


@pytest.mark.parametrize("text", ["", "512", "0x9", "9x0", "-8x8", "8x8x8", "1e3x8", "8 x 8", "1234567x8", "٣x٣"])
def test_what_is_no_size_is_told(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="is not a size such as 512x768"):
        painting.size(text)


def test_an_add_on_has_a_weight() -> None:
    assert painting.lora("style=0.8") == ("style", 0.8)
    assert painting.lora("a=b=-1") == ("a=b", -1.0)
    assert painting.lora("style") == ("style", 1.0)
    for text in ("style=", "=1", "style=much", "style=nan", ""):
        with pytest.raises(ArgumentTypeError):
            painting.lora(text)


def test_what_is_asked_for_is_in_the_job() -> None:
    asked = job(
        *("--size", "64x32", "--seed", "7", "-n", "2", "--steps", "3", "--guidance", "0", "--negative", "hens"),
        *("--scheduler", "S", "--lora", "a=0.5", "--lora", "b", "-o", "x.jpg", "--compression", "60"),
    )
    assert asked == Image(
        prompt="a fox", negative_prompt="hens", n=2, width=64, height=32, steps=3, guidance=0.0, seed=7, scheduler="S",
        loras={"a": 0.5, "b": 1.0}, media_type="image/jpeg", compression=60,
    )  # fmt: skip
    assert job() == Image(prompt="a fox")


def test_the_models_rule_says_what_the_arguments_do_not() -> None:
    rule = {
        "size": "64x32", "seed": 5, "num_inference_steps": 9, "guidance_scale": 3, "negative_prompt": "hens",
        "scheduler": "S", "quality": "hd", "loras": {"ink": 0.8}, "output_format": "jpeg", "output_compression": 60,
    }  # fmt: skip
    said = Image(
        prompt="a fox", negative_prompt="hens", width=64, height=32, steps=9, guidance=3, seed=5, scheduler="S",
        quality="high", loras={"ink": 0.8},
    )  # fmt: skip
    assert job(**rule) == said
    assert job("-o", "x.jpg", **rule) == replace(said, media_type="image/jpeg", compression=60)
    assert job("-o", "x.jpg", "--compression", "0", "--lora", "b", **rule).loras == {"b": 1.0}
    over = job("--size", "8x8", "--seed", "-1", "--quality", "low", "--negative", "", "--scheduler", "T", **rule)
    assert (over.width, over.seed, over.quality, over.steps) == (8, None, "low", None)
    assert (over.negative_prompt, over.scheduler, over.guidance) == ("", "T", 3)
    assert job(size="auto").width is None
    with pytest.raises(Invalid, match="Invalid 'size': 'big' is none"):
        job(size="big")


def test_a_picture_to_begin_with_makes_another_job(tmp_path: Path) -> None:
    start, mask = tmp_path / "start.png", tmp_path / "mask.png"
    start.write_bytes(png(8, 8))
    mask.write_bytes(png(8, 8, seed=1))
    edit = job("--edit", str(start), "--mask", str(mask), "--strength", "0.5")
    image = Image(prompt="a fox")
    assert edit == EditImage(
        pictures=(Picture(data=start.read_bytes()),), mask=Picture(data=mask.read_bytes()), image=image, strength=0.5
    )
    assert job("--vary", str(start), strength=0.3).strength == 0.3
    assert job("--vary", str(start)) == VaryImage(picture=Picture(data=start.read_bytes()), image=image)


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"", "is no picture: it is empty"), (b"hello", "is no picture: its 5 bytes begin with 68 65"), (None, "cannot")],
)
def test_what_is_no_picture_is_told_before_a_model_is_looked_for(
    tmp_path: Path, content: bytes | None, told: str
) -> None:
    path = tmp_path / "start.png"
    if content is not None:
        path.write_bytes(content)
    for option in ("--edit", "--vary"):
        with pytest.raises(Invalid, match=told):
            job(option, str(path))
    with pytest.raises(Invalid, match="cannot be read"):
        job("--edit", str(tmp_path))


def test_the_bounds_are_those_of_requests() -> None:
    from anyform.http import image

    assert (painting.MOST, painting.MOST_STEPS, painting.MOST_GUIDANCE) == (
        image.MOST, image.MOST_STEPS, image.MOST_GUIDANCE,
    )  # fmt: skip
    assert tuple(painting.FORMATS) == image.FORMATS


MISUSED = [
    (["x", "-o", "out.doc"], "out.doc does not end as a picture does. Let it end in .png, .jpg, .jpeg, .webp"),
    (["x", "-o", "fox.gif"], "fox.gif cannot be written as gif; only png, jpg or webp."),
    (["x", "-o", "fox.GIF", "--format", "png"], "fox.GIF cannot be written as gif; only png, jpg or webp."),
    (["x", "-o", "c.png", "--format", "jpeg"], "c.png ends as png does, and --format is jpeg."),
    (["x", "--edit", "a", "--edit", "b"], "--edit: it takes one picture, and b is another."),
    (["--vary", "a", "--vary", "b"], "--vary: it takes one picture, and b is another."),
    (["x", "--edit", "a", "--mask", "m", "--mask", "n"], "--mask: it takes one picture, and n is another."),
    (["x", "--width", "64"], "--width: both sides are said together, as `--size WxH`, such as --size 512x768."),
    (["x", "--height=64"], "--height: both sides are said together, as `--size WxH`, such as --size 512x768."),
    (["x", "--context", "4096"], "`anyform imagine` has no option --context."),
    (["x", "-o", "."], ". does not end as a picture does."),
    (["x", "-o", "-", "-n", "2"], "standard output takes one picture; -n is 2."),
    (["x", "-o", "-", "--json"], "with --json the picture needs a file of its own."),
    (["x", "--mask", "m.png"], "--mask says what of a picture changes, and there is none. Add `--edit FILE`."),
    (["x", "--strength", "0.5"], "--strength is how far from a picture, and there is none."),
    (["x", "--edit", "a", "--vary", "b"], "--vary: not allowed with argument --edit."),
    (["x", "--edit", "a", "--strength", "0"], "--strength: 0 is not above 0 and up to 1."),
    (["x", "--edit", "a", "--strength", "nan"], "--strength: 'nan' is not a number."),
    (["x", "--compression", "50"], "--compression is for JPEG and WebP; PNG loses nothing."),
    (["x", "-o", "a.jpg", "--compression", "101"], "--compression: '101' is not a whole number from 0 to 100."),
    (["x", "-n", "0"], "-n: '0' is not a number from 1 up."),
    (["x", "-n", "100"], "-n: 100 is over 10."),
    (["x", "--steps", "10000"], "--steps: 10000 is over 1000."),
    (["x", "--steps", "0"], "--steps: '0' is not a number from 1 up."),
    (["x", "--size", "big"], "--size: 'big' is not a size such as 512x768."),
    (["x", "--seed", "-2"], "--seed: -2 is not from 0 to 9223372036854775807, nor -1, which draws one."),
    (["x", "--seed", "1.5"], "--seed: '1.5' is not a whole number."),
    (["x", "--quality", "best"], "--quality: invalid choice: 'best'"),
    (["x", "--lora", "style=much"], "--lora: 'much' is not a number."),
    (["x", "--guidance", "101"], "--guidance: 101 is not from 0 to 100."),
    (["x", "--guidance", "inf"], "--guidance: 'inf' is not a number."),
]


@pytest.mark.parametrize(("arguments", "told"), MISUSED)
def test_misuse_is_one_sentence_and_2(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert dispatch(["imagine", *arguments]) == 2
    said = capsys.readouterr()
    assert (said.out, told in said.err) == ("", True), said.err
