"""`python -m anyform_samples.embedding`: trains the sample encoder and exports it; goes on where it was stopped."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from anyform.contract.errors import Fault
from anyform_samples.embedding import export, questions, training
from anyform_samples.embedding.layout import DATA
from anyform_samples.embedding.search import Index

_SHOWN_EVERY = 50
_SAVED_EVERY = 100


def main(words: Sequence[str] | None = None) -> int:
    """Train, print the loss, the time and the retrieval on held-out questions, and write the exports."""
    parser = argparse.ArgumentParser(prog="python -m anyform_samples.embedding", description=__doc__)
    parser.add_argument("--seed", type=int, default=training.Recipe.seed)
    parser.add_argument("--minutes", type=float, help="stop after so long, to be taken up again by the same command")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=DATA, help="where the exports go")
    parser.add_argument("--checkpoint", type=Path, default=Path(".samples/sample-embed.pt"))
    parser.add_argument("--restart", action="store_true", help="leave a checkpoint aside")
    given = parser.parse_args(words)
    try:
        return _train(given)
    except Fault as fault:
        sys.stderr.write(f"{fault}\n")
        return 1


def _train(given: argparse.Namespace) -> int:
    torch.set_num_threads(given.threads)
    run = training.begin(training.Recipe(seed=given.seed))
    given.checkpoint.parent.mkdir(parents=True, exist_ok=True)
    if given.checkpoint.exists() and not given.restart:
        training.resume(run, given.checkpoint)
    count = sum(weights.numel() for weights in run.model.parameters())
    asked = sum(map(len, run.asked.values()))
    _say(f"{count:,} parameters, {len(run.texts)} passages, {asked} questions; at step {run.step}")
    limit = run.seconds + given.minutes * 60 if given.minutes else float("inf")
    while run.step < run.recipe.steps:
        training.advance(run)
        if run.step % _SHOWN_EVERY == 0:
            _say(f"step {run.step} of {run.recipe.steps}, loss {run.loss:.3f}, {run.seconds:.0f} s of processor time")
        if run.step % _SAVED_EVERY == 0 or run.seconds > limit or run.step == run.recipe.steps:
            training.save(run, given.checkpoint)
        if run.seconds > limit:
            _say(f"stopped at step {run.step}; the same command goes on from {given.checkpoint}")
            return 0
    export.write(training.averaged(run), run.tokenizer, given.out)
    found = Index(run.texts, training.embedder(run)).measured(questions.read(questions.HELD_OUT))
    _say(
        f"trained in {run.seconds:.0f} s of processor time, loss {run.loss:.3f}; held-out questions: {found.line()}",
        str(given.out),
    )
    return 0


def _say(*lines: str) -> None:
    for line in lines:
        sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
