"""Whisper's log-mel spectrogram, block by block, so that hours of sound need no hours of samples in memory.

The numbers are those of transformers' WhisperFeatureExtractor, which takes all samples at once:
https://github.com/openai/whisper/blob/main/whisper/audio.py (log_mel_spectrogram).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from anyform.text.vectormodel import Floats

_BLOCK = 3000
"""Frames that are computed together."""
_FLOOR = 1e-10
_RANGE = 8.0


@dataclass(frozen=True, slots=True)
class Heard:
    """A sound as the network takes it."""

    frames: Floats
    """Bands x frames, what is behind the end included where the sound fills no window."""
    length: int
    """Frames that are of the sound itself."""
    duration_s: float


class Spectrograph:
    """Makes spectrograms with one model's bands and steps."""

    def __init__(self, filters: Floats, size: int, hop: int, rate: int, window: int) -> None:
        """*filters*: 1 + *size* // 2 frequencies x bands. *size*: samples of a frame; *hop*: from one to the next.

        *window*: samples that the network takes at once; a shorter sound is filled up with silence.
        """
        self._filters = np.ascontiguousarray(filters, np.float32)
        self._size, self._hop, self.rate, self._window = size, hop, rate, window
        self._weights = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32)

    def read(self, blocks: Iterable[Floats]) -> Heard:
        """The spectrogram of the samples in *blocks*."""
        counted = _Counted(blocks, self._window)
        frames = np.concatenate(list(self._log(counted)), axis=1)
        np.maximum(frames, frames.max() - _RANGE, out=frames)
        frames += 4.0
        frames /= 4.0
        length = max(-(-counted.heard // self._hop), 1) if counted.filled else frames.shape[1]
        return Heard(frames, length, counted.heard / self.rate)

    def _log(self, blocks: _Counted) -> Iterator[Floats]:
        """Bands x some frames at a time. A frame is centred on its place; beyond both ends the sound is mirrored."""
        edge, done = self._size // 2, 0
        held = np.zeros(0, np.float32)
        for block in blocks:
            begins = not done and len(held) <= edge
            held = np.concatenate([held, block])
            if begins and len(held) > edge:
                held = np.concatenate([held[edge:0:-1], held])
            while len(held) >= self._size + (_BLOCK - 1) * self._hop:
                yield self._bands(held, _BLOCK)
                held, done = held[_BLOCK * self._hop :], done + _BLOCK
        held = np.concatenate([held, held[-2 : -edge - 2 : -1]])
        left = blocks.total // self._hop - done
        if left:
            yield self._bands(held, left)

    def _bands(self, samples: Floats, count: int) -> Floats:
        rows = np.lib.stride_tricks.sliding_window_view(samples, self._size)[:: self._hop][:count]
        power = np.abs(np.fft.rfft(rows * self._weights, axis=1)).astype(np.float32) ** 2
        bands: Floats = np.log10(np.maximum(power @ self._filters, _FLOOR)).T
        return bands


class _Counted:
    """Blocks, and silence behind them up to one window."""

    def __init__(self, blocks: Iterable[Floats], window: int) -> None:
        self._blocks, self._window = blocks, window
        self.heard = self.total = 0

    @property
    def filled(self) -> bool:
        return self.total > self.heard

    def __iter__(self) -> Iterator[Floats]:
        for block in self._blocks:
            self.heard += len(block)
            yield block
        self.total = max(self.heard, self._window)
        if self.filled:
            yield np.zeros(self.total - self.heard, np.float32)
