"""Texts and pairs as an encoder's tokenizer writes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from anyform.text.vectormodel import Input
from anyform_hf_transformers.backend import normalizers
from anyform_hf_transformers.words import backend, whole


class EncoderInputs:
    """Makes inputs; tokens at the end of a text that the tokenizer put there stay when it is cut."""

    def __init__(
        self,
        tokenizer: Any,
        size: int,
        typed: bool,
        *,
        prompt: str = "",
        pools_prompt: bool = True,
        lowers: bool = False,
    ) -> None:
        """*size*: tokens that there are. *typed*: whether the model tells two texts apart by token types.

        *prompt*: comes before every text, and is pooled with it if *pools_prompt*. *lowers*: in lower case.
        """
        self.size = size
        self._typed = typed
        self._prompt = prompt
        self._backend = backend(tokenizer)
        if lowers:
            before = self._backend.normalizer
            steps = [normalizers.Lowercase(), *([before] if before is not None else [])]
            self._backend.normalizer = normalizers.Sequence(steps)
        self._tail = self._count_tail()
        self._skipped = 0 if pools_prompt or not prompt else self._count_prompt(tokenizer)

    def text(self, text: str) -> Input:
        return Input(self._backend.encode(whole(self._prompt + text)).ids, skipped=self._skipped)

    def pairs(self, query: str, documents: Sequence[str]) -> list[Input]:
        made = [self._backend.encode(whole(query), whole(document)) for document in documents]
        return [Input(one.ids, one.type_ids if self._typed else ()) for one in made]

    def cut(self, whole: Input, most: int) -> Input:
        tokens = list(whole.tokens)
        tail = tokens[len(tokens) - self._tail :] if self._tail < most else []
        return replace(whole, tokens=[*tokens[: most - len(tail)], *tail])

    def _count_tail(self) -> int:
        marks = self._backend.encode("x").special_tokens_mask
        return next((place for place, mark in enumerate(reversed(marks)) if not mark), 0)

    def _count_prompt(self, tokenizer: Any) -> int:
        """Without one control token at its end (sentence_transformers' Transformer._get_prompt_length)."""
        tokens = self._backend.encode(whole(self._prompt)).ids
        return len(tokens) - (tokens[-1:] != [] and tokens[-1] in tokenizer.all_special_ids)
