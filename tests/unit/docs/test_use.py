"""docs/use.md says what the code does: commands, routes, sampling fields, and settings that are read."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path

import pytest

from anyform import config
from anyform.cli.overview import COMMANDS
from anyform.contract.facts import Settings
from anyform.contract.jobs import Sampling
from anyform.http.config import HttpConfig

USE = (Path(__file__).parents[3] / "docs" / "use.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_described(command: str) -> None:
    assert f"`anyform {command}" in USE


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Sampling)])
def test_every_sampling_field_is_described(field: str) -> None:
    assert f"`{field}`" in USE


def test_every_route_is_described() -> None:
    from anyform.assembly import start
    from anyform.http.app import create

    runtime = start()
    try:
        paths = {getattr(route, "path", "") for route in create(runtime).routes}
    finally:
        runtime.close()
    named = {path.replace("{model:path}", "{id}") for path in paths}
    own = {
        path for path in named if path.startswith(("/v1/", "/runtime/", "/registry/", "/health", "/ready", "/metrics"))
    }
    assert len(own) > 8
    assert {path for path in own if f"{path}`" not in USE} == set()


def test_the_settings_example_is_read_and_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("ANYFORM_")]:
        monkeypatch.delenv(name)
    found = re.search(r"```toml\n(.*?)```", USE, re.DOTALL)
    assert found
    file = tmp_path / "anyform.toml"
    file.write_text(found[1], encoding="utf-8")
    read = config.load(file)
    assert read.server == HttpConfig()
    assert read.defaults == Settings(context=8192, parallel=4)
    assert read.model["qwen3-0.6b-Q4_K_M"].options == {"threads": 8}
    assert all(f"{field.name} = " in found[1] for field in dataclasses.fields(HttpConfig))
