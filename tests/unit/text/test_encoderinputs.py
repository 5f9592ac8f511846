"""What an encoder's tokenizer makes of texts and pairs, and how inputs become the arrays of a step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from anyform.testing.safetensors import write_bert
from anyform.text.vectormodel import Input

np = pytest.importorskip("numpy")
tokenizers = pytest.importorskip("tokenizers")
pytestmark = pytest.mark.engine


@pytest.fixture
def tokenizer(tmp_path: Path) -> Any:
    """One with a mark before and after each text, which cuts and pads."""
    write_bert(tmp_path)
    made = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    made.normalizer = tokenizers.normalizers.NFC()
    marks = [(name, made.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=marks
    )
    made.enable_truncation(4)
    made.enable_padding(length=4)
    return made


def inputs(tokenizer: Any, **said: Any) -> Any:
    from anyform.text.encoderinputs import EncoderInputs

    return EncoderInputs(tokenizer, 40, said.pop("typed", True), **said)


def test_texts_are_neither_cut_nor_padded_and_the_tokenizer_stays_as_it_is(tokenizer: Any) -> None:
    made = inputs(tokenizer)
    words = "once upon a time the boat"
    whole = made.text(words)
    assert len(whole) > 4
    assert whole.types == ()
    assert len(made.text("once")) == 3
    assert len(tokenizer.encode(words).ids) == 4
    assert made.text("once\ud800").tokens[0] == whole.tokens[0], "a lone surrogate is no error"


def test_pairs_tell_their_two_texts_apart_where_the_model_wants_to_know(tokenizer: Any) -> None:
    (pair,) = inputs(tokenizer).pairs("once", ["upon"])
    assert list(pair.types) == [0] * 3 + [1] * (len(pair) - 3)
    (plain,) = inputs(tokenizer, typed=False).pairs("once", ["upon"])
    assert plain.types == ()
    assert plain.tokens == pair.tokens


def test_a_cut_text_keeps_the_mark_at_its_end(tokenizer: Any) -> None:
    made = inputs(tokenizer)
    whole = made.text("once upon a time the boat")
    cut = made.cut(whole, 4)
    assert list(cut.tokens) == [*whole.tokens[:3], whole.tokens[-1]]


def test_a_prompt_comes_before_each_text(tokenizer: Any) -> None:
    plain = inputs(tokenizer).text("once upon a")
    made = inputs(tokenizer, prompt="once upon ")
    assert made.text("a").tokens == plain.tokens
    assert made.text("a").skipped == 0
    skipping = inputs(tokenizer, prompt="once upon ", pools_prompt=False).text("a")
    assert skipping.tokens == plain.tokens
    assert skipping.skipped == len(inputs(tokenizer).text("once upon ")) - 1


def test_texts_are_lower_cased(tokenizer: Any) -> None:
    before = tokenizer.to_str()
    low, loud = (inputs(tokenizer).text(text).tokens for text in ("once upon", "ONCE Upon"))
    assert low != loud
    assert inputs(tokenizer, lowers=True).text("ONCE Upon").tokens == low
    assert tokenizer.to_str() == before


def test_arrays_of_a_step() -> None:
    from anyform.text.encoderinputs import padded

    made = padded([Input([5, 6, 7], [0, 0, 1]), Input([8])], 9)
    assert made["input_ids"].tolist() == [[5, 6, 7], [8, 9, 9]]
    assert made["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert made["token_type_ids"].tolist() == [[0, 0, 1], [0, 0, 0]]
    assert {array.dtype for array in made.values()} == {np.dtype(np.int64)}
    wide = padded([Input([5])], 9, texts=2, tokens=3)
    assert wide["input_ids"].tolist() == [[5, 9, 9], [9, 9, 9]]
    assert wide["attention_mask"].tolist() == [[1, 0, 0], [0, 0, 0]]
