"""Tiny tokenizers as GGUF keys, of the three kinds that llama.cpp's models mostly have."""

from __future__ import annotations

from typing import Any

from anyform.testing import bytelevel

NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6
"""Token types (llama.h, llama_token_type)."""

WORDS = (
    "the", "and", "was", "little", "girl", "named", "Lily", "she", "loved", "to", "play", "outside", "once", "upon",
)  # fmt: skip
PRINTABLE = [chr(code) for code in range(33, 127)]
SPACE = "\N{LOWER ONE EIGHTH BLOCK}"


def sentencepiece() -> dict[str, Any]:
    """A SentencePiece vocabulary: markers, all 256 bytes, ASCII, and words with the prefixes they merge from."""
    markers = ["<unk>", "<s>", "</s>"]
    data = [f"<0x{byte:02X}>" for byte in range(256)]
    words = [SPACE + word[: end + 1] for word in WORDS for end in range(len(word))]
    pieces = list(dict.fromkeys([SPACE, *PRINTABLE, *words]))
    chat = ["<|im_start|>", "<|im_end|>"]
    kinds = [UNKNOWN, CONTROL, CONTROL] + [BYTE] * 256 + [NORMAL] * len(pieces) + [CONTROL] * 2
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [*markers, *data, *pieces, *chat],
        "tokenizer.ggml.scores": [0.0] * 259 + [float(len(piece)) for piece in pieces] + [0.0, 0.0],
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.add_bos_token": True,
    }


def byte_pairs() -> dict[str, Any]:
    """A byte-level BPE vocabulary: all bytes in GPT-2's spelling, and words with the merges that build them."""
    letters = bytelevel.spelling()
    words = ["".join(letters[byte] for byte in f" {word}".encode()) for word in WORDS]
    merges = dict.fromkeys(f"{word[:end]} {word[end]}" for word in words for end in range(1, len(word)))
    markers = ["<|endoftext|>", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|im_start|>", "<|im_end|>"]
    pieces = [*letters, *(merge.replace(" ", "") for merge in merges)]
    first = len(pieces)
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": [*pieces, *markers],
        "tokenizer.ggml.token_type": [NORMAL] * first + [CONTROL] * len(markers),
        "tokenizer.ggml.merges": list(merges),
        "tokenizer.ggml.bos_token_id": first,
        "tokenizer.ggml.eos_token_id": first,
        "tokenizer.ggml.fim_pre_token_id": first + 1,
        "tokenizer.ggml.fim_suf_token_id": first + 2,
        "tokenizer.ggml.fim_mid_token_id": first + 3,
        "tokenizer.ggml.add_bos_token": False,
    }


def wordpiece() -> dict[str, Any]:
    """A WordPiece vocabulary in llama.cpp's spelling: a word's first piece has the space mark, the rest are bare."""
    markers = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    small = [letter for letter in PRINTABLE if not letter.isupper()]
    pieces = dict.fromkeys([*(SPACE + letter for letter in small), *small, *(SPACE + word.lower() for word in WORDS)])
    tokens = [*markers, *pieces]
    return {
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [CONTROL] * len(markers) + [NORMAL] * len(pieces),
        "tokenizer.ggml.token_type_count": 2,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.unknown_token_id": 1,
        "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.cls_token_id": 2,
        "tokenizer.ggml.seperator_token_id": 3,
        "tokenizer.ggml.mask_token_id": 4,
    }
