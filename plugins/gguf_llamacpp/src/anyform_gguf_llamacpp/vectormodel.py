"""A loaded model that embeds texts, or scores documents against a query."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np

from anyform.contract.errors import ContextExceeded, Fault, Invalid, Unsupported
from anyform.contract.events import Done, Event, Finish, Progress, Scores, Usage, Vector
from anyform.contract.jobs import Embed, Job, Rerank
from anyform.contract.model import Stop
from anyform_gguf_llamacpp.engine import Floats, Vocabulary
from anyform_gguf_llamacpp.vectorloop import Pooled, VectorLoop, VectorTicket


class VectorModel:
    """What `load` gives for a model whose file pools."""

    def __init__(
        self,
        loop: VectorLoop,
        vocabulary: Vocabulary,
        *,
        context: int,
        width: int,
        parallel: int,
        ranks: bool,
        pair_template: str = "",
    ) -> None:
        """*context*: tokens of one input. *width*: numbers in an output. *ranks*: scores, not embeddings.

        *pair_template*: how a query and a document are put together; empty: with the tokenizer's own marks.
        """
        self.parallel = parallel
        self._loop = loop
        self._vocabulary = vocabulary
        self._context = context
        self._width = width
        self._ranks = ranks
        self._pair_template = pair_template

    def generate(self, job: Job, stop: Stop) -> Iterator[Event]:
        """Do *job*. Raises, before any event, Unsupported, Invalid, ContextExceeded and Closed."""
        self._loop.check()
        if isinstance(job, Embed) and not self._ranks:
            return self._embed(self._embed_inputs(job), job.dimensions, stop)
        if isinstance(job, Rerank) and self._ranks:
            return self._rerank(self._pairs(job), stop)
        does = "scores documents (rerank)" if self._ranks else "makes embeddings (embed)"
        raise Unsupported(
            f"this model {does}; it does not do the task {job.task}.",
            "Use a model that lists the task (`anyform list`).",
        )

    def close(self) -> None:
        """End running jobs with Closed, free everything. Idempotent."""
        self._loop.close()

    def _embed_inputs(self, job: Embed) -> list[list[int]]:
        if job.dimensions is not None and not 1 <= job.dimensions <= self._width:
            raise Invalid(f"dimensions is {job.dimensions}.", f"This model gives up to {self._width}.")
        return [self._fitted(self._tokens(part, place), place, job.truncate) for place, part in enumerate(job.inputs)]

    def _tokens(self, part: str | tuple[int, ...], place: int) -> list[int]:
        if isinstance(part, str):
            return self._vocabulary.tokenize(part, affixes=True, special=True)
        for token in part:
            if not 0 <= token < self._vocabulary.size:
                raise Invalid(
                    f"input {place} has token {token}; this model has tokens 0 to {self._vocabulary.size - 1}."
                )
        return list(part)

    def _fitted(self, tokens: list[int], place: int, truncate: bool = False) -> list[int]:
        if not tokens:
            raise Invalid(f"input {place} is empty.", "Send at least one token of text.")
        if len(tokens) <= self._context:
            return tokens
        if not truncate:
            raise ContextExceeded(
                f"input {place} has {len(tokens)} tokens; the context has {self._context}.",
                "Shorten it, or ask for it to be truncated.",
                prompt_tokens=len(tokens),
                context=self._context,
            )
        marked = self._vocabulary.adds_eos or self._vocabulary.adds_sep
        return [*tokens[: self._context - 1], tokens[-1]] if marked else tokens[: self._context]

    def _embed(self, inputs: Sequence[Sequence[int]], dimensions: int | None, stop: Stop) -> Iterator[Event]:
        started = time.perf_counter()
        yield self._progress(inputs)
        kept = dimensions or self._width
        cancelled = False
        for result in self._results(inputs, stop):
            if result is None:
                cancelled = True
                break
            index, pooled = result
            yield Vector(data=_unit(pooled[:kept]).astype("<f4").tobytes(), dimensions=kept, index=index)
        yield self._done(inputs, started, cancelled)

    def _rerank(self, inputs: Sequence[Sequence[int]], stop: Stop) -> Iterator[Event]:
        started = time.perf_counter()
        yield self._progress(inputs)
        values = [0.0] * len(inputs)
        for result in self._results(inputs, stop):
            if result is None:
                yield self._done(inputs, started, True)
                return
            values[result[0]] = self._score(result[1])
        yield Scores(values=tuple(values))
        yield self._done(inputs, started, False)

    def _score(self, pooled: Floats) -> float:
        """0 to 1: the sigmoid of a single logit; of several outputs the first, which is a probability already."""
        first = float(pooled[0])
        return first if self._width > 1 else float(1.0 / (1.0 + np.exp(-np.float64(first))))

    def _results(self, inputs: Sequence[Sequence[int]], stop: Stop) -> Iterator[Pooled | None]:
        if not inputs:
            return
        ticket = VectorTicket(inputs, stop)
        try:
            self._loop.submit(ticket)
            for _ in inputs:
                result = ticket.results.get()
                if isinstance(result, Fault):
                    raise result
                yield result
        finally:
            ticket.failed = True  # whoever reads no further needs no further results

    @staticmethod
    def _progress(inputs: Sequence[Sequence[int]]) -> Progress:
        return Progress(stage="prompt", total=sum(map(len, inputs)))

    @staticmethod
    def _done(inputs: Sequence[Sequence[int]], started: float, cancelled: bool) -> Done:
        return Done(
            finishes=(Finish(reason="cancelled" if cancelled else "stop"),),
            usage=Usage(prompt_tokens=sum(map(len, inputs))),
            prompt_s=time.perf_counter() - started,
        )

    def _pairs(self, job: Rerank) -> list[list[int]]:
        words = self._vocabulary
        if self._pair_template:
            texts = [
                self._pair_template.replace("{query}", job.query).replace("{document}", document)
                for document in job.documents
            ]
            made = [words.tokenize(text, affixes=False, special=True) for text in texts]
        else:
            query = words.tokenize(job.query, affixes=False, special=False)
            made = [
                self._joined(query, words.tokenize(document, affixes=False, special=False))
                for document in job.documents
            ]
        return [self._fitted(tokens, place) for place, tokens in enumerate(made)]

    def _joined(self, query: Sequence[int], document: Sequence[int]) -> list[int]:
        """`BOS query EOS SEP document EOS`, of which each mark is there if the tokenizer adds it (as llama-server)."""
        words = self._vocabulary
        begin = [words.bos] if words.adds_bos else []
        end = [words.eos if words.eos >= 0 else words.sep] if words.adds_eos else []
        between = [words.sep] if words.adds_sep else []
        return [*begin, *query, *end, *between, *document, *end]


def _unit(vector: Floats) -> Floats:
    length = float(np.linalg.norm(vector.astype(np.float64)))
    return vector / np.float32(length) if length > 0.0 else vector
