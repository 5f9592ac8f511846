"""What a loaded model says of itself, what it makes of the files beside it, and what is refused at load."""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.errors import EngineMissing, Invalid, LoadFailed, Unsupported
from anyform.contract.facts import Evidence, FormatMatch, Metadata, Plan, Settings
from anyform.contract.jobs import Complete, Generation
from anyform.contract.model import LoadedModel, Stop
from anyform.testing import rkllm
from anyform_rkllm import backend, wording
from anyform_rkllm.backend import StandInRefused
from anyform_rkllm.layout import Era
from anyform_rkllm.wording import Way

pytestmark = pytest.mark.engine


@pytest.mark.parametrize("era", Era)
def test_it_names_the_library_that_stands_in(kit: Any, era: Era) -> None:
    model = kit.load(era, tokenizer=False, template="")
    version = ("1.1.4", "1.2.0", "1.2.3", "1.3.0")[era]
    assert isinstance(model, LoadedModel)
    assert (model.parallel, model.runs_on) == (1, f"stand-in {version}, no NPU")
    assert "it runs no model" in model.notes[0]
    assert any("told it in one text" in note for note in model.notes)
    assert any("sampling values" in note for note in model.notes) is (era < Era.V13)


def test_more_at_once_than_one_is_said_to_wait(kit: Any, stand_in: Any) -> None:
    given = {"library": str(stand_in(Era.V13)), "stand_in": True}
    folder = rkllm.write_model(kit._folder / "parallel", trailer="1.1.0", stand_in={"toolkit": "1.1.0"})
    match = FormatMatch(format="rkllm", entry=rkllm.NAME, files=(rkllm.NAME,), evidence=Evidence.NAME, why="")
    settings = Settings(parallel=3, options=given)
    plan = Plan(
        plugin="rkllm",
        backend="rkllm",
        model="tiny",
        path=str(folder),
        match=match,
        metadata=Metadata(),
        settings=settings,
    )
    model: Any = backend.load(plan)
    model.close()
    assert "parallel is 3; the library runs one request at a time, the others wait." in model.notes


def test_the_stand_in_counts_for_nothing_unless_a_test_says_so(kit: Any) -> None:
    with pytest.raises(StandInRefused):
        kit.load(Era.V13, stand_in=False)
    with pytest.raises(EngineMissing, match=r"librkllmrt\.so"):
        kit.load(Era.V13, library="")
    with pytest.raises(Invalid, match="unknown load option"):
        kit.load(Era.V13, colour="blue")


def test_without_tokenizers_the_models_template_is_rendered_as_text(kit: Any, monkeypatch: Any) -> None:
    pytest.importorskip("jinja2")
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    model = kit.load(Era.V121, template="{% for m in messages %}[{{ m['content'] }}]{% endfor %}")
    assert any("tokenizers is missing" in note for note in model.notes)
    assert "|prompt|[hi]|" in kit.ask(model, kit.chat("hi", generation=Generation())).text


def test_without_jinja2_the_librarys_own_template_serves(kit: Any, monkeypatch: Any) -> None:
    pytest.importorskip("tokenizers")
    monkeypatch.setitem(sys.modules, "anyform.text.prompt", None)
    model = kit.load(Era.V121)
    assert any("jinja2 is missing" in note for note in model.notes)
    assert "|prompt|hi|" in kit.ask(model, kit.chat("hi", generation=Generation())).text
    assert "|token|104 105|" in kit.ask(model, Complete(prompt="hi")).text


def test_a_damaged_tokenizer_is_no_secret(kit: Any) -> None:
    pytest.importorskip("tokenizers")
    with pytest.raises(LoadFailed, match=r"tokenizer\.json"):
        kit.load(Era.V13, sidecars={"tokenizer.json": {"version": "1.0"}})


def test_a_template_that_does_not_compile_refuses_chats_alone(kit: Any) -> None:
    pytest.importorskip("tokenizers")
    pytest.importorskip("jinja2")
    model = kit.load(Era.V13, template="{% for %}")
    with pytest.raises(Invalid, match="does not compile"):
        model.generate(kit.chat("hi"), Stop())
    assert kit.ask(model, Complete(prompt="!say well")).text == "well"


def test_a_model_for_embeddings_takes_no_conversation(kit: Any) -> None:
    model = kit.load(Era.V121, tokenizer=False, template="", tasks=("embed",))
    with pytest.raises(Unsupported, match="no conversations"):
        model.generate(kit.chat("hi"), Stop())


def test_ways(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    pytest.importorskip("jinja2")
    folder = rkllm.write_model(tmp_path / "whole")
    how = {"by_library": False, "chats": True, "blanks": True}
    assert wording.read(folder, **how).way is Way.TOKENS
    assert wording.read(folder, **how | {"by_library": True}).way is Way.LIBRARY
    (folder / "tokenizer.json").unlink()
    assert wording.read(folder, **how).way is Way.TEXT
    assert wording.read(folder, **how | {"blanks": False}).way is Way.LIBRARY
    (folder / "tokenizer_config.json").unlink()
    assert wording.read(folder, **how).way is Way.LIBRARY
    assert wording.read(folder, **how | {"chats": False}).way is Way.PLAIN
    assert wording.read(tmp_path / "nothing", **how).way is Way.LIBRARY
    assert wording.read(folder, **how).width == 8


def test_words_that_end_a_turn(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    words = wording.read(rkllm.write_model(tmp_path / "whole"), by_library=True, chats=True, blanks=True).words
    assert words is not None
    assert words.ends == {rkllm.BYTES + 2}
    assert words.size == 512
    assert words.eos == rkllm.BYTES + 2
    assert not words.adds_bos


@pytest.mark.parametrize(("encoder", "first"), [("vision_rk3588.rknn", "1"), ("vision_encoder.onnx", "0")])
def test_beside_an_encoder_that_the_npu_runs_the_first_memory_domain_is_left_free(
    kit: Any, encoder: str, first: str, tmp_path: Path, monkeypatch: Any, capfd: Any
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    kit.load(Era.V13, base_domain_id=None, tokenizer=False, template="", sidecars={encoder: {}})
    assert re.findall(r"base_domain_id=(\d+)", capfd.readouterr().err) == [first]
