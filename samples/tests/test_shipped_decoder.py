"""The shipped decoder: its forms hold the same numbers, it answers, and anyform finds it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest

import anyform
from anyform.contract.events import Done
from anyform_samples import derive, gguf, plugin, tensors
from anyform_samples.answer import message_of
from anyform_samples.corpus import CHAT_TEMPLATE, held_out, render
from anyform_samples.evaluate import Score
from anyform_samples.form import Ask, chat, served
from anyform_samples.layout import DATA, SAMPLE, SAMPLE_GGUF

MOST_BYTES = 24_000_000
ASKED = 6


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("derived") / "F16.gguf"
    assert derive.main(["gguf", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def scores(half: Path) -> dict[str, Score]:
    examples = held_out(ASKED)

    def score(path: Path) -> Score:
        with served(path) as ask:
            return Score(examples, ask(examples))

    return {"F16": score(half), "Q8_0": score(SAMPLE / SAMPLE_GGUF)}


@pytest.fixture(scope="module")
def runtime() -> Iterator[Any]:
    running = anyform.start([SAMPLE / SAMPLE_GGUF])
    yield running
    running.close()


def test_all_models_together_are_small() -> None:
    assert sum(path.stat().st_size for path in DATA.rglob("*") if path.is_file()) <= MOST_BYTES


def test_the_shipped_gguf_is_what_derive_makes_of_the_folder(tmp_path: Path) -> None:
    out = gguf.write(SAMPLE, tmp_path / SAMPLE_GGUF, "Q8_0")
    assert out.read_bytes() == (SAMPLE / SAMPLE_GGUF).read_bytes()


def test_rows_fill_blocks_of_256_so_that_every_quantization_works() -> None:
    matrices = [array for array in tensors.read(SAMPLE / "model.safetensors").values() if array.ndim == 2]
    assert matrices
    assert {array.shape[1] % 256 for array in matrices} == {0}


def test_weights_are_finite() -> None:
    assert all(numpy.isfinite(array).all() for array in tensors.read(SAMPLE / "model.safetensors").values())


def test_the_template_is_the_corpus_s_in_every_place() -> None:
    assert (SAMPLE / "chat_template.jinja").read_text("utf-8") == CHAT_TEMPLATE
    assert json.loads((SAMPLE / "tokenizer_config.json").read_text("utf-8"))["chat_template"] == CHAT_TEMPLATE


def test_the_plugin_tells_of_the_folder_that_holds_the_models() -> None:
    (source,) = plugin.list_sources()
    (place,) = source.find()
    assert place.search
    assert (place.path / "sample" / SAMPLE_GGUF).is_file()


def test_derive_says_what_is_wrong_with_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert derive.main(["gguf", str(tmp_path / "out.gguf"), "--from", str(tmp_path)]) == 1
    assert "config.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "content", "names"),
    [
        ("Hello.", "Hello.", []),
        ('<tool_call>\n{"name": "a", "arguments": {"b": 1}}\n</tool_call>', "", ["a"]),
        ('<tool_call>\n{"name": "a"}\n</tool_call>', '<tool_call>\n{"name": "a"}\n</tool_call>', []),
        ("<tool_call>\n{broken\n</tool_call>", "<tool_call>\n{broken\n</tool_call>", []),
    ],
)
def test_what_the_model_wrote_becomes_a_message(text: str, content: str, names: list[str]) -> None:
    message = message_of(text)
    assert message["content"] == content
    assert [call["function"]["name"] for call in message.get("tool_calls", [])] == names


@pytest.mark.engine
def test_anyform_gives_the_model_the_very_tokens_that_training_did(runtime: Any) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer.from_file(str(SAMPLE / "tokenizer.json"))
    for example in held_out(2):
        job = chat(example)
        job = replace(job, generation=replace(job.generation, max_tokens=1))
        (done,) = [event for event in runtime.generate(runtime.names()[0], job) if isinstance(event, Done)]
        assert done.usage.prompt_tokens == len(tokenizer.encode(render(example)[0]).ids)


@pytest.mark.engine
def test_held_out_questions_are_answered_exactly(scores: dict[str, Score]) -> None:
    assert scores["F16"].accuracy() >= 0.85
    assert scores["Q8_0"].accuracy() >= 0.97 * scores["F16"].accuracy()


@pytest.mark.engine
def test_tool_calls_name_the_right_tool_with_the_right_arguments(scores: dict[str, Score]) -> None:
    for score in scores.values():
        parse, names, whole = score.tool_calls()
        assert parse >= names >= whole >= 0.9


@pytest.mark.engine
def test_transformers_answers_as_the_gguf_does(half: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from anyform_samples.form import in_torch

    examples = held_out(3)

    def answers(ask: Ask) -> Score:
        return Score(examples, ask(examples))

    with served(half) as ask:
        served_answers = answers(ask)
    with in_torch(SAMPLE) as ask:
        assert answers(ask).agreement(served_answers) >= 0.96
