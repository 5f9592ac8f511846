"""Speech to text, against transformers itself: the pipeline, generate() and its attention."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.errors import (
    Closed,
    ContextExceeded,
    EngineMissing,
    Fault,
    Invalid,
    LoadFailed,
    TooLarge,
    Unsupported,
)
from anyform.contract.events import Done, Progress, Segment
from anyform.contract.facts import Settings
from anyform.contract.jobs import Complete, Sound, Transcribe, Translate
from anyform.contract.model import LoadedModel, Stop
from anyform.testing.whisper import LANGUAGES, RATE, TEXT, voice, wave_file, write_whisper

np = pytest.importorskip("numpy")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
av = pytest.importorskip("av")
pytestmark = pytest.mark.engine

PLAIN = {"context": None, "fallback": False}
"""As transformers' generate() does it where it is told nothing else."""
FORMATS = (("flac", "flac", 44_100), ("mp3", "mp3", 48_000), ("ogg", "libopus", 48_000), ("mp4", "aac", 44_100),
           ("webm", "libopus", 48_000), ("matroska", "flac", 22_050))  # fmt: skip
"""Container, codec and rate."""


def heard(file: bytes) -> Any:
    """The samples of a WAV file."""
    return np.frombuffer(file[44:], "<i2").astype(np.float32) / 32768


def encoded(samples: Any, container: str, codec: str, rate: int) -> bytes:
    """*samples*, RATE a second, as a stereo file of another kind and rate."""
    out = BytesIO()
    with av.open(out, "w", format=container) as file:
        stream = file.add_stream(codec, rate=rate)
        stream.layout = "stereo"
        size = stream.codec_context.frame_size or 1024
        shape = {"layout": "stereo", "rate": rate, "frame_size": size}
        resampler = av.AudioResampler(format=stream.codec_context.format, **shape)
        frame = av.AudioFrame.from_ndarray(np.asarray(samples, np.float32)[None], format="flt", layout="mono")
        frame.sample_rate, frame.pts = RATE, 0
        for made in (*resampler.resample(frame), *resampler.resample(None)):
            file.mux(stream.encode(made))
        file.mux(stream.encode(None))
    return out.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_whisper(tmp_path_factory.mktemp("speech") / "tiny")


@pytest.fixture(scope="module")
def english_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_whisper(tmp_path_factory.mktemp("speech") / "tiny.en", english=True, heads=False)


@pytest.fixture(scope="module")
def loaded(kit: Any) -> Iterator[Callable[..., LoadedModel]]:
    """Loads folders; the models live as long as the module."""
    from anyform_hf_transformers import backend

    models: list[LoadedModel] = []

    def load(folder: Path, **settings: Any) -> LoadedModel:
        models.append(backend.load(kit.plan(folder, **settings)))
        return models[-1]

    yield load
    for model in models:
        model.close()


@pytest.fixture(scope="module")
def plain(loaded: Callable[..., LoadedModel], folder: Path) -> LoadedModel:
    return loaded(folder, **PLAIN)


@pytest.fixture(scope="module")
def english(loaded: Callable[..., LoadedModel], english_folder: Path) -> LoadedModel:
    return loaded(english_folder, **PLAIN)


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> Any:
    return transformers.pipeline("automatic-speech-recognition", model=str(folder), device="cpu")


def piped(pipeline: Any, file: bytes, timestamps: Any = True, **wanted: Any) -> Any:
    """What the pipeline says; greedy, as OpenAI's and this backend's default is."""
    asked = {"num_beams": 1, "max_new_tokens": None, "task": "transcribe", **wanted}
    return pipeline(heard(file), return_timestamps=timestamps, generate_kwargs=asked)


def tokens(theirs: list[Any]) -> list[list[int]]:
    """Of their text."""
    return [[token for token in one["tokens"].tolist() if token < TEXT] for one in theirs]


def generated(pipeline: Any, file: bytes, seconds: float, task: str | None = "transcribe", **wanted: Any) -> list[Any]:
    """The segments of transformers' `generate` that begin in the sound and have text."""
    given = pipeline.feature_extractor(
        heard(file), sampling_rate=RATE, return_tensors="pt", truncation=False, return_attention_mask=True,
        padding="longest" if seconds >= 30 else "max_length",
    )  # fmt: skip
    wanted |= {"return_timestamps": True, "return_segments": True, "num_beams": 1}
    made = pipeline.model.generate(given.input_features, attention_mask=given.attention_mask, task=task, **wanted)
    return [
        one
        for one in made["segments"][0]
        if any(token < TEXT for token in one["tokens"].tolist()) and float(one["start"]) < seconds
    ]


def ask(model: LoadedModel, file: bytes, **wanted: Any) -> tuple[list[Segment], Done]:
    job = Translate if wanted.pop("translate", False) else Transcribe
    *events, done = model.generate(job(audio=Sound(data=file), **wanted), Stop())
    assert isinstance(events[0], Progress)
    assert isinstance(done, Done)
    return [event for event in events if isinstance(event, Segment)], done


def said(segments: list[Segment]) -> list[list[int]]:
    return [segment.extra["tokens"] for segment in segments]


def text(segments: list[Segment]) -> str:
    return "".join(segment.text for segment in segments)


@pytest.mark.parametrize("seconds", [30, 31.5, 75])
@pytest.mark.parametrize("task", ["transcribe", "translate"])
def test_the_text_is_the_pipelines(plain: LoadedModel, pipeline: Any, seconds: float, task: str) -> None:
    file = wave_file(voice(seconds))
    segments, done = ask(plain, file, translate=task == "translate")
    theirs = generated(pipeline, file, seconds, task)
    assert said(segments) == tokens(theirs)
    assert piped(pipeline, file, task=task)["text"].startswith(text(segments))
    assert len(segments) > 3
    assert done.extra["duration"] == pytest.approx(seconds)


def test_translating_is_not_transcribing(plain: LoadedModel) -> None:
    file = wave_file(voice(30))
    assert text(ask(plain, file)[0]) != text(ask(plain, file, translate=True)[0])


@pytest.mark.parametrize("seconds", [0.5, 5, 11])
def test_a_short_sound_is_the_pipelines_until_its_end(plain: LoadedModel, pipeline: Any, seconds: float) -> None:
    """The pipeline goes on over the silence with which it fills the window."""
    file = wave_file(voice(seconds))
    segments, _ = ask(plain, file)
    assert bool(segments) == bool(generated(pipeline, file, seconds))
    assert piped(pipeline, file)["text"].startswith(text(segments))
    assert all(0 <= segment.start <= segment.end for segment in segments)
    assert all(segment.start < seconds and segment.end <= seconds for segment in segments)


@pytest.mark.parametrize("seconds", [30, 75])
def test_segments_and_words_are_those_of_generate(
    plain: LoadedModel, pipeline: Any, folder: Path, seconds: float
) -> None:
    file = wave_file(voice(seconds))
    theirs = generated(pipeline, file, seconds, return_token_timestamps=True)
    segments, _ = ask(plain, file, words=True)
    assert len(segments) == len(theirs)
    for segment, other in zip(segments, theirs, strict=True):
        timed = zip(other["tokens"].tolist(), other["token_timestamps"].tolist(), strict=True)
        ends = [round(end, 2) for token, end in timed if token < TEXT]
        assert segment.extra["tokens"] == [token for token in other["tokens"].tolist() if token < TEXT]
        assert segment.start == pytest.approx(float(other["start"]), abs=0.006)
        assert segment.end == pytest.approx(min(float(other["end"]), seconds), abs=0.006)
        assert segment.extra["words"][-1]["end"] == ends[-1]
        assert {word["end"] for word in segment.extra["words"]} <= set(ends)


def test_words_are_the_pipelines(plain: LoadedModel, pipeline: Any) -> None:
    file = wave_file(voice(30))
    theirs = [(one["text"], *one["timestamp"]) for one in piped(pipeline, file, "word")["chunks"]]
    segments, _ = ask(plain, file, words=True)
    ours = [(word["word"], word["start"], word["end"]) for segment in segments for word in segment.extra["words"]]
    assert ours == theirs[: len(ours)], "they go on behind the sound's end"
    assert len(ours) > 3
    assert "".join(word for word, _, _ in ours) == text(segments)


def test_other_text_does_not_come_of_asking_for_words(plain: LoadedModel) -> None:
    file = wave_file(voice(40))
    assert text(ask(plain, file)[0]) == text(ask(plain, file, words=True)[0]) == text(ask(plain, file)[0])


def test_the_language_is_found_out_or_taken_as_said(plain: LoadedModel, pipeline: Any) -> None:
    file = wave_file(voice(30))
    _, done = ask(plain, file)
    found = done.extra["language"]
    given = pipeline.feature_extractor(heard(file), sampling_rate=RATE, return_tensors="pt").input_features
    token = pipeline.model.detect_language(given)[0]
    assert pipeline.tokenizer.convert_ids_to_tokens(int(token)) == f"<|{found}|>"
    other = next(code for code in LANGUAGES if code != found)
    for spelling in (other, other.upper()):
        segments, told = ask(plain, file, language=spelling)
        assert told.extra["language"] == other
        assert said(segments) == tokens(generated(pipeline, file, 30, language=other)) != []
    assert said(ask(plain, file, language="german")[0]) == tokens(generated(pipeline, file, 30, language="de"))


def test_a_prompt_is_what_was_said_before(plain: LoadedModel, pipeline: Any) -> None:
    file = wave_file(voice(70))
    segments, done = ask(plain, file, prompt="w300 w301")
    prompt = torch.as_tensor(pipeline.tokenizer.get_prompt_ids("w300 w301"))
    assert said(segments) == tokens(generated(pipeline, file, 70, prompt_ids=prompt))
    assert text(segments) != text(ask(plain, file)[0])
    assert done.usage.prompt_tokens >= 2 * (len(prompt) + 3)


def test_a_temperature_draws(plain: LoadedModel) -> None:
    file = wave_file(voice(30))
    drawn = {text(ask(plain, file, temperature=1.0)[0]) for _ in range(4)}
    assert len(drawn) > 1
    segments, _ = ask(plain, file, temperature=0.8)
    assert {segment.extra["temperature"] for segment in segments} == {0.8}


def test_text_that_cannot_be_trusted_is_tried_again_hotter(
    loaded: Callable[..., LoadedModel], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random weights are sure of nothing: every window ends at the last temperature."""
    model = loaded(folder, context=None)
    seeded = np.random.default_rng(1)  # what is drawn says how many windows there are
    monkeypatch.setattr(np.random, "default_rng", lambda: seeded)
    segments, done = ask(model, wave_file(voice(30)))
    assert {segment.extra["temperature"] for segment in segments} == {1.0}
    assert all(segment.extra["avg_logprob"] < -1 for segment in segments)
    _, once = ask(loaded(folder, **PLAIN), wave_file(voice(30)))
    assert done.usage.completion_tokens > 4 * once.usage.completion_tokens


def test_what_a_segment_says_of_itself(plain: LoadedModel) -> None:
    segments, done = ask(plain, wave_file(voice(75)))
    for segment in segments:
        assert segment.extra["avg_logprob"] < 0
        assert 0 <= segment.extra["no_speech_prob"] <= 1
        assert segment.extra["compression_ratio"] > 0
        assert segment.start >= segment.extra["seek"] / 100
    assert [segment.start for segment in segments] == sorted(segment.start for segment in segments)
    assert done.finishes[0].reason == "stop"
    assert done.usage.completion_tokens > sum(len(segment.extra["tokens"]) for segment in segments)


def test_progress_counts_the_seconds(plain: LoadedModel) -> None:
    events = list(plain.generate(Transcribe(audio=Sound(data=wave_file(voice(75)))), Stop()))
    steps = [event for event in events if isinstance(event, Progress)]
    assert {(step.stage, step.total) for step in steps} == {("audio", 75)}
    assert [step.done for step in steps] == sorted(step.done for step in steps)
    assert (steps[0].done, steps[-1].done) == (0, 75)
    first = next(place for place, event in enumerate(events) if isinstance(event, Segment))
    assert first < events.index(steps[-1]) - 1, "segments come before the whole sound was heard"


def test_an_english_model(english: LoadedModel, english_folder: Path, kit: Any) -> None:
    file = wave_file(voice(40))
    segments, done = ask(english, file)
    theirs = transformers.pipeline("automatic-speech-recognition", model=str(english_folder), device="cpu")
    assert said(segments) == tokens(generated(theirs, file, 40, None)) != []
    assert (done.extra["language"], done.extra["language_name"]) == ("en", "english")
    assert text(ask(english, file, language="English")[0]) == text(segments)
    assert kit.plan(english_folder).metadata.tasks == ("transcribe",)
    with pytest.raises(Unsupported, match="English only"):
        english.generate(Translate(audio=Sound(data=file)), Stop())
    with pytest.raises(Unsupported, match="'de'"):
        english.generate(Transcribe(audio=Sound(data=file), language="de"), Stop())


@pytest.mark.parametrize(("container", "codec", "rate"), FORMATS)
def test_containers_and_codecs(plain: LoadedModel, container: str, codec: str, rate: int) -> None:
    segments, done = ask(plain, encoded(voice(31), container, codec, rate))
    assert done.extra["duration"] == pytest.approx(31, abs=0.1)
    assert len(segments) > 1


@pytest.mark.parametrize("seconds", [0.01, 3.01, 30, 31.237, 70])
def test_the_spectrogram_is_transformers(seconds: float) -> None:
    from anyform_hf_transformers.mel import Spectrograph

    made = transformers.WhisperFeatureExtractor()
    graph = Spectrograph(made.mel_filters, made.n_fft, made.hop_length, RATE, made.n_samples)
    sound = np.asarray(voice(seconds))
    padding = "longest" if seconds > 30 else "max_length"
    expected = made(sound, sampling_rate=RATE, return_tensors="np", truncation=False, padding=padding)
    found = graph.read([sound[place : place + 7777] for place in range(0, len(sound), 7777)])
    assert found.frames.shape == expected.input_features[0].shape
    assert np.abs(found.frames - expected.input_features[0]).max() < 1e-4
    assert found.length == pytest.approx(seconds * 100, abs=1)


WAVE = wave_file(voice(3))
FLAC = encoded(voice(3), "flac", "flac", 44_100)
MP3 = encoded(voice(3), "mp3", "mp3", 48_000)
NAN = WAVE[:16] + b"\x10\0\0\0\3\0\1\0" + b"\x80>\0\0\0\xfa\0\0\4\0\x20\0" + b"data" + b"\0\x10\0\0" + b"\xff" * 4096
BAD = {
    "empty": b"",
    "text": b"This is no sound at all, whatever its name is.\n" * 40,
    "zeros": bytes(5000),
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4,
    "a head alone": WAVE[:44],
    "half a WAV": WAVE[: len(WAVE) // 2],
    "half an MP3": MP3[: len(MP3) // 2],
    "half a FLAC": FLAC[: len(FLAC) // 2],
    "half an MP4": encoded(voice(3), "mp4", "aac", 44_100)[:9000],
    "half a WebM": encoded(voice(5), "webm", "libopus", 48_000)[:20_000],
    "NaN": (NAN[:4] + (len(NAN) - 8).to_bytes(4, "little") + NAN[8:]),
    "a playlist": b"#EXTM3U\n#EXTINF:10,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n",
    "a script": b"ffconcat version 1.0\nfile there.wav\n",
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_sound_is_refused(plain: LoadedModel, name: str) -> None:
    with pytest.raises(Invalid) as caught:
        plain.generate(Transcribe(audio=Sound(data=BAD[name])), Stop())
    assert caught.value.details["param"] == "file"
    assert caught.value.hint


def test_a_sound_names_no_other_file(plain: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg's own readers of lists would open what lies in the server's folder."""
    (tmp_path / "there.wav").write_bytes(WAVE)
    monkeypatch.chdir(tmp_path)
    with av.open(BytesIO(BAD["a script"])) as opened:
        assert opened.format.name == "concat"
    with pytest.raises(Invalid):
        plain.generate(Transcribe(audio=Sound(data=BAD["a script"])), Stop())


def test_a_sound_of_no_known_length_is_heard(plain: LoadedModel) -> None:
    """A program that writes a WAV into a pipe cannot go back to its head."""
    unknown = b"\xff\xff\xff\xff"
    file = WAVE[:4] + unknown + WAVE[8:40] + unknown + WAVE[44:]
    assert text(ask(plain, file)[0]) == text(ask(plain, WAVE)[0])


def test_too_long_a_sound_is_refused(loaded: Callable[..., LoadedModel], folder: Path) -> None:
    model = loaded(folder, context=None, audio_seconds=10)
    assert ask(model, wave_file(voice(10)))
    with pytest.raises(TooLarge, match="audio_seconds") as caught:
        model.generate(Transcribe(audio=Sound(data=wave_file(voice(10.5)))), Stop())
    assert caught.value.details == {"param": "file", "limit": 10.0}
    slow = wave_file(np.zeros(20_000), 1_000)
    with pytest.raises(TooLarge):
        model.generate(Transcribe(audio=Sound(data=slow)), Stop())


@pytest.mark.parametrize(
    ("wanted", "kind", "param"),
    [
        ({"language": "klingon"}, Invalid, "language"),
        ({"language": "e"}, Invalid, "language"),
        ({"language": "fi"}, Unsupported, "language"),
        ({"prompt": "a b c " * 40}, ContextExceeded, "prompt"),
        ({"prompt": "so <|de|> it"}, Invalid, "prompt"),
        ({"vad": True}, Unsupported, None),
    ],
)
def test_wishes_that_cannot_be_met(plain: LoadedModel, wanted: dict[str, Any], kind: type[Fault], param: str) -> None:
    with pytest.raises(kind) as caught:
        plain.generate(Transcribe(audio=Sound(data=WAVE), **wanted), Stop())
    assert caught.value.details.get("param") == param


def test_words_need_heads_that_follow_the_sound(english: LoadedModel) -> None:
    with pytest.raises(Unsupported, match="alignment_heads"):
        english.generate(Transcribe(audio=Sound(data=WAVE), words=True), Stop())


def test_other_tasks_are_refused(plain: LoadedModel) -> None:
    with pytest.raises(Unsupported, match="complete"):
        plain.generate(Complete(prompt="x"), Stop())


def test_clients_take_turns(plain: LoadedModel, kit: Any) -> None:
    files = [wave_file(voice(20 + 15 * place, seed=place)) for place in range(6)]
    alone = [text(ask(plain, file)[0]) for file in files]
    together = kit.together([lambda file=file: text(ask(plain, file)[0]) for file in files])
    assert together == alone
    assert len(set(alone)) == len(files)


def test_a_stopped_request_ends_within_a_step(plain: LoadedModel) -> None:
    stop = Stop()
    events = plain.generate(Transcribe(audio=Sound(data=wave_file(voice(300)))), stop)
    for event in events:
        if isinstance(event, Segment):
            break
    stop.set()
    rest = list(events)
    assert isinstance(rest[-1], Done)
    assert rest[-1].finishes[0].reason == "cancelled"
    assert rest[-1].usage.completion_tokens < 200, "of some six hundred"


def test_a_stop_ends_a_window_in_its_middle(plain: LoadedModel) -> None:
    """The step after the stop is set is not taken."""
    from anyform_hf_transformers.speechmodel import SpeechModel
    from anyform_hf_transformers.transcriber import Hearing

    assert isinstance(plain, SpeechModel)
    stop, seen = Stop(), threading.Event()
    hearing = plain._hearing(Transcribe(audio=Sound(data=wave_file(voice(30)))), stop)
    step, taken = plain._loop._transcriber.network.step, []

    def counted(sound: Any, token: int) -> Any:
        taken.append(token)
        if len(taken) == 5:
            stop.set()
            seen.set()
        return step(sound, token)

    plain._loop._transcriber.network.step = counted  # type: ignore[method-assign]
    try:
        plain._loop.submit(hearing)
        assert seen.wait(30)
        while hearing.told.get() is not None:
            pass
    finally:
        plain._loop._transcriber.network.step = step  # type: ignore[method-assign]
    assert isinstance(hearing, Hearing)
    assert hearing.cancelled
    assert len(taken) == 5


def test_a_request_that_nobody_reads_is_dropped(plain: LoadedModel) -> None:
    events = plain.generate(Transcribe(audio=Sound(data=wave_file(voice(300)))), Stop())
    next(events)
    next(events)
    events.close()  # type: ignore[attr-defined]
    assert ask(plain, WAVE)[1].finishes[0].reason == "stop"


def test_closing(loaded: Callable[..., LoadedModel], folder: Path) -> None:
    model = loaded(folder, **PLAIN)
    events = model.generate(Transcribe(audio=Sound(data=wave_file(voice(300)))), Stop())
    next(events)
    next(events)
    model.close()
    model.close()
    with pytest.raises(Closed):
        list(events)
    with pytest.raises(Closed):
        model.generate(Transcribe(audio=Sound(data=WAVE)), Stop())


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"alignment_heads": [[7, 0]]}, "alignment head"), ({"alignment_heads": [[0]]}, "alignment head")],
)
def test_a_generation_config_that_cannot_be(
    loaded: Callable[..., LoadedModel], tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(LoadFailed, match=said):
        loaded(write_whisper(tmp_path / "m", **changes), **PLAIN)


def test_without_what_reads_sound_the_command_is_told(kit: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from anyform_hf_transformers import backend

    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(EngineMissing, match="pip install av"):
        backend.load(kit.plan(folder, **PLAIN))


def test_memory_is_estimated(kit: Any, folder: Path) -> None:
    from anyform_hf_transformers import memory

    facts = kit.plan(folder).metadata
    brief, long = (
        memory.estimate(facts, Settings(device="cpu", options={"audio_seconds": seconds})) for seconds in (60, 3660)
    )
    assert brief.weights_bytes == 4 * facts.parameters
    assert brief.bytes_per_token == 0, "the context is the model's own"
    assert long.overhead_bytes - brief.overhead_bytes == 3600 * 100 * 80 * 4 * 2
    assert brief.at(Settings()) > memory.PROCESS_BYTES
