"""A loaded model that scores pictures against labels, or embeds them, and texts with them where it knows both."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from anyform.contract.errors import Invalid, Unsupported
from anyform.contract.events import Event, Text, Vector
from anyform.contract.jobs import Answer, Classify, Embed, Job, Picture, ZeroShot
from anyform.contract.model import Stop
from anyform.picture.pixels import Pixels
from anyform.picture.seen import Seen
from anyform.picture.texts import Texts
from anyform.text.labelmodel import best
from anyform.text.vectormodel import Floats, VectorLoop, VectorWork, unit

SIGLIP_TOKENS = 64
"""As many as transformers' zero-shot-image-classification pipeline fills texts up to; SigLIP learnt on nothing else."""
TEMPLATE = "This is a photo of {}."
"""That pipeline's hypothesis_template."""
_REMEMBERED = 4096
"""Texts of labels whose vectors are kept: programs ask with the same ones again and again."""


@dataclass(frozen=True, slots=True)
class Ability:
    """What a model does: what is None, it does not."""

    labels: Sequence[str] = ()
    """Of its rows; empty: they are vectors."""
    share: Callable[[Floats], Floats] | None = None
    """Scores from a row of logits."""
    alike: Callable[[Floats, Floats], Floats] | None = None
    """Scores of labels from a picture's vector and theirs, one a row."""
    template: str = "{}"
    """How a label is put into a sentence."""
    vectors: bool = False
    answers: bool = False
    """Whether its labels are answers to a question."""

    @property
    def words(self) -> str:
        """For whoever asked for something else."""
        able = {
            "answers questions about pictures (answer)": self.answers,
            "classifies pictures (classify)": self.share is not None and not self.answers,
            "scores pictures against labels (zero_shot)": self.alike is not None,
            "makes embeddings of pictures (embed)": self.vectors,
        }
        return " and ".join(what for what, true in able.items() if true)


class PictureModel:
    """What `load` gives for it."""

    def __init__(
        self,
        loop: VectorLoop,
        pixels: Pixels,
        texts: Texts | None,
        ability: Ability,
        *,
        width: int,
        parallel: int,
        normalize: bool = True,
    ) -> None:
        """*width*: numbers in a row. *normalize*: vectors to length one."""
        self.parallel = parallel
        self._loop = loop
        self._pixels = pixels
        self._texts = texts
        self._does = ability
        self._width = width
        self._normalize = normalize
        self._labels = Remembered(_REMEMBERED)

    def generate(self, job: Job, stop: Stop) -> Iterator[Event]:
        """Do *job*. Raises, before any event, Unsupported, Invalid, ContextExceeded and Closed."""
        self._loop.check()
        if isinstance(job, Embed) and self._does.vectors:
            return self._embed(self._embedded(job), job.dimensions, stop)
        if isinstance(job, Classify) and self._does.share is not None and not self._does.answers:
            if job.top_k < 1:
                raise Invalid(f"top_k is {job.top_k}.", "It must be 1 or more.")
            return self._classify(self._pictures(job.inputs), self._does.share, job.top_k, stop)
        if isinstance(job, ZeroShot) and self._does.alike is not None:
            return self._compare(self._pictures(job.inputs), self._written(job.labels), job.labels, stop)
        if isinstance(job, Answer) and self._does.answers:
            return self._answer(self._asked(job), stop)
        raise Unsupported(
            f"this model {self._does.words}; it does not do the task {job.task}.",
            "Use a model that lists the task (`anyform list`).",
        )

    def close(self) -> None:
        """End running jobs with Closed, free everything. Idempotent."""
        self._loop.close()

    def _pictures(self, inputs: Sequence[str | Picture]) -> list[Seen]:
        for place, one in enumerate(inputs):
            if not isinstance(one, Picture):
                raise Invalid(f"input {place} is text; this model {self._does.words}.", "Send pictures.")
        pictures = [one for one in inputs if isinstance(one, Picture)]
        return [self._seen(one, f"input {place}") for place, one in enumerate(pictures)]

    def _seen(self, given: Picture, place: str) -> Seen:
        return Seen((), arrays=self._pixels.read(given, place))

    def _embedded(self, job: Embed) -> list[Seen]:
        if job.dimensions is not None and not 1 <= job.dimensions <= self._width:
            raise Invalid(f"dimensions is {job.dimensions}.", f"This model gives up to {self._width}.")
        return [self._read(one, f"input {place}", job.truncate) for place, one in enumerate(job.inputs)]

    def _read(self, given: str | tuple[int, ...] | Picture, place: str, truncate: bool) -> Seen:
        if isinstance(given, Picture):
            return self._seen(given, place)
        if self._texts is None:
            raise Unsupported(
                f"{place} is text; this model embeds pictures.", "Use one that embeds text, or both (CLIP, SigLIP)."
            )
        if isinstance(given, str):
            return self._texts.read(given, place, truncate=truncate)
        return self._texts.tokens(given, place, truncate=truncate)

    def _written(self, labels: Sequence[str]) -> list[Seen]:
        assert self._texts is not None
        if not labels:
            raise Invalid("labels is empty.", "Name at least one label.")
        texts = [self._does.template.replace("{}", label) for label in labels]
        return [self._texts.read(text, f"label {place}") for place, text in enumerate(texts)]

    def _asked(self, job: Answer) -> Seen:
        assert self._texts is not None
        if not job.question.strip():
            raise Invalid("question is empty.", "Ask something about the picture.")
        question = self._texts.read(job.question, "the question")
        return Seen(question.tokens, arrays=self._pixels.read(job.picture, "the picture"))

    def _embed(self, inputs: Sequence[Seen], dimensions: int | None, stop: Stop) -> Iterator[Event]:
        work = VectorWork(self._loop, inputs, stop)
        yield work.begun()
        kept = dimensions or self._width
        for index, row in work.rows():
            vector = unit(row[:kept]) if self._normalize else row[:kept]
            yield Vector(data=vector.astype("<f4").tobytes(), dimensions=kept, index=index)
        yield work.done()

    def _classify(
        self, inputs: Sequence[Seen], share: Callable[[Floats], Floats], top: int, stop: Stop
    ) -> Iterator[Event]:
        work = VectorWork(self._loop, inputs, stop)
        yield work.begun()
        for index, row in work.rows():
            yield best(self._does.labels, share(row), index, top)
        yield work.done()

    def _answer(self, asked: Seen, stop: Stop) -> Iterator[Event]:
        work = VectorWork(self._loop, [asked], stop)
        yield work.begun()
        for _, row in work.rows():
            yield Text(text=self._does.labels[int(np.argmax(row))])
        yield work.done()

    def _compare(
        self, pictures: Sequence[Seen], written: Sequence[Seen], labels: Sequence[str], stop: Stop
    ) -> Iterator[Event]:
        assert self._does.alike is not None
        known = {one.tokens: self._labels.get(one.tokens) for one in written}
        new = [one for one in {one.tokens: one for one in written}.values() if known[one.tokens] is None]
        work = VectorWork(self._loop, [*new, *pictures], stop, sum(map(len, written)))
        yield work.begun()
        found = dict(work.rows())
        if not work.cancelled:
            for place, one in enumerate(new):
                known[one.tokens] = self._labels.keep(one.tokens, found[place])
            vectors = np.stack([row for row in (known[one.tokens] for one in written) if row is not None])
            for index in range(len(pictures)):
                yield best(labels, self._does.alike(found[len(new) + index], vectors), index, len(labels))
        yield work.done()


class Remembered:
    """Vectors of texts, those that were asked for last. May be called by several threads."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._rows: OrderedDict[Sequence[int], Floats] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, tokens: Sequence[int]) -> Floats | None:
        """None: not known."""
        with self._lock:
            if tokens in self._rows:
                self._rows.move_to_end(tokens)
            return self._rows.get(tokens)

    def keep(self, tokens: Sequence[int], row: Floats) -> Floats:
        """*row*, from now on known."""
        with self._lock:
            self._rows[tokens] = row
            while len(self._rows) > self._most:
                self._rows.popitem(last=False)
        return row


def sigmoid(row: Floats) -> Floats:
    """Each on its own."""
    made: Floats = (1.0 / (1.0 + np.exp(-row.astype(np.float64)))).astype(np.float32)
    return made


def resemblance(scale: float, bias: float, share: Callable[[Floats], Floats]) -> Callable[[Floats, Floats], Floats]:
    """CLIP's and SigLIP's: scores from cosines, scaled and shifted as was learnt."""

    def alike(picture: Floats, texts: Floats) -> Floats:
        cosines = (texts / np.linalg.norm(texts, axis=-1, keepdims=True)) @ unit(picture)
        return share(cosines * np.float32(scale) + np.float32(bias))

    return alike
