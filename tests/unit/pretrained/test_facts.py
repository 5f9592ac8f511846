"""What the small files beside the weights tell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from anyform.kernel.files import FolderFiles
from anyform.pretrained import architecture, facts, modules
from anyform.pretrained.configuration import Configuration
from anyform.pretrained.template import templates, thinks, uses_tools


def listing(folder: Path, **files: Any) -> FolderFiles:
    """Files by name, with / for __ and . for the last _: what is no text becomes JSON."""
    for name, content in files.items():
        stem, _, suffix = name.replace("__", "/").rpartition("_")
        path = folder / f"{stem}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return FolderFiles(folder)


@pytest.mark.parametrize(
    ("card", "license"),
    [
        ("---\nlicense: apache-2.0\ntags: [x]\n---\n# M", "apache-2.0"),
        ("---\nlicense: 'mit'\n---", "mit"),
        ("# M\nlicense: mit", ""),
        ("---\ntags: x\n---\nlicense: mit", ""),
    ],
)
def test_the_license_stands_in_the_front_matter(tmp_path: Path, card: str, license: str) -> None:
    assert facts.license(listing(tmp_path, README_md=card), ".") == license


def test_sampling_and_tokens() -> None:
    generation = {"temperature": 0.6, "top_k": 20, "top_p": True, "eos_token_id": [7, 8], "typical_p": "x"}
    assert facts.sampling(generation) == {"temp": 0.6, "top_k": 20}
    assert facts.sampling({**generation, "do_sample": False})["temp"] == 0.0
    config = Configuration({"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": -1})
    assert facts.special(config, generation) == {"bos": 1, "eos": 7}


def test_an_encoder_reads_as_much_as_all_agree_on(tmp_path: Path) -> None:
    files = listing(tmp_path, sentence_bert_config_json={"max_seq_length": 128})
    config = Configuration({"model_type": "bert", "max_position_embeddings": 512})
    tokenizer = {"model_max_length": 256}
    assert facts.context(files, ".", ".", config, tokenizer, ("embed",)) == 128
    assert facts.context(files, ".", ".", config, tokenizer, ("chat",)) == 512
    assert (
        facts.context(FolderFiles(tmp_path / ".."), ".", ".", config, {"model_max_length": 10**30}, ("embed",)) == 512
    )


def test_a_dense_module_makes_the_vectors_length(tmp_path: Path) -> None:
    said = [{"type": "x.Transformer", "path": ""}, {"type": "x.Dense", "path": "2_Dense"}]
    files = listing(tmp_path, modules_json=said, **{"2_Dense__config_json": {"out_features": 99}})
    parts = modules.modules(files, ".")
    config = Configuration({"hidden_size": 16})
    assert facts.dimensions(files, ".", parts, config) == 99
    assert facts.dimensions(files, ".", None, config) == 16


@pytest.mark.parametrize(
    ("labels", "tasks"),
    [
        (["LABEL_0"], ("rerank",)),
        (["contradiction", "entailment"], ("zero_shot", "classify")),
        (["a", "b"], ("classify",)),
        ([], ("classify",)),
    ],
)
def test_labels_tell_what_a_classifier_does(labels: list[str], tasks: tuple[str, ...]) -> None:
    named = {str(place): label for place, label in enumerate(labels)}
    assert architecture.labelling(Configuration({"id2label": named})) == tasks


def test_a_template_of_its_own_file_comes_first(tmp_path: Path) -> None:
    files = listing(tmp_path, chat_template_jinja="{{ tools }} {{ enable_thinking }}")
    found = templates(
        files, ".", {"chat_template": [{"name": "default", "template": "a"}, {"name": "rag", "template": "b"}]}
    )
    assert found == {"default": "{{ tools }} {{ enable_thinking }}", "rag": "b"}
    assert uses_tools(found["default"])
    assert thinks(found["default"])
    assert not uses_tools("b")


def test_halves_of_characters_become_question_marks() -> None:
    assert facts.whole({"a\udc80": ["\ud800"]}) == {"a?": ["?"]}
    assert facts.said("\ud800x") == "?x"
    assert facts.said(3) == ""
    assert facts.texts({"a": "b", "c": 1, "d": "e" * 3000}) == {"a": "b"}


@pytest.mark.parametrize(
    "value",
    [10**400, -(10**400), float("nan"), float("inf"), "1e4", None],
    ids=["huge", "hugely negative", "no number", "infinite", "text", "none"],
)
def test_a_base_of_rotations_that_is_no_number(value: Any) -> None:
    assert Configuration({"rope_theta": value}).shape()["rope_freq_base"] is None


def test_a_base_of_rotations() -> None:
    assert Configuration({"rope_theta": 10**6}).shape()["rope_freq_base"] == 1e6
