"""Text split where a speaker pauses, and nothing of it lost."""

# ruff: noqa: RUF001 - it is about such marks

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyform.sound.sentence import Break, sentences, split

PLAIN = {
    "marks": ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
    "several marks": ("What?! No way!!! Good.", ["What?!", "No way!!!", "Good."]),
    "titles": ("Dr. Smith met Mr. J. R. Jones. He left.", ["Dr. Smith met Mr. J. R. Jones.", "He left."]),
    "titles in Spanish": ("Vino la Sra. López. Bien.", ["Vino la Sra. López.", "Bien."]),
    "dotted": ("U.S. Army and z.B. heute. Next.", ["U.S. Army and z.B. heute.", "Next."]),
    "abbreviations that end": ("At Acme Inc. all is well, etc. It is.", ["At Acme Inc. all is well, etc.", "It is."]),
    "before a small letter": ("Acme Inc. is big, etc. and so on.", ["Acme Inc. is big, etc. and so on."]),
    "hours": ("At 5 p.m. we left. At 5 p.m. They left.", ["At 5 p.m. we left.", "At 5 p.m.", "They left."]),
    "numbered": ("See No. 5 and p. 12. She said no. Then.", ["See No. 5 and p. 12.", "She said no.", "Then."]),
    "unknown abbreviation": ("The min. wage rose. Good.", ["The min. wage rose.", "Good."]),
    "no capitals at all": ("hello there. how are you? fine.", ["hello there.", "how are you?", "fine."]),
    "decimals": ("Pi is 3.14. It is 1,000.50 now.", ["Pi is 3.14.", "It is 1,000.50 now."]),
    "addresses": ("Go to example.com/a?b=c! Now.", ["Go to example.com/a?b=c!", "Now."]),
    "I": ("So do I. They know. I. Newton did.", ["So do I.", "They know.", "I. Newton did."]),
    "lists": ("1. First\n2. Second", ["1. First", "2. Second"]),
    "ellipses": ("Well... maybe. Wait… What? Oh... No.", ["Well... maybe.", "Wait…", "What?", "Oh...", "No."]),
    "quotes": ("He said “Stop!” and left. “No.” Then?", ["He said “Stop!” and left.", "“No.”", "Then?"]),
    "brackets": ("It was (in 1990.) Then not.", ["It was (in 1990.)", "Then not."]),
    "openers": ("¿Qué tal? ¡Bien! «Oui.» Non.", ["¿Qué tal?", "¡Bien!", "«Oui.»", "Non."]),
    "Chinese": ("你好，世界。“走吧。”他说！好？", ["你好，世界。", "“走吧。”", "他说！", "好？"]),
    "Chinese after a point": ("Hello!你好", ["Hello!", "你好"]),
    "wide decimals": ("是3．14。", ["是3．14。"]),
    "Hindi": ("नमस्ते। आप कैसे हैं।", ["नमस्ते।", "आप कैसे हैं।"]),
    "Arabic": ("كيف حالك؟ بخير۔", ["كيف حالك؟", "بخير۔"]),
    "lines": ("A title\nThen text that goes\non here,\nAnd on.", ["A title", "Then text that goes on here, And on."]),
    "white space": ("  One\t \u00a0two.\r\n\r\n  Three.\u2028", ["One two.", "Three."]),
    "nothing but marks": ("... !", ["...", "!"]),
    "nothing": (" \n\t\n", []),
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), PLAIN.values(), ids=PLAIN.keys())
def test_sentences(text: str, expected: list[str]) -> None:
    assert [piece.text for piece in sentences(text)] == expected


def test_what_lies_between_them() -> None:
    found = sentences("One. Two\nThree\n\nFour. Five")
    assert [piece.end for piece in found] == [
        Break.SENTENCE, Break.SENTENCE, Break.PARAGRAPH, Break.SENTENCE, Break.PARAGRAPH,
    ]  # fmt: skip


def test_long_sentences_are_cut_at_clauses_then_words_then_anywhere() -> None:
    found = split("One two three, four five six; seven eight nine ten eleven abcdefghijklmnopqrstuvwxyz.", 20)
    assert [(piece.text, piece.end) for piece in found] == [
        ("One two three,", Break.CLAUSE),
        ("four five six;", Break.CLAUSE),
        ("seven eight nine ten", Break.WORD),
        ("eleven", Break.WORD),
        ("abcdefghijklmnopqrst", Break.WORD),
        ("uvwxyz.", Break.PARAGRAPH),
    ]


def test_commas_in_numbers_and_early_ones_are_no_places_to_cut() -> None:
    assert [piece.text for piece in split("So, there are 1,000,000 of them here now", 20)] == [
        "So, there are", "1,000,000 of them", "here now",
    ]  # fmt: skip


def test_clauses_without_blanks() -> None:
    assert [piece.text for piece in split("这是第一个部分，这是第二个部分，这是第三个。", 10)] == [
        "这是第一个部分，", "这是第二个部分，", "这是第三个。",
    ]  # fmt: skip


def test_a_letter_keeps_its_accents() -> None:
    accented = "e\u0301" * 20
    assert [piece.text for piece in split(accented, 7)] == ["e\u0301" * 3] * 6 + ["e\u0301" * 2]


PARTS = st.one_of(
    st.sampled_from("abcDEF. .!?,;:…\n\t\"'()“”。！，、3é\u0301\u200d-—\u3000\r।"),
    st.sampled_from(["Dr. ", "etc. ", "z.B. ", "3.14", "... ", "p.m. ", "\n\n", "1. ", "word ", "Word "]),
    st.characters(codec="utf-8"),
)
TEXTS = st.lists(PARTS, max_size=120).map("".join)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(TEXTS, st.integers(1, 40))
def test_nothing_is_lost_and_nothing_is_too_long(text: str, most: int) -> None:
    found = split(text, most)
    assert "".join("".join(piece.text.split()) for piece in found) == "".join(text.split())
    assert all(0 < len(piece.text) <= most and piece.text == piece.text.strip() for piece in found)
    assert not found or found[-1].end is Break.PARAGRAPH
    whole = sentences(text)
    assert split(text, max(map(len, (piece.text for piece in whole)), default=1)) == whole


def test_a_megabyte_without_an_end_is_split_all_the_same() -> None:
    for text in ("word " * 200_000, "x" * 1_000_000, "Dr. " * 250_000, ". " * 500_000):
        found = split(text, 400)
        assert sum(len("".join(piece.text.split())) for piece in found) == len("".join(text.split()))
