"""Byte-level BPE as GPT-2 has it: how bytes are spelled, and the tokenizer.json of such a vocabulary."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def spelling() -> list[str]:
    """GPT-2's printable letter for each byte: itself where it is one, else the next letter from U+0100 on."""
    plain = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte if byte in plain else next(others)) for byte in range(256)]


def content(
    vocabulary: Mapping[str, int],
    added: Iterable[tuple[int, str, bool]],
    merges: Sequence[str] = (),
    words: bool = True,
) -> dict[str, Any]:
    """What tokenizer.json holds. *added*: (id, text, whether it is special) of tokens that are found whole in a text.

    *words*: whether merges stay within words.
    """
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": words}
    model = {
        "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "", "end_of_word_suffix": "",
        "fuse_unk": False, "byte_fallback": False, "merges": list(merges), "vocab": dict(vocabulary),
    }  # fmt: skip
    tokens = [
        {"id": id, "content": text, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": special} for id, text, special in added
    ]  # fmt: skip
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": tokens, "normalizer": None,
        "pre_tokenizer": level, "post_processor": None, "decoder": level, "model": model,
    }  # fmt: skip
