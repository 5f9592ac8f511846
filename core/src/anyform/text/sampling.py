"""Drawing the next token from a row of logits, in numpy and without sorting the vocabulary.

The order of the steps and their meanings are llama.cpp's: logit bias, penalties, top_k, typical_p, top_p, min_p,
temperature, draw. Rows are changed in place: they lie in memory that the next decode overwrites.
"""

from __future__ import annotations

import math
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from anyform.contract.errors import Invalid
from anyform.contract.jobs import Sampling

Floats: TypeAlias = NDArray[np.float32]
Ids: TypeAlias = NDArray[np.intp]

DEFAULTS = {
    "temperature": 0.8,
    "top_k": 40,
    "top_p": 0.95,
    "min_p": 0.05,
    "typical_p": 1.0,
    "repeat_penalty": 1.0,
    "repeat_last_n": 64,
}
"""llama.cpp's (common_params_sampling), for what neither the request nor the model's file says."""

_SHARES = ("top_p", "min_p", "typical_p")
_LANES = 64
_FEW = 4096
_BLOCK = 512
_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the tokens of one request are drawn; every default is filled in."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    typical_p: float
    repeat_penalty: float
    repeat_last_n: int
    """Tokens of prompt and answer that `repeat_penalty` looks back over; 0: none, -1: all."""
    presence_penalty: float
    frequency_penalty: float
    """Both as OpenAI has them: over all tokens of the answer so far, not the prompt."""
    seed: int
    seeded: bool
    """Whether the request named the seed."""
    bias_ids: Ids = field(default_factory=lambda: np.empty(0, np.intp))
    bias: Floats = field(default_factory=lambda: np.empty(0, np.float32))

    @property
    def greedy(self) -> bool:
        return self.temperature <= 0.0

    @property
    def repeats(self) -> bool:
        return self.repeat_penalty != 1.0 and self.repeat_last_n != 0

    @property
    def counts(self) -> bool:
        return self.presence_penalty != 0.0 or self.frequency_penalty != 0.0

    @property
    def plain(self) -> bool:
        """Whether the next token is simply the most likely one that is not banned."""
        return self.greedy and not self.repeats and not self.counts


def recipe(sampling: Sampling, defaults: Mapping[str, Any], vocab_size: int, banned: Sequence[int] = ()) -> Recipe:
    """Fill *sampling* from the model's *defaults*, then llama.cpp's.

    *banned* ids are never drawn. Raises Invalid for a value out of range.
    """

    def value(name: str) -> Any:
        asked = getattr(sampling, name)
        return asked if asked is not None else defaults.get(name, DEFAULTS[name])

    bias = dict(sampling.logit_bias)
    _check_bias(bias, vocab_size)
    bias.update(dict.fromkeys(banned, -math.inf))
    made = Recipe(
        temperature=float(value("temperature")),
        top_k=int(value("top_k")),
        top_p=float(value("top_p")),
        min_p=float(value("min_p")),
        typical_p=float(value("typical_p")),
        repeat_penalty=float(value("repeat_penalty")),
        repeat_last_n=int(value("repeat_last_n")),
        presence_penalty=sampling.presence_penalty or 0.0,
        frequency_penalty=sampling.frequency_penalty or 0.0,
        seed=secrets.randbits(32) if sampling.seed is None else sampling.seed,
        seeded=sampling.seed is not None,
        bias_ids=np.fromiter(bias.keys(), np.intp, len(bias)),
        bias=np.fromiter(bias.values(), np.float32, len(bias)),
    )
    _check_range(made)
    return made


def _check_bias(bias: Mapping[int, float], vocab_size: int) -> None:
    for token in bias:
        if not 0 <= token < vocab_size:
            raise Invalid(f"logit_bias names token {token}; this model has tokens 0 to {vocab_size - 1}.")


def _check_range(made: Recipe) -> None:
    for name in (*_SHARES, "temperature", "repeat_penalty", "presence_penalty", "frequency_penalty"):
        number = getattr(made, name)
        if not math.isfinite(number):
            raise Invalid(f"{name} is {number}; give a finite number.")
    for name in _SHARES:
        number = getattr(made, name)
        if not 0.0 <= number <= 1.0:
            raise Invalid(f"{name} is {number}; it must lie between 0 and 1.")
    if made.temperature < 0.0:
        raise Invalid(f"temperature is {made.temperature}; give 0 (always the most likely token) or more.")
    if made.repeat_penalty <= 0.0:
        raise Invalid(f"repeat_penalty is {made.repeat_penalty}; it must be above 0 (1 is off).")


def uniform(seed: int, index: int, position: int) -> float:
    """A number in [0, 1) that depends on nothing but its arguments.

    SplitMix64's finalizer (Steele, Lea, Flood 2014), over seed, answer and place in the answer.
    """
    state = seed & _MASK
    for part in (index, position):
        state = _mix((state + 0x9E3779B97F4A7C15 * (part + 1)) & _MASK)
    return (state >> 11) * 2.0**-53


def _mix(z: int) -> int:
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def weigh(row: Floats, recipe: Recipe, tokens: Sequence[int], prompt: int) -> None:
    """Apply bias and penalties to *row*. *tokens* are prompt and answer, the first *prompt* of them the prompt."""
    if recipe.bias_ids.size:
        row[recipe.bias_ids] += recipe.bias
    if recipe.repeats:
        last = tokens if recipe.repeat_last_n < 0 else tokens[-recipe.repeat_last_n :]
        ids = np.fromiter({token for token in last if token >= 0}, np.intp)
        seen = row[ids]
        row[ids] = np.where(seen <= 0, seen * recipe.repeat_penalty, seen / recipe.repeat_penalty)
    if recipe.counts and len(tokens) > prompt:
        counts = Counter(tokens[prompt:])
        ids = np.fromiter(counts.keys(), np.intp, len(counts))
        often = np.fromiter(counts.values(), np.float32, len(counts))
        row[ids] -= often * recipe.frequency_penalty + recipe.presence_penalty


def draw(row: Floats, recipe: Recipe, chance: float) -> tuple[int, float]:
    """The token that *chance* in [0, 1) picks, and how far *chance* is from where the pick would change; -1: none may.

    The cumulated probabilities run in the order of token ids, not of likelihood, so that a change in the last
    bits of a logit moves their borders a little but never reorders them.
    """
    ids, values = _candidates(row, recipe)
    if not ids.size:
        return -1, 0.0
    exact = values.astype(np.float64 if ids.size <= _FEW else np.float32)
    weights = np.exp((exact - exact.max()) / recipe.temperature)
    place, below, above = _pick_place(weights, chance)
    return int(ids[place]), min(chance - below, above - chance)


def _pick_place(weights: NDArray[Any], chance: float) -> tuple[int, float, float]:
    """Where *chance* falls among the cumulated *weights*, and the borders of that place; infinite at the ends."""
    first, end, base = 0, weights.size, 0.0
    total = float(weights.sum(dtype=np.float64))
    if weights.size > _FEW:  # find the block first: adding up all weights one by one takes long
        starts = np.arange(0, weights.size, _BLOCK)
        reached = np.cumsum(np.add.reduceat(weights, starts, dtype=np.float64))
        total = float(reached[-1])
        block = min(int(np.searchsorted(reached, chance * total, side="right")), starts.size - 1)
        first, base = int(starts[block]), float(reached[block - 1]) if block else 0.0
        end = min(first + _BLOCK, weights.size)
    borders = base + np.cumsum(weights[first:end], dtype=np.float64)
    place = min(int(np.searchsorted(borders, chance * total, side="right")), borders.size - 1)
    below = float(borders[place - 1]) if place else base
    last = first + place + 1 == weights.size
    return (
        first + place,
        below / total if first + place else -math.inf,
        math.inf if last else float(borders[place]) / total,
    )


def gap(row: Floats, best: int) -> float:
    """How far the logit of *best* is above the next one."""
    top = row[best]
    row[best] = -math.inf
    second = row.max()
    row[best] = top
    return float(top - second)


def _candidates(row: Floats, recipe: Recipe) -> tuple[Ids, Floats]:
    """Ids, ascending, and logits of the tokens that pass top_k, typical_p, top_p and min_p."""
    limited = 0 < recipe.top_k < row.size
    ids = np.sort(leading(row, recipe.top_k)) if limited else np.flatnonzero(row > -math.inf)
    values = row[ids]
    if recipe.typical_p < 1.0 and ids.size:
        typical = _typical(values, recipe.typical_p)
        ids, values = ids[typical], values[typical]
    floor = -math.inf
    if recipe.top_p < 1.0 and ids.size:
        floor = _nucleus_floor(values, recipe.top_p)
    if recipe.min_p > 0.0 and ids.size:
        floor = max(floor, float(values.max()) + math.log(recipe.min_p))
    if floor > -math.inf:
        kept = values >= floor
        ids, values = ids[kept], values[kept]
    return ids, values


def leading(row: Floats, count: int) -> Ids:
    """Ids of the *count* largest logits, largest first, equal ones by id; fewer if the rest is -inf.

    The row is read once: the largest of each of n/64 interleaved groups is taken, and the count-th largest of
    those is a floor that at least *count* logits reach; only the groups that reach it are looked into.
    """
    columns = row.size // _LANES
    if columns < 2 * count:
        ids = np.flatnonzero(row > -math.inf)
    else:
        grid = row[: columns * _LANES].reshape(_LANES, columns)
        peaks = grid.max(axis=0)
        floor = np.partition(peaks, columns - count)[columns - count]
        ids = _reaching(row, grid, peaks, floor) if floor > -math.inf else np.flatnonzero(row > -math.inf)
    return ids[np.lexsort((ids, -row[ids]))[:count]]


def _reaching(row: Floats, grid: Floats, peaks: Floats, floor: np.float32) -> Ids:
    lanes, columns = grid.shape
    high = np.flatnonzero(peaks >= floor)
    lane, column = np.nonzero(grid[:, high] >= floor)
    rest = np.flatnonzero(row[lanes * columns :] >= floor) + lanes * columns
    return np.concatenate((lane * columns + high[column], rest))


def _nucleus_floor(values: Floats, top_p: float) -> float:
    """The logit of the last of the likeliest *values* that together reach *top_p*."""
    top = values.max()
    weights = np.exp(values - top)
    total = float(weights.sum(dtype=np.float64))
    # all that weigh less than this weigh less than 1 - top_p together, so they are never needed
    heavy = values[weights >= (1.0 - top_p) * total / values.size] if values.size > _FEW else values
    heavy = np.sort(heavy)[::-1]
    reached = np.cumsum(np.exp(heavy.astype(np.float64) - top))
    place = int(np.searchsorted(reached, top_p * (total if heavy.size < values.size else reached[-1]), side="left"))
    return float(heavy[min(place, heavy.size - 1)])


def _typical(values: Floats, typical_p: float) -> NDArray[np.intp]:
    """Places of the locally typical (Meister et al. 2022): those whose surprise is nearest the entropy."""
    logs = values.astype(np.float64) - values.max()
    logs -= math.log(float(np.exp(logs).sum()))
    weights = np.exp(logs)
    entropy = -float((weights * logs).sum())
    nearest = np.argsort(np.abs(-logs - entropy).astype(np.float32))
    return np.sort(nearest[: int(np.searchsorted(np.cumsum(weights[nearest]), typical_p, side="right")) + 1])


def log_softmax_sum(row: Floats) -> float:
    """The number that turns a logit of *row* into a log-probability when subtracted."""
    top = float(row.max())
    return top + math.log(float(np.exp(row - top).sum(dtype=np.float64)))
