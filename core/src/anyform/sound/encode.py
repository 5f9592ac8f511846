"""Mono 16-bit PCM as a sound file of six formats, piece by piece or whole. PyAV writes them, but for wav and pcm.

Where the head of a format can say how long the sound is, and how much a decoder leaves out at its beginning, it does.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from io import BytesIO
from typing import Any, Protocol

from anyform.contract.errors import EngineMissing, Invalid
from anyform.sound import backend

FORMATS = ("mp3", "opus", "aac", "flac", "wav", "pcm")
MEDIA_TYPES: Mapping[str, str] = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}
RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
"""Samples a second that a file may be asked to have."""
OPUS_RATES = (8_000, 12_000, 16_000, 24_000, 48_000)
"""Those that Opus is told; its decoders give 48,000 whatever it was."""
SAMPLE_BYTES = 2
UNKNOWN = 0xFFFF_FFFF
"""Bytes that the head of a WAV says where nobody knows yet."""


@dataclass(frozen=True, kw_only=True)
class _Codec:
    """How PyAV calls what writes a format."""

    container: str
    codec: str
    samples: str
    """The codec's own form of samples."""
    bit_rate: int = 0
    """0: it loses nothing."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Of the container, where the file is not whole."""


_CODECS = {
    "mp3": _Codec(
        container="mp3",
        codec="libmp3lame",
        samples="s16p",
        bit_rate=64_000,
        options={"write_xing": "0", "id3v2_version": "0"},
    ),
    "opus": _Codec(
        container="ogg", codec="libopus", samples="s16", bit_rate=48_000, options={"page_duration": "40000"}
    ),
    "aac": _Codec(container="adts", codec="aac", samples="fltp", bit_rate=64_000),
    "flac": _Codec(container="flac", codec="flac", samples="s16", options={"metadata_header_padding": "0"}),
}


def rates(form: str) -> tuple[int, ...]:
    """Samples a second that a file of that format may be asked to have."""
    return OPUS_RATES if form == "opus" else RATES


def prepare(form: str) -> None:
    """Import what *form* needs. Raises Invalid (no such format), EngineMissing."""
    if form not in FORMATS:
        raise Invalid(f"there is no format '{form}'.", f"Choose one of {', '.join(FORMATS)}.", param="response_format")
    if form in _CODECS:
        backend.library()


class _Track(Protocol):
    """A file that is being written."""

    def write(self, pcm: bytes) -> bytes: ...
    def end(self) -> bytes: ...


class Encoder:
    """Little-endian 16-bit mono PCM -> a file of *form*. Not to be used by two threads at once.

    *rate*: samples a second that come. *sample_rate*: those of the file, one of `rates(form)`; None: the same, as far
    as the format can; 48,000 for Opus. *whole*: nothing leaves before `end`, so that the head can say how long it is.
    Else `write` gives bytes as soon as there are any: a WAV then says an unknown length, an MP3 and a FLAC none.

    A decoder that heeds heads gives as many samples back as came, at the file's rate, with two exceptions. MP3 that is
    not whole, and so has no head, begins with the 1,105 samples of silence that encoder and decoder need, and fills its
    last frame (of 1,152 samples; 576 below 32,000 a second). So does AAC in ADTS, which never has one: 1,024, and
    frames of as many.

    Raises EngineMissing (PyAV, or its codec), Invalid.
    """

    def __init__(self, form: str, rate: int, sample_rate: int | None = None, whole: bool = False) -> None:
        prepare(form)
        if sample_rate is not None and sample_rate not in rates(form):
            said = ", ".join(map(str, rates(form)))
            raise Invalid(f"{form} has no sample rate of {sample_rate}.", f"It has {said}.", param="sample_rate")
        self.rate = sample_rate or _usual(form, rate)
        """Samples a second of the file."""
        self.seconds = 0.0
        """Of sound that came so far."""
        self._in, self._whole, self._odd = rate, whole, b""
        self._held = bytearray()
        self._track = self._begin(form)

    def _begin(self, form: str) -> _Track:
        if form in _CODECS:
            return _Coded(_CODECS[form], self._in, self.rate, self._whole)
        plain = _Resampled(self._in, self.rate) if self._in != self.rate else _Plain()
        return _Wave(plain, self.rate, self._whole) if form == "wav" else plain

    def write(self, pcm: bytes) -> bytes:
        """What *pcm*, in pieces of any size, adds to the file."""
        pcm = self._odd + pcm
        size = len(pcm) // SAMPLE_BYTES * SAMPLE_BYTES
        pcm, self._odd = pcm[:size], pcm[size:]
        if not pcm:
            return b""
        self.seconds += size / SAMPLE_BYTES / self._in
        data = self._track.write(pcm)
        if not self._whole:
            return data
        self._held += data
        return b""

    def end(self) -> bytes:
        """The rest; all of it, if the file is to be whole. Called once, last."""
        rest = self._track.end()
        held, self._held = self._held, bytearray()
        return bytes(held + rest) if held else rest


def _usual(form: str, rate: int) -> int:
    """The file's rate, where nobody asks for one: for a codec the next one that it has."""
    if form == "opus":
        return 48_000
    if form not in _CODECS or form == "flac":
        return rate
    return next((one for one in RATES if one >= rate), RATES[-1])


class _Plain:
    """PCM as it is."""

    def write(self, pcm: bytes) -> bytes:
        return pcm

    def end(self) -> bytes:
        return b""


class _Wave:
    """A WAV file, with the 44 bytes of head that RIFF's simplest form has.

    http://soundfile.sapp.org/doc/WaveFormat/
    """

    def __init__(self, plain: _Track, rate: int, whole: bool) -> None:
        self._plain, self._rate, self._whole = plain, rate, whole
        self._begun = False
        self._data = bytearray()

    def write(self, pcm: bytes) -> bytes:
        data = self._plain.write(pcm)
        if self._whole:
            self._data += data
            return b""
        return self._headed(data)

    def end(self) -> bytes:
        rest = self._plain.end()
        if not self._whole:
            return self._headed(rest)
        self._data += rest
        return wave_head(self._rate, len(self._data)) + bytes(self._data)

    def _headed(self, data: bytes) -> bytes:
        head = b"" if self._begun else wave_head(self._rate)
        self._begun = True
        return head + data


def wave_head(rate: int, size_bytes: int | None = None) -> bytes:
    """The head of mono 16-bit samples; *size_bytes*: None, or too many for a WAV: unknown."""
    known = size_bytes is not None and size_bytes + 36 < UNKNOWN
    riff, data = (size_bytes + 36, size_bytes) if size_bytes is not None and known else (UNKNOWN, UNKNOWN)
    shape = struct.pack("<IHHIIHH", 16, 1, 1, rate, rate * SAMPLE_BYTES, SAMPLE_BYTES, 8 * SAMPLE_BYTES)
    return b"RIFF" + struct.pack("<I", riff) + b"WAVEfmt " + shape + b"data" + struct.pack("<I", data)


class _Source:
    """PCM as PyAV's frames, of another rate, form and size. Raises EngineMissing."""

    def __init__(self, rate: int, new_rate: int, samples: str, size: int = 0) -> None:
        """*size*: samples of a frame; 0: as it comes."""
        self._library = backend.library()
        self._rate, self._at = rate, 0
        self._resampler = self._library.AudioResampler(
            format=samples, layout="mono", rate=new_rate, frame_size=size or None
        )

    def frames(self, pcm: bytes) -> list[Any]:
        frame = self._library.AudioFrame(format="s16", layout="mono", samples=len(pcm) // SAMPLE_BYTES)
        frame.sample_rate, frame.pts, frame.time_base = self._rate, self._at, Fraction(1, self._rate)
        frame.planes[0].update(pcm)
        self._at += len(pcm) // SAMPLE_BYTES
        made: list[Any] = self._resampler.resample(frame)
        return made

    def rest(self) -> list[Any]:
        made: list[Any] = self._resampler.resample(None) if self._at else []
        return made


class _Resampled:
    """PCM at another rate."""

    def __init__(self, rate: int, new_rate: int) -> None:
        self._source = _Source(rate, new_rate, "s16")

    def write(self, pcm: bytes) -> bytes:
        return self._joined(self._source.frames(pcm))

    def end(self) -> bytes:
        return self._joined(self._source.rest())

    def _joined(self, frames: list[Any]) -> bytes:
        return b"".join(bytes(frame.planes[0])[: frame.samples * SAMPLE_BYTES] for frame in frames)


class _Sink:
    """Takes what a container writes and cannot take back."""

    def __init__(self) -> None:
        self._data = bytearray()

    def write(self, data: bytes) -> int:
        self._data += data
        return len(data)

    def take(self) -> bytes:
        data, self._data = bytes(self._data), bytearray()
        return data


class _Coded:
    """A file of a codec's."""

    def __init__(self, codec: _Codec, rate: int, new_rate: int, whole: bool) -> None:
        library = backend.library()
        self._file: Any = BytesIO() if whole else _Sink()
        self._whole = whole
        options = {} if whole else {"flush_packets": "1", **codec.options}
        self._container = library.open(self._file, "w", format=codec.container, options=options)
        try:
            self._stream = self._container.add_stream(codec.codec, rate=new_rate, layout="mono", format=codec.samples)
        except ValueError as error:
            raise EngineMissing(
                f"the PyAV that is installed cannot write {codec.container}: {error}.", f"Install it: {backend.INSTALL}"
            ) from error
        if codec.bit_rate:
            self._stream.codec_context.bit_rate = codec.bit_rate
        self._container.start_encoding()
        self._source = _Source(rate, new_rate, codec.samples, self._stream.codec_context.frame_size)

    def write(self, pcm: bytes) -> bytes:
        return self._encoded(self._source.frames(pcm))

    def end(self) -> bytes:
        written = self._encoded([*self._source.rest(), None])
        self._container.close()
        return bytes(self._file.getvalue()) if self._whole else written + self._file.take()

    def __del__(self) -> None:
        """PyAV before 18.1 frees twice, and so ends the process, what was opened to be written and not closed."""
        if container := getattr(self, "_container", None):
            container.close()

    def _encoded(self, frames: list[Any]) -> bytes:
        for frame in frames:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        return b"" if self._whole else self._file.take()
