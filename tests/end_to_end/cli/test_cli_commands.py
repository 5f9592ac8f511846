"""Every command that only looks: output for people, for pipes and for programs; faults in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Echo = Callable[..., Path]


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("anyform: ")
    return lines[0]


def test_help_lists_every_command_that_has_a_module(cli: Any) -> None:
    from anyform.cli.overview import COMMANDS

    for arguments in ((), ("--help",), ("-h",), ("help",)):
        done = cli(*arguments)
        assert done.returncode == 0
        assert all(f"\n  {name} " in done.stdout for name in COMMANDS)


@pytest.mark.parametrize(
    "name",
    ["run", "serve", "list", "suggest", "show", "estimate", "ps", "load", "unload", "plugins", "doctor", "bench"],
)
def test_each_command_explains_itself(cli: Any, name: str) -> None:
    done = cli(name, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: anyform {name}")


def test_version(cli: Any) -> None:
    from anyform import __version__

    assert cli("--version").stdout == f"anyform {__version__}\n"


def test_an_unknown_command_names_the_nearest(cli: Any) -> None:
    done = cli("lisst")
    assert done.returncode == 2
    assert "`anyform list`" in one_line(done)


@pytest.mark.parametrize(
    "arguments",
    [
        ("run",),
        ("show",),
        ("list", "--nonsense"),
        ("show", "x", "--context", "0"),
        ("show", "x", "--option", "novalue"),
    ],
)
def test_misuse_is_one_line_and_2(cli: Any, arguments: tuple[str, ...]) -> None:
    done = cli(*arguments)
    assert done.returncode == 2
    assert f"`anyform {arguments[0]} --help`" in one_line(done)


def test_list_names_variants_by_their_aliases(cli: Any, echo: Echo, tmp_path: Path) -> None:
    echo("models/parrot")
    echo("models/owner/big/a", name="big", variant="Q8", order=1)
    echo("models/owner/big/b", name="big", variant="Q4")
    found = {entry["name"]: entry for entry in cli.json("list", "--models", tmp_path / "models")}
    assert set(found) == {"owner/big:Q4", "owner/big:Q8", "parrot"}
    assert found["owner/big:Q4"]["aliases"] == ["owner/big"]
    assert found["parrot"]["metadata"]["tasks"][0] == "chat"

    rows = cli("list", "--models", tmp_path / "models").stdout.splitlines()
    assert rows[0].split()[:2] == ["NAME", "FORMAT"]
    assert [row.split()[0] for row in rows[1:]] == sorted(found)


def test_list_of_nothing_says_what_to_do(cli: Any, tmp_path: Path) -> None:
    done = cli("list", "--models", tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    assert "--models DIR" in done.stderr


def test_a_closed_pipe_is_no_trouble(cli: Any, echo: Echo) -> None:
    with cli.start("show", echo()) as process:
        process.stdout.close()
        assert process.wait(60) == 141
        assert process.stderr.read() == ""


def test_show_says_what_the_model_is_and_what_would_run_it(cli: Any, echo: Echo) -> None:
    text = cli("show", echo(context=512)).stdout
    assert "512 tokens (what the model was trained for)" in text
    assert "echo (plugin echo)" in text
    data = cli.json("show", echo(context=512), "--context", "100")
    assert (data["context"], data["backend"]) == (100, "echo")


def test_show_of_an_unsound_model_is_1_and_says_the_finding(cli: Any, echo: Echo) -> None:
    done = cli("show", echo(context="many"))
    assert done.returncode == 1
    assert "critical" in done.stdout
    assert "context is 'many'" in done.stdout


def test_show_of_a_folder_takes_the_preferred_variant_or_the_named_one(cli: Any, echo: Echo, tmp_path: Path) -> None:
    echo("big/a", name="big", variant="Q8", order=1)
    echo("big/b", name="big", variant="Q4")
    assert cli.json("show", "big")["name"] == "big:Q4"
    assert cli.json("show", "big:q8")["name"] == "big:Q8"
    done = cli("show", "big:Q2")
    assert done.returncode == 1
    assert "big:Q4, big:Q8" in one_line(done)


def test_a_folder_of_several_models_asks_for_one(cli: Any, echo: Echo) -> None:
    echo("two/a")
    echo("two/b")
    done = cli("show", "two")
    assert done.returncode == 1
    assert "several models" in one_line(done)


def test_explain_prints_the_table_with_points(cli: Any, echo: Echo) -> None:
    done = cli("explain", echo())
    assert done.returncode == 0
    assert done.stdout.startswith("1 echo ")
    assert "native format +40" in done.stdout
    data = cli.json("explain", echo(), "--task", "embed")
    assert data["plan"]["plugin"] == "echo"
    assert data["verdicts"][0]["reasons"][0]["points"] == 40


def test_explain_of_what_nothing_runs_is_1(cli: Any, echo: Echo) -> None:
    done = cli("explain", echo(), "--forbid", "echo")
    assert done.returncode == 1
    assert done.stdout.startswith("- ")
    assert "forbid" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("show", "nowhere"), "no model 'nowhere'"),
        (("show", "./nowhere"), "nothing lies at ./nowhere"),
        (("validate", "/nowhere"), "nothing lies at /nowhere"),
        (("validate", "nodir/typo.gguf"), "nothing lies at nodir/typo.gguf"),
        (("validate", "nowhere"), "nothing lies at nowhere, and no model is called so"),
        (("rm", "./nowhere"), "nothing lies at ./nowhere"),
        (("verify", "./nowhere"), "nothing lies at ./nowhere"),
        (("rm", "nowhere"), "no model 'nowhere'"),
        (("list", "--models", "nowhere"), "nothing lies at nowhere"),
        (("list", "--prefer", "nobody"), "no plugin 'nobody'"),
        (("list", "--config", "nowhere.toml"), "nowhere.toml cannot be read"),
    ],
)
def test_a_fault_is_one_line_and_1(cli: Any, arguments: tuple[str, ...], said: str) -> None:
    done = cli(*arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert said in one_line(done)


@pytest.mark.parametrize(("command", "hint"), [("rm", "Delete the file yourself"), ("verify", "`anyform validate ")])
def test_a_path_is_no_name_of_a_pulled_model(cli: Any, echo: Echo, command: str, hint: str) -> None:
    file = echo("shelf/owner/raven/m")
    said = one_line(cli(command, file))
    assert f"{file} is not a pulled model: it lies outside of anyform's own folder" in said
    assert hint in said
    assert "The model there is owner/raven" in one_line(cli(command, file, "--models", file.parents[2]))
    assert file.exists()


def test_under_json_a_fault_is_one_object_on_standard_error(cli: Any, echo: Echo, tmp_path: Path) -> None:
    for arguments, status, code in (
        (("show", "nowhere"), 1, "model_not_found"),
        (("run", echo(), "--context", "2", "one two three"), 1, "context_length_exceeded"),
        (("ps", "--url", "http://127.0.0.1:9"), 1, "server_absent"),
        (("list", "--config", tmp_path), 1, None),
        (("show",), 2, "misused"),
        (("lisst",), 2, "misused"),
    ):
        done = cli(*arguments, "--json")
        assert (done.returncode, done.stdout) == (status, "")
        error = json.loads(done.stderr)["error"]
        more = set() if code == "misused" else {"category", "area", "severity", "part", "cause", "suggestions"}
        assert set(error) == {"message", "code", "hint"} | more
        assert error["message"]
        assert code in (None, error["code"])


def test_a_file_name_leads_to_the_name_of_the_model(cli: Any, echo: Echo, tmp_path: Path) -> None:
    echo("shelf/parrot")
    done = cli("show", "parrot.gguf", "--models", tmp_path / "shelf")
    assert done.returncode == 1
    assert "Did you mean parrot?" in one_line(done)


def test_what_unproven_means_is_said(cli: Any, tmp_path: Path) -> None:
    from anyform.testing.gguf import write_llama

    pytest.importorskip("llama_cpp")
    path = write_llama(tmp_path / "tiny.gguf")
    env = {"ANYFORM_STATE": str(tmp_path / "fresh")}
    said = cli("explain", path, env=env).stdout
    assert "(unproven)" in said
    assert "the first load tries it" in said
    cli("run", path, "hi", "--max-tokens", "1", env=env)
    assert "unproven" not in cli("explain", path, env=env).stdout


def test_an_unknown_format_is_said_in_one_line(cli: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a model")
    done = cli("show", tmp_path / "notes.txt")
    assert done.returncode == 1
    assert "no installed plugin recognises" in one_line(done)


def test_debug_shows_the_traceback(cli: Any) -> None:
    done = cli("show", "nowhere", env={"ANYFORM_DEBUG": "1"})
    assert "Traceback" in done.stderr


def test_plugins_says_which_are_sound(cli: Any) -> None:
    done = cli("plugins", "--json")
    records = {record["name"]: record for record in json.loads(done.stdout)}
    assert records["echo"]["sound"]
    assert records["echo"]["backends"][0]["backend"]["reads"] == ["echo"]
    assert "load" in records["echo"]["hooks"]
    assert done.returncode == (0 if all(record["sound"] for record in records.values()) else 1)


BROKEN = {"raises": "raise RuntimeError('no luck')", "quits": "import sys\nsys.exit(3)", "silent": ""}


def test_a_broken_plugin_is_named_with_its_reason_and_costs_itself_alone(cli: Any, echo: Echo, tmp_path: Path) -> None:
    site = tmp_path / "site"
    info = site / "strange-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: strange\nVersion: 1.0\n")
    points = "\n".join(f"{name} = strange_{name}" for name in BROKEN)
    (info / "entry_points.txt").write_text(f"[anyform.plugins]\n{points}\n")
    for name, code in BROKEN.items():
        (site / f"strange_{name}.py").write_text(code)
    env = {"PYTHONPATH": str(site)}
    done = cli("plugins", env=env)
    assert done.returncode == 1
    for word in ("no luck", "exit code 3", "ANYFORM_CONTRACT"):
        assert word in done.stdout
    assert cli("run", echo(), "still", "here", env=env).stdout == "still here\n"


def test_doctor_looks_at_everything(cli: Any) -> None:
    done = cli("doctor", "--json", "--url", "http://127.0.0.1:9")
    checks = json.loads(done.stdout)
    looked_at = {check["about"].split()[0] for check in checks}
    assert looked_at >= {"python", "settings", "state", "plugin", "device", "engine", "models", "server"}
    assert all(check["do"] for check in checks if check["about"] == "server")
    assert done.returncode == (1 if any(check["state"] == "broken" for check in checks) else 0)


def test_doctor_notices_misspelt_variables_and_unreadable_settings(cli: Any, tmp_path: Path) -> None:
    (tmp_path / "anyform.toml").write_text("[server]\nprot = 1\n")
    done = cli("doctor", env={"ANYFORM_SEVER_PORT": "1"})
    assert done.returncode == 1
    assert "ANYFORM_SEVER_PORT sets nothing" in done.stdout
    assert "server.prot is not a setting" in done.stdout


@pytest.mark.parametrize("arguments", [("ps",), ("load", "m"), ("unload", "m")])
def test_without_a_server_one_line_says_what_to_do(cli: Any, arguments: tuple[str, ...]) -> None:
    done = cli(*arguments, "--url", "http://127.0.0.1:9")
    assert done.returncode == 1
    assert "`anyform serve`" in one_line(done)


def test_settings_come_from_the_file_and_the_environment_goes_over_it(cli: Any, echo: Echo, tmp_path: Path) -> None:
    echo("shelf/parrot")
    (tmp_path / "anyform.toml").write_text('[models]\nfolders = ["shelf"]\n[defaults]\ncontext = 99\n')
    assert cli.json("show", "parrot")["context"] == 99
    done = cli("show", "parrot", "--json", env={"ANYFORM_DEFAULTS_CONTEXT": "77"})
    assert json.loads(done.stdout)["context"] == 77
    assert cli.json("show", "parrot", "--context", "55")["context"] == 55


def test_python_m_and_the_script_are_the_same_command() -> None:
    code = "import sys; from anyform.cli import main; sys.exit(main(['--version']))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.startswith(b"anyform ")
