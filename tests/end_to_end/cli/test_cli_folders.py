"""Hugging Face folders as a user names and deletes them: by the folder's name, whatever their files are called."""

from __future__ import annotations

from pathlib import Path

import pytest

from anyform.testing import gguf
from anyform.testing.safetensors import CHATML, write_bert, write_llama

from .conftest import Cli


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Folders whose files are all called alike, and one of each kind of neighbour."""
    folder = tmp_path / "models"
    write_llama(folder / "owner" / "first", template=CHATML)
    write_llama(folder / "second", template=CHATML, vocab_size=40)
    write_llama(folder / "sharded", template=CHATML, shards=2, vocab_size=48)
    write_llama(folder / "pickled", template=CHATML, pickled=True, vocab_size=56)
    write_bert(folder / "encoder", pooling="mean")
    write_llama(folder / "both", template=CHATML)
    write_llama(folder / "both", template=CHATML, pickled=True)
    write_llama(folder / "forms", template=CHATML)
    gguf.write_llama(folder / "forms" / "forms-F16.gguf", chat_template=gguf.CHATML)
    return folder


def test_no_folder_answers_to_the_name_of_its_file(cli: Cli, models: Path) -> None:
    for name in ("model", "model.safetensors", "model.safetensors.index", "pytorch_model"):
        done = cli("explain", name, "--models", models)
        assert done.returncode == 1
        assert f"no model {name!r}" in done.stderr
        assert "could be" not in done.stderr


@pytest.mark.parametrize("name", ["owner/first", "first", "FIRST", "second", "sharded", "pickled", "encoder", "forms"])
def test_folders_answer_to_their_own(cli: Cli, models: Path, name: str) -> None:
    [found] = [one for one in cli.json("list", "--models", models) if one["name"].casefold().endswith(name.casefold())]
    assert cli.json("show", name, "--models", models)["name"] == found["name"]


@pytest.mark.parametrize("file", ["owner/first/model.safetensors", "pickled/pytorch_model.bin"])
def test_a_file_of_a_folder_means_the_folder(cli: Cli, models: Path, file: str) -> None:
    said = cli.json("validate", models / file)
    assert said["model"] == Path(file).parent.name
    assert said["valid"]


def test_a_model_in_two_forms_is_shown_as_such(cli: Cli, models: Path) -> None:
    listed = cli("list", "--models", models).stdout
    assert "gguf safetensors" in listed
    assert "safetensors pytorch" in listed
    assert "other forms" in cli("show", "both", "--models", models).stdout


def test_one_form_of_two_is_deleted(cli: Cli, models: Path) -> None:
    done = cli("rm", "both", "--models", models, "--force", "--form", "pytorch")
    assert done.returncode == 0, done.stderr
    assert "the pytorch of both" in done.stdout
    assert "kept config.json" in done.stdout
    left = {path.name for path in (models / "both").iterdir()}
    assert "pytorch_model.bin" not in left
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= left
    assert cli.json("validate", models / "both")["valid"]


def test_of_two_forms_nothing_is_deleted_unasked(cli: Cli, models: Path) -> None:
    before = sorted((models / "forms").iterdir())
    done = cli("rm", "forms", "--models", models, "--force")
    assert done.returncode == 1
    for word in ("gguf (", "safetensors (", "--form gguf", "--yes"):
        assert word in done.stderr
    assert cli("rm", "forms", "--models", models, "--force", "--form", "onnx").returncode == 1
    assert sorted((models / "forms").iterdir()) == before
    assert cli("rm", "forms", "--models", models, "--force", "--yes").returncode == 0
    assert list((models / "forms").iterdir()) == []


def test_a_model_of_one_form_is_deleted_unasked(cli: Cli, models: Path) -> None:
    assert cli("rm", "sharded", "--models", models, "--force").returncode == 0
    assert list((models / "sharded").iterdir()) == []
