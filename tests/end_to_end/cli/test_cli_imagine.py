"""`anyform imagine`, with echo's pictures: a chequered PNG, in a few steps."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anyform.builtin import echo_picture
from anyform.contract.jobs import EditImage, Image, Picture, VaryImage
from anyform.testing.picture import png

Echo = Callable[..., Path]
PAINTS = {"tasks": ["image", "edit_image", "vary_image"]}
FOX = "a red fox"


@pytest.fixture
def brush(echo: Echo) -> Path:
    return echo("brush", **PAINTS)


def painted(job: Image | EditImage | VaryImage) -> bytes:
    """What echo paints of *job*."""
    sketch = echo_picture.sketched(job)
    return sketch.painted(sketch.seeds[0], sketch.steps)


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.endswith(".echo")}


def piped(cli: Any, *arguments: str | Path, input: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """The command, with standard output and input as they are."""
    command = [sys.executable, "-m", "anyform", *map(str, arguments)]
    return subprocess.run(
        command, input=input, capture_output=True, cwd=cli.folder, env=cli.environment(), timeout=60, check=False
    )


@pytest.mark.parametrize("here", [(), ("--here",)])
def test_a_prompt_becomes_a_file(cli: Any, brush: Path, tmp_path: Path, here: tuple[str, ...]) -> None:
    done = cli("imagine", *FOX.split(), "--model", brush, "-o", "fox.png", "--seed", "7", *here)
    assert (done.returncode, done.stdout) == (0, "fox.png\n")
    assert done.stderr.startswith("seed 7 · 64 x 64 · 4 steps · EchoScheduler · ")
    assert len(done.stderr.splitlines()) == 1
    assert (tmp_path / "fox.png").read_bytes() == painted(Image(prompt=FOX, seed=7))
    assert left(tmp_path) == {"fox.png"}


def test_every_wish_is_passed_on_and_told(cli: Any, brush: Path, tmp_path: Path) -> None:
    (tmp_path / "anyform.toml").write_text('[model.brush.request]\nnegative_prompt = "hens"\nsize = "8x8"\n')
    told = cli.json(
        *("imagine", FOX, "--model", brush, "--seed", "7", "-n", "2", "--size", "32x16", "--steps", "3"),
        *("--guidance", "2.5", "--scheduler", "EchoAncestralScheduler"),
    )
    assert (told["model"], told["backend"]) == ("brush", "echo")
    for index, picture in enumerate(told["pictures"]):
        data = (tmp_path / f"a-red-fox-{index + 1}.png").read_bytes()
        assert data == painted(
            Image(
                prompt=FOX, seed=7 + index, width=32, height=16, steps=3, guidance=2.5, negative_prompt="hens",
                scheduler="EchoAncestralScheduler",
            )
        )  # fmt: skip
        assert picture.pop("took_s") >= 0
        assert picture == {
            "output": f"a-red-fox-{index + 1}.png", "media_type": "image/png", "bytes": len(data), "seed": 7 + index,
            "width": 32, "height": 16, "steps": 3, "scheduler": "EchoAncestralScheduler",
        }  # fmt: skip
    assert len(told["pictures"]) == 2


def test_a_seed_that_was_drawn_is_told_and_paints_it_again(cli: Any, brush: Path, tmp_path: Path) -> None:
    done = cli("imagine", FOX, "--model", brush, "--here")
    assert (done.returncode, done.stdout) == (0, "a-red-fox.png\n")
    seed = int(done.stderr.split()[1])
    assert (tmp_path / "a-red-fox.png").read_bytes() == painted(Image(prompt=FOX, seed=seed))
    assert cli("imagine", FOX, "--model", brush, "--here").stdout == "a-red-fox-2.png\n"


def test_a_pipe_gives_the_prompt_and_gets_the_picture(cli: Any, brush: Path) -> None:
    done = piped(cli, "imagine", "--model", brush, "-o", "-", "--seed", "7", input=FOX.encode())
    assert (done.returncode, done.stdout) == (0, painted(Image(prompt=FOX, seed=7)))
    assert done.stderr.decode().startswith("seed 7 · ")


def test_a_picture_is_edited_and_varied(cli: Any, brush: Path, tmp_path: Path) -> None:
    start, mask = png(16, 24), png(16, 24, seed=1)
    (tmp_path / "start.png").write_bytes(start)
    (tmp_path / "mask.png").write_bytes(mask)
    image, given = Image(prompt=FOX, seed=7), Picture(data=start)
    edit = (
        "imagine",
        FOX,
        "--here",
        "--model",
        brush,
        "--seed",
        "7",
        "-o",
        "out.png",
        "--force",
        "--edit",
        "start.png",
    )
    by_worker = [word for word in edit if word != "--here"]
    assert cli(*by_worker, "--mask", "mask.png", "--strength", "0.5").returncode == 0
    edited = EditImage(pictures=(given,), mask=Picture(data=mask), image=image, strength=0.5)
    assert (tmp_path / "out.png").read_bytes() == painted(edited)
    varied = cli("imagine", "--here", "--model", brush, "--seed", "7", "--vary", "start.png")
    assert (varied.returncode, varied.stdout) == (0, "picture.png\n")
    plain = VaryImage(picture=given, image=Image(prompt="", seed=7))
    assert (tmp_path / "picture.png").read_bytes() == painted(plain)
    (tmp_path / "mask.png").write_bytes(png(8, 8))
    wrong = cli(*edit, "--mask", "mask.png", "--option", "crash=load")
    assert (wrong.returncode, "the mask has 8 x 8 pixels and the picture 16 x 24" in wrong.stderr) == (1, True)


def test_nothing_is_written_over(cli: Any, brush: Path, tmp_path: Path) -> None:
    (tmp_path / "out-2.png").write_text("mine")
    command = ("imagine", FOX, "--model", brush, "-o", "out.png", "-n", "2", "--option", "crash=load")
    done = cli(*command)
    assert (done.returncode, "out-2.png is there already" in done.stderr) == (1, True)
    assert left(tmp_path) == {"out-2.png"}


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--size", "17x9"), "the width is 17. The sides of what brush paints are multiples of 8, such as 16."),
        (
            ("--scheduler", "AncestralScheduler"),
            "has no scheduler 'AncestralScheduler'. Near it are EchoAncestralScheduler",
        ),
        (("--lora", "ink", "--option", 'loras={"oil": "/o"}'), "has no LoRA 'ink'. It is loaded with oil."),
        (("--lora", "ink", "--option", "loras={}"), "has no LoRA 'ink'. It is loaded without any: see option loras."),
        (("--edit", "none.png"), "none.png cannot be read: No such file or directory."),
    ],
)
def test_what_can_be_known_is_checked_before_a_model_is_loaded(
    cli: Any, brush: Path, tmp_path: Path, more: tuple[str, ...], told: str
) -> None:
    done = cli("imagine", FOX, "--model", brush, "-o", "out.png", *more, "--option", "crash=load")
    assert (done.returncode, done.stdout, told in done.stderr) == (1, "", True)
    assert len(done.stderr.splitlines()) == 1
    assert left(tmp_path) == set()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--size", "100000x8"), "size is 100000x8."),
        (("-o", "out.webp"), "echo writes no image/webp."),
        (("--scheduler", "ancestral"), "scheduler is 'ancestral'. There are EchoScheduler, EchoAncestralScheduler."),
    ],
)
def test_what_the_model_refuses_is_told_and_no_file_stays(
    cli: Any, brush: Path, tmp_path: Path, more: tuple[str, ...], told: str
) -> None:
    done = cli("imagine", FOX, "--model", brush, "-o", "out.png", "--here", *more)
    assert (done.returncode, done.stdout, told in done.stderr) == (1, "", True)
    assert left(tmp_path) == set()


def test_without_a_model_that_paints_it_says_how_to_come_by_one(cli: Any, echo: Echo, tmp_path: Path) -> None:
    echo("models/chat")
    done = cli("imagine", FOX, "--models", tmp_path / "models", "--json")
    assert done.returncode == 1
    error = json.loads(done.stderr)["error"]
    assert (error["code"], error["message"]) == ("model_not_found", "no model here paints.")
    assert "`anyform pull " in error["hint"]
    empty = cli("imagine", " ", "--models", tmp_path / "models")
    assert (empty.returncode, "the prompt is empty" in empty.stderr) == (1, True)


def test_a_worker_that_dies_is_one_line_and_what_was_finished_stays(cli: Any, brush: Path, tmp_path: Path) -> None:
    done = cli("imagine", FOX, "--model", brush, "-n", "2", "-o", "out.png", "--option", "crash=after:5")
    assert (done.returncode, done.stdout) == (1, "out-1.png\n")
    assert left(tmp_path) == {"out-1.png"}


@pytest.mark.parametrize("command", ["run", "bench"])
def test_other_commands_say_what_to_use_instead(cli: Any, brush: Path, command: str) -> None:
    done = cli(command, brush, *(("hello",) if command == "run" else ()))
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    meant = f"anyform imagine PROMPT -o picture.png --model {brush}" if command == "run" else "anyform imagine"
    assert f"`{meant}`" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_ctrl_c_ends_it_and_leaves_what_is_finished(
    cli: Any, echo: Echo, tmp_path: Path, number: str, code: int
) -> None:
    slow = echo("slow", options={"delay_s": 0.4}, **PAINTS)
    with cli.start("imagine", FOX, "--model", slow, "-o", "out.png", "-n", "10", "--steps", "1") as process:
        assert process.stdout.readline() == "out-1.png\n"
        process.send_signal(getattr(signal, number))
        assert process.wait(20) == code
        said = process.stderr.read()
    assert "Traceback" not in said
    assert "out-1.png" in left(tmp_path)
    assert not any(name.endswith(".part") for name in os.listdir(tmp_path))
    assert len(left(tmp_path)) < 10


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_terminal_shows_how_far_it_is_and_gets_no_picture(cli: Any, brush: Path) -> None:
    code, shown = cli.at_terminal("imagine", FOX, "--model", brush, "-o", "out.png", "-n", "2", "--here")
    assert (code, "step 5 of 8, " in shown, "[==========          ]" in shown) == (0, True, True)
    assert "seed " in shown
    for arguments, told in (
        ((FOX, "-o", "-"), "a terminal shows no picture"),
        (("-o", "new.png"), "PROMPT is missing"),
    ):
        code, shown = cli.at_terminal("imagine", *arguments, "--model", brush)
        assert (code, told in shown) == (2, True)


def test_show_says_what_a_model_paints(cli: Any, brush: Path) -> None:
    rows = dict(line.split("  ", 1) for line in cli("show", brush).stdout.splitlines() if "  " in line)
    assert rows["pictures"].strip() == "64 x 64, sides in multiples of 8, 4 steps"
    assert rows["scheduler"].strip() == "EchoScheduler"
    assert rows["schedulers"].strip() == "EchoScheduler EchoAncestralScheduler"
