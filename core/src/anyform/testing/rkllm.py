"""Writes tiny RKLLM files in pure Python: for the stand-in library of the plugin's tests, and broken ones.

As public studies describe the files: a directory as in GGUF v3, its texts masked, and the toolkit's version at the end
in clear. The mask here is random bytes, none of the vendor's: nothing that is written here runs on an NPU.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anyform.testing import bytelevel
from anyform.testing.gguf import ARRAY, BOOL, FLOAT32, INT32, LETTERS, STRING, UINT32, Tensor, Typed
from anyform.testing.safetensors import llama_config, write_json

MAGIC = bytes.fromhex("daeeb336")
"""The first four bytes, as one public study gives them."""
VERSION = 3
ALIGNMENT = 32
F32, F16, INT8 = 0, 1, 24
PACKED = 120
"""A tensor type that no GGUF has, one byte a number."""
MARK = "STANDIN"
"""Begins the line in the payload that tells the stand-in library what it would find in a real file."""
TRAILER = "rkllm-toolkit version: "
TOOLKIT = "1.2.3"
STAND_IN: Mapping[str, Any] = {
    "context": 4096, "platform": "RK3588", "dtype": "W8A8", "toolkit": TOOLKIT, "width": 8, "vocab": 512,
}  # fmt: skip
"""What a file says to the stand-in library where the test says nothing else."""
NAME = "Tiny-Chat-0.1B-rk3588-w8a8-opt-1-hybrid-ratio-0.0.rkllm"

BYTES = 256
MARKERS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>", "<tool_call>", "</tool_call>",
    "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
)  # fmt: skip
"""The tokens behind the bytes, from id 256 on."""
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""A chat template whose markers the tokenizer has."""


def write(
    path: Path,
    *,
    version: int = VERSION,
    keys: Mapping[str, Any] | None = None,
    tensors: Sequence[Tensor] | None = None,
    trailer: str | None = TOOLKIT,
    stand_in: Mapping[str, Any] | None = STAND_IN,
    magic: bytes = MAGIC,
    seed: int = 0,
) -> Path:
    """Write any RKLLM file, sound or not.

    *keys* and *tensors*: as for `gguf.write_gguf`, by default a tiny model's. *trailer*: the toolkit's version; None
    leaves it out. *stand_in*: what the stand-in library reads, added to STAND_IN; None leaves it out, so that the
    stand-in takes the file for no model. *seed*: of the mask.
    """
    content = assemble(
        version=version, keys=keys, tensors=tensors, trailer=trailer, stand_in=stand_in, magic=magic, seed=seed
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def assemble(
    *,
    version: int = VERSION,
    keys: Mapping[str, Any] | None = None,
    tensors: Sequence[Tensor] | None = None,
    trailer: str | None = TOOLKIT,
    stand_in: Mapping[str, Any] | None = STAND_IN,
    magic: bytes = MAGIC,
    seed: int = 0,
) -> bytes:
    """The bytes that `write` writes."""
    chance = random.Random(seed)
    said = tiny_keys() if keys is None else keys
    parts = [*([] if stand_in is None else [marker(stand_in)]), *(tiny_tensors() if tensors is None else tensors)]
    out = bytearray(magic + struct.pack("<IQQ", version, len(parts), len(said)))
    for key, value in said.items():
        out += _masked(key, chance) + _value(value, chance)
    offset = 0
    for part in parts:
        out += _masked(part.name, chance) + struct.pack("<I", len(part.shape))
        out += struct.pack(f"<{len(part.shape)}QIQ", *part.shape, part.kind, offset)
        offset += _padded(len(part.data))
    out += bytes(_padded(len(out)) - len(out))
    for part in parts:
        out += part.data + bytes(_padded(len(part.data)) - len(part.data))
    return bytes(out) + (b"" if trailer is None else f"{TRAILER}{trailer}".encode())


def marker(said: Mapping[str, Any]) -> Tensor:
    """The line for the stand-in library, as a tensor of bytes before all others."""
    facts = json.dumps({**STAND_IN, **said}, separators=(",", ":"))  # as the stand-in library reads them
    line = f"\n{MARK} {facts}\n".encode()
    return Tensor("stand_in", (len(line),), INT8, line)


def tiny_keys(vocabulary: int = 512, **more: Any) -> dict[str, Any]:
    """Keys as a converted model has: its architecture, and a vocabulary of that many tokens."""
    return {
        "general.architecture": "llama",
        "general.name": "Tiny Chat",
        "llama.block_count": Typed(UINT32, 2),
        "llama.rope.freq_base": Typed(FLOAT32, 10000.0),
        "tokenizer.ggml.tokens": [f"token {number}" for number in range(vocabulary)],
        "tokenizer.ggml.token_type": Typed(INT32, [1] * vocabulary),
        "tokenizer.ggml.add_bos_token": False,
        **more,
    }


def tiny_tensors(vocabulary: int = 512, width: int = 8, layers: int = 2) -> list[Tensor]:
    """Weights of a tiny model: matrices in the packed type, norms in float32."""
    chance = random.Random(1)
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (width, vocabulary), "output_norm.weight": (width,)}
    for layer in range(layers):
        block = f"blk.{layer}."
        shapes |= {f"{block}attn_norm.weight": (width,), f"{block}ffn_norm.weight": (width,)}
        shapes |= {f"{block}{name}.weight": (width, width) for name in ("attn_q", "attn_k", "attn_v", "attn_output")}
        shapes |= {f"{block}ffn_up.weight": (width, 2 * width), f"{block}ffn_down.weight": (2 * width, width)}
    shapes["output.weight"] = (width, vocabulary)
    return [_tensor(chance, name, shape) for name, shape in shapes.items()]


def write_model(
    folder: Path,
    name: str = NAME,
    *,
    template: str = CHATML,
    tokenizer: bool = True,
    config: Mapping[str, Any] | None = None,
    meta: Mapping[str, Any] | None = None,
    **file: Any,
) -> Path:
    """A folder as they are on the Hub: the model, config.json, tokenizer files with a chat template, a README.

    *config*: changes to config.json. *meta*: meta.json, where there is to be one. *file*: what `write` is given.
    """
    write(folder / name, **file)
    shape = {"vocab_size": 512, "hidden_size": 8, "max_position_embeddings": 32768, "model_type": "qwen2"}
    write_json(folder / "config.json", llama_config(**{**shape, **(config or {})}))
    write_json(folder / "generation_config.json", {"eos_token_id": BYTES + 2, "temperature": 0.7, "top_p": 0.8})
    if tokenizer:
        write_byte_tokenizer(folder, template)
    if meta is not None:
        write_json(folder / "meta.json", meta)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A tiny model for tests\n", encoding="utf-8")
    return folder


def write_byte_tokenizer(folder: Path, template: str = CHATML) -> None:
    """tokenizer.json in which a token below 256 is that byte, then MARKERS; and tokenizer_config.json."""
    vocabulary = {letter: byte for byte, letter in enumerate(bytelevel.spelling())}
    added = [(BYTES + number, mark, mark.startswith("<|")) for number, mark in enumerate(MARKERS)]
    write_json(folder / "tokenizer.json", bytelevel.content(vocabulary, added, words=False))
    said = {"tokenizer_class": "Qwen2Tokenizer", "add_bos_token": False, "bos_token": None}
    ends = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "model_max_length": 131072}
    write_json(folder / "tokenizer_config.json", {**said, **ends} | ({"chat_template": template} if template else {}))


def _tensor(chance: random.Random, name: str, shape: tuple[int, ...]) -> Tensor:
    if len(shape) == 1:
        return Tensor(
            name, shape, F32, struct.pack(f"<{shape[0]}f", *(chance.uniform(0.9, 1.1) for _ in range(shape[0])))
        )
    return Tensor(name, shape, PACKED, chance.randbytes(shape[0] * shape[1]))


def _masked(text: str, chance: random.Random) -> bytes:
    """A text as long as *text* that says nothing."""
    size = len(text.encode())
    return struct.pack("<Q", size) + chance.randbytes(size)


def _value(value: Any, chance: random.Random) -> bytes:
    """A value with its type before it."""
    said = value if isinstance(value, Typed) else Typed(_kind(value), value)
    if not isinstance(said.value, list | tuple):
        return struct.pack("<I", said.kind) + _bare(said.kind, said.value, chance)
    head = struct.pack("<IIQ", ARRAY, said.kind, len(said.value))
    return head + b"".join(_bare(said.kind, item, chance) for item in said.value)


def _kind(value: Any) -> int:
    """The type of a value, or of an array's elements, that nothing is said of."""
    one = (value[0] if value else 0) if isinstance(value, list | tuple) else value
    if isinstance(one, bool):
        return BOOL
    if isinstance(one, int):
        return UINT32
    return FLOAT32 if isinstance(one, float) else STRING


def _bare(kind: int, value: Any, chance: random.Random) -> bytes:
    return _masked(value, chance) if kind == STRING else struct.pack(f"<{LETTERS[kind]}", value)


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
