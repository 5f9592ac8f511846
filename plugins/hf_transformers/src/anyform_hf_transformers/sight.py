"""Decoders and the loop of models that read pictures: tokens, and with some of them what a picture is made into.

As for text, `SightDecoder` runs all sequences of a step as one batch, and `SightSingleDecoder` one after another, for
models whose pictures look at each other, or that keep more than keys and values.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from anyform.contract.errors import LoadFailed
from anyform.text.decoder import Decoder, first_sound
from anyform.text.sampling import Floats
from anyform.text.slot import Media, Slot, position, whole
from anyform.text.ticket import Answer
from anyform_hf_transformers.backend import torch
from anyform_hf_transformers.generation import (
    TROUBLES,
    SingleDecoder,
    SlotDecoder,
    agree,
    close,
    expect,
)
from anyform_hf_transformers.loop import Loop
from anyform_hf_transformers.projector import KINDS, Projector, Sight
from anyform_hf_transformers.quantizer import precision

_LAST = 3
"""Tokens behind the pictures of a probe whose logits are compared, the last of them read one by one."""


class Seeing(Decoder, Protocol):
    """A Decoder that reads pictures as well."""

    shifts: list[int]
    """For each slot how far its tokens' places are from their columns: a picture may take fewer places than tokens."""

    entire: bool
    """Whether a prompt has to be read in one go, and is of use to no other."""

    def read(self, slot: int, start: int, tokens: Sequence[int], *, every: bool, sight: Sight | None = None) -> Floats:
        """As `Decoder.read`; *sight*: what stands for the tokens below 0."""


class SightDecoder(SlotDecoder):
    """See the module."""

    entire = False

    def __init__(
        self,
        model: Any,
        device: str,
        slots: int,
        context: int,
        *,
        exact: bool,
        token: int,
        planes: int,
        mutual: bool = False,
    ) -> None:
        """*token*: the id of what stands for a piece of a picture. *planes*: see `Projector.planes`.

        *mutual*: the pieces of one picture look at each other, whichever comes first (Gemma 3).
        """
        super().__init__(model, device, slots, context, exact=exact)
        self.together = False  # a prompt may hold a picture, and places of its own
        self._mutual = mutual
        self._together: tuple[int, Any] | None = None
        """While tokens with a picture are read: their first column, and which of them look at each other."""
        self.shifts = [0] * self.slots
        self._token = token
        self._planes = planes

    def read(self, slot: int, start: int, tokens: Sequence[int], *, every: bool, sight: Sight | None = None) -> Floats:
        end = start + len(tokens)
        with torch.inference_mode():
            more = sight.given(start, end, self._device, self._model.dtype) if sight else {}
            ids = torch.tensor([plain(tokens, self._token)])
            columns = torch.arange(start, end)[None]
            self._together = (start, pieces(more)) if sight and self._mutual else None
            found: Floats = self._run([slot], ids, columns, every, **more)[0].float().cpu().numpy()
            self._together = None
            return found

    def _joined(self, allowed: Any) -> Any:
        if self._together is not None:
            start, each_other = self._together
            allowed[..., start : start + len(each_other)] |= each_other
        return allowed

    def _places(self, slots: Sequence[int], positions: Any) -> Any:
        shifts = torch.tensor([[self.shifts[slot]] for slot in slots], device=positions.device)
        places = (positions + shifts).clamp(min=0)
        return places.expand(self._planes, -1, -1) if self._planes else places


class SightSingleDecoder(SingleDecoder):
    """See the module."""

    entire = False

    def __init__(self, model: Any, device: str, slots: int, *, token: int, planes: int) -> None:
        """As for SightDecoder."""
        super().__init__(model, device, slots)
        self.shifts = [0] * slots
        self._token = token
        self._planes = planes
        self._picks = "logits_to_keep" in inspect.signature(model.forward).parameters

    def read(self, slot: int, start: int, tokens: Sequence[int], *, every: bool, sight: Sight | None = None) -> Floats:
        end = start + len(tokens)
        with torch.inference_mode():
            more: dict[str, Any] = {self._cache_name: self._caches[slot]} if start else {}
            if self._planes:
                places = torch.arange(start, end, device=self._device) + self.shifts[slot]
                more["position_ids"] = places.expand(self._planes, 1, -1)
            if sight:
                more |= sight.given(start, end, self._device, self._model.dtype)
            if self._picks:
                more["logits_to_keep"] = 0 if every else 1
            ids = torch.tensor([plain(tokens, self._token)], device=self._device)
            out = self._model(input_ids=ids, use_cache=True, **more)
            self._caches[slot] = getattr(out, self._cache_name)
            found: Floats = (out.logits[0] if every else out.logits[0, -1:]).float().cpu().numpy()
            return found


def open_decoder(
    model: Any,
    device: str,
    slots: int,
    context: int,
    projector: Projector,
    probe: tuple[list[int], tuple[Media, ...]],
    *,
    exact: bool,
) -> Seeing:
    """A decoder for *model*: batched if that gives what the model alone gives, else one by one.

    *probe*: a prompt with a picture, which is tried as well. Raises LoadFailed.
    """
    token, planes = projector.token, projector.planes
    expected = expect(model, device)
    looked = _expect(model, device, projector, probe) if len(probe[0]) <= context else None

    def batched(mutual: bool = False) -> Seeing:
        return SightDecoder(model, device, slots, context, exact=exact, token=token, planes=planes, mutual=mutual)

    def sound(decoder: Seeing) -> bool:
        agrees = agree(decoder, expected, precision(model))
        return agrees and (looked is None or close(_look(decoder, probe), looked, precision(model)))

    mutual = may_be_mutual(model) and (looked is None or _is_mutual(batched, probe, looked))
    makers: list[Callable[[], Seeing]] = [
        lambda: batched(mutual),
        lambda: SightSingleDecoder(model, device, slots, token=token, planes=planes),
    ]
    return first_sound(makers, sound, TROUBLES)


def may_be_mutual(model: Any) -> bool:
    """Whether transformers' code for *model* knows pieces of a picture that look at each other."""
    return hasattr(sys.modules[type(model).__module__], "get_block_sequence_ids_for_mask")


def _is_mutual(batched: Callable[[bool], Seeing], probe: tuple[list[int], tuple[Media, ...]], looked: Any) -> bool:
    """Whether with it less is left of the difference to the model: rounding may hide it from `close`."""
    left = []
    for mutual in (True, False):
        decoder = batched(mutual)
        try:
            left.append(float((_look(decoder, probe) - looked).abs().mean()))
        except TROUBLES:
            return False  # neither will do
        finally:
            decoder.free()
    return left[0] <= left[1]


def _expect(model: Any, device: str, projector: Projector, probe: tuple[list[int], tuple[Media, ...]]) -> Any:
    """The logits of the last tokens of *probe*, from the model itself in one go. Raises LoadFailed."""
    tokens, media = probe
    given = joined(media).given(0, len(tokens), device, model.dtype)
    with torch.inference_mode():
        if "logits_to_keep" in inspect.signature(model.forward).parameters:
            given["logits_to_keep"] = _LAST
        ids = torch.tensor([plain(tokens, projector.token)], device=device)
        try:
            return model(input_ids=ids, use_cache=False, **given).logits[0, -_LAST:].float().cpu()
        except TROUBLES as error:
            if "memory" in str(error).lower():
                raise
            raise LoadFailed(f"the model does not take what its processor makes: {error}") from error


def joined(media: Sequence[Media]) -> Sight:
    """What one picture, or all pictures of a prompt, are."""
    (part,) = media
    made: Sight = part.chunk
    return made


def _look(decoder: Seeing, probe: tuple[list[int], tuple[Media, ...]]) -> Any:
    """The logits of the last tokens of *probe*, read as a prompt is and then one by one."""
    tokens, media = probe
    slot, end = decoder.slots - 1, len(tokens) - _LAST + 1
    decoder.shifts[slot] = 0
    rows = [*decoder.read(slot, 0, tokens[:end], every=False, sight=joined(media))]
    for at in range(end, len(tokens)):
        decoder.shifts[slot] = position(at, media) - at
        rows += [*decoder.step([slot], [tokens[at]], [at])]
    return torch.stack([torch.as_tensor(row) for row in rows])


class SightLoop(Loop):
    """Runs tickets with pictures on a decoder that reads them."""

    _decoder: Seeing

    def __init__(
        self, decoder: Seeing, parallel: int, batch: int, text_interval_s: float, projector: Projector
    ) -> None:
        """*batch*: most prompt tokens of one step, save for a picture that takes more."""
        self._projector = projector
        super().__init__(decoder, parallel, batch, text_interval_s)

    def _free(self) -> None:
        self._projector.free()
        super()._free()

    def _compute(self, answer: Answer, start: int, tokens: Sequence[int], every: bool) -> Floats:
        media = answer.ticket.media
        self._decoder.shifts[answer.slot] = position(start, media) - start
        sight = next((part.chunk for part in media if start <= part.start < start + len(tokens)), None)
        return self._decoder.read(answer.slot, start, tokens, every=every, sight=sight)

    def _count(self, answer: Answer, scored: bool) -> int:
        """As many as a step takes, one picture among them at the most, and that whole."""
        length, media = len(answer.ticket.prompt), answer.ticket.media
        if self._decoder.entire:
            return length
        return reach(answer.decoded, length, media, self._batch) if media else super()._count(answer, scored)

    def _advance(self, answers: list[Answer]) -> None:
        for answer in answers:
            self._decoder.shifts[answer.slot] = position(answer.decoded, answer.ticket.media) - answer.decoded
        super()._advance(answers)

    def _reuse(self, slot: Slot, answer: Answer, length: int) -> int:
        """As for text; a cache that may not be cut is no use where pictures are still to come."""
        if self._decoder.entire:
            return 0
        kept = super()._reuse(slot, answer, length)
        coming = any(part.end > kept for part in answer.ticket.media)
        return 0 if coming and not self._decoder.batched else kept


def reach(start: int, end: int, media: Sequence[Media], batch: int) -> int:
    """How many tokens of a prompt of *end* are read from *start* on: *batch*, but no picture in part, nor two."""
    coming = [part for part in media if part.start >= start]
    stop = min([end, *(part.start for part in coming[1:2])])
    if stop - start > batch:
        stop = whole(start + batch, media)
    return (coming[0].end if stop == start else stop) - start


def pieces(given: Mapping[str, Any]) -> Any:
    """Which tokens are of one picture, [tokens, tokens], by what *given* says of each. Raises KeyError."""
    name = next((name for name in given if name.endswith(KINDS)), KINDS)
    of_picture = given[name][0] == 1
    begins = of_picture & ~torch.nn.functional.pad(of_picture, (1, 0))[:-1]
    groups = torch.where(of_picture, begins.int().cumsum(0), 0)
    return (groups[:, None] == groups[None, :]) & of_picture[:, None]


def plain(tokens: Sequence[int], token: int) -> list[int]:
    return [one if one >= 0 else token for one in tokens]
