"""How well the sample decoder answers held-out questions: `python -m anyform_samples.evaluate [--form FORM ...]`.

The forms: `gguf-f16` and `gguf-q8_0` as anyform runs them, `safetensors` as transformers does. All greedy.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anyform.contract.errors import Fault
from anyform_samples import gguf
from anyform_samples.corpus import CATEGORIES, Example, held_out, right
from anyform_samples.form import Ask, in_torch, served
from anyform_samples.layout import SAMPLE, SAMPLE_GGUF

FORMS = ("gguf-f16", "gguf-q8_0", "safetensors")
PER_CATEGORY = 60


@dataclass(frozen=True)
class Score:
    """What one form answered to the questions."""

    examples: Sequence[Example]
    messages: Sequence[Mapping[str, Any]]

    def accuracy(self, category: str = "") -> float:
        """The share that is exactly right, of one category or of all."""
        marks = [right(e, m) for e, m in self._pairs() if category in ("", e.category)]
        return sum(marks) / len(marks)

    def tool_calls(self) -> tuple[float, float, float]:
        """Of the questions that want calls: shares that parse, name the right tools, and have the right arguments."""
        pairs = [(e, m) for e, m in self._pairs() if e.messages[-1].get("tool_calls")]
        parse = [bool(m.get("tool_calls")) for _, m in pairs]
        names = [_names(m) == _names(e.messages[-1]) for e, m in pairs]
        whole = [right(e, m) for e, m in pairs]
        return sum(parse) / len(pairs), sum(names) / len(pairs), sum(whole) / len(pairs)

    def agreement(self, other: Score) -> float:
        """The share of questions that both forms answer alike, letter for letter."""
        same = [_text(mine) == _text(theirs) for mine, theirs in zip(self.messages, other.messages, strict=True)]
        return sum(same) / len(same)

    def wrong(self) -> Iterator[tuple[Example, Mapping[str, Any]]]:
        """The questions answered wrongly, with the answers."""
        return ((e, m) for e, m in self._pairs() if not right(e, m))

    def _pairs(self) -> Iterator[tuple[Example, Mapping[str, Any]]]:
        return zip(self.examples, self.messages, strict=True)


@contextmanager
def opened(form: str, folder: Path) -> Iterator[Ask]:
    """A form of the model in *folder*; F16 GGUF is derived in a temporary place."""
    if form == "safetensors":
        with in_torch(folder) as ask:
            yield ask
    elif form == "gguf-q8_0":
        with served(folder / SAMPLE_GGUF) as ask:
            yield ask
    else:
        with tempfile.TemporaryDirectory() as place, served(gguf.write(folder, Path(place) / "F16.gguf", "F16")) as ask:
            yield ask


def _names(message: Mapping[str, Any]) -> list[str]:
    return [call["function"]["name"] for call in message.get("tool_calls") or ()]


def _text(message: Mapping[str, Any]) -> tuple[str, list[tuple[str, str]]]:
    calls = [call["function"] for call in message.get("tool_calls") or ()]
    return (message.get("content") or "").strip(), [(call["name"], _arguments(call["arguments"])) for call in calls]


def _arguments(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def report(form: str, score: Score, seconds: float) -> str:
    """The figures of one form, in a few lines."""
    parse, names, whole = score.tool_calls()
    categories = " · ".join(f"{category} {score.accuracy(category):.1%}" for category in CATEGORIES)
    return (
        f"{form}: {score.accuracy():.1%} of {len(score.examples)} exactly right, in {seconds:.0f} s\n"
        f"  {categories}\n"
        f"  tool calls: {parse:.1%} parse, {names:.1%} name the right tool, {whole:.1%} have the right arguments too"
    )


def main(words: Sequence[str] | None = None) -> int:
    """Ask each form and print its figures, then how far the forms agree."""
    parser = argparse.ArgumentParser(prog="python -m anyform_samples.evaluate", description=__doc__)
    parser.add_argument("--form", action="append", choices=FORMS, help="which; again for another (default: all)")
    parser.add_argument("--per-category", type=int, default=PER_CATEGORY, metavar="N")
    parser.add_argument("--from", type=Path, default=SAMPLE, dest="folder")
    parser.add_argument("--wrong", action="store_true", help="show what was answered wrongly")
    asked = parser.parse_args(words)
    try:
        scores = dict(_scores(asked.form or FORMS, asked.folder, held_out(asked.per_category)))
    except (Fault, ImportError) as fault:
        sys.stderr.write(f"{fault}\n")
        return 1
    forms = list(scores)
    for place, form in enumerate(forms):
        for other in forms[:place]:
            _say(f"{form} and {other} answer alike: {scores[form].agreement(scores[other]):.1%}")
    if asked.wrong:
        for example, message in scores[forms[0]].wrong():
            _say(json.dumps([example.category, example.messages, message], ensure_ascii=False))
    return 0


def _scores(forms: Sequence[str], folder: Path, examples: list[Example]) -> Iterator[tuple[str, Score]]:
    for form in forms:
        with opened(form, folder) as ask:
            begun = time.monotonic()
            score = Score(examples, ask(examples))
            _say(report(form, score, time.monotonic() - begun))
            yield form, score


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
