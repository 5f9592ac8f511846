"""Words split into smaller pieces than need be, for training."""

from __future__ import annotations

import random

import pytest

pytest.importorskip("tokenizers")

from anyform_samples.embedding import questions, vocabulary

TEXTS = ["How do I unload a loaded model?", "--parallel N, x~y 日本 éÉ", ""]
TOKENIZER = vocabulary.train(questions.vocabulary_texts())


def test_without_splitting_the_ids_are_the_tokenizer_s() -> None:
    splitting = vocabulary.Splitting(TOKENIZER)
    for text in TEXTS * 2:
        assert splitting.ids(text, random.Random(0), 0.0, 512) == TOKENIZER.encode(text).ids


def test_split_words_are_spelt_as_before_and_have_more_pieces() -> None:
    splitting = vocabulary.Splitting(TOKENIZER)
    chance = random.Random(0)
    whole = TOKENIZER.encode(TEXTS[0]).ids
    rows = [splitting.ids(TEXTS[0], chance, 1.0, 512) for _ in range(50)]
    assert {TOKENIZER.decode(row) for row in rows} == {TOKENIZER.decode(whole)}
    assert all(len(row) >= len(whole) for row in rows)
    assert len({tuple(row) for row in rows}) > 20


def test_a_long_text_is_cut_to_the_limit() -> None:
    row = vocabulary.Splitting(TOKENIZER).ids(" ".join(["model"] * 100), random.Random(0), 0.3, 40)
    assert len(row) == 40
