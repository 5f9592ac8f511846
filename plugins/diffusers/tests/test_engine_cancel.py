"""The line that requests wait in, how they are stopped, and what one that fails costs the others: nothing."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("PIL.Image")
pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from anyform.contract.errors import Closed, Fault, OutOfMemory, Overloaded  # noqa: E402
from anyform.contract.events import Blob, Done, Event, Progress  # noqa: E402
from anyform.contract.jobs import Image  # noqa: E402
from anyform.contract.model import Stop  # noqa: E402
from anyform.testing.following import Followed  # noqa: E402
from anyform.testing.jobs import together  # noqa: E402
from anyform_diffusers import block, mode  # noqa: E402
from anyform_diffusers.backend import torch  # noqa: E402
from anyform_diffusers.wish import Wish  # noqa: E402

pytestmark = pytest.mark.engine

Made = Callable[..., Any]
SHORT = Image(prompt="a boat", steps=2, seed=5)
LONG = Image(prompt="a fox", steps=50, seed=7)


def files(events: Sequence[Event]) -> list[bytes]:
    return [event.data for event in events if isinstance(event, Blob)]


def run(model: Any, job: Image = SHORT) -> list[Event]:
    return list(model.generate(job, Stop()))


def ahead(job: Followed) -> list[int]:
    """What *job* was told of those before it."""
    return [event.total for event in job.seen if isinstance(event, Progress) and event.stage == "queue"]


def reasons(done: Any) -> list[str]:
    return [finish.reason for finish in done.finishes]


@contextmanager
def counted(model: Any) -> Iterator[list[int]]:
    """How many rows the network of the steps was asked for, each time."""
    rows: list[int] = []
    network = getattr(model.painter.pipe, "unet", None) or model.painter.pipe.transformer
    hook = network.register_forward_pre_hook(
        lambda module, given, named: rows.append(len(given[0] if given else named["hidden_states"])), with_kwargs=True
    )
    yield rows
    hook.remove()


@contextmanager
def halfway(network: Any, ending: Callable[[], None]) -> Iterator[list[Any]]:
    """Calls *ending* in the middle of *network*. Yields the modules that were computed since."""
    lists = [one for one in network.modules() if isinstance(one, torch.nn.ModuleList) and len(one[0]._modules) > 1]
    blocks = list(lists[len(lists) // 2])
    computed: list[Any] = []

    def end(*_: Any) -> None:
        computed.clear()
        ending()

    hooks = [one.register_forward_hook(lambda module, *_: computed.append(module)) for one in network.modules()]
    hooks.append(blocks[0].register_forward_pre_hook(end))
    yield computed
    for hook in hooks:
        hook.remove()


class TestCancel:
    @pytest.mark.parametrize("family", ["sdxl", "flux"])
    def test_at_step_3_of_50_no_more_than_one_is_run(self, family: str, painting_model: Made) -> None:
        before = files(run(painting_model(family)))
        model = painting_model(family, held=True)
        with counted(model) as rows:
            job = Followed(model, LONG)
            model.painter.go.release(2)
            job.stage("step", 3, total=50)
            job.stop.set()
            model.painter.go.release(100)
            done = job.done()
        assert len(rows) == 4
        assert done.extra["steps"] == 3
        assert reasons(done) == ["cancelled"]
        assert files(job.seen) == []
        assert files(run(model)) == before

    @pytest.mark.parametrize("family", ["sdxl", "sd3", "flux"])
    @pytest.mark.parametrize("part", ["network", "decoder"])
    def test_within_a_step_no_further_block_is_computed(self, family: str, part: str, painting_model: Made) -> None:
        model = painting_model(family)
        before, stop = files(run(model)), Stop()
        pipe = model.painter.pipe
        network = mode.denoiser(pipe) if part == "network" else pipe.vae.decoder
        with halfway(network, stop.set) as computed:
            done = list(model.generate(SHORT, stop))[-1]
        assert computed == []
        assert (reasons(done), done.extra["steps"]) == (["cancelled"], 0 if part == "network" else 2)
        assert files(run(model)) == before
        assert not any(one._forward_pre_hooks for one in pipe.vae.decoder.modules())
        assert not any(one._forward_pre_hooks for one in mode.denoiser(pipe).modules())

    def test_while_an_unfinished_picture_is_decoded(self, painting_model: Made) -> None:
        model = painting_model()
        before, stop = files(run(model)), Stop()
        with halfway(model.painter.pipe.vae.decoder, stop.set) as computed:
            events = list(model.generate(replace(SHORT, partials=1), stop))
        assert (reasons(events[-1]), computed, files(events)) == (["cancelled"], [], [])
        assert events[-1].extra["steps"] == 1
        assert files(run(model)) == before

    def test_a_step_goes_on_for_those_who_still_wait(self, painting_model: Made) -> None:
        model = painting_model(batch=2, held=True)
        first = Followed(model, SHORT)
        first.stage("step", 1)
        jobs = [Followed(model, replace(SHORT, seed=seed)) for seed in (1, 2)]
        for job in jobs:
            job.stage("queue")

        def end() -> None:
            if model.painter.together_each == [1, 2]:
                jobs[0].stop.set()

        with halfway(model.painter.pipe.vae.decoder, end) as computed:
            model.painter.go.release(100)
            assert [reasons(job.done()) for job in jobs] == [["cancelled"], ["stop"]]
        assert computed
        assert (model.painter.together_each, len(files(jobs[1].seen))) == ([1, 2], 1)

    def test_a_compiled_network_is_called_as_it_is(self, tiny_pipe: Made) -> None:
        pipe = copy.copy(tiny_pipe("sd"))
        pipe.unet = copy.deepcopy(pipe.unet)
        own = set(map(id, pipe.unet.modules()))
        assert own & set(map(id, block.of(pipe)))
        pipe.unet.compile()
        left = set(map(id, block.of(pipe)))
        assert left
        assert not own & left

    def test_before_the_start(self, painting_model: Made) -> None:
        model = painting_model()
        stop = Stop()
        stop.set()
        with counted(model) as rows:
            events = list(model.generate(LONG, stop))
            assert files(run(model)) != []
        done = events[-1]
        assert isinstance(done, Done)
        assert reasons(done) == ["cancelled"]
        assert done.extra["steps"] == 0
        assert len(rows) == 2

    def test_while_the_prompt_is_read_no_step_is_run(self, painting_model: Made) -> None:
        model = painting_model()
        stop = Stop()
        hook = model.painter.pipe.text_encoder.register_forward_hook(lambda *_: stop.set())
        with counted(model) as rows:
            done = list(model.generate(LONG, stop))[-1]
        hook.remove()
        assert (reasons(done), done.extra["steps"], rows) == (["cancelled"], 0, [])

    def test_while_pictures_are_decoded_none_is_told(self, painting_model: Made) -> None:
        model = painting_model()
        stop = Stop()
        hook = model.painter.pipe.vae.decoder.register_forward_pre_hook(lambda *_: stop.set())
        events = list(model.generate(Image(prompt="a fox", n=2, steps=1), stop))
        hook.remove()
        assert (reasons(events[-1]), files(events), events[-1].extra["steps"]) == (["cancelled"] * 2, [], 1)

    def test_a_generator_that_is_dropped_is_a_cancel(self, painting_model: Made) -> None:
        model = painting_model(held=True)
        with counted(model) as rows:
            events = model.generate(LONG, Stop())
            while next(events) != Progress(stage="step", done=1, total=50):
                pass
            events.close()
            model.painter.go.release(100)
            after = run(model)
        assert len(files(after)) == 1
        assert len(rows) == 2 + 2

    def test_of_several_pictures_those_that_were_finished_are_told(self, painting_model: Made) -> None:
        model = painting_model(held=True)
        job = Followed(model, Image(prompt="a fox", n=3, steps=1))
        job.stage("step", 1)
        model.painter.go.release(1)
        job.until(lambda event: isinstance(event, Blob))
        job.stage("step", 2)
        job.stop.set()
        model.painter.go.release(10)
        done = job.done()
        assert reasons(done) == ["stop", "cancelled", "cancelled"]
        assert done.extra["steps"] == 2

    def test_of_those_painted_together_only_the_cancelled_ends(self, painting_model: Made) -> None:
        model = painting_model(held=True, batch=3)
        first = Followed(model, SHORT)
        first.stage("step", 1)
        jobs = [Followed(model, Image(prompt="a fox", steps=3, seed=seed)) for seed in range(3)]
        for job in jobs:
            job.stage("queue")
        model.painter.go.release(2)
        first.done()
        for job in jobs:
            job.stage("step", 1)
        jobs[1].stop.set()
        model.painter.go.release(1)
        assert reasons(jobs[1].done()) == ["cancelled"]
        jobs[0].stage("step", 2)  # the others are in the middle of it
        model.painter.go.release(10)
        assert [reasons(jobs[place].done()) for place in (0, 2)] == [["stop"], ["stop"]]
        assert [len(files(job.seen)) for job in jobs] == [1, 0, 1]
        assert model.painter.together_each == [1, 3]


class TestLine:
    def test_each_is_told_how_many_are_ahead(self, painting_model: Made) -> None:
        model = painting_model(held=True)
        jobs = []
        for place in range(4):
            jobs.append(Followed(model, SHORT))
            jobs[-1].stage("queue", total=place)
        model.painter.go.release(100)
        for job in jobs:
            assert reasons(job.done()) == ["stop"]
        assert [ahead(job) for job in jobs] == [[0], [1, 0], [2, 1, 0], [3, 2, 1, 0]]
        assert len({data for job in jobs for data in files(job.seen)}) == 1

    def test_who_is_cancelled_in_it_leaves_at_once(self, painting_model: Made) -> None:
        model = painting_model(held=True)
        jobs = []
        for place in range(4):
            jobs.append(Followed(model, SHORT))
            jobs[-1].stage("queue", total=place)
        jobs[0].stage("step", 1)
        jobs[1].stop.set()  # the first is held in the middle of a step all the while
        done = jobs[1].done()
        assert (reasons(done), done.extra["steps"]) == (["cancelled"], 0)
        jobs[2].stage("queue", total=1)
        jobs[3].stage("queue", total=2)
        model.painter.go.release(100)
        assert [reasons(jobs[place].done()) for place in (0, 2, 3)] == [["stop"]] * 3
        assert model.painter.together_each == [1, 1, 1]

    def test_over_the_queue_is_refused_until_somebody_leaves(self, painting_model: Made) -> None:
        model = painting_model(held=True, queue=1)
        assert model.parallel == 2
        jobs = [Followed(model, SHORT) for _ in range(2)]
        for job in jobs:
            job.stage("queue")
        with pytest.raises(Overloaded) as refused:
            next(iter(model.generate(SHORT, Stop())))
        assert refused.value.details["retry_after_s"] >= 1
        waiting = next(job for job in jobs if ahead(job) == [1])
        waiting.stop.set()
        waiting.done()
        last = Followed(model, SHORT)
        last.stage("queue", total=1)
        model.painter.go.release(100)
        assert reasons(last.done()) == ["stop"]


class TestFailures:
    @pytest.mark.parametrize(
        ("raised", "told"), [(MemoryError("no room"), OutOfMemory), (IndexError("odd"), Fault)], ids=["memory", "bug"]
    )
    def test_one_costs_its_own_job_alone(
        self, raised: Exception, told: type[Fault], painting_model: Made, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model = painting_model(batch=4)
        before = files(run(model))
        network = model.painter.pipe.unet
        hook = network.register_forward_pre_hook(_raise(raised))
        with pytest.raises(told, match=str(raised)) as failed:
            run(model)
        assert isinstance(failed.value, Fault)
        hook.remove()
        assert files(run(model)) == before

    def test_of_those_painted_together_the_others_are_painted_all_the_same(self, painting_model: Made) -> None:
        model = painting_model(held=True, batch=4)
        first = Followed(model, SHORT)
        first.stage("step", 1)
        jobs = [Followed(model, Image(prompt="a fox", n=2, steps=1, seed=seed)) for seed in (1, 3)]
        for job in jobs:
            job.stage("queue")
        hook = model.painter.pipe.unet.register_forward_pre_hook(
            lambda module, given: _raise(MemoryError("too many"))() if len(given[0]) > 2 else None
        )
        model.painter.go.release(100)
        for job in jobs:
            assert reasons(job.done()) == ["stop", "stop"]
            assert [event.index for event in job.seen if isinstance(event, Blob)] == [0, 1]
        hook.remove()
        assert model.painter.together_each == [1, 4, 1, 1, 1, 1]


def _raise(error: Exception) -> Callable[..., None]:
    def hook(*_: Any) -> None:
        raise error

    return hook


class TestThreads:
    def test_one_thread_loads_and_paints(self, gallery: Any, engine: Any) -> None:
        model = engine.load(gallery.folder("flux"))
        seen = []
        model.painter.pipe.transformer.register_forward_pre_hook(lambda *_: seen.append(threading.current_thread()))
        small = Image(prompt="a boat", steps=1, width=64, height=64)
        run(model, small)
        run(model, small)
        assert len(seen) == 2
        assert {type(thread).__name__ for thread in seen} == {"Host"}
        assert len(set(seen)) == 1

    def test_counting_tokens_does_not_disturb_who_reads_the_prompt(self, gallery: Any) -> None:
        painter = gallery.painter("sd3")
        wish = Wish(prompt="a fox and an owl", width=64, height=64, steps=1)
        painter.check(wish)
        ended = threading.Event()

        def count() -> int:
            while not ended.is_set():
                painter.tokens(wish)
            return int(painter.tokens(wish))

        def read() -> set[int]:
            shapes = set()
            for _ in range(100):
                for tokenizer in (painter.pipe.tokenizer, painter.pipe.tokenizer_3):
                    long = tokenizer(["a fox " * 50], padding="max_length", max_length=77, truncation=True)
                    shapes.add(len(long["input_ids"][0]))
            ended.set()
            return shapes

        assert together([read, count, count, count]) == [{77}, 18, 18, 18]


class TestClose:
    def test_running_and_waiting_jobs_end_with_closed(self, painting_model: Made) -> None:
        model = painting_model(held=True)
        jobs = [Followed(model, LONG) for _ in range(2)]
        for job in jobs:
            job.stage("queue")
        next(job for job in jobs if ahead(job) == [0]).stage("step", 1)
        closing = Followed(_Closing(model), SHORT)
        with pytest.raises(Closed):
            all(model.generate(SHORT, Stop()) for _ in iter(int, 1))  # until it has begun to close
        model.painter.go.release(100)
        for job in jobs:
            with pytest.raises(Closed):
                job.done()
        closing.done()
        model.close()
        with pytest.raises(Closed):
            model.generate(SHORT, Stop())

    def test_within_a_step(self, painting_model: Made) -> None:
        model = painting_model()
        closing = threading.Thread(target=model.close)

        def close() -> None:
            closing.start()
            with pytest.raises(Closed):
                all(model._loop.check() is None for _ in iter(int, 1))  # until it has begun

        with halfway(model.painter.pipe.unet, close) as computed:
            with pytest.raises(Closed):
                list(model.generate(LONG, Stop()))
            closing.join()
        assert computed == []


class _Closing:
    """Closes a model where others generate."""

    parallel = 1

    def __init__(self, model: Any) -> None:
        self.close = model.close

    def generate(self, job: Any, stop: Stop) -> Iterator[Event]:
        self.close()
        yield Done()
