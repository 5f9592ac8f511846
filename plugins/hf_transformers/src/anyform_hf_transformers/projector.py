"""Pictures in a prompt: transformers' processor makes of them what the model takes, and says where they lie in it."""

from __future__ import annotations

import hashlib
import inspect
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from anyform.contract.errors import Closed, Invalid
from anyform.contract.jobs import Picture
from anyform.picture import reading
from anyform.text.prompt import without_end
from anyform.text.slot import Media, stand_in
from anyform.text.words import Words
from anyform_hf_transformers.backend import torch

_PLANES = 3
"""Time, height and width: what a token's place consists of in Qwen2-VL (section 2.1) and those that follow it."""
KINDS = "token_type_ids"
"""How the names of arguments end that say of each token whether it is a picture's."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What a model is given together with the tokens of one or several pictures."""

    inputs: Mapping[str, Any]
    """By the names of the model's arguments: pixel_values, image_grid_thw, ..."""
    along: Mapping[str, Any] = field(default_factory=dict)
    """Numbers for each token of the whole prompt, the last dimension: position_ids, token_type_ids."""

    def given(self, start: int, end: int, device: str, dtype: Any) -> dict[str, Any]:
        """The arguments for the tokens from *start* to *end* of the prompt."""
        cut = {name: value[..., start:end] for name, value in self.along.items()}
        return {name: _moved(value, device, dtype) for name, value in (*self.inputs.items(), *cut.items())}


class Projector:
    """Turns text whose markers stand for pictures into tokens, and says which of them the pictures take."""

    def __init__(self, processor: Any, model: Any, words: Words, marker: str | None, most_pixels: int) -> None:
        """*marker*: what a picture is written as; None: the chat template writes it by itself.

        *most_pixels*: of one picture, width x height.
        """
        self.marker = marker
        self.mark: str = processor.image_token
        """What stands for one picture in a text."""
        self.token = _token(processor, model.config)
        """The id that stands at each place where the model puts in what it sees."""
        self._piece = words.piece(self.token, True).decode("utf-8", "replace")
        self._processor = processor
        self._words = words
        self._most_pixels = most_pixels
        self._takes = frozenset(inspect.signature(model.forward).parameters) - {"input_ids", "attention_mask"}
        self._index: Callable[..., tuple[Any, Any]] | None = getattr(model.model, "get_rope_index", None)
        self._lock = threading.Lock()
        self.planes = _PLANES if self._index else 0
        """Numbers that a token's place consists of; 0: it is one, and is counted."""

    def tokenize(self, text: str, pictures: Sequence[bytes]) -> tuple[list[int], tuple[Media, ...]]:
        """Tokens of *text*, in which `mark` stands for each of *pictures* (PNG, JPEG, ...); where they lie in it.

        A picture's tokens are below 0 and depend on its content, so that a shared prefix is found over pictures too.
        Raises Invalid for what is no picture, and where the text names more or fewer of them.
        """
        opened = [
            reading.read(Picture(data=data), f"picture {place}", self._most_pixels)
            for place, data in enumerate(pictures)
        ]
        self._check(text, len(opened))
        made = self._process(text, opened)
        ids: list[int] = made.pop("input_ids")[0].tolist()
        tokens = self._open(ids)
        made |= {name: value[:, : len(tokens)] for name, value in made.items() if name.endswith(KINDS)}
        return self._placed(tokens, made, [hashlib.sha256(data).digest() for data in pictures])

    def _check(self, text: str, count: int) -> None:
        marks = text.count(self.mark)
        if marks < count:
            raise Invalid(
                f"the model's chat template writes {marks} of the {count} pictures.", "Put them into user messages."
            )
        for name, most in ((self.mark, count), (self._piece, count if self._piece == self.mark else 0)):
            if text.count(name) > most:
                raise Invalid(
                    f"the text has {name}, which stands for a picture, {text.count(name)} times;"
                    f" there are {count} pictures.",
                    "Leave it out: it is written for each picture.",
                )

    def _open(self, ids: list[int]) -> list[int]:
        """*ids* as an answer may follow them."""
        return without_end(self._words, ids)

    def _process(self, text: str, pictures: Sequence[Any]) -> dict[str, Any]:
        bos = self._processor.tokenizer.bos_token
        options = {"return_mm_token_type_ids": True} if self.planes else {}
        if bos and text.startswith(bos):
            options["add_special_tokens"] = False
        try:
            with self._lock:  # a tokenizer is set up for each call
                return dict(self._processor(text=[text], images=[list(pictures)], return_tensors="pt", **options))
        except (ValueError, TypeError, IndexError, RuntimeError) as error:
            raise Invalid(f"text and pictures could not be prepared: {error}", "Send other ones.") from error

    def _placed(
        self, tokens: list[int], made: dict[str, Any], digests: Sequence[bytes]
    ) -> tuple[list[int], tuple[Media, ...]]:
        known = {name: value for name, value in made.items() if name in self._takes}
        along = {name: value for name, value in known.items() if name.endswith(KINDS)}
        inputs = {name: value for name, value in known.items() if name not in along}
        spans = runs(tokens, self.token)
        if not spans:
            raise Invalid("the pictures left nothing in the prompt.", "Send other pictures.")
        parts = split(inputs, len(digests)) if len(spans) == len(digests) else None
        if parts is None:
            digests = [hashlib.sha256(b"".join(digests)).digest()]
            spans, parts = [(spans[0][0], spans[-1][1])], [inputs]
        nexts = self._nexts(tokens, made, along)
        media: list[Media] = []
        shrunk = 0
        for (start, end), part, digest in zip(spans, parts, digests, strict=True):
            _hide(tokens, start, end, self.token, digest)
            positions = nexts(end) - (start - shrunk)
            shrunk += end - start - positions
            media.append(Media(start, end, positions, Sight(part, along)))
        return tokens, tuple(media)

    def _nexts(self, tokens: list[int], made: Mapping[str, Any], along: dict[str, Any]) -> Callable[[int], int]:
        """The place of any token; where they are not just counted, those of all tokens go into *along*."""
        if not self.planes:
            return lambda index: index
        if self._index is None:
            raise Closed("the model was closed.")
        known = inspect.signature(self._index).parameters
        given = {name: value for name, value in made.items() if name in known and name != "attention_mask"}
        places, beyond = self._index(input_ids=torch.tensor([tokens]), **given)
        along["position_ids"] = places
        flat = [*places[0, 0].tolist(), len(tokens) + int(beyond)]
        return lambda index: flat[index]

    def free(self) -> None:
        """Let go of the model. Idempotent."""
        self._index = None


def _token(processor: Any, config: Any) -> int:
    """As the model's configuration names it; Gemma 3's processor names the one that a picture begins with."""
    named = (getattr(config, name, None) for name in ("image_token_id", "image_token_index"))
    return next((token for token in named if isinstance(token, int)), processor.image_token_id)


def runs(tokens: Sequence[int], wanted: int) -> list[tuple[int, int]]:
    """Start and end of each run of *wanted*."""
    found: list[tuple[int, int]] = []
    for at, token in enumerate(tokens):
        if token == wanted:
            if found and found[-1][1] == at:
                found[-1] = (found[-1][0], at + 1)
            else:
                found.append((at, at + 1))
    return found


def split(inputs: Mapping[str, Any], count: int) -> list[dict[str, Any]] | None:
    """What each of *count* pictures has of *inputs*; None where that cannot be told."""
    grid = inputs.get("image_grid_thw")
    if grid is not None and set(inputs) == {"pixel_values", "image_grid_thw"} and len(grid) == count:
        patches = grid.prod(-1).tolist()
        if sum(patches) == len(inputs["pixel_values"]):
            pieces = inputs["pixel_values"].split(patches)
            return [{"pixel_values": piece, "image_grid_thw": grid[at : at + 1]} for at, piece in enumerate(pieces)]
    if count == 1:
        return [dict(inputs)]
    if all(len(value) == count for value in inputs.values()):
        return [{name: value[at : at + 1] for name, value in inputs.items()} for at in range(count)]
    return None


def _hide(tokens: list[int], start: int, end: int, token: int, digest: bytes) -> None:
    """Make numbers below 0, of the picture's content and their place in it, of what stands for it."""
    for at in range(start, end):
        if tokens[at] == token:
            tokens[at] = stand_in(digest, at - start)


def _moved(value: Any, device: str, dtype: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_moved(one, device, dtype) for one in value]
    if isinstance(value, torch.Tensor):
        return value.to(device, dtype if value.is_floating_point() else None)
    return value
