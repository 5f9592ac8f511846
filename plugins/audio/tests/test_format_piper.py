"""Which Piper voices lie in a folder, what they say of themselves, and what is found to be wrong; no engine needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.facts import Evidence, Finding, Metadata, Severity
from anyform.kernel.files import FolderFiles
from anyform.testing.damage import Remote
from anyform.testing.piper import described, write_piper
from anyform_audio import plugin

NAME = "en_US-standin-medium"


def facts_of(folder: Path) -> Metadata:
    files = FolderFiles(folder)
    (match,) = plugin.detect_format(files)
    return plugin.extract_metadata(files, match)


def findings(folder: Path) -> list[Finding]:
    files = FolderFiles(folder)
    (match,) = plugin.detect_format(files)
    return plugin.validate(files, match)


def critical(folder: Path) -> str:
    (finding,) = findings(folder)
    assert finding.severity is Severity.CRITICAL
    return finding.code


class TestDetection:
    def test_a_voice(self, tmp_path: Path) -> None:
        (match,) = plugin.detect_format(FolderFiles(write_piper(tmp_path)))
        assert (match.format, match.name, match.variant) == ("piper", NAME, "")
        assert match.files == (f"{NAME}.onnx", f"{NAME}.onnx.json")

    def test_many_voices_in_one_folder(self, tmp_path: Path) -> None:
        names = ("de_DE-thorsten-high", "en_GB-alan-low", "en_GB-alan-medium")
        for name in names:
            write_piper(tmp_path, name)
        assert tuple(match.name for match in plugin.detect_format(FolderFiles(tmp_path))) == names

    def test_a_listing_without_a_folder(self, tmp_path: Path) -> None:
        (match,) = plugin.detect_format(Remote(write_piper(tmp_path)))
        assert match.evidence is Evidence.LAYOUT

    def test_a_lone_model_says_what_is_missing(self, tmp_path: Path) -> None:
        (write_piper(tmp_path) / f"{NAME}.onnx.json").unlink()
        assert critical(tmp_path) == "piper.missing_json"
        assert f"{NAME}.onnx.json" in findings(tmp_path)[0].text

    @pytest.mark.parametrize("content", ['{"a": 1}', '{"audio": {}}', '{"producer": "x", "opset": 17}'])
    def test_another_kind_of_json_is_a_strangers(self, tmp_path: Path, content: str) -> None:
        (write_piper(tmp_path) / f"{NAME}.onnx.json").write_text(content)
        assert plugin.detect_format(FolderFiles(tmp_path)) == []


class TestMetadata:
    def test_one_speaker(self, tmp_path: Path) -> None:
        facts = facts_of(write_piper(tmp_path))
        assert (facts.architecture, facts.tasks, facts.quantization) == ("piper", ("speak",), "F32")
        assert facts.extra["voices"] == [{"id": "standin", "name": "standin", "language": "en-US"}]
        assert facts.extra["languages"] == ["en-US"]
        assert (facts.extra["sample_rate"], facts.extra["quality"]) == (22_050, "medium")
        assert (facts.extra["length_scale"], facts.extra["speeds"]) == (1.0, [0.25, 4.0])
        assert "speakers" not in facts.extra

    def test_several_speakers(self, tmp_path: Path) -> None:
        facts = facts_of(write_piper(tmp_path, "de_DE-many-low", speakers=3, rate=16_000))
        assert [voice["id"] for voice in facts.extra["voices"]] == ["speaker_0", "speaker_1", "speaker_2"]
        assert {voice["language"] for voice in facts.extra["voices"]} == {"de-DE"}
        assert facts.extra["speakers"] == {"speaker_0": 0, "speaker_1": 1, "speaker_2": 2}
        assert facts.extra["sample_rate"] == 16_000

    def test_speakers_without_names_have_numbers(self, tmp_path: Path) -> None:
        facts = facts_of(write_piper(tmp_path, speakers=2, speaker_id_map={}))
        assert facts.extra["speakers"] == {"0": 0, "1": 1}

    @pytest.mark.parametrize(
        ("said", "language"),
        [
            ({"language": {"code": "pt_BR"}}, "pt-BR"),
            ({"language": {"code": "EN_us"}}, "en-US"),
            ({"language": None, "espeak": {"voice": "en-us"}}, "en-US"),
            ({"language": {}, "espeak": {"voice": "fr"}}, "fr"),
            ({"language": {"code": "x" * 900}}, "x" * 200),
        ],
    )
    def test_languages(self, tmp_path: Path, said: dict[str, Any], language: str) -> None:
        assert facts_of(write_piper(tmp_path, **said)).extra["languages"] == [language]


class TestValidation:
    @pytest.mark.parametrize("speakers", [1, 3])
    def test_sound(self, tmp_path: Path, speakers: int) -> None:
        assert findings(write_piper(tmp_path, speakers=speakers)) == []

    @pytest.mark.parametrize(
        ("changes", "code"),
        [
            ({"audio": {}}, "piper.bad_value"),
            ({"audio": {"sample_rate": 0}}, "piper.bad_value"),
            ({"audio": {"sample_rate": "22050"}}, "piper.bad_value"),
            ({"audio": {"sample_rate": 10**9}}, "piper.bad_value"),
            ({"num_speakers": 0}, "piper.bad_value"),
            ({"num_speakers": None}, "piper.bad_value"),
            ({"espeak": {}}, "piper.bad_value"),
            ({"phoneme_type": "morse"}, "piper.bad_value"),
            ({"phoneme_type": ["espeak"]}, "piper.bad_value"),
            ({"phoneme_id_map": {}}, "piper.bad_phonemes"),
            ({"phoneme_id_map": {"_": [0], "^": [1], "$": [2], "a": [256]}}, "piper.bad_phonemes"),
            ({"phoneme_id_map": {"_": [0], "^": [1], "$": [2], "a": [-1]}}, "piper.bad_phonemes"),
            ({"phoneme_id_map": {"_": [0], "^": [1], "$": [2], "a": 7}}, "piper.bad_phonemes"),
            ({"num_speakers": 2}, "piper.bad_inputs"),
        ],
    )
    def test_broken_json(self, tmp_path: Path, changes: dict[str, Any], code: str) -> None:
        assert critical(write_piper(tmp_path, **changes)) == code

    @pytest.mark.parametrize("names", [{"a": 0, "b": 3}, {"a": 0, "b": -1}, {"a": 0, "b": "1"}])
    def test_speakers_that_are_not_there(self, tmp_path: Path, names: dict[str, Any]) -> None:
        assert critical(write_piper(tmp_path, speakers=3, speaker_id_map=names)) == "piper.bad_speakers"

    def test_fewer_names_than_speakers(self, tmp_path: Path) -> None:
        (finding,) = findings(write_piper(tmp_path, speakers=3, speaker_id_map={"a": 0}))
        assert (finding.code, finding.severity) == ("piper.bad_speakers", Severity.WARNING)

    def test_several_speakers_of_a_model_of_one(self, tmp_path: Path) -> None:
        """The JSON of another voice."""
        write_piper(tmp_path)
        (tmp_path / f"{NAME}.onnx.json").write_text(json.dumps(described(NAME, 3, 22_050)))
        assert critical(tmp_path) == "piper.bad_inputs"

    def test_one_speaker_of_a_model_of_several(self, tmp_path: Path) -> None:
        write_piper(tmp_path, speakers=3)
        (tmp_path / f"{NAME}.onnx.json").write_text(json.dumps(described(NAME, 1, 22_050)))
        assert critical(tmp_path) == "piper.bad_inputs"

    def test_json_that_is_cut_off(self, tmp_path: Path) -> None:
        path = write_piper(tmp_path) / f"{NAME}.onnx.json"
        path.write_bytes(path.read_bytes()[:-100])
        assert critical(tmp_path) == "piper.bad_json"
