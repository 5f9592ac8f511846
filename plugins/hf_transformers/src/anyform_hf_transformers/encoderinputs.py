"""Texts and pairs as an encoder's tokenizer writes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from anyform.text.vectormodel import Input
from anyform_hf_transformers.words import backend, whole


class EncoderInputs:
    """Makes inputs; tokens at the end of a text that the tokenizer put there stay when it is cut."""

    def __init__(self, tokenizer: Any, size: int, typed: bool) -> None:
        """*size*: tokens that there are. *typed*: whether the model tells two texts apart by token types."""
        self.size = size
        self._typed = typed
        self._backend = backend(tokenizer)
        self._tail = self._count_tail()

    def text(self, text: str) -> Input:
        return Input(self._backend.encode(whole(text)).ids)

    def pairs(self, query: str, documents: Sequence[str]) -> list[Input]:
        made = [self._backend.encode(whole(query), whole(document)) for document in documents]
        return [Input(one.ids, one.type_ids if self._typed else ()) for one in made]

    def cut(self, whole: Input, most: int) -> Input:
        tokens = list(whole.tokens)
        tail = tokens[len(tokens) - self._tail :] if self._tail < most else []
        return Input([*tokens[: most - len(tail)], *tail])

    def _count_tail(self) -> int:
        marks = self._backend.encode("x").special_tokens_mask
        return next((place for place, mark in enumerate(reversed(marks)) if not mark), 0)
