"""Writes a tiny Whisper as CTranslate2 keeps it, in pure Python: the weights of `write_whisper` with the same seed.

The layout is that of CTranslate2's `specs/model_spec.py` (ModelSpec._serialize) and `specs/whisper_spec.py`.
"""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from anyform.testing.safetensors import Tensor, write_json
from anyform.testing.whisper import BANDS, HEADS, generation, tensors, vocabulary, write_preparation

KINDS = ("float32", "int8", "int16", "int32", "float16", "bfloat16")
"""Of a variable, by the number that stands for each."""
VERSION, REVISION = 6, 3
POSITIONS = 448
"""As every Whisper has: faster-whisper counts on it."""
_NUMBERS = {"int8": "b", "int16": "h"}
_STATED = {
    "encoder/num_heads": ("int16", 2), "decoder/num_heads": ("int16", 2), "decoder/pre_norm": ("int8", 1),
    "decoder/activation": ("int8", 3), "decoder/alignment_layer": ("int16", -1),
    "decoder/alignment_heads": ("int16", 1), "decoder/scale_embeddings": ("int8", 0), "decoder/alibi": ("int8", 0),
    "decoder/alibi_use_positive_positions": ("int8", 0), "decoder/scale_alibi": ("int8", 0),
    "decoder/start_from_zero_embedding": ("int8", 0),
}  # fmt: skip
_TIED = {"decoder/projection/weight": "decoder/embeddings/weight"}


@dataclass(frozen=True)
class Variable:
    """A named array of a model.bin, of one of KINDS; a single number has no shape."""

    name: str
    shape: tuple[int, ...]
    kind: str
    data: bytes


def write_ct2_whisper(
    folder: Path, *, english: bool = False, heads: bool = True, quantization: str = "float32", bands: int = BANDS,
    positions: int = POSITIONS, seed: int = 0,
) -> Path:  # fmt: skip
    """A Whisper that CTranslate2 and faster-whisper load. *quantization*: float32, float16, int8 (int8_float32) or
    int8_float16; *heads*: whether words can be timed; *bands*: of the sound's spectrum, 80 or 128.
    """
    words = vocabulary(english)
    folder.mkdir(parents=True, exist_ok=True)
    variables = ct2_variables(tensors(len(words), bands, positions, seed), quantization)
    (folder / "model.bin").write_bytes(assemble(variables))
    write_json(folder / "config.json", ct2_config(english, heads))
    write_json(folder / "vocabulary.json", words)
    write_preparation(folder, english, bands)
    return folder


def ct2_config(english: bool = False, heads: bool = True) -> dict[str, object]:
    """config.json, which says nothing of the model's kind."""
    said = generation(english)
    config = {
        "lang_ids": sorted(said.get("lang_to_id", {}).values()),
        "suppress_ids": said["suppress_tokens"],
        "suppress_ids_begin": said["begin_suppress_tokens"],
    }
    return config | ({"alignment_heads": [list(head) for head in HEADS]} if heads else {})


def ct2_variables(parts: Iterable[Tensor], quantization: str = "float32") -> list[Variable]:
    """Transformers' Whisper as CTranslate2 names and joins it, in the order of names."""
    found = {part.name.removeprefix("model."): part for part in parts}
    made = [_single(name, *stated) for name, stated in _STATED.items()]
    for name, shape, numbers in _joined(found):
        made += _quantized(name, shape, numbers, quantization)
    return sorted(made, key=lambda one: one.name)


def assemble(
    variables: Iterable[Variable], aliases: Mapping[str, str] = _TIED, *, spec: str = "WhisperSpec",
    version: int = VERSION, revision: int = REVISION,
) -> bytes:  # fmt: skip
    """A whole model.bin. *aliases*: names that stand for another variable."""
    listed = list(variables)
    made = [struct.pack("<I", version), _text(spec), struct.pack("<II", revision, len(listed))]
    for one in listed:
        made += [_text(one.name), struct.pack(f"<B{len(one.shape)}I", len(one.shape), *one.shape)]
        made += [struct.pack("<BI", KINDS.index(one.kind), len(one.data)), one.data]
    made.append(struct.pack("<I", len(aliases)))
    return b"".join([*made, *(_text(name) for pair in aliases.items() for name in pair)])


def _text(text: str) -> bytes:
    data = text.encode() + b"\0"
    return struct.pack("<H", len(data)) + data


def _single(name: str, kind: str, number: int) -> Variable:
    return Variable(name, (), kind, struct.pack(f"<{_NUMBERS[kind]}", number))


def _joined(found: Mapping[str, Tensor]) -> Iterable[tuple[str, tuple[int, ...], array[float]]]:
    """Names, shapes and numbers; the matrices of queries, keys and values stand as one, and keys get zeros as bias."""
    for name, part in found.items():
        if ".k_proj." in name or ".v_proj." in name:
            continue
        scope, last = name.rsplit(".", 1)
        if not scope.endswith(".q_proj"):
            yield _renamed(scope, last), part.shape, _numbers(part)
            continue
        attention = scope.removesuffix(".q_proj")
        for place, letters in enumerate(("qkv",) if attention.endswith("self_attn") else ("q", "kv")):
            rows = array("f")
            for letter in letters:
                one = found.get(f"{attention}.{letter}_proj.{last}")
                rows += _numbers(one) if one else array("f", [0.0] * part.shape[0])
            shape = (len(letters) * part.shape[0], *part.shape[1:])
            yield f"{_renamed(attention, '')}linear_{place}/{last}", shape, rows


def _renamed(scope: str, last: str) -> str:
    """Such as decoder/layer_0/attention/linear_2/weight."""
    parts = f"{scope}.".replace(".layers.", ".layer_").replace("encoder_attn", "attention")
    parts = parts.replace("self_attn", "self_attention").replace("attention_layer_norm", "attention.layer_norm")
    parts = (
        parts.replace("final_layer_norm", "ffn.layer_norm")
        .replace("fc1", "ffn.linear_0")
        .replace("fc2", "ffn.linear_1")
    )
    out = "linear_1" if "self_attention" in parts else "linear_2"
    parts = parts.replace("out_proj", out).replace("embed_tokens", "embeddings")
    if "embed_positions" in parts:
        parts, last = parts.replace("embed_positions", "position_encodings"), "encodings"
    if parts.endswith("layer_norm."):
        last = {"weight": "gamma", "bias": "beta"}[last]
    return parts.replace(".", "/") + last


def _numbers(part: Tensor) -> array[float]:
    return array("f", struct.unpack(f"<{math.prod(part.shape)}f", part.data))


def _quantized(name: str, shape: tuple[int, ...], numbers: array[float], quantization: str) -> list[Variable]:
    """LayerSpec._quantize: matrices row by row for int8, the rest as the second half of the name says."""
    plain = "float16" if quantization.endswith("float16") else "float32"
    if not (quantization.startswith("int8") and name.endswith("/weight")):
        letter = "e" if plain == "float16" else "f"
        return [Variable(name, shape, plain, struct.pack(f"<{len(numbers)}{letter}", *numbers))]
    width = math.prod(shape[1:])
    rows = [numbers[place : place + width] for place in range(0, len(numbers), width)]
    scales = array("f", (127 / max(map(abs, row)) for row in rows))
    whole = [
        round(one) for row, scale in zip(rows, scales, strict=True) for one in array("f", (n * scale for n in row))
    ]
    return [
        Variable(name, shape, "int8", struct.pack(f"<{len(whole)}b", *whole)),
        Variable(f"{name}_scale", (len(rows),), "float32", struct.pack(f"<{len(scales)}f", *scales)),
    ]
