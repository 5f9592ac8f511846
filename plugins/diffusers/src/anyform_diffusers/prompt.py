"""How much of a prompt the text encoders read. diffusers cuts what is too long; here it is refused, or told."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from anyform.contract.errors import ContextExceeded
from anyform_diffusers import mode
from anyform_diffusers.wish import Wish

_TOKENIZERS = ("tokenizer", "tokenizer_2", "tokenizer_3", "tokenizer_4")
_ENDLESS = 1_000_000
"""Tokenizers say a number like 10**30 where they know no limit."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one text encoder gets of a text."""

    encoder: str
    tokens: int
    limit: int
    """Tokens that it reads, its marks of beginning and end among them."""

    @property
    def cut(self) -> bool:
        return self.tokens > self.limit


def check(view: Any, wish: Wish) -> None:
    """Raise ContextExceeded for a prompt that no text encoder of *view* reads whole."""
    for param, text in (("prompt", wish.prompt), ("negative_prompt", wish.negative)):
        readings = list(_readings(view, text)) if text else []
        if readings and all(reading.cut for reading in readings):
            most = max(readings, key=lambda reading: reading.limit)
            raise ContextExceeded(
                f"the {param.replace('_', ' ')} has {most.tokens} tokens; this model reads {most.limit} of one.",
                "Shorten it.",
                prompt_tokens=most.tokens,
                context=most.limit,
                param=param,
            )


def tokens(view: Any, wish: Wish) -> int:
    """Of the prompt, as the encoder that reads most of one counts them; 0: no encoder is known."""
    readings = list(_readings(view, wish.prompt)) if wish.prompt else []
    return max(readings, key=lambda reading: reading.limit).tokens if readings else 0


def remarks(view: Any, wish: Wish) -> tuple[str, ...]:
    """What only some of the text encoders read whole, as such pipelines are made to: one sentence each."""
    return tuple(
        f"{reading.encoder} reads {reading.limit} of the {reading.tokens} tokens of the {name}; another reads them all"
        for name, text in (("prompt", wish.prompt), ("negative prompt", wish.negative))
        if text
        for reading in _readings(view, text)
        if reading.cut
    )


def _readings(view: Any, text: str) -> Iterator[Reading]:
    for name in _TOKENIZERS:
        tokenizer = getattr(view, name, None)
        encoder = getattr(view, name.replace("tokenizer", "text_encoder"), None)
        limit = _limit(view, tokenizer)
        if tokenizer is not None and encoder is not None and limit is not None:
            yield Reading(type(encoder).__name__, _count(tokenizer, text), limit)


_copies: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
_counting = threading.Lock()


def _count(tokenizer: Any, text: str) -> int:
    """Tokens of *text*, by a copy: padding and truncation are states of a tokenizer, which the pipeline's own has set
    by the thread that paints, while other threads count.
    """
    with _counting:
        own = _copies.get(tokenizer)
        if own is None:
            own = _copies[tokenizer] = copy.deepcopy(tokenizer)
        return len(own(text)["input_ids"])


def _limit(view: Any, tokenizer: Any) -> int | None:
    """CLIP reads as much as it has positions; others what the call says, else what their tokenizer does."""
    own = getattr(tokenizer, "model_max_length", None)
    parameter = mode.arguments(view).get("max_sequence_length")
    if parameter is not None and isinstance(parameter.default, int) and "CLIP" not in type(tokenizer).__name__:
        return int(parameter.default)
    return int(own) if own is not None and own < _ENDLESS else None
