"""Which Kokoros lie in a folder, what they say of themselves, and what is found to be wrong; no engine needed."""

from __future__ import annotations

import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.facts import Evidence, Finding, FormatMatch, Metadata, Severity
from anyform.kernel.files import FolderFiles
from anyform.testing.damage import Remote
from anyform.testing.kokoro import ROWS, WIDTH, npy, speaker, style, write_kokoro, write_npz, write_voices
from anyform.testing.onnx import Graph, numbers, write_onnx
from anyform.testing.piper import write_piper
from anyform.testing.safetensors import write_json
from anyform_audio import plugin
from anyform_audio.speech.kokoro import voice

MODEL, VOICES = "kokoro-v1.0.onnx", "voices-v1.0.bin"


def found(folder: Path) -> list[FormatMatch]:
    return plugin.detect_format(FolderFiles(folder))


def facts_of(folder: Path, place: int = 0) -> Metadata:
    files = FolderFiles(folder)
    return plugin.extract_metadata(files, plugin.detect_format(files)[place])


def findings(folder: Path) -> list[Finding]:
    files = FolderFiles(folder)
    (match,) = plugin.detect_format(files)
    return plugin.validate(files, match)


def codes(folder: Path) -> list[str]:
    return [finding.code for finding in findings(folder)]


def critical(folder: Path) -> str:
    (finding,) = findings(folder)
    assert finding.severity is Severity.CRITICAL
    return finding.code


class TestDetection:
    def test_a_model_and_its_archive_of_voices(self, tmp_path: Path) -> None:
        (match,) = found(write_kokoro(tmp_path))
        assert (match.format, match.entry, match.files) == ("kokoro", MODEL, (MODEL, VOICES))
        assert (match.name, match.variant, match.evidence) == ("kokoro-v1.0", "", Evidence.MAGIC)

    def test_variants_of_one_model(self, tmp_path: Path) -> None:
        write_kokoro(tmp_path, variants=("", "fp16", "fp16-gpu", "int8"))
        matches = found(tmp_path)
        assert {match.name for match in matches} == {"kokoro-v1.0"}
        preferred = sorted(matches, key=lambda match: match.order)
        assert [match.variant for match in preferred] == ["fp32", "fp16", "int8", "fp16-gpu"]
        assert all(VOICES in match.files for match in matches)

    def test_the_layout_of_onnx_community(self, tmp_path: Path) -> None:
        write_kokoro(tmp_path, layout="folder", voices=("af_heart", "am_adam"), variants=("", "q8f16", "quantized"))
        matches = found(tmp_path)
        assert {match.variant for match in matches} == {"fp32", "q8f16", "quantized"}
        (plain,) = (match for match in matches if match.variant == "fp32")
        assert plain.files == ("onnx/model.onnx", "voices/af_heart.bin", "voices/am_adam.bin", "config.json")
        assert plain.name == ""

    @pytest.mark.parametrize("layout", ["npz", "folder"])
    def test_a_listing_of_a_large_model_without_its_end(self, tmp_path: Path, layout: str) -> None:
        """The inputs stand behind all weights, which detection does not get to see."""
        write_kokoro(tmp_path, layout=layout, ballast_bytes=4 << 20)
        (match,) = plugin.detect_format(Remote(tmp_path))
        assert match.evidence is Evidence.LAYOUT
        assert len(match.files) > 1

    def test_a_model_by_another_name(self, tmp_path: Path) -> None:
        write_kokoro(tmp_path)
        (tmp_path / MODEL).rename(tmp_path / "speech.onnx")
        assert [match.entry for match in found(tmp_path)] == ["speech.onnx"]

    def test_the_archive_that_is_named_like_the_model(self, tmp_path: Path) -> None:
        write_kokoro(tmp_path)
        write_npz(tmp_path / "voices-v1.1-zh.bin", {"zf_001": style("zf_001")})
        (tmp_path / "kokoro-v1.1-zh.onnx").write_bytes((tmp_path / MODEL).read_bytes())
        assert {match.entry: match.files[1] for match in found(tmp_path)} == {
            MODEL: VOICES,
            "kokoro-v1.1-zh.onnx": "voices-v1.1-zh.bin",
        }

    def test_two_of_one_name_are_told_apart(self, tmp_path: Path) -> None:
        write_kokoro(tmp_path, layout="folder")
        (tmp_path / "model.onnx").write_bytes((tmp_path / "onnx/model.onnx").read_bytes())
        matches = found(tmp_path)
        assert len({(match.name, match.variant) for match in matches}) == 2

    def test_strangers(self, tmp_path: Path) -> None:
        graph = Graph()
        graph.output("y", "F32", (1,))
        graph.node("Abs", graph.input("x", "F32", (1,)), called="y")
        write_onnx(tmp_path / "model.onnx", graph)
        write_npz(tmp_path / "voices.npz", {"af_heart": style("af_heart")})
        write_piper(tmp_path / "piper")
        assert [match.format for match in found(tmp_path)] == ["piper"]

    def test_a_torch_folder(self, tmp_path: Path) -> None:
        write_torch(tmp_path)
        (match,) = found(tmp_path)
        assert (match.format, match.entry) == ("kokoro_torch", "kokoro-v1_0.pth")
        (finding,) = findings(tmp_path)
        assert finding.severity is Severity.WARNING
        assert "ONNX" in finding.text
        facts = facts_of(tmp_path)
        assert facts.tasks == ("speak",)
        assert [one["id"] for one in facts.extra["voices"]] == ["af_heart", "bm_lewis"]

    def test_a_torch_folder_with_the_onnx_form_beside_it(self, tmp_path: Path) -> None:
        write_torch(tmp_path)
        write_kokoro(tmp_path)
        assert sorted(match.format for match in found(tmp_path)) == ["kokoro", "kokoro_torch"]


def write_torch(folder: Path) -> None:
    write_json(folder / "config.json", {"istftnet": {}, "plbert": {}, "vocab": {"a": 1}})
    (folder / "kokoro-v1_0.pth").write_bytes(b"PK\x03\x04" + bytes(100))
    (folder / "voices").mkdir()
    for name in ("af_heart", "bm_lewis"):
        (folder / "voices" / f"{name}.pt").write_bytes(b"PK\x03\x04")


class TestMetadata:
    def test_what_it_says(self, tmp_path: Path) -> None:
        facts = facts_of(write_kokoro(tmp_path, voices=("af_heart", "bm_lewis")))
        assert (facts.architecture, facts.tasks, facts.quantization) == ("kokoro", ("speak",), "F32")
        assert facts.extra["voices"] == [
            {"id": "af_heart", "name": "Heart (American Female)", "language": "en-US"},
            {"id": "bm_lewis", "name": "Lewis (British Male)", "language": "en-GB"},
        ]
        assert facts.extra["languages"] == ["en-GB", "en-US"]
        assert (facts.extra["sample_rate"], facts.extra["speeds"]) == (24_000, [0.5, 2.0])
        assert (facts.extra["opset"], facts.extra["standin"]) == (17, True)
        assert facts.extra["voices_file"] == VOICES

    def test_weights_are_counted(self, tmp_path: Path) -> None:
        small = facts_of(write_kokoro(tmp_path / "small"))
        large = facts_of(write_kokoro(tmp_path / "large", ballast_bytes=4 << 20))
        assert (large.parameters or 0) - (small.parameters or 0) == 1 << 20
        assert (large.weight_bytes or 0) - (small.weight_bytes or 0) == 4 << 20

    def test_voices_that_are_files(self, tmp_path: Path) -> None:
        facts = facts_of(write_kokoro(tmp_path, layout="folder", voices=("af_heart",)))
        assert facts.extra["voice_files"] == {"af_heart": "voices/af_heart.bin"}
        assert [one["id"] for one in facts.extra["voices"]] == ["af_heart"]

    def test_a_vocabulary_of_its_own(self, tmp_path: Path) -> None:
        write_json(write_kokoro(tmp_path) / "config.json", {"vocab": {"a": 1}})
        assert facts_of(tmp_path).extra["vocabulary_file"] == "config.json"

    def test_arrays_are_not_read(self, tmp_path: Path) -> None:
        """The archive's list alone is."""
        path = write_kokoro(tmp_path) / VOICES
        data = path.read_bytes()
        place = data.index(b"\x93NUMPY")
        path.write_bytes(data[:place] + bytes(1000) + data[place + 1000 :])
        assert len(facts_of(tmp_path).extra["voices"]) == 4

    @pytest.mark.parametrize(
        ("id", "name", "language"),
        [
            ("am_michael", "Michael (American Male)", "en-US"),
            ("ef_dora", "Dora (Spanish Female)", "es"),
            ("ff_siwis", "Siwis (French Female)", "fr-FR"),
            ("hm_omega", "Omega (Hindi Male)", "hi"),
            ("if_sara", "Sara (Italian Female)", "it"),
            ("jf_alpha", "Alpha (Japanese Female)", "ja"),
            ("pm_alex", "Alex (Brazilian Male)", "pt-BR"),
            ("zf_xiaobei", "Xiaobei (Mandarin Female)", "zh"),
            ("zf_001", "001 (Mandarin Female)", "zh"),
            ("af", "American Female", "en-US"),
            ("my_voice", "My Voice", ""),
            ("x", "X", ""),
        ],
    )
    def test_who_a_voice_is(self, id: str, name: str, language: str) -> None:
        assert voice.told([id]) == [{"id": id, "name": name, "language": language}]


Edit = Callable[[Path], Any]


def rewritten(**members: bytes) -> Edit:
    """The archive, with other files in it."""

    def edit(folder: Path) -> None:
        with zipfile.ZipFile(folder / VOICES, "w") as archive:
            for name, data in members.items():
                archive.writestr(f"{name}.npy", data)

    return edit


def packed(kind: int) -> Edit:
    """The archive, with one voice that is packed in another way."""

    def edit(folder: Path) -> None:
        with zipfile.ZipFile(folder / VOICES, "w", kind) as archive:
            archive.writestr("af_heart.npy", plain())

    return edit


def with_graph(graph: Graph, **said: Any) -> Edit:
    return lambda folder: write_onnx(folder / MODEL, graph, **said)


def plain(size: int = WIDTH) -> bytes:
    return npy("<f4", (ROWS, 1, size), bytes(ROWS * size * 4))


PICKLED = npy("|O", (1,), pickle.dumps([print]))


class TestValidation:
    def test_sound(self, tmp_path: Path) -> None:
        assert codes(write_kokoro(tmp_path)) == []

    @pytest.mark.parametrize("kind", [{"tokens": "input_ids"}, {"whole_speed": True}, {"duration": True}])
    def test_sound_exports_of_other_kinds(self, tmp_path: Path, kind: dict[str, Any]) -> None:
        assert codes(write_kokoro(tmp_path, **kind)) == []

    @pytest.mark.parametrize(
        ("edit", "code"),
        [
            (lambda folder: (folder / VOICES).unlink(), "kokoro.missing_voices"),
            (rewritten(), "kokoro.bad_archive"),
            (rewritten(af_heart=b""), "kokoro.bad_voice"),
            (rewritten(af_heart=b"\x93NUMPY\x02\x00\x00\x00"), "kokoro.bad_voice"),
            (rewritten(af_heart=plain(128)), "kokoro.bad_voice"),
            (rewritten(af_heart=npy("<f4", (1, WIDTH), bytes(WIDTH * 4))), "kokoro.bad_voice"),
            (packed(zipfile.ZIP_LZMA), "kokoro.bad_archive"),
            (rewritten(af_heart=npy("<i4", (ROWS, 1, WIDTH), bytes(ROWS * WIDTH * 4))), "kokoro.bad_voice"),
            (rewritten(af_heart=npy(">f4", (ROWS, 1, WIDTH), bytes(ROWS * WIDTH * 4))), "kokoro.bad_voice"),
            (rewritten(af_heart=plain()[:-4]), "kokoro.bad_voice"),
            (rewritten(af_heart=PICKLED), "kokoro.dangerous_voice"),
            (rewritten(af_heart=npy("<f4", (0, 1, WIDTH), b"")), "kokoro.bad_voice"),
            (with_graph(speaker("tokens", "audio", False, False), opset=0), "kokoro.damaged"),
            (with_graph(speaker("words", "audio", False, False)), "kokoro.bad_inputs"),
        ],
    )
    def test_broken(self, tmp_path: Path, edit: Edit, code: str) -> None:
        edit(write_kokoro(tmp_path))
        assert critical(tmp_path) == code

    def test_an_input_of_another_type(self, tmp_path: Path) -> None:
        graph = speaker("tokens", "audio", False, False)
        graph.inputs = []
        for name, kind, shape in (("tokens", "F32", (1, "n")), ("style", "F32", (1, 256)), ("speed", "F32", (1,))):
            graph.input(name, kind, shape)
        with_graph(graph)(write_kokoro(tmp_path))
        assert critical(tmp_path) == "kokoro.bad_inputs"

    def test_a_style_of_another_width(self, tmp_path: Path) -> None:
        graph = speaker("tokens", "audio", False, False)
        graph.inputs = []
        for name, kind, shape in (("tokens", "I64", (1, "n")), ("style", "F32", (1, 128)), ("speed", "F32", (1,))):
            graph.input(name, kind, shape)
        with_graph(graph)(write_kokoro(tmp_path))
        assert critical(tmp_path) == "kokoro.bad_inputs"

    def test_an_opset_that_is_not_known_yet(self, tmp_path: Path) -> None:
        with_graph(speaker("tokens", "audio", False, False), opset=99)(write_kokoro(tmp_path))
        (finding,) = findings(tmp_path)
        assert (finding.code, finding.severity) == ("kokoro.new_opset", Severity.WARNING)
        assert "99" in finding.text

    def test_operators_of_a_stranger(self, tmp_path: Path) -> None:
        graph = speaker("tokens", "audio", False, False)
        graph.node("Speak", "style", domain="org.example")
        with_graph(graph, domains={"org.example": 1})(write_kokoro(tmp_path))
        assert codes(tmp_path) == ["kokoro.unknown_operators"]

    def test_a_pickled_voice_is_never_unpickled(self, tmp_path: Path) -> None:
        """It would leave a file."""
        mark = tmp_path / "mark"
        harm = b"cbuiltins\nopen\n(V" + str(mark).encode() + b"\nVw\ntR."
        rewritten(af_heart=npy("|O", (1,), harm))(write_kokoro(tmp_path))
        assert critical(tmp_path) == "kokoro.dangerous_voice"
        assert facts_of(tmp_path).extra["voices"]
        assert not mark.exists()

    def test_a_structured_array_is_dangerous(self, tmp_path: Path) -> None:
        header = b"{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (1,), }\n"
        data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
        rewritten(af_heart=data)(write_kokoro(tmp_path))
        assert critical(tmp_path) == "kokoro.dangerous_voice"

    def test_a_changed_byte_of_a_voice(self, tmp_path: Path) -> None:
        path = write_kokoro(tmp_path) / VOICES
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        assert critical(tmp_path) == "kokoro.bad_archive"

    def test_voices_of_fewer_rows(self, tmp_path: Path) -> None:
        rewritten(af_heart=npy("<f4", (100, 1, WIDTH), bytes(100 * WIDTH * 4)))(write_kokoro(tmp_path))
        assert codes(tmp_path) == ["kokoro.short_voice"]

    def test_compressed_voices_and_halves_are_read(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(write_kokoro(tmp_path) / VOICES, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("af_heart.npy", npy("<f2", (ROWS, 1, WIDTH), bytes(ROWS * WIDTH * 2)))
        assert codes(tmp_path) == []

    def test_an_archive_that_would_swell(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(write_kokoro(tmp_path) / VOICES, "w", zipfile.ZIP_DEFLATED) as archive:
            for number in range(9):
                archive.writestr(f"af_{number}.npy", bytes(64 << 20))
        assert critical(tmp_path) == "kokoro.bad_archive"

    def test_what_is_no_voice_is_not_offered(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(write_kokoro(tmp_path) / VOICES, "a") as archive:
            archive.writestr("README.md", "hello")
        assert codes(tmp_path) == ["kokoro.no_voice"]
        assert len(facts_of(tmp_path).extra["voices"]) == 4

    def test_raw_voices_of_another_program(self, tmp_path: Path) -> None:
        """All of them in one file, as sherpa-onnx has it."""
        (write_kokoro(tmp_path) / VOICES).write_bytes(numbers("F32", style("af_heart")) * 2)
        assert critical(tmp_path) == "kokoro.bad_archive"

    def test_a_voice_file_of_another_size(self, tmp_path: Path) -> None:
        write_kokoro(tmp_path, layout="folder")
        (tmp_path / "voices/af_heart.bin").write_bytes(bytes(4096))
        assert critical(tmp_path) == "kokoro.bad_voice"

    def test_damaged_voices_are_counted(self, tmp_path: Path) -> None:
        names = tuple(f"af_{number}" for number in range(8))
        write_voices(tmp_path / "voices", {})
        write_kokoro(tmp_path, layout="folder", voices=names)
        for name in names:
            (tmp_path / f"voices/{name}.bin").write_bytes(b"x")
        assert len(findings(tmp_path)) == 4
        assert "8 in all" in findings(tmp_path)[-1].text


class TestExternal:
    """Weights in a file of their own."""

    def write(self, folder: Path) -> Path:
        write_kokoro(folder)
        graph = speaker("tokens", "audio", False, False, ballast_bytes=4 << 20)
        write_onnx(folder / MODEL, graph, external=f"{MODEL}_data")
        return folder / f"{MODEL}_data"

    def test_sound(self, tmp_path: Path) -> None:
        self.write(tmp_path)
        (match,) = found(tmp_path)
        assert f"{MODEL}_data" in match.files
        assert codes(tmp_path) == []
        assert (facts_of(tmp_path).weight_bytes or 0) > 4 << 20

    def test_missing(self, tmp_path: Path) -> None:
        self.write(tmp_path).unlink()
        assert critical(tmp_path) == "kokoro.missing_external"

    def test_cut_off(self, tmp_path: Path) -> None:
        path = self.write(tmp_path)
        path.write_bytes(path.read_bytes()[:-100])
        assert critical(tmp_path) == "kokoro.truncated"

    @pytest.mark.parametrize("place", ["../secret", "/etc/passwd", "a\\b"])
    def test_outside_of_the_folder(self, tmp_path: Path, place: str) -> None:
        self.write(tmp_path)
        path = tmp_path / MODEL
        graph = speaker("tokens", "audio", False, False)
        for number, one in enumerate(graph.constants):
            said = {"location": place, "offset": "0", "length": str(len(one.data))}
            graph.constants[number] = type(one)(one.name, one.dtype, one.shape, one.data, said)
        write_onnx(path, graph)
        assert critical(tmp_path) == "kokoro.bad_external"


def test_json_may_be_anything(tmp_path: Path) -> None:
    for content in ({"vocab": []}, {"model_type": ["a"]}, {"istftnet": 1, "plbert": 2, "vocab": 3}):
        write_kokoro(tmp_path)
        (tmp_path / "config.json").write_text(json.dumps(content))
        assert codes(tmp_path) == []
