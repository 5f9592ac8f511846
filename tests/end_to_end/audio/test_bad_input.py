"""Input that is no good: each a clear 4xx in bounded time and memory, after which the same worker answers the next."""

from __future__ import annotations

import importlib.util
import random
import struct
import sys
import zlib
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest

from anyform.testing.ctranslate2 import write_ct2_whisper
from anyform.testing.kokoro import write_kokoro
from anyform.testing.whisper import voice, wave_file, write_whisper

np = pytest.importorskip("numpy")
av = pytest.importorskip("av")
pytest.importorskip("anyform_audio")
pytestmark = pytest.mark.engine

TRANSCRIPTIONS, SPEECH = "/v1/audio/transcriptions", "/v1/audio/speech"
ENGINES = {"transformers": "torch", "faster_whisper": "faster_whisper"}
"""What each backend that hears needs."""
LONGEST_S = 600
"""Of a sound, for the models here: less than the default, so that what is too long is made sooner."""
MEMORY_BYTES = 400 * 1024**2
"""How much a worker's peak may grow by all that is bad: ten minutes of samples are 38 MB."""
GOOD = wave_file(voice(2))
"""The worker's test, after each that is bad."""


def encoded(samples: Any, container: str, codec: str, rate: int = 16_000, layout: str = "mono", **how: Any) -> bytes:
    """*samples*, 16,000 a second, as a file. *how*: `sample_format`, and the encoder's options."""
    out, options = BytesIO(), {name: str(value) for name, value in how.items() if name != "sample_format"}
    with av.open(out, "w", format=container) as file:
        stream = file.add_stream(codec, rate=rate, options=options)
        stream.layout, context = layout, stream.codec_context
        context.format = how.get("sample_format", context.format.name)
        resampler = av.AudioResampler(context.format, layout, rate, context.frame_size or 1024)
        frame = av.AudioFrame.from_ndarray(np.asarray(samples, np.float32)[None], "flt", "mono")
        frame.sample_rate, frame.pts = 16_000, 0
        for made in (*resampler.resample(frame), *resampler.resample(None)):
            file.mux(stream.encode(made))
        file.mux(stream.encode(None))
    return out.getvalue()


def wave(data: bytes, rate: int = 16_000, channels: int = 1, bits: int = 16, kind: int = 1) -> bytes:
    """A WAV whose head says whatever it is told to. *kind*: 1 whole numbers, 3 floats."""
    size = channels * bits // 8
    head = struct.pack("<HHIIHH", kind, channels, rate, rate * size % 2**32, size % 2**16, bits)
    return b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt \x10\0\0\0" + head + chunk(data)


def chunk(data: bytes) -> bytes:
    return b"data" + struct.pack("<I", len(data)) + data


def flac_bomb(hours: int) -> bytes:
    """Silence in few bytes, whose head does not say how long it is (RFC 9639, section 8.2: 36 bits of samples)."""
    made = bytearray(
        encoded(
            np.zeros(16_000 * 60),
            "flac",
            "flac",
            8000,
            frame_size=4608,
        )
    )
    made[8 + 13] &= 0xF0
    made[8 + 14 : 8 + 18] = bytes(4)
    frames = made.find(b"\xff\xf8")
    return bytes(made[:frames] + made[frames:] * (60 * hours))


def opus_bomb(hours: int) -> bytes:
    """Packets of one byte, each 60 ms of nothing (RFC 6716, section 3.1), 255 to a page."""
    head = b"OpusHead\x01\x01" + struct.pack("<HIHB", 0, 48_000, 0, 0)
    tags = b"OpusTags" + bytes(8)
    pages = [page([head], 0, 0, 2), page([tags], 1, 0)]
    count = hours * 60_000 // 255
    pages += [page([b"\x18"] * 255, 2 + at, (at + 1) * 255 * 2880, 4 * (at == count - 1)) for at in range(count)]
    return b"".join(pages)


def page(packets: list[bytes], number: int, position: int, kind: int = 0) -> bytes:
    """One of an Ogg file (RFC 3533, section 6)."""
    lacing, data = bytes(map(len, packets)), b"".join(packets)
    head = struct.pack("<4sBBqIII", b"OggS", 0, kind, position, 1, number, 0)
    whole = head + bytes([len(lacing)]) + lacing + data
    return whole[:22] + struct.pack("<I", checksum(whole)) + whole[26:]


def checksum(data: bytes) -> int:
    found = 0
    for byte in data:
        found = found << 8 & 0xFFFFFFFF ^ TABLE[found >> 24 ^ byte]
    return found


def _shifted(value: int) -> int:
    for _ in range(8):
        value = value << 1 ^ (0x104C11DB7 if value & 0x80000000 else 0)
    return value


TABLE = [_shifted(byte << 24) for byte in range(256)]


def film() -> bytes:
    """A video that says nothing."""
    out = BytesIO()
    with av.open(out, "w", format="matroska") as file:
        stream = file.add_stream("mpeg4", rate=10, width=32, height=32, pix_fmt="yuv420p")
        for _ in range(20):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")))
        file.mux(stream.encode(None))
    return out.getvalue()


def picture_bomb() -> bytes:
    """A PNG of a few hundred kilobytes and half a gigabyte of pixels (https://www.w3.org/TR/png-3/)."""
    side = 8000
    packer, row = zlib.compressobj(), bytes(1 + side * 8)
    pixels = b"".join([*(packer.compress(row) for _ in range(side)), packer.flush()])
    parts = ((b"IHDR", struct.pack(">IIBBBBB", side, side, 16, 6, 0, 0, 0)), (b"IDAT", pixels), (b"IEND", b""))
    said = b"\x89PNG\r\n\x1a\n"
    for kind, data in parts:
        said += struct.pack(">I4s", len(data), kind) + data + struct.pack(">I", zlib.crc32(kind + data))
    return said


def covered(sound: bytes, picture: bytes) -> bytes:
    """An MP3 with a cover (https://id3.org/id3v2.3.0, section 4.15)."""
    cover = b"\0image/png\0\x03\0" + picture
    frame = b"APIC" + struct.pack(">IH", len(cover), 0) + cover
    size = bytes(len(frame) >> shift & 127 for shift in (21, 14, 7, 0))
    return b"ID3\x03\0\0" + size + frame + sound


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


SPOKEN = voice(4)
NUMBERS = np.asarray(SPOKEN, np.float32)
BAD_FILES: dict[str, tuple[Callable[[], bytes], int]] = {
    "text renamed": (lambda: b"no sound, whatever its name says. " * 99, 400),
    "one byte": (lambda: b"R", 400),
    "zeros": (lambda: bytes(100_000), 400),
    "a picture": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(500), 400),
    "truncated wav": (lambda: half(wave_file(SPOKEN)), 400),
    "truncated flac": (lambda: half(encoded(SPOKEN, "flac", "flac")), 400),
    "truncated mp3": (lambda: half(encoded(SPOKEN, "mp3", "mp3")), 400),
    "truncated ogg": (lambda: half(encoded(SPOKEN, "ogg", "libopus", 48_000)), 400),
    "truncated m4a": (lambda: half(encoded(SPOKEN, "mp4", "aac")), 400),
    "truncated webm": (lambda: half(encoded(SPOKEN, "webm", "libopus", 48_000)), 400),
    "a head alone": (lambda: wave(b""), 400),
    "3 hours of silence": (lambda: wave(bytes(3 * 3600 * 1000), 1000, bits=8), 413),
    "hours in a tiny flac": (lambda: flac_bomb(3), 413),
    "hours in a tiny opus": (lambda: opus_bomb(3), 413),
    "NaN": (lambda: wave(np.full(9000, np.nan, "<f4").tobytes(), bits=32, kind=3), 400),
    "one NaN": (lambda: wave(bytes(16_000) + b"\0\0\xc0\x7f" + bytes(16_000), bits=32, kind=3), 400),
    "infinite": (lambda: wave(np.full(9000, np.inf, "<f4").tobytes(), bits=32, kind=3), 400),
    "no rate": (lambda: wave(bytes(9000), 0), 400),
    "a rate of 1": (lambda: wave(bytes(200), 1), 400),
    "a rate of 4 GHz": (lambda: wave(bytes(9000), 4_000_000_000), 400),
    "no channel": (lambda: wave(bytes(9000), channels=0), 400),
    "65,535 channels": (lambda: wave(bytes(9000), channels=65_535), 400),
    "no codec": (lambda: wave(bytes(9000), kind=0x7777), 400),
    "a film without sound": (film, 400),
    "m3u8": (lambda: b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n", 400),
    "ffconcat": (lambda: b"ffconcat version 1.0\nfile /etc/passwd\n", 400),
    "sdp": (lambda: b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 9 RTP/AVP 0\n", 400),
}  # fmt: skip
GOOD_FILES: dict[str, Callable[[], bytes]] = {
    "1 sample": lambda: wave(b"\1\1"),
    "100 samples": lambda: wave(bytes(200)),
    "8 kHz": lambda: encoded(SPOKEN, "wav", "pcm_s16le", 8000),
    "192 kHz": lambda: encoded(SPOKEN, "wav", "pcm_s16le", 192_000),
    "7.1": lambda: encoded(SPOKEN, "wav", "pcm_s16le", 16_000, "7.1"),
    "24 bits": lambda: encoded(SPOKEN, "flac", "flac", sample_format="s32", bits_per_raw_sample=24),
    "24 bits in a wav": lambda: encoded(SPOKEN, "wav", "pcm_s24le"),
    "A-law": lambda: encoded(SPOKEN, "wav", "pcm_alaw", 8000),
    "floats": lambda: wave(NUMBERS.astype("<f4").tobytes(), bits=32, kind=3),
    "an ogg that ends at a page": lambda: whole_pages(encoded(SPOKEN, "ogg", "libopus", 48_000)),
}


def whole_pages(data: bytes) -> bytes:
    return data[: data.rfind(b"OggS")]


@pytest.fixture(scope="module", params=list(ENGINES))
def hearer(request: pytest.FixtureRequest, served: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server whose model `tiny` the engine of the parameter runs, warm."""
    backend = request.param
    if importlib.util.find_spec(ENGINES[backend]) is None:
        pytest.skip(f"{ENGINES[backend]} is not installed")
    root = tmp_path_factory.mktemp("models")
    (write_ct2_whisper if backend == "faster_whisper" else write_whisper)(root / "tiny")
    server = served(root, audio_seconds=LONGEST_S, fallback=False)
    warm = server.http.post("/runtime/load/tiny", json={"backend": backend})
    assert warm.status_code == 200, warm.text
    assert server.loaded("tiny")["backend"] == backend
    assert heard(server)
    return server


def heard(server: Any) -> str:
    """What the model writes down of GOOD; the worker must be the one that was there before."""
    answer = ask(server, GOOD)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["text"])


def ask(server: Any, file: bytes, name: str = "speech.mp3", **fields: Any) -> httpx.Response:
    found: httpx.Response = server.http.post(
        TRANSCRIPTIONS, data={"model": "tiny", **fields}, files={"file": (name, file)}
    )
    return found


def refusal(answer: httpx.Response, status: int, param: str | None) -> dict[str, Any]:
    assert answer.status_code == status, (answer.status_code, answer.text[:500])
    error: dict[str, Any] = answer.json()["error"]
    assert error["param"] == param, error
    assert error["message"]
    assert error["code"]
    assert "internal" not in error["code"]
    return error


@pytest.fixture
def unharmed(hearer: Any) -> Any:
    """The server; after the test the same worker must answer as it did before."""
    pid, said = hearer.loaded("tiny")["pid"], heard(hearer)
    yield hearer
    assert heard(hearer) == said
    assert hearer.loaded("tiny")["pid"] == pid


@pytest.mark.parametrize("stream", ["false", "true"])
@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file(unharmed: Any, name: str, stream: str) -> None:
    made, status = BAD_FILES[name]
    refusal(ask(unharmed, made(), stream=stream), status, "file")


@pytest.mark.parametrize("name", GOOD_FILES)
def test_an_unusual_file(unharmed: Any, name: str) -> None:
    answer = ask(unharmed, GOOD_FILES[name](), response_format="verbose_json")
    assert answer.status_code == 200, answer.text
    assert answer.json()["duration"] >= 0


def test_memory_stays_bounded(unharmed: Any) -> None:
    """Of the worker, by its greatest size so far."""
    pid = unharmed.loaded("tiny")["pid"]
    before = peak_bytes(pid)
    for made in (flac_bomb(20), opus_bomb(20), encoded(np.zeros(16_000 * 1200), "mp3", "mp3")):
        refusal(ask(unharmed, made), 413, "file")
    bomb = picture_bomb()
    refusal(ask(unharmed, bomb), 400, "file")
    assert ask(unharmed, covered(encoded(SPOKEN, "mp3", "mp3"), bomb)).status_code == 200
    assert peak_bytes(pid) - before < MEMORY_BYTES


def peak_bytes(pid: int) -> int:
    """https://man7.org/linux/man-pages/man5/proc_pid_status.5.html"""
    if not sys.platform.startswith("linux"):
        pytest.skip("/proc says it")
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "ogg", "mp4", "webm"])
def test_bytes_that_are_wrong_here_and_there(unharmed: Any, kind: str) -> None:
    """Whatever the decoder makes of them: an answer or a refusal, never a fault of the server."""
    codec = {"wav": "pcm_s16le", "flac": "flac", "mp3": "mp3", "mp4": "aac"}.get(kind, "libopus")
    whole = encoded(voice(1), kind, codec, 48_000 if codec == "libopus" else 16_000)
    chance = random.Random(kind)
    for _ in range(12):
        made = bytearray(whole)
        for _ in range(chance.choice((1, 8, 64))):
            made[int(len(made) * chance.random() ** 3)] = chance.randrange(256)
        answer = ask(unharmed, bytes(made))
        assert answer.status_code in (200, 400, 413), answer.text
        if answer.status_code != 200:
            refusal(answer, answer.status_code, "file")


def test_a_playlist_opens_nothing(unharmed: Any, tmp_path: Path) -> None:
    """Not even sound: a file beside it, by path and by every other way to name it."""
    (tmp_path / "there.wav").write_bytes(GOOD)
    place = tmp_path / "there.wav"
    for head in ("ffconcat version 1.0\nfile {}\n", "ffconcat version 1.0\nfile 'file:{}'\n",
                 "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n", "concat:{}\n"):  # fmt: skip
        refusal(ask(unharmed, head.format(place).encode(), "a.m3u8"), 400, "file")


def test_a_hundred_megabytes(unharmed: Any) -> None:
    """Refused by its announced size, and piece by piece where none is announced."""
    data = bytes(100 * 1024**2)
    refusal(ask(unharmed, data), 413, None)
    pieces = (data[at : at + 2**20] for at in range(0, len(data), 2**20))
    kind = {"content-type": "multipart/form-data; boundary=B"}
    with suppress(httpx.TransportError):  # the server need not read what it has refused
        refusal(unharmed.http.post(TRANSCRIPTIONS, content=pieces, headers=kind), 413, None)
    large = {"model": "tiny", "file": b64encode(data[: 26 * 1024**2]).decode()}
    refusal(unharmed.http.post(TRANSCRIPTIONS, json=large), 413, "file")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": "doc"}, "response_format"),
        ({"response_format": "diarized_json"}, "response_format"),
        ({"language": "xx"}, "language"),
        ({"language": "klingon"}, "language"),
        ({"language": "\x00"}, "language"),
        ({"language": "e" * 5000}, "language"),
        ({"temperature": "nan"}, "temperature"),
        ({"temperature": "1e9"}, "temperature"),
        ({"temperature": "-1"}, "temperature"),
        ({"prompt": "word " * 15_000}, "prompt"),
        ({"prompt": "word " * 150_000}, "prompt"),
        ({"timestamp_granularities[]": "letter", "response_format": "verbose_json"}, "timestamp_granularities"),
        ({"stream": "perhaps"}, "stream"),
        ({"model": ""}, None),
    ],
)
def test_a_bad_field(unharmed: Any, fields: dict[str, str], param: str | None) -> None:
    if param is None:
        assert 400 <= ask(unharmed, GOOD, **fields).status_code < 500
    else:
        refusal(ask(unharmed, GOOD, **fields), 400, param)


def test_no_file_an_empty_one_and_two(unharmed: Any) -> None:
    post = unharmed.http.post
    refusal(post(TRANSCRIPTIONS, files={"model": (None, "tiny")}), 400, "file")
    refusal(ask(unharmed, b""), 400, "file")
    refusal(ask(unharmed, b"", ""), 400, "file")
    two = [("file", ("a.wav", GOOD)), ("file", ("b.wav", GOOD))]
    refusal(post(TRANSCRIPTIONS, data={"model": "tiny"}, files=two), 400, "file")
    refusal(post(TRANSCRIPTIONS, json={"model": "tiny", "file": "%%%"}), 400, "file")
    refusal(post(TRANSCRIPTIONS, json={"model": "tiny", "file": [b64encode(GOOD).decode()]}), 400, "file")


@pytest.fixture(scope="module")
def speaker(served: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server whose model `kokoro` is a stand-in with the real phonemizer, warm."""
    pytest.importorskip("kokoro_onnx")
    root = tmp_path_factory.mktemp("models")
    write_kokoro(root / "kokoro")
    server = served(root)
    warm = server.http.post("/runtime/load/kokoro")
    assert warm.status_code == 200, warm.text
    assert spoken(server)
    return server


def say(server: Any, **fields: Any) -> httpx.Response:
    body = {"model": "kokoro", "input": "Good morning.", "response_format": "pcm", **fields}
    found: httpx.Response = server.http.post(SPEECH, json=body)
    return found


def spoken(server: Any) -> bytes:
    answer = say(server)
    assert answer.status_code == 200, answer.text
    return answer.content


@pytest.fixture
def unspoilt(speaker: Any) -> Any:
    """The server; after the test the same worker must say what it said before."""
    pid, said = speaker.loaded("kokoro")["pid"], spoken(speaker)
    yield speaker
    assert spoken(speaker) == said
    assert speaker.loaded("kokoro")["pid"] == pid


@pytest.mark.parametrize("shape", [{}, {"stream": True}, {"stream_format": "sse"}, {"stream": False}], ids=str)
@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"voice": "nobody"}, 400, "voice"),
        ({"voice": "../../etc/passwd"}, 400, "voice"),
        ({"voice": "af_heart(0)"}, 400, "voice"),
        ({"voice": "af_heart(nan)+af_bella"}, 400, "voice"),
        ({"voice": "af_heart+" * 10_000}, 400, "voice"),
        ({"voice": 5}, 400, "voice"),
        ({"response_format": "midi"}, 400, "response_format"),
        ({"speed": 0}, 400, "speed"),
        ({"speed": -1}, 400, "speed"),
        ({"speed": 1e9}, 400, "speed"),
        ({"speed": 0.49}, 400, "speed"),
        ({"speed": "fast"}, 400, "speed"),
        ({"language": "klingon"}, 400, "language"),
        ({"sample_rate": 0}, 400, "sample_rate"),
        ({"input": ""}, 400, "input"),
        ({"input": " \n\t\N{NO-BREAK SPACE}"}, 400, "input"),
        ({"input": None}, 400, "input"),
        ({"input": ["a"]}, 400, "input"),
        ({"input": "word " * 210_000}, 413, "input"),
        ({"input": "\x00\x01\x02\x1b\x7f"}, 400, "input"),
        ({"input": "\u200b\u200d\ufeff\u2028"}, 400, "input"),
        ({"input": "... !!! ???"}, 400, "input"),
        ({"model": "nobody"}, 404, "model"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_speech(
    unspoilt: Any, fields: dict[str, Any], status: int, param: str | None, shape: dict[str, Any]
) -> None:
    refusal(say(unspoilt, **fields, **shape), status, param)


@pytest.mark.parametrize(
    "body",
    [
        b'{"model": "kokoro", "input": "a", "voice": "af_heart", "speed": NaN}',
        b'{"model": "kokoro", "input": "a", "voice": "af_heart", "speed": Infinity}',
        b'{"model": "kokoro", "input": "a", "voice": "af_heart", "speed": 1e999}',
        b'{"model": "kokoro", "input": "half \\ud83d of it", "voice": "af_heart"}',
        b'{"model": "kokoro", "input": "\xff\xfe", "voice": "af_heart"}',
        b'{"model": "kokoro", "input": "a',
        b"",
    ],
)
def test_a_bad_body(unspoilt: Any, body: bytes) -> None:
    refusal(unspoilt.http.post(SPEECH, content=body, headers={"content-type": "application/json"}), 400, None)


@pytest.mark.parametrize(
    "text",
    ["\N{GRINNING FACE}", "\N{WOMAN}\u200d\N{WOMAN}\u200d\N{GIRL} \U0001f1e9\U0001f1ea", "a\x00b\x07c",
     "word\x1b[31mred", "x" * 3000, "\xdcn\xefc\xf6d\xe9 \ufdfd \u65e5\u672c", "1" * 500, "?!" * 500 + "yes",
     "https://example.com/?a=b&c=%20", "<speak>hello</speak>", "a.b." * 300,
     "\N{RIGHT-TO-LEFT OVERRIDE}abc", "\uff41\uff42\uff43"],
    ids=lambda text: ascii(text)[:30],
)  # fmt: skip
def test_unusual_text_is_spoken_or_refused(unspoilt: Any, text: str) -> None:
    answer = say(unspoilt, input=text)
    if answer.status_code != 200:
        refusal(answer, 400, "input")
    else:
        assert len(answer.content) % 2 == 0
        assert answer.content
