"""Sound files as numbers, and what is refused because it is none."""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.errors import EngineMissing, TooLarge
from anyform.contract.model import Stop
from anyform.testing.whisper import RATE, voice, wave_file

np = pytest.importorskip("numpy")
av = pytest.importorskip("av")
pytestmark = pytest.mark.engine

from anyform.sound.decode import NoSound, samples  # noqa: E402 - it needs numpy

SPEECH = Path(__file__).parents[2] / "media" / "jfk.flac"


def decoded(data: bytes, rate: int = RATE, most_s: float = 60) -> Any:
    return np.concatenate(list(samples(data, rate, most_s, Stop())))


def encoded(sound: Any, container: str, codec: str, rate: int = RATE, layout: str = "mono") -> bytes:
    """*sound*, RATE a second, as another file."""
    out = BytesIO()
    with av.open(out, "w", format=container) as file:
        stream = file.add_stream(codec, rate=rate)
        stream.layout = layout
        size = stream.codec_context.frame_size or 1024
        resampler = av.AudioResampler(format=stream.codec_context.format, layout=layout, rate=rate, frame_size=size)
        frame = av.AudioFrame.from_ndarray(np.asarray(sound, np.float32)[None], format="flt", layout="mono")
        frame.sample_rate, frame.pts = RATE, 0
        for made in (*resampler.resample(frame), *resampler.resample(None)):
            file.mux(stream.encode(made))
        file.mux(stream.encode(None))
    return out.getvalue()


@pytest.mark.parametrize("rate", [8_000, 44_100, 96_000])
def test_samples_come_at_the_rate_that_is_wanted(rate: int) -> None:
    places = np.arange(rate * 2) / rate
    found = decoded(wave_file(np.sin(2 * np.pi * 440 * places) * 0.5, rate))
    assert found.dtype == np.float32
    assert len(found) == pytest.approx(2 * RATE, abs=2)
    expected = np.sin(2 * np.pi * 440 * np.arange(len(found)) / RATE) * 0.5
    assert np.abs(found - expected)[2000:-2000].max() < 0.02


def test_what_has_the_rate_is_not_touched() -> None:
    sound = np.asarray(voice(3))
    assert np.abs(decoded(wave_file(voice(3))) - sound).max() < 1e-4
    assert np.array_equal(
        decoded(encoded(sound, "flac", "flac")), decoded(wave_file(decoded(encoded(sound, "flac", "flac"))))
    )


def test_real_speech() -> None:
    assert len(decoded(SPEECH.read_bytes())) == 11 * RATE


def test_long_sounds_come_in_blocks() -> None:
    blocks = list(samples(wave_file(voice(10) * 4), RATE, 60, Stop()))
    assert len(blocks) > 2
    assert sum(map(len, blocks)) == 40 * RATE


def test_a_stop_ends_it() -> None:
    stop = Stop()
    blocks = samples(wave_file(voice(10) * 4), RATE, 60, stop)
    next(blocks)
    stop.set()
    assert list(blocks) == []


WAVE = wave_file(voice(3))
FLAC = encoded(voice(3), "flac", "flac")
OGG = encoded(voice(3), "ogg", "libopus", 48_000)


def floats(sound: Any) -> bytes:
    """A WAV of floats, which may be anything."""
    data = np.asarray(sound, "<f4").tobytes()
    head = b"WAVEfmt \x10\0\0\0\x03\0\x01\0\x80>\0\0\0\xfa\0\0\x04\0 \0data" + len(data).to_bytes(4, "little")
    return b"RIFF" + (len(head) + len(data)).to_bytes(4, "little") + head + data


BAD = {
    "empty": (b"", "empty"),
    "text": (b"This is no sound at all, whatever its name is.\n" * 40, "cannot be decoded"),
    "zeros": (bytes(5000), "cannot be decoded"),
    "a head alone": (WAVE[:44], "truncated"),
    "half a WAV": (WAVE[: len(WAVE) // 2], "truncated"),
    "half a FLAC": (FLAC[: len(FLAC) // 2], "file"),
    "an Ogg without its end": (OGG[:-40], "truncated"),
    "NaN": (floats(np.full(RATE, np.nan)), "NaN"),
    "one NaN": (floats(np.where(np.arange(RATE) == 7000, np.nan, 0)), "NaN"),
    "endless": (floats(np.full(RATE, np.inf)), "NaN"),
    "far too loud": (floats(np.full(RATE, 1e6)), "louder"),
    "a playlist": (b"#EXTM3U\n#EXTINF:10,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n", "file"),
    "a script": (b"ffconcat version 1.0\nfile there.wav\n", "file"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_sound_is_refused(name: str) -> None:
    data, told = BAD[name]
    with pytest.raises(NoSound, match=told) as caught:
        decoded(data)
    assert caught.value.details["param"] == "file"
    assert caught.value.code == "no_sound"
    assert caught.value.hint


def test_no_decoder_of_pictures_is_at_hand() -> None:
    """A cover of few bytes may have a billion pixels."""
    from anyform.sound.decode import _options

    usable = set(_options()["codec_whitelist"].split(","))
    assert {"flac", "mp3", "aac", "opus", "vorbis", "pcm_s16le"} <= usable
    assert not {"png", "mjpeg", "h264", "gif"} & usable


def test_floats_are_read() -> None:
    assert decoded(floats(np.full(RATE, 0.25))).mean() == pytest.approx(0.25, abs=1e-3)


@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_three_hours_are_refused_by_their_head(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of them is decoded."""
    import anyform.sound.decode as module

    silence = np.zeros(3 * 3600 * 1000, np.int16)
    if kind == "wav":
        file = wave_file([0.0] * 1000, 1000)  # type: ignore[arg-type]
        file = file[:4] + (36 + silence.nbytes).to_bytes(4, "little") + file[8:40]
        file += silence.nbytes.to_bytes(4, "little") + silence.tobytes()
    else:
        out = BytesIO()
        with av.open(out, "w", format="flac") as made:
            stream = made.add_stream("flac", rate=1000)
            stream.layout, stream.format = "mono", "s16"
            for place in range(0, len(silence), 65_000):
                frame = av.AudioFrame.from_ndarray(silence[None, place : place + 65_000], format="s16", layout="mono")
                frame.sample_rate, frame.pts = 1000, place
                made.mux(stream.encode(frame))
            made.mux(stream.encode(None))
        file = out.getvalue()
    monkeypatch.setattr(module._Reading, "_count", lambda self, frame: pytest.fail("it was decoded"))
    with pytest.raises(TooLarge, match="audio_seconds") as caught:
        decoded(file, most_s=7200)
    assert caught.value.details == {"param": "file", "limit": 7200}


def test_without_what_reads_sound_the_command_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(EngineMissing, match="pip install av"):
        decoded(WAVE)
