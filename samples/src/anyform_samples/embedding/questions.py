"""Questions about the documentation, each with the section that answers it; and more, made from what is there."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from anyform_samples.embedding.sections import Passage

_FOLDER = Path(__file__).with_name("wording")
TRAINING = _FOLDER / "training.txt"
HELD_OUT = _FOLDER / "held_out.txt"
"""Written apart from the training questions; nothing that trains reads this file."""

_SYNONYMS = _FOLDER / "synonyms.txt"
_FRAMES = (
    "{}", "{}?", "how do I {}", "what is {}", "where can I read about {}", "tell me about {}", "{} in anyform",
    "explain {}", "I need help with {}", "question about {}", "which page covers {}", "does anyform have {}",
    "I want to {}", "is there {}",
)  # fmt: skip
_FILLERS = ("please", "I want to know", "hello", "can you tell me", "with anyform", "here", "exactly")
_ALTERNATIVES = re.compile(r"\[([^][]*\|[^][]*)\]")
_WORD = re.compile(r"\w[\w.]*")


@dataclass(frozen=True)
class Question:
    """A question, and the id of the section that answers it."""

    section: str
    text: str


def read(path: Path) -> list[Question]:
    """The questions of a file: `## SECTION`, then one question a line; `[a|b]` in it stands for a or b."""
    questions = []
    section = ""
    for line in path.read_text("utf-8").splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ")
        elif line:
            questions.append(Question(section, line))
    return questions


def phrasings(question: Question, chance: random.Random, most: int = 8) -> list[Question]:
    """The question with its alternatives drawn, in up to *most* different ways."""
    texts = {_ALTERNATIVES.sub(lambda match: chance.choice(match[1].split("|")), question.text): 0 for _ in range(most)}
    return [Question(question.section, text) for text in texts]


class Variation:
    """Says questions in other words: synonyms for some words, some words dropped, fillers around them."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._synonyms = _synonyms()
        terms = sorted(self._synonyms, key=len, reverse=True)
        self._term = re.compile(rf"\b({'|'.join(map(re.escape, terms))})\b", re.IGNORECASE)

    def of(self, question: str) -> str:
        """The question, said otherwise; now and then as it is."""
        text = self._term.sub(self._exchanged, question)
        text = _without(self._chance, text.split(), self._chance.choice((0.0, 0.1, 0.25, 0.4)))
        if self._chance.random() < 0.15:
            text = f"{self._chance.choice(_FILLERS)} {text}"
        return f"{text}?" if self._chance.random() < 0.2 else text

    def made_from(self, passage: Passage) -> str:
        """A question that the passage answers, made of its own words: a sentence, a few words of it, or its title."""
        words = passage.text.split()
        kind = self._chance.random()
        if kind < 0.2:
            heading = passage.title.split(": ", 1)[-1]
            return self.of(self._chance.choice(_FRAMES).format(heading.lower()))
        if kind < 0.6:
            sentence = self._chance.choice(_sentences(passage.text))
            return self.of(self._chance.choice(_FRAMES).format(_without(self._chance, sentence.split()[:20], 0.3)))
        if kind < 0.8:
            length = min(len(words), self._chance.randint(3, 10))
            start = self._chance.randint(0, len(words) - length)
            return self.of(" ".join(words[start : start + length]))
        found = _WORD.findall(passage.text)
        return self.of(" ".join(self._chance.sample(found, min(len(found), self._chance.randint(2, 5)))))

    def _exchanged(self, match: re.Match[str]) -> str:
        if self._chance.random() < 0.65:
            return match[0]
        return self._chance.choice(self._synonyms[match[0].lower()])


def _synonyms() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in _SYNONYMS.read_text("utf-8").splitlines():
        group = line.split(", ")
        for term in group:
            found.setdefault(term.lower(), []).extend(group)
    return found


def _sentences(text: str) -> list[str]:
    return [part for part in re.split(r"(?<=[.:;?])\s|\n", text) if len(part.split()) > 1] or [text]


def _without(chance: random.Random, words: Sequence[str], share: float) -> str:
    """The words with about a *share* of them dropped, at least one left."""
    kept = [word for word in words if chance.random() >= share]
    return " ".join(kept or words[:1])


def vocabulary_texts() -> Iterator[str]:
    """What a tokenizer should know besides the documentation: the words that training questions may use."""
    yield from (_ALTERNATIVES.sub(r" \1 ", question.text) for question in read(TRAINING))
    yield from _SYNONYMS.read_text("utf-8").splitlines()
    yield from _FRAMES
    yield from _FILLERS
