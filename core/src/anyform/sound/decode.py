"""Sound files of any container and codec, as numbers: mono, at the rate that a model wants. Bad ones are refused."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from io import BytesIO
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from anyform.contract.errors import Invalid, TooLarge
from anyform.contract.model import Stop
from anyform.sound import backend

Floats: TypeAlias = NDArray[np.float32]
RATES = (1_000, 768_000)
"""Samples a second that a sound file may have."""
WANTED = "Give a whole sound file, such as WAV, FLAC, MP3, Ogg, M4A or WebM."
LOUDEST = 1000.0
"""Samples are -1 to 1; what is far beyond is no sound."""
BLOCK_S = 10
_EXACT = frozenset({"wav", "flac", "matroska", "webm", "mov", "mp4", "m4a"})
"""Containers that say how long they are; others are estimated from their size."""
_UNKNOWN_SIZE = 0x7F00_0000
"""What programs that cannot go back write into a WAV's head is this or more."""
_HEAD = 1500
"""Bytes of an MP3's first frame at the most; encoders do not agree on whether its size counts."""
_PAGE = b"OggS"
"""What each page of an Ogg file begins with."""
_SLACK_S, _SLACK = 0.5, 0.02
_ROUNDING_S = 0.001


class NoSound(Invalid):
    """A file that holds no sound, or not all of it."""

    code = "no_sound"


def samples(data: bytes, rate: int, most_s: float, stop: Stop) -> Iterator[Floats]:
    """Blocks of some seconds, *rate* samples each; ends early once *stop* is set.

    Raises EngineMissing (no PyAV); NoSound where *data* is no sound, not all of it or empty; TooLarge over *most_s*.
    """
    library = backend.library()
    if not data:
        raise _refusal("the file is empty")
    _check_wave(data)
    _check_mp3(data)
    _check_ogg(data)
    try:
        with library.open(BytesIO(data), options=_options(), metadata_errors="ignore") as container:
            yield from _blocks(_Reading(container, rate, most_s, library), stop)
    except (library.FFmpegError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise _refusal(f"it cannot be decoded as sound: {why}", f"It may be cut off. {WANTED}") from error


@cache
def _options() -> dict[str, str]:
    """How FFmpeg is to open a file: with nothing but itself, and with no decoder of pictures.

    Playlists and ffconcat scripts name files and addresses. A cover of few bytes may have a billion pixels, which would
    be decoded to learn of what kind they are.
    """
    library = backend.library()
    heard = (name for name in sorted(library.codecs_available) if _hears(library, name))
    return {"protocol_whitelist": "none", "codec_whitelist": ",".join(heard)}


def _hears(library: Any, codec: str) -> bool:
    try:
        return bool(library.Codec(codec, "r").type == "audio")
    except ValueError:  # it only encodes
        return False


def _blocks(reading: _Reading, stop: Stop) -> Iterator[Floats]:
    held: list[Floats] = []
    size = 0
    for piece in reading.pieces():
        if stop.is_set():
            return
        held.append(piece)
        size += len(piece)
        if size >= BLOCK_S * reading.rate:
            yield _sound(np.concatenate(held))
            held, size = [], 0
    if held:
        yield _sound(np.concatenate(held))
    reading.check_end()


def _sound(block: Floats) -> Floats:
    if not np.abs(block).max(initial=0.0) < LOUDEST:
        raise _refusal("it has samples that are no sound: NaN, or far louder than 1")
    return block


class _Reading:
    """One open file."""

    def __init__(self, container: Any, rate: int, most_s: float, library: Any) -> None:
        if not container.streams.audio:
            raise _refusal("there is no sound in it")
        self.rate = rate
        self._container, self._library = container, library
        self._stream = container.streams.audio[0]
        self._most_s = most_s
        self._heard_s = 0.0

    def pieces(self) -> Iterator[Floats]:
        if self._stated_s() > self._most_s + _ROUNDING_S:
            raise self._too_long()
        resampler = self._library.AudioResampler(format="flt", layout="mono", rate=self.rate)
        for frame in self._container.decode(self._stream):
            self._count(frame)
            for made in resampler.resample(frame):
                yield made.to_ndarray().reshape(-1)
        if self._heard_s:
            for made in resampler.resample(None):
                yield made.to_ndarray().reshape(-1)

    def _count(self, frame: Any) -> None:
        if not RATES[0] <= frame.sample_rate <= RATES[1]:
            raise _refusal(f"it has {frame.sample_rate} samples a second; {RATES[0]} to {RATES[1]} are read")
        self._heard_s += frame.samples / frame.sample_rate
        if self._heard_s > self._most_s + _ROUNDING_S:
            raise self._too_long()

    def _too_long(self) -> TooLarge:
        return TooLarge(
            f"Invalid 'file': it is longer than {self._most_s:g} seconds.",
            "Send it in parts, or load the model with a larger option audio_seconds.",
            param="file",
            limit=self._most_s,
        )

    def check_end(self) -> None:
        """Refuse a file that had no sound, or less than its head says."""
        if not self._heard_s:
            raise _refusal("there is no sound in it")
        said = self._stated_s()
        if said > self._heard_s * (1 + _SLACK) + _SLACK_S:
            raise _truncated(f"{self._heard_s:.1f} of the {said:.1f} seconds that it says are there")

    def _stated_s(self) -> float:
        """How long the container says it is; 0: it does not, or sound need not last as long as its pictures."""
        if not _EXACT & {*self._container.format.name.split(",")}:
            return 0.0
        if self._stream.duration is not None:
            return float(self._stream.duration * self._stream.time_base)
        alone = len(self._container.streams) == 1
        return float((self._container.duration or 0) / self._library.time_base) if alone else 0.0


def _check_wave(data: bytes) -> None:
    """A WAV says its size, which the decoder does not mind."""
    said = int.from_bytes(data[4:8], "little") + 8
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE" and len(data) < said < _UNKNOWN_SIZE:
        raise _truncated(f"{len(data)} of the {said} bytes that it says are there")


def _check_mp3(data: bytes) -> None:
    """One with a Xing or Info header says its size; what is before that is ID3 (https://id3.org/id3v2.4.0-structure)."""
    start = 0
    if data[:3] == b"ID3" and len(data) > 10:
        start = 10 + sum(byte << shift for byte, shift in zip(data[6:10], (21, 14, 7, 0), strict=True))
    head = data[start : start + _HEAD]
    place = max(head.find(b"Xing"), head.find(b"Info"))
    if head[:1] != b"\xff" or place < 0 or len(head) < place + 16 or head[place + 7] & 3 != 3:
        return
    said, there = int.from_bytes(head[place + 12 : place + 16], "big"), len(data) - start
    if said > there + _HEAD:
        raise _truncated(f"{there} of the {said} bytes that it says are there")


def _check_ogg(data: bytes) -> None:
    """Each page of an Ogg file says its size, and the decoder passes over one that is not all there.

    https://www.rfc-editor.org/rfc/rfc3533, section 6
    """
    place = 0
    while len(data) > place and data[place : place + 4] == _PAGE[: len(data) - place]:
        lacing = data[place + 27 : place + 27 + data[place + 26]] if len(data) > place + 26 else b""
        place += 27 + len(lacing) + sum(lacing)
    if place > len(data):
        raise _truncated("its last page is not all there")


def _truncated(what: str) -> NoSound:
    return _refusal(f"it is truncated: {what}", "Give the whole file.")


def _refusal(what: str, hint: str = WANTED) -> NoSound:
    return NoSound(f"Invalid 'file': {what}.", hint, param="file")
