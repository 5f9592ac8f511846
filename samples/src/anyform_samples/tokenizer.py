"""The decoder's tokenizer: byte-level BPE on Qwen2's pieces, so that llama.cpp and Hugging Face cut text alike.

Letters are merged first and a space before a word last. So a word falls into the same pieces after a space, a quote or
a slash, which is what makes copying a name out of a sentence into JSON easy to learn. Digits are always single.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

SIZE = 2048
SPACED = 560
"""How many tokens are a space and a piece."""
END, START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CONTROL = (END, START, TURN_END)
MARKS = ("<tools>", "</tools>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
"""Tokens of their own that are still shown as text."""
PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Qwen2's, which llama.cpp knows as the pre-tokenizer "qwen2"."""
LETTERS_APART = r"\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPACE = "Ġ"
"""A space, as byte-level BPE writes it."""


def make(texts: Iterable[str]) -> Tokenizer:
    """A tokenizer of `SIZE` tokens, fitted to *texts*."""
    texts = list(texts)
    letters = _assembled(models.BPE(), LETTERS_APART)
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE - SPACED,
        special_tokens=[*CONTROL, *MARKS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    letters.train_from_iterator(texts, trainer)
    state = json.loads(letters.to_str())
    _add_spaced(state["model"], _after_spaces(letters, texts))
    for token in state["added_tokens"]:
        token["special"] = token["content"] in CONTROL
    state["pre_tokenizer"] = json.loads(_assembled(models.BPE(), PIECES).to_str())["pre_tokenizer"]
    return Tokenizer.from_str(json.dumps(state))


def _assembled(model: models.BPE, pieces: str) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pieces), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _after_spaces(letters: Tokenizer, texts: Iterable[str]) -> list[str]:
    """The pieces that begin a word after a space, the most frequent first."""
    counts: Counter[str] = Counter()
    for text in texts:
        tokens = letters.encode(text).tokens
        counts.update(after for before, after in itertools.pairwise(tokens) if before == SPACE)
    return [piece for piece, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if piece[0].isalpha()]


def _add_spaced(model: dict[str, Any], pieces: list[str]) -> None:
    vocabulary = model["vocab"]
    for piece in pieces:
        if len(vocabulary) == SIZE:
            return
        if piece.isascii() and SPACE + piece not in vocabulary:
            vocabulary[SPACE + piece] = len(vocabulary)
            model["merges"].append([SPACE, piece])
