"""Created models on the command line: listed, shown, explained, run and deleted as any other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from anyform.assembly import start
from anyform.contract.facts import Settings
from anyform.sources import derivation
from anyform.sources.folder import write_record
from anyform.sources.recipe import Recipe
from anyform.sources.stores import Stores

from .conftest import Cli


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """With a model in anyform's own folder, and two that were made of it."""
    (tmp_path / "work").mkdir()
    settings = '[models]\nsources = ["anyform"]\n[model."owner/bird"]\nparallel = 2\n[model.luigi]\ncontext = 16\n'
    (tmp_path / "work" / "anyform.toml").write_text(settings)
    home = tmp_path / "anyform" / "models"
    (folder := home / "owner" / "bird").mkdir(parents=True)
    (folder / "parrot.echo.json").write_text(json.dumps({"format": "echo", "context": 64}))
    runtime = start(stores=Stores(home=home, names=("anyform",)), where="here")
    made = Recipe(name="mario", base="owner/bird", system="You are Mario.", settings=Settings(context=32))
    derivation.create(runtime, made)
    derivation.create(runtime, Recipe(name="luigi", base="mario", request={"max_tokens": 1}))
    runtime.close()
    return Cli(tmp_path, tmp_path / "work")


def test_they_are_models_as_any_other(cli: Cli) -> None:
    listed = {one["name"]: one["source"] for one in cli.json("list")}
    assert listed == {"luigi": "recipe", "mario": "recipe", "owner/bird": "anyform"}
    shown = cli("show", "mario:latest")
    assert shown.returncode == 0, shown.stderr
    for told in ("made from  ", "owner/bird", "its recipe says", "You are Mario.", "settings.context"):
        assert told in shown.stdout
    assert [cli.json("show", name)["context"] for name in ("mario", "luigi")] == [32, 16]
    said = cli("run", "luigi", "one two three")
    assert (said.returncode, said.stdout.strip()) == (0, "one")


def test_deleting_the_base_first_leaves_them_what_they_need(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "anyform" / "models" / "owner" / "bird" / "parrot.echo.json"
    gone = cli("rm", "owner/bird")
    assert gone.returncode == 0, gone.stderr
    assert "deleted the name owner/bird: created models need its files" in gone.stdout
    assert "0 B freed" in cli("rm", "mario").stdout
    assert file.exists()
    assert [one["name"] for one in cli.json("list")] == ["luigi"]
    last = cli.json("rm", "Luigi:latest")
    assert (last["model"], last["recipe"], last["freed_bytes"] > 0) == ("luigi", True, True)
    assert not file.exists()


def test_one_without_its_base_is_told_and_deleted(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "anyform" / "models" / "owner" / "bird" / "parrot.echo.json").unlink()
    listed = cli("list")
    assert "mario was made from owner/bird, whose files are gone" in listed.stderr
    done = cli("rm", "mario")
    assert done.returncode == 0, done.stderr
    assert "deleted mario" in done.stdout
    refused = cli("rm", "mario")
    assert refused.returncode != 0


def test_cleaning_everything_keeps_what_they_are_made_of(cli: Cli, tmp_path: Path) -> None:
    home = tmp_path / "anyform" / "models"
    for name in ("bird", "fish"):
        (folder := home / "owner" / name).mkdir(parents=True, exist_ok=True)
        (folder / "parrot.echo.json").write_text(json.dumps({"format": "echo"}))
        write_record(folder, {"files": {"parrot.echo.json": {"complete": True}}})
    done = cli("clean", "--all", "--yes")
    assert (done.returncode, "kept owner/bird: luigi, mario are made of it" in done.stderr) == (0, True), done.stderr
    assert [path.parent.name for path in home.glob("owner/*/*.json") if path.name[0] != "."] == ["bird"]
