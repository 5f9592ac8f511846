"""What the writer of tiny models writes is what llama.cpp reads: every kind of file loads, decodes and spells."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from anyform.testing.gguf import CHATML, quantize_q8_0, write_bert, write_llama, write_lora, write_mmproj, write_split

NATIVE = Path(__file__).with_name("native_load.py")
WAIT_S = 120

engine = pytest.mark.skipif(importlib.util.find_spec("llama_cpp") is None, reason="llama-cpp-python is not installed")

COMPANIONS = """
import json, os, sys
model, projector, adapter = sys.argv[1:]
out = os.fdopen(os.dup(1), "w")
null = os.open(os.devnull, os.O_WRONLY)
os.dup2(null, 1)
os.dup2(null, 2)
import llama_cpp
from llama_cpp import mtmd_cpp
llama_cpp.llama_backend_init()
handle = llama_cpp.llama_model_load_from_file(model.encode(), llama_cpp.llama_model_default_params())
params = mtmd_cpp.mtmd_context_params_default()
params.use_gpu = False
eyes = mtmd_cpp.mtmd_init_from_file(projector.encode(), handle, params)
json.dump({
    "sees": bool(eyes) and mtmd_cpp.mtmd_support_vision(eyes),
    "adapts": bool(llama_cpp.llama_adapter_lora_init(handle, adapter.encode())),
}, out)
out.flush()
"""


@engine
@pytest.mark.engine
def test_every_kind_of_model_loads(tmp_path: Path) -> None:
    paths = [
        write_llama(tmp_path / "f32.gguf", quantization="F32"),
        write_llama(tmp_path / "f16.gguf", chat_template=CHATML),
        write_llama(tmp_path / "q8_0.gguf", quantization="Q8_0"),
        write_llama(tmp_path / "bpe.gguf", tokenizer="bpe"),
        write_llama(tmp_path / "large.gguf", layers=3, embedding=128, heads=8, kv_heads=1, feed_forward=160),
        write_bert(tmp_path / "mean.gguf"),
        write_bert(tmp_path / "cls.gguf", pooling="cls", quantization="Q8_0"),
        write_bert(tmp_path / "rank.gguf", pooling="rank", quantization="F32"),
        write_split(tmp_path, "split", 3)[0],
    ]
    done = _run([str(NATIVE)], "".join(f"{path}\n" for path in paths))
    outcomes = [line.split()[0] for line in done.splitlines() if not line.startswith(">")]
    assert outcomes == ["loaded"] * len(paths)


@engine
@pytest.mark.engine
def test_companions_load(tmp_path: Path) -> None:
    files = (write_llama(tmp_path / "m.gguf"), write_mmproj(tmp_path / "p.gguf"), write_lora(tmp_path / "l.gguf"))
    said = json.loads(_run(["-c", COMPANIONS, *map(str, files)], ""))
    assert said == {"sees": True, "adapts": True}


def _run(arguments: list[str], given: str) -> str:
    environment = {**os.environ, "GGML_NO_BACKTRACE": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], input=given, capture_output=True, text=True, timeout=WAIT_S, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_same_seed_same_file(tmp_path: Path) -> None:
    first, second, other = (write_llama(tmp_path / f"{n}.gguf", seed=seed) for n, seed in enumerate((1, 1, 2)))
    assert first.read_bytes() == second.read_bytes() != other.read_bytes()


def test_q8_0_is_the_formats_own() -> None:
    np: Any = pytest.importorskip("numpy")
    quants: Any = pytest.importorskip("gguf.quants")
    chance = random.Random(3)
    values = [chance.uniform(-2, 2) for _ in range(64)] + [0.0] * 32
    raw = np.frombuffer(quantize_q8_0(values), dtype=np.uint8)
    back = quants.Q8_0.dequantize_blocks(raw.reshape(-1, 34)).reshape(-1)
    assert np.abs(back - np.array(values)).max() < 2 / 127
