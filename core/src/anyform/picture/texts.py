"""Texts beside pictures: tokens that fit, and rows of them as a model takes them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from anyform.contract.errors import ContextExceeded, Invalid
from anyform.picture.seen import Seen


class Texts:
    """A tokenizer, and what the model wants of its tokens. May be called by several threads."""

    def __init__(
        self,
        tokenize: Callable[[str], Sequence[int]],
        size: int,
        limit: int,
        *,
        pad: int = 0,
        masked: bool = True,
        padded: bool = False,
    ) -> None:
        """*tokenize*: a text to tokens with the marks that the model wants; called by one thread at a time.

        *size*: tokens that there are. *limit*: those of one text. *pad*: what shorter texts are filled up with.
        *masked*: the model is told where that is. *padded*: each is filled up to the limit.
        """
        self.size = size
        self.limit = limit
        self._tokenize = tokenize
        self._pad = pad
        self._masked = masked
        self._padded = padded
        self._lock = threading.Lock()

    def read(self, text: str, place: str, *, truncate: bool | None = None) -> Seen:
        """*text* with its marks. *truncate*: whether it may be cut; None: nobody can ask for it.

        Raises ContextExceeded.
        """
        with self._lock:
            made = [int(one) for one in self._tokenize(text)]
        return self.fitted(made, place, truncate=truncate)

    def tokens(self, tokens: tuple[int, ...], place: str, *, truncate: bool | None = None) -> Seen:
        """Tokens as they were given. Raises Invalid, ContextExceeded."""
        for token in tokens:
            if not 0 <= token < self.size:
                raise Invalid(f"{place} has token {token}; this model has tokens 0 to {self.size - 1}.")
        return self.fitted(list(tokens), place, truncate=truncate)

    def fitted(self, tokens: list[int], place: str, *, truncate: bool | None) -> Seen:
        """No longer than the limit. The last token, which ends a text, stays when it is cut."""
        if not tokens:
            raise Invalid(f"{place} is empty.", "Send at least one token of text.")
        if len(tokens) > self.limit and not truncate:
            raise ContextExceeded(
                f"{place} has {len(tokens)} tokens; this model reads {self.limit} of a text.",
                "Shorten it." if truncate is None else "Shorten it, or ask for it to be truncated.",
                prompt_tokens=len(tokens),
                context=self.limit,
            )
        if len(tokens) > self.limit:
            tokens = [*tokens[: self.limit - 1], tokens[-1]]
        return Seen(tuple(tokens))

    def batch(self, inputs: Sequence[Seen]) -> dict[str, Any]:
        """Rows of tokens of one length, and where they are none, as the model takes them."""
        longest = self.limit if self._padded else max(map(len, inputs))
        tokens = np.full((len(inputs), longest), self._pad, np.int64)
        mask = np.zeros_like(tokens)
        for row, one in enumerate(inputs):
            tokens[row, : len(one)] = one.tokens
            mask[row, : len(one)] = 1
        return {"input_ids": tokens, "attention_mask": mask} if self._masked else {"input_ids": tokens}
