"""`python -m anyform_samples.embedding`: trains the sample encoder and its teachers; goes on where it was stopped."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from anyform.contract.errors import Fault
from anyform_samples.embedding import export, questions, training
from anyform_samples.embedding.layout import DATA
from anyform_samples.embedding.search import Index
from anyform_samples.embedding.training import Run

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
    given.checkpoint.parent.mkdir(parents=True, exist_ok=True)
    until = time.process_time() + given.minutes * 60 if given.minutes else float("inf")
    recipe = training.shipped(given.seed)
    teachers: list[Run] = []
    for number, lesson in enumerate(recipe.teachers, 1):
        _say(f"teacher {number} of {len(recipe.teachers)}")
        path = given.checkpoint.with_stem(f"{given.checkpoint.stem}-teacher-{number}")
        teachers.append(_taken_on(training.begin(lesson), path, given.restart, until))
        if teachers[-1].step < lesson.steps:
            return 0
    _say("the encoder itself")
    run = _taken_on(training.begin(recipe, teachers), given.checkpoint, given.restart, until)
    if run.step < recipe.steps:
        return 0
    export.write(training.averaged(run), run.tokenizer, given.out)
    found = Index(run.texts, training.embedder(run)).measured(questions.read(questions.HELD_OUT))
    seconds = sum(each.seconds for each in (*teachers, run))
    _say(f"trained in {seconds:.0f} s of processor time; held-out questions: {found.line()}", str(given.out))
    return 0


def _taken_on(run: Run, checkpoint: Path, restart: bool, until: float) -> Run:
    """The run, taken from its checkpoint to its end, or to where it is when the process has used *until* seconds."""
    if checkpoint.exists() and not restart:
        training.resume(run, checkpoint)
    count = sum(weights.numel() for weights in run.model.parameters())
    asked = sum(map(len, run.asked.values()))
    _say(f"{count:,} parameters, {len(run.texts)} passages, {asked} questions; at step {run.step}")
    while run.step < run.recipe.steps:
        training.advance(run)
        stopped = time.process_time() > until
        if run.step % _SHOWN_EVERY == 0:
            _say(f"step {run.step} of {run.recipe.steps}, loss {run.loss:.3f}, {run.seconds:.0f} s of processor time")
        if run.step % _SAVED_EVERY == 0 or stopped or run.step == run.recipe.steps:
            training.save(run, checkpoint)
        if stopped and run.step < run.recipe.steps:
            _say(f"stopped at step {run.step}; the same command goes on from {checkpoint}")
            break
    return run


def _say(*lines: str) -> None:
    for line in lines:
        sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
