"""Checks of models that answer several inputs at once: vectors and scores, each input's own, and pictures refused."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import pytest

from anyform.contract.errors import Category, Fault
from anyform.contract.events import Event, Scores, Vector
from anyform.contract.facts import Plan
from anyform.contract.jobs import Chat, Classify, Embed, Job, Message, Picture, Rerank, ZeroShot
from anyform.contract.model import LoadedModel
from anyform.testing.asking import Asked
from anyform.testing.model_checks import ModelChecks
from anyform.testing.picture import png
from anyform.testing.running import run, within

Several = Embed | Classify | ZeroShot
REFUSED = (Category.UNSUPPORTED, Category.INVALID)


class InputChecks(ModelChecks):
    """Needs the engine; skipped where it is not installed."""

    def test_every_input_is_answered(self, where: str, plans: list[Plan], asked: Asked) -> None:
        for model, job in self._several(where, plans, asked):
            events = within(self.wait_s, partial(run, model, job), job.task).events
            wanted = 1 if isinstance(job, Rerank) else len(job.inputs)
            indexes = sorted(event.index for event in events if isinstance(event, Vector | Scores))
            assert indexes == list(range(wanted)), (
                f"{job.task} of {wanted} inputs answers those of index {indexes}. Yield one event for each."
            )
            for event in events:
                _check_whole(job, event)

    def test_an_input_is_the_same_alone_and_among_others(self, where: str, plans: list[Plan], asked: Asked) -> None:
        for model, job in self._several(where, plans, asked):
            if isinstance(job, Rerank):
                continue
            together = _numbers(within(self.wait_s, partial(run, model, job), job.task).events)
            for index, one in enumerate(job.inputs):
                single: Job = replace(job, inputs=(one,))  # type: ignore[arg-type]  # of the same kind of job
                alone = _numbers(within(self.wait_s, partial(run, model, single), job.task).events).get(0, {})
                apart = _apart(alone, together.get(index, {}))
                assert apart <= self.near, (
                    f"{job.task}: what input {index} gives alone and among {len(job.inputs)} lies {apart:.2g} apart, "
                    f"and {self.near:g} is allowed. Mask what pads a batch; if it is the engine's precision, set near."
                )

    def test_pictures_that_it_cannot_see_are_refused(self, where: str, plans: list[Plan], asked: Asked) -> None:
        for plan in plans:
            job = _with_picture(plan.metadata.tasks)
            if job is None or "vision" in plan.metadata.features:
                continue
            fault, seen = self._refusal(self._model(where, plan, asked), job)
            told = isinstance(fault, Fault) and fault.category in REFUSED
            said = f"{type(fault).__name__} ({fault})" if fault else f"{len(seen)} events"
            assert told, f"a picture in {job.task}, which the model cannot see, gives {said}. Raise Unsupported."
            assert not seen, f"the refusal of a picture comes after {type(seen[0]).__name__}. Raise it before."

    def _several(
        self, where: str, plans: list[Plan], asked: Asked
    ) -> Iterator[tuple[LoadedModel, Embed | Classify | ZeroShot | Rerank]]:
        """Each plan's jobs of several inputs; skipped where there are none."""
        jobs = [(plan, job) for plan in plans for job in self.jobs(plan.metadata) if isinstance(job, Several | Rerank)]
        if not jobs:
            pytest.skip("these models take no several inputs")
        for plan, job in jobs:
            yield self._model(where, plan, asked), job


def _check_whole(job: Job, event: Event) -> None:
    """That a vector is as long as it says, scores are as many as they should be, and all are numbers."""
    if isinstance(event, Vector):
        told = f"a vector of {event.dimensions} dimensions has {len(event.data)} bytes"
        assert len(event.data) == 4 * event.dimensions, f"{told}. Pack that many little-endian float32."
    if isinstance(event, Scores):
        wanted = len(job.documents) if isinstance(job, Rerank) else len(event.labels)
        assert len(event.values) == wanted > 0, (
            f"{job.task} gives {len(event.values)} scores for {wanted} documents or labels. Give each its own."
        )
    strange = [number for number in _values(event) if not math.isfinite(number)]
    assert not strange, f"{job.task} gives {strange[0]}, which is no number. Look for a division by zero."


def _values(event: Event) -> Sequence[float]:
    if isinstance(event, Vector):
        return struct.unpack(f"<{len(event.data) // 4}f", event.data)
    return event.values if isinstance(event, Scores) else ()


def _numbers(events: Sequence[Event]) -> dict[int, dict[str, float]]:
    """Index of an input -> its numbers, by label or place."""
    found: dict[int, dict[str, float]] = {}
    for event in events:
        if isinstance(event, Vector | Scores):
            labels = event.labels if isinstance(event, Scores) else ()
            names = labels or [str(place) for place in range(len(_values(event)))]
            found[event.index] = dict(zip(names, _values(event), strict=False))
    return found


def _apart(one: dict[str, float], other: dict[str, float]) -> float:
    """The widest difference, as a share of the largest number; endless where they are not of the same things."""
    if one.keys() != other.keys():
        return math.inf
    widest = max((abs(one[name] - other[name]) for name in one), default=0.0)
    return widest / max(1e-9, *map(abs, one.values())) if widest else 0.0


def _with_picture(tasks: Sequence[str]) -> Job | None:
    """A job that shows a picture, for the first of *tasks* that may have one."""
    picture = Picture(data=png(), media_type="image/png")
    known: dict[str, Job] = {
        "chat": Chat(messages=(Message(role="user", parts=(picture,)),)),
        "embed": Embed(inputs=(picture,)),
        "classify": Classify(inputs=(picture,)),
        "zero_shot": ZeroShot(inputs=(picture,), labels=("boat", "sea")),
    }
    return next((known[task] for task in tasks if task in known), None)
