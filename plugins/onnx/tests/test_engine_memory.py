"""The estimate of memory against processes that really load and run a model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from anyform.testing.onnxdecoder import write_decoder
from anyform.testing.onnxencoder import write_encoder

pytest.importorskip("onnxruntime")
pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status"),
]
LOAD = """
import sys
from pathlib import Path
from anyform.contract.jobs import Complete, Embed, Generation
from anyform.contract.facts import Plan, Settings
from anyform.contract.model import Stop
from anyform.kernel.files import FolderFiles
from anyform_onnx import detection, engine, memory, metadata
folder, backend = sys.argv[1:]
files = FolderFiles(Path(folder))
[match] = detection.detect(files)
facts = metadata.extract(files, match)
settings = Settings(context=128 if facts.tasks[0] == "embed" else 512, parallel=2, device="cpu")
plan = Plan(plugin="onnx", backend=backend, model="m", path=folder, match=match, metadata=facts, settings=settings)
model = engine.of(backend).load(plan)
job = Embed(inputs=("once " * 120,) * 32) if facts.tasks[0] == "embed" else Complete(
    prompt=tuple(5 + n % 250 for n in range(400)), generation=Generation(max_tokens=4, n=2))
list(model.generate(job, Stop()))
model.close()
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(int(peak.split()[1]) * 1024, memory.estimate(backend, facts, settings).at(settings))
"""


def measured(folder: Path, backend: str) -> float:
    """The estimate as a share of the peak."""
    ended = subprocess.run(
        [sys.executable, "-c", LOAD, str(folder), backend], capture_output=True, text=True, check=False, timeout=100
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    peak, estimated = map(int, ended.stdout.split())
    return estimated / peak


@pytest.mark.parametrize("backend", ["onnxruntime", "onnxruntime_genai"])
def test_a_decoder(tmp_path: Path, backend: str) -> None:
    if backend == "onnxruntime_genai":
        pytest.importorskip("onnxruntime_genai")
    size = {"hidden_size": 256, "intermediate_size": 512, "head_dim": 64, "max_position_embeddings": 1024}
    folder = write_decoder(tmp_path / "m", layout="onnx_genai", **size)
    assert 0.8 < measured(folder, backend) < 1.25


def test_an_encoder(tmp_path: Path) -> None:
    size = {"hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 8, "max_position_embeddings": 512}
    assert 0.75 < measured(write_encoder(tmp_path / "m", pooling="mean", **size), "onnxruntime") < 1.3
