"""The stand-ins for Kokoro and Piper, run by the real onnxruntime, kokoro-onnx and piper-tts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from anyform.kernel.files import FolderFiles
from anyform.onnx import graph
from anyform.testing.kokoro import RATE, SILENT_TOKENS, TOKEN_SAMPLES, speaker, write_kokoro
from anyform.testing.onnx import write_onnx
from anyform.testing.piper import ID_SAMPLES, LETTERS, write_piper
from anyform_audio import plugin

pytestmark = pytest.mark.engine
TEXT = "Hello world, this is a test."
NAME = "en_US-standin-medium"


@pytest.fixture
def kokoro(tmp_path: Path) -> Any:
    kokoro_onnx = pytest.importorskip("kokoro_onnx")
    folder = write_kokoro(tmp_path / "kokoro")
    return kokoro_onnx.Kokoro(str(folder / "kokoro-v1.0.onnx"), str(folder / "voices-v1.0.bin"))


def spoken(folder: Path, name: str = NAME, text: str = TEXT, **said: Any) -> Any:
    """The samples of each sentence."""
    piper = pytest.importorskip("piper")
    voice = piper.PiperVoice.load(folder / f"{name}.onnx")
    return [chunk.audio_float_array for chunk in voice.synthesize(text, piper.SynthesisConfig(**said))]


class TestKokoro:
    def test_length_follows_tokens_and_speed(self, kokoro: Any) -> None:
        tokens = len(kokoro.tokenizer.tokenize(kokoro.tokenizer.phonemize(TEXT)))
        whole = (tokens + 2 + 2 * SILENT_TOKENS) * TOKEN_SAMPLES
        for speed in (0.5, 1.0, 2.0):
            samples, rate = kokoro.create(TEXT, "af_heart", speed=speed, trim=False)
            assert (len(samples), rate) == (whole / speed, RATE)

    def test_voices_differ_and_their_blend_lies_between(self, kokoro: Any) -> None:
        one, other = kokoro.get_voice_style("af_heart"), kokoro.get_voice_style("am_adam")
        sounds = [kokoro.create(TEXT, voice, trim=False)[0] for voice in (one, other, (2 * one + other) / 3)]
        assert abs(sounds[0] - sounds[1]).max() > 0.01
        assert sounds[2] == pytest.approx((2 * sounds[0] + sounds[1]) / 3, abs=1e-5)

    def test_a_row_of_style_more_or_less_shows(self, kokoro: Any) -> None:
        style = kokoro.get_voice_style("af_heart")
        assert abs(kokoro._infer([50, 60], style[1], 1.0)[0] - kokoro._infer([50, 60], style[2], 1.0)[0]).max() > 1e-4

    def test_each_token_is_a_tone_of_its_own(self, kokoro: Any) -> None:
        style = kokoro.get_voice_style("af_heart")[1]
        first, second = (kokoro._infer(tokens, style, 1.0)[0] for tokens in ([50, 60], [50, 61]))
        places = abs(first - second).nonzero()[0]
        begin = (SILENT_TOKENS + 2) * TOKEN_SAMPLES
        assert begin <= places.min()
        assert places.max() < begin + TOKEN_SAMPLES

    def test_there_is_near_silence_at_both_ends(self, kokoro: Any) -> None:
        samples, _ = kokoro.create(TEXT, "af_heart", trim=False)
        trimmed, _ = kokoro.create(TEXT, "af_heart", trim=True)
        ends = (SILENT_TOKENS + 1) * TOKEN_SAMPLES
        assert 0 < abs(samples[:ends]).max() < 1e-3
        assert 0 < abs(samples[-ends:]).max() < 1e-3
        assert abs(samples).max() > 0.1
        assert len(samples) - 2 * ends < len(trimmed) < len(samples) - ends

    def test_what_the_real_one_cannot_take_fails(self, kokoro: Any) -> None:
        style = kokoro.get_voice_style("af_heart")[0]
        for tokens in ([1] * 511, [178]):
            with pytest.raises(Exception, match="Non-zero status"):
                kokoro._infer(tokens, style, 1.0)

    @pytest.mark.parametrize("kind", [{"duration": True}, {"whole_speed": True}, {"tokens": "input_ids"}])
    def test_other_kinds_of_export(self, tmp_path: Path, kind: dict[str, Any]) -> None:
        kokoro_onnx = pytest.importorskip("kokoro_onnx")
        folder = write_kokoro(tmp_path, **kind)
        made = kokoro_onnx.Kokoro(str(folder / "kokoro-v1.0.onnx"), str(folder / "voices-v1.0.bin"))
        samples, _, timings = made.create_timed(TEXT, "af_heart")
        assert abs(samples).max() > 0.1
        assert bool(timings) == ("duration" in kind)

    def test_weights_in_a_file_of_their_own(self, tmp_path: Path) -> None:
        runtime = pytest.importorskip("onnxruntime")
        graph = speaker("tokens", "audio", False, False, ballast_bytes=4 << 20)
        path = write_onnx(tmp_path / "m.onnx", graph, external="m.onnx_data")
        assert runtime.InferenceSession(str(path)).get_inputs()[0].name == "tokens"


class TestPiper:
    def test_length_follows_the_length_scale(self, tmp_path: Path) -> None:
        folder = write_piper(tmp_path)
        (plain,), (slow,) = spoken(folder), spoken(folder, length_scale=2.0)
        assert len(plain) % ID_SAMPLES == 0
        assert len(slow) == 2 * len(plain)

    def test_speakers_differ(self, tmp_path: Path) -> None:
        folder = write_piper(tmp_path, speakers=2)
        sounds = [spoken(folder, speaker_id=number)[0] for number in (0, 1)]
        assert abs(sounds[0] - sounds[1]).max() > 0.1
        with pytest.raises(Exception, match="Non-zero status"):
            spoken(folder, speaker_id=2)

    def test_it_knows_the_phonemes_of_the_real_ones(self) -> None:
        real = pytest.importorskip("piper.phoneme_ids").DEFAULT_PHONEME_ID_MAP
        assert {letter: [number] for number, letter in enumerate(LETTERS)}.items() <= real.items()


@pytest.mark.parametrize("write", [write_kokoro, write_piper])
def test_what_is_read_without_it_is_what_onnxruntime_reads(tmp_path: Path, write: Any) -> None:
    runtime = pytest.importorskip("onnxruntime")
    files = FolderFiles(write(tmp_path))
    (match,) = plugin.detect_format(files)
    session, found = runtime.InferenceSession(str(tmp_path / match.entry)), graph.read(files, match.entry)
    given = [(one.name, one.shape) for one in session.get_inputs()]
    assert [(one.name, list(one.shape)) for one in found.inputs] == given
    assert [one.name for one in found.outputs] == [one.name for one in session.get_outputs()]
    told = session.get_modelmeta()
    assert (found.producer, found.metadata) == (told.producer_name, told.custom_metadata_map)
