"""Damaged folders, each refused with its reason; no engine is needed to say so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.facts import Finding, Severity
from anyform.kernel.files import FolderFiles
from anyform.testing.safetensors import (
    CHATML,
    llama_config,
    llama_tensors,
    tensor,
    write_adapter,
    write_bert,
    write_json,
    write_llama,
    write_pickled,
    write_safetensors,
    write_sharded,
    write_vit,
)
from anyform_hf_transformers import plugin

INDEX = "model.safetensors.index.json"
FIRST = "model-00001-of-00003.safetensors"


def findings(folder: Path) -> list[Finding]:
    files = FolderFiles(folder)
    return [finding for match in plugin.detect_format(files) for finding in plugin.validate(files, match)]


def codes(folder: Path, severity: Severity = Severity.CRITICAL) -> set[str]:
    return {finding.code.removeprefix("hf.") for finding in findings(folder) if finding.severity is severity}


def change(name: str, **fields: Any) -> Callable[[Path], None]:
    """Other values in a JSON file; None: without the key."""

    def damage(folder: Path) -> None:
        content = json.loads((folder / name).read_text()) | fields
        write_json(folder / name, {key: value for key, value in content.items() if value is not None})

    return damage


def put(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


def drop(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def cut(name: str, share: float) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * share)])

    return damage


def weights(*, without: str = "", twice: bool = False, **config: Any) -> Callable[[Path], None]:
    """Weights of another config, or less some, or some of them in two shards."""

    def damage(folder: Path) -> None:
        made = [one for one in llama_tensors(llama_config(**config)) if not (without and without in one.name)]
        write_sharded(folder, made, 3)
        if twice:
            write_safetensors(folder / FIRST, made[::3] + made[1:2])

    return damage


def map_to(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        content = json.loads((folder / INDEX).read_text())
        content["weight_map"] = dict.fromkeys(content["weight_map"], name)
        write_json(folder / INDEX, content)

    return damage


def pickle_too(folder: Path) -> None:
    """Weights as pickles only, which import what they should not."""
    for path in (*folder.glob("*.safetensors"), folder / INDEX):
        path.unlink()
    write_pickled(folder / "pytorch_model.bin", [tensor("a", 2)], extra=b"cos\nsystem\n")


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "a kernel that would be fetched": (change("config.json", attn_implementation="evil/kernel"), "custom_code"),
    "one of a part": (change("config.json", text_config={"_attn_implementation": "evil/kernel:run"}), "custom_code"),
    "config missing": (drop("config.json"), "missing_config"),
    "config empty": (put("config.json", b""), "empty_file"),
    "config no JSON": (put("config.json", b"{'a': 1}"), "bad_json"),
    "config a list": (put("config.json", b"[1]"), "bad_config"),
    "config cut": (cut("config.json", 0.5), "bad_json"),
    "config binary": (put("config.json", b"\x93NUMPY\0\xff"), "bad_json"),
    "architectures no list": (change("config.json", architectures="LlamaForCausalLM"), "bad_config"),
    "architectures of numbers": (change("config.json", architectures=[1]), "bad_config"),
    "heads that cannot be shared": (change("config.json", num_key_value_heads=3), "bad_value"),
    "no heads": (change("config.json", num_attention_heads=0), "bad_value"),
    "layers without end": (change("config.json", num_hidden_layers=10**9), "bad_value"),
    "vocabulary without end": (change("config.json", vocab_size=10**12), "bad_value"),
    "vocabulary larger than the table": (change("config.json", vocab_size=33), "vocab_mismatch"),
    "more layers than there are": (change("config.json", num_hidden_layers=3), "missing_layer"),
    "a layer missing": (weights(without="layers.0."), "missing_layer"),
    "tokenizer missing": (drop("tokenizer.json"), "missing_tokenizer"),
    "tokenizer empty": (put("tokenizer.json", b""), "empty_file"),
    "tokenizer cut": (cut("tokenizer.json", 0.9), "bad_json"),
    "tokenizer cut, large": (put("tokenizer.json", b'{"a": "' + b"b" * (2 << 20)), "bad_json"),
    "tokenizer binary, large": (put("tokenizer.json", bytes(2 << 20)), "bad_json"),
    "tokenizer_config cut": (cut("tokenizer_config.json", 0.5), "bad_json"),
    "generation_config cut": (cut("generation_config.json", 0.5), "bad_json"),
    "template binary": (put("chat_template.jinja", b"\xff\xfe\0"), "bad_text"),
    "template with zeros": (put("chat_template.jinja", b"{{ a }}\0"), "bad_text"),
    "shard missing": (drop(FIRST), "missing_shard"),
    "shard cut": (cut(FIRST, 0.9), "truncated"),
    "shard empty": (put(FIRST, b""), "truncated"),
    "shard of Git LFS": (put(FIRST, b"version https://git-lfs.github.com/spec/v1\n"), "git_lfs"),
    "index missing": (drop(INDEX), "missing_index"),
    "index cut": (cut(INDEX, 0.5), "bad_json"),
    "index without a map": (put(INDEX, b'{"metadata": {}}'), "bad_index"),
    "index with numbers": (put(INDEX, b'{"weight_map": {"a": 1}}'), "bad_index"),
    "index to elsewhere": (map_to("../elsewhere.safetensors"), "bad_index"),
    "index to an absolute path": (map_to("/etc/passwd"), "bad_index"),
    "index to another shard": (map_to(FIRST), "missing_tensor"),
    "index to a missing file": (map_to("other.safetensors"), "missing_shard"),
    "a tensor in two shards": (weights(twice=True), "duplicate_tensor"),
    "a pickle that imports": (pickle_too, "dangerous_pickle"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_folder_is_refused_with_its_reason(tmp_path: Path, name: str) -> None:
    write_llama(tmp_path, shards=3, template=CHATML)
    assert not findings(tmp_path)
    damage, code = BROKEN[name]
    damage(tmp_path)
    assert code in codes(tmp_path)


def test_a_model_that_sees_needs_what_prepares_pictures(tmp_path: Path) -> None:
    write_vit(tmp_path, ("cat", "dog"))
    assert not findings(tmp_path)
    prepares = tmp_path / "preprocessor_config.json"
    prepares.rename(tmp_path / "processor_config.json")
    assert not findings(tmp_path)
    (tmp_path / "processor_config.json").unlink()
    assert codes(tmp_path) == {"missing_processor"}
    [said] = findings(tmp_path)
    assert "no preprocessor_config.json beside config.json" in said.text
    assert "Get the whole model" in said.text


@pytest.mark.parametrize(
    ("cls", "kind", "needed"),
    [
        ("CLIPModel", "clip", True),
        ("CLIPTextModelWithProjection", "clip_text_model", False),
        ("BlipForConditionalGeneration", "blip", True),
        ("Blip2ForConditionalGeneration", "blip-2", True),
        ("ViltForQuestionAnswering", "vilt", True),
        ("VisionEncoderDecoderModel", "vision-encoder-decoder", True),
        ("Dinov2Model", "dinov2", True),
        ("TimmWrapperForImageClassification", "timm_wrapper", False),
        ("LlavaForConditionalGeneration", "llava", False),
        ("Florence2ForConditionalGeneration", "florence2", False),
        ("BertModel", "bert", False),
        ("OddForImageClassification", "odd", False),
    ],
)
def test_which_models_need_it(tmp_path: Path, cls: str, kind: str, needed: bool) -> None:
    write_bert(tmp_path)
    change("config.json", architectures=[cls], model_type=kind)(tmp_path)
    assert ("missing_processor" in codes(tmp_path)) is needed


def test_every_finding_is_a_sentence_that_ends(tmp_path: Path) -> None:
    for number, (damage, _) in enumerate(BROKEN.values()):
        folder = write_llama(tmp_path / str(number), shards=3)
        damage(folder)
        for finding in findings(folder):
            assert finding.code.startswith("hf.")
            assert finding.text.endswith("."), finding.text
            assert str(tmp_path) not in finding.text


def test_unfinished_shards_without_an_index(tmp_path: Path) -> None:
    write_llama(tmp_path, shards=3)
    (tmp_path / INDEX).unlink()
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    assert codes(tmp_path) == {"missing_shard", "missing_index"}


def test_a_file_without_tensors(tmp_path: Path) -> None:
    write_llama(tmp_path)
    write_safetensors(tmp_path / "model.safetensors", [])
    assert codes(tmp_path) == {"no_tensors"}


def test_what_one_layer_lacks_is_noticed(tmp_path: Path) -> None:
    write_llama(tmp_path, num_hidden_layers=5)
    made = llama_tensors(llama_config(num_hidden_layers=5))
    write_safetensors(tmp_path / "model.safetensors", [one for one in made if "2.mlp.up_proj" not in one.name])
    [finding] = findings(tmp_path)
    assert (finding.code, finding.severity) == ("hf.missing_tensor", Severity.WARNING)
    assert "model.layers.2 has no mlp.up_proj.weight" in finding.text


def test_a_tensor_that_the_index_does_not_name(tmp_path: Path) -> None:
    write_llama(tmp_path, shards=3)
    content = json.loads((tmp_path / INDEX).read_text())
    del content["weight_map"]["model.norm.weight"]
    write_json(tmp_path / INDEX, content)
    assert codes(tmp_path) == set()
    assert codes(tmp_path, Severity.WARNING) == {"unnamed_tensor"}


def test_code_of_its_own_is_said_and_left_to_the_load(tmp_path: Path) -> None:
    """Validation sees no settings: a critical finding would refuse the model to those who trust it, too."""
    write_llama(tmp_path, model_type="odd", auto_map={"AutoModelForCausalLM": "modeling_odd.OddForCausalLM"})
    assert codes(tmp_path) == set()
    assert codes(tmp_path, Severity.WARNING) == {"remote_code", "missing_code"}
    (tmp_path / "modeling_odd.py").write_text("import torch\n")
    [finding] = findings(tmp_path)
    assert "trust_remote_code = true" in finding.text
    assert "modeling_odd.py" in finding.text


def test_code_of_its_own_does_not_matter_where_transformers_has_the_class(tmp_path: Path) -> None:
    write_llama(tmp_path, auto_map={"AutoModelForCausalLM": "modeling_odd.OddForCausalLM"})
    assert findings(tmp_path) == []


def test_a_type_that_is_not_known_may_be_newer(tmp_path: Path) -> None:
    write_llama(tmp_path, model_type="llama99")
    [finding] = findings(tmp_path)
    assert (finding.code, finding.severity) == ("hf.unknown_architecture", Severity.WARNING)


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (put("modules.json", b"{}"), "bad_modules"),
        (put("modules.json", b'[{"type": "a.Pooling", "path": "../elsewhere"}]'), "bad_modules"),
        (put("modules.json", b"[1]"), "bad_modules"),
        (drop("1_Pooling/config.json"), "missing_module"),
        (cut("1_Pooling/config.json", 0.5), "bad_json"),
        (cut("sentence_bert_config.json", 0.5), "bad_json"),
    ],
)
def test_modules(tmp_path: Path, damage: Callable[[Path], None], code: str) -> None:
    write_bert(tmp_path, pooling="mean")
    assert findings(tmp_path) == []
    damage(tmp_path)
    assert code in codes(tmp_path)


def test_the_weights_of_a_module_are_looked_at(tmp_path: Path) -> None:
    write_bert(tmp_path, pooling="mean")
    write_pickled(tmp_path / "1_Pooling" / "pytorch_model.bin", [tensor("a", 2)], extra=b"cos\nsystem\n")
    assert codes(tmp_path) == {"dangerous_pickle"}


def test_an_adapter(tmp_path: Path) -> None:
    write_adapter(tmp_path)
    [finding] = findings(tmp_path)
    assert (finding.code, finding.severity) == ("hf.adapter", Severity.WARNING)
    cut("adapter_model.safetensors", 0.5)(tmp_path)
    change("adapter_config.json", peft_type=None)(tmp_path)
    assert codes(tmp_path) == {"truncated", "bad_config"}


def test_many_findings_of_a_kind_are_counted(tmp_path: Path) -> None:
    write_llama(tmp_path, shards=3)
    for path in tmp_path.glob("*-of-*"):
        path.unlink()
    map_to(FIRST)(tmp_path)
    found = findings(tmp_path)
    assert [finding.code for finding in found] == ["hf.missing_shard"]
    write_sharded(tmp_path, llama_tensors(llama_config()), 3)
    map_to(FIRST)(tmp_path)
    assert len(findings(tmp_path)) < 10
    assert any("more of this kind" in finding.text for finding in findings(tmp_path))


class Elsewhere:
    """The files of a folder, of which only beginnings can be had."""

    path = Path("/nowhere/at/all")

    def __init__(self, folder: Path) -> None:
        self._folder = FolderFiles(folder)
        self.files = self._folder.files

    def head(self, name: str, size: int = 4096) -> bytes:
        return self._folder.head(name, size)

    def json(self, name: str) -> Any:
        return self._folder.json(name)


def test_from_afar_the_same_is_said(tmp_path: Path) -> None:
    write_llama(tmp_path, shards=2)
    here, there = FolderFiles(tmp_path), Elsewhere(tmp_path)
    [match] = plugin.detect_format(there)
    assert plugin.detect_format(here) == [match]
    assert plugin.extract_metadata(there, match) == plugin.extract_metadata(here, match)
    assert plugin.validate(there, match) == plugin.validate(here, match) == []


def test_pickles_from_afar_are_looked_at_later(tmp_path: Path) -> None:
    write_llama(tmp_path, pickled=True)
    there = Elsewhere(tmp_path)
    [match] = plugin.detect_format(there)
    assert [finding.code for finding in plugin.validate(there, match)] == ["hf.pickle_unseen"]
