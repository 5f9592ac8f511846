"""A folder that two plugins read is one model with two forms: listed once, decided about with reasons."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from anyform.testing.ctranslate2 import assemble, ct2_variables, write_ct2_whisper
from anyform.testing.whisper import tensors, write_whisper

from .conftest import Cli


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    write_whisper(folder / "theirs")
    variants = write_whisper(folder / "variants")
    shutil.copy(variants / "model.safetensors", variants / "model.fp32.safetensors")
    write_ct2_whisper(folder / "ours")
    translator = write_ct2_whisper(folder / "translator")
    (translator / "model.bin").write_bytes(assemble(ct2_variables(tensors(100)), spec="TransformerSpec"))
    return folder


def test_a_folder_of_two_forms_is_one_model(cli: Cli, models: Path) -> None:
    done = cli("list", "--models", models)
    rows = {line.split()[0]: line.split()[1:3] for line in done.stdout.splitlines()[1:]}
    assert rows["theirs"] == ["safetensors", "whisper"]
    assert rows["variants:main"] == ["safetensors", "whisper"]
    assert rows["variants:F32"] == ["safetensors", "F32"]
    assert rows["ours"] == ["ctranslate2", "float32"]
    assert set(rows) == {"ours", "theirs", "translator", "variants:F32", "variants:main"}


def test_what_is_no_whisper_is_called_what_it_is(cli: Cli, models: Path) -> None:
    said = "model.bin is a CTranslate2 model of the kind TransformerSpec; of those only WhisperSpec is run"
    listed, explained = cli("list", "--models", models), cli("explain", "translator", "--models", models)
    assert said in next(line for line in listed.stdout.splitlines() if line.startswith("translator"))
    assert explained.returncode == 1
    assert said in explained.stdout
    shown, checked = cli("show", "translator", "--models", models), cli("validate", models / "translator")
    assert said in shown.stdout
    assert said in checked.stderr
    assert checked.returncode == 0, "it is sound"
    refused = cli("run", "translator", "--models", models, "hello")
    assert refused.returncode == 1
    assert said in refused.stderr


@pytest.mark.engine
def test_who_reads_it_as_it_is_goes_first_unless_told_otherwise(cli: Cli, models: Path) -> None:
    for package in ("torch", "transformers", "llguidance", "av", "faster_whisper"):
        pytest.importorskip(package)
    plain = cli("explain", "theirs", "--models", models).stdout.splitlines()
    assert plain[0].startswith("1 hf_transformers")
    assert "native format +40" in plain[0]
    assert plain[1].startswith("2 faster_whisper")
    assert "converts on load +15" in plain[1]
    turned = cli("explain", "theirs", "--models", models, "--prefer", "faster_whisper").stdout.splitlines()
    assert turned[0].startswith("1 faster_whisper")
    assert turned[1].startswith("2 hf_transformers")
