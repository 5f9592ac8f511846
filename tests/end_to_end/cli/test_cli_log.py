"""What commands log: on the console, in a file, as JSON, and how much."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Echo = Callable[..., Path]


def asked(url: str, body: object, **headers: str) -> int:
    """The status of a completion."""
    data = json.dumps(body).encode()
    request = urllib.request.Request(f"{url}/completions", data, {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def served(cli: Any, *arguments: str | Path) -> str:
    """Serve, answer one request well and refuse one, and end; what was said on standard error."""
    with cli.start("serve", *arguments, "--port", "0") as process:
        url = next(line for line in process.stdout if line.startswith("anyform serves")).split()[2]
        assert asked(url, {"model": "parrot", "prompt": "hello"}, Authorization="Bearer abcdefgh12345678") == 200
        assert asked(url, {"model": "parrot", "prompt": "hello", "top_k": "x"}) == 400
        process.terminate()
        _, said = process.communicate(timeout=30)
    assert "abcdefgh12345678" not in said
    return str(said)


def test_a_server_logs_lines_with_time_and_level(cli: Any, echo: Echo) -> None:
    lines = served(cli, echo()).splitlines()
    assert all(re.match(r"\d\d:\d\d:\d\d (INFO|WARNING) ", line) for line in lines), lines
    assert any("parrot: loaded by echo" in line for line in lines)
    [refused] = [line for line in lines if "[invalid_type top_k /v1/completions]" in line]
    assert refused.split()[1] == "INFO"


def test_a_server_logs_json_lines_and_into_a_file(cli: Any, echo: Echo, tmp_path: Path) -> None:
    said = served(cli, echo(), "--log-format", "json", "--log-file", "logs/serve.log")
    for text in (said, (tmp_path / "logs" / "serve.log").read_text()):
        records = [json.loads(line) for line in text.splitlines()]
        assert all(record.keys() >= {"time", "level", "logger", "message"} for record in records)
        [fault] = [record["fault"] for record in records if "fault" in record]
        assert (fault["code"], fault["area"], fault["part"]) == ("invalid_type", "request", "top_k")


def test_the_settings_file_says_it_too_and_options_go_over_it(cli: Any, echo: Echo, tmp_path: Path) -> None:
    (tmp_path / "anyform.toml").write_text('[log]\nlevel = "error"\nfile = "quiet.log"\n')
    assert served(cli, echo()) == ""
    assert (tmp_path / "quiet.log").read_text() == ""
    assert "loaded by echo" in served(cli, echo(), "--log-level", "info")
    assert "INFO anyform" in (tmp_path / "quiet.log").read_text()


def test_debug_tells_more(cli: Any, echo: Echo) -> None:
    assert "uvicorn" not in served(cli, echo())
    assert "Application startup complete" in served(cli, echo(), "--log-level", "debug")


@pytest.mark.parametrize("arguments", [["--log-level", "loud"], ["--log-format", "xml"]])
def test_what_there_is_not_is_misuse(cli: Any, echo: Echo, arguments: list[str]) -> None:
    done = cli("serve", echo(), *arguments)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


def test_a_file_that_cannot_be_written_is_one_line(cli: Any, echo: Echo, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = cli("serve", echo(), "--log-file", "file/log")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "the log cannot be written to" in done.stderr


def test_a_single_answer_is_quiet_unless_asked(cli: Any, echo: Echo) -> None:
    assert "loaded by" not in cli("run", echo(), "hello").stderr
    assert "anyform: parrot: loaded by echo" in cli("run", echo(), "hello", "--log-level", "info").stderr
    assert cli("list", "--models", echo().parent, "--log-level", "debug").returncode == 0
