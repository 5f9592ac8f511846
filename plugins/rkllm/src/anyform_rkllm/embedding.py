"""Texts to vectors: the last layer's state of the last token, of length one."""

from __future__ import annotations

import math
import sys
import time
from array import array
from collections.abc import Sequence
from dataclasses import replace

from anyform.contract.errors import ContextExceeded, Invalid, Unsupported
from anyform.contract.events import Done, Finish, Usage, Vector
from anyform.contract.jobs import Embed, Picture
from anyform.text.words import Words
from anyform_rkllm.engine import Engine, EngineFailed, Hidden, Run
from anyform_rkllm.history import History
from anyform_rkllm.layout import Mode
from anyform_rkllm.prompting import Prompting, checked
from anyform_rkllm.work import Work


class NoVector(EngineFailed):
    """The library gave no hidden states."""

    code = "rkllm.no_vector"


class Embedding:
    """One job: its inputs one after another."""

    def __init__(self, engine: Engine, history: History, job: Embed, prompting: Prompting) -> None:
        """Raises ContextExceeded, Invalid, Unsupported."""
        self._engine, self._history, self._kept = engine, history, job.dimensions
        width = prompting.wording.width
        if job.dimensions is not None and job.dimensions < 1:
            raise _wrong_dimensions(job.dimensions, width)
        if job.dimensions is not None and width is not None and job.dimensions > width:
            raise _wrong_dimensions(job.dimensions, width)
        self._runs = [_run(part, place, job.truncate, prompting) for place, part in enumerate(job.inputs)]
        self.tokens = sum(len(run.tokens) or prompting.least(run.text) for run in self._runs)
        """Of all inputs; without a tokenizer at the least."""

    def do(self, work: Work) -> Done:
        """In the job's turn."""
        began = time.perf_counter()
        measured = 0
        for index, run in enumerate(self._runs):
            if work.cancelled:
                break
            if self._engine.abi.keeps_history and not self._history.empty:
                self._engine.clear()
                self._history.cleared()
            end = self._engine.run(run, lambda text, token: not work.cancelled, work.stop)
            if work.cancelled:
                break
            if end.hidden is None or not end.hidden.tokens or not end.hidden.width:
                raise NoVector("the library gave no hidden states.", "Check that the model is one for embeddings.")
            measured += end.perf.prompt_tokens if end.perf else 0
            work.tell(vector(end.hidden, self._kept, index))
        return Done(
            finishes=(Finish(reason="cancelled" if work.cancelled else "stop"),),
            usage=Usage(prompt_tokens=max(self.tokens, measured)),
            prompt_s=time.perf_counter() - began,
        )


def vector(hidden: Hidden, kept: int | None, index: int) -> Vector:
    """The last row's first *kept* numbers, made as long as one; zero stays. Raises Invalid for too many."""
    if kept is not None and kept > hidden.width:
        raise _wrong_dimensions(kept, hidden.width)
    count = kept or hidden.width
    row = 4 * hidden.width * (hidden.tokens - 1)
    numbers = array("f")
    numbers.frombytes(hidden.data[row : row + 4 * count])
    if sys.byteorder == "big":
        numbers.byteswap()
    length = math.sqrt(math.fsum(number * number for number in numbers))
    unit = array("f", (number / length if length > 0 else number for number in numbers))
    if sys.byteorder == "big":
        unit.byteswap()
    return Vector(data=unit.tobytes(), dimensions=count, index=index)


def _run(part: str | Sequence[int] | Picture, place: int, truncate: bool, prompting: Prompting) -> Run:
    name = f"input {place}"
    if isinstance(part, Picture):
        raise Unsupported(f"{name} is a picture; this model embeds text.", "Send text.")
    if isinstance(part, str):
        if not part:
            raise Invalid(f"{name} is empty.", "Send at least one token of text.")
        run = prompting.raw_text(part, name)
    else:
        run = Run(tokens=checked(prompting.wording.words, part, name))
    used, most = len(run.tokens) or prompting.least(run.text), prompting.context - 1  # the library keeps one free
    if used > most and truncate and run.tokens:
        tail = run.tokens[len(run.tokens) - _tail(part, prompting.wording.words) :]
        return replace(run, tokens=[*run.tokens[: most - len(tail)], *tail][:most], mode=Mode.HIDDEN)
    if used > most:
        raise ContextExceeded(
            f"{name} has {used} tokens{'' if run.tokens else ' or more'}; context {prompting.context} takes {most}.",
            "Shorten it, or ask for it to be truncated, which needs the model's tokenizer.",
            prompt_tokens=used,
            context=prompting.context,
        )
    return replace(run, mode=Mode.HIDDEN)


def _tail(part: str | Sequence[int], words: Words | None) -> int:
    """How many tokens the tokenizer puts behind a text: the last one's state is the vector."""
    if words is None or not isinstance(part, str):
        return 0
    plain, whole = (words.tokenize("x", affixes=affixes, special=False) for affixes in (False, True))
    ends = range(len(whole), len(plain) - 1, -1)
    return next((len(whole) - end for end in ends if whole[end - len(plain) : end] == plain), 0)


def _wrong_dimensions(asked: int, width: int | None) -> Invalid:
    may = f"This model gives up to {width}." if width else "It must be 1 or more."
    return Invalid(f"dimensions is {asked}.", may, param="dimensions")
