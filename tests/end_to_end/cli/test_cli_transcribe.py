"""`anyform transcribe`: files, formats, and what goes wrong. The sounds are echo's: text."""

from __future__ import annotations

import io
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import webvtt

Echo = Callable[..., Path]
HEARS = {"tasks": ["transcribe", "translate"]}
SPEECH = "one two\nthree four five\n"
CUES = [("00:00:00.000", "00:00:02.000", "one two"), ("00:00:02.000", "00:00:05.000", "three four five")]


@pytest.fixture
def ear(echo: Echo) -> Path:
    return echo("ear", **HEARS)


@pytest.fixture
def speech(tmp_path: Path) -> Callable[[str], Path]:
    def write(name: str = "talk.mp3", said: str = SPEECH) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(said)
        return path

    return write


def cues(text: str, form: str) -> list[tuple[str, str, str]]:
    read = webvtt.from_buffer(io.StringIO(text), format=form)
    return [(cue.start, cue.end, cue.text) for cue in read.captions]


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.endswith(".echo")}


@pytest.mark.parametrize("here", [(), ("--here",)])
def test_the_text_of_one_file_goes_to_standard_output(cli: Any, ear: Path, speech: Any, here: tuple[str, ...]) -> None:
    done = cli("transcribe", speech(), "--model", ear, *here)
    assert (done.returncode, done.stdout, done.stderr) == (0, "one two three four five\n", "")


def test_a_pipe_is_heard(cli: Any, ear: Path) -> None:
    done = cli("transcribe", "-", "--model", ear, input=SPEECH)
    assert (done.returncode, done.stdout) == (0, "one two three four five\n")


def test_every_format_is_what_its_readers_expect(cli: Any, ear: Path, speech: Any) -> None:
    def said(form: str) -> str:
        done = cli("transcribe", speech(), "--model", ear, "--format", form)
        assert (done.returncode, done.stderr) == (0, "")
        return str(done.stdout)

    assert said("text") == "one two three four five\n"
    assert json.loads(said("json")) == {
        "text": "one two three four five", "usage": {"type": "duration", "seconds": 5},
    }  # fmt: skip
    assert cues(said("srt"), "srt") == cues(said("vtt"), "vtt") == CUES
    verbose = json.loads(said("verbose_json"))
    assert (verbose["task"], verbose["language"], verbose["duration"]) == ("transcribe", "en", 5.0)
    assert [(one["start"], one["end"]) for one in verbose["segments"]] == [(0.0, 2.0), (2.0, 5.0)]


def test_words_are_timed_in_json_and_as_subtitles(cli: Any, ear: Path, speech: Any) -> None:
    done = cli("transcribe", speech(), "--model", ear, "--words", "--format", "verbose_json")
    assert [word["word"] for word in json.loads(done.stdout)["words"]] == ["one", "two", "three", "four", "five"]
    shown = cues(cli("transcribe", speech(), "--model", ear, "--words", "--format", "srt").stdout, "srt")
    assert [text for *_, text in shown] == ["one", "two", "three", "four", "five"]
    refused = cli("transcribe", speech(), "--model", ear, "--words")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "text has no place for the times of words" in refused.stderr


def test_a_translation_is_told_as_one(cli: Any, ear: Path, speech: Any) -> None:
    done = cli("transcribe", speech(), "--model", ear, "--translate", "--format", "verbose_json")
    assert json.loads(done.stdout)["task"] == "translate"
    refused = cli("transcribe", speech(), "--model", ear, "--translate", "--language", "de")
    assert (refused.returncode, "--language and --translate" in refused.stderr) == (2, True)
    assert "a translation finds out by itself what is spoken" in refused.stderr


def test_the_language_is_passed_on_else_that_of_the_models_rule(
    cli: Any, ear: Path, speech: Any, tmp_path: Path
) -> None:
    (tmp_path / "anyform.toml").write_text('[model.ear.request]\nlanguage = "fr"\n')
    command = ("transcribe", speech(), "--model", ear)
    assert cli.json(*command, "--language", "de")["files"][0]["language"] == "de"
    assert cli.json(*command)["files"][0]["language"] == "fr"


def test_the_files_ending_says_the_format(cli: Any, ear: Path, speech: Any, tmp_path: Path) -> None:
    done = cli("transcribe", speech(), "--model", ear, "-o", "talk.vtt")
    assert (done.returncode, done.stdout) == (0, "talk.vtt\n")
    assert cues((tmp_path / "talk.vtt").read_text(), "vtt") == CUES
    refused = cli("transcribe", speech(), "--model", ear, "-o", "talk.doc")
    assert (refused.returncode, "does not" in refused.stderr or "ends as no text" in refused.stderr) == (2, True)
    assert cli("transcribe", speech(), "--model", ear, "-o", "talk.doc", "--format", "srt").returncode == 0
    assert cues((tmp_path / "talk.doc").read_text(), "srt") == CUES


def test_several_files_are_written_beside_themselves(cli: Any, ear: Path, speech: Any, tmp_path: Path) -> None:
    files = [speech("a.mp3"), speech("sub/b.wav", "six\n")]
    done = cli("transcribe", *files, "--model", ear, "--format", "srt")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [str(tmp_path / "a.srt"), str(tmp_path / "sub" / "b.srt")]
    assert cues((tmp_path / "sub" / "b.srt").read_text(), "srt") == [("00:00:00.000", "00:00:01.000", "six")]


def test_a_folder_for_the_texts_is_made(cli: Any, ear: Path, speech: Any, tmp_path: Path) -> None:
    done = cli("transcribe", speech("a.mp3"), "--model", ear, "--output-dir", "texts/new")
    assert (done.returncode, Path(done.stdout.strip())) == (0, Path("texts/new/a.txt"))
    assert (tmp_path / "texts" / "new" / "a.txt").read_text() == "one two three four five\n"


def test_nothing_is_written_over(cli: Any, ear: Path, speech: Any, tmp_path: Path) -> None:
    (tmp_path / "talk.txt").write_text("mine")
    command = ("transcribe", speech(), "--model", ear, "-o", "talk.txt")
    done = cli(*command)
    assert (done.returncode, done.stdout) == (1, "")
    assert "talk.txt is there already" in done.stderr
    assert (tmp_path / "talk.txt").read_text() == "mine"
    assert cli(*command, "--force").returncode == 0
    assert (tmp_path / "talk.txt").read_text() == "one two three four five\n"


def test_a_text_never_takes_the_place_of_its_sound(cli: Any, ear: Path, speech: Any, tmp_path: Path) -> None:
    files = [speech("a.txt"), speech("b.txt")]
    done = cli("transcribe", *files, "--model", ear, "--force")
    assert (done.returncode, "written over itself" in done.stderr) == (2, True)
    alike = cli("transcribe", speech("c.mp3"), speech("c.wav"), "--model", ear)
    assert (alike.returncode, "would both be written to" in alike.stderr) == (2, True)
    assert left(tmp_path) == {"a.txt", "b.txt", "c.mp3", "c.wav"}


def test_what_fails_is_told_and_the_others_go_on(cli: Any, ear: Path, speech: Any, tmp_path: Path) -> None:
    (tmp_path / "bad.mp3").write_bytes(b"\xff\xfe!")
    (tmp_path / "empty.mp3").touch()
    command = ("transcribe", speech("a.mp3"), "bad.mp3", "none.mp3", "empty.mp3", ".", speech("z.mp3"), "--model", ear)
    done = cli(*command)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [str(tmp_path / "a.txt"), str(tmp_path / "z.txt")]
    told = done.stderr.splitlines()
    assert [line.partition(" ")[0] for line in told] == ["anyform:"] * 4
    assert [
        one in line for one, line in zip(("bad.mp3: ", "none.mp3 cannot", "empty.mp3 is", ". is"), told, strict=True)
    ]
    assert left(tmp_path) == {"a.mp3", "a.txt", "bad.mp3", "empty.mp3", "z.mp3", "z.txt"}


def test_where_nothing_can_be_written_no_model_is_loaded(cli: Any, ear: Path, speech: Any, tmp_path: Path) -> None:
    (tmp_path / "empty.mp3").touch()
    (tmp_path / "taken.txt").write_text("mine")
    crash = ("--model", ear, "--option", "crash=load")
    talk = speech()
    for arguments, told in (
        ((tmp_path / "empty.mp3",), ["empty.mp3 is empty"]),
        ((tmp_path,), ["is a folder"]),
        ((tmp_path / "none.mp3",), ["none.mp3 cannot be read"]),
        ((talk, "-o", "taken.txt"), ["is there already"]),
        ((tmp_path / "none.mp3", tmp_path / "empty.mp3"), ["none.mp3 cannot be read", "empty.mp3 is empty"]),
    ):
        done = cli("transcribe", *arguments, *crash)
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", len(told))
        assert all(one in line for one, line in zip(told, done.stderr.splitlines(), strict=True))
    said = cli("transcribe", "a.mp3", "b.mp3", *crash, "--json")
    assert [one["error"]["code"] for one in json.loads(said.stdout)["files"]] == ["invalid_request"] * 2


def test_a_refusal_speaks_of_the_file_and_of_options(cli: Any, ear: Path, speech: Any, tmp_path: Path) -> None:
    (tmp_path / "bad.mp3").write_bytes(b"\xff\xfe!")
    done = cli("transcribe", "bad.mp3", "--model", ear)
    assert (done.returncode, done.stderr.count("bad.mp3"), "Invalid '" in done.stderr) == (1, 1, False)


def test_json_is_one_object_with_every_file(cli: Any, ear: Path, speech: Any, tmp_path: Path) -> None:
    done = cli("transcribe", speech("a.mp3"), "none.mp3", "--model", ear, "--json")
    assert done.returncode == 1
    said = json.loads(done.stdout)
    first, second = said["files"]
    assert (said["model"], said["backend"]) == ("ear", "echo")
    assert (first["text"], first["output"], len(first["segments"])) == ("one two three four five", None, 2)
    assert second["error"].items() <= json.loads(done.stderr)["error"].items()
    assert left(tmp_path) == {"a.mp3"}
    assert cli.json("transcribe", speech("a.mp3"), "--model", ear, "-o", "a.srt")["files"][0]["output"] == "a.srt"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "FILE is missing"),
        (("a.mp3", "b.mp3", "-o", "c.txt"), "2 were named"),
        (("a.mp3", "-o", "c.txt", "--output-dir", "d"), "cannot both be followed"),
        (("-", "-"), "read once only"),
        (("a.mp3", "--temperature", "2"), "2 is not from 0 to 1"),
        (("a.mp3", "--format", "doc"), "invalid choice: 'doc'"),
    ],
)
def test_what_cannot_be_followed_is_2(cli: Any, arguments: tuple[str, ...], told: str) -> None:
    done = cli("transcribe", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr


def test_the_largest_that_hears_is_taken_and_said(cli: Any, echo: Echo, speech: Any, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    for name, more in (("small", {"parameters": 5, **HEARS}), ("large", {"parameters": 9, **HEARS}), ("chat", {})):
        echo(f"models/{name}", **more)
    done = cli("transcribe", speech(), "--models", folder)
    assert (done.returncode, done.stdout) == (0, "one two three four five\n")
    assert done.stderr.startswith("using large, the larger of 2 (also: small); --model names another")
    (tmp_path / "anyform.toml").write_text('default_model = "small"\n')
    told = cli.json("transcribe", speech(), "--models", folder)
    assert told["model"] == "small"
    (tmp_path / "anyform.toml").write_text('default_model = "chat"\n')
    assert cli.json("transcribe", speech(), "--models", folder)["model"] == "large"


def test_one_that_cannot_run_is_passed_over_and_no_model_is_a_hint(
    cli: Any, echo: Echo, speech: Any, tmp_path: Path
) -> None:
    echo("models/huge", parameters=9, options={"memory_bytes": 2**60}, **HEARS)
    alone = cli("transcribe", speech(), "--models", tmp_path / "models")
    assert (alone.returncode, "huge" in alone.stderr) == (1, True)
    echo("models/small", **HEARS)
    assert cli("transcribe", speech(), "--models", tmp_path / "models").returncode == 0
    echo("others/chat")
    none = cli("transcribe", speech(), "--models", tmp_path / "others")
    assert none.returncode == 1
    assert "no model here writes down speech. Fetch one, such as with `anyform pull" in none.stderr


def test_a_model_that_does_something_else_is_refused_and_run_says_what_to_use(
    cli: Any, echo: Echo, ear: Path, speech: Any
) -> None:
    refused = cli("transcribe", speech(), "--model", echo("chat"))
    assert (refused.returncode, "chat does" in refused.stderr) == (1, True)
    meant = cli("run", ear, "hello")
    assert (meant.returncode, f"`anyform transcribe FILE --model {ear}`" in meant.stderr) == (1, True)


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_is_130_and_leaves_no_file(cli: Any, echo: Echo, speech: Any, tmp_path: Path) -> None:
    slow = echo("slow", options={"delay_s": 0.2}, **HEARS)
    long = speech("long.mp3", "\n".join(["word"] * 500))
    with cli.start("transcribe", speech("a.mp3", "one\n"), long, "--model", slow, "--format", "vtt") as process:
        assert process.stdout.readline() == f"{tmp_path / 'a.vtt'}\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert process.stderr.read() == ""
    assert left(tmp_path) == {"a.mp3", "a.vtt", "long.mp3"}


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_terminal_shows_a_line_a_segment_and_how_far_it_is(cli: Any, ear: Path, speech: Any) -> None:
    code, shown = cli.at_terminal("transcribe", speech(), "--model", ear)
    stays = [line.rstrip("\r").rpartition("\r")[2].removeprefix("\x1b[K") for line in shown.split("\n")]
    assert (code, stays) == (0, ["one two", "three four five", ""])
    assert "talk.mp3: 0:00 of 0:05" in shown
    code, shown = cli.at_terminal("transcribe", "-", "--model", ear)
    assert (code, "standard input is a terminal" in shown) == (2, True)
