"""The real exporters, as `anyform export` runs them, in this very environment. Needs torch; tens of seconds each."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.facts import Metadata
from anyform_onnx import export

pytestmark = [
    pytest.mark.engine,
    pytest.mark.full,
    pytest.mark.skipif(
        not all(map(find_spec, ("torch", "transformers", "onnxscript", "onnx_ir", "onnxruntime", "onnxruntime_genai"))),
        reason="what exports is not installed",
    ),
]


@pytest.fixture(scope="module")
def samples() -> Any:
    return pytest.importorskip("anyform_samples.layout")


def cli(*arguments: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "anyform", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def exported(source: Path, target: Path, *tasks: str, precision: str = "fp32") -> None:
    told = export.command(source, target, Metadata(tasks=tasks), precision, "cpu")
    subprocess.run([sys.executable, *told], check=True, capture_output=True, timeout=240)


def test_an_embedding_model_gives_the_vectors_of_torch(samples: Any, tmp_path: Path) -> None:
    np, torch = pytest.importorskip("numpy"), pytest.importorskip("torch")
    transformers, onnxruntime = pytest.importorskip("transformers"), pytest.importorskip("onnxruntime")
    source = Path(samples.SAMPLE).with_name("sample-embed")
    exported(source, tmp_path / "made", "embed", precision="int8")
    assert (tmp_path / "made" / "modules.json").is_file()
    assert not list((tmp_path / "made").rglob("*.safetensors"))
    session = onnxruntime.InferenceSession(str(tmp_path / "made" / "onnx" / "model_int8.onnx"))
    network = transformers.AutoModel.from_pretrained(source, dtype=torch.float32).eval()
    for shape in ((1, 5), (3, 20)):
        mask = np.ones(shape, np.int64)
        mask[-1, shape[1] // 2 :] = 0
        given = {"input_ids": np.arange(shape[0] * shape[1]).reshape(shape) + 5, "attention_mask": mask}
        given["token_type_ids"] = np.zeros(shape, np.int64)
        [found] = session.run(["last_hidden_state"], given)
        with torch.no_grad():
            wanted = network(
                **{name: torch.from_numpy(value) for name, value in given.items()}
            ).last_hidden_state.numpy()
        left, right = found[mask == 1], wanted[mask == 1]
        near = (left * right).sum(-1) / np.linalg.norm(left, axis=-1) / np.linalg.norm(right, axis=-1)
        assert near.min() > 0.999


def test_a_model_that_generates_text_is_exported_and_answers(samples: Any, tmp_path: Path) -> None:
    source = tmp_path / "sample"
    source.mkdir()
    for path in Path(samples.SAMPLE).iterdir():
        if path.suffix != ".gguf":
            shutil.copyfile(path, source / path.name)
    told = cli("export", source, "--to", "onnx", "-o", tmp_path / "made", "--python", sys.executable)
    assert "onnx_genai" in told
    question = ("What is 17 + 25?", "--temperature", "0", "--max-tokens", "20")
    mine = cli("run", tmp_path / "made", *question)
    assert mine
    assert mine == cli("run", source, *question)
