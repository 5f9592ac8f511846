"""The settings file as users meet it: where it is, what it says, and that it is followed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

FAKE = Path(__file__).parents[2] / "unit" / "builtin" / "fake_openai_server.py"
Echo = Callable[..., Path]


def test_without_a_file_it_says_where_one_would_be(cli: Any) -> None:
    told = cli.json("config")
    assert told["file"] is None
    assert [place["state"] for place in told["places"]] == ["absent", "absent"]
    assert told["places"][0]["path"] == str(cli.folder / "anyform.toml")
    settings = {setting["name"]: setting for setting in told["settings"]}
    assert settings["server.port"] == {"name": "server.port", "value": 11540, "from": "default"}
    assert settings["state"]["value"].startswith(str(cli.home))
    assert {setting["from"] for setting in told["settings"]} == {"default"}


def test_each_setting_says_where_it_comes_from(cli: Any) -> None:
    (cli.folder / "anyform.toml").write_text('[server]\nport = 1\n[model."a*"]\npin = true\n')
    done = cli("config", env={"ANYFORM_SERVER_QUEUE": "3", "ANYFORM_SEVER_HOST": "x"})
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line.strip()}
    assert (done.returncode, done.stderr) == (0, "")
    assert rows["read"] == [str(cli.folder / "anyform.toml")]
    assert rows["server.port"] == ["1", "anyform.toml"]
    assert rows["server.queue"] == ["3", "ANYFORM_SERVER_QUEUE"]
    assert rows['model."a*".pin'] == ["true", "anyform.toml"]
    assert "ANYFORM_SEVER_HOST sets nothing" in done.stdout


def test_a_sample_is_written_once_and_never_over_anything(cli: Any, tmp_path: Path) -> None:
    file = tmp_path / "new" / "mine.toml"
    done = cli("config", "--write", "--config", file)
    assert (done.returncode, done.stdout) == (0, f"written: {file}\n")
    assert "#port = 11540" in file.read_text()
    assert cli.json("config", "--config", file)["file"] == str(file)
    file.write_text("offline = true\n")
    again = cli("config", "--write", "--config", file)
    assert again.returncode == 1
    assert "is there already" in again.stderr
    assert file.read_text() == "offline = true\n"


def test_a_sample_goes_where_the_variable_says(cli: Any, tmp_path: Path) -> None:
    file = tmp_path / "named.toml"
    assert cli("config", "--write", env={"ANYFORM_CONFIG": str(file)}).returncode == 0
    assert file.exists()


def test_the_default_model_is_meant_where_none_is_named(cli: Any, echo: Echo) -> None:
    file = echo()
    none = cli("run", input="hello")
    assert (none.returncode, none.stdout) == (2, "")
    assert "MODEL is missing. Name one, or set default_model" in none.stderr
    (cli.folder / "anyform.toml").write_text(f"default_model = 'parrot'\n[models]\npaths = ['{file}']\n")
    done = cli("run", input="hello")
    assert (done.returncode, done.stdout) == (0, "hello\n")


def test_a_rules_request_and_system_go_under_the_command_line(cli: Any, echo: Echo) -> None:
    text = f"[models]\npaths = ['{echo()}']\n[model.parrot]\nrequest = {{ max_tokens = 2 }}\n"
    (cli.folder / "anyform.toml").write_text(text)
    assert cli("run", "parrot", "one two three four").stdout == "one two\n"
    assert cli("run", "parrot", "--max-tokens", "3", "one two three four").stdout == "one two three\n"


def configured(cli: Any, echo: Echo, **tables: Any) -> None:
    """A settings file with a model and a command for it."""
    args = json.dumps([str(FAKE), "{port}"])
    command = f"[command.fake]\ncommand = '{sys.executable}'\nargs = {args}\nreads = ['echo']\ntasks = ['chat']\n"
    dies = json.dumps(["-c", "exit('no such weights')", "{port}"])
    broken = f"[command.broken]\ncommand = '{sys.executable}'\nargs = {dies}\nreads = ['echo']\n"
    rules = "".join(f"[model.'{name}']\nbackend = '{backend}'\n" for name, backend in tables.items())
    text = f"[models]\npaths = ['{echo(tasks=['chat'])}']\n{command}{broken}{rules}"
    (cli.folder / "anyform.toml").write_text(text)


def test_a_program_of_the_settings_serves_a_model(cli: Any, echo: Echo) -> None:
    configured(cli, echo, parrot="fake")
    answer = cli.json("run", "parrot", "hello there")
    assert (answer["backend"], answer["text"], answer["reasoning"]) == ("fake", "hello there ", "hm")
    assert "the rule for this model names fake" in cli("explain", "parrot").stdout


def test_explain_tries_each_backend_in_turn(cli: Any, echo: Echo) -> None:
    """In the order of their points; of those that have as many, one that was measured here goes first."""
    configured(cli, echo)
    ranked = [verdict["backend"] for verdict in cli.json("explain", "parrot")["verdicts"][:3]]
    assert ranked in (["echo", "broken", "fake"], ["echo", "fake", "broken"])
    done = cli("explain", "parrot", "--try")
    assert done.returncode == 0
    tried = done.stdout.partition("memory")[2]
    said = {"echo": "loads, in ", "broken": "does not load, after ", "fake": "loads, in "}
    for place, name in enumerate(ranked, start=1):
        assert f"{place} {name}: {said[name]}" in tried
    assert "before it was ready. Run it by hand" in " ".join(tried.split())
    assert "It printed: no such weights" in " ".join(tried.split())
    told = cli.json("explain", "parrot", "--try")["tried"]
    assert [(one["backend"], one["loads"]) for one in told] == [(name, name != "broken") for name in ranked]


def test_explain_tells_what_had_to_be_reduced(cli: Any, echo: Echo) -> None:
    options = ["--option", "crash=load", "--option", "crash_unless=careful"]
    [one] = cli.json("explain", echo(), "--try", *options)["tried"]
    assert (one["loads"], len(one["failures"])) == (True, 1)
    assert one["reductions"] == ["repeat carefully, which costs nothing"]


def test_where_nothing_loads_explain_fails(cli: Any, echo: Echo) -> None:
    configured(cli, echo, parrot="broken")
    assert cli("explain", "parrot").returncode == 0
    assert cli("explain", "parrot", "--try").returncode == 1


def test_a_program_that_is_not_there_runs_nothing(cli: Any, echo: Echo) -> None:
    text = "[command.absent]\ncommand = 'no-such-program'\nargs = ['{port}']\nreads = ['echo']\n"
    (cli.folder / "anyform.toml").write_text(f"[models]\npaths = ['{echo(tasks=['chat'])}']\n{text}")
    said = "its engine cannot be used: its program no-such-program is not in PATH"
    assert f"- absent - {said}" in " ".join(cli("explain", "parrot").stdout.split())
    assert "its program no-such-program is not in PATH" in " ".join(cli("doctor").stdout.split())
    with (cli.folder / "anyform.toml").open("a") as file:
        file.write("[model.parrot]\nbackend = 'absent'\n")
    assert "no-such-program is not in PATH" in " ".join(cli("list").stdout.split())


def test_a_command_may_not_have_a_plugins_name(cli: Any) -> None:
    (cli.folder / "anyform.toml").write_text("[command.echo]\ncommand = 'x'\nargs = ['{port}']\nreads = ['echo']\n")
    done = cli("list")
    assert done.returncode == 1
    assert "command.echo has the name of a plugin" in done.stderr
