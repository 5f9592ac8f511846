"""Damaged headers: none may crash, hang or fill memory, neither our reader nor the llama.cpp behind it."""

from __future__ import annotations

import importlib.util
import math
import os
import random
import struct
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.facts import Severity
from anyform.kernel.files import FolderFiles
from anyform.testing.gguf import (
    BOOL,
    CHATML,
    FLOAT32,
    FLOAT64,
    INT32,
    TENSOR_TYPES,
    UINT16,
    UINT32,
    UINT64,
    Tensor,
    Typed,
    bert,
    llama,
    write_gguf,
)
from anyform_gguf_llamacpp import gguf, plugin

ALL = 2000
SHORT = 200
SEED = 20_240
SLOWEST_S = 2.0
MOST_BYTES = 200 << 20
NATIVE = Path(__file__).with_name("native_load.py")
NATIVE_WAIT_S = 300

Model = tuple[dict[str, Any], list[Tensor]]

NUMBERS = (0, 1, 2, 3, 5, 7, 8, 31, 32, 33, 63, 64, 65, 96, 127, 255, 256, 513, 65_535, 2**31 - 1, 2**31, 2**32 - 1)
WIDE_NUMBERS = (*NUMBERS, 2**33, 2**63 - 1, 2**63, 2**64 - 1)
REALS = (0.0, -1.0, 1e-30, 1e30, math.nan, math.inf, -math.inf, 1e-5)
TEXTS = (
    "", "llama", "bert", "gpt2", "t5", "rwkv", "none", "no_vocab", "plamo2", "gemma4", "yarn", "longrope", "qwen2",
    "falcon", "phi3", "gemma", "mamba", "nomic-bert", "clip", "default", "llama-bpe", "\0", "x" * 300,
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    *(Typed(kind, 1) for kind in range(6)), Typed(BOOL, True), Typed(UINT64, 1), Typed(FLOAT64, 1.0), "text", [1, 2],
    ["a"], [1.0, 2.0], Typed(UINT32, [2, 2]), Typed(INT32, []), Typed(BOOL, [True]), Typed(FLOAT32, [2.0, 2.0]),
)  # fmt: skip
ADDED_KEYS = (
    "attention.sliding_window", "attention.key_length", "attention.value_length", "attention.causal",
    "attention.scale", "attention.clamp_kqv", "attention.max_alibi_bias", "attention.layer_norm_rms_epsilon",
    "expert_count", "expert_used_count", "expert_group_count", "pooling_type", "rope.dimension_count",
    "rope.dimension_sections", "rope.scaling.type", "rope.scaling.factor", "rope.scaling.attn_factor",
    "rope.scaling.original_context_length", "classifier.output_labels", "nextn_predict_layers",
    "embedding_length_out", "logit_scale", "vocab_size",
)  # fmt: skip
ADDED_TENSORS = (
    "rope_freqs.weight", "blk.0.attn_q.bias", "blk.0.attn_norm.bias", "cls.weight", "cls.output.weight", "output.bias",
    "blk.0.attn_q_norm.weight", "blk.0.attn_output.bias", "blk.0.ffn_gate_inp.weight", "blk.0.attn_q.scale",
)  # fmt: skip
KINDS = (*TENSOR_TYPES.values(), 2, 4, 9, 20, 24, 25, 26, 27, 28, 30, 39, 42, 43, 255)


def models() -> list[Model]:
    """What is damaged: models that use many keys, of both architectures."""
    told = {
        "general.alignment": 32,
        "llama.rope.freq_base": 10_000.0,
        "llama.rope.scaling.type": "linear",
        "llama.attention.key_length": 16,
        "llama.attention.value_length": 16,
        "llama.expert_count": 0,
    }
    layered = {
        "llama.attention.head_count": [4, 4],
        "llama.attention.head_count_kv": [2, 2],
        "llama.feed_forward_length": [96, 96],
        "llama.rope.scaling.type": "yarn",
        "llama.rope.scaling.factor": 2.0,
    }
    return [
        llama(extra=told, chat_template=CHATML),
        llama(extra=layered, quantization="Q8_0"),
        llama(tokenizer="bpe", chat_template=CHATML),
        bert(),
        bert(pooling="rank"),
    ]


def mutants(folder: Path, count: int, seed: int) -> list[Path]:
    """*count* damaged files, each in a folder of its own: half of them in their bytes, half in their meaning."""
    chance = random.Random(seed)
    sound = models()
    data = [write_gguf(folder / "sound" / f"{place}.gguf", *model).read_bytes() for place, model in enumerate(sound)]
    paths = []
    for number in range(count):
        path = folder / f"{number:04}" / "model.gguf"
        path.parent.mkdir()
        if number % 2:
            path.write_bytes(damage(chance, chance.choice(data)))
        else:
            keys, tensors = chance.choice(sound)
            distort(chance, path, dict(keys), list(tensors))
        paths.append(path)
    return paths


def damage(chance: random.Random, data: bytes) -> bytes:
    """Flip, overwrite, cut, drop and insert bytes of the header, mostly outside the vocabulary."""
    header = gguf.parse(data, len(data))
    arrays = [value for value in header.keys.values() if isinstance(value, gguf.Array)]
    result = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        if len(result) < 8:
            break
        place = min(_place(chance, header.end, arrays), len(result) - 8)
        match chance.randrange(6):
            case 0 | 1:
                result[place] ^= 1 << chance.randrange(8)
            case 2:
                layout = chance.choice(("<I", "<Q"))
                number = chance.choice(WIDE_NUMBERS) % (1 << 8 * struct.calcsize(layout))
                result[place : place + struct.calcsize(layout)] = struct.pack(layout, number)
            case 3:
                del result[chance.randrange(len(result)) :]
            case 4:
                del result[place : place + chance.randrange(1, 16)]
            case _:
                result[place:place] = chance.randbytes(chance.randrange(1, 16))
    return bytes(result)


def _place(chance: random.Random, end: int, arrays: Sequence[gguf.Array]) -> int:
    for _ in range(20):
        place = chance.randrange(end)
        if not any(array.offset <= place < array.offset + array.size for array in arrays):
            break
    return place


def distort(chance: random.Random, path: Path, keys: dict[str, Any], tensors: list[Tensor]) -> None:
    """Write a whole file whose keys or tensors say something else."""
    for _ in range(chance.choice((1, 1, 2))):
        chance.choice((_value, _value, _value, _type, _missing, _element, _added, _tensor, _tensor))(
            chance, keys, tensors
        )
    write_gguf(path, keys, tensors)


def _value(chance: random.Random, keys: dict[str, Any], tensors: list[Tensor]) -> None:
    key = chance.choice([key for key, value in keys.items() if not isinstance(value, list)])
    value = keys[key]
    if isinstance(value, bool):
        keys[key] = not value
    elif isinstance(value, int | float | str):
        keys[key] = chance.choice(NUMBERS if isinstance(value, int) else REALS if isinstance(value, float) else TEXTS)


def _type(chance: random.Random, keys: dict[str, Any], tensors: list[Tensor]) -> None:
    keys[chance.choice(list(keys))] = chance.choice(VALUES)


def _missing(chance: random.Random, keys: dict[str, Any], tensors: list[Tensor]) -> None:
    del keys[chance.choice(list(keys))]


def _added(chance: random.Random, keys: dict[str, Any], tensors: list[Tensor]) -> None:
    key = f"{keys.get('general.architecture', 'llama')}.{chance.choice(ADDED_KEYS)}"
    numbers = (chance.choice(NUMBERS), chance.choice(REALS), chance.choice(TEXTS), True, ["a", "b"], [1, 2])
    keys[key] = chance.choice((*numbers, Typed(UINT16, 1)))


def _element(chance: random.Random, keys: dict[str, Any], tensors: list[Tensor]) -> None:
    """Drop, double, swap or change an element of an array."""
    arrays = [key for key, value in keys.items() if isinstance(value, list) and value]
    if not arrays:
        return
    key = chance.choice(arrays)
    values = list(keys[key])
    place, other = chance.randrange(len(values)), values[chance.randrange(len(values))]
    new = chance.choice(TEXTS if isinstance(other, str) else NUMBERS[:8] if isinstance(other, int) else REALS)
    keys[key] = chance.choice(
        (
            values[:place],
            values[:place] + values[place + 1 :],
            [*values[:place], other, *values[place:]],
            [*values[:place], other, *values[place + 1 :]],
            [*values[:place], new, *values[place + 1 :]],
        )
    )


def _tensor(chance: random.Random, keys: dict[str, Any], tensors: list[Tensor]) -> None:
    """Another type, shape, name or number of tensors; their data stays as it is."""
    place = chance.randrange(len(tensors))
    tensor = tensors[place]
    shape = list(tensor.shape)
    shapes: Sequence[list[int]] = (
        [*shape, 1],
        [1, *shape],
        shape[::-1],
        [math.prod(shape)],
        [],
        [number // 2 for number in shape],
    )
    match chance.randrange(5):
        case 0:
            tensors[place] = replace(tensor, kind=chance.choice(KINDS))
        case 1:
            tensors[place] = replace(tensor, shape=tuple(chance.choice(shapes)))
        case 2:
            del tensors[place]
        case 3:
            name = chance.choice((*ADDED_TENSORS, tensor.name + "x", chance.choice(tensors).name))
            tensors[place] = replace(tensor, name=name)
        case _:
            kind, length = chance.choice(((0, 4), (1, 2), (26, 4))), chance.choice((1, 8, 64))
            tensors.append(Tensor(chance.choice(ADDED_TENSORS), (length,), kind[0], bytes(length * kind[1])))


def sound(path: Path) -> bool:
    """Whether validation lets the file through. Nothing may raise, take long or fill memory."""
    began = time.perf_counter()
    files = FolderFiles(path.parent)
    [match] = plugin.detect_format(files)
    findings = plugin.validate(files, match)
    plugin.extract_metadata(files, match)
    assert time.perf_counter() - began < SLOWEST_S, path
    return all(finding.severity is not Severity.CRITICAL for finding in findings)


def test_reading_survives_2000_damaged_headers(tmp_path: Path) -> None:
    passed = sum(map(sound, mutants(tmp_path, ALL, SEED)))
    # Neither all nor nothing: some of the damage is to words that nothing depends on.
    assert ALL // 20 < passed < ALL // 2


def test_reading_damaged_headers_takes_little_memory(tmp_path: Path) -> None:
    paths = mutants(tmp_path, SHORT, SEED)
    tracemalloc.start()
    for path in paths:
        sound(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MOST_BYTES // 10


@pytest.mark.engine
@pytest.mark.skipif(importlib.util.find_spec("llama_cpp") is None, reason="llama-cpp-python is not installed")
@pytest.mark.parametrize("count", [SHORT, pytest.param(ALL, marks=pytest.mark.full)])
def test_what_validation_lets_through_does_not_crash_the_engine(tmp_path: Path, count: int) -> None:
    passed = [path for path in mutants(tmp_path, count, SEED + count) if sound(path)]
    assert passed
    outcomes = load_natively(passed)
    assert set(outcomes) == {str(path) for path in passed}
    assert {outcome for outcome, _ in outcomes.values()} == {"loaded", "refused"}
    assert max(peak for _, peak in outcomes.values()) < MOST_BYTES


def load_natively(paths: Sequence[Path]) -> dict[str, tuple[str, int]]:
    """Path -> (outcome, peak memory of the process until then), from one process that loads them all.

    A file that ends the process fails the test by its name.
    """
    names = "".join(f"{path}\n" for path in paths)
    environment = {**os.environ, "GGML_NO_BACKTRACE": "1"}
    done = subprocess.run(
        [sys.executable, str(NATIVE)],
        input=names, capture_output=True, text=True, timeout=NATIVE_WAIT_S, env=environment,
    )  # fmt: skip
    outcomes: dict[str, tuple[str, int]] = {}
    current = ""
    for line in done.stdout.splitlines():
        if line.startswith("> "):
            current = line[2:]
        else:
            outcome, peak = line.split()
            outcomes[current] = (outcome, int(peak))
    assert done.returncode == 0, f"the engine died with {done.returncode} on {current}"
    return outcomes
