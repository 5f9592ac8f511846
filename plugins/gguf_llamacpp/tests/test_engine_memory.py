"""Models whose memory cannot be cut anywhere: a sliding window that forgets, and a recurrent state; how large it is."""

from __future__ import annotations

import random
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.facts import Metadata, Settings
from anyform.kernel.files import FolderFiles
from anyform.testing import gguf
from anyform.testing.gguf_vocabulary import sentencepiece
from anyform_gguf_llamacpp import cache, memory, plugin
from anyform_gguf_llamacpp.options import Options

WINDOW = 16
PROMPT = "once upon the little girl named Lily was outside and she loved to play"
SAID = re.compile(r"(KV|RS) buffer size =\s*([0-9.]+) MiB")
LOAD = """
import llama_cpp, sys
@llama_cpp.llama_log_callback
def say(level, text, _):
    sys.stdout.write(text.decode(errors="replace"))
llama_cpp.llama_log_set(say, None)
path, context, parallel = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
loading = llama_cpp.llama_model_default_params()
loading.n_gpu_layers = 0
model = llama_cpp.llama_model_load_from_file(path.encode(), loading)
params = llama_cpp.llama_context_default_params()
params.n_ctx, params.n_seq_max, params.kv_unified = context * parallel, parallel, False
params.swa_full = False
assert llama_cpp.llama_init_from_model(model, params)
"""
MIB = 1 << 20
PROMPTS = [f"{word} {PROMPT}" for word in ("the", "and", "was", "to", "play", "she")]


def tensor(chance: random.Random, name: str, shape: tuple[int, ...], centre: float = 0.0, spread: float = 0.2) -> Any:
    count = 1
    for length in shape:
        count *= length
    values = [centre + chance.uniform(-spread, spread) for _ in range(count)]
    return gguf.Tensor(name, shape, gguf.F32, struct.pack(f"<{count}f", *values))


def write_gemma2(path: Path) -> Path:
    """Every second layer sees only the last WINDOW tokens."""
    width, forward, heads, head, layers = 64, 96, 2, 32, 4
    keys: dict[str, Any] = {
        "general.architecture": "gemma2",
        "gemma2.context_length": 512,
        "gemma2.embedding_length": width,
        "gemma2.block_count": layers,
        "gemma2.feed_forward_length": forward,
        "gemma2.attention.head_count": heads,
        "gemma2.attention.head_count_kv": heads,
        "gemma2.attention.key_length": head,
        "gemma2.attention.value_length": head,
        "gemma2.attention.sliding_window": WINDOW,
        "gemma2.attention.layer_norm_rms_epsilon": 1e-5,
        **sentencepiece(),
    }
    chance = random.Random(4)
    vocabulary = len(keys["tokenizer.ggml.tokens"])
    tensors = [
        tensor(chance, "token_embd.weight", (width, vocabulary)),
        tensor(chance, "output_norm.weight", (width,), 1),
    ]
    for layer in range(layers):
        block = f"blk.{layer}."
        for norm in ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"):
            tensors.append(tensor(chance, f"{block}{norm}.weight", (width,), 1.0))
        for name in ("attn_q", "attn_k", "attn_v"):
            tensors.append(tensor(chance, f"{block}{name}.weight", (width, heads * head)))
        tensors.append(tensor(chance, f"{block}attn_output.weight", (heads * head, width)))
        for name in ("ffn_gate", "ffn_up"):
            tensors.append(tensor(chance, f"{block}{name}.weight", (width, forward)))
        tensors.append(tensor(chance, f"{block}ffn_down.weight", (forward, width)))
    return gguf.write_gguf(path, keys, tensors)


def write_mamba(path: Path) -> Path:
    width, inner, state, rank, kernel, layers = 64, 128, 16, 8, 4, 2
    keys: dict[str, Any] = {
        "general.architecture": "mamba",
        "mamba.context_length": 512,
        "mamba.embedding_length": width,
        "mamba.block_count": layers,
        "mamba.feed_forward_length": 0,
        "mamba.attention.head_count": 0,
        "mamba.ssm.conv_kernel": kernel,
        "mamba.ssm.inner_size": inner,
        "mamba.ssm.state_size": state,
        "mamba.ssm.time_step_rank": rank,
        "mamba.attention.layer_norm_rms_epsilon": 1e-5,
        **sentencepiece(),
    }
    chance = random.Random(6)
    vocabulary = len(keys["tokenizer.ggml.tokens"])
    tensors = [
        tensor(chance, "token_embd.weight", (width, vocabulary)),
        tensor(chance, "output_norm.weight", (width,), 1),
    ]
    for layer in range(layers):
        block = f"blk.{layer}."
        tensors += [
            tensor(chance, f"{block}attn_norm.weight", (width,), 1.0),
            tensor(chance, f"{block}ssm_in.weight", (width, 2 * inner)),
            tensor(chance, f"{block}ssm_conv1d.weight", (kernel, inner), 0.2),
            tensor(chance, f"{block}ssm_conv1d.bias", (inner,)),
            tensor(chance, f"{block}ssm_x.weight", (inner, rank + 2 * state)),
            tensor(chance, f"{block}ssm_dt.weight", (rank, inner)),
            tensor(chance, f"{block}ssm_dt.bias", (inner,), -3.0),
            tensor(chance, f"{block}ssm_a", (state, inner), -1.0, 0.5),
            tensor(chance, f"{block}ssm_d", (inner,), 1.0),
            tensor(chance, f"{block}ssm_out.weight", (inner, width)),
        ]
    return gguf.write_gguf(path, keys, tensors)


@pytest.fixture(scope="module", params=["gemma2", "mamba"])
def odd(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("odd") / f"{request.param}.gguf"
    return write_gemma2(path) if request.param == "gemma2" else write_mamba(path)


def test_what_is_reused_gives_the_same_text(odd: Path, engine: Any, kit: Any) -> None:
    fresh = engine.load(odd)
    first = kit.complete(fresh, PROMPT, max_tokens=40, ignore_eos=True)
    again = kit.complete(fresh, PROMPT, max_tokens=40, ignore_eos=True)
    assert again.text == first.text
    longer = PROMPT + first.text + " once upon"
    continued = kit.complete(fresh, longer, max_tokens=20, ignore_eos=True)
    other = kit.complete(engine.load(odd), longer, max_tokens=20, ignore_eos=True)
    assert continued.text[:10] == other.text[:10]


def test_a_window_that_has_moved_on_is_computed_anew(tmp_path: Path, engine: Any, kit: Any) -> None:
    path = write_gemma2(tmp_path / "g.gguf")
    model = engine.load(path, ubatch=32)
    alone = kit.complete(engine.load(path), PROMPT + " the end", max_tokens=30, ignore_eos=True)
    kit.complete(model, PROMPT, max_tokens=300, ignore_eos=True)
    branched = kit.complete(model, PROMPT + " the end", max_tokens=30, ignore_eos=True)
    assert branched.done.usage.cached_tokens == 0
    assert branched.text == alone.text
    kept = engine.load(path, ubatch=32, swa_full=True)
    kit.complete(kept, PROMPT, max_tokens=300, ignore_eos=True)
    reused = kit.complete(kept, PROMPT + " the end", max_tokens=30, ignore_eos=True)
    assert reused.done.usage.cached_tokens > 10
    assert reused.text == alone.text


def test_many_run_together_and_leave_holes(odd: Path, engine: Any, kit: Any) -> None:
    model = engine.load(odd, parallel=6)
    lengths = [60, 5, 60, 5, 5, 60]
    calls = [
        lambda p=p, n=n: kit.complete(model, p, max_tokens=n, ignore_eos=True)
        for p, n in zip(PROMPTS, lengths, strict=True)
    ]
    alone = [call() for call in calls]  # type: ignore[no-untyped-call]
    for _ in range(3):
        for one, other in zip(kit.together(calls), alone, strict=True):
            assert one.done.usage.completion_tokens == other.done.usage.completion_tokens
            assert one.text[:8] == other.text[:8]


def test_several_answers(odd: Path, engine: Any, kit: Any) -> None:
    answered = kit.complete(engine.load(odd), PROMPT, n=3, max_tokens=12, ignore_eos=True)
    assert answered.text_of(0)[:8] == answered.text_of(1)[:8] == answered.text_of(2)[:8]


def read(path: Path) -> Metadata:
    files = FolderFiles(path)
    return plugin.extract_metadata(files, plugin.detect_format(files)[0])


@pytest.mark.engine
@pytest.mark.parametrize(
    ("write", "context", "parallel"),
    [
        (gguf.write_llama, 4096, 1),
        (gguf.write_llama, 4096, 3),
        (write_gemma2, 8192, 1),
        (write_gemma2, 8192, 3),
        (write_gemma2, 512, 2),  # narrower than the window's cells
        (write_mamba, 4096, 3),
    ],
)
def test_caches_are_as_large_as_llama_cpp_makes_them(
    tmp_path: Path, write: Callable[[Path], Path], context: int, parallel: int
) -> None:
    path = write(tmp_path / "m.gguf")
    command = [sys.executable, "-c", LOAD, str(path), str(context), str(parallel)]
    log = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    said = sum(float(size) for _, size in SAID.findall(log)) * MIB
    kept = cache.kept(read(path), Options(), context, parallel)
    assert kept.fixed_bytes + kept.bytes_per_token * context * parallel == pytest.approx(said, abs=0.01 * MIB)
    assert said > 0


def test_the_window_counts_alone_where_a_layer_sees_no_more(tmp_path: Path) -> None:
    metadata = read(write_gemma2(tmp_path / "m.gguf"))
    assert metadata.extra["sliding_window"] == WINDOW
    large, small = (memory.estimate(metadata, Settings(context=context)) for context in (8192, 100))
    assert large.bytes_per_token * 2 == small.bytes_per_token
    assert "window" in large.why
