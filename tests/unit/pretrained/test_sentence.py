"""Folders of sentence-transformers, read to be loaded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.errors import LoadFailed, Unsupported
from anyform.contract.facts import Evidence, FormatMatch, Metadata, Plan, Settings
from anyform.pretrained import sentence
from anyform.pretrained.sentence import Part, Sentence
from anyform.testing.safetensors import write_json

TRANSFORMER = {"type": "sentence_transformers.models.Transformer", "path": ""}


class Told:
    """Makes each step a text."""

    def pool(self, kinds: Sequence[str]) -> str:
        return "+".join(kinds)

    def dense(self, part: Part) -> str:
        if not part.said:
            raise KeyError("linear.weight")
        return f"dense {part.activation.rpartition('.')[2]}"

    def layer_norm(self, part: Part) -> str:
        return "norm"

    def normalize(self) -> str:
        return "unit"


def module(kind: str, path: str) -> dict[str, Any]:
    return {"type": f"sentence_transformers.models.{kind}", "path": path}


def read(folder: Path) -> Sentence:
    files = tuple(path.relative_to(folder).as_posix() for path in folder.rglob("*.json"))
    match = FormatMatch(format="f", entry="model", files=files, evidence=Evidence.LAYOUT, why="")
    settings, metadata = Settings(), Metadata()
    plan = Plan(
        plugin="p", backend="b", model="m", path=str(folder), match=match, metadata=metadata, devices=(),
        settings=settings,
    )  # fmt: skip
    return sentence.read(plan, folder)


def test_modules_become_steps(tmp_path: Path) -> None:
    kinds = ("Pooling", "Dense", "LayerNorm", "Dropout", "Normalize")
    modules = [TRANSFORMER, *(module(kind, kind) for kind in kinds)]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    write_json(tmp_path / "Pooling/config.json", {"pooling_mode": ["mean", "lasttoken"], "include_prompt": False})
    write_json(tmp_path / "Dense/config.json", {"out_features": 3})
    write_json(tmp_path / "sentence_bert_config.json", {"do_lower_case": True})
    prompts = {"prompts": {"q": "query: "}, "default_prompt_name": "q"}
    write_json(tmp_path / "config_sentence_transformers.json", prompts)
    said = read(tmp_path)
    assert said.steps("", Told()) == ["mean+last", "dense Tanh", "norm", "unit"]
    assert said.steps("cls", Told())[0] == "cls"
    assert (said.prompt, said.pools_prompt, said.lowers, said.normalizes) == ("query: ", False, True, True)
    assert said.output == "last_hidden_state"


def test_a_folder_that_says_nothing_is_pooled_by_mean(tmp_path: Path) -> None:
    said = read(tmp_path)
    assert said.steps("", Told()) == ["mean"]
    assert (said.prompt, said.pools_prompt, said.lowers, said.normalizes) == ("", True, False, True)


@pytest.mark.parametrize(
    ("modules", "fault", "words"),
    [
        ([TRANSFORMER, module("Strange", "")], Unsupported, "Strange"),
        ([TRANSFORMER, module("Dense", "")], LoadFailed, "linear.weight"),
        ([TRANSFORMER, module("Pooling", "../up")], LoadFailed, "up"),
        ({"a": 1}, LoadFailed, "no list"),
        ([[]], LoadFailed, "module"),
    ],
)
def test_what_cannot_be_run_is_told(modules: Any, fault: type[Exception], words: str, tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(fault, match=words):
        read(tmp_path).steps("", Told())


@pytest.mark.parametrize("content", ["[", "[" * 100_000])
def test_broken_files_are_told(content: str, tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text(content)
    with pytest.raises(LoadFailed, match=r"modules\.json"):
        read(tmp_path)


def test_cross_encoders(tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text(json.dumps([TRANSFORMER]))
    said = read(tmp_path)
    said.check_ranks(1)
    said.check_ranks(2)
    with pytest.raises(Unsupported, match="3 labels"):
        said.check_ranks(3)
    assert said.score({}) == ""
    older = {"sbert_ce_default_activation_function": "torch.nn.Tanh"}
    assert said.score(older) == "torch.nn.Tanh"
    assert said.score(older | {"sentence_transformers": {"activation_fn": "torch.nn.Identity"}}) == "torch.nn.Identity"
    write_json(tmp_path / "config_sentence_transformers.json", {"activation_fn": "torch.nn.ReLU"})
    assert read(tmp_path).score(older) == "torch.nn.ReLU"
    (tmp_path / "modules.json").write_text(json.dumps([TRANSFORMER, module("Dense", "")]))
    with pytest.raises(Unsupported, match="Dense"):
        read(tmp_path).check_ranks(1)
