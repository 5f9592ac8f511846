"""`python -m anyform_samples.embedding.evaluate`: how well each form of the encoder finds the section that answers."""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy

from anyform_samples.embedding import form, gguf, questions, sections
from anyform_samples.embedding.layout import DATA, GGUF
from anyform_samples.embedding.search import Embed, Index


def main(words: Sequence[str] | None = None) -> int:
    """Print the figures of every form that can be run here."""
    parser = argparse.ArgumentParser(prog="python -m anyform_samples.embedding.evaluate", description=__doc__)
    parser.add_argument("--model", type=Path, default=DATA, help="the model's folder")
    parser.add_argument("--documentation", type=Path, default=sections.DOCUMENTATION, help="a folder of other pages")
    parser.add_argument("--questions", type=Path, default=questions.HELD_OUT, help="a file of other questions")
    parser.add_argument("--misses", action="store_true", help="list the questions that were answered wrongly")
    given = parser.parse_args(words)
    passages = [part for section in sections.sections(given.documentation) for part in sections.passages(section)]
    asked = questions.read(given.questions)
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        reference = None
        for name, embed in _forms(given.model, Path(scratch), stack):
            found = Index(passages, embed).measured(asked)
            vectors = embed([*(passage.embedded for passage in passages), *(question.text for question in asked)])
            reference = vectors if reference is None else reference
            _say(f"{name:24} {found.line()}, {_likeness(vectors, reference)}")
            if given.misses:
                _say(*(f"  {question.text!r}: {other}, not {question.section}" for question, other in found.missed))
    return 0


def _forms(folder: Path, scratch: Path, stack: ExitStack) -> Iterator[tuple[str, Embed]]:
    """The forms, the one that the others are compared with first."""
    if importlib.util.find_spec("torch") and importlib.util.find_spec("transformers"):
        yield "safetensors F16, torch", form.in_torch(folder)
    derived = gguf.write(folder, scratch / "sample-embed-F16.gguf", "F16")
    yield "GGUF F16, anyform", stack.enter_context(form.served(derived))
    yield "GGUF Q8_0, anyform", stack.enter_context(form.served(folder / GGUF))


def _likeness(vectors: Any, reference: Any) -> str:
    cosines = numpy.sum(vectors * reference, axis=1)
    return f"cosine to the first form at least {cosines.min():.6f}"


def _say(*lines: str) -> None:
    for line in lines:
        sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
