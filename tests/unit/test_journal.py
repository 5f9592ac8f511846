"""The log of a command: one form for all loggers, a file that turns over, and no secret anywhere in it."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from anyform import journal
from anyform.config import Log
from anyform.contract.errors import Invalid, OutOfMemory
from anyform.http import fault

TOKEN = "hf_" + "aB3" * 10


USUAL = Log()


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    before = root.level, list(root.handlers), {name: logging.getLogger(name).level for name in journal.QUIET}
    yield
    for handler in [handler for handler in root.handlers if handler not in before[1]]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(before[0])
    for name, level in before[2].items():
        logging.getLogger(name).setLevel(level)


def begun(log: Log = USUAL, short: bool = False) -> io.StringIO:
    stream = io.StringIO()
    journal.begin(log, stream, short)
    return stream


def test_a_line_has_time_level_and_message() -> None:
    stream = begun()
    logging.getLogger("anyform").info("m: loaded by %s", "echo")
    time, level, message = stream.getvalue().split(" ", 2)
    assert (len(time), level, message) == (8, "INFO", "m: loaded by echo\n")


def test_a_command_that_a_person_reads_says_who_speaks() -> None:
    stream = begun(Log(level="warning"), short=True)
    logging.getLogger("anyform").info("no")
    logging.getLogger("anyform").warning("the disk is slow")
    assert stream.getvalue() == "anyform: the disk is slow\n"


def test_a_message_is_one_line_whatever_it_holds() -> None:
    stream = begun()
    logging.getLogger("anyform").warning("no model %s", "a\n12:00:00 ERROR forged\x1b[2J")
    assert stream.getvalue().count("\n") == 1
    assert "\\n12:00:00 ERROR forged\\x1b[2J" in stream.getvalue()


@pytest.mark.parametrize("name", ["uvicorn.error", "httpx"])
def test_others_loggers_have_the_same_form_and_are_quiet_until_debug(name: str) -> None:
    stream = begun(Log(format="json"))
    logging.getLogger(name).info("at length")
    logging.getLogger(name).warning("short")
    assert json.loads(stream.getvalue())["message"] == "short"
    stream = begun(Log(level="debug"))
    logging.getLogger(name).info("at length")
    assert "at length" in stream.getvalue()


def test_json_lines_say_what_programs_need() -> None:
    stream = begun(Log(format="json"))
    fault.tell(OutOfMemory("x needs 9 GiB.", "Ask for less.", model="x"), "/v1/chat/completions")
    said = json.loads(stream.getvalue())
    assert said.pop("time").endswith("Z")
    assert said == {
        "level": "warning",
        "logger": "anyform.http",
        "message": "[out_of_memory x /v1/chat/completions] x needs 9 GiB. Ask for less.",
        "fault": OutOfMemory("x needs 9 GiB.", "Ask for less.", model="x").as_dict(),
    }


def test_an_exception_comes_with_its_traceback() -> None:
    text, lines = begun(), io.StringIO()
    try:
        raise ValueError("odd")
    except ValueError:
        logging.getLogger("anyform").exception("failed")
        journal.begin(Log(format="json"), lines)
        logging.getLogger("anyform").exception("failed")
    assert text.getvalue().splitlines()[-1] == "ValueError: odd"
    assert "Traceback" in json.loads(lines.getvalue())["exception"]


SECRETS = [
    (f"the token {TOKEN} is refused", TOKEN),
    ("headers: {'Authorization': 'Bearer abc.def-123456', 'accept': '*/*'}", "abc.def-123456"),
    ("[(b'Host', b'x'), (b'Authorization', b'Basic dXNlcjpwYXNz')]", "dXNlcjpwYXNz"),
    ("authorization: token 0123456789", "0123456789"),
    ("GET https://cdn.example/f?X-Amz-Signature=0123abcd&X-Amz-Expires=9", "0123abcd"),
    ("GET https://cdn.example/f?Expires=1&Policy=eyJTd&Signature=Qx~y_&Key-Pair-Id=K2", "Qx~y_"),
    ("proxy https://user:pa55word@proxy.example:8080 answers", "pa55word"),
    ('{"api_key": "0123456789"}', "0123456789"),
    ("key sk-0123456789abcdef0123", "sk-0123456789abcdef0123"),
    ("the variable's own: my-own-hub-token-value", "my-own-hub-token-value"),
]


@pytest.mark.parametrize(("text", "secret"), SECRETS)
@pytest.mark.parametrize("form", ["text", "json"])
def test_no_secret_is_logged(
    text: str, secret: str, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "my-own-hub-token-value")
    log = replace(Log(), format=form, level="debug", file=tmp_path / "log")
    stream = begun(log)
    logging.getLogger("httpx").warning("%s", text)
    logging.getLogger("anyform").error("x", exc_info=RuntimeError(text))
    logging.getLogger("anyform").error("x", extra={"fault": {"cause": text, "suggestions": [text]}})
    told = stream.getvalue() + (tmp_path / "log").read_text()
    assert secret not in told
    assert told.count(journal.HIDDEN) >= 4


@pytest.mark.parametrize(
    "text",
    [
        "m: loaded by gguf_llamacpp on cuda:0, context 4096 (as trained)",
        "GET https://hub.example/owner/repo/resolve/main/hf_model-00001.gguf?download=true",
        "sample: loaded by hf_transformers on cpu, context 2048",
        "2 tokens, key frames at http://127.0.0.1:11540/v1",
        "the bearer of it",
        "Check the network and HF_ENDPOINT, and try again",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert journal.clean(text) == text


def test_a_file_that_is_full_is_kept_and_begun_anew(tmp_path: Path) -> None:
    file = tmp_path / "logs" / "anyform.log"
    begun(Log(file=file, file_bytes=400, files=2))
    for number in range(40):
        logging.getLogger("anyform").info("line %d of the log", number)
    assert sorted(path.name for path in file.parent.iterdir()) == ["anyform.log", "anyform.log.1", "anyform.log.2"]
    assert all(path.stat().st_size <= 400 for path in file.parent.iterdir())
    assert "INFO anyform: line 39 of the log" in file.read_text()


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Invalid, match="the log cannot be written"):
        begun(Log(file=tmp_path / "file" / "log"))


@pytest.mark.parametrize("wrong", [{"level": "loud"}, {"format": "xml"}])
def test_a_level_or_format_that_there_is_not_is_told(wrong: dict[str, str]) -> None:
    with pytest.raises(Invalid, match="of the log is"):
        begun(replace(Log(), **wrong))  # type: ignore[arg-type]


def test_to_begin_again_replaces_what_was_set_up() -> None:
    first, second = begun(), begun()
    logging.getLogger("anyform").warning("once")
    assert (first.getvalue(), second.getvalue().count("once")) == ("", 1)
