"""The shipped encoder: it finds sections, and its forms agree in tokens and vectors."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest

from anyform.contract.errors import InvalidModel
from anyform_samples import quantize, tensors
from anyform_samples.embedding import form, gguf, questions
from anyform_samples.embedding.layout import DATA, GGUF
from anyform_samples.embedding.search import Embed, Index
from anyform_samples.embedding.sections import DOCUMENTATION, passages, sections

PASSAGES = [passage for section in sections(DOCUMENTATION) for passage in passages(section)]
TEXTS = [
    *(passage.embedded for passage in PASSAGES),
    "Crème BRÛLÉE, naïve — 1,5 µs ≥ 3 °C…",
    "x~y$z [a](b) 日本 éÉ",
    "?",
]


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gguf.write(DATA, tmp_path_factory.mktemp("derived") / "sample-embed-F16.gguf", "F16")


@pytest.fixture(scope="module")
def served_half(half: Path) -> Iterator[Embed]:
    with form.served(half) as embed:
        yield embed


@pytest.fixture(scope="module")
def served_q8_0() -> Iterator[Embed]:
    with form.served(DATA / GGUF) as embed:
        yield embed


def cosines(left: Any, right: Any) -> Any:
    return numpy.sum(left * right, axis=1)


@pytest.mark.engine
def test_the_shipped_gguf_finds_the_section_that_answers(served_q8_0: Embed) -> None:
    found = Index(PASSAGES, served_q8_0).measured(questions.read(questions.HELD_OUT))
    assert found.first / found.questions >= 0.85, found.line()


@pytest.mark.engine
def test_q8_0_agrees_with_f16(served_half: Embed, served_q8_0: Embed) -> None:
    assert cosines(served_half(TEXTS), served_q8_0(TEXTS)).min() >= 0.999


@pytest.mark.engine
def test_gguf_agrees_with_transformers_on_every_text(served_half: Embed) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    assert cosines(served_half(TEXTS), form.in_torch(DATA)(TEXTS)).min() >= 0.999


@pytest.mark.engine
def test_llama_cpp_reads_the_same_tokens(half: Path) -> None:
    llama_cpp = pytest.importorskip("llama_cpp")
    tokenizer = pytest.importorskip("tokenizers").Tokenizer.from_file(str(DATA / "tokenizer.json"))
    engine = llama_cpp.Llama(str(half), vocab_only=True, verbose=False)
    try:
        for text in TEXTS:
            assert engine.tokenize(text.encode(), add_bos=True, special=False) == tokenizer.encode(text).ids, text
    finally:
        engine.close()


def test_the_shipped_gguf_is_what_its_folder_gives(tmp_path: Path) -> None:
    assert gguf.write(DATA, tmp_path / GGUF, "Q8_0").read_bytes() == (DATA / GGUF).read_bytes()


def test_no_passage_or_question_is_over_the_context() -> None:
    tokenizer = pytest.importorskip("tokenizers").Tokenizer.from_file(str(DATA / "tokenizer.json"))
    context = json.loads((DATA / "config.json").read_text())["max_position_embeddings"]
    asked = [question.text for path in (questions.TRAINING, questions.HELD_OUT) for question in questions.read(path)]
    assert max(len(tokenizer.encode(text).ids) for text in [*TEXTS, *asked]) <= context


def test_q8_0_rounds_halves_away_from_zero_and_keeps_zeros() -> None:
    row = numpy.zeros((2, 32), "f4")
    row[1, :4] = 127, 0.5, -2.5, 0.49999997
    data = quantize.q8_0(row)
    assert data[:34] == bytes(34)
    scale, *values = struct.unpack("<e32b", data[34:])
    assert (scale, values[:5]) == (1.0, [127, 1, -3, 0, 0])


def test_a_safetensors_file_of_another_type_is_refused(tmp_path: Path) -> None:
    header = json.dumps({"x": {"dtype": "I64", "shape": [1], "data_offsets": [0, 8]}}).encode()
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    with pytest.raises(InvalidModel, match="the tensor x is I64"):
        tensors.read(tmp_path / "x.safetensors")
