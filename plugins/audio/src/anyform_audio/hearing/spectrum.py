"""faster-whisper's spectrum of a sound, made a part at a time, and which window of it is looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from anyform.sound.decode import Floats

BLOCK = 30_000
"""Frames of 10 ms that are made at once. faster-whisper makes all at once: some 4 GB for two hours."""


class Spectrum:
    """Stands in for a FeatureExtractor; its numbers are that one's."""

    def __init__(self, extractor: Any, at: Callable[[int], None], check: Callable[[], None] = lambda: None) -> None:
        """*at*: told the frame at which each window begins, when its turn comes. *check*: called before each part."""
        self._extractor, self._at, self._check = extractor, at, check

    def __getattr__(self, name: str) -> Any:
        return getattr(self._extractor, name)

    def __call__(self, sound: Floats, padding: int = 160, chunk_length: int | None = None) -> Frames:
        """Bands x frames of *sound*."""
        made = self._whole(sound, padding).view(Frames)
        made.at = self._at
        return made

    def _whole(self, sound: Floats, padding: int) -> Floats:
        size, hop = self._extractor.n_fft, self._extractor.hop_length
        frames = (len(sound) + padding) // hop
        if frames <= BLOCK:
            whole: Floats = self._extractor(sound, padding)
            return whole
        filters = self._extractor.mel_filters
        made = np.empty((len(filters), frames), np.float32)
        samples = _mirrored(sound, padding, size // 2)
        for start in range(0, frames, BLOCK):
            self._check()
            end = min(start + BLOCK, frames)
            self._fill(made[:, start:end], samples[start * hop : (end - 1) * hop + size])
        np.maximum(made, made.max() - 8.0, out=made)
        made += 4.0
        made /= 4.0
        return made

    def _fill(self, out: Floats, samples: Floats) -> None:
        """The logarithms of the bands of *samples*, as FeatureExtractor.__call__ has them before it scales them."""
        window = np.hanning(self._extractor.n_fft + 1)[:-1].astype(np.float32)
        made = self._extractor.stft(
            samples, self._extractor.n_fft, self._extractor.hop_length,
            window=window, center=False, return_complex=True,
        ).astype(np.complex64)  # fmt: skip
        out[:] = np.log10(np.clip(self._extractor.mel_filters @ (np.abs(made) ** 2), 1e-10, None))


def _mirrored(sound: Floats, padding: int, edge: int) -> Floats:
    """*sound*, then *padding* zeros; both ends go on mirrored for *edge* samples."""
    end = edge + len(sound)
    made = np.zeros(end + padding + edge, np.float32)
    made[edge:end] = sound
    made[:edge] = made[2 * edge : edge : -1]
    made[-edge:] = made[-edge - 2 : -2 * edge - 2 : -1]
    return made


class Frames(np.ndarray[Any, np.dtype[np.float32]]):
    """A spectrum that tells from where windows are cut."""

    at: Callable[[int], None] | None = None

    def __getitem__(self, key: Any) -> Any:
        if self.at is not None and isinstance(key, tuple) and len(key) == 2 and key[0] == slice(None):
            self.at(int(key[1].start or 0))
        return np.asarray(self)[key]
