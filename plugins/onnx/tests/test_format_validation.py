"""What is said of models that are unsound, of a kind that is not run, or not of one piece."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.facts import Finding, ModelFiles, Severity
from anyform.kernel.files import FolderFiles
from anyform.testing.damage import Remote
from anyform.testing.onnx import Graph, block, model, text, write_onnx
from anyform.testing.onnxdecoder import write_decoder
from anyform.testing.onnxencoder import write_encoder
from anyform.testing.onnxform import (
    FORMS,
    LAYERS,
    SEQUENCE_LOGITS,
    VOCABULARY,
    cache,
    graph_of,
    write_beside,
    write_export,
    write_form,
    write_genai,
    write_graph,
)
from anyform.testing.safetensors import write_json
from anyform_onnx import layout, plugin, role

CRITICAL, WARNING = Severity.CRITICAL, Severity.WARNING


def findings(files: Path | ModelFiles) -> list[Finding]:
    listing = FolderFiles(files) if isinstance(files, Path) else files
    return [one for match in plugin.detect_format(listing) for one in plugin.validate(listing, match)]


def said(folder: Path) -> list[tuple[str, Severity]]:
    found = findings(folder)
    assert all(one.code.startswith("onnx.") for one in found)
    assert all(one.text.rstrip().endswith((".", "…")) for one in found), [one.text for one in found]
    return [(one.code.removeprefix("onnx."), one.severity) for one in found]


def sole(folder: Path) -> Finding:
    (found,) = findings(folder)
    return found


class Elsewhere(Remote):
    """A listing whose files are not on this machine."""

    @property
    def path(self) -> Path:  # type: ignore[override]
        return Path("/nowhere")


class TestSound:
    """Nothing is to be remarked."""

    @pytest.mark.parametrize("form", sorted({*FORMS} & {*role.USABLE} - {"dual"} | {"clip", "sentence"}))
    def test_forms(self, tmp_path: Path, form: str) -> None:
        assert findings(write_form(tmp_path, form, "model.onnx", "onnx/model_fp16.onnx")) == []

    @pytest.mark.parametrize("layout", ["onnx", "onnx_genai", "onnx_export"])
    def test_decoders_that_run(self, tmp_path: Path, layout: str) -> None:
        assert findings(write_decoder(tmp_path, layout=layout)) == []

    def test_encoders_that_run(self, tmp_path: Path) -> None:
        assert findings(write_encoder(tmp_path, pooling="mean", external=True)) == []

    def test_two_towers(self, tmp_path: Path) -> None:
        write_beside(tmp_path, "clip")
        write_graph(tmp_path / "onnx/text_model.onnx", "clip_text")
        write_graph(tmp_path / "onnx/vision_model.onnx", "clip_vision")
        assert findings(tmp_path) == []

    @pytest.mark.parametrize(("elements", "expected"), [(64, []), (600_000, ["onnx.unseen"])])
    def test_a_remote_one_is_looked_at_once_it_is_here(
        self, tmp_path: Path, elements: int, expected: list[str]
    ) -> None:
        """As far as its beginning does not show all of it."""
        write_graph(tmp_path / "model.onnx", "embedding", elements=elements)
        found = findings(Elsewhere(write_beside(tmp_path, "embedding")))
        assert [one.code for one in found] == expected
        assert all(one.severity is WARNING for one in found)


class TestRoles:
    """Kinds that are known, and not run: by name, with what to do."""

    @pytest.mark.parametrize("form", sorted({*FORMS} & {*role.REFUSED}))
    def test_refused(self, tmp_path: Path, form: str) -> None:
        found = sole(write_form(tmp_path, form))
        what, hint = role.REFUSED[form]
        assert (found.code, found.severity) == ("onnx.unsupported_role", CRITICAL)
        assert what in found.text
        assert found.text.endswith(hint)

    @pytest.mark.parametrize(
        ("config", "graphs", "word"),
        [
            ("speech", {"encoder_model": "speech", "decoder_model_merged": "seq2seq"}, "CTranslate2"),
            ("seq2seq", {"encoder_model": "embedding", "decoder_model_merged": "seq2seq"}, "translation"),
            ("part", {"decoder_model_merged": "part", "embed_tokens": "unknown", "vision_encoder": "zoo"}, "pictures"),
            ("decoder", {"decoder_model": "uncached_decoder", "decoder_with_past_model": "decoder"}, "optimum"),
        ],
    )
    def test_several_graphs(self, tmp_path: Path, config: str, graphs: dict[str, str], word: str) -> None:
        write_beside(tmp_path, config)
        for name, form in graphs.items():
            write_graph(tmp_path / "onnx" / f"{name}.onnx", form)
        found = sole(tmp_path)
        assert found.code == "onnx.unsupported_role"
        assert word in found.text

    @pytest.mark.parametrize(
        ("kind", "word"),
        [
            ("whisper", "speech"),
            ("phi3v", "pictures"),
            ("marian-ssru", "translation"),
            ("decoder-pipeline", "pipeline"),
        ],
    )
    def test_onnxruntime_genai(self, tmp_path: Path, kind: str, word: str) -> None:
        found = sole(write_genai(tmp_path, kind))
        assert found.code == "onnx.unsupported_role"
        assert word in found.text

    def test_an_export_in_parts(self, tmp_path: Path) -> None:
        write_export(tmp_path, image_encoder="clip_vision", language_model="part", lm_head="unknown")
        assert ("unsupported_role", CRITICAL) in said(tmp_path)

    def test_no_known_kind(self, tmp_path: Path) -> None:
        """Its ends are told, by which users see what they have."""
        write_graph(tmp_path / "vad.onnx", "unknown")
        found = sole(tmp_path)
        assert (found.code, found.severity) == ("onnx.unknown_role", CRITICAL)
        assert "vad.onnx takes x F32[n, 4] and gives y F32[n, 4]" in found.text

    def test_a_classifier_that_nothing_describes(self, tmp_path: Path) -> None:
        """Its kind is clear; what its labels are called, and how pictures are prepared, is not."""
        write_graph(tmp_path / "resnet50.onnx", "zoo")
        (match,) = plugin.detect_format(FolderFiles(tmp_path))
        assert layout.role_of(FolderFiles(tmp_path), match) == role.IMAGE_CLASSIFIER
        found = sole(tmp_path)
        assert found.code == "onnx.missing_config"
        assert "preprocessor_config.json" in found.text

    def test_a_graph_that_was_named_by_itself(self, tmp_path: Path) -> None:
        """Its config.json lies above, where a listing of the graph's own folder does not reach."""
        found = sole(write_form(tmp_path, "embedding", "onnx/model.onnx") / "onnx/model.onnx")
        assert found.code == "onnx.missing_config"
        assert str(tmp_path) in found.text


def change(name: str, **fields: Any) -> Callable[[Path], Any]:
    def damage(folder: Path) -> None:
        write_json(folder / name, json.loads((folder / name).read_text()) | fields)

    return damage


def drop(name: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).unlink()


BESIDE: dict[str, tuple[str, Callable[[Path], Any], list[tuple[str, Severity]], str]] = {
    "no tokenizer": ("decoder", drop("tokenizer.json"), [("missing_tokenizer", CRITICAL)], "tokenizer.json"),
    "another tokenizer": (
        "embedding",
        lambda folder: [drop("tokenizer.json")(folder), (folder / "vocab.txt").write_text("a\nb\n")],
        [("missing_tokenizer", CRITICAL)],
        "vocab.txt alone is not read",
    ),
    "no config": ("embedding", drop("config.json"), [("missing_config", CRITICAL)], "config.json"),
    "an empty config": ("embedding", change("config.json"), [], ""),
    "no processor": (
        "image_classifier", drop("preprocessor_config.json"), [("missing_processor", CRITICAL)], "preprocessor",
    ),
    "fewer tokens than the config has": (
        "decoder", change("config.json", vocab_size=VOCABULARY + 1), [("config_mismatch", CRITICAL)], "301",
    ),
    "more tokens than the config has": (
        "decoder", change("config.json", vocab_size=VOCABULARY - 4), [("config_mismatch", WARNING)], "296",
    ),
    "fewer layers than the config has": (
        "decoder", change("config.json", num_hidden_layers=9), [("config_mismatch", CRITICAL)], "names 9",
    ),
    "more layers than the config has": (
        "decoder", change("config.json", num_hidden_layers=1, layer_types=["full_attention"]),
        [("config_mismatch", CRITICAL)], "names 1",
    ),
    "layers without a cache": (
        "decoder", change("config.json", num_hidden_layers=9, layer_types=["conv"] * 9), [], "",
    ),
    "as many labels as the config has": ("classifier", change("config.json"), [], ""),
    "other labels than the config has": (
        "classifier", change("config.json", id2label={"0": "a", "1": "b"}), [("config_mismatch", CRITICAL)], "names 2",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BESIDE)
def test_what_lies_beside(tmp_path: Path, name: str) -> None:
    form, damage, expected, word = BESIDE[name]
    damage(write_form(tmp_path, form))
    assert said(tmp_path) == expected
    assert all(word in one.text for one in findings(tmp_path))


class TestGraph:
    """The file itself; what all plugins with ONNX files say alike is tested with `anyform.onnx.inspection`."""

    def write(self, folder: Path, graph: Graph | None = None, **how: Any) -> Path:
        one = FORMS["embedding"]
        write_beside(folder, "embedding")
        write_onnx(folder / "model.onnx", graph or graph_of(one.inputs, one.outputs, 1024), **how)
        return folder

    @pytest.mark.parametrize("version", [{"opset": 99}, {"ir_version": 99}])
    def test_a_version_that_is_not_known_yet(self, tmp_path: Path, version: dict[str, Any]) -> None:
        found = sole(self.write(tmp_path, **version))
        assert (found.code, found.severity) == ("onnx.new_opset", WARNING)
        assert "99" in found.text

    def test_operators_of_a_stranger(self, tmp_path: Path) -> None:
        one = FORMS["embedding"]
        graph = graph_of(one.inputs, one.outputs)
        graph.node("Mystery", "weight", domain="org.example")
        found = sole(self.write(tmp_path, graph, domains={"org.example": 1}))
        assert (found.code, found.severity) == ("onnx.unknown_operators", CRITICAL)
        assert "org.example" in found.text

    def test_functions_that_the_model_brings(self, tmp_path: Path) -> None:
        """As torch's exporter does with those of its own."""
        one = FORMS["embedding"]
        graph = graph_of(one.inputs, one.outputs)
        graph.node("Mystery", "weight", domain="org.example")
        self.write(tmp_path)
        function = text(1, "Mystery") + block(7, text(4, "Identity")) + text(10, "org.example")
        (tmp_path / "model.onnx").write_bytes(model(graph, domains={"org.example": 1}) + block(25, function))
        assert findings(tmp_path) == []

    def test_compiled_for_one_device(self, tmp_path: Path) -> None:
        one = FORMS["embedding"]
        graph = graph_of(one.inputs, one.outputs)
        graph.node("EPContext", "weight", domain="com.microsoft")
        assert said(self.write(tmp_path, graph)) == [("compiled", CRITICAL)]

    def test_external_data_is_missing_or_cut_off(self, tmp_path: Path) -> None:
        """By what the graph names, whatever that is called."""
        self.write(tmp_path, external="numbers.bin")
        assert findings(tmp_path) == []
        (tmp_path / "numbers.bin").write_bytes(b"cut off")
        assert said(tmp_path) == [("truncated", CRITICAL)]
        (tmp_path / "numbers.bin").unlink()
        found = sole(tmp_path)
        assert (found.code, found.severity) == ("onnx.missing_external", CRITICAL)
        assert "numbers.bin" in found.text

    def test_a_second_graph_is_looked_at_too(self, tmp_path: Path) -> None:
        write_export(tmp_path)
        (tmp_path / "prefill.onnx.data").unlink()
        assert said(tmp_path) == [("missing_external", CRITICAL)]

    @pytest.mark.parametrize("name", ["model.onnx", "model.onnx_data"])
    def test_what_git_or_a_web_server_left_in_its_place(self, tmp_path: Path, name: str) -> None:
        self.write(tmp_path, external="model.onnx_data")
        (tmp_path / name).write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
        assert said(tmp_path)[0] == ("git_lfs", CRITICAL)
        (tmp_path / name).write_bytes(b"<!DOCTYPE html><title>404</title>")
        assert said(tmp_path)[0] == ("web_page", CRITICAL)


GENAI: dict[str, tuple[dict[str, Any], list[tuple[str, Severity]], str]] = {
    "an unknown type": ({"type": "nobodys"}, [("unknown_architecture", WARNING)], "'nobodys'"),
    "no type": ({"type": None}, [("bad_config", CRITICAL)], "model.type"),
    "no decoder": ({"decoder": None}, [("bad_config", CRITICAL)], "model.decoder"),
    "another vocabulary": ({"vocab_size": 7}, [("config_mismatch", CRITICAL)], "vocab_size of 7"),
    "a size that is none": ({"vocab_size": "many"}, [("bad_value", CRITICAL)], "'many'"),
    "a context of 0": ({"context_length": 0}, [("bad_value", CRITICAL)], "context_length is 0"),
    "a context beyond 32 bits": ({"context_length": 1 << 40}, [("bad_value", CRITICAL)], "context_length"),
    "a graph of sight": ({"vision": {"filename": "no.onnx"}},
                         [("missing_graph", CRITICAL), ("unsupported_role", CRITICAL)], ""),
}  # fmt: skip
DECODER: dict[str, tuple[dict[str, Any], list[tuple[str, Severity]], str]] = {
    "a missing graph": ({"filename": "other.onnx"}, [("missing_graph", CRITICAL)], "other.onnx is missing"),
    "a graph elsewhere": ({"filename": "../x.onnx"}, [("bad_value", CRITICAL)], "../x.onnx"),
    "no graph": ({"filename": None}, [("bad_value", CRITICAL)], "no model.decoder.filename"),
    "other heads": ({"num_key_value_heads": 7}, [("config_mismatch", CRITICAL)], "says 7"),
    "other heads' size": ({"head_size": 8}, [("config_mismatch", CRITICAL)], "head_size is 16"),
    "fewer layers": ({"num_hidden_layers": LAYERS - 1}, [("config_mismatch", CRITICAL)], "names 1"),
    "other names": ({"inputs": {"past_key_names": "p.%d", "past_value_names": "v.%d"}},
                    [("config_mismatch", CRITICAL)], "p.0"),
    "other scores": ({"outputs": {"logits": "scores"}}, [("config_mismatch", CRITICAL)], "'scores'"),
    "another network": ({"filename": "bert.onnx"}, [("config_mismatch", CRITICAL)] * 2, "'logits'"),
    "native code": ({"session_options": {"custom_ops_library": "lib"}}, [("brings_code", CRITICAL)], "'lib'"),
    "a provider's code": ({"session_options": {"provider_options": [{"qnn": {"backend_path": "QnnHtp.dll"}}]}},
                          [("brings_code", CRITICAL)], "QnnHtp.dll"),
}  # fmt: skip


class TestGenai:
    @pytest.mark.parametrize("name", GENAI)
    def test_the_model(self, tmp_path: Path, name: str) -> None:
        fields, expected, word = GENAI[name]
        write_genai(tmp_path)
        content = json.loads((tmp_path / "genai_config.json").read_text())
        content["model"] |= fields
        write_json(tmp_path / "genai_config.json", content)
        assert said(tmp_path) == expected
        assert word in findings(tmp_path)[0].text

    @pytest.mark.parametrize("name", DECODER)
    def test_the_decoder(self, tmp_path: Path, name: str) -> None:
        fields, expected, word = DECODER[name]
        write_genai(tmp_path)
        content = json.loads((tmp_path / "genai_config.json").read_text())
        content["model"]["decoder"] |= fields
        write_json(tmp_path / "genai_config.json", content)
        if fields.get("filename") == "bert.onnx":
            write_graph(tmp_path / "bert.onnx", "embedding")
            (tmp_path / "model.onnx").unlink()
        assert said(tmp_path) == expected
        assert word in findings(tmp_path)[0].text

    def test_a_name_with_a_dot_before_it(self, tmp_path: Path) -> None:
        write_genai(tmp_path)
        content = json.loads((tmp_path / "genai_config.json").read_text())
        content["model"]["decoder"]["filename"] = "./model.onnx"
        write_json(tmp_path / "genai_config.json", content)
        assert said(tmp_path) == []

    def test_thousands_of_graphs_are_not_all_read(self, tmp_path: Path) -> None:
        write_genai(tmp_path)
        content = json.loads((tmp_path / "genai_config.json").read_text())
        one = (tmp_path / "model.onnx").read_bytes()
        for number in range(40):
            (tmp_path / f"{number}.onnx").write_bytes(one[:-9])
            content["model"][f"part{number}"] = {"filename": f"{number}.onnx"}
        write_json(tmp_path / "genai_config.json", content)
        assert ("too_many_graphs", CRITICAL) in said(tmp_path)
        files = FolderFiles(tmp_path)
        (match,) = plugin.detect_format(files)
        assert len(layout.graphs(files, match)) == layout.MOST_GRAPHS

    @pytest.mark.parametrize(
        "value", ["lib.so", "lib.so.1", "LIB.DLL", "lib.dylib", "sub/lib.so", "lib.so\0", "lib\0.txt"]
    )
    def test_native_code_by_its_name(self, tmp_path: Path, value: str) -> None:
        """Wherever it stands."""
        write_genai(tmp_path)
        content = json.loads((tmp_path / "genai_config.json").read_text())
        content["more"] = [{"a": [[value]]}]
        write_json(tmp_path / "genai_config.json", content)
        assert said(tmp_path) == [("brings_code", CRITICAL)]

    def test_no_json(self, tmp_path: Path) -> None:
        write_genai(tmp_path)
        (tmp_path / "genai_config.json").write_text('{"model": ')
        assert said(tmp_path) == [("bad_json", CRITICAL)]


class TestExport:
    @pytest.mark.parametrize(
        ("version", "expected"),
        [(1, []), (2, [("new_schema", WARNING)]), (0, [("bad_value", CRITICAL)]), ("x", [("bad_value", CRITICAL)])],
    )
    def test_the_schema(self, tmp_path: Path, version: Any, expected: list[tuple[str, Severity]]) -> None:
        write_export(tmp_path, version=version)
        assert said(tmp_path) == expected

    @pytest.mark.parametrize(
        ("components", "code"),
        [
            ({}, "bad_config"),
            ({"decode": {"file": "gone.onnx"}}, "missing_graph"),
            ({"decode": {"file": "/etc/passwd"}}, "bad_value"),
            ({"decode": {"file": None}}, "bad_value"),
            ({"decode": {"metadata": {}}}, "bad_value"),
        ],
    )
    def test_the_components(self, tmp_path: Path, components: dict[str, Any], code: str) -> None:
        write_export(tmp_path)
        change("export.json", components=components)(tmp_path)
        described = [match for match in plugin.detect_format(FolderFiles(tmp_path)) if match.format == "onnx_export"]
        found = plugin.validate(FolderFiles(tmp_path), described[0])
        assert (f"onnx.{code}", CRITICAL) in [(one.code, one.severity) for one in found]


class TestModules:
    """What sentence-transformers keeps beside, as hf_transformers says it."""

    def write(self, folder: Path) -> Path:
        return write_encoder(folder, pooling="mean")

    @pytest.mark.parametrize(
        ("name", "content", "code"),
        [
            ("modules.json", "{}", "bad_modules"),
            ("modules.json", "[{", "bad_json"),
            ("modules.json", '[{"type": "a.Pooling", "path": "../../x"}]', "bad_modules"),
            ("1_Pooling/config.json", "{}", "bad_pooling"),
            ("1_Pooling/config.json", '{"pooling_mode": "best"}', "bad_pooling"),
            ("sentence_bert_config.json", '{"max_seq_length": -5}', "bad_value"),
        ],
    )
    def test_steps(self, tmp_path: Path, name: str, content: str, code: str) -> None:
        (self.write(tmp_path) / name).write_text(content)
        assert said(tmp_path) == [(code, CRITICAL)]

    def test_a_missing_step(self, tmp_path: Path) -> None:
        shutil.rmtree(self.write(tmp_path) / "1_Pooling")
        assert said(tmp_path) == [("missing_module", CRITICAL)]


def test_a_cache_of_a_hundred_thousand_layers(tmp_path: Path) -> None:
    """More inputs than are kept: what is not seen is not missed."""
    graph = graph_of([FORMS["decoder"].inputs[0], *cache("past_key_values", 5000)], [SEQUENCE_LOGITS])
    write_beside(tmp_path, "decoder")
    write_onnx(tmp_path / "model.onnx", graph)
    assert said(tmp_path) == [("config_mismatch", CRITICAL)]
