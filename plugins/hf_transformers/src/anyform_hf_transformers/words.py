"""transformers' tokenizers as the text toolkit wants them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from anyform.contract.errors import Unsupported
from anyform.text.words import Words, unlimited


def words(tokenizer: Any, size: int, ends: Iterable[int], suppressed: Iterable[int] = ()) -> Words:
    """The text toolkit's Tokenizer over transformers' *tokenizer*; the rest as for Words. Raises Unsupported."""
    bos, eos = _id(tokenizer.bos_token_id), _id(tokenizer.eos_token_id)
    return Words(backend(tokenizer), size, ends, suppressed, bos=bos, eos=eos)


def backend(tokenizer: Any) -> Any:
    """A copy of the `tokenizers.Tokenizer` below, which neither cuts nor pads. Raises Unsupported."""
    made = getattr(tokenizer, "backend_tokenizer", None)
    if made is None:
        raise Unsupported(
            f"the model's tokenizer ({type(tokenizer).__name__}) is none that the tokenizers library runs.",
            "Convert it to a tokenizer.json.",
        )
    return unlimited(made)


def _id(token: Any) -> int | None:
    return token if isinstance(token, int) else None
