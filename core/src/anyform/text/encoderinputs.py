"""Texts and pairs as an encoder's tokenizer writes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from anyform.text.vectormodel import Input
from anyform.text.words import unlimited, whole

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Whole: TypeAlias = NDArray[np.int64]


class EncoderInputs:
    """Makes inputs; tokens at the end of a text that the tokenizer put there stay when it is cut."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        size: int,
        typed: bool,
        *,
        prompt: str = "",
        pools_prompt: bool = True,
        lowers: bool = False,
    ) -> None:
        """*tokenizer*: it is left as it is. *size*: tokens that there are.

        *typed*: whether the model tells two texts apart by token types. *prompt*: comes before every text, and is
        pooled with it if *pools_prompt*. *lowers*: in lower case.
        """
        self.size = size
        self._typed = typed
        self._prompt = prompt
        self._tokenizer: Tokenizer = unlimited(tokenizer)
        if lowers:
            from tokenizers import normalizers  # the engines' own; the toolkit does without it

            before = self._tokenizer.normalizer
            steps = [normalizers.Lowercase(), *([before] if before is not None else [])]
            self._tokenizer.normalizer = normalizers.Sequence(steps)
        self._tail = self._count_tail()
        self._skipped = 0 if pools_prompt or not prompt else self._count_prompt()

    def text(self, text: str) -> Input:
        return Input(self._tokenizer.encode(whole(self._prompt + text)).ids, skipped=self._skipped)

    def pairs(self, query: str, documents: Sequence[str]) -> list[Input]:
        made = [self._tokenizer.encode(whole(query), whole(document)) for document in documents]
        return [Input(one.ids, one.type_ids if self._typed else ()) for one in made]

    def cut(self, whole: Input, most: int) -> Input:
        tokens = list(whole.tokens)
        tail = tokens[len(tokens) - self._tail :] if self._tail < most else []
        return replace(whole, tokens=[*tokens[: most - len(tail)], *tail])

    def _count_tail(self) -> int:
        marks = self._tokenizer.encode("x").special_tokens_mask
        return next((place for place, mark in enumerate(reversed(marks)) if not mark), 0)

    def _count_prompt(self) -> int:
        """Without one control token at its end (sentence_transformers' Transformer._get_prompt_length)."""
        added = self._tokenizer.get_added_tokens_decoder()
        tokens = self._tokenizer.encode(whole(self._prompt)).ids
        return len(tokens) - (tokens[-1:] != [] and tokens[-1] in added and added[tokens[-1]].special)


def padded(inputs: Sequence[Input], pad: int, texts: int = 0, tokens: int = 0) -> dict[str, Whole]:
    """input_ids, attention_mask and token_type_ids of a step, [texts, tokens] each, padded on the right with *pad*.

    *texts*, *tokens*: how many there are to be; 0: as there are, and as the longest has.
    """
    shape = texts or len(inputs), tokens or max(map(len, inputs))
    ids, mask, types = np.full(shape, pad, np.int64), np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for row, one in enumerate(inputs):
        ids[row, : len(one)] = one.tokens
        mask[row, : len(one)] = 1
        if one.types:
            types[row, : len(one)] = one.types
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
