"""Piper, against piper-tts itself: what is said, by which speaker, how fast, in which language."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.errors import Invalid, LoadFailed, TooLarge, Unsupported
from anyform.contract.events import Blob, Done, Progress
from anyform.contract.jobs import Speak
from anyform.contract.model import Stop
from anyform.testing.kokoro import write_kokoro
from anyform.testing.piper import LETTERS, RATE, write_piper

np = pytest.importorskip("numpy")
piper = pytest.importorskip("piper")
pytestmark = pytest.mark.engine

TEXT = "The quick brown fox jumps over the lazy dog, doesn't it?"
LANGUAGES = {
    "en_GB-standin-low": "The bath is hot.",
    "de_DE-standin-medium": "Guten Morgen, liebe Leute!",
    "fr_FR-standin-medium": "Bonjour tout le monde.",
    "es_ES-standin-medium": "¿Qué tal? Muy bien.",
    "hi_IN-standin-medium": "नमस्ते, आप कैसे हैं?",
    "ar_JO-standin-medium": "مرحبا بالعالم",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_piper(tmp_path_factory.mktemp("piper") / "several", speakers=4, default_speaker_id=2)


@pytest.fixture(scope="module")
def model(speaker: Callable[..., Any], folder: Path) -> Any:
    return speaker(folder)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """What every inference was given."""
    from anyform_audio.speech.backend import Session

    given: list[dict[str, Any]] = []
    real = Session.run

    def run(self: Any, names: Any, feeds: Any, options: Any = None) -> Any:
        given.append({name: np.array(one) for name, one in feeds.items()})
        return real(self, names, feeds, options)

    monkeypatch.setattr(Session, "run", run)
    return given


def synthesized(folder: Path, text: str, speaker: int | None = None, speed: float = 1.0, **scales: float) -> Any:
    """The samples that piper-tts makes of one sentence."""
    voice = piper.PiperVoice.load(next(folder.glob("*.onnx")))
    (chunk,) = voice.synthesize(text, piper.SynthesisConfig(speaker_id=speaker, length_scale=1 / speed, **scales))
    return chunk.audio_float_array


def ready(sound: Any, rate: int = RATE) -> bytes:
    """A sentence as the model gives it."""
    from anyform_audio.speech import pcm

    return pcm.joined(sound, rate, 0.0)


@pytest.mark.parametrize("speed", [0.25, 1.0, 1.5, 4.0])
@pytest.mark.parametrize("number", [0, 3])
def test_it_says_what_piper_says(speaking: Any, model: Any, folder: Path, number: int, speed: float) -> None:
    spoken = speaking.say(model, TEXT, voice=f"speaker_{number}", speed=speed)
    assert spoken.data == ready(synthesized(folder, TEXT, number, speed))
    assert spoken.done.extra["voice"] == f"speaker_{number}"


@pytest.mark.parametrize("name", LANGUAGES)
def test_other_languages(speaking: Any, speaker: Callable[..., Any], tmp_path: Path, name: str) -> None:
    text = LANGUAGES[name]
    first = text.partition("? ")[0] + "?" * ("? " in text)
    spoken = speaking.say(speaker(write_piper(tmp_path / "one", name)), text)
    assert spoken.blobs[0].data == ready(synthesized(tmp_path / "one", first))
    assert spoken.done.extra["language"] == name.partition("-")[0].replace("_", "-")


def test_the_rate_is_the_voice_s(speaking: Any, speaker: Callable[..., Any], tmp_path: Path) -> None:
    spoken = speaking.say(speaker(write_piper(tmp_path / "low", rate=16_000)), TEXT)
    assert {blob.extra["sample_rate"] for blob in spoken.blobs} == {16_000}
    assert spoken.data == ready(synthesized(tmp_path / "low", TEXT), 16_000)
    assert spoken.done.extra["duration"] == len(spoken.data) / 2 / 16_000


def test_texts_speakers_and_speeds_all_change_the_sound(speaking: Any, model: Any) -> None:
    asked: list[dict[str, Any]] = [{}, {"voice": "speaker_1"}, {"speed": 1.1}]
    made = [speaking.say(model, "A bath.", **one).data for one in asked] + [speaking.say(model, "A path.").data]
    assert len(set(made)) == len(made)


def test_twice_the_speed_halves_the_duration(speaking: Any, model: Any, folder: Path) -> None:
    """Of what the network makes, exactly; with trimmed ends, which are of a fixed length, within 30 ms a sentence."""
    assert len(synthesized(folder, TEXT, 0)) == 2 * len(synthesized(folder, TEXT, 0, 2.0))
    once, twice = (speaking.say(model, f"{TEXT} {TEXT}", speed=speed).done.extra["duration"] for speed in (1.0, 2.0))
    assert once / 2 == pytest.approx(twice, abs=2 * 0.03)


def test_sentences_come_one_by_one(speaking: Any, model: Any, runs: list[Any]) -> None:
    alone = [speaking.say(model, one).data for one in ("One is here.", "Two is too!")]
    runs.clear()
    events = model.generate(Speak(text="One is here. Two is too!"), Stop())
    assert next(events) == Progress(stage="text", total=2)
    assert not runs
    first = next(events)
    assert isinstance(first, Blob)
    assert len(runs) == 1
    second = next(events)
    assert isinstance(second, Blob)
    assert isinstance(next(events), Done)
    assert first.data == alone[0]
    assert second.data == bytes(2 * round(0.25 * RATE)) + alone[1]


def test_the_voice_s_own_speaker_is_the_default(speaking: Any, model: Any, folder: Path) -> None:
    spoken = speaking.say(model, TEXT)
    assert spoken.done.extra["voice"] == "speaker_2"
    assert spoken.data == ready(synthesized(folder, TEXT, 2))


def test_a_voice_of_one_speaker(speaking: Any, speaker: Callable[..., Any], runs: list[Any], tmp_path: Path) -> None:
    model = speaker(write_piper(tmp_path / "one"))
    known = speaking.plan(tmp_path / "one").metadata.extra["voices"][0]["id"]
    assert speaking.say(model, TEXT, voice=known).data == speaking.say(model, TEXT).data
    assert all("sid" not in given for given in runs)


@pytest.mark.parametrize("said", ["speaker_9", "alloy", "speaker_0+speaker_1", "speaker_0(2)", "\0", "a" * 5000])
def test_a_voice_that_is_none_is_refused(speaking: Any, model: Any, said: str) -> None:
    with pytest.raises(Invalid, match=r"(are|There are) speaker_[0-3]") as refused:
        speaking.say(model, "Yes.", voice=said)
    assert refused.value.details["param"] == "voice"
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize("speed", [0.0, -1.0, 0.2, 4.1, float("nan"), float("inf")])
def test_a_speed_outside_the_range_is_refused(speaking: Any, model: Any, speed: float) -> None:
    with pytest.raises(Invalid, match=r"0\.25 to 4") as refused:
        speaking.say(model, "Yes.", speed=speed)
    assert refused.value.details["param"] == "speed"


def test_another_language_is_refused(speaking: Any, model: Any) -> None:
    assert speaking.say(model, "Yes.", language="en-GB").data
    with pytest.raises(Invalid, match="this voice speaks en-US") as refused:
        speaking.say(model, "Ja.", language="de")
    assert refused.value.details["param"] == "language"


@pytest.mark.parametrize("text", ["", " \n", "...", "—", "\u2020 \u2021", "\u200b"])
def test_a_text_that_cannot_be_spoken_is_refused(speaking: Any, model: Any, runs: list[Any], text: str) -> None:
    with pytest.raises(Invalid) as refused:
        speaking.say(model, text)
    assert refused.value.details["param"] == "input"
    assert not runs


def test_too_long_a_text_is_refused(speaking: Any, model: Any) -> None:
    with pytest.raises(TooLarge, match="1,000,000 characters"):
        speaking.say(model, "a" * 1_000_000)


def test_abbreviations_and_dots_make_no_sentences(speaking: Any, model: Any, runs: list[Any]) -> None:
    """Espeak-ng ends one after `Dr.`, and runs the words around `...` together."""
    ids = {letter: number for number, letter in enumerate(LETTERS)}
    for text in ("Dr. Who is here.", "Well... then.", "1. First."):
        speaking.say(model, text)
    doctor, well, first = ([number for number in given["input"].ravel().tolist() if number] for given in runs)
    assert doctor.count(ids["."]) == 1
    assert (well.count(ids[","]), well.count(ids["."])) == (1, 1)
    assert first.count(ids["."]) == 2
    assert len(runs) == 3


def test_noise_is_the_voice_s_or_an_option_s(
    speaking: Any, speaker: Callable[..., Any], folder: Path, runs: list[Any]
) -> None:
    still = speaker(folder, noise=0, noise_w="0.5")
    runs.clear()
    spoken = speaking.say(still, TEXT, speed=2.0)
    assert runs[0]["scales"].tolist() == pytest.approx([0.0, 0.5, 0.5])
    assert spoken.data == ready(synthesized(folder, TEXT, 2, 2.0, noise_scale=0.0, noise_w_scale=0.5))
    with pytest.raises(Invalid, match="noise_w"):
        speaker(folder, noise_w="much")


def test_sixteen_at_once_say_what_each_says_alone(speaking: Any, speaker: Callable[..., Any], folder: Path) -> None:
    model = speaker(folder, parallel=16, threads=1)
    asked = [(f"Number {number} speaks. Then it ends.", f"speaker_{number % 4}") for number in range(16)]
    alone = [speaking.say(model, text, voice=voice).data for text, voice in asked]
    calls = [lambda one=one: speaking.say(model, one[0], voice=one[1]).data for one in asked]
    assert speaking.together(calls) == alone
    assert len(set(alone)) == 16


def test_stopped_after_the_first_sentence_computes_no_second(model: Any, runs: list[Any]) -> None:
    stop, seen = Stop(), []
    for event in model.generate(Speak(text="One. Two. Three."), stop):
        seen.append(event)
        if isinstance(event, Blob):
            stop.set()
    assert [type(event) for event in seen] == [Progress, Blob, Done]
    assert [finish.reason for finish in seen[-1].finishes] == ["cancelled"]
    assert len(runs) == 1


def test_both_engines_of_speech_in_one_process(
    speaking: Any, speaker: Callable[..., Any], model: Any, tmp_path: Path
) -> None:
    """Each has an espeak-ng of its own, which keeps its voice for the whole process."""
    pytest.importorskip("kokoro_onnx")
    kokoro = speaker(write_kokoro(tmp_path / "kokoro"))
    german = speaker(write_piper(tmp_path / "german", "de_DE-standin-medium"))
    asked = [(model, "Hello there."), (kokoro, "Hello there."), (german, "Guten Tag."), (kokoro, "A second one.")] * 4
    alone = [speaking.say(one, text).data for one, text in asked]
    assert speaking.together([lambda one=one: speaking.say(*one).data for one in asked]) == alone


def test_nothing_is_fetched(
    speaking: Any, speaker: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def connect(*given: Any) -> None:
        raise AssertionError(f"connects to {given}")

    monkeypatch.setattr(socket.socket, "connect", connect)
    for name, text in LANGUAGES.items():
        assert speaking.say(speaker(write_piper(tmp_path / name, name)), text).data
    with pytest.raises(Unsupported, match="fetches a model at run time"):
        speaker(write_piper(tmp_path / "chinese", "zh_CN-standin-medium", phoneme_type="pinyin"))


def test_letters_as_phonemes(speaking: Any, speaker: Callable[..., Any], tmp_path: Path) -> None:
    folder = write_piper(tmp_path / "text", phoneme_type="text")
    assert speaking.say(speaker(folder), "abc def").data == ready(synthesized(folder, "abc def"))


def test_phonemes_whose_packages_are_missing_are_refused_at_load(
    speaker: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pyopenjtalk", None)
    folder = write_piper(tmp_path / "japanese", "ja_JP-standin-medium", phoneme_type="japanese")
    with pytest.raises(Unsupported, match=r"phonemes of japanese \(japanese\).*piper-tts\[ja\]"):
        speaker(folder)


def test_a_json_that_piper_cannot_read_is_refused_at_load(speaker: Callable[..., Any], tmp_path: Path) -> None:
    folder = write_piper(tmp_path / "odd", phoneme_type="runes")
    with pytest.raises(LoadFailed, match="ValueError: 'runes'"):
        speaker(folder)


def test_what_it_needs_is_there() -> None:
    from anyform_audio import engine, info

    told = engine.of("piper").probe(info.PIPER)
    assert told.devices == ("cpu",)
    assert "onnxruntime" in told.engine_version
