"""Writes tiny GGUF files in pure Python: models of random weights that llama.cpp really loads, and broken ones.

Written for the format's specification, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3.
"""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anyform.testing.gguf_vocabulary import NORMAL, byte_pairs, sentencepiece, wordpiece

ALIGNMENT = 32
UINT8, INT8, UINT16, INT16, UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY, UINT64, INT64, FLOAT64 = range(13)
LETTERS = {
    UINT8: "B", INT8: "b", UINT16: "H", INT16: "h", UINT32: "I", INT32: "i",
    FLOAT32: "f", BOOL: "?", UINT64: "Q", INT64: "q", FLOAT64: "d",
}  # fmt: skip
"""`struct` letter of each value type of fixed size."""

F32, F16, Q8_0 = 0, 1, 8
TENSOR_TYPES = {"F32": F32, "F16": F16, "Q8_0": Q8_0}
FILE_TYPES = {"F32": 0, "F16": 1, "Q8_0": 7}
POOLING = {"none": 0, "mean": 1, "cls": 2, "last": 3, "rank": 4}
Q8_0_BLOCK = 32
TOKENIZERS = {"sentencepiece": sentencepiece, "bpe": byte_pairs}

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""A chat template for `llama(chat_template=...)`; its markers are in every vocabulary written here."""


@dataclass(frozen=True)
class Typed:
    """A value with its GGUF type, where Python's own type does not say it. For arrays: the type of the elements."""

    kind: int
    value: Any


@dataclass(frozen=True)
class Tensor:
    """A named tensor; `shape` has the row length first, as GGUF stores it."""

    name: str
    shape: tuple[int, ...]
    kind: int
    data: bytes


def write_gguf(
    path: Path,
    keys: Mapping[str, Any],
    tensors: Sequence[Tensor] = (),
    *,
    version: int = 3,
    alignment: int = ALIGNMENT,
    big_endian: bool = False,
) -> Path:
    """Write any GGUF file, sound or not.

    Python types become bool, float32, string, uint32 (int32 if negative, uint64 if large) and arrays of int32,
    float32 or strings; `Typed` says another. *alignment* other than 32 is not written as a key by itself.
    """
    order = ">" if big_endian else "<"
    head = b"GGUF" + struct.pack(f"{order}IQQ", version, len(tensors), len(keys))
    head += b"".join(_string(key, order) + _value(value, order) for key, value in keys.items())
    offset = 0
    for tensor in tensors:
        head += _string(tensor.name, order) + struct.pack(f"{order}I", len(tensor.shape))
        head += struct.pack(f"{order}{len(tensor.shape)}QIQ", *tensor.shape, tensor.kind, offset)
        offset += _padded(len(tensor.data), alignment)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(head)
        if tensors:
            file.write(bytes(_padded(len(head), alignment) - len(head)))
        for tensor in tensors:
            file.write(tensor.data + bytes(_padded(len(tensor.data), alignment) - len(tensor.data)))
    return path


def llama(
    *,
    seed: int = 0,
    quantization: str = "F16",
    context: int = 256,
    chat_template: str | None = None,
    tokenizer: str = "sentencepiece",
    layers: int = 2,
    embedding: int = 64,
    heads: int = 4,
    kv_heads: int = 2,
    feed_forward: int = 96,
    extra: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], list[Tensor]]:
    """Keys and tensors of a llama of random weights, which talks nonsense.

    It has some 400 tokens, every byte among them, and 0.1 M parameters. *quantization*: F32, F16 or Q8_0 (then
    *embedding* and *feed_forward* are multiples of 32). *tokenizer*: sentencepiece, or bpe (GPT-2's, on bytes, with
    tokens for filling in the middle). *extra*: keys to add or replace; a None removes one.
    """
    keys = llama_keys(quantization, context, layers, embedding, heads, kv_heads, feed_forward)
    keys |= TOKENIZERS[tokenizer]()
    if chat_template is not None:
        keys["tokenizer.chat_template"] = chat_template
    return _merged(keys, extra), _llama_tensors(random.Random(seed), keys, quantization)


def bert(
    *,
    pooling: str = "mean",
    seed: int = 0,
    quantization: str = "F16",
    context: int = 64,
    layers: int = 2,
    embedding: int = 64,
    extra: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], list[Tensor]]:
    """Keys and tensors of a BERT of random weights, which embeds; with *pooling* "rank" a reranker with its head."""
    keys = _bert_keys(quantization, pooling, context, layers, embedding) | wordpiece()
    return _merged(keys, extra), _bert_tensors(random.Random(seed), keys, quantization, pooling == "rank")


def write_llama(path: Path, **model: Any) -> Path:
    """Write `llama(**model)`."""
    return write_gguf(path, *llama(**model))


def write_bert(path: Path, **model: Any) -> Path:
    """Write `bert(**model)`."""
    return write_gguf(path, *bert(**model))


def write_split(folder: Path, stem: str, shards: int, **model: Any) -> list[Path]:
    """`llama(**model)` in *shards* files."""
    return write_shards(folder, stem, shards, *llama(**model))


def write_shards(
    folder: Path, stem: str, shards: int, keys: Mapping[str, Any], tensors: Sequence[Tensor]
) -> list[Path]:
    """A model in *shards* files, named and marked as llama-gguf-split does."""
    share = math.ceil(len(tensors) / shards)
    paths = []
    for number in range(shards):
        marks = {
            "split.no": Typed(UINT16, number),
            "split.count": Typed(UINT16, shards),
            "split.tensors.count": Typed(INT32, len(tensors)),
        }
        path = folder / f"{stem}-{number + 1:05}-of-{shards:05}.gguf"
        own = keys if number == 0 else {}
        paths.append(write_gguf(path, {**own, **marks}, tensors[number * share : (number + 1) * share]))
    return paths


def write_vocab_only(path: Path, *, tokens: int = 0) -> Path:
    """A tokenizer without a model; *tokens* pads the vocabulary to that many."""
    vocabulary = sentencepiece()
    missing = max(0, tokens - len(vocabulary["tokenizer.ggml.tokens"]))
    vocabulary["tokenizer.ggml.tokens"] += [f"<extra_{number}>" for number in range(missing)]
    vocabulary["tokenizer.ggml.scores"] += [0.0] * missing
    vocabulary["tokenizer.ggml.token_type"] += [NORMAL] * missing
    keys = llama_keys("F16", 256, 2, 64, 4, 2, 96)
    keys["llama.vocab_size"] = len(vocabulary["tokenizer.ggml.tokens"])
    return write_gguf(path, keys | vocabulary)


def write_mmproj(path: Path, *, embedding: int = 64, seed: int = 0, extra: Mapping[str, Any] | None = None) -> Path:
    """A vision projector of random weights for a model of this embedding length: 4 tokens a picture of 28 x 28."""
    width, patch, forward, patches = 32, 14, 64, 4
    keys = {
        "general.architecture": "clip",
        "general.type": "mmproj",
        "general.file_type": FILE_TYPES["F16"],
        "clip.has_vision_encoder": True,
        "clip.projector_type": "mlp",
        "clip.use_gelu": True,
        "clip.vision.image_size": 2 * patch,
        "clip.vision.patch_size": patch,
        "clip.vision.embedding_length": width,
        "clip.vision.feed_forward_length": forward,
        "clip.vision.block_count": 2,
        "clip.vision.attention.head_count": 2,
        "clip.vision.attention.layer_norm_epsilon": 1e-5,
        "clip.vision.projection_dim": embedding,
        "clip.vision.image_mean": [0.5, 0.5, 0.5],
        "clip.vision.image_std": [0.5, 0.5, 0.5],
    }
    shapes: dict[str, tuple[int, ...]] = {
        "v.patch_embd.weight": (patch, patch, 3, width),
        "v.position_embd.weight": (width, patches),
        **_linear("mm.0", width, embedding),
        **_linear("mm.2", embedding, embedding),
    }
    for layer in range(2):
        block = f"v.blk.{layer}"
        shapes |= _norm(f"{block}.ln1", width) | _norm(f"{block}.ln2", width)
        for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
            shapes |= _linear(f"{block}.{name}", width, width)
        shapes |= _linear(f"{block}.ffn_up", width, forward) | _linear(f"{block}.ffn_down", forward, width)
    chance = random.Random(seed)
    tensors = [_tensor(chance, name, shape, "F16") for name, shape in shapes.items()]
    return write_gguf(path, _merged(keys, extra), tensors)


def write_lora(path: Path, *, embedding: int = 64, rank: int = 4, seed: int = 0, alpha: float = 4.0) -> Path:
    """A LoRA adapter for the first query projection of `write_llama`'s model."""
    chance = random.Random(seed)
    keys = {
        "general.architecture": "llama",
        "general.type": "adapter",
        "adapter.type": "lora",
        "adapter.lora.alpha": float(alpha),
    }
    shapes = {"blk.0.attn_q.weight.lora_a": (embedding, rank), "blk.0.attn_q.weight.lora_b": (rank, embedding)}
    return write_gguf(path, keys, [_tensor(chance, name, shape, "F32") for name, shape in shapes.items()])


def llama_keys(
    quantization: str, context: int, layers: int, embedding: int, heads: int, kv_heads: int, feed_forward: int
) -> dict[str, Any]:
    """The keys of a llama, without a tokenizer."""
    return {
        "general.architecture": "llama",
        "general.type": "model",
        "general.name": "Tiny random llama",
        "general.license": "apache-2.0",
        "llama.context_length": context,
        "llama.embedding_length": embedding,
        "llama.block_count": layers,
        "llama.feed_forward_length": feed_forward,
        "llama.attention.head_count": heads,
        "llama.attention.head_count_kv": kv_heads,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": embedding // heads,
        "general.file_type": FILE_TYPES[quantization],
    }


def _bert_keys(quantization: str, pooling: str, context: int, layers: int, embedding: int) -> dict[str, Any]:
    return {
        "general.architecture": "bert",
        "general.type": "model",
        "general.name": "Tiny random bert",
        "bert.context_length": context,
        "bert.embedding_length": embedding,
        "bert.block_count": layers,
        "bert.feed_forward_length": 2 * embedding,
        "bert.attention.head_count": 4,
        "bert.attention.layer_norm_epsilon": 1e-12,
        "bert.attention.causal": False,
        "bert.pooling_type": POOLING[pooling],
        "general.file_type": FILE_TYPES[quantization],
    }


def _llama_tensors(chance: random.Random, keys: Mapping[str, Any], quantization: str) -> list[Tensor]:
    width, vocabulary = keys["llama.embedding_length"], len(keys["tokenizer.ggml.tokens"])
    head, forward = width // keys["llama.attention.head_count"], keys["llama.feed_forward_length"]
    kv_width = head * keys["llama.attention.head_count_kv"]
    shapes: dict[str, tuple[int, ...]] = {"token_embd": (width, vocabulary), "output_norm": (width,)}
    shapes["output"] = (width, vocabulary)
    for layer in range(keys["llama.block_count"]):
        block = f"blk.{layer}."
        shapes |= {block + "attn_norm": (width,), block + "ffn_norm": (width,)}
        shapes |= {block + "attn_q": (width, width), block + "attn_output": (width, width)}
        shapes |= {block + "attn_k": (width, kv_width), block + "attn_v": (width, kv_width)}
        shapes |= {block + "ffn_gate": (width, forward), block + "ffn_up": (width, forward)}
        shapes[block + "ffn_down"] = (forward, width)
    return [_tensor(chance, f"{name}.weight", shape, quantization) for name, shape in shapes.items()]


def _bert_tensors(chance: random.Random, keys: Mapping[str, Any], quantization: str, ranks: bool) -> list[Tensor]:
    width, forward = keys["bert.embedding_length"], keys["bert.feed_forward_length"]
    linear = {"attn_q": (width, width), "attn_k": (width, width), "attn_v": (width, width)}
    linear |= {"attn_output": (width, width), "ffn_up": (width, forward), "ffn_down": (forward, width)}
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (width, len(keys["tokenizer.ggml.tokens"])),
        "token_types.weight": (width, 2),
        "position_embd.weight": (width, keys["bert.context_length"]),
    }
    shapes |= _norm("token_embd_norm", width)
    for layer in range(keys["bert.block_count"]):
        for name, shape in linear.items():
            shapes |= _linear(f"blk.{layer}.{name}", *shape)
        shapes |= _norm(f"blk.{layer}.attn_output_norm", width) | _norm(f"blk.{layer}.layer_output_norm", width)
    if ranks:
        shapes |= {"cls.weight": (width, width), "cls.bias": (width,)}
        shapes |= {"cls.output.weight": (width, 1), "cls.output.bias": (1,)}
    return [_tensor(chance, name, shape, quantization) for name, shape in shapes.items()]


def _linear(name: str, inner: int, outer: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (inner, outer), f"{name}.bias": (outer,)}


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _tensor(chance: random.Random, name: str, shape: tuple[int, ...], quantization: str) -> Tensor:
    """Random weights that keep activations near 1; what llama.cpp adds or multiplies by element is always F32."""
    count = math.prod(shape)
    if len(shape) == 1:
        centre = 0.0 if name.endswith(".bias") else 1.0
        return Tensor(name, shape, F32, _floats([centre + chance.uniform(-0.1, 0.1) for _ in range(count)], "f"))
    spread = 1.0 if name.startswith("token_embd") else math.sqrt(3 / shape[0])
    values = [chance.uniform(-spread, spread) for _ in range(count)]
    kind = F32 if name.endswith(("token_types.weight", "position_embd.weight")) else TENSOR_TYPES[quantization]
    data = quantize_q8_0(values) if kind == Q8_0 else _floats(values, "f" if kind == F32 else "e")
    return Tensor(name, shape, kind, data)


def quantize_q8_0(values: Sequence[float]) -> bytes:
    """Blocks of 32: a half-precision scale, then 32 signed bytes. The length is a multiple of 32."""
    out = bytearray()
    for start in range(0, len(values), Q8_0_BLOCK):
        block = values[start : start + Q8_0_BLOCK]
        scale = max(map(abs, block)) / 127 or 1.0
        out += struct.pack(f"<e{Q8_0_BLOCK}b", scale, *(max(-127, min(127, round(value / scale))) for value in block))
    return bytes(out)


def _floats(values: Sequence[float], letter: str) -> bytes:
    return struct.pack(f"<{len(values)}{letter}", *values)


def _merged(keys: Mapping[str, Any], extra: Mapping[str, Any] | None) -> dict[str, Any]:
    return {key: value for key, value in {**keys, **(extra or {})}.items() if value is not None}


def _padded(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment


def _string(text: str, order: str) -> bytes:
    data = text.encode()
    return struct.pack(f"{order}Q", len(data)) + data


def _value(value: Any, order: str) -> bytes:
    """A value with its type before it."""
    if isinstance(value, Typed) and not isinstance(value.value, list | tuple):
        return struct.pack(f"{order}I", value.kind) + _bare(value.kind, value.value, order)
    if isinstance(value, Typed | list | tuple):
        elements: Iterable[Any] = value.value if isinstance(value, Typed) else value
        items = list(elements)
        kind = value.kind if isinstance(value, Typed) else _element_kind(items)
        head = struct.pack(f"{order}IIQ", ARRAY, kind, len(items))
        return head + b"".join(_bare(kind, item, order) for item in items)
    kind = _kind(value)
    return struct.pack(f"{order}I", kind) + _bare(kind, value, order)


def _kind(value: Any) -> int:
    if isinstance(value, bool):
        return BOOL
    if isinstance(value, int):
        return INT32 if value < 0 else UINT32 if value < 1 << 32 else UINT64
    return FLOAT32 if isinstance(value, float) else STRING


def _element_kind(items: Sequence[Any]) -> int:
    kind = _kind(items[0]) if items else INT32
    return INT32 if kind == UINT32 else kind


def _bare(kind: int, value: Any, order: str) -> bytes:
    return _string(value, order) if kind == STRING else struct.pack(f"{order}{LETTERS[kind]}", value)
