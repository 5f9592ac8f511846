"""Decoders: tokens of many sequences in, rows of logits out. Each sequence has a slot, which keeps its keys and values.

`SlotDecoder` runs all sequences of a step as one batch: a slot's keys lie at the columns of their positions, so that
sequences come and go without anything being moved or padded on the left, and a masked column adds an exact zero.
`SingleDecoder` gives each sequence a cache of the model's own kind and runs one after another: for models that keep
more than keys and values, or mask in ways of their own.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from anyform.contract.errors import LoadFailed
from anyform.text.decoder import PROBE, Decoder, computes, first_sound, near
from anyform.text.sampling import Floats
from anyform_hf_transformers.backend import torch, transformers
from anyform_hf_transformers.quantizer import precision

_BLOCK = 64
"""Columns are attended to in multiples of it, so that sums do not hang on how long the other sequences are."""
_FEWEST_ROWS = 4
"""From so many rows on torch's matrix products on a CPU, in one thread, give each row the same bits as among more."""
TROUBLES = (AttributeError, IndexError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError)
"""What transformers' classes raise where a cache or a mask is not of their own kind."""
_TOLERANCE = {torch.float32: 1e-3, torch.float16: 5e-2, torch.bfloat16: 2e-1}
"""How far the logits of a batch may lie from the model's own, as a share of their spread."""


def open_decoder(model: Any, device: str, slots: int, context: int, *, exact: bool) -> Decoder:
    """A decoder for *model*: batched if that gives what the model alone gives, else one by one. Raises LoadFailed."""
    expected = expect(model, device)
    makers: list[Callable[[], Decoder]] = [
        lambda: SlotDecoder(model, device, slots, context, exact=exact),
        lambda: SingleDecoder(model, device, slots),
        lambda: SingleDecoder(model, device, slots, stepped=True),
    ]
    return first_sound(makers, lambda decoder: agree(decoder, expected, precision(model)), TROUBLES)


def expect(model: Any, device: str) -> torch.Tensor:
    """What *model* gives for a short probe without any cache. Raises LoadFailed: no finite numbers."""
    with torch.inference_mode():
        ids = torch.tensor([PROBE], device=device)
        logits: torch.Tensor = model(input_ids=ids, use_cache=False).logits[0].float().cpu()
        if not torch.isfinite(logits).all():
            raise LoadFailed("the model computes numbers that are not finite.", "Get it again, or use dtype=float32.")
        return logits


def agree(decoder: Decoder, expected: torch.Tensor, dtype: Any) -> bool:
    """Whether *decoder* gives *expected* but for what rounding in *dtype* does: see `anyform.text.decoder.computes`."""
    return computes(decoder, expected.numpy(), _tolerance(dtype))


def close(found: torch.Tensor, expected: torch.Tensor, dtype: Any) -> bool:
    """Whether logits are the same but for what rounding in *dtype* does."""
    return near(found.numpy(), expected.numpy(), _tolerance(dtype))


def _tolerance(dtype: Any) -> float:
    return _TOLERANCE.get(dtype, 2e-1)


class _SlotCache(transformers.Cache):  # type: ignore[misc]
    """Keys and values of all slots: [slots, heads, columns, head size] for each layer, made when first written.

    The last column takes what the rows of idle slots write.
    """

    def __init__(self, slots: int, columns: int) -> None:
        super().__init__(layers=[])
        self.slots, self.columns = slots, columns
        self.stores: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self.rows: torch.Tensor | slice = slice(0)
        self.written = self.positions = torch.empty(0)
        self.width = 0

    def aim(self, slots: Sequence[int], positions: torch.Tensor, width: int) -> None:
        """The next pass has a row for each of *slots*, ascending, and attends to *width* columns."""
        together = slots[-1] - slots[0] + 1 == len(slots)
        self.rows = slice(slots[0], slots[-1] + 1) if together else torch.tensor(slots, device=positions.device)
        self.written = torch.tensor(slots, device=positions.device)[:, None]
        self.positions, self.width = positions, width

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if layer_idx not in self.stores:
            self.stores[layer_idx] = (self._made(key_states), self._made(value_states))
        keys, values = self.stores[layer_idx]
        place = keys.device  # layers may lie on several
        written, positions = self.written.to(place), self.positions.to(place)
        rows = self.rows if isinstance(self.rows, slice) else self.rows.to(place)
        keys[written, :, positions] = key_states.transpose(1, 2)
        values[written, :, positions] = value_states.transpose(1, 2)
        return keys[rows, :, : self.width], values[rows, :, : self.width]

    def _made(self, like: torch.Tensor) -> torch.Tensor:
        return like.new_zeros(self.slots, like.shape[1], self.columns + 1, like.shape[3])

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0

    def get_max_cache_shape(self, layer_idx: int = 0) -> int:
        return self.columns


class SlotDecoder:
    """See the module. *exact*: no result may hang on what else runs."""

    batched = True

    def __init__(self, model: Any, device: str, slots: int, context: int, *, exact: bool) -> None:
        self.fewest = _FEWEST_ROWS if exact else 1
        self.together = not exact
        self.slots = max(slots, self.fewest)
        self._model = model
        self._device = device
        self._columns = -(-context // _BLOCK) * _BLOCK
        self._cache = _SlotCache(self.slots, self._columns)
        self._picks = "logits_to_keep" in inspect.signature(model.forward).parameters
        config = model.config.get_text_config()
        kinds = getattr(config, "layer_types", None) or ()
        self._mixed = "sliding_attention" in kinds
        window = getattr(config, "sliding_window", None)
        self._window = window if isinstance(window, int) and (self._mixed or not kinds) else None
        self._lowest = torch.finfo(model.dtype).min

    def read(self, slot: int, start: int, tokens: Sequence[int], *, every: bool) -> Floats:
        with torch.inference_mode():
            positions = torch.arange(start, start + len(tokens))[None]
            found: Floats = self._run([slot], torch.tensor([list(tokens)]), positions, every)[0].float().cpu().numpy()
            return found

    def read_all(self, slots: Sequence[int], starts: Sequence[int], prompts: Sequence[Sequence[int]]) -> Floats:
        longest = max(map(len, prompts))
        ids = torch.zeros(len(slots), longest, dtype=torch.long)
        places = torch.full_like(ids, -1)  # the shorter are padded in front, so that all end in the last column
        for row, (start, tokens) in enumerate(zip(starts, prompts, strict=True)):
            ids[row, longest - len(tokens) :] = torch.tensor(tokens)
            places[row, longest - len(tokens) :] = torch.arange(start, start + len(tokens))
        with torch.inference_mode():
            found: Floats = self._run(slots, ids, places, False)[:, -1].float().cpu().numpy()
            return found

    def step(self, slots: Sequence[int], tokens: Sequence[int], positions: Sequence[int]) -> Floats:
        with torch.inference_mode():
            rows = self._filled(slots)
            place = {slot: row for row, slot in enumerate(rows)}
            own = [place[slot] for slot in slots]
            ids = torch.zeros(len(rows), 1, dtype=torch.long)
            places = torch.full_like(ids, -1)
            ids[own, 0] = torch.tensor(tokens)
            places[own, 0] = torch.tensor(positions)
            found: Floats = self._run(rows, ids, places, False)[:, -1].float().cpu().numpy()
            return found if len(rows) == len(slots) else found[own]

    def _filled(self, slots: Sequence[int]) -> list[int]:
        """*slots* and the idle ones that are computed with them: so that there are enough, and no holes to copy around.

        Slots in a row are read where they lie; where more than half would be idle, copying is cheaper.
        """
        span = range(slots[0], slots[-1] + 1)
        rows = list(span) if len(span) <= 2 * len(slots) else list(slots)
        others = (slot for slot in range(self.slots) if slot not in rows)
        while len(rows) < self.fewest:
            rows.append(next(others))
        return sorted(rows)

    def _run(self, slots: Sequence[int], ids: Any, positions: Any, every: bool, **more: Any) -> Any:
        """Logits. A position of -1: the slot is idle, and what its row computes is of no use. *more*: for the model."""
        width = min(self._columns, -(-(int(positions.max()) + 1) // _BLOCK) * _BLOCK)
        positions = positions.to(self._device)
        self._cache.aim(slots, torch.where(positions < 0, self._columns, positions), width)
        kept = {"logits_to_keep": 0 if every else 1} if self._picks else {}
        out = self._model(
            input_ids=ids.to(self._device),
            attention_mask=self._mask(positions, width),
            past_key_values=self._cache,
            use_cache=True,
            **{"position_ids": self._places(slots, positions), **kept, **more},
        )
        return out.logits if every else out.logits[:, -1:]

    def _places(self, slots: Sequence[int], positions: Any) -> Any:
        """What the model takes for the positions of the tokens at these columns."""
        return positions.clamp(min=0)

    def _mask(self, positions: Any, width: int) -> Any:
        """0 where a row may look, else the lowest number; [rows, 1, tokens, width]."""
        columns = torch.arange(width, device=self._device)
        at = positions.clamp(min=0)[:, None, :, None]
        seen = self._joined(columns <= at)
        near = seen & (columns > at - self._window) if self._window else seen
        if self._mixed:
            return {"full_attention": self._added(seen), "sliding_attention": self._added(near)}
        return self._added(near)

    def _joined(self, allowed: Any) -> Any:
        """*allowed*, [rows, 1, tokens, columns], and what behind them the model lets its tokens look at."""
        return allowed

    def _added(self, allowed: Any) -> Any:
        return torch.where(allowed, 0.0, self._lowest).to(self._model.dtype)

    def copy(self, source: int, target: int, count: int) -> None:
        with torch.inference_mode():
            for stores in self._cache.stores.values():
                for store in stores:
                    store[target, :, :count] = store[source, :, :count]

    def forget(self) -> None:
        """Give the memory of the slots back."""
        self._cache.stores.clear()

    def free(self) -> None:
        self.forget()
        self._model = None
        if self._device.startswith("cuda"):
            torch.cuda.empty_cache()


class SingleDecoder:
    """See the module."""

    batched = together = False
    fewest = 1

    def __init__(self, model: Any, device: str, slots: int, *, stepped: bool = False) -> None:
        """*stepped*: the model is right for single tokens alone behind what it keeps, as Mamba is."""
        self.slots = slots
        self._model = model
        self._device = device
        self._stepped = stepped
        self._caches: list[Any] = [None] * slots
        takes = inspect.signature(model.forward).parameters
        self._cache_name = "past_key_values" if "past_key_values" in takes else "cache_params"

    def read(self, slot: int, start: int, tokens: Sequence[int], *, every: bool) -> Floats:
        if self._stepped and start and len(tokens) > 1:
            each = [self.read(slot, at, [token], every=False) for at, token in enumerate(tokens, start)]
            stepped: Floats = torch.cat([torch.as_tensor(row) for row in each]).numpy()
            return stepped if every else stepped[-1:]
        with torch.inference_mode():
            known = {self._cache_name: self._caches[slot]} if start else {}
            out = self._model(input_ids=torch.tensor([list(tokens)], device=self._device), use_cache=True, **known)
            self._caches[slot] = getattr(out, self._cache_name)
            found: Floats = (out.logits[0] if every else out.logits[0, -1:]).float().cpu().numpy()
            return found

    def read_all(self, slots: Sequence[int], starts: Sequence[int], prompts: Sequence[Sequence[int]]) -> Floats:
        raise NotImplementedError

    def step(self, slots: Sequence[int], tokens: Sequence[int], positions: Sequence[int]) -> Floats:
        rows = [
            self.read(slot, at, [token], every=False) for slot, token, at in zip(slots, tokens, positions, strict=True)
        ]
        found: Floats = torch.cat([torch.as_tensor(row) for row in rows]).numpy()
        return found

    def copy(self, source: int, target: int, count: int) -> None:
        self._caches[target] = copy.deepcopy(self._caches[source])

    def free(self) -> None:
        self._caches.clear()
        self._model = None
        if self._device.startswith("cuda"):
            torch.cuda.empty_cache()
