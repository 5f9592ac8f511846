"""Speech as it comes: sentence by sentence, joined without a click, several at once, ended in the middle, closed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyform.contract.errors import Closed, Invalid
from anyform.contract.events import Blob, Done, Progress
from anyform.contract.jobs import Speak
from anyform.contract.model import Stop
from anyform.testing.kokoro import RATE, write_kokoro
from anyform.testing.onnx import Graph, write_onnx
from anyform.testing.piper import write_piper

np = pytest.importorskip("numpy")
kokoro_onnx = pytest.importorskip("kokoro_onnx")
pytestmark = pytest.mark.engine

SENTENCES = (
    "The first sentence is short.",
    "Does the second one ask, perhaps, something?",
    "Mr. Smith's third cost $3.50!",
    "And the last one ends it.",
)
SPOKEN = [("en", "af_heart", 1.0), ("", "am_adam", 1.5), ("", "bf_emma", 0.75), ("", "af_heart(3)+af_bella", 2.0)]
"""Language, voice, speed."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_kokoro(tmp_path_factory.mktemp("kokoro") / "standin")


@pytest.fixture(scope="module")
def model(speaker: Callable[..., Any], folder: Path) -> Any:
    return speaker(folder)


@pytest.fixture(scope="module")
def models(model: Any, speaker: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One of each engine."""
    pytest.importorskip("piper")
    return {"kokoro": model, "piper": speaker(write_piper(tmp_path_factory.mktemp("piper") / "standin"))}


class Runs:
    """Counts inferences, and does something before each."""

    def __init__(self) -> None:
        self.tokens: list[Any] = []
        self.before: Callable[[int], None] = lambda number: None


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Runs]:
    from anyform_audio.speech.backend import Session

    seen, real = Runs(), Session.run

    def run(self: Any, names: Any, feeds: Any, options: Any = None) -> Any:
        seen.tokens.append(np.array(feeds["tokens"]).ravel().tolist())
        seen.before(len(seen.tokens))
        return real(self, names, feeds, options)

    monkeypatch.setattr(Session, "run", run)
    return seen


@pytest.fixture
def phonemized(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    from anyform_audio.speech.kokoro import phoneme

    seen: list[str] = []
    real = phoneme.espeak

    def espeak(text: str, language: str) -> str:
        seen.append(text)
        return real(text, language)

    monkeypatch.setattr(phoneme, "espeak", espeak)
    return seen


def meanwhile(thread: threading.Thread, reached: Callable[[], Any]) -> None:
    """Wait until *reached*, while *thread* lives."""
    while not reached():
        thread.join(0.001)
        assert thread.is_alive()


def numbers(data: bytes) -> Any:
    return np.frombuffer(data, "<i2").astype(int)


def silence(seconds: float) -> bytes:
    return bytes(2 * round(seconds * RATE))


@pytest.mark.parametrize("speed", [1.0, 2.0])
def test_the_chunks_are_the_sentences_with_pauses_between(speaking: Any, model: Any, speed: float) -> None:
    alone = [speaking.say(model, one, speed=speed).data for one in SENTENCES]
    together = speaking.say(model, " ".join(SENTENCES), speed=speed)
    assert together.data == silence(0.25 / speed).join(alone)
    assert [len(blob.data) for blob in together.blobs] == [
        len(alone[0]), *(len(one) + len(silence(0.25 / speed)) for one in alone[1:])
    ]  # fmt: skip
    assert together.done.extra["duration"] == len(together.data) / 2 / RATE
    paragraphs = speaking.say(model, "\n\n".join(SENTENCES[:2]), speed=speed)
    assert paragraphs.data == silence(0.5 / speed).join(alone[:2])


def test_pauses_are_options(speaking: Any, speaker: Callable[..., Any], model: Any, folder: Path) -> None:
    other = speaker(folder, sentence_pause="1", clause_pause=0.5, paragraph_pause=0)
    clauses = ("one " * 60).strip() + ",", ("two " * 60).strip() + "."
    alone = [speaking.say(model, one).data for one in (*SENTENCES[:2], *clauses)]
    assert speaking.say(other, " ".join(SENTENCES[:2])).data == silence(1).join(alone[:2])
    assert speaking.say(other, "\n\n".join(SENTENCES[:2])).data == b"".join(alone[:2])
    assert speaking.say(other, " ".join(clauses)).data == silence(0.5).join(alone[2:])
    assert speaking.say(model, " ".join(clauses)).data == silence(0.1).join(alone[2:])


def test_there_is_no_click_where_sentences_meet(speaking: Any, speaker: Callable[..., Any], folder: Path) -> None:
    """Each begins and ends with nothing, and no step is larger than those within the network's own sound."""
    from anyform_audio.speech import pcm

    model = speaker(folder, sentence_pause=0)
    theirs = kokoro_onnx.Kokoro(str(folder / "kokoro-v1.0.onnx"), str(folder / "voices-v1.0.bin"))
    own = [
        np.abs(np.diff(pcm.whole(theirs.create(one, "af_heart", trim=False)[0]).astype(int))).max() for one in SENTENCES
    ]
    spoken = speaking.say(model, " ".join(SENTENCES))
    assert np.abs(np.diff(numbers(spoken.data))).max() <= max(own)
    for blob in spoken.blobs:
        assert numbers(blob.data)[0] == numbers(blob.data)[-1] == 0
        assert np.abs(numbers(blob.data)[:10]).max() < 40


def test_silence_at_the_ends_is_trimmed_and_that_within_is_not() -> None:
    from anyform_audio.speech import pcm

    tone = np.sin(np.arange(RATE) / 10).astype(np.float32) * 0.5
    still = np.zeros(RATE, np.float32)
    kept = pcm.trimmed(np.concatenate([still, tone, still, tone, still]), RATE)
    assert len(kept) == pytest.approx(3 * RATE, abs=2 * 0.03 * RATE)
    assert len(pcm.trimmed(still, RATE)) == RATE
    assert len(pcm.trimmed(tone[:3], RATE)) == 3
    for length in range(5):
        assert len(pcm.faded(tone[:length], RATE)) == length
    assert pcm.whole(np.array([0.0, 1.0, -1.0, 7.0, -7.0], np.float32)).tolist() == [0, 32767, -32767, 32767, -32767]


def test_the_first_sound_costs_one_sentence(model: Any, runs: Runs, phonemized: list[str]) -> None:
    text = " ".join(f"This is sentence number {number}." for number in range(20))
    events = model.generate(Speak(text=text), Stop())
    assert phonemized == ["This is sentence number 0."]
    assert next(events) == Progress(stage="text", total=20)
    assert not runs.tokens
    assert isinstance(next(events), Blob)
    assert (len(runs.tokens), len(phonemized)) == (1, 1)
    assert isinstance(next(events), Blob)
    assert (len(runs.tokens), len(phonemized)) == (2, 2)
    events.close()


@pytest.mark.parametrize("kind", ["kokoro", "piper"])
def test_control_characters_are_blanks(speaking: Any, models: dict[str, Any], kind: str) -> None:
    plain = speaking.say(models[kind], "One more word.")
    assert speaking.say(models[kind], "\0One\0more\x1b word.\x7f").data == plain.data


def test_what_cannot_be_spoken_is_passed_over(speaking: Any, model: Any) -> None:
    plain = speaking.say(model, "One. Two.")
    odd = speaking.say(model, "... One. † ... Two. —")
    assert odd.data == plain.data
    assert [blob.extra["sentence"] for blob in odd.blobs] == [1, 3]


@pytest.mark.parametrize(
    "text",
    [
        "word " * 4000,
        "x" * 20_000,
        "3,141,592,653,589,793,238 " * 300,
        "Supercalifragilisticexpialidocious, " * 400,
        "".join(f"line {number}\n" for number in range(1000)),
        "नमस्ते आप कैसे हैं " * 500,
        "中文" * 2000,
        "😀👩\u200d👩\u200d👧 " * 500,
        "e\u0301\u0323" * 3000,
        "\u202eright to left\u202c שלום عليكم " * 200,
        "a\0b\x1b[0m \ufffd \U0010ffff" * 100,
    ],
    ids=["words", "letters", "numbers", "clauses", "lines", "hindi", "chinese", "emoji", "accents", "bidi", "control"],
)
def test_no_window_is_too_long_and_none_is_lost(model: Any, text: str) -> None:
    """The windows of a whole text have all phonemes of its pieces, in their order."""
    from anyform.sound import sentence

    kokoro = model._speaker
    manner = kokoro.manner(Speak(text=text))
    pieces = sentence.split(text, manner.most)
    windows = [kokoro.windows(piece, manner) for piece in pieces]
    assert all(1 <= len(window.tokens) <= 510 for found in windows for window in found)
    for piece, found in zip(pieces, windows, strict=True):
        whole = kokoro._phonemes.of(piece.text, manner.language)
        assert "".join("".join(window.said.split()) for window in found).replace(".", "") == "".join(
            whole.replace(".", "").split()
        )
        assert [len(window.tokens) for window in found] == [len(window.said) for window in found]
    assert sum(map(len, windows)) > 1


PARTS = st.one_of(
    st.characters(codec="utf-8"), st.sampled_from(["word ", "\0", "Dr. ", "3.14 ", "... ", "\n\n", "(fr) ", "[["])
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(PARTS, max_size=40).map("".join))
@pytest.mark.parametrize("kind", ["kokoro", "piper"])
def test_any_text_is_spoken_or_refused(speaking: Any, models: dict[str, Any], kind: str, text: str) -> None:
    refused: dict[str, Any] = {}
    blobs: list[Blob] = []
    try:
        blobs = speaking.say(models[kind], text, speed=2.0).blobs
    except Invalid as fault:
        refused = fault.details
    assert bool(blobs) != bool(refused)
    assert refused.get("param", "input") == "input"
    assert all(blob.data for blob in blobs)


def test_a_sentence_of_a_thousand_words_is_one_stream(speaking: Any, model: Any, runs: Runs) -> None:
    spoken = speaking.say(model, "go " * 1000, speed=2.0)
    assert len(spoken.blobs) == len(runs.tokens) > 5
    assert max(map(len, runs.tokens)) <= 512
    ends = [numbers(blob.data)[[0, -1]].tolist() for blob in spoken.blobs]
    assert ends == [[0, 0]] * len(ends)


@pytest.mark.parametrize("threads", [1, 2])
def test_sixteen_at_once_say_what_each_says_alone(
    speaking: Any, speaker: Callable[..., Any], folder: Path, threads: int
) -> None:
    model = speaker(folder, parallel=16, threads=threads)
    asked = [(f"Number {number} speaks. {SENTENCES[number % 4]}", *SPOKEN[number // 4 % 4]) for number in range(16)]

    def say(text: str, language: str, voice: str, speed: float) -> bytes:
        data: bytes = speaking.say(model, text, language=language, voice=voice, speed=speed).data
        return data

    alone = [say(*one) for one in asked]
    together = speaking.together([lambda one=one: say(*one) for one in asked])
    assert together == alone
    assert len(set(alone)) == 16


def test_requests_take_turns_a_sentence_each(
    speaking: Any, speaker: Callable[..., Any], folder: Path, runs: Runs
) -> None:
    """A long text does not keep a short one waiting until its end."""
    model = speaker(folder, parallel=2, threads=64)  # one at a time
    runs.tokens.clear()
    speaking.say(model, "Short.")
    short = runs.tokens.pop()
    entered, release = threading.Event(), threading.Event()

    def before(number: int) -> None:
        entered.set()
        assert release.wait(30)

    runs.before = before
    asked = [
        threading.Thread(target=speaking.say, args=(model, text)) for text in ("This is a long one. " * 5, "Short.")
    ]
    asked[0].start()
    assert entered.wait(30)
    asked[1].start()
    meanwhile(asked[1], lambda: model._turns._waiting)
    release.set()
    for thread in asked:
        thread.join(30)
    assert [tokens == short for tokens in runs.tokens] == [False, True, False, False, False, False]


def test_stopped_before_the_start(speaking: Any, model: Any, runs: Runs) -> None:
    stop = Stop()
    stop.set()
    spoken = speaking.say(model, "One. Two.", stop)
    assert [finish.reason for finish in spoken.done.finishes] == ["cancelled"]
    assert (spoken.blobs, runs.tokens, spoken.done.extra["duration"]) == ([], [], 0)


def test_stopped_among_lines_that_say_nothing(
    model: Any, phonemized: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text may have thousands of them, which must not be tried one after the other for nobody."""
    from anyform_audio.speech.kokoro import phoneme

    stop, real = Stop(), phoneme.espeak
    monkeypatch.setattr(phoneme, "espeak", lambda text, language: stop.set() or real(text, language))
    events = list(model.generate(Speak(text="†\n\n" * 20), stop))
    assert len(phonemized) == 1
    assert [type(event) for event in events] == [Progress, Done]
    assert [finish.reason for finish in events[-1].finishes] == ["cancelled"]


def test_stopped_after_the_first_sentence_computes_no_second(model: Any, runs: Runs) -> None:
    stop = Stop()
    seen = []
    for event in model.generate(Speak(text=" ".join(SENTENCES)), stop):
        seen.append(event)
        if isinstance(event, Blob):
            stop.set()
    assert len(runs.tokens) == 1
    assert [type(event) for event in seen] == [Progress, Blob, Done]
    assert [finish.reason for finish in seen[-1].finishes] == ["cancelled"]
    assert seen[-1].extra["duration"] == len(seen[1].data) / 2 / RATE


def test_stopped_in_the_middle_of_a_sentence_gives_up_on_it(speaking: Any, model: Any, runs: Runs) -> None:
    stop = Stop()
    runs.before = lambda number: stop.set() if number == 2 else None
    spoken = speaking.say(model, " ".join(SENTENCES), stop)
    assert (len(spoken.blobs), len(runs.tokens)) == (1, 2)
    assert [finish.reason for finish in spoken.done.finishes] == ["cancelled"]
    runs.before = lambda number: None
    assert speaking.say(model, "Again.").data


def test_an_inference_under_way_is_ended(tmp_path: Path) -> None:
    """A chain of products that takes seconds fails as soon as its request is stopped."""
    from anyform_audio.speech.backend import Running, Session

    graph = Graph("slow")
    value = graph.input("x", "F32", ("rows", 512))
    matrix = graph.weights("matrix", "F32", (512, 512), np.eye(512, dtype=np.float32).tobytes())
    for _ in range(2000):
        value = graph.node("MatMul", value, matrix)
    graph.node("Identity", value, called="y")
    graph.output("y", "F32", ("rows", 512))
    session = Session(write_onnx(tmp_path / "slow.onnx", graph), "slow", 1)
    stop, running, begun = Stop(), Running(), threading.Event()
    stop.when_set(running.end)
    stopper = threading.Thread(target=lambda: begun.wait(60) and stop.set())
    stopper.start()

    def run() -> None:
        begun.set()
        session.run(None, {"x": np.ones((4096, 512), np.float32)})

    with session.under(running), pytest.raises(Exception, match="terminate"):
        run()
    stopper.join()


def test_a_request_that_waits_is_stopped_without_its_turn(
    speaker: Callable[..., Any], folder: Path, runs: Runs
) -> None:
    model = speaker(folder, parallel=2, threads=64)
    runs.tokens.clear()
    entered, release = threading.Event(), threading.Event()
    stop, seen = Stop(), []

    def before(number: int) -> None:
        entered.set()
        assert release.wait(30)

    runs.before = before
    first = threading.Thread(target=lambda: list(model.generate(Speak(text="One."), Stop())))
    first.start()
    assert entered.wait(30)
    second = threading.Thread(target=lambda: seen.extend(model.generate(Speak(text="Two."), stop)))
    second.start()
    meanwhile(second, lambda: model._turns._waiting)
    stop.set()
    second.join(30)
    assert isinstance(seen[-1], Done)
    assert [finish.reason for finish in seen[-1].finishes] == ["cancelled"]
    release.set()
    first.join(30)
    assert len(runs.tokens) == 1


def test_abandoned_requests_keep_nobody_waiting(speaking: Any, model: Any) -> None:
    for _ in range(model.parallel + 3):
        events = model.generate(Speak(text=" ".join(SENTENCES)), Stop())
        next(events)
        next(events)
        events.close()
    assert speaking.say(model, "Still here.").data


def test_closing_ends_what_runs(speaker: Callable[..., Any], folder: Path, runs: Runs) -> None:
    model = speaker(folder, parallel=8, threads=64)
    runs.tokens.clear()
    entered, release = threading.Event(), threading.Event()

    def before(number: int) -> None:
        entered.set()
        assert release.wait(30)

    runs.before = before
    ended: list[Any] = []

    def ask() -> None:
        try:
            list(model.generate(Speak(text="One. Two. Three."), Stop()))
        except Closed as closed:
            ended.append(closed)

    paused = model.generate(Speak(text="One. Two."), Stop())
    next(paused)
    threads = [threading.Thread(target=ask) for _ in range(5)]
    for thread in threads:
        thread.start()
    assert entered.wait(30)
    closer = threading.Thread(target=model.close)
    meanwhile(threads[-1], lambda: len(model._turns._waiting) == 4)
    closer.start()
    meanwhile(closer, lambda: model._turns.closed and not model._turns._waiting)
    release.set()
    for thread in (closer, *threads):
        thread.join(30)
    assert len(ended) == 5
    assert len(runs.tokens) == 1
    with pytest.raises(Closed):
        next(paused)
    with pytest.raises(Closed):
        model.generate(Speak(text="One."), Stop())
    model.close()


def test_chance_is_the_same_after_each_load(tmp_path: Path) -> None:
    from anyform_audio.speech.backend import Session

    graph = Graph("chance")
    graph.node("RandomNormalLike", graph.input("x", "F32", ("n",)), called="y")
    graph.output("y", "F32", ("n",))
    file, given = write_onnx(tmp_path / "chance.onnx", graph), {"x": np.zeros(8, np.float32)}
    first, second = ([session.run(None, given)[0].tolist() for _ in range(2)] for session in (
        Session(file, "chance", 1), Session(file, "chance", 1)
    ))  # fmt: skip
    assert first == second
    assert first[0] != first[1]
