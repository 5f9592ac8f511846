"""A tokenizer.json as the toolkit wants it, by the tokenizers library alone: bytes of tokens, marks, control tokens."""

from __future__ import annotations

from typing import Any

import pytest

from anyform.text.words import Words

tokenizers = pytest.importorskip("tokenizers")
pytestmark = pytest.mark.engine

AWKWARD = ["Crème brûlée — 1,5 µs ≥ 3 °C…", "  two  spaces\t\n\n end ", "🎉 <x> </s>"]


@pytest.fixture
def tokenizer() -> Any:
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(AWKWARD, trainer)
    return made


def test_bytes_and_marks(tokenizer: Any) -> None:
    bos, eos = tokenizer.token_to_id("<s>"), tokenizer.token_to_id("</s>")
    words = Words(tokenizer, 320, [7, 999], [3, 400], bos=bos, eos=eos)
    assert (words.bos, words.eos) == (bos, eos)
    assert {7, eos} <= words.ends
    assert 999 not in words.ends
    assert words.suppressed == (3,)
    assert words.piece(bos) == b""
    assert words.piece(bos, True) == b"<s>"
    assert words.is_control(eos)
    assert words.ids_of(["</s>", "x"]) == {eos}
    for text in AWKWARD:
        ids = words.tokenize(text, affixes=False, special=False)
        assert b"".join(map(words.piece, ids)).decode() == text


def test_a_model_may_have_neither_mark(tokenizer: Any) -> None:
    words = Words(tokenizer, 330, [])
    assert (words.bos, words.eos, words.adds_bos, words.adds_eos) == (-1, -1, False, False)
    assert -1 not in words.ends
    assert words.piece(329) == b""


def test_the_tokenizer_that_is_given_stays_as_it_was(tokenizer: Any) -> None:
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=9)
    words = Words(tokenizer, 320, [])
    assert len(words.tokenize("qrstuv", affixes=False, special=True)) == 6
    assert len(words.tokenize("a", affixes=False, special=True)) == 1
    assert len(tokenizer.encode("qrstuv").ids) == 9
    assert tokenizer.encode_special_tokens is False
