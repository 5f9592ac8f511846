"""What the toolkit asks of a model's tokenizer, whichever engine it comes from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol


class Tokenizer(Protocol):
    """Text to ids, ids to bytes. Any thread may call it. An id of -1: the model has no such token."""

    size: int
    bos: int
    eos: int
    adds_bos: bool
    adds_eos: bool
    fim_prefix: int
    fim_suffix: int
    fim_middle: int
    ends: frozenset[int]
    """Tokens that end an answer."""
    suppressed: tuple[int, ...]
    """Tokens that are never drawn."""

    def tokenize(self, text: str, *, affixes: bool, special: bool) -> list[int]:
        """Ids of *text*. affixes: add BOS/EOS where the model wants them; special: read `<|im_end|>` and the like."""

    def is_control(self, token: int) -> bool:
        """Whether *token* is no text: an end of turn, a role mark."""

    def ids_of(self, names: Iterable[str]) -> frozenset[int]:
        """The control tokens that are written so."""

    def piece(self, token: int, special: bool = False) -> bytes:
        """The bytes of one token; b"" for a control token unless *special*."""
