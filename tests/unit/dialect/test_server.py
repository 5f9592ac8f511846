"""What the toolkit of dialects tells of models that are here and loaded, without pulling any."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from anyform.assembly import start
from anyform.dialect import Server, server
from anyform.http import app
from anyform.kernel.runtime import Runtime
from anyform.testing.echo import write_echo


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    root = tmp_path_factory.mktemp("models")
    write_echo(root / "parrot.echo.json")
    write_echo(root / "owner" / "bird" / "a.echo.json", name="bird", variant="Q4")
    made = start(folders=[root], where="here", state=tmp_path_factory.mktemp("state"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def here(runtime: Runtime) -> Server:
    return server(cast(Any, app.create(runtime)))


@pytest.mark.parametrize(("name", "meant"), [("parrot", "parrot"), ("owner/bird", "owner/bird"), ("nothing", None)])
def test_a_model_that_is_here_is_known(name: str, meant: str | None, here: Server) -> None:
    entry = asyncio.run(here.known(name))
    assert (entry.name if entry else None) == meant


def test_a_path_is_no_name(here: Server, tmp_path: Path) -> None:
    file = write_echo(tmp_path / "stranger.echo.json")
    assert asyncio.run(here.known(str(file))) is None
    assert asyncio.run(here.resident(str(file))) is None


def test_only_a_loaded_model_is_resident(here: Server, runtime: Runtime) -> None:
    assert asyncio.run(here.resident("parrot")) is None
    runtime.open("parrot")
    at = asyncio.run(here.resident("parrot"))
    assert at is not None
    assert at.held is not None
    assert at.held.plan.match.format == "echo"
    assert asyncio.run(here.resident("owner/bird")) is None
