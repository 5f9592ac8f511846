"""Checks of what a plugin loads: the engine's absence, one Done last, Stop, threads, refusals, close."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from anyform.contract.errors import Category, ContextExceeded, EngineMissing, Fault
from anyform.contract.events import Done, Event, Progress
from anyform.contract.facts import Capabilities, Plan, Settings
from anyform.contract.jobs import (
    Chat,
    Complete,
    EditImage,
    Image,
    Job,
    Rerank,
    Sound,
    Speak,
    Transcribe,
    VaryImage,
)
from anyform.contract.model import LoadedModel, Stop
from anyform.testing import outside
from anyform.testing.asking import Asked
from anyform.testing.painted import check_painted
from anyform.testing.running import Run, meanwhile, run, within
from anyform.testing.subject import PAINTING_TASKS, TEXT_TASKS, Subject, check_wire
from anyform.workers.wire import pack

UNKNOWN_OPTION = "no_plugin_has_this_option"


class ModelChecks(Subject):
    """Needs the engine, but for the first; skipped where it is not installed."""

    def test_missing_engine_names_its_command(self, plans: list[Plan], asked: Asked, tmp_path: Path) -> None:
        engines = [(plan, backend) for plan in plans if (backend := self._backend(asked, plan)).engine]
        if not engines:
            pytest.skip("no backend here needs an engine")
        for plan, backend in engines:
            check_wire(plan)
            (tmp_path / "plan").write_bytes(pack(plan))
            ends = outside.loaded_without(self.module, outside.engine_modules(backend), tmp_path / "plan")
            for hook, end in ends.items():
                said = f"{end.get('message', '')} {end.get('hint', '')}"
                assert end.get("code") == EngineMissing.code, (
                    f"without {', '.join(backend.engine)}, {hook} ends with {end.get('raised') or end}. "
                    f"Catch ImportError and raise EngineMissing(..., hint with {backend.install!r})."
                )
                assert backend.install in said, f"{hook}: EngineMissing does not quote {backend.install!r}: {said}"

    def test_probe_tells_the_truth(self, asked: Asked) -> None:
        for backend in self._backends(asked):
            self._need_engine(backend)
            found = asked.ask("probe_backend", backend=backend)
            assert isinstance(found, Capabilities), f"probe_backend returned {type(found).__name__}."
            assert found.engine_version, "probe_backend tells no engine_version."
            check_wire(found)

    def test_one_done_last(self, where: str, plans: list[Plan], asked: Asked) -> None:
        for job, done in self._runs(where, plans, asked):
            dones = [event for event in done.events if isinstance(event, Done)]
            assert len(dones) == 1, f"{job.task} yields {len(dones)} Done. Yield exactly one."
            last = done.events[-1]
            assert isinstance(last, Done), (
                f"{job.task} yields {type(last).__name__} after Done. Done is the last event."
            )
            if isinstance(job, Chat | Complete):
                count = len(last.finishes)
                assert count == job.generation.n, f"Done has {count} finishes for {job.generation.n} answers."

    def test_progress_comes_first(self, where: str, plans: list[Plan], asked: Asked) -> None:
        for job, done in self._runs(where, plans, asked):
            if job.task in TEXT_TASKS:
                first = done.events[0]
                assert isinstance(first, Progress), (
                    f"the first event of {job.task} is {type(first).__name__}. Yield Progress(stage='prompt', ...) as "
                    f"soon as the job is known to be valid and to fit: a server answers 200 then."
                )

    def test_pictures_come_as_promised(self, where: str, plans: list[Plan], asked: Asked) -> None:
        painting = [plan for plan in plans if set(PAINTING_TASKS) & set(plan.metadata.tasks)]
        if not painting:
            pytest.skip("none of these models paints")
        for job, done in self._runs(where, painting, asked):
            if isinstance(job, Image | EditImage | VaryImage):
                check_painted(job, done.events)

    def test_events_survive_the_wire(self, plans: list[Plan], asked: Asked) -> None:
        for _, done in self._runs("here", plans, asked):
            for event in done.events:
                check_wire(event)

    def test_answers_do_not_depend_on_the_place(self, plans: list[Plan], asked: Asked) -> None:
        if set(self.where) < {"here", "worker"}:
            pytest.skip("runs in one place only")
        here, worker = (self._runs(where, plans, asked) for where in ("here", "worker"))
        for (job, one), (_, other) in zip(here, worker, strict=True):
            assert one.output() == other.output(), f"{job.task} answers differently here and in a worker."

    def test_stop_before_the_start(self, where: str, plans: list[Plan], asked: Asked) -> None:
        for model, job in self._long(where, plans, asked):
            stop = Stop()
            stop.set()
            stopped = within(self.stop_s, partial(run, model, job, stop), "a stopped job")
            _check_stopped(stopped, "before generate")

    def test_stop_in_the_middle(self, where: str, plans: list[Plan], asked: Asked) -> None:
        for model, job in self._long(where, plans, asked):
            stopped = within(self.stop_s, partial(run, model, job, stop_after=3), "a stopped job")
            _check_stopped(stopped, "after three events")

    def test_an_abandoned_job_frees_its_place(self, where: str, plans: list[Plan], asked: Asked) -> None:
        for plan, job in self._endless(plans):
            model = self._load(where, plan, asked)
            for _ in range(model.parallel + 1):
                within(self.stop_s, partial(_abandon, model, job), "a job after abandoned ones")
            model.close()

    def test_jobs_overlap(self, where: str, plans: list[Plan], asked: Asked) -> None:
        for plan in plans:
            model = self._model(where, plan, asked)
            jobs = self.jobs(plan.metadata)
            alone = [within(self.wait_s, partial(run, model, job), job.task).output() for job in jobs]
            together = within(self.wait_s, partial(meanwhile, model, jobs), "four threads")
            for answers in together:
                assert answers == alone, f"answers of {plan.backend} change when several threads ask at once."

    def test_a_second_job_does_not_wait_for_the_first(self, where: str, plans: list[Plan], asked: Asked) -> None:
        for plan in plans:
            model, long = self._model(where, plan, asked), self.long_job(plan.metadata)
            if model.parallel < 2 or long is None or long.task in PAINTING_TASKS:  # those wait, and tell their place
                continue
            stop = Stop()
            first = model.generate(long, stop)
            within(self.wait_s, partial(next, iter(first)), "the first event")
            short = self.jobs(plan.metadata)[0]
            try:
                what = f"a second job (parallel is {model.parallel}) beside a running one"
                within(self.wait_s, partial(run, model, short), what)
            finally:
                stop.set()
                within(self.stop_s, partial(list, first), "a stopped job")

    def test_too_long_a_prompt_is_refused(self, where: str, plans: list[Plan], asked: Asked) -> None:
        for plan in plans:
            context = self.settings.context or 256
            job = self.too_long_job(plan.metadata, context)
            if job is None:
                continue
            model = self._model(where, plan, asked)
            fault, seen = self._refusal(model, job)
            assert isinstance(fault, ContextExceeded), (
                f"a prompt over the context of {context} tokens gives {_named(fault, seen)}. "
                f"Raise ContextExceeded with prompt_tokens and context; never cut a prompt."
            )
            assert not seen, f"ContextExceeded comes after {type(seen[0]).__name__}. Raise it before the first event."
            missing = [name for name in ("prompt_tokens", "context") if name not in fault.details]
            assert not missing, f"ContextExceeded lacks {', '.join(missing)} in its details."

    def test_a_task_it_does_not_do_is_refused(self, where: str, plans: list[Plan], asked: Asked) -> None:
        for plan in plans:
            foreign: list[Job] = [
                Speak(text="hello"),
                Transcribe(audio=Sound(data=b"")),
                Rerank(query="a", documents=("b",)),
            ]
            job = next(job for job in foreign if job.task not in plan.metadata.tasks)
            fault, seen = self._refusal(self._model(where, plan, asked), job)
            told = isinstance(fault, Fault) and fault.category is Category.UNSUPPORTED
            assert told, f"{job.task}, which it does not do, gives {_named(fault, seen)}. Raise Unsupported."

    def test_an_invalid_option_is_refused(self, plans: list[Plan], asked: Asked) -> None:
        for plan in plans:
            self._need_engine(self._backend(asked, plan))
            options = {**plan.settings.options, UNKNOWN_OPTION: 1}
            odd = replace(plan, settings=Settings(context=self.settings.context, options=options))
            fault = _load_fault(asked, odd)
            assert fault is not None, f"load accepts the option {UNKNOWN_OPTION!r}. Raise Invalid for unknown options."
            assert fault.category is Category.INVALID, f"an unknown option gives {fault.code}. Raise Invalid."

    def test_close_twice(self, where: str, plans: list[Plan], asked: Asked) -> None:
        for plan in plans:
            model = self._load(where, plan, asked)
            model.close()
            try:
                model.close()
            except Exception as error:
                raise AssertionError(f"the second close() raises {type(error).__name__}: {error}.") from error
            fault, seen = self._refusal(model, self.jobs(plan.metadata)[0])
            assert isinstance(fault, Fault), f"a closed model gives {_named(fault, seen)}. Raise Closed."

    def _runs(self, where: str, plans: list[Plan], asked: Asked) -> Iterator[tuple[Job, Run]]:
        """Each plan's short jobs with their events."""
        for plan in plans:
            model, jobs = self._model(where, plan, asked), self.jobs(plan.metadata)
            assert jobs, f"jobs() has none for {plan.metadata.tasks}. Override it."
            for job in jobs:
                yield job, within(self.wait_s, partial(run, model, job), job.task)

    def _long(self, where: str, plans: list[Plan], asked: Asked) -> Iterator[tuple[LoadedModel, Job]]:
        for plan, job in self._endless(plans):
            yield self._model(where, plan, asked), job

    def _endless(self, plans: list[Plan]) -> list[tuple[Plan, Job]]:
        found = [(plan, job) for plan in plans if (job := self.long_job(plan.metadata)) is not None]
        if not found:
            pytest.skip("long_job() has none for these models")
        return found

    def _refusal(self, model: LoadedModel, job: Job) -> tuple[Exception | None, list[Event]]:
        """What *job* raises, if anything, and the events before it."""
        seen: list[Event] = []

        def work() -> Exception | None:
            try:
                for event in model.generate(job, Stop()):
                    seen.append(event)
            except Exception as error:
                return error
            return None

        return within(self.wait_s, work, f"a {job.task} that must be refused"), seen


def _check_stopped(stopped: Run, when: str) -> None:
    last = stopped.events[-1] if stopped.events else None
    assert isinstance(last, Done), f"a job stopped {when} ends with {type(last).__name__}. End with Done."
    reasons = {finish.reason for finish in last.finishes}
    assert reasons == {"cancelled"}, (
        f"a job stopped {when} went on to its end: its finish is {', '.join(sorted(reasons))} after "
        f"{last.usage.completion_tokens} tokens. Poll stop.is_set() at each step and finish with 'cancelled'."
    )


def _abandon(model: LoadedModel, job: Job) -> None:
    """Read two events and walk away, as a server does when its client hangs up."""
    events = model.generate(job, Stop())
    next(iter(events))
    next(iter(events))
    close = getattr(events, "close", None)
    if close is not None:
        close()


def _load_fault(asked: Asked, plan: Plan) -> Fault | None:
    try:
        asked.ask("load", plan=plan).close()
    except Fault as fault:
        return fault
    return None


def _named(raised: Exception | None, seen: Sequence[Event]) -> str:
    return f"{type(raised).__name__} ({raised})" if raised else f"{len(seen)} events"
