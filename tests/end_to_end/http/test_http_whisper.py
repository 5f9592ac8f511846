"""The openai package against a tiny Whisper that transformers runs, in this process and in workers."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import openai
import pytest

from anyform.assembly import start
from anyform.contract.facts import Settings
from anyform.http.config import HttpConfig
from anyform.testing.whisper import voice, wave_file, write_whisper

np = pytest.importorskip("numpy")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
av = pytest.importorskip("av")
pytest.importorskip("anyform_hf_transformers")
pytestmark = pytest.mark.engine

SECONDS = 40
FILE = wave_file(voice(SECONDS))


def silence(seconds: int) -> bytes:
    """A WAV of few samples a second."""
    head, rate = wave_file(voice(0), 1000), 2 * 1000
    sizes = (36 + seconds * rate).to_bytes(4, "little"), (seconds * rate).to_bytes(4, "little")
    return head[:4] + sizes[0] + head[8:40] + sizes[1] + bytes(seconds * rate)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    write_whisper(root / "tiny")
    write_whisper(root / "tiny.en", english=True, heads=False)
    return root


@pytest.fixture(scope="module", params=["worker", "here"])
def served(
    request: pytest.FixtureRequest, folder: Path, running: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    where: Literal["worker", "here"] = request.param
    state = tmp_path_factory.mktemp("state")
    settings = Settings(options={"fallback": False})
    runtime = start(folders=[folder], where=where, state=state, defaults=settings)
    server = running(runtime, HttpConfig())
    server.openai = server.openai.with_options(timeout=120)
    yield server
    server.close()
    runtime.close()


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> Any:
    return transformers.pipeline("automatic-speech-recognition", model=str(folder / "tiny"), device="cpu")


def expected(pipeline: Any, **wanted: Any) -> str:
    """The text that transformers' `generate` gives for FILE, of the segments that begin in the sound."""
    sound = np.frombuffer(FILE[44:], "<i2").astype(np.float32) / 32768
    given = pipeline.feature_extractor(
        sound, sampling_rate=16000, return_tensors="pt", truncation=False, padding="longest", return_attention_mask=True
    )
    asked = {"num_beams": 1, "task": "transcribe", "return_timestamps": True, "return_segments": True, **wanted}
    made = pipeline.model.generate(given.input_features, attention_mask=given.attention_mask, **asked)
    kept = [one for one in made["segments"][0] if float(one["start"]) < SECONDS]
    tokens = [token for one in kept for token in one["tokens"].tolist()]
    return str(pipeline.tokenizer.decode(tokens, skip_special_tokens=True)).strip()


def cues(subtitles: str, kind: str) -> list[tuple[float, float, str]]:
    """Start, end and text of each, as FFmpeg reads them."""
    with av.open(BytesIO(subtitles.encode()), format=kind) as file:
        base = float(file.streams[0].time_base)
        return [
            (packet.pts * base, (packet.pts + packet.duration) * base, bytes(packet).decode())
            for packet in file.demux()
            if packet.pts is not None
        ]


def test_a_transcription_is_that_of_generate(served: Any, pipeline: Any) -> None:
    answer = served.openai.audio.transcriptions.create(model="tiny", file=("a.wav", FILE))
    assert answer.text == expected(pipeline)
    assert answer.usage.seconds == 40


def test_a_translation_is_that_of_generate(served: Any, pipeline: Any) -> None:
    answer = served.openai.audio.translations.create(model="tiny", file=("a.wav", FILE), response_format="json")
    assert answer.text == expected(pipeline, task="translate")


def test_a_language_and_a_prompt(served: Any, pipeline: Any) -> None:
    answer = served.openai.audio.transcriptions.create(
        model="tiny", file=("a.wav", FILE), language="de", prompt="w300", response_format="verbose_json"
    )
    prompt = torch.as_tensor(pipeline.tokenizer.get_prompt_ids("w300"))
    assert answer.text == expected(pipeline, language="de", prompt_ids=prompt)
    assert (answer.language, answer.duration) == ("german", 40.0)
    assert answer.segments[0].avg_logprob < 0
    assert answer.segments[0].tokens


def test_words(served: Any) -> None:
    answer = served.openai.audio.transcriptions.create(
        model="tiny",
        file=("a.wav", FILE),
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
    )
    assert "".join(word.word for word in answer.words) == answer.text.replace(" ", "")
    assert all(0 <= word.start <= word.end <= 40 for word in answer.words)
    with pytest.raises(openai.BadRequestError, match="alignment_heads"):
        served.openai.audio.transcriptions.create(
            model="tiny.en",
            file=("a.wav", FILE),
            response_format="verbose_json",
            timestamp_granularities=["word"],
        )


def test_subtitles_are_read_by_ffmpeg(served: Any) -> None:
    create = served.openai.audio.transcriptions.create
    segments = create(model="tiny", file=("a.wav", FILE), response_format="verbose_json").segments
    wanted = [(pytest.approx(one.start), pytest.approx(one.end, abs=0.002), one.text.strip()) for one in segments]
    assert cues(create(model="tiny", file=("a.wav", FILE), response_format="srt"), "srt") == wanted
    assert cues(create(model="tiny", file=("a.wav", FILE), response_format="vtt"), "webvtt") == wanted


def test_a_stream_is_the_whole_in_parts(served: Any, pipeline: Any) -> None:
    events = list(served.openai.audio.transcriptions.create(model="tiny", file=("a.wav", FILE), stream=True))
    *deltas, done = events
    assert {event.type for event in deltas} == {"transcript.text.delta"}
    assert done.type == "transcript.text.done"
    assert "".join(event.delta for event in deltas) == done.text == expected(pipeline)
    assert len(deltas) > 2


def test_a_client_that_hangs_up_frees_the_model(served: Any) -> None:
    long = silence(900)
    with served.openai.audio.transcriptions.create(model="tiny", file=("a.wav", long), stream=True) as stream:
        next(stream)
    short = served.openai.audio.transcriptions.create(model="tiny", file=("a.wav", FILE))
    assert short.text


def test_sixteen_clients(served: Any) -> None:
    files = [wave_file(voice(10 + place, seed=place)) for place in range(4)]
    create = served.openai.audio.transcriptions.create
    alone = [create(model="tiny", file=("a.wav", file)).text for file in files]
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda at: create(model="tiny", file=("a.wav", files[at % 4])).text, range(16)))
    assert found == alone * 4


def test_an_english_model_translates_nothing(served: Any) -> None:
    assert served.openai.audio.transcriptions.create(model="tiny.en", file=("a.wav", FILE)).text
    with pytest.raises(openai.BadRequestError) as caught:
        served.openai.audio.translations.create(model="tiny.en", file=("a.wav", FILE))
    assert "Models here that do: tiny." in str(caught.value)


@pytest.mark.parametrize(
    ("file", "status"),
    [
        (b"no sound, whatever its name says. " * 99, 400),
        (FILE[: len(FILE) // 2], 400),
        (FILE[:44], 400),
        (bytes(9000), 400),
        (silence(7201), 413),
    ],
    ids=["text", "truncated", "a head", "zeros", "two hours and a second"],
)
def test_bad_sounds_are_refused_and_the_model_lives(served: Any, file: bytes, status: int) -> None:
    for stream in ("false", "true"):
        answer = served.http.post(
            "/v1/audio/transcriptions",
            data={"model": "tiny", "stream": stream},
            files={"file": ("speech.mp3", file)},
            timeout=60,
        )
        assert answer.status_code == status, answer.text
        assert answer.json()["error"]["param"] == "file"
    short = wave_file(voice(1))
    assert served.openai.audio.transcriptions.create(model="tiny", file=("a.wav", short)).text is not None
