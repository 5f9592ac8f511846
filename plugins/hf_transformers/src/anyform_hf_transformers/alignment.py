"""When each word was spoken: dynamic time warping over cross-attention, and tokens gathered into words.

As transformers has it, after OpenAI: https://github.com/openai/whisper/blob/main/whisper/timing.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from anyform.text.vectormodel import Floats

Doubles: TypeAlias = NDArray[np.float64]
STEP_S = 0.02
"""Seconds of one column of attention, and of one step of Whisper's timestamps."""
UNSPACED = frozenset({"zh", "ja", "th", "lo", "my", "yue"})
"""Languages that put no space between words."""
_OPENING = "\"'“¡¿([{-"
_CLOSING = "\"'.。,，!！?？:：”)]}、"  # noqa: RUF001 - those of Chinese and Japanese
_PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
_BROKEN = "\N{REPLACEMENT CHARACTER}"


@dataclass(slots=True)
class Word:
    """Some tokens that make a word, and when: seconds."""

    text: str
    start: float
    end: float


Timed: TypeAlias = tuple[int, float, float]
"""A token, and from when to when."""


def times(attention: Any, median: int) -> list[float]:
    """When each token begins, in seconds. *attention*: heads x tokens x columns; *median*: width of the filter."""
    with np.errstate(invalid="ignore", divide="ignore"):
        weights = (attention - attention.mean(-2, keepdims=True)) / attention.std(-2, keepdims=True)
    matrix = _smooth(np.nan_to_num(weights), median).mean(0)
    rows, columns = warp(-matrix.astype(np.float64))
    begins = np.pad(np.diff(rows), (1, 0), constant_values=1).astype(bool)
    return [float(column) * STEP_S for column in columns[begins]]


def _smooth(weights: Floats, width: int) -> Floats:
    """A running median along the last axis, mirrored at its ends."""
    edge = width // 2
    if width < 2 or weights.shape[-1] <= edge:
        return weights
    padded = np.pad(weights, ((0, 0), (0, 0), (edge, edge)), mode="reflect")
    made: Floats = np.median(np.lib.stride_tricks.sliding_window_view(padded, width, axis=-1), axis=-1)
    return made


def warp(cost: Doubles) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The cheapest path from corner to corner of *cost*, as rows and columns; found diagonal by diagonal."""
    rows, columns = cost.shape
    total = np.full((rows + 1, columns + 1), np.inf, np.float32)
    trace = np.zeros((rows + 1, columns + 1), np.int8)
    total[0, 0] = 0
    trace[0, :], trace[:, 0] = 2, 1
    flat, moves, wide = total.reshape(-1), trace.reshape(-1), columns + 1
    padded = np.zeros_like(total, np.float64)
    padded[1:, 1:] = cost
    costs = padded.reshape(-1)
    for diagonal in range(2, rows + columns + 1):
        low, high = max(1, diagonal - columns), min(rows, diagonal - 1)
        here = np.arange(low, high + 1) * columns + diagonal
        across, down, along = flat[here - wide - 1], flat[here - wide], flat[here - 1]
        move = np.where((across < down) & (across < along), 0, np.where((down < across) & (down < along), 1, 2))
        flat[here] = costs[here] + np.choose(move, (across, down, along))
        moves[here] = move
    return _back(trace)


def _back(trace: NDArray[np.int8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    row, column = trace.shape[0] - 1, trace.shape[1] - 1
    path = []
    while row > 0 or column > 0:
        path.append((row - 1, column - 1))
        move = trace[row, column]
        row, column = row - (move != 2), column - (move != 1)
    found = np.array(path[::-1], np.int64)
    return found[:, 0], found[:, 1]


def words(tokens: Sequence[Timed], decode: Callable[[list[int]], str], language: str) -> list[Word]:
    """*tokens* of one segment, gathered into words; punctuation goes with the word that it stands at."""
    pieces = _characters(tokens, decode)
    if language not in UNSPACED:
        pieces = _spaced(pieces)
    return _closed(_opened(pieces))


def _characters(tokens: Sequence[Timed], decode: Callable[[list[int]], str]) -> list[Word]:
    """As few tokens as make whole characters."""
    whole = decode([token for token, _, _ in tokens])
    made: list[Word] = []
    held: list[Timed] = []
    offset = 0
    for one in tokens:
        held.append(one)
        text = decode([token for token, _, _ in held])
        broken = offset + text.index(_BROKEN) if _BROKEN in text else -1
        if broken < 0 or broken >= len(whole) or whole[broken] == _BROKEN:
            made.append(Word(text, held[0][1], held[-1][2]))
            held, offset = [], offset + len(text)
    return made


def _spaced(pieces: Sequence[Word]) -> list[Word]:
    made: list[Word] = []
    for piece in pieces:
        if not made or piece.text.startswith(" ") or piece.text.strip() in _PUNCTUATION:
            made.append(piece)
        else:
            made[-1].text += piece.text
            made[-1].end = piece.end
    return made


def _opened(pieces: Sequence[Word]) -> list[Word]:
    """An opening mark goes with what follows."""
    made: list[Word] = []
    for piece in reversed(pieces):
        if made and piece.text.startswith(" ") and piece.text.strip() in _OPENING:
            made[-1].text = piece.text + made[-1].text
            made[-1].start = piece.start
        else:
            made.append(piece)
    return made[::-1]


def _closed(pieces: Sequence[Word]) -> list[Word]:
    """A closing mark goes with what is before it."""
    made: list[Word] = []
    for piece in pieces:
        if made and not made[-1].text.endswith(" ") and piece.text in _CLOSING:
            made[-1].text += piece.text
            made[-1].end = piece.end
        else:
            made.append(piece)
    return made
