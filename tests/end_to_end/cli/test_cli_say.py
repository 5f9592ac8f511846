"""`anyform say` and `anyform voices`, with echo's voices: a word is a tone of a tenth of a second."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anyform.builtin import echo_speech
from anyform.cli.say import ENDINGS
from anyform.sound.encode import FORMATS

Echo = Callable[..., Path]
SPEAKS = {"tasks": ["speak"]}
TEXT = "One two three. Four five!"


@pytest.fixture
def mouth(echo: Echo) -> Path:
    return echo("mouth", **SPEAKS)


def pcm(voice: str = "alto", speed: float = 1.0) -> bytes:
    """What echo says of TEXT."""
    return b"".join(echo_speech.spoken(words, voice, speed) for words in echo_speech.sentences(TEXT))


def sound(data: bytes) -> tuple[int, int, bytes]:
    """Rate, channels and samples of a WAV, whatever its head says of its length."""
    with wave.open(io.BytesIO(data)) as read:
        return read.getframerate(), read.getnchannels(), data[44:]


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.endswith(".echo")}


def bytes_of(cli: Any, *arguments: str | Path, input: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """The command, with standard output and input as they are."""
    command = [sys.executable, "-m", "anyform", *map(str, arguments)]
    return subprocess.run(
        command, input=input, capture_output=True, cwd=cli.folder, env=cli.environment(), timeout=60, check=False
    )


@pytest.mark.parametrize("here", [(), ("--here",)])
def test_a_text_becomes_a_file(cli: Any, mouth: Path, tmp_path: Path, here: tuple[str, ...]) -> None:
    done = cli("say", *TEXT.split(), "--model", mouth, "-o", "out.wav", *here)
    assert (done.returncode, done.stdout, done.stderr) == (0, "out.wav\n", "")
    data = (tmp_path / "out.wav").read_bytes()
    assert sound(data) == (24_000, 1, pcm())
    assert int.from_bytes(data[40:44], "little") == len(pcm())
    assert left(tmp_path) == {"out.wav"}


def test_voice_and_speed_are_passed_on_else_those_of_the_models_rule(cli: Any, mouth: Path, tmp_path: Path) -> None:
    (tmp_path / "anyform.toml").write_text('[model.mouth.request]\nvoice = "tenor"\nspeed = 2.0\n')
    command = ("say", TEXT, "--model", mouth, "--format", "pcm")
    assert bytes_of(cli, *command).stdout == pcm("tenor", 2.0)
    assert bytes_of(cli, *command, "--voice", "bass", "--speed", "0.5").stdout == pcm("bass", 0.5)
    assert bytes_of(cli, "say", TEXT, "--model", mouth, "--format", "pcm", "--language", "de").returncode == 0


def test_a_pipe_is_spoken_into_a_pipe(cli: Any, mouth: Path) -> None:
    done = bytes_of(cli, "say", "--model", mouth, input=TEXT.encode())
    assert (done.returncode, done.stderr) == (0, b"")
    assert sound(done.stdout) == (24_000, 1, pcm())
    both = bytes_of(cli, "say", "One two", "-", "-o", "-", "--model", mouth, input=b"three. Four five!\n")
    assert sound(both.stdout)[2] == pcm()


@pytest.mark.parametrize("ending", [".mp3", ".opus", ".ogg", ".aac", ".flac"])
def test_the_files_ending_says_the_format(cli: Any, mouth: Path, tmp_path: Path, ending: str) -> None:
    av = pytest.importorskip("av")
    told = cli.json("say", TEXT, "--model", mouth, "-o", f"out{ending}")
    path = tmp_path / f"out{ending}"
    assert (told["format"], told["bytes"], told["duration_s"]) == (ENDINGS[ending], path.stat().st_size, 0.5)
    with av.open(str(path)) as read:
        samples = sum(frame.samples for frame in read.decode(audio=0))
        rate = read.streams.audio[0].rate
    assert rate == told["sample_rate"]
    assert samples / rate == pytest.approx(0.5, abs=2 * 1152 / rate)


def test_every_format_has_an_ending() -> None:
    assert set(ENDINGS.values()) == set(FORMATS)


def test_nothing_is_written_over(cli: Any, mouth: Path, tmp_path: Path) -> None:
    (tmp_path / "out.wav").write_text("mine")
    done = cli("say", TEXT, "--model", mouth, "-o", "out.wav")
    assert (done.returncode, "out.wav is there already" in done.stderr) == (1, True)
    assert (tmp_path / "out.wav").read_text() == "mine"
    assert cli("say", TEXT, "--model", mouth, "-o", "out.wav", "--force").returncode == 0
    assert sound((tmp_path / "out.wav").read_bytes())[2] == pcm()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--voice", "nobody"), "There are alto, bass, tenor"),
        (("--speed", "3"), "0.5 to 2"),
        (("--language", "xx"), "does not speak 'xx'"),
    ],
)
def test_what_the_model_refuses_is_told_and_no_file_stays(
    cli: Any, mouth: Path, tmp_path: Path, more: tuple[str, ...], told: str
) -> None:
    done = cli("say", TEXT, "--model", mouth, "-o", "out.wav", *more)
    assert (done.returncode, done.stdout, told in done.stderr) == (1, "", True)
    assert left(tmp_path) == set()


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ((TEXT, "-o", "out.doc"), 2, "does not end as a sound does"),
        ((TEXT, "--json"), 2, "needs a file of its own"),
        ((TEXT, "-o", "out.wav", "--speed", "0"), 2, "0 is not over 0"),
        ((TEXT, "-o", "out.wav", "--speed", "nan"), 2, "nan is not over 0"),
        ((TEXT, "-o", "out.wav", "--speed", "inf"), 2, "inf is no speed"),
        ((TEXT, "-o", "out.wav", "--format", "doc"), 2, "invalid choice"),
        ((" ", "-o", "out.wav"), 1, "the text is empty"),
        ((TEXT, "-o", "none/out.wav"), 1, "there is no folder none"),
        ((TEXT, "-o", "."), 2, "does not end as a sound does"),
        ((TEXT, "-o", "out.wav"), 1, "no model here speaks. Fetch one, such as with `anyform pull"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    cli: Any, tmp_path: Path, arguments: tuple[str, ...], code: int, told: str
) -> None:
    done = cli("say", *arguments)
    assert (done.returncode, done.stdout, told in done.stderr) == (code, "", True)
    assert len(done.stderr.splitlines()) == 1
    assert left(tmp_path) == set()


@pytest.mark.parametrize("here", [(), ("--here",)])
@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--voice", "altos"), "mouth has no voice 'altos'. Near it are alto."),
        (("--voice", "alto(2)+nobody(1)"), "mouth has no voice 'nobody'. There are alto, bass, tenor."),
        (("--speed", "3"), "speed is 3. mouth speaks at 0.5 to 2."),
        (("--language", "xx"), "mouth does not speak 'xx'. It speaks de-DE, en-GB, en-US."),
    ],
)
def test_what_a_model_says_of_itself_is_checked_before_it_is_loaded(
    cli: Any, mouth: Path, tmp_path: Path, more: tuple[str, ...], told: str, here: tuple[str, ...]
) -> None:
    done = cli("say", TEXT, "--model", mouth, "-o", "out.wav", *more, *here, "--option", "crash=load")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"anyform: {told}\n")
    assert left(tmp_path) == set()


def test_who_spoke_is_told_where_nobody_was_named(cli: Any, mouth: Path) -> None:
    said = cli.json("say", TEXT, "--model", mouth, "-o", "out.wav")
    assert (said["voice"], said["model"], said["backend"]) == ("alto", "mouth", "echo")
    assert cli.json("say", TEXT, "--model", mouth, "-o", "new.wav", "--language", "de")["voice"] == "tenor"


def test_a_files_name_is_spoken_with_a_hint(cli: Any, mouth: Path, tmp_path: Path) -> None:
    (tmp_path / "long text.txt").write_text(TEXT)
    done = cli("say", "long text.txt", "--model", mouth, "-o", "out.wav")
    assert (done.returncode, done.stdout) == (0, "out.wav\n")
    hint = "there is a file of that name; to speak its text: anyform say -o out.wav < 'long text.txt'\n"
    assert done.stderr == hint
    assert cli("say", "long", "text.txt", "--model", mouth, "-o", "new.wav").stderr == ""


def test_the_larger_files_are_taken(cli: Any, echo: Echo, tmp_path: Path) -> None:
    echo("models/few", parameters=5, padding="x" * 100, **SPEAKS)
    echo("models/many", parameters=7, **SPEAKS)
    done = cli("say", TEXT, "--models", tmp_path / "models", "-o", "out.wav")
    assert done.stderr == "using few, the larger of 2 (also: many); --model names another\n"


def test_a_model_with_the_voice_is_taken(cli: Any, echo: Echo, tmp_path: Path) -> None:
    echo("models/chat", parameters=9)
    echo("models/small", parameters=5, **SPEAKS)
    echo("models/large", parameters=7, **SPEAKS)
    told = cli.json("say", TEXT, "--models", tmp_path / "models", "-o", "out.wav", "--voice", "bass")
    assert (told["model"], told["voice"], told["sample_rate"]) == ("large", "bass", 24_000)


def test_run_says_what_to_use_instead(cli: Any, mouth: Path) -> None:
    meant = cli("run", mouth, "hello")
    assert (meant.returncode, f"`anyform say TEXT -o speech.mp3 --model {mouth}`" in meant.stderr) == (1, True)


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_is_130_and_leaves_no_file(cli: Any, echo: Echo, tmp_path: Path) -> None:
    slow = echo("slow", options={"delay_s": 0.2}, **SPEAKS)
    command = [sys.executable, "-m", "anyform", "say", "One. " * 500, "--model", str(slow)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=cli.environment()) as process:
        assert process.stdout
        assert process.stdout.read(100).startswith(b"RIFF")  # leaves with the first of 500 sentences
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert process.stderr
        assert process.stderr.read() == b""
    with cli.start("say", "One. " * 500, "--model", slow, "-o", "out.wav") as process:
        while not any(name.endswith(".part") for name in os.listdir(tmp_path)):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    assert left(tmp_path) == set()


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGTERM")
def test_sigterm_is_143_and_leaves_no_file(cli: Any, echo: Echo, tmp_path: Path) -> None:
    slow = echo("slow", options={"delay_s": 0.2}, **SPEAKS)
    with cli.start("say", "One. " * 500, "--model", slow, "-o", "out.wav") as process:
        while not any(name.endswith(".part") for name in os.listdir(tmp_path)):
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 143
        assert process.stderr.read() == ""
    assert left(tmp_path) == set()


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_terminal_shows_how_far_it_is_and_gets_no_sound(cli: Any, mouth: Path) -> None:
    code, shown = cli.at_terminal("say", TEXT, "--model", mouth, "-o", "out.wav")
    assert (code, "spoken: 1 of 2 sentences" in shown, "0.5 s of speech in" in shown) == (0, True, True)
    for arguments, told in (((TEXT,), "a terminal shows no sound"), (("-o", "new.wav"), "TEXT is missing")):
        code, shown = cli.at_terminal("say", *arguments, "--model", mouth)
        assert (code, told in shown) == (2, True)


def test_voices_are_listed(cli: Any, echo: Echo, mouth: Path, tmp_path: Path) -> None:
    assert cli.json("voices", "--model", mouth) == [{"model": "mouth", **voice} for voice in echo_speech.VOICES]
    assert [one["id"] for one in cli.json("voices", "--model", mouth, "--language", "en")] == ["alto", "bass"]
    assert [one["id"] for one in cli.json("voices", "--model", mouth, "--language", "EN-gb")] == ["bass"]
    assert cli.json("voices", mouth) == cli.json("voices", "--model", mouth)
    strange = cli("voices", mouth, "--language", "fr")
    assert (strange.returncode, strange.stdout) == (0, "no voice speaks fr; there are de-DE, en-GB, en-US\n")
    assert cli.json("voices", mouth, "--language", "fr") == []
    twice = cli("voices", mouth, "--model", mouth)
    assert (twice.returncode, "two models were named" in twice.stderr) == (2, True)
    echo("models/chat")
    echo("models/mute", **SPEAKS)
    told = cli("voices", "--models", tmp_path / "models")
    assert (told.returncode, told.stderr) == (0, "")
    assert [line.split() for line in told.stdout.splitlines()][:2] == [
        ["VOICE", "NAME", "LANGUAGE", "MODEL"], ["alto", "Alto", "(American)", "en-US", "mute"],
    ]  # fmt: skip


def test_voices_of_what_does_not_speak_are_a_refusal(cli: Any, echo: Echo, tmp_path: Path) -> None:
    refused = cli("voices", "--model", echo("models/chat"))
    assert (refused.returncode, "not speak" in refused.stderr) == (1, True)
    none = cli("voices", "--models", tmp_path / "models", "--json")
    assert none.returncode == 1
    assert json.loads(none.stderr)["error"]["code"] == "model_not_found"


def test_show_says_how_a_model_speaks(cli: Any, mouth: Path) -> None:
    rows = dict(line.split(maxsplit=1) for line in cli("show", mouth).stdout.splitlines() if len(line.split()) > 1)
    assert rows["voices"] == f"3: alto bass tenor; `anyform voices --model {mouth}` lists them"
    assert (rows["sample"], rows["speeds"]) == ("rate        24000 a second", "0.5 to 2")
