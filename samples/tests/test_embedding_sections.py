"""The documentation's sections and passages, and the questions about them."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from anyform_samples.embedding import questions
from anyform_samples.embedding.sections import DOCUMENTATION, PASSAGE_CHARACTERS, Section, passages, plain, sections

LONG = " ".join(f"word{number}" for number in range(40))


def page(folder: Path, text: str) -> list[Section]:
    (folder / "docs").mkdir()
    (folder / "docs" / "page.md").write_text(text)
    return sections(folder)


def test_headings_of_two_levels_begin_sections_and_deeper_ones_do_not(tmp_path: Path) -> None:
    found = page(tmp_path, f"# The page\n{LONG}\n## Part one: why?\n{LONG}\n### Deeper\n{LONG}\n## Two\n{LONG}\n")
    assert [section.id for section in found] == ["docs/page.md", "docs/page.md#part-one-why", "docs/page.md#two"]
    assert found[1].title == "The page: Part one: why?"
    assert "Deeper" in found[1].text


def test_a_heading_in_a_code_fence_is_no_heading(tmp_path: Path) -> None:
    found = page(tmp_path, f"# The page\n{LONG}\n```console\n# {LONG}\n## {LONG}\n```\n")
    assert [section.id for section in found] == ["docs/page.md"]
    assert found[0].text.count("word39") == 3


def test_a_tiny_section_belongs_to_the_one_that_begins_its_page(tmp_path: Path) -> None:
    found = page(tmp_path, f"# The page\n{LONG}\n## Tiny\nfew words\n## Two\n{LONG}\n")
    assert [section.id for section in found] == ["docs/page.md", "docs/page.md#two"]
    assert found[0].text.endswith("## Tiny\nfew words")


def test_a_table_of_contents_is_left_out(tmp_path: Path) -> None:
    assert [section.id for section in page(tmp_path, f"# The page\n- [Two](#two)\n## Two\n{LONG}\n")] == [
        "docs/page.md#two"
    ]


def test_plain_text_keeps_words_and_drops_marks() -> None:
    table = "| command | what |\n|---|---|\n| `anyform run` | **chat**, see [here](use.md#http) |"
    assert plain(f"{table}\n```console\n$ anyform run x\n```") == (
        "command what\nanyform run chat , see here\n$ anyform run x"
    )


def test_passages_keep_every_word_in_order_and_stay_short() -> None:
    for section in sections(DOCUMENTATION):
        parts = passages(section)
        assert " ".join(part.text for part in parts).split() == plain(section.text).split()
        assert all(len(part.text) <= PASSAGE_CHARACTERS for part in parts)


def words(question: str) -> set[str]:
    return set(re.findall(r"\w+", question.lower()))


def test_every_section_has_questions_of_both_kinds() -> None:
    known = {section.id for section in sections(DOCUMENTATION)}
    training, held_out = questions.read(questions.TRAINING), questions.read(questions.HELD_OUT)
    assert {question.section for question in training} == {question.section for question in held_out} == known
    assert all(sum(question.section == name for question in held_out) >= 3 for name in known)


def test_no_held_out_question_is_a_training_question_in_nearly_the_same_words() -> None:
    chance = random.Random(0)
    phrased = [said for each in questions.read(questions.TRAINING) for said in questions.phrasings(each, chance, 200)]
    known = [words(question.text) for question in phrased]
    for question in questions.read(questions.HELD_OUT):
        asked = words(question.text)
        assert max(len(asked & other) / len(asked | other) for other in known) < 0.6, question.text


def test_alternatives_are_drawn_and_other_brackets_stay() -> None:
    question = questions.Question("page", "[how|where] is list[Device] [given|made]")
    said = {each.text for each in questions.phrasings(question, random.Random(0), 50)}
    assert said == {f"{first} is list[Device] {last}" for first in ("how", "where") for last in ("given", "made")}


@pytest.mark.parametrize("seed", range(3))
def test_made_questions_depend_on_the_chance_alone(seed: int) -> None:
    passage = passages(sections(DOCUMENTATION)[0])[0]
    made = [questions.Variation(random.Random(seed)) for _ in range(2)]
    texts = [[variation.made_from(passage) for _ in range(50)] for variation in made]
    assert texts[0] == texts[1]
    assert len(set(texts[0])) > 40
    assert all(texts[0])


def test_a_synonym_takes_the_place_of_a_whole_term() -> None:
    variation = questions.Variation(random.Random(0))
    said = {variation.of("folder") for _ in range(300)}
    assert {"folder", "directory"} <= said
