"""What a model's processors make of pictures and of texts about them: arrays, one input at a time."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from anyform.contract.errors import ContextExceeded, Invalid, LoadFailed
from anyform.text.vectormodel import Input
from anyform_hf_transformers import picture, weights
from anyform_hf_transformers.backend import transformers
from anyform_hf_transformers.picturememory import PREPARED
from anyform_hf_transformers.words import whole

if TYPE_CHECKING:
    from anyform.contract.jobs import Picture
    from anyform_hf_transformers.loading import Loading


@dataclass(frozen=True, slots=True)
class Seen(Input):
    """One picture, one text, or both; `len` is that of the text in tokens."""

    arrays: Mapping[str, Any] = field(default_factory=dict)
    """What the image processor gave, by the name under which the model takes it, each without a batch's dimension."""

    @property
    def key(self) -> tuple[Any, ...]:
        """Those of the same key fit into one batch."""
        shapes = tuple((name, array.shape) for name, array in sorted(self.arrays.items()))
        return (bool(self.tokens), *shapes)


class Pixels:
    """A folder's image processor. May be called by several threads."""

    def __init__(self, loading: Loading) -> None:
        """Raises LoadFailed."""
        self._most = loading.options.max_pixels
        self._preparing = threading.BoundedSemaphore(PREPARED)
        try:
            # on Pillow and numpy alone: the other kind needs torchvision, and would compute in the caller's thread
            self._processor = transformers.AutoImageProcessor.from_pretrained(
                weights.folder(loading.plan),
                backend="pil",
                local_files_only=True,
                trust_remote_code=loading.options.trust_remote_code,
            )
        except (ValueError, KeyError, OSError, ImportError, TypeError, AttributeError) as error:
            raise LoadFailed(
                f"transformers does not read the image processor of {loading.plan.model}: "
                f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
            ) from error

    def read(self, given: Picture, place: str) -> dict[str, Any]:
        """The arrays of *given*. Raises Invalid: not a picture that can be used; EngineMissing."""
        with self._preparing:
            return self.prepare(picture.read(given, place, self._most), place)

    def prepare(self, image: Any, place: str) -> dict[str, Any]:
        """The arrays of a PIL.Image in RGB."""
        try:
            made = self._processor(images=image, return_tensors="np")
        except (ValueError, MemoryError) as error:
            raise Invalid(f"{place} is a picture that the model's processor refuses: {error}.") from error
        return {name: made[name][0] for name in self._processor.model_input_names if name in made}


class Texts:
    """A tokenizer for texts beside pictures. May be called by several threads."""

    def __init__(self, tokenizer: Any, size: int, limit: int, *, padded: bool = False) -> None:
        """*size*: tokens that there are. *limit*: those of one text. *padded*: each is filled up to the limit."""
        self.size = size
        self.limit = limit
        self._tokenizer = tokenizer
        self._padded = padded
        self._masked = "attention_mask" in tokenizer.model_input_names
        self._pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
        self._lock = threading.Lock()

    def read(self, text: str, place: str, *, truncate: bool | None = None) -> Seen:
        """*text* with the marks that the model wants. *truncate*: whether it may be cut; None: nobody can ask for it.

        Raises ContextExceeded.
        """
        with self._lock:
            made = self._tokenizer(whole(text), return_token_type_ids=False, return_attention_mask=False)
        return self.fitted([int(one) for one in made["input_ids"]], place, truncate=truncate)

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
