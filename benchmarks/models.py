"""Writes GGUF models of Qwen3's or Llama's shape with random weights: speed does not depend on what the weights say.

`python benchmarks/models.py 0.1B` prints the path of a Q4_K_M file under .bench/models, made on first use.
The vocabulary has Qwen3's size, 151,936 tokens (Llama 2's, 32,000), and tokenizes English, so that sampling and
detokenizing cost what they cost on the real model. Needs the gguf, llama-cpp-python and numpy packages.
"""

from __future__ import annotations

import argparse
import os
import random
import string
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path

import gguf
import numpy as np

FOLDER = Path(__file__).resolve().parent.parent / ".bench" / "models"
VOCABULARY = 151_936
LLAMA_VOCABULARY = 32_000
CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
LOGIT_SPREAD = 3.0
"""Standard deviation of the logits: wide enough for a clear best token, as in a trained model."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a model; Qwen3 normalizes queries and keys, and ties its output to its token embeddings."""

    embedding: int
    layers: int
    heads: int
    kv_heads: int
    feed_forward: int
    head_size: int = 128
    context: int = 40_960
    vocabulary: int = VOCABULARY
    architecture: str = "qwen3"


def _llama(embedding: int, layers: int, heads: int, feed_forward: int) -> Shape:
    return Shape(
        embedding,
        layers,
        heads,
        kv_heads=4,
        feed_forward=feed_forward,
        head_size=64,
        vocabulary=LLAMA_VOCABULARY,
        architecture="llama",
    )


SHAPES = {
    "0.1B": Shape(embedding=512, layers=12, heads=8, kv_heads=4, feed_forward=1536),
    "0.6B": Shape(embedding=1024, layers=28, heads=16, kv_heads=8, feed_forward=3072),
}
LLAMAS = {
    "0.1B": _llama(embedding=768, layers=12, heads=12, feed_forward=2048),
    "0.6B": _llama(embedding=1280, layers=30, heads=20, feed_forward=3456),
}
ARCHITECTURES = {"qwen3": SHAPES, "llama": LLAMAS}
QUANTIZATIONS = ("F16", "Q8_0", "Q4_0", "Q4_K_M")


def path_of(size: str, folder: Path = FOLDER, *, architecture: str = "qwen3", quantization: str = "Q4_K_M") -> Path:
    """The model of that size, architecture and quantization, written first if it is not there yet."""
    name = f"{architecture}-random-{size}"
    target = folder / f"{name}-{quantization}.gguf"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        half, partial = target.with_suffix(f".{os.getpid()}.f16"), target.with_suffix(f".{os.getpid()}.partial")
        try:
            write(half, ARCHITECTURES[architecture][size], name)
            if quantization == "F16":
                half.replace(target)
            else:
                quantize(half, partial, quantization)
                partial.replace(target)
        finally:
            half.unlink(missing_ok=True)
            partial.unlink(missing_ok=True)
    return target


def write(path: Path, shape: Shape, name: str) -> None:
    """Write the F16 model: matrices in F16, norms in F32, as llama.cpp's converter does."""
    writer = gguf.GGUFWriter(path, shape.architecture)
    writer.add_name(name)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    _add_shape(writer, shape)
    _add_tokenizer(writer, shape.vocabulary)
    for tensor, array in tensors(shape):
        writer.add_tensor(tensor, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def quantize(source: Path, target: Path, quantization: str = "Q4_K_M") -> None:
    """Quantize with llama.cpp itself."""
    import llama_cpp

    silent = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(silent, None)
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{quantization}")
    if llama_cpp.llama_model_quantize(os.fsencode(source), os.fsencode(target), params) != 0:
        raise SystemExit(f"llama.cpp could not quantize {source}")


def _add_shape(writer: gguf.GGUFWriter, shape: Shape) -> None:
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.embedding)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_size)
    writer.add_value_length(shape.head_size)
    writer.add_rope_freq_base(1_000_000.0)
    writer.add_layer_norm_rms_eps(1e-6)


def _add_tokenizer(writer: gguf.GGUFWriter, size: int) -> None:
    tokens, merges = vocabulary(size)
    kinds = [gguf.TokenType.CONTROL if token in CONTROL else gguf.TokenType.NORMAL for token in tokens]
    first_control = len(tokens) - len(CONTROL)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(first_control)
    writer.add_pad_token_id(first_control)
    writer.add_eos_token_id(first_control + 2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)


def vocabulary(size: int = VOCABULARY) -> tuple[list[str], list[str]]:
    """A byte-level BPE vocabulary of *size* tokens and its merges, in order of rank.

    The 256 bytes, then all strings of two and three lower-case letters, each also after a space, then
    as many of four letters as there is room for; the control tokens come last.
    """
    tokens = _byte_tokens()
    merges = []
    for left, right in islice(_pairs(), size - len(tokens) - len(CONTROL)):
        tokens.append(left + right)
        merges.append(f"{left} {right}")
    return [*tokens, *CONTROL], merges


def _pairs() -> Iterator[tuple[str, str]]:
    """Pairs whose joins are new tokens, each made of parts that exist by then."""
    letters = string.ascii_lowercase
    space = chr(0x120)  # how byte-level BPE spells a space
    yield from ((space, letter) for letter in letters)
    for length in (2, 3):
        for stem in map("".join, product(letters, repeat=length - 1)):
            yield from ((stem, letter) for letter in letters)
        for stem in map("".join, product(letters, repeat=length - 1)):
            yield from ((space + stem, letter) for letter in letters)
    fours = list(product(map("".join, product(letters, repeat=3)), letters))
    random.Random(1).shuffle(fours)
    yield from fours


def _byte_tokens() -> list[str]:
    """The 256 bytes as GPT-2 spells them: printable Latin-1 as itself, the rest from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


def tensors(shape: Shape) -> Iterator[tuple[str, np.ndarray]]:
    rng = np.random.default_rng(1)

    def matrix(rows: int, columns: int, scale: float = 1.0) -> np.ndarray:
        values = rng.standard_normal((rows, columns), dtype=np.float32)
        return (values * np.float32(scale / columns**0.5)).astype(np.float16)

    def ones(size: int) -> np.ndarray:
        return np.ones(size, dtype=np.float32)

    width, queries, keys = shape.embedding, shape.heads * shape.head_size, shape.kv_heads * shape.head_size
    normalized = shape.architecture == "qwen3"
    yield "token_embd.weight", _mute(matrix(shape.vocabulary, width, LOGIT_SPREAD))
    if not normalized:
        yield "output.weight", _mute(matrix(shape.vocabulary, width, LOGIT_SPREAD))
    yield "output_norm.weight", ones(width)
    for layer in range(shape.layers):
        block = f"blk.{layer}."
        yield block + "attn_norm.weight", ones(width)
        yield block + "attn_q.weight", matrix(queries, width)
        yield block + "attn_k.weight", matrix(keys, width)
        yield block + "attn_v.weight", matrix(keys, width)
        yield block + "attn_output.weight", matrix(width, queries)
        if normalized:
            yield block + "attn_q_norm.weight", ones(shape.head_size)
            yield block + "attn_k_norm.weight", ones(shape.head_size)
        yield block + "ffn_norm.weight", ones(width)
        yield block + "ffn_gate.weight", matrix(shape.feed_forward, width)
        yield block + "ffn_up.weight", matrix(shape.feed_forward, width)
        yield block + "ffn_down.weight", matrix(width, shape.feed_forward)


def _mute(embedding: np.ndarray) -> np.ndarray:
    """Zero the rows of bytes that are no letter and of control tokens: a logit of 0 never wins.

    So a greedy answer neither ends early nor holds text back for a character that never completes.
    """
    letters = [index for index, token in enumerate(_byte_tokens()) if token in string.ascii_letters]
    muted = np.setdiff1d(np.arange(256), letters)
    embedding[muted] = 0
    embedding[-len(CONTROL) :] = 0
    return embedding


def main() -> None:
    """Print the path of the model of the size named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", choices=sorted(SHAPES), nargs="?", default="0.1B")
    parser.add_argument("--architecture", choices=sorted(ARCHITECTURES), default="qwen3")
    parser.add_argument("--quantization", choices=QUANTIZATIONS, default="Q4_K_M")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    options = parser.parse_args()
    print(path_of(options.size, options.folder, architecture=options.architecture, quantization=options.quantization))


if __name__ == "__main__":
    main()
