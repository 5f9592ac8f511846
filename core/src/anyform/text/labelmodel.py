"""A loaded model that says which labels fit a text: its own, or those of the request (by entailment)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from anyform.contract.errors import Invalid, Unsupported
from anyform.contract.events import Event, Scores
from anyform.contract.jobs import Classify, Job, Picture, ZeroShot
from anyform.contract.model import Stop
from anyform.text.vectormodel import Floats, Input, Inputs, VectorLoop, VectorWork, fitted, no_picture

HYPOTHESIS = "This example is {}."
"""What a label is put into before a model judges whether a text entails it: transformers' own
(ZeroShotClassificationPipeline)."""


class LabelModel:
    """What `load` gives for a classifier of texts."""

    def __init__(
        self,
        loop: VectorLoop,
        inputs: Inputs,
        *,
        context: int,
        labels: Sequence[str],
        share: Callable[[Floats], Floats],
        entailment: int | None,
        parallel: int,
        template: str = HYPOTHESIS,
    ) -> None:
        """*context*: tokens of one text, or of a text and a label's sentence. *labels*: of a row of logits.

        *share*: scores from such a row. *entailment*: which label says that the second text follows from the first;
        None: the model knows its own labels only. *template*: the sentence that a label takes the place of {} in.
        """
        self.parallel = parallel
        self._loop = loop
        self._inputs = inputs
        self._context = context
        self._labels = labels
        self._share = share
        self._entailment = entailment
        self._template = template

    def generate(self, job: Job, stop: Stop) -> Iterator[Event]:
        """Do *job*. Raises, before any event, Unsupported, Invalid, ContextExceeded and Closed."""
        self._loop.check()
        if isinstance(job, Classify):
            if job.top_k < 1:
                raise Invalid(f"top_k is {job.top_k}.", "It must be 1 or more.")
            texts = [self._inputs.text(text) for text in _texts(job.inputs)]
            return self._classify(
                [fitted(text, f"input {place}", self._context) for place, text in enumerate(texts)], job.top_k, stop
            )
        if isinstance(job, ZeroShot) and self._entailment is not None:
            return self._compare(self._pairs(job), job.labels, self._entailment, stop)
        able = " and scores them against other labels (zero_shot)" if self._entailment is not None else ""
        raise Unsupported(
            f"this model classifies texts (classify){able}; it does not do the task {job.task}.",
            "Use a model that lists the task (`anyform list`).",
        )

    def close(self) -> None:
        """End running jobs with Closed, free everything. Idempotent."""
        self._loop.close()

    def _pairs(self, job: ZeroShot) -> list[Input]:
        """The labels of the first text, those of the second, ..."""
        if not job.labels:
            raise Invalid("labels is empty.", "Name at least one label.")
        sentences = [self._template.replace("{}", label) for label in job.labels]
        return [
            fitted(pair, f"input {place} with label {label!r}", self._context)
            for place, text in enumerate(_texts(job.inputs))
            for label, pair in zip(job.labels, self._inputs.pairs(text, sentences), strict=True)
        ]

    def _classify(self, inputs: Sequence[Input], most: int, stop: Stop) -> Iterator[Event]:
        work = VectorWork(self._loop, inputs, stop)
        yield work.begun()
        for index, row in work.rows():
            yield best(self._labels, self._share(row), index, most)
        yield work.done()

    def _compare(self, pairs: Sequence[Input], labels: Sequence[str], entailment: int, stop: Stop) -> Iterator[Event]:
        work = VectorWork(self._loop, pairs, stop)
        yield work.begun()
        found: dict[int, dict[int, Floats]] = {}
        for place, row in work.rows():
            index, label = divmod(place, len(labels))
            rows = found.setdefault(index, {})
            rows[label] = row
            if len(rows) == len(labels):
                logits = np.stack([rows[one] for one in range(len(labels))])
                yield best(labels, entailed(logits, entailment), index, len(labels))
                del found[index]
        yield work.done()


def entailed(logits: Floats, entailment: int) -> Floats:
    """How likely each label is, from one row of logits for each: one of several, or the only one against its contrary.

    transformers' formulas (ZeroShotClassificationPipeline.postprocess, without multi_label).
    """
    if len(logits) > 1:
        return softmax(logits[:, entailment])
    contradiction = -1 if entailment == 0 else 0
    return softmax(logits[:, [contradiction, entailment]])[:, 1]


def labels_of(named: object, count: int) -> list[str]:
    """The labels of a row of *count* logits. *named*: config.json's `id2label`, whose keys are numbers or text."""
    known = {str(place): label for place, label in named.items()} if isinstance(named, Mapping) else {}
    return [str(known.get(str(place), f"LABEL_{place}")) for place in range(count)]


def entailing(labels: Sequence[str]) -> int | None:
    """Which of a model's labels says that the second text follows from the first; None: it judges no such thing."""
    found = [place for place, label in enumerate(labels) if label.lower().startswith("entail")]
    return found[0] if found and len(labels) > 1 else None


def share(problem: object, labels: int) -> Callable[[Floats], Floats]:
    """Scores from a row of logits. *problem*: config.json's `problem_type`.

    transformers' rule (TextClassificationPipeline.postprocess).
    """
    if problem == "regression":
        return lambda row: row
    if problem == "multi_label_classification" or labels == 1:
        return _sigmoids
    return softmax


def _sigmoids(row: Floats) -> Floats:
    made: Floats = (1.0 / (1.0 + np.exp(-row.astype(np.float64)))).astype(np.float32)
    return made


def softmax(row: Floats) -> Floats:
    """Shares of one along the last axis."""
    parts = np.exp(row - row.max(-1, keepdims=True))
    made: Floats = parts / parts.sum(-1, keepdims=True)
    return made


def best(labels: Sequence[str], scores: Floats, index: int, most: int) -> Scores:
    """The *most* that score highest, best first; of equals the first."""
    order = np.argsort(-scores, kind="stable")[:most]
    return Scores(
        values=tuple(float(scores[place]) for place in order),
        labels=tuple(labels[place] for place in order),
        index=index,
    )


def _texts(inputs: Sequence[str | Picture]) -> list[str]:
    for place, one in enumerate(inputs):
        if isinstance(one, Picture):
            raise no_picture(place, "classifies")
    return [one for one in inputs if isinstance(one, str)]
