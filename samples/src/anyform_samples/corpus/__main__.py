"""`python -m anyform_samples.corpus`: examples of every category, and how large the corpus is."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import islice

from anyform_samples.corpus import CATEGORIES, Example, held_out, render, segments, training

_DRAWN = 3000


def main() -> None:
    """Print it."""
    drawn = list(islice(training(0), _DRAWN))
    for category in CATEGORIES:
        for line in _described(category, [example for example in drawn if example.category == category]):
            sys.stdout.write(line + "\n")
    mean = sum(len(_whole(example)) for example in drawn) / _DRAWN
    sys.stdout.write(f"mean of all: {mean:.0f} characters\n")


def _described(category: str, drawn: Sequence[Example]) -> Iterator[str]:
    yield f"== {category}: {len(drawn) / _DRAWN:.1%} of training"
    held = [example for example in held_out(5) if example.category == category]
    for title, examples in (("training", drawn[:3]), ("held out", held)):
        for example in examples:
            yield f"-- {title}\n" + "".join(render(example))
    lengths = [len(_whole(example)) for example in drawn]
    learnt = [sum(len(text) for text, is_learnt in segments(example) if is_learnt) for example in drawn]
    mean, mean_learnt = sum(lengths) / len(drawn), sum(learnt) / len(drawn)
    yield f"-- characters: {mean:.0f} on average, {mean_learnt:.0f} of them learnt, {max(lengths)} at most\n"


def _whole(example: Example) -> str:
    return "".join(text for text, _ in segments(example))


if __name__ == "__main__":
    main()
