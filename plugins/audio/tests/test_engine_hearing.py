"""Speech to text, against faster-whisper called directly."""

from __future__ import annotations

import threading
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.errors import Closed, ContextExceeded, Fault, Invalid, TooLarge, Unsupported
from anyform.contract.events import Done, Event, Progress, Segment
from anyform.contract.jobs import Complete, Sound, Transcribe, Translate
from anyform.contract.model import LoadedModel, Stop
from anyform.testing.whisper import LANGUAGES, RATE, TEXT

np = pytest.importorskip("numpy")
faster_whisper = pytest.importorskip("faster_whisper")
av = pytest.importorskip("av")
pytestmark = pytest.mark.engine

PLAIN = {"temperature": 0.0}
"""One try of each window, so that the answer is the same each time."""


def samples(file: bytes) -> Any:
    """What a request's file sounds like."""
    from anyform.sound.decode import samples

    return np.concatenate(list(samples(file, RATE, 7200, Stop())))


@pytest.fixture(scope="module")
def model(loaded: Callable[..., LoadedModel], converted: Path) -> LoadedModel:
    return loaded(converted)


@pytest.fixture(scope="module")
def english(loaded: Callable[..., LoadedModel], english_talker: Path) -> LoadedModel:
    return loaded(english_talker, english=True)


@pytest.fixture(scope="module")
def direct(converted: Path) -> Any:
    """faster-whisper's own model of the same files."""
    return faster_whisper.WhisperModel(str(converted), device="cpu", local_files_only=True)


def directly(direct: Any, file: bytes, **wanted: Any) -> tuple[list[Any], Any]:
    segments, info = direct.transcribe(samples(file), **{"temperature": 0.0, **wanted})
    return list(segments), info


def same(ours: list[Segment], theirs: list[Any], seconds: float) -> None:
    assert [segment.extra["tokens"] for segment in ours] == [list(segment.tokens) for segment in theirs]
    assert [segment.text for segment in ours] == [segment.text for segment in theirs]
    for segment, other in zip(ours, theirs, strict=True):
        assert segment.start == round(min(other.start, seconds), 2)
        assert segment.end == round(min(other.end, seconds), 2)
        for name in ("seek", "avg_logprob", "compression_ratio", "no_speech_prob", "temperature"):
            assert segment.extra[name] == getattr(other, name)


@pytest.mark.parametrize("seconds", [0.3, 6, 30, 95])
@pytest.mark.parametrize("task", ["transcribe", "translate"])
def test_it_is_what_faster_whisper_says(
    model: LoadedModel, direct: Any, hearing: Any, seconds: float, task: str
) -> None:
    file = hearing.sound(seconds)
    heard = hearing.hear(model, file, translate=task == "translate", **PLAIN)
    theirs, info = directly(direct, file, task=task)
    same(heard.segments, theirs, seconds)
    assert len(theirs) > (3 if seconds > 30 else 0) - (seconds < 30)
    assert heard.done.extra["spoken"] == info.language
    assert heard.done.extra["language_probability"] == info.language_probability
    assert heard.done.extra["language"] == ("en" if task == "translate" else info.language)
    assert heard.done.extra["duration"] == pytest.approx(seconds)


def test_real_speech(model: LoadedModel, direct: Any, hearing: Any) -> None:
    file = hearing.SPEECH.read_bytes()
    heard = hearing.hear(model, file, **PLAIN)
    theirs, _ = directly(direct, file)
    same(heard.segments, theirs, 11.0)
    assert len(theirs) > 0
    assert heard.done.extra["duration"] == pytest.approx(11.0)


def test_translating_is_not_transcribing(model: LoadedModel, hearing: Any) -> None:
    file = hearing.sound(95)
    assert hearing.hear(model, file, **PLAIN).tokens != hearing.hear(model, file, translate=True, **PLAIN).tokens


def test_words(model: LoadedModel, direct: Any, hearing: Any) -> None:
    file = hearing.sound(95)
    heard = hearing.hear(model, file, words=True, **PLAIN)
    theirs, _ = directly(direct, file, word_timestamps=True)
    expected = [
        (word.word, round(min(word.start, 95), 2), round(min(word.end, 95), 2), word.probability)
        for segment in theirs
        for word in segment.words
    ]
    assert [(word["word"], word["start"], word["end"], word["probability"]) for word in heard.words] == expected
    assert len(expected) > 10
    assert "".join(word["word"] for word in heard.words) == heard.text
    kinds = {type(value) for word in heard.words for value in word.values()}
    assert kinds == {str, float}, "numpy's numbers do not cross the wire"


def test_without_words_there_are_none(model: LoadedModel, hearing: Any) -> None:
    assert all("words" not in segment.extra for segment in hearing.hear(model, hearing.sound(30), **PLAIN).segments)


def test_only_speech_is_heard(model: LoadedModel, direct: Any, hearing: Any) -> None:
    """The pauses before, between and after are left out, and the times are those of the whole sound."""
    from faster_whisper.vad import VadOptions, get_speech_timestamps

    speech, pause = samples(hearing.SPEECH.read_bytes()), np.zeros(RATE * 6, np.float32)
    whole = np.concatenate([pause, speech, pause, speech, pause])
    file = flac(whole)
    heard = hearing.hear(model, file, vad=True, words=True, **PLAIN)
    voiced = get_speech_timestamps(samples(file), VadOptions())
    assert heard.done.extra["speech"] == [[one["start"] / RATE, one["end"] / RATE] for one in voiced]
    assert len(voiced) == 2
    theirs, info = directly(direct, file, vad_filter=True, word_timestamps=True)
    same(heard.segments, theirs, len(whole) / RATE)
    assert heard.segments[0].start >= 5
    assert heard.done.extra["duration"] == pytest.approx(len(whole) / RATE)
    assert info.duration_after_vad < 25
    assert heard.text != hearing.hear(model, file, **PLAIN).text


def test_silence_is_an_empty_text(model: LoadedModel, loaded: Any, converted: Path, hearing: Any) -> None:
    file = flac(np.zeros(RATE * 20, np.float32))
    for heard in (hearing.hear(model, file, vad=True), hearing.hear(loaded(converted, vad=True), file)):
        assert heard.segments == []
        assert heard.done.extra["speech"] == []
        assert heard.done.extra["duration"] == 20.0
        assert heard.done.finishes[0].reason == "stop"


def test_what_is_speech_may_be_said(loaded: Callable[..., LoadedModel], converted: Path, hearing: Any) -> None:
    from faster_whisper.vad import VadOptions, get_speech_timestamps

    set_so = {
        "vad_threshold": 0.9, "vad_min_silence_ms": 100, "vad_pad_ms": 10, "vad_min_speech_ms": 300,
        "vad_max_speech_s": 2,
    }  # fmt: skip
    file = hearing.SPEECH.read_bytes()
    heard = hearing.hear(loaded(converted, **set_so), file, vad=True)
    wanted = VadOptions(
        threshold=0.9,
        min_silence_duration_ms=100,
        speech_pad_ms=10,
        min_speech_duration_ms=300,
        max_speech_duration_s=2,
    )
    voiced = [[one["start"] / RATE, one["end"] / RATE] for one in get_speech_timestamps(samples(file), wanted)]
    assert heard.done.extra["speech"] == voiced
    assert voiced != hearing.hear(loaded(converted), file, vad=True).done.extra["speech"] != []


def test_the_language_is_taken_as_said(model: LoadedModel, direct: Any, hearing: Any) -> None:
    file = hearing.sound(30)
    found = hearing.hear(model, file, **PLAIN).done.extra["language"]
    for code in [code for code in LANGUAGES if code != found][:2]:
        heard = hearing.hear(model, file, language=code.upper(), **PLAIN)
        same(heard.segments, directly(direct, file, language=code)[0], 30)
        assert heard.done.extra["language"] == code
    assert hearing.hear(model, file, language="german", **PLAIN).done.extra["language_name"] == "german"


def test_a_prompt_is_what_was_said_before(model: LoadedModel, direct: Any, hearing: Any) -> None:
    file = hearing.sound(40)
    heard = hearing.hear(model, file, prompt="w300 w301", **PLAIN)
    same(heard.segments, directly(direct, file, initial_prompt="w300 w301")[0], 40)
    assert heard.text != hearing.hear(model, file, **PLAIN).text


def test_text_that_cannot_be_trusted_is_tried_again_hotter(
    model: LoadedModel, loaded: Any, converted: Path, hearing: Any
) -> None:
    """Random weights are sure of nothing: unless a temperature is named, or fallback is off, all are tried."""
    file = hearing.sound(10)
    trusting = loaded(converted, log_prob_threshold=-1000, compression_ratio_threshold=1000)
    strict = loaded(converted, log_prob_threshold=0)
    assert {one.extra["temperature"] for one in hearing.hear(strict, file).segments} <= {1.0}
    tried = hearing.hear(strict, file).done.usage.prompt_tokens
    once = hearing.hear(strict, file, temperature=0.0).done.usage.prompt_tokens
    assert tried >= 6 * once > 0
    assert hearing.hear(trusting, file).done.usage.prompt_tokens == once
    off = loaded(converted, log_prob_threshold=0, fallback=False)
    assert hearing.hear(off, file).done.usage.prompt_tokens == once
    assert {one.extra["temperature"] for one in hearing.hear(strict, file, temperature=0.8).segments} <= {0.8}


@pytest.mark.parametrize(
    ("name", "value", "seconds"),
    [
        ("beam_size", 1, 70),
        ("patience", 3.0, 95),
        ("length_penalty", 0.0, 70),
        ("repetition_penalty", 1.5, 70),
        ("no_repeat_ngram_size", 2, 70),
        ("condition_on_previous_text", False, 70),
        ("hotwords", "w270 w271", 70),
    ],
)
def test_options_reach_faster_whisper(
    loaded: Callable[..., LoadedModel], converted: Path, direct: Any, hearing: Any, name: str, value: Any, seconds: int
) -> None:
    file = hearing.sound(seconds)
    heard = hearing.hear(loaded(converted, **{name: value}), file, **PLAIN)
    same(heard.segments, directly(direct, file, **{name: value})[0], seconds)
    assert heard.tokens != [list(one.tokens) for one in directly(direct, file)[0]]


@pytest.mark.parametrize("compute_type", ["int8", "float32"])
def test_what_it_computes_in(
    loaded: Callable[..., LoadedModel], converted: Path, hearing: Any, compute_type: str
) -> None:
    heard = hearing.hear(loaded(converted, compute_type=compute_type), hearing.sound(30), **PLAIN)
    theirs = faster_whisper.WhisperModel(str(converted), device="cpu", compute_type=compute_type)
    same(heard.segments, directly(theirs, hearing.sound(30))[0], 30)


def test_progress_counts_the_seconds(model: LoadedModel, hearing: Any) -> None:
    heard = hearing.hear(model, hearing.sound(95), **PLAIN)
    steps = heard.progress
    assert {(step.stage, step.total) for step in steps} == {("audio", 95)}
    assert [step.done for step in steps] == sorted(step.done for step in steps)
    assert (steps[0].done, steps[-1].done) == (0, 95)
    assert len(steps) > 3
    assert isinstance(heard.events[0], Progress), "it comes first, so that an answer may begin"


def test_progress_through_what_is_no_speech(model: LoadedModel, hearing: Any) -> None:
    speech, pause = samples(hearing.SPEECH.read_bytes()), np.zeros(RATE * 60, np.float32)
    file = flac(np.concatenate([pause, *[speech] * 4, pause]))
    steps = [step.done for step in hearing.hear(model, file, vad=True, **PLAIN).progress]
    assert steps[0] == 0
    assert steps[1] > 60, "the first window of speech begins after a minute, and has at most half a minute of it"
    assert steps[-1] == 164


def test_segments_come_while_the_rest_is_still_to_be_heard(
    model: LoadedModel, hearing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second window is not begun before the first one's segment is in the reader's hands."""
    encode, had, windows = model._whisper.model.encode, threading.Event(), []  # type: ignore[attr-defined]

    class Slow:
        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        def encode(self, *given: Any, **wanted: Any) -> Any:
            windows.append(given)
            assert len(windows) < 3 or had.wait(30), "the third step is taken when the reader has seen a segment"
            return encode(*given, **wanted)

    real = model._whisper.model  # type: ignore[attr-defined]
    monkeypatch.setattr(model._whisper, "model", Slow())  # type: ignore[attr-defined]
    events: list[Event] = []
    for event in model.generate(Transcribe(audio=Sound(data=hearing.sound(95)), temperature=0.0), Stop()):
        events.append(event)
        if isinstance(event, Segment) and not had.is_set():
            assert len(windows) <= 3
            had.set()
    assert len(windows) > 3
    assert sum(isinstance(event, Segment) for event in events) > 3


def test_usage_counts_tokens(model: LoadedModel, hearing: Any) -> None:
    heard = hearing.hear(model, hearing.sound(30), **PLAIN)
    assert heard.done.usage.completion_tokens >= sum(map(len, heard.tokens)) > 0
    assert heard.done.usage.prompt_tokens >= 3
    assert "2 at a time" in heard.done.extra["batching"]


def test_an_english_model(english: LoadedModel, hearing: Any) -> None:
    file = hearing.sound(30)
    heard = hearing.hear(english, file, **PLAIN)
    assert heard.segments
    assert (heard.done.extra["language"], heard.done.extra["language_name"]) == ("en", "english")
    assert hearing.hear(english, file, language="English", **PLAIN).text == heard.text
    with pytest.raises(Unsupported, match="English only"):
        english.generate(Translate(audio=Sound(data=file)), Stop())
    with pytest.raises(Unsupported, match="'de'") as caught:
        english.generate(Transcribe(audio=Sound(data=file), language="de"), Stop())
    assert caught.value.details["param"] == "language"


@pytest.mark.parametrize(
    ("wanted", "kind", "param"),
    [
        ({"language": "klingon"}, Invalid, "language"),
        ({"language": "germn"}, Invalid, "language"),
        ({"language": "fi"}, Unsupported, "language"),
        ({"prompt": "a b c " * 200}, ContextExceeded, "prompt"),
        ({"prompt": "so <|de|> it"}, Invalid, "prompt"),
    ],
)
def test_wishes_that_cannot_be_met(
    model: LoadedModel, hearing: Any, wanted: dict[str, Any], kind: type[Fault], param: str
) -> None:
    with pytest.raises(kind) as caught:
        model.generate(Transcribe(audio=Sound(data=hearing.sound(1)), **wanted), Stop())
    assert caught.value.details["param"] == param


def test_the_nearest_language_is_named(model: LoadedModel, hearing: Any) -> None:
    with pytest.raises(Invalid) as caught:
        model.generate(Transcribe(audio=Sound(data=hearing.sound(1)), language="germn"), Stop())
    assert "de (german)" in caught.value.hint


def test_words_need_heads_that_follow_the_sound(
    loaded: Callable[..., LoadedModel], hearing: Any, tmp_path: Path
) -> None:
    from anyform.testing.ctranslate2 import write_ct2_whisper

    model = loaded(write_ct2_whisper(tmp_path / "headless", heads=False))
    with pytest.raises(Unsupported, match="alignment_heads"):
        model.generate(Transcribe(audio=Sound(data=hearing.sound(1)), words=True), Stop())


def test_other_tasks_are_refused(model: LoadedModel) -> None:
    with pytest.raises(Unsupported, match="complete"):
        model.generate(Complete(prompt="x"), Stop())


def test_too_long_a_sound_is_refused(loaded: Callable[..., LoadedModel], converted: Path, hearing: Any) -> None:
    model = loaded(converted, audio_seconds=10)
    assert hearing.hear(model, hearing.sound(10))
    with pytest.raises(TooLarge, match="audio_seconds"):
        model.generate(Transcribe(audio=Sound(data=hearing.sound(10.5))), Stop())


def test_sixteen_at_once_get_what_one_gets(model: LoadedModel, hearing: Any) -> None:
    files = [hearing.sound(5 + 3 * place, seed=place) for place in range(16)]
    alone = [hearing.hear(model, file, **PLAIN).tokens for file in files]
    together = hearing.together([lambda file=file: hearing.hear(model, file, **PLAIN).tokens for file in files])
    assert together == alone
    assert len({str(tokens) for tokens in alone}) > 8


def test_so_many_are_heard_at_once_and_the_others_wait(
    loaded: Callable[..., LoadedModel], converted: Path, hearing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = loaded(converted, parallel=3)
    assert model.parallel == 3
    inside, most, lock = 0, 0, threading.Lock()
    together = threading.Barrier(3)
    hear = model._listener.hear  # type: ignore[attr-defined]

    def counted(*given: Any) -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        together.wait(30)  # nine requests pass three by three, or not at all
        hear(*given)
        with lock:
            inside -= 1

    monkeypatch.setattr(model._listener, "hear", counted)  # type: ignore[attr-defined]
    hearing.together([lambda: hearing.hear(model, hearing.sound(3), **PLAIN)] * 9)
    assert most == 3


def test_a_stopped_request_ends_between_two_steps(model: LoadedModel, hearing: Any) -> None:
    stop = Stop()
    whole = hearing.hear(model, hearing.LONG, **PLAIN)
    events = model.generate(Transcribe(audio=Sound(data=hearing.LONG), temperature=0.0), stop)
    for event in events:
        if isinstance(event, Segment):
            break
    stop.set()
    rest = list(events)
    assert isinstance(rest[-1], Done)
    assert rest[-1].finishes[0].reason == "cancelled"
    assert rest[-1].usage.completion_tokens < whole.done.usage.completion_tokens
    assert hearing.hear(model, hearing.sound(3), **PLAIN).done.finishes[0].reason == "stop"


def test_no_step_is_taken_after_a_stop(model: LoadedModel, hearing: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stop, taken = Stop(), []
    real = model._whisper.model  # type: ignore[attr-defined]

    class Counted:
        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        def generate(self, *given: Any, **wanted: Any) -> Any:
            taken.append("generate")
            stop.set()
            return real.generate(*given, **wanted)

        def encode(self, *given: Any, **wanted: Any) -> Any:
            assert not stop.is_set()
            return real.encode(*given, **wanted)

    monkeypatch.setattr(model._whisper, "model", Counted())  # type: ignore[attr-defined]
    heard = hearing.hear(model, hearing.LONG, stop)
    assert heard.done.finishes[0].reason == "cancelled"
    assert taken == ["generate"], "nor is the window tried again at another temperature"


def test_no_further_part_of_a_spectrum_is_made_after_a_stop(
    model: LoadedModel, hearing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from anyform_audio.hearing import spectrum

    stop, made, real = Stop(), [], spectrum.Spectrum._fill

    def fill(self: Any, out: Any, samples: Any) -> None:
        made.append(out.shape[1])
        stop.set()
        real(self, out, samples)

    monkeypatch.setattr(spectrum, "BLOCK", 700)
    monkeypatch.setattr(spectrum.Spectrum, "_fill", fill)
    heard = hearing.hear(model, hearing.sound(30), stop)
    assert heard.done.finishes[0].reason == "cancelled"
    assert made == [700]


def test_who_is_stopped_in_line_leaves_it(loaded: Callable[..., LoadedModel], converted: Path, hearing: Any) -> None:
    model = loaded(converted, parallel=1)
    running = model.generate(Transcribe(audio=Sound(data=hearing.LONG)), Stop())
    next(running)
    next(running)
    stop, waits = Stop(), threading.Event()
    told: list[Event] = []

    def wait() -> None:
        for event in model.generate(Transcribe(audio=Sound(data=hearing.sound(3))), stop):
            told.append(event)
            waits.set()

    thread = threading.Thread(target=wait)
    thread.start()
    assert waits.wait(30)
    stop.set()
    thread.join(30)
    assert not thread.is_alive()
    assert isinstance(told[-1], Done)
    assert told[-1].finishes[0].reason == "cancelled"
    running.close()  # type: ignore[attr-defined]


def test_a_request_that_nobody_reads_is_dropped(
    loaded: Callable[..., LoadedModel], converted: Path, hearing: Any
) -> None:
    model = loaded(converted, parallel=1)
    events = model.generate(Transcribe(audio=Sound(data=hearing.LONG)), Stop())
    next(events)
    next(events)
    events.close()  # type: ignore[attr-defined]
    assert hearing.hear(model, hearing.sound(3), **PLAIN).done.finishes[0].reason == "stop"


def test_closing(loaded: Callable[..., LoadedModel], converted: Path, hearing: Any) -> None:
    model = loaded(converted, parallel=1)
    events = model.generate(Transcribe(audio=Sound(data=hearing.LONG)), Stop())
    next(events)
    next(events)
    waiting = model.generate(Transcribe(audio=Sound(data=hearing.sound(3))), Stop())
    next(waiting)
    model.close()
    model.close()
    for one in (events, waiting):
        with pytest.raises(Closed):
            list(one)
    with pytest.raises(Closed):
        model.generate(Transcribe(audio=Sound(data=hearing.sound(3))), Stop())


def test_what_the_engine_cannot_compute_costs_one_request(
    model: LoadedModel, hearing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = model._whisper.model  # type: ignore[attr-defined]

    class Broken:
        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        def generate(self, *given: Any, **wanted: Any) -> Any:
            raise RuntimeError("CUDA error")

    with monkeypatch.context() as patched:
        patched.setattr(model._whisper, "model", Broken())  # type: ignore[attr-defined]
        with pytest.raises(Fault, match="CUDA error") as caught:
            hearing.hear(model, hearing.sound(3))
        assert caught.value.code == "audio.hearing_failed"
    assert hearing.hear(model, hearing.sound(3), **PLAIN).done.finishes[0].reason == "stop"


@pytest.mark.parametrize("seconds", [29.99, 30, 61.237])
def test_a_spectrum_made_in_parts_is_the_whole_one(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    from faster_whisper.feature_extractor import FeatureExtractor

    from anyform.testing.whisper import voice
    from anyform_audio.hearing import spectrum

    sound, extractor, told = np.asarray(voice(seconds)), FeatureExtractor(), list[int]()
    whole = extractor(sound)
    monkeypatch.setattr(spectrum, "BLOCK", 700)
    made = spectrum.Spectrum(extractor, told.append)(sound)
    assert made.shape == whole.shape
    assert made.dtype == whole.dtype
    assert np.abs(np.asarray(made) - whole).max() < 1e-5
    assert type(made[..., 5:]) is type(made[:, 100:3100]) is np.ndarray
    assert told == [100], "where windows are cut"


def test_tokens_that_are_no_text_stay_away(model: LoadedModel, hearing: Any) -> None:
    """Those of a segment are of text or times, as OpenAI's are."""
    heard = hearing.hear(model, hearing.sound(95), **PLAIN)
    times = TEXT + 2 + len(LANGUAGES) + 6
    assert all(token < TEXT or token >= times for tokens in heard.tokens for token in tokens)


def flac(sound: Any) -> bytes:
    """*sound*, RATE a second, without loss."""
    out = BytesIO()
    with av.open(out, "w", format="flac") as file:
        stream = file.add_stream("flac", rate=RATE)
        stream.layout, stream.format = "mono", "s16"
        whole = np.round(np.asarray(sound, np.float64) * 32767).astype(np.int16)
        for place in range(0, len(whole), 4096):
            frame = av.AudioFrame.from_ndarray(whole[None, place : place + 4096], format="s16", layout="mono")
            frame.sample_rate, frame.pts = RATE, place
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return out.getvalue()
