"""Kokoro, against kokoro-onnx itself and the real phonemizer: what is said, by whom, how fast, in which language."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.errors import Fault, Invalid, LoadFailed, TooLarge, Unsupported
from anyform.contract.events import Progress
from anyform.contract.jobs import Embed
from anyform.contract.model import Stop
from anyform.testing.kokoro import RATE, VOICES, style, write_kokoro, write_npz
from anyform.testing.onnx import Graph, write_onnx

np = pytest.importorskip("numpy")
kokoro_onnx = pytest.importorskip("kokoro_onnx")
phonemizer = pytest.importorskip("phonemizer")
pytestmark = pytest.mark.engine

TEXT = "The quick brown fox jumps over the lazy dog, doesn't it?"
LANGUAGES = {
    "en-us": ("af_heart", TEXT),
    "en-gb": ("bf_emma", "The bath is hot; the grass is green."),
    "es": ("ef_dora", "¿Qué tal? Muy bien, gracias."),
    "fr-fr": ("ff_siwis", "Bonjour tout le monde, comment allez-vous?"),
    "hi": ("hf_alpha", "नमस्ते, आप कैसे हैं?"),
    "it": ("if_sara", "Ciao, come stai? Tutto bene."),
    "pt-br": ("pf_dora", "Olá, tudo bem? Não sei."),
}
"""What espeak-ng calls them -> a voice, and a text; where it has several sentences, the first is looked at."""
MORE = tuple(voice for voice, _ in LANGUAGES.values() if voice not in VOICES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_kokoro(
        tmp_path_factory.mktemp("kokoro") / "standin", voices=(*VOICES, *MORE, "zf_xiaobei", "jf_alpha")
    )


@pytest.fixture(scope="module")
def model(speaker: Callable[..., Any], folder: Path) -> Any:
    return speaker(folder)


@pytest.fixture(scope="module")
def theirs(folder: Path) -> Any:
    """kokoro-onnx on the same files."""
    return kokoro_onnx.Kokoro(str(folder / "kokoro-v1.0.onnx"), str(folder / "voices-v1.0.bin"))


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


def ready(sound: Any, pause_s: float = 0.0) -> bytes:
    """A sentence as the model gives it."""
    from anyform_audio.speech import pcm

    return pcm.joined(sound, RATE, pause_s)


def created(theirs: Any, text: str, voice: Any = "af_heart", speed: float = 1.0, language: str = "en-us") -> Any:
    """The samples that kokoro-onnx makes of one short sentence, nothing trimmed."""
    sound, rate = theirs.create(text, voice, speed, language, trim=False)
    assert rate == RATE
    return sound


@pytest.mark.parametrize("speed", [0.5, 1.0, 1.3, 2.0])
@pytest.mark.parametrize("voice", ["af_heart", "am_adam"])
def test_it_says_what_kokoro_onnx_says(speaking: Any, model: Any, theirs: Any, voice: str, speed: float) -> None:
    spoken = speaking.say(model, TEXT, voice=voice, speed=speed)
    assert spoken.data == ready(created(theirs, TEXT, voice, speed))
    assert spoken.done.extra["voice"] == voice


def test_texts_voices_and_speeds_all_change_the_sound(speaking: Any, model: Any) -> None:
    asked: list[dict[str, Any]] = [{}, {"voice": "af_bella"}, {"speed": 1.1}, {"language": "en-GB"}]
    made = [speaking.say(model, "A bath.", **one).data for one in asked] + [speaking.say(model, "A path.").data]
    assert len(set(made)) == len(made)


def test_events(speaking: Any, model: Any) -> None:
    spoken = speaking.say(model, "One. Two!\n\nThree? 😀")
    assert spoken.events[0] == Progress(stage="text", total=4)
    assert [blob.extra for blob in spoken.blobs] == [
        {"sample_rate": RATE, "channels": 1, "sentence": number} for number in range(4)
    ]
    assert {blob.media_type for blob in spoken.blobs} == {"audio/pcm"}
    assert spoken.done.extra == {
        "duration": len(spoken.data) / 2 / RATE, "sample_rate": RATE, "voice": "af_heart", "language": "en-US",
        "pauses": {"clause": 0.1, "sentence": 0.25, "paragraph": 0.5},
    }  # fmt: skip
    assert [finish.reason for finish in spoken.done.finishes] == ["stop"]


def test_twice_the_speed_halves_the_duration(speaking: Any, model: Any, theirs: Any) -> None:
    """Of what the network makes, exactly; with trimmed ends, which are of a fixed length, within 30 ms a sentence."""
    assert len(created(theirs, TEXT)) == 2 * len(created(theirs, TEXT, speed=2.0))
    text = " ".join([TEXT] * 5)
    once, twice, half = (speaking.say(model, text, speed=speed).done.extra["duration"] for speed in (1.0, 2.0, 0.5))
    assert once / 2 == pytest.approx(twice, abs=5 * 0.03)
    assert half / 2 == pytest.approx(once, abs=5 * 0.03)


def test_each_style_row_is_that_of_the_number_of_tokens(speaking: Any, model: Any, runs: list[Any]) -> None:
    speaking.say(model, TEXT, voice="bf_emma")
    rows = np.array(style("bf_emma"), np.float32).reshape(510, 256)
    assert np.array_equal(runs[0]["style"], rows[runs[0]["tokens"].size - 2 - 1][None])


@pytest.mark.parametrize(
    ("said", "shares"),
    [
        ("af_heart(2)+af_bella(1)", (2 / 3, 1 / 3)),
        ("af_heart+af_bella", (0.5, 0.5)),
        (" af_heart ( 0.2 ) + af_bella ( 0.6 ) ", (0.25, 0.75)),
        ("af_heart(2) af_bella(2)", (0.5, 0.5)),
        ("af_heart+af_bella+af_heart", (2 / 3, 1 / 3)),
        ("af_heart(1e-3)+af_bella(3e-3)", (0.25, 0.75)),
    ],
)
def test_a_blend_lies_between_its_voices(
    speaking: Any, model: Any, runs: list[Any], said: str, shares: tuple[float, float]
) -> None:
    for voice in (said, "af_heart", "af_bella"):
        speaking.say(model, TEXT, voice=voice)
    mixed, one, other = (given["style"] for given in runs)
    assert np.allclose(mixed, shares[0] * one + shares[1] * other, atol=1e-7)
    assert ((np.minimum(one, other) - 1e-6 <= mixed) & (mixed <= np.maximum(one, other) + 1e-6)).all()
    assert not np.allclose(mixed, one)


def test_the_sound_of_a_blend_is_kokoro_onnx_s(speaking: Any, model: Any, theirs: Any) -> None:
    mixed = (2 * theirs.get_voice_style("af_heart") + theirs.get_voice_style("af_bella")) / np.float32(3)
    wanted = np.frombuffer(ready(created(theirs, TEXT, mixed)), "<i2").astype(int)
    spoken = speaking.say(model, TEXT, voice="af_heart(2)+af_bella(1)")
    assert np.abs(np.frombuffer(spoken.data, "<i2") - wanted).max() <= 1
    assert spoken.done.extra["voice"] == "af_heart(0.6667)+af_bella(0.3333)"


@pytest.mark.parametrize(
    "said",
    [
        "af_hart", "alloy", "af_heart(0)", "af_heart(-1)+af_bella", "af_heart(nan)", "af_heart(inf)", "af_heart(x)",
        "af_heart()", "af_heart(1e300)", "af_heart++af_bella", "+", "af_heart(2", "af_heart,af_bella", "a+" * 5000,
        "../af_heart", "\0",
    ],
)  # fmt: skip
def test_a_voice_that_is_none_is_refused(speaking: Any, model: Any, said: str) -> None:
    with pytest.raises(Invalid) as refused:
        speaking.say(model, "Yes.", voice=said)
    assert refused.value.details["param"] == "voice"
    assert "af_heart(2)+af_bella(1)" in refused.value.hint
    assert len(str(refused.value)) < 1000


def test_the_nearest_voices_are_named(speaking: Any, model: Any) -> None:
    with pytest.raises(Invalid, match=r"there is no voice 'AF_Hart'.*Near it are af_heart"):
        speaking.say(model, "Yes.", voice="AF_Hart")


@pytest.mark.parametrize("speed", [0.0, -1.0, 0.49, 2.01, float("nan"), float("inf"), 1e300])
def test_a_speed_outside_the_range_is_refused(speaking: Any, model: Any, speed: float) -> None:
    with pytest.raises(Invalid, match=r"0\.5 to 2") as refused:
        speaking.say(model, "Yes.", speed=speed)
    assert refused.value.details["param"] == "speed"


@pytest.mark.parametrize("text", ["", " \n\t ", "...", "?!", "—", "\u2020 \u2021", "\u200b", "\0\0", "a\ud800"])
def test_a_text_that_cannot_be_spoken_is_refused(speaking: Any, model: Any, runs: list[Any], text: str) -> None:
    with pytest.raises(Invalid) as refused:
        speaking.say(model, text)
    assert refused.value.details["param"] == "input"
    assert not runs


def test_too_long_a_text_is_refused(speaking: Any, model: Any, runs: list[Any]) -> None:
    with pytest.raises(TooLarge, match="1,000,000 characters; one may have 100,000") as refused:
        speaking.say(model, "a" * 1_000_000)
    assert refused.value.details["param"] == "input"
    assert not runs


def test_what_is_no_speech_is_refused(model: Any) -> None:
    with pytest.raises(Unsupported, match="does not do the task embed"):
        list(model.generate(Embed(inputs=("a",)), Stop()))


@pytest.mark.parametrize("language", LANGUAGES)
def test_phonemes_are_the_phonemizer_s_in_the_voice_s_language(
    speaking: Any, model: Any, theirs: Any, runs: list[Any], language: str
) -> None:
    voice, text = LANGUAGES[language]
    first = text.partition("? ")[0] + "?" * ("? " in text)
    made = phonemizer.phonemize(first, language, preserve_punctuation=True, with_stress=True)
    tokens = theirs.tokenizer.tokenize("".join(one for one in made if one in theirs.tokenizer.vocab).strip())
    spoken = speaking.say(model, text, voice=voice)
    assert runs[0]["tokens"].tolist() == [[0, *tokens, 0]]
    assert created(theirs, first, voice, language=language).size
    assert spoken.blobs[0].data == ready(created(theirs, first, voice, language=language))


def test_a_language_that_is_asked_for_goes_before_the_voice_s(speaking: Any, model: Any, runs: list[Any]) -> None:
    asked = ["fr", "fr-FR", "FR_fr", "fr-CA", ""]
    for language in asked:
        speaking.say(model, "Paris est grand.", language=language)
    french = {str(given["tokens"].tolist()) for given in runs[: len(asked) - 1]}
    assert len(french) == 1
    assert str(runs[-1]["tokens"].tolist()) not in french


def test_without_a_voice_the_first_of_the_language_speaks(
    speaking: Any, speaker: Callable[..., Any], model: Any, tmp_path: Path
) -> None:
    asked = {"": "af_heart", "en": "af_heart", "en-GB": "bf_emma", "fr": "ff_siwis", "pt": "pf_dora"}
    told = {language: speaking.say(model, "Yes.", language=language).done.extra["voice"] for language in asked}
    assert told == asked
    without = speaker(write_kokoro(tmp_path / "english", voices=("af_heart",)))
    assert speaking.say(without, "Oui.", language="fr").done.extra["voice"] == "af_heart"


def test_english_without_a_region_is_the_voice_s(speaking: Any, model: Any) -> None:
    asked = (("bf_emma", "en"), ("af_heart", "en"), ("bf_emma", "en-US"), ("ff_siwis", "en"))
    told = [speaking.say(model, "Yes.", voice=voice, language=language).done for voice, language in asked]
    assert [done.extra["language"] for done in told] == ["en-GB", "en-US", "en-US", "en-US"]


def test_a_language_that_kokoro_does_not_speak_is_refused(speaking: Any, model: Any) -> None:
    with pytest.raises(Invalid, match=r"'de' is none that Kokoro speaks.*en-US, en-GB, es") as refused:
        speaking.say(model, "Ja.", language="de")
    assert refused.value.details["param"] == "language"


def test_words_of_other_languages_get_no_spoken_marks(speaking: Any, model: Any, theirs: Any, runs: list[Any]) -> None:
    """Kokoro-onnx leaves espeak-ng's `(en)` in, and speaks it."""
    text = "Le weekend est cool."
    assert "(en)" in theirs.tokenizer.phonemize(text, "fr-fr")
    speaking.say(model, text, voice="ff_siwis")
    bracket = theirs.tokenizer.vocab["("]
    assert bracket not in runs[0]["tokens"]


@pytest.mark.parametrize(("voice", "language"), [("zf_xiaobei", "Mandarin"), ("jf_alpha", "Japanese")])
def test_what_espeak_does_not_know_as_kokoro_does_is_refused_without_misaki(
    speaking: Any, model: Any, monkeypatch: pytest.MonkeyPatch, voice: str, language: str
) -> None:
    import sys

    for name in ("misaki", "misaki.zh", "misaki.cutlet"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(Unsupported, match=f"{language}.*pip install .*misaki") as refused:
        speaking.say(model, "你好。", voice=voice)
    assert refused.value.details["param"] == "voice"


@pytest.mark.parametrize(
    ("voice", "package", "text", "expected"),
    [
        ("zf_xiaobei", "misaki.zh", "你好，世界。", "ni↓xau↓, ʂɨ↘ʨje↘."),  # noqa: RUF001
        ("jf_alpha", "misaki.cutlet", "こんにちは、世界。", "koɲɲiʨiβa, sekai."),
    ],
)
def test_with_misaki_it_speaks_chinese_and_japanese(
    speaking: Any, model: Any, theirs: Any, runs: list[Any], voice: str, package: str, text: str, expected: str
) -> None:
    pytest.importorskip(package, exc_type=ImportError)
    speaking.say(model, text, voice=voice)
    assert runs[0]["tokens"].tolist() == [[0, *theirs.tokenizer.tokenize(expected), 0]]


def test_both_layouts_and_namings_sound_alike(speaking: Any, speaker: Callable[..., Any], tmp_path: Path) -> None:
    archive = speaker(write_kokoro(tmp_path / "archive"))
    files = speaker(write_kokoro(tmp_path / "files", layout="folder"))
    newer = speaker(write_kokoro(tmp_path / "newer", tokens="input_ids", duration=True))
    made = {speaking.say(model, TEXT, voice="am_adam").data for model in (archive, files, newer)}
    assert len(made) == 1


def test_the_first_voice_is_the_default_where_there_is_no_heart(
    speaking: Any, speaker: Callable[..., Any], tmp_path: Path
) -> None:
    model = speaker(write_kokoro(tmp_path / "two", voices=("bm_george", "am_adam")))
    assert speaking.say(model, "Yes.").done.extra["voice"] == "am_adam"


def test_a_vocabulary_of_the_model_s_own_is_used(
    speaking: Any, speaker: Callable[..., Any], theirs: Any, runs: list[Any], tmp_path: Path
) -> None:
    moved = {phoneme: token % 100 + 1 for phoneme, token in theirs.tokenizer.vocab.items()}
    model = speaker(write_kokoro(tmp_path / "own", vocabulary=moved))
    runs.clear()
    speaking.say(model, "Yes.")
    assert runs[0]["tokens"].tolist() == [[0, *(moved[one] for one in theirs.tokenizer.phonemize("Yes.")), 0]]


def test_a_model_of_whole_speeds_takes_no_others(speaking: Any, speaker: Callable[..., Any], tmp_path: Path) -> None:
    """Kokoro-onnx rounds them; nothing is changed here without a word."""
    model = speaker(write_kokoro(tmp_path / "whole", whole_speed=True))
    once, twice = (speaking.say(model, TEXT, speed=speed).done.extra["duration"] for speed in (1.0, 2.0))
    assert once / 2 == pytest.approx(twice, abs=0.03)
    with pytest.raises(Invalid, match=r"speed is 1\.5.*1 or 2"):
        speaking.say(model, "Yes.", speed=1.5)


def test_loud_voices_are_cut_at_the_top_and_never_wrap(
    speaking: Any, speaker: Callable[..., Any], tmp_path: Path
) -> None:
    folder = write_kokoro(tmp_path / "loud")
    styles = {"af_heart": style("af_heart"), "af_loud": [5 * one for one in style("af_heart")]}
    write_npz(folder / "voices-v1.0.bin", styles)
    model = speaker(folder)
    soft, loud = (np.frombuffer(speaking.say(model, TEXT, voice=voice).data, "<i2").astype(int) for voice in styles)
    assert np.abs(loud).max() == 32767
    assert np.abs(loud - np.clip(soft * 5, -32767, 32767)).max() <= 5


def test_a_sound_that_is_no_number_is_a_fault_and_no_noise(
    speaking: Any, speaker: Callable[..., Any], tmp_path: Path
) -> None:
    folder = write_kokoro(tmp_path / "odd")
    styles = {"af_heart": style("af_heart"), "af_huge": [3e38] * len(style("af_heart"))}
    write_npz(folder / "voices-v1.0.bin", styles)
    model = speaker(folder)
    with pytest.raises(Fault, match=r"not finite.*another voice") as failed:
        speaking.say(model, "Yes.", voice="af_huge")
    assert failed.value.category.value == "internal"
    assert speaking.say(model, "Yes.").data


def test_voices_that_are_no_numbers_are_refused_at_load(speaker: Callable[..., Any], tmp_path: Path) -> None:
    folder = write_kokoro(tmp_path / "odd")
    write_npz(folder / "voices-v1.0.bin", {"af_heart": [float("nan")] * len(style("af_heart"))})
    with pytest.raises(LoadFailed, match="the voice af_heart of odd has numbers that are not finite"):
        speaker(folder)


@pytest.mark.parametrize("harm", ["packed", "header"])
def test_voices_that_are_damaged_are_refused_at_load(
    speaking: Any, speaker: Callable[..., Any], tmp_path: Path, harm: str
) -> None:
    """Validation finds it too; but that was before, and numpy raises what zlib and Python's parser do."""
    from anyform_audio.speech.kokoro import blend

    plan = speaking.plan(write_kokoro(tmp_path / "odd"))
    packing = zipfile.ZIP_DEFLATED if harm == "packed" else zipfile.ZIP_STORED
    file, header = tmp_path / "odd" / "voices-v1.0.bin", b"{'descr': '<f4', 'shape': (1, \n"
    with zipfile.ZipFile(file, "w", packing) as archive:
        archive.writestr("af_heart.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(99_999))
    if harm == "packed":
        data = bytearray(file.read_bytes())
        data[30 + len("af_heart.npy")] |= 6  # a kind of block that there is not
        file.write_bytes(data)
    with pytest.raises(LoadFailed, match="the voices of odd cannot be read"):
        blend.read(plan, 256)


@pytest.mark.parametrize(("made", "said"), [("nan", "not finite"), ("nothing", "no sound")])
def test_a_network_that_makes_none_is_refused_at_load(
    speaker: Callable[..., Any], tmp_path: Path, made: str, said: str
) -> None:
    folder = write_kokoro(tmp_path / "odd")
    graph = Graph("kokoro")
    graph.input("tokens", "I64", (1, "tokens"))
    graph.input("style", "F32", (1, 256))
    graph.input("speed", "F32", (1,))
    if made == "nan":
        graph.node("Log", graph.node("Neg", "speed"), called="audio")
    else:
        graph.node("Slice", "speed", graph.constant([1], "I64"), graph.constant([1], "I64"), called="audio")
    graph.output("audio", "F32", ("samples",))
    write_onnx(folder / "kokoro-v1.0.onnx", graph)
    with pytest.raises(LoadFailed, match=said):
        speaker(folder)


def test_a_file_that_is_no_network_is_refused_at_load(speaker: Callable[..., Any], tmp_path: Path) -> None:
    folder = write_kokoro(tmp_path / "cut")
    file = folder / "kokoro-v1.0.onnx"
    plan_of = file.read_bytes()
    file.write_bytes(plan_of[: len(plan_of) // 2])
    with pytest.raises(LoadFailed, match="onnxruntime cannot load"):
        speaker(folder)


@pytest.mark.parametrize(
    ("options", "said"),
    [({"threads": 0}, "threads"), ({"letters": "x"}, "letters"), ({"sentence_pause": -1}, "sentence_pause"),
     ({"noise": 0}, "unknown load option 'noise'")],
)  # fmt: skip
def test_wrong_options_are_refused(
    speaker: Callable[..., Any], folder: Path, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(Invalid, match=said):
        speaker(folder, **options)
    with pytest.raises(Invalid, match="parallel is 1000"):
        speaker(folder, parallel=1000)


def test_what_it_needs_is_there(speaking: Any) -> None:
    from anyform_audio import engine, info

    told = engine.of("kokoro").probe(info.KOKORO)
    assert told.devices == ("cpu",)
    assert "onnxruntime" in told.engine_version
