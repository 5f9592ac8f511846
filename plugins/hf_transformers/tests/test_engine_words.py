"""Tokenizers of each kind: the bytes of tokens, marks, and what a tokenizer.json would cut silently."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")
pytestmark = pytest.mark.engine

AWKWARD = ["Crème brûlée — 1,5 µs ≥ 3 °C…", "日本 éÉ x~y$z [a](b)", "  two  spaces\t\n\n end ", "🎉 <x>"]


def byte_level(**settings: Any) -> Any:
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<s>", "</s>", "<|im_end|>"], initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(["to be or not to be", *AWKWARD], trainer)
    made.enable_truncation(4)
    made.enable_padding(length=64)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>", **settings)


def with_byte_fallback() -> Any:
    """As SentencePiece's models are converted."""
    pieces = {"<unk>": 0, "<s>": 1, "</s>": 2, **{f"<0x{byte:02X}>": 3 + byte for byte in range(256)}}
    for piece in ("▁", "o", "n", "c", "e", "on", "▁on", "ce", "▁once"):
        pieces[piece] = len(pieces)
    merges = [("o", "n"), ("▁", "on"), ("c", "e"), ("▁on", "ce")]
    made = tokenizers.Tokenizer(
        tokenizers.models.BPE(vocab=pieces, merges=merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    normalizers = tokenizers.normalizers
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    decoders = tokenizers.decoders
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>")


def words_of(tokenizer: Any, size: int | None = None, ends: tuple[int, ...] = ()) -> Any:
    from anyform_hf_transformers.words import words

    return words(tokenizer, size or len(tokenizer), ends)


def test_bytes_of_tokens_are_those_of_the_text(kit: Any) -> None:
    for tokenizer in (byte_level(), with_byte_fallback()):
        words = words_of(tokenizer)
        for text in AWKWARD:
            said = b"".join(map(words.piece, words.tokenize(text, affixes=True, special=True))).decode()
            assert said.removeprefix(" " if words.adds_bos else "") == text


def test_the_samples_tokens_are_transformers_own(decoder_folder: Path, kit: Any) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(decoder_folder)
    words = words_of(tokenizer)
    for text in [*AWKWARD, kit.question("once")]:
        ids = words.tokenize(text, affixes=True, special=True)
        assert ids == tokenizer(text).input_ids
        assert b"".join(words.piece(id, True) for id in ids).decode() == text


def test_what_a_tokenizer_file_would_cut_or_pad_is_not(kit: Any) -> None:
    words = words_of(byte_level())
    assert len(words.tokenize("to be or not to be, that", affixes=True, special=True)) > 4
    assert len(words.tokenize("t", affixes=True, special=True)) == 1


def test_marks(kit: Any) -> None:
    words = words_of(with_byte_fallback())
    assert (words.adds_bos, words.adds_eos, words.bos, words.eos) == (True, True, 1, 2)
    assert words.tokenize("once", affixes=True, special=True)[0] == 1
    assert words.piece(1) == b""
    assert words.piece(1, True) == b"<s>"
    assert words.is_control(2)
    assert not words.is_control(5)
    plain = words_of(byte_level())
    assert (plain.adds_bos, plain.adds_eos) == (False, False)
    assert plain.ids_of(["</s>", "x"]) == {1}


def test_control_tokens_are_read_only_where_they_may_be(kit: Any) -> None:
    words = words_of(byte_level())
    assert words.tokenize("</s>", affixes=False, special=True) == [1]
    spelt = words.tokenize("</s>", affixes=False, special=False)
    assert len(spelt) > 1
    assert b"".join(map(words.piece, spelt)) == b"</s>"


def test_a_turn_ends_also_where_the_folder_forgets_to_say_so(kit: Any) -> None:
    assert words_of(byte_level()).ends == {1, 2}
    assert words_of(byte_level(), ends=(5, 999)).ends == {1, 2, 5}


def test_ids_without_a_token_and_lone_surrogates_do_no_harm(kit: Any) -> None:
    words = words_of(byte_level(), size=1000)
    assert words.piece(999) == b""
    assert words.tokenize("a\ud800b", affixes=True, special=True) == words.tokenize("a?b", affixes=True, special=True)
