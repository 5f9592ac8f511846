"""A loaded model that embeds texts, or scores documents against a query."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from anyform.contract.errors import ContextExceeded, Fault, Invalid, Unsupported
from anyform.contract.events import Done, Event, Finish, Progress, Scores, Usage, Vector
from anyform.contract.jobs import Embed, Job, Picture, Rerank
from anyform.contract.model import Stop

Floats: TypeAlias = NDArray[np.float32]
Pooled: TypeAlias = tuple[int, Floats]
"""Which input, and its pooled output."""


@dataclass(frozen=True, slots=True)
class Input:
    """What one vector or score is made of."""

    tokens: Sequence[int]
    types: Sequence[int] = ()
    """Which of two texts each token is of, where the model wants to know; empty: all of the first."""
    skipped: int = 0
    """Tokens at its start that are read and not pooled."""

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(slots=True, eq=False)
class VectorTicket:
    """One request. Its results come in any order; None ends a cancelled one early."""

    inputs: Sequence[Input]
    stop: Stop
    results: SimpleQueue[Pooled | Fault | None] = field(default_factory=SimpleQueue)
    failed: bool = False


class Inputs(Protocol):
    """Makes inputs of texts, as the model's tokenizer does."""

    size: int
    """Tokens that there are."""

    def text(self, text: str) -> Input:
        """With the marks that the model wants around it."""

    def pairs(self, query: str, documents: Sequence[str]) -> list[Input]:
        """One for each document."""

    def cut(self, whole: Input, most: int) -> Input:
        """Its first tokens, *most* with the marks at its end."""


class VectorLoop(Protocol):
    """Runs tickets in a thread of its own."""

    def submit(self, work: VectorTicket) -> None:
        """Queue *work*. Raises Closed, or what broke the thread."""

    def check(self) -> None:
        """Raise Closed, or what broke the thread, if it takes no more work."""

    def close(self) -> None:
        """Fail all work with Closed, end the thread, free the engine. Idempotent."""


class VectorModel:
    """What `load` gives for a model whose file pools."""

    def __init__(
        self,
        loop: VectorLoop,
        inputs: Inputs,
        *,
        context: int,
        width: int,
        parallel: int,
        score: Callable[[Floats], float] | None = None,
        normalize: bool = True,
    ) -> None:
        """*context*: tokens of one input. *width*: numbers in an output.

        *score*: a number from the pooled output of a pair, for a model that ranks; None: it embeds. *normalize*:
        vectors to length one, also after `dimensions` took a part of them.
        """
        self.parallel = parallel
        self._loop = loop
        self._inputs = inputs
        self._context = context
        self._width = width
        self._score = score
        self._normalize = normalize

    def generate(self, job: Job, stop: Stop) -> Iterator[Event]:
        """Do *job*. Raises, before any event, Unsupported, Invalid, ContextExceeded and Closed."""
        self._loop.check()
        if isinstance(job, Embed) and self._score is None:
            return self._embed(self._embed_inputs(job), job.dimensions, stop)
        if isinstance(job, Rerank) and self._score is not None:
            pairs = self._inputs.pairs(job.query, job.documents)
            named = ((pair, f"document {place} with the query") for place, pair in enumerate(pairs))
            return self._rerank([fitted(pair, name, self._context) for pair, name in named], self._score, stop)
        does = "scores documents (rerank)" if self._score else "makes embeddings (embed)"
        raise Unsupported(
            f"this model {does}; it does not do the task {job.task}.",
            "Use a model that lists the task (`anyform list`).",
        )

    def close(self) -> None:
        """End running jobs with Closed, free everything. Idempotent."""
        self._loop.close()

    def _embed_inputs(self, job: Embed) -> list[Input]:
        if job.dimensions is not None and not 1 <= job.dimensions <= self._width:
            raise Invalid(f"dimensions is {job.dimensions}.", f"This model gives up to {self._width}.")
        return [self._fitted(self._read(part, place), place, job.truncate) for place, part in enumerate(job.inputs)]

    def _read(self, part: str | tuple[int, ...] | Picture, place: int) -> Input:
        if isinstance(part, str):
            return self._inputs.text(part)
        if isinstance(part, Picture):
            raise no_picture(place, "embeds")
        for token in part:
            if not 0 <= token < self._inputs.size:
                raise Invalid(f"input {place} has token {token}; this model has tokens 0 to {self._inputs.size - 1}.")
        return Input(part)

    def _fitted(self, whole: Input, place: int, truncate: bool) -> Input:
        if truncate and len(whole) > self._context:
            return self._inputs.cut(whole, self._context)
        return fitted(whole, f"input {place}", self._context, "Shorten it, or ask for it to be truncated.")

    def _embed(self, inputs: Sequence[Input], dimensions: int | None, stop: Stop) -> Iterator[Event]:
        work = VectorWork(self._loop, inputs, stop)
        yield work.begun()
        kept = dimensions or self._width
        for index, pooled in work.rows():
            vector = unit(pooled[:kept]) if self._normalize else pooled[:kept]
            yield Vector(data=vector.astype("<f4").tobytes(), dimensions=kept, index=index)
        yield work.done()

    def _rerank(self, inputs: Sequence[Input], score: Callable[[Floats], float], stop: Stop) -> Iterator[Event]:
        work = VectorWork(self._loop, inputs, stop)
        yield work.begun()
        values = [0.0] * len(inputs)
        for place, pooled in work.rows():
            values[place] = score(pooled)
        if not work.cancelled:
            yield Scores(values=tuple(values))
        yield work.done()


class VectorWork:
    """One job's way through a loop."""

    def __init__(self, loop: VectorLoop, inputs: Sequence[Input], stop: Stop, tokens: int | None = None) -> None:
        """*tokens*: of all texts; None: those of *inputs*."""
        self.cancelled = False
        self._loop = loop
        self._inputs = inputs
        self._stop = stop
        self._tokens = sum(map(len, inputs)) if tokens is None else tokens
        self._started = time.perf_counter()

    def begun(self) -> Progress:
        """The first event: the job is in order."""
        return Progress(stage="prompt", total=self._tokens)

    def rows(self) -> Iterator[Pooled]:
        """In any order; ends early where the job is cancelled. Raises what the loop says."""
        if not self._inputs:
            return
        ticket = VectorTicket(self._inputs, self._stop)
        try:
            self._loop.submit(ticket)
            for _ in self._inputs:
                result = ticket.results.get()
                if isinstance(result, Fault):
                    raise result
                if result is None:
                    self.cancelled = True
                    return
                yield result
        finally:
            ticket.failed = True  # whoever reads no further needs no further results

    def done(self) -> Done:
        """The last event."""
        return Done(
            finishes=(Finish(reason="cancelled" if self.cancelled else "stop"),),
            usage=Usage(prompt_tokens=self._tokens),
            prompt_s=time.perf_counter() - self._started,
        )


def fitted(whole: Input, name: str, context: int, remedy: str = "Shorten it.") -> Input:
    """*whole*, which is called *name*. Raises Invalid where it is empty, ContextExceeded where it is too long."""
    if not whole.tokens:
        raise Invalid(f"{name} is empty.", "Send at least one token of text.")
    if len(whole) > context:
        raise ContextExceeded(
            f"{name} has {len(whole)} tokens; the context has {context}.",
            remedy,
            prompt_tokens=len(whole),
            context=context,
        )
    return whole


def no_picture(place: int, does: str) -> Unsupported:
    """Why input *place* is refused by a model that *does* so with texts."""
    return Unsupported(
        f"input {place} is a picture; this model {does} text.", "Use a model that lists vision (`anyform list`)."
    )


def sigmoid(value: float) -> float:
    """What a single logit says as a probability."""
    return float(1.0 / (1.0 + np.exp(-np.float64(value))))


def score(labels: int, function: Callable[[Floats], Floats] | None = None) -> Callable[[Floats], float]:
    """What a row of logits says of a pair: of two the share of the second, of one what *function* makes of it.

    As sentence_transformers' CrossEncoder.predict; None: a sigmoid.
    """
    if labels == 2:
        return lambda row: sigmoid(float(row[1]) - float(row[0]))
    if function is None:
        return lambda row: sigmoid(float(row[0]))
    return lambda row: float(function(row[:1])[0])


def unit(vector: Floats) -> Floats:
    """*vector* made as long as one; zero stays."""
    length = float(np.linalg.norm(vector.astype(np.float64)))
    return vector / np.float32(length) if length > 0.0 else vector
