"""What is wrong with a command line is said in our own sentences, with what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from anyform.cli.command import dispatch
from anyform.cli.parser import Parser, nearest, sentence

CASES = [
    (["show"], "MODEL is missing. Usage: `anyform show MODEL [options]`; see `anyform show --help`."),
    (["list", "--modles", "x"], "`anyform list` has no option --modles. Did you mean --models?"),
    (["list", "--modles=x"], "`anyform list` has no option --modles. Did you mean --models?"),
    (["list", "--zzz"], "`anyform list` has no option --zzz. See `anyform list --help`."),
    (["show", "a", "b"], "'b' is one argument too many. Usage: `anyform show MODEL [options]`"),
    (["serve", "a", "--port"], "--port needs a value."),
    (["serve", "a", "--port", "x"], "--port: 'x' is not a port from 0 to 65535."),
    (
        ["serve", "--listen", "99999"],
        "--listen: '99999' is no listener: '99999' is no port from 0 to 65535. Write [HOST:]PORT[=DIALECT,DIALECT…], or"
        " DIALECT for its customary port: 8080=openai,anyform. Usage: ",
    ),
    (["serve", "--warm=1"], "--warm/--preload takes no value; '1' was given."),
    (["run", "m", "--temperature", "9"], "--temperature: 9 is not from 0 to 2."),
    (["run", "m", "--temperature", "nan"], "--temperature: nan is not from 0 to 2."),
    (["run", "m", "--temperature", "hot"], "--temperature: 'hot' is not a number."),
    (["run", "m", "--top-k", "1.5"], "--top-k: '1.5' is not a whole number."),
    (["run", "m", "--top-p", "-0.1"], "--top-p: -0.1 is not from 0 to 1."),
    (["lisst"], "there is no command 'lisst'. Did you mean `anyform list`?"),
    (["xyzzyq"], "there is no command 'xyzzyq'. `anyform --help` lists the commands."),
    (["--json", "list"], "--json stands before the command. Write `anyform COMMAND [options]`."),
]


@pytest.mark.parametrize(("arguments", "said"), CASES)
def test_misuse_is_one_sentence_and_2(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert dispatch(arguments) == 2
    told = capsys.readouterr()
    assert told.out == ""
    if "--json" in arguments:
        error = json.loads(told.err)["error"]
        assert (f"{error['message']} {error['hint']}", error["code"]) == (said, "misused")
    else:
        assert told.err.startswith(f"anyform: {said}")
        assert told.err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["show", "--json"], ["show", "a", "--json", "--zzz"], ["nosuch", "--json"]])
def test_under_json_misuse_is_one_object(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert dispatch(arguments) == 2
    error = json.loads(capsys.readouterr().err)["error"]
    assert set(error) == {"message", "code", "hint"}
    assert error["code"] == "misused"
    assert error["hint"]


def test_a_file_in_the_commands_place_is_offered_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my model.gguf").touch()
    assert dispatch(["my model.gguf"]) == 2
    assert "Did you mean `anyform run 'my model.gguf'`?" in capsys.readouterr().err


def test_a_complaint_that_is_not_known_is_passed_on() -> None:
    assert sentence("quite new words") == "quite new words."


def test_the_nearest_is_named_only_where_there_is_one() -> None:
    assert nearest("--model", ["--models", "--prefer"]) == "Did you mean --models? "
    assert nearest("--x", ["--models", "--prefer"]) == ""


def test_what_is_right_is_read() -> None:
    parser = Parser("show", "MODEL", "what it says")
    parser.add_argument("model")
    parser.add_argument("--long", action="store_true")
    args = parser.read(["m", "--long"])
    assert (args.model, args.long) == ("m", True)
    assert parser.format_help().startswith("usage: anyform show MODEL [options]")
