"""ONNX models by the command line: one model in two forms, and who of two engines runs a folder, in either order."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from anyform.testing.onnxdecoder import write_decoder
from anyform.testing.onnxencoder import write_encoder
from anyform.testing.safetensors import CHATML, write_llama

from .conftest import Cli

ENGINES = ("onnxruntime", "onnxruntime_genai", "tokenizers", "llguidance", "jinja2", "numpy")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_decoder(write_llama(folder / "both", template=CHATML), folder / "both", entry="onnx/model.onnx")
    shutil.copytree(folder / "both", folder / "several")
    for variant, precision in (("fp16", "F16"), ("int8", "I8")):
        write_decoder(folder / "several", folder / "both", entry=f"onnx/model_{variant}.onnx", precision=precision)
    write_decoder(folder / "genai", layout="onnx_genai")
    for variant in ("", "_quantized"):
        write_encoder(folder / "vectors", entry=f"onnx/model{variant}.onnx", pooling="mean")
    lost = write_decoder(folder / "lost", external=True)
    (lost / "model.onnx_data").unlink()
    return folder


def test_a_folder_of_two_forms_is_one_model_and_its_quantizations_are_variants(cli: Cli, models: Path) -> None:
    done = cli("list", "--models", models)
    rows = {line.split("  ")[0]: line for line in done.stdout.splitlines()[1:]}
    assert set(rows) == {
        "both", "several", "several:fp16", "several:int8", "genai", "vectors:fp32", "vectors:quantized", "lost",
    }  # fmt: skip
    assert "safetensors onnx" in rows["both"]
    assert "safetensors onnx" in rows["several"]
    assert "INT8" in rows["several:int8"]
    assert "chat complete" in rows["genai"]
    assert "embed" in rows["vectors:fp32"]


def test_what_a_model_says_of_itself(cli: Cli, models: Path) -> None:
    shown = cli.json("show", "several:fp16", "--models", models)
    assert shown["match"]["entry"] == "onnx/model_fp16.onnx"
    metadata = shown["metadata"]
    assert metadata["version"] == "opset 17"
    assert metadata["quantization"] == "F16"
    assert metadata["extra"]["role"] == "decoder"
    assert metadata["extra"]["inputs"]["input_ids"]["dtype"] == "I64"
    text = cli("show", "genai", "--models", models).stdout
    assert "onnx_genai opset 22" in text
    assert "genai_config.json" in text


@pytest.mark.engine
def test_an_estimate(cli: Cli, models: Path) -> None:
    estimated = cli("estimate", "genai", "--models", models, "--context", "64")
    assert estimated.returncode == 0, estimated.stderr
    assert "onnxruntime_genai" in estimated.stdout


def test_soundness(cli: Cli, models: Path) -> None:
    assert cli("validate", models / "genai").returncode == 0
    broken = cli("validate", models / "lost")
    assert broken.returncode == 1
    assert "model.onnx_data is missing" in broken.stdout + broken.stderr
    refused = cli("run", "lost", "--models", models, "hello")
    assert refused.returncode == 1
    assert "model.onnx_data is missing" in refused.stderr


@pytest.mark.engine
def test_either_engine_takes_a_model_of_two_forms(cli: Cli, models: Path) -> None:
    for package in (*ENGINES, "torch", "transformers"):
        pytest.importorskip(package)

    def order(*arguments: str) -> list[tuple[str, str]]:
        lines = cli("explain", "both", "--models", models, *arguments).stdout.splitlines()[:2]
        return [(line.split()[1], line.rpartition("of ")[2]) for line in lines]

    ours, theirs = ("onnxruntime", "onnx"), ("hf_transformers", "safetensors")
    assert order() == [theirs, ours]
    assert order("--prefer", "onnxruntime") == [ours, theirs]
    assert order("--prefer", "hf_transformers") == [theirs, ours]


@pytest.mark.engine
def test_each_engine_runs_a_genai_folder(cli: Cli, models: Path) -> None:
    """One as it is, the other by reading its graph; the same answer comes of both."""
    for package in ENGINES:
        pytest.importorskip(package)

    def first(*arguments: str) -> str:
        return cli("explain", "genai", "--models", models, *arguments).stdout.splitlines()[0]

    def answer(*arguments: str) -> str:
        done = cli(
            "run", "genai", "--models", models, *arguments, "--temperature", "0", "--max-tokens", "8", "--json", "hello"
        )
        assert done.returncode == 0, done.stderr
        return str(json.loads(done.stdout)["text"])

    assert first().startswith("1 onnxruntime_genai")
    assert "native format +40" in first()
    turned = first("--prefer", "onnxruntime")
    assert turned.startswith("1 onnxruntime ")
    assert "converts on load +15" in turned
    assert answer() == answer("--prefer", "onnxruntime")


@pytest.mark.engine
def test_where_the_first_engine_cannot_load_it_the_next_one_does(cli: Cli, models: Path, tmp_path: Path) -> None:
    """onnxruntime-genai refuses a key that it does not know."""
    for package in ENGINES:
        pytest.importorskip(package)
    folder = shutil.copytree(models / "genai", tmp_path / "models" / "strange")
    config = json.loads((folder / "genai_config.json").read_text())
    config["model"]["decoder"]["of_a_later_release"] = True
    (folder / "genai_config.json").write_text(json.dumps(config))
    done = cli("run", "strange", "--models", tmp_path / "models", "--max-tokens", "4", "hello")
    assert done.returncode == 0, done.stderr
    assert "onnxruntime_genai" in done.stderr
