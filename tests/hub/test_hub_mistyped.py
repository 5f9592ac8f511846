"""A mistyped path or name is told with what lies near it, and a path is never looked for on a hub."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from anyform.testing.gguf import write_llama

from .conftest import Cli
from .server import LoopbackHub

TYPED = Path("lib/typed.gguf")


@pytest.fixture(autouse=True)
def here(tmp_path: Path) -> None:
    """Files, a link to nothing, and a pulled model."""
    write_llama(tmp_path / TYPED)
    write_llama(tmp_path / "data" / "models" / "acme" / "story" / "story-F16.gguf", seed=1)
    (tmp_path / "lib" / "gone.gguf").symlink_to("nowhere.gguf")


def refused(cli: Cli, *arguments: str, env: Mapping[str, str] | None = None) -> Mapping[str, str]:
    done = cli(*arguments, "--json", env=env)
    assert (done.returncode, done.stdout) == (1, "")
    error: Mapping[str, str] = json.loads(done.stderr)["error"]
    return error


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (("run", "lib/typo.gguf", "hi"), "nothing lies at lib/typo.gguf.", f"Nearest: {TYPED}."),
        (("run", "lib/other", "hi"), "nothing lies at lib/other.", "Check the spelling of the path."),
        (("show", "libb/typed.gguf"), "nothing lies at libb/typed.gguf.", "Nearest: lib."),
        (("estimate", "none/x.gguf:F16"), "nothing lies at none/x.gguf:F16.", "Check the spelling of the path."),
        (("explain", "lib/gone.gguf"), "nothing lies at lib/gone.gguf, a link to nowhere.gguf.", "Check the"),
        (("show", "./lib/typo.gguf"), "nothing lies at ./lib/typo.gguf.", f"Nearest: {TYPED}."),
    ],
)
def test_a_path_is_no_repository(
    hub: LoopbackHub, cli: Cli, arguments: tuple[str, ...], message: str, hint: str
) -> None:
    error = refused(cli, *arguments)
    assert (error["message"], error["code"]) == (message, "model_not_found")
    assert error["hint"].startswith(hint)
    assert hub.requests == []


def test_what_could_be_a_repository_may_be_said_to_be_one(hub: LoopbackHub, cli: Cli, tiny: Path) -> None:
    (cli.folder / "owner").mkdir()
    assert "hf.co/owner/tiny" in refused(cli, "show", "owner/tiny")["hint"]
    assert hub.requests == []
    assert cli("show", "hf.co/owner/tiny").returncode == 0


def test_a_repository_with_dots_is_asked_for(hub: LoopbackHub, cli: Cli, tiny: Path) -> None:
    hub.add("Owner/Tiny2.5-0.5B", {path.name: path for path in tiny.iterdir()})
    assert cli("show", "Owner/Tiny2.5-0.5B:F16").returncode == 0


@pytest.mark.parametrize(("flags", "code"), [((), "repository_not_found"), (("--offline",), "offline")])
def test_names_that_are_here_come_first(cli: Cli, flags: tuple[str, ...], code: str) -> None:
    env = {"HF_HUB_OFFLINE": "1"} if flags else None
    error = refused(cli, "run", "acme/storry", "hi", env=env)
    assert error["code"] == code
    assert error["hint"].startswith("Nearest here: acme/story")


def test_an_alias_of_what_is_not_here_is_not_asked_for(hub: LoopbackHub, cli: Cli) -> None:
    (cli.folder / "anyform.toml").write_text('[models]\naliases = { "open/gpt" = "acme/storry" }\n')
    error = refused(cli, "run", "Open/GPT", "hi")
    assert error["message"] == "the alias 'Open/GPT' names 'acme/storry', which is not here."
    assert error["hint"].startswith("There is: acme/story")
    assert hub.requests == []
