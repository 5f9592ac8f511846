"""Which models are seen in folders as exporters and hubs lay them out; and whose folders are left to others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.facts import Evidence, FormatMatch
from anyform.kernel.files import FolderFiles
from anyform.testing.damage import Remote, write_strangers
from anyform.testing.kokoro import write_kokoro
from anyform.testing.onnx import write_onnx
from anyform.testing.onnxform import (
    FORMS,
    IDS,
    graph_of,
    write_beside,
    write_export,
    write_form,
    write_genai,
    write_graph,
)
from anyform.testing.piper import write_piper
from anyform.testing.safetensors import write_bert, write_json, write_llama
from anyform_onnx import layout, plugin

Row = tuple[str, str, str, str]
"""Format, entry, name, variant."""


def detected(folder: Path) -> list[FormatMatch]:
    """The same on disk and in a remote listing, and no file is named that is not there."""
    files = FolderFiles(folder)
    found = plugin.detect_format(files)
    assert plugin.detect_format(Remote(folder)) == found
    assert all(name in files.files for match in found for name in (match.entry, *match.files))
    assert all(match.entry in match.files and match.why for match in found)
    keys = [(match.name, match.variant.lower(), match.format) for match in found]
    assert len(set(keys)) == len(keys)
    return found


def rows(folder: Path) -> list[Row]:
    return [(one.format, one.entry, one.name, one.variant) for one in detected(folder)]


def placed(form: str, *entries: str, **config: Any) -> Callable[[Path], Any]:
    return lambda folder: write_form(folder, form, *entries, **config)


def parted(config: str, **graphs: str) -> Callable[[Path], Any]:
    """The files beside a form, and in onnx/ graphs of others by name."""

    def write(folder: Path) -> None:
        write_beside(folder, config)
        for name, form in graphs.items():
            write_graph(folder / "onnx" / f"{name}.onnx", form)

    return write


def joined(*writers: Callable[[Path], Any]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        for writer in writers:
            writer(folder)

    return write


LAYOUTS: dict[str, tuple[Callable[[Path], Any], list[Row]]] = {
    "optimum": (placed("decoder"), [("onnx", "model.onnx", "", "")]),
    "one in onnx/": (placed("embedding", "onnx/model.onnx"), [("onnx", "onnx/model.onnx", "", "")]),
    "one variant alone": (
        placed("decoder", "onnx/model_q4f16.onnx"), [("onnx", "onnx/model_q4f16.onnx", "", "q4f16")]
    ),
    "transformers.js": (
        placed("decoder", *(f"onnx/model{end}.onnx" for end in ("", "_fp16", "_q4", "_quantized"))),
        [
            ("onnx", "onnx/model.onnx", "", "fp32"),
            ("onnx", "onnx/model_fp16.onnx", "", "fp16"),
            ("onnx", "onnx/model_q4.onnx", "", "q4"),
            ("onnx", "onnx/model_quantized.onnx", "", "quantized"),
        ],
    ),
    "sentence-transformers": (
        placed("sentence", "onnx/model.onnx", "onnx/model_O4.onnx", "onnx/model_qint8_avx512_vnni.onnx"),
        [
            ("onnx", "onnx/model.onnx", "", "fp32"),
            ("onnx", "onnx/model_O4.onnx", "", "O4"),
            ("onnx", "onnx/model_qint8_avx512_vnni.onnx", "", "qint8_avx512_vnni"),
        ],
    ),
    "beside and below": (
        placed("embedding", "model.onnx", "onnx/model.onnx"),
        [("onnx", "model.onnx", "", "fp32"), ("onnx", "onnx/model.onnx", "", "onnx/model")],
    ),
    "below a repository": (placed("embedding"), [("onnx", "model.onnx", "", "")]),
    "two models of a name each": (
        placed("embedding", "large.onnx", "small.onnx", "small_int8.onnx"),
        [
            ("onnx", "large.onnx", "large", ""),
            ("onnx", "small.onnx", "small", "fp32"),
            ("onnx", "small_int8.onnx", "small", "int8"),
        ],
    ),
    "CLIP in one": (placed("clip", "onnx/model.onnx"), [("onnx", "onnx/model.onnx", "", "")]),
    "CLIP in two": (
        parted("clip", text_model="clip_text", vision_model="clip_vision"),
        [("onnx", "onnx/vision_model.onnx", "", "")],
    ),
    "CLIP in one and in two": (
        parted(
            "clip", model="clip", text_model="clip_text", vision_model="clip_vision",
            text_model_fp16="clip_text", vision_model_fp16="clip_vision",
        ),
        [("onnx", "onnx/model.onnx", "", "fp32"), ("onnx", "onnx/vision_model_fp16.onnx", "", "fp16")],
    ),
    "the text half of a CLIP": (placed("clip_text", "text_model.onnx"), [("onnx", "text_model.onnx", "", "")]),
    "Whisper": (
        parted("speech", encoder_model="speech", decoder_model_merged="seq2seq", decoder_model="seq2seq"),
        [("onnx", "onnx/decoder_model_merged.onnx", "", "")],
    ),
    "T5 before merging": (
        parted("seq2seq", encoder_model="embedding", decoder_model="seq2seq", decoder_with_past_model="seq2seq"),
        [("onnx", "onnx/decoder_model.onnx", "", "")],
    ),
    "a decoder merged": (
        parted("decoder", decoder_model_merged="decoder", decoder_model="uncached_decoder"),
        [("onnx", "onnx/decoder_model_merged.onnx", "", "")],
    ),
    "a decoder before merging": (
        parted("decoder", decoder_with_past_model="decoder", decoder_model="uncached_decoder"),
        [("onnx", "onnx/decoder_model.onnx", "", "")],
    ),
    "a model that sees": (
        parted("part", decoder_model_merged="part", embed_tokens="embedding", vision_encoder="clip_vision"),
        [("onnx", "onnx/decoder_model_merged.onnx", "", "")],
    ),
    "onnxruntime-genai": (write_genai, [("onnx_genai", "genai_config.json", "", "")]),
    "onnxruntime-genai by its own names": (
        lambda folder: write_genai(folder, graph="phi3-mini-cpu-int4.onnx"),
        [("onnx_genai", "genai_config.json", "", "")],
    ),
    "several devices": (
        lambda folder: [write_genai(folder / where) for where in ("cpu/int4", "cuda/int4")],
        [("onnx_genai", "cpu/int4/genai_config.json", "cpu/int4", ""),
         ("onnx_genai", "cuda/int4/genai_config.json", "cuda/int4", "")],
    ),
    "onnxruntime-genai beside a plain one": (
        joined(write_genai, lambda folder: write_graph(folder / "onnx/model.onnx", "decoder")),
        [("onnx_genai", "genai_config.json", "", ""), ("onnx", "onnx/model.onnx", "", "")],
    ),
    "transformers' exporter": (write_export, [("onnx_export", "export.json", "", "")]),
    "transformers' exporter, one graph": (
        lambda folder: write_export(folder, model="embedding"), [("onnx_export", "export.json", "", "")]
    ),
    "beside safetensors": (
        joined(write_llama, placed("decoder", "onnx/model.onnx", "onnx/model_q4.onnx")),
        [("onnx", "onnx/model.onnx", "", ""), ("onnx", "onnx/model_q4.onnx", "", "q4")],
    ),
    "beside a GGUF": (
        joined(lambda folder: (folder / "tiny-Q4_0.gguf").write_bytes(b"GGUF"), placed("decoder", "onnx/model.onnx")),
        [("onnx", "onnx/model.onnx", "", "")],
    ),
    "from the model zoo": (
        lambda folder: write_graph(folder / "resnet50-v1-7.onnx", "zoo"),
        [("onnx", "resnet50-v1-7.onnx", "resnet50-v1-7", "")],
    ),
    "a graph of no known kind": (
        lambda folder: write_graph(folder / "vad.onnx", "unknown"), [("onnx", "vad.onnx", "vad", "")]
    ),
    "an unreadable genai_config": (
        joined(write_genai, lambda folder: (folder / "genai_config.json").write_text("{")),
        [("onnx_genai", "genai_config.json", "", "")],
    ),
    "an unreadable config": (
        joined(placed("decoder"), lambda folder: (folder / "config.json").write_text("{")),
        [("onnx", "model.onnx", "", "")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(tmp_path: Path, name: str) -> None:
    write, expected = LAYOUTS[name]
    write(tmp_path)
    assert rows(tmp_path) == expected


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_seen(tmp_path: Path, form: str) -> None:
    write_form(tmp_path, form)
    (found,) = detected(tmp_path)
    assert (found.format, found.entry) == ("onnx", "model.onnx")
    assert layout.role_of(FolderFiles(tmp_path), found) or form == "unknown"


class TestFiles:
    """What is pulled with a variant, and loaded with it."""

    def test_a_variant_has_its_own_numbers_and_what_all_share(self, tmp_path: Path) -> None:
        write_bert(tmp_path, pooling="mean")
        (tmp_path / "model.safetensors").unlink()
        for entry, data in (("model", "model.onnx_data"), ("model_fp16", "model_fp16.onnx.data")):
            write_graph(tmp_path / f"onnx/{entry}.onnx", "embedding", external=data, elements=1024)
        (tmp_path / "onnx/model.onnx_data_1").write_bytes(b"more")
        plain, half = detected(tmp_path)
        assert plain.files[:3] == ("onnx/model.onnx", "onnx/model.onnx_data", "onnx/model.onnx_data_1")
        assert half.files[:2] == ("onnx/model_fp16.onnx", "onnx/model_fp16.onnx.data")
        shared = {"config.json", "tokenizer.json", "modules.json", "1_Pooling/config.json"}
        assert shared <= set(plain.files)
        assert shared <= set(half.files)

    def test_parts_go_with_the_entry(self, tmp_path: Path) -> None:
        """Of the same variant; else the one that there is."""
        parted("clip", text_model="clip_text", vision_model="clip_vision", vision_model_fp16="clip_vision")(tmp_path)
        full, half = detected(tmp_path)
        assert (full.variant, full.files[:2]) == ("fp32", ("onnx/vision_model.onnx", "onnx/text_model.onnx"))
        assert (half.variant, half.files[:2]) == ("fp16", ("onnx/vision_model_fp16.onnx", "onnx/text_model.onnx"))

    def test_weights_in_another_form_are_not_among_them(self, tmp_path: Path) -> None:
        write_bert(tmp_path, pooling="mean")
        write_graph(tmp_path / "onnx/model.onnx", "embedding")
        (found,) = detected(tmp_path)
        assert "model.safetensors" not in found.files

    def test_the_graph_that_genai_names(self, tmp_path: Path) -> None:
        write_genai(tmp_path, graph="decoder-int4.onnx")
        (found,) = detected(tmp_path)
        assert found.files[:2] == ("genai_config.json", "decoder-int4.onnx")
        assert layout.graphs(FolderFiles(tmp_path), found) == {"decoder": "decoder-int4.onnx"}


class TestAside:
    """A graph by itself that lies where something else is the model."""

    @pytest.mark.parametrize("name", ["vad.onnx", "extras/vad.onnx", "extras/deep/vad.onnx"])
    @pytest.mark.parametrize("model", ["GGUF", "pickled", "CTranslate2", "safetensors", "ONNX", "genai", "export"])
    def test_it_is_not_taken_for_the_model(self, tmp_path: Path, model: str, name: str) -> None:
        {
            "GGUF": lambda: (tmp_path / "a.gguf").write_bytes(b"GGUF"),
            "pickled": lambda: (tmp_path / "pytorch_model-00001-of-00002.bin").write_bytes(b"PK"),
            "CTranslate2": lambda: (tmp_path / "model.bin").write_bytes(b"\6\0\0\0"),
            "safetensors": lambda: write_llama(tmp_path),
            "ONNX": lambda: write_form(tmp_path, "embedding"),
            "genai": lambda: write_genai(tmp_path),
            "export": lambda: write_export(tmp_path),
        }[model]()  # type: ignore[no-untyped-call]
        write_graph(tmp_path / name, "unknown")
        found = [one for one in detected(tmp_path) if one.entry == name]
        assert {one.evidence for one in found} <= {Evidence.NAME, Evidence.LAYOUT}
        best = [one.entry for one in detected(tmp_path) if one.evidence > Evidence.NAME]
        assert name not in best or (model == "ONNX" and name == "vad.onnx")

    def test_where_nothing_else_is_one_it_is(self, tmp_path: Path) -> None:
        write_graph(tmp_path / "extras/vad.onnx", "unknown")
        write_json(tmp_path / "config.json", {"editor": "vi"})
        write_form(tmp_path / "other", "embedding")
        (found,) = (one for one in detected(tmp_path) if one.entry == "extras/vad.onnx")
        assert found.evidence is Evidence.MAGIC


class TestNotOfTheModel:
    """A graph beside weights of another form, which the config does not describe."""

    def test_beside_safetensors(self, tmp_path: Path) -> None:
        write_llama(tmp_path)
        for name, form in (("vad", "unknown"), ("resnet", "zoo"), ("decoder-int4", "decoder"), ("mine", "decoder")):
            write_graph(tmp_path / f"{name}.onnx", form)
        assert {one[1] for one in rows(tmp_path)} == {"decoder-int4.onnx", "mine.onnx"}

    def test_in_a_folder_of_graphs(self, tmp_path: Path) -> None:
        write_llama(tmp_path)
        write_graph(tmp_path / "onnx/model.onnx", "decoder")
        write_graph(tmp_path / "onnx/vad.onnx", "unknown")
        assert rows(tmp_path) == [("onnx", "onnx/model.onnx", "", "")]

    def test_beside_a_whisper_of_ctranslate2(self, tmp_path: Path) -> None:
        write_json(tmp_path / "config.json", {"suppress_ids": [], "lang_ids": [1]})
        write_json(tmp_path / "tokenizer.json", {"model": {}})
        write_graph(tmp_path / "silero_vad.onnx", "unknown")
        assert rows(tmp_path) == [("onnx", "silero_vad.onnx", "silero_vad", "")]
        (tmp_path / "model.bin").write_bytes(b"\6\0\0\0")
        assert rows(tmp_path) == []

    def test_what_is_called_as_exporters_do_stays(self, tmp_path: Path) -> None:
        """It is refused with its reason."""
        write_llama(tmp_path)
        write_graph(tmp_path / "model.onnx", "unknown")
        write_graph(tmp_path / "thing_int8.onnx", "unknown")
        assert len(rows(tmp_path)) == 2


def test_a_genai_config_in_a_folder_for_graphs(tmp_path: Path) -> None:
    """The config.json and the tokenizer above are its own, as validation has it."""
    write_genai(tmp_path / "onnx")
    for path in (tmp_path / "onnx").glob("*.json"):
        if path.name != "genai_config.json":
            path.rename(tmp_path / path.name)
    write_beside(tmp_path, "decoder")
    (found,) = detected(tmp_path)
    assert {"config.json", "tokenizer.json", "onnx/genai_config.json"} <= set(found.files)


class TestOrder:
    """Which variant is taken where none is named."""

    @pytest.mark.parametrize(
        ("form", "preferred"),
        [("decoder", ["q4", "quantized", "fp32", "fp16", "q4f16"]),
         ("embedding", ["fp32", "quantized", "fp16", "q4", "q4f16"])],
    )  # fmt: skip
    def test_what_users_expect(self, tmp_path: Path, form: str, preferred: list[str]) -> None:
        write_form(tmp_path, form, *(f"onnx/model{end}.onnx" for end in ("", "_fp16", "_q4", "_q4f16", "_quantized")))
        assert [one.variant for one in sorted(detected(tmp_path), key=lambda one: one.order)] == preferred

    def test_what_fits_every_cpu_comes_before_what_is_for_one(self, tmp_path: Path) -> None:
        write_form(tmp_path, "embedding", "onnx/model_int8.onnx", "onnx/model_qint8_avx512_vnni.onnx")
        plain, special = detected(tmp_path)
        assert plain.order < special.order

    def test_what_a_json_describes_comes_first(self, tmp_path: Path) -> None:
        joined(write_genai, lambda folder: write_graph(folder / "onnx/model.onnx", "decoder"))(tmp_path)
        described, plain = detected(tmp_path)
        assert described.order < plain.order


class TestEvidence:
    def test_the_config_is_a_layout_and_the_graph_alone_magic(self, tmp_path: Path) -> None:
        write_form(tmp_path / "a", "embedding")
        write_graph(tmp_path / "b.onnx", "zoo")
        (layout_,), (magic,) = detected(tmp_path / "a"), detected(tmp_path / "b.onnx")
        assert (layout_.evidence, magic.evidence) == (Evidence.LAYOUT, Evidence.MAGIC)

    def test_a_large_graph_is_seen_by_its_beginning(self, tmp_path: Path) -> None:
        write_graph(tmp_path / "large.onnx", "zoo", elements=100_000)
        (found,) = detected(tmp_path)
        assert (found.name, found.evidence) == ("large", Evidence.MAGIC)

    def test_halves_of_characters_in_a_config(self, tmp_path: Path) -> None:
        write_form(tmp_path, "embedding", architectures=["\ud800Model"])
        (found,) = detected(tmp_path)
        found.why.encode()


class TestMissing:
    """What is promised and not there is refused later; it is no stranger."""

    @pytest.mark.parametrize(("write", "entry"), [(write_genai, "genai_config.json"), (write_export, "export.json")])
    def test_no_graph_at_all(self, tmp_path: Path, write: Callable[[Path], Any], entry: str) -> None:
        write(tmp_path)
        for name in tmp_path.glob("*.onnx*"):
            name.unlink()
        (found,) = detected(tmp_path)
        assert (found.entry, found.evidence) == (entry, Evidence.LAYOUT)
        codes = [one.code for one in plugin.validate(FolderFiles(tmp_path), found)]
        assert set(codes) == {"onnx.missing_graph"}

    @pytest.mark.parametrize("content", ["{", "{}", '{"model": 5}', '{"components": 5, "schema_version": 1}'])
    @pytest.mark.parametrize("name", ["genai_config.json", "export.json"])
    def test_nothing_is_promised(self, tmp_path: Path, name: str, content: str) -> None:
        (tmp_path / name).write_text(content)
        assert rows(tmp_path) == []

    def test_one_graph_of_two(self, tmp_path: Path) -> None:
        """The other is no model by itself."""
        write_export(tmp_path)
        (tmp_path / "prefill.onnx").unlink()
        assert rows(tmp_path) == [("onnx_export", "export.json", "", "")]


class TestStrangers:
    """Nothing, or other plugins' models."""

    @pytest.fixture(params=["archive", "folder"])
    def kokoro(self, request: pytest.FixtureRequest, tmp_path: Path) -> Path:
        write_kokoro(tmp_path, layout=request.param)
        return tmp_path

    def test_kokoro(self, kokoro: Path) -> None:
        assert rows(kokoro) == []

    def test_kokoro_by_its_inputs(self, tmp_path: Path) -> None:
        write_kokoro(tmp_path / "it")
        (graph,) = (tmp_path / "it").glob("*.onnx")
        graph.rename(tmp_path / "speaker.onnx")
        assert rows(tmp_path / "speaker.onnx") == []

    @pytest.mark.parametrize("broken", [False, True])
    def test_piper(self, tmp_path: Path, broken: bool) -> None:
        write_piper(tmp_path)
        if broken:
            for name in tmp_path.glob("*.json"):
                name.write_text("{")
        assert rows(tmp_path) == []

    def test_piper_by_its_name_and_by_its_inputs(self, tmp_path: Path) -> None:
        write_piper(tmp_path)
        for name in tmp_path.glob("*.json"):
            name.unlink()
        (graph,) = tmp_path.glob("*.onnx")
        graph.rename(tmp_path / "en_US-lessac-medium.onnx")
        assert rows(tmp_path) == []
        (tmp_path / "en_US-lessac-medium.onnx").rename(tmp_path / "x.onnx")
        assert rows(tmp_path) == []

    def test_diffusers(self, tmp_path: Path) -> None:
        write_json(tmp_path / "model_index.json", {"_class_name": "OnnxStableDiffusionPipeline"})
        for part in ("unet", "text_encoder", "vae_decoder"):
            write_form(tmp_path / part, "embedding")
        assert rows(tmp_path) == []
        write_graph(tmp_path / "model.onnx", "zoo")
        assert rows(tmp_path) == []

    @pytest.mark.parametrize("name", ["vision_encoder.onnx", "qwen2_vl_vision_rk3588.onnx", "vit.onnx"])
    @pytest.mark.parametrize("config", [True, False])
    def test_what_an_rkllm_model_sees_with(self, tmp_path: Path, name: str, config: bool) -> None:
        write_graph(tmp_path / name, "zoo")
        if config:
            write_json(tmp_path / "config.json", {"model_type": "qwen2_vl"})
        assert len(rows(tmp_path)) == 1
        (tmp_path / "model.rkllm").write_bytes(b"")
        assert rows(tmp_path) == []

    def test_other_exports_of_transformers(self, tmp_path: Path) -> None:
        """OpenVINO's lie as the same JSON says."""
        write_export(tmp_path)
        said = json.loads((tmp_path / "export.json").read_text())
        write_json(tmp_path / "export.json", {**said, "export_format": "openvino"})
        assert [one[0] for one in rows(tmp_path)] == ["onnx", "onnx"]

    def test_an_export_json_of_something_else(self, tmp_path: Path) -> None:
        write_form(tmp_path, "embedding")
        write_json(tmp_path / "export.json", {"table": "orders"})
        assert rows(tmp_path) == [("onnx", "model.onnx", "", "")]

    @pytest.mark.parametrize("content", [b"", b"\0" * 99, b"no model at all", b"\x08", b"\x08\x08\x12\x02hi"])
    def test_what_is_only_called_so(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "a.onnx").write_bytes(content)
        assert rows(tmp_path) == []

    def test_ordinary_files(self, tmp_path: Path) -> None:
        write_strangers(tmp_path)
        assert rows(tmp_path) == []

    def test_a_config_of_something_else_does_not_make_it_a_model(self, tmp_path: Path) -> None:
        write_graph(tmp_path / "net.onnx", "zoo")
        write_json(tmp_path / "config.json", {"editor": "vi"})
        (found,) = detected(tmp_path)
        assert found.evidence is Evidence.MAGIC


def test_a_thousand_graphs_are_not_all_looked_into(tmp_path: Path) -> None:
    one = write_graph(tmp_path / "0.onnx", "zoo").read_bytes()
    for number in range(1, 300):
        (tmp_path / f"{number}.onnx").write_bytes(one)
    assert len(plugin.detect_format(FolderFiles(tmp_path))) == 64


def test_upper_case(tmp_path: Path) -> None:
    write_onnx(tmp_path / "MODEL.ONNX", graph_of([IDS], FORMS["embedding"].outputs))
    write_beside(tmp_path, "embedding")
    assert rows(tmp_path) == [("onnx", "MODEL.ONNX", "", "")]
