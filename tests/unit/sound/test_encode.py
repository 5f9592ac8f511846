"""PCM -> files of six formats that PyAV reads back: right rate, channels and duration; whole, and piece by piece."""

from __future__ import annotations

import io
import math
import struct
import sys
import wave
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyform.contract.errors import EngineMissing, Invalid
from anyform.sound.encode import FORMATS, MEDIA_TYPES, OPUS_RATES, RATES, Encoder, prepare, rates, wave_head

RATE = 24_000
CODED = ("mp3", "opus", "aac", "flac")
LENGTHS = (100, 4321, RATE, 50_001)
HERTZ = 440


def pcm(samples: int, rate: int = RATE, hertz: int = HERTZ) -> bytes:
    """A tone."""
    turn = 2 * math.pi * hertz / rate
    return struct.pack(f"<{samples}h", *(round(12_000 * math.sin(turn * at)) for at in range(samples)))


def encoded(form: str, data: bytes, rate: int = RATE, cut: int = 9_998, **options: Any) -> bytes:
    if form in CODED or options.get("sample_rate"):
        pytest.importorskip("av")
    encoder = Encoder(form, rate, **options)
    pieces = [encoder.write(data[at : at + cut]) for at in range(0, len(data), cut)]
    return b"".join(pieces) + encoder.end()


def decoded(data: bytes) -> tuple[list[float], int, int, float | None]:
    """Samples, samples a second, channels, and the seconds that the head says."""
    av = pytest.importorskip("av")
    samples: list[float] = []
    rate = channels = 0
    with av.open(io.BytesIO(data)) as container:
        said = container.duration
        to_float = av.AudioResampler(format="flt", layout="mono")
        for frame in container.decode(audio=0):
            rate, channels = frame.sample_rate, frame.layout.nb_channels
            for plain in to_float.resample(frame):
                samples += struct.unpack(f"<{plain.samples}f", bytes(plain.planes[0])[: 4 * plain.samples])
    return samples, rate, channels, None if said is None else said / 1_000_000


def pitch(samples: list[float], rate: int) -> float:
    """Of a tone: how often it rises through nothing, its ends left out."""
    middle = samples[len(samples) // 4 : -len(samples) // 4]
    rises = sum(one < 0 <= other for one, other in pairwise(middle))
    return rises * rate / len(middle)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("form", [form for form in FORMATS if form != "pcm"])
def test_a_whole_file_reads_back(form: str, length: int) -> None:
    samples, rate, channels, said = decoded(encoded(form, pcm(length), whole=True))
    assert (rate, channels) == (48_000 if form == "opus" else RATE, 1)
    over = len(samples) - length * rate // RATE
    if form == "aac":  # a frame of silence before it, and the last one is filled
        assert 1024 <= over < 2048
    else:
        assert over == 0
    if form in ("mp3", "flac", "wav"):
        slack = 1105 + 576 if form == "mp3" else 1  # what is left out at the ends: FFmpeg before 8 says it as well
        assert said == pytest.approx(length / RATE, abs=slack / RATE)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("form", [form for form in FORMATS if form != "pcm"])
def test_a_file_that_comes_in_pieces_reads_back(form: str, length: int) -> None:
    samples, rate, channels, _ = decoded(encoded(form, pcm(length)))
    assert (rate, channels) == (48_000 if form == "opus" else RATE, 1)
    over = len(samples) - length * rate // RATE
    silence, frame = {"mp3": (1105, 576), "aac": (1024, 1024)}.get(form, (0, 1))
    assert silence <= over < silence + frame


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("form", CODED)
def test_a_tone_is_a_tone_again(form: str, whole: bool) -> None:
    samples, rate, _, _ = decoded(encoded(form, pcm(RATE), whole=whole))
    assert pitch(samples, rate) == pytest.approx(HERTZ, rel=0.01)
    assert 0.3 < max(samples[len(samples) // 4 : -len(samples) // 4]) < 0.42  # 12,000 of 32,768 is 0.37


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("form", ["flac", "wav"])
def test_what_loses_nothing_gives_the_same_samples(form: str, whole: bool) -> None:
    data = pcm(50_001)
    samples = decoded(encoded(form, data, whole=whole))[0]
    assert struct.pack(f"<{len(samples)}h", *(round(one * 32_768) for one in samples)) == data


def test_pcm_is_as_it_came() -> None:
    assert encoded("pcm", pcm(4321)) == encoded("pcm", pcm(4321), whole=True) == pcm(4321)
    assert encoded("pcm", pcm(4321, 22_050), 22_050) == pcm(4321, 22_050)


@given(cuts=st.lists(st.integers(1, 3000), max_size=20), whole=st.booleans())
@settings(max_examples=30, deadline=None)
def test_pieces_of_any_size_are_the_same_pcm_and_wav(cuts: list[int], whole: bool) -> None:
    data = pcm(5000)
    for form in ("pcm", "wav"):
        encoder, at, made = Encoder(form, RATE, whole=whole), 0, b""
        for size in cuts:
            made += encoder.write(data[at : at + size])
            at = min(at + size, len(data))
        made += encoder.write(data[at:]) + encoder.end()
        assert made[44 if form == "wav" else 0 :] == data
        assert encoder.seconds == pytest.approx(5000 / RATE)


def test_half_a_sample_at_the_end_is_none() -> None:
    assert encoded("pcm", pcm(10) + b"\x01", cut=7) == pcm(10)


@pytest.mark.parametrize("form", [*CODED, "wav", "pcm"])
def test_the_pieces_of_a_coded_file_do_not_depend_on_the_cuts(form: str) -> None:
    pytest.importorskip("av")
    data = pcm(20_000)
    options: dict[str, Any] = {"sample_rate": 16_000}
    sizes = [decoded(made)[0] if form != "pcm" else made for made in (
        encoded(form, data, cut=cut, **options) for cut in (2, 998, 40_000)
    )]  # fmt: skip
    assert sizes[0] == sizes[1] == sizes[2]


def test_the_standard_librarys_wave_reads_a_whole_one() -> None:
    with wave.open(io.BytesIO(encoded("wav", pcm(4321), whole=True))) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate(), file.getnframes()) == (1, 2, RATE, 4321)
        assert file.readframes(4321) == pcm(4321)


def test_a_wav_of_unknown_length_says_so() -> None:
    made = encoded("wav", pcm(4321))
    assert made[4:8] == made[40:44] == b"\xff" * 4
    assert made[44:] == pcm(4321)
    with wave.open(io.BytesIO(made)) as file:
        assert file.getframerate() == RATE


def test_a_wav_that_is_too_large_says_that_it_does_not_know() -> None:
    assert wave_head(RATE, 2**32 - 38)[40:44] == struct.pack("<I", 2**32 - 38)
    for size in (2**32 - 37, 2**32, 2**40):
        assert wave_head(RATE, size)[40:44] == b"\xff" * 4


@pytest.mark.parametrize("form", FORMATS)
def test_nothing_is_a_head_at_the_most(form: str) -> None:
    if form in CODED:
        pytest.importorskip("av")
    for whole in (False, True):
        encoder = Encoder(form, RATE, whole=whole)
        made = encoder.write(b"") + encoder.end()
        assert len(made) < 9000
        assert encoder.seconds == 0


@pytest.mark.parametrize("form", CODED)
def test_sound_leaves_before_the_end(form: str) -> None:
    pytest.importorskip("av")
    encoder = Encoder(form, RATE)
    first = encoder.write(pcm(RATE))
    samples, rate, _, _ = decoded(first)
    assert len(samples) > 0.8 * rate  # of one second
    whole = Encoder(form, RATE, whole=True)
    assert whole.write(pcm(RATE)) == b""
    assert whole.end()


@pytest.mark.parametrize("form", CODED)
def test_what_is_given_up_ends_quietly(form: str) -> None:
    """As when a client hangs up. PyAV before 18.1 ends the process where such a file was not closed."""
    pytest.importorskip("av")
    for whole in (False, True) * 20:
        Encoder(form, RATE, whole=whole)
        Encoder(form, RATE, whole=whole).write(pcm(5000))


@pytest.mark.parametrize("form", FORMATS)
def test_every_rate_that_is_offered(form: str) -> None:
    pytest.importorskip("av")
    for rate in rates(form):
        encoder = Encoder(form, 22_050, rate, whole=True)
        made = encoder.write(pcm(22_050, 22_050)) + encoder.end()
        assert encoder.rate == rate
        if form == "pcm":
            samples = [one / 32_768 for one in struct.unpack(f"<{len(made) // 2}h", made)]
            read = rate
        else:
            samples, read, _, _ = decoded(made)
        assert read == (48_000 if form == "opus" else rate)
        assert len(samples) - read in range(1024, 2048) if form == "aac" else len(samples) == read
        assert pitch(samples, read) == pytest.approx(HERTZ, rel=0.02)


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (16_000, {"mp3": 16_000, "aac": 16_000, "flac": 16_000, "wav": 16_000, "pcm": 16_000}),
        (22_050, {"mp3": 22_050, "aac": 22_050, "flac": 22_050, "wav": 22_050, "pcm": 22_050}),
        (20_000, {"mp3": 22_050, "aac": 22_050, "flac": 20_000, "wav": 20_000, "pcm": 20_000}),
        (96_000, {"mp3": 48_000, "aac": 48_000, "flac": 96_000, "wav": 96_000, "pcm": 96_000}),
    ],
)
def test_the_rate_of_who_asks_for_none(rate: int, expected: dict[str, int]) -> None:
    pytest.importorskip("av")
    assert {form: Encoder(form, rate).rate for form in FORMATS} == {**expected, "opus": 48_000}


@pytest.mark.parametrize(("form", "rate"), [("opus", 44_100), ("opus", 22_050), ("mp3", 1), ("pcm", 0), ("wav", -1)])
def test_a_rate_that_a_format_has_not(form: str, rate: int) -> None:
    if form in CODED:
        pytest.importorskip("av")
    with pytest.raises(Invalid, match=str(rate)) as refused:
        Encoder(form, RATE, rate)
    assert refused.value.details["param"] == "sample_rate"


def test_a_format_that_there_is_not() -> None:
    for unknown in ("", "ogg", "MP3"):
        with pytest.raises(Invalid, match="mp3, opus, aac, flac, wav, pcm"):
            Encoder(unknown, RATE)
        with pytest.raises(Invalid):
            prepare(unknown)


def test_what_is_said_without_pyav(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    for form in CODED:
        for call in (prepare, lambda form: Encoder(form, RATE)):
            with pytest.raises(EngineMissing, match="pip install av"):
                call(form)
    for form in ("wav", "pcm"):
        prepare(form)
        assert encoded(form, pcm(100)).endswith(pcm(100))
        with pytest.raises(EngineMissing):
            Encoder(form, RATE, 8000)


def test_what_is_said_of_a_pyav_without_a_codec(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("av")
    from anyform.sound import encode

    lame = encode._CODECS["mp3"]
    monkeypatch.setitem(encode._CODECS, "mp3", replace(lame, codec="no_such_codec"))
    with pytest.raises(EngineMissing, match="mp3"):
        Encoder("mp3", RATE)


def test_every_format_has_a_media_type() -> None:
    assert set(MEDIA_TYPES) == set(FORMATS)
    assert set(OPUS_RATES) < set(RATES)
