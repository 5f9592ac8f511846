"""Search over sections: the section of the nearest passage is the answer. Knows vectors, not what made them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy

from anyform_samples.embedding.questions import Question
from anyform_samples.embedding.sections import Passage

Embed = Callable[[Sequence[str]], Any]
"""Texts to a float32 array of vectors of length 1, [texts, dimensions]."""


@dataclass(frozen=True)
class Retrieval:
    """How often the right section came first and among the first three, and where another one did."""

    questions: int
    first: int
    among_three: int
    missed: tuple[tuple[Question, str], ...]
    """Each question that was not answered first, with the section that was."""

    def line(self) -> str:
        """The figures in words."""
        share, three = self.first / self.questions, self.among_three / self.questions
        return f"right section first {self.first} of {self.questions} ({share:.1%}), among the first three {three:.1%}"


class Index:
    """The vectors of passages."""

    def __init__(self, passages: Sequence[Passage], embed: Embed) -> None:
        self._passages = passages
        self._embed = embed
        self._vectors = embed([passage.embedded for passage in passages])

    def ranked(self, questions: Sequence[str]) -> list[list[str]]:
        """For each question the ids of all sections, nearest first."""
        order = numpy.argsort(-(self._embed(questions) @ self._vectors.T), axis=1)
        return [list(dict.fromkeys(self._passages[place].section for place in row)) for row in order]

    def measured(self, questions: Sequence[Question]) -> Retrieval:
        """The figures for questions whose section is known."""
        ranked = self.ranked([question.text for question in questions])
        pairs = list(zip(questions, ranked, strict=True))
        missed = tuple((question, found[0]) for question, found in pairs if found[0] != question.section)
        among_three = sum(question.section in found[:3] for question, found in pairs)
        return Retrieval(len(questions), len(questions) - len(missed), among_three, missed)
