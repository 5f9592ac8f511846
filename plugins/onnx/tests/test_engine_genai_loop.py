"""onnxruntime-genai's engine and our own sampling in one thread: joining, stopping, failing, taking turns."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.errors import Closed, Unsupported
from anyform.contract.events import Done, Event, Progress, Text
from anyform.contract.jobs import Complete, Generation, Sampling
from anyform.contract.model import LoadedModel, Stop
from anyform.testing.jobs import GREEDY, Engine
from anyform.testing.onnxdecoder import write_decoder

pytest.importorskip("onnxruntime_genai")
pytest.importorskip("tokenizers")
pytestmark = pytest.mark.engine

PROMPTS = [tuple(range(5 + 3 * n, 12 + 5 * n)) for n in range(8)]
CONTEXT = 4096


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small decoder of random weights, whose context is long."""
    folder = tmp_path_factory.mktemp("genai") / "random"
    return write_decoder(folder, layout="onnx_genai", max_position_embeddings=CONTEXT)


@pytest.fixture
def make(kit: Any, folder: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Loads it; its answers never end by themselves."""
    from anyform.text.words import Words
    from anyform_onnx.genai import backend

    init = Words.__init__

    def endless(self: Words, *given: Any, **named: Any) -> None:
        init(self, *given, **named)
        self.ends = frozenset({self.size - 1})
        self.suppressed = ()

    monkeypatch.setattr(Words, "__init__", endless)

    def made(parallel: int = 4, **options: Any) -> Any:
        settings = {"context": CONTEXT, "text_interval": 0.0, "threads": 1, **options}
        model = backend.load(kit.plan(folder, backend="onnxruntime_genai", parallel=parallel, **settings))
        engine.loaded.append(model)
        return model

    return made


def begun(model: LoadedModel, prompt: tuple[int, ...], stop: Stop, **generation: Any) -> Iterator[Event]:
    """A request that only its context ends, whose first text has come."""
    sampling = generation.pop("sampling", GREEDY)
    events = model.generate(Complete(prompt=prompt, generation=Generation(sampling=sampling, **generation)), stop)
    for event in events:
        if isinstance(event, Text):
            break
    return events


def where(answered: Any) -> str:
    return str(answered.done.extra["batching"])


def tokens(answered: Any) -> int:
    return int(answered.done.usage.completion_tokens)


def texts(model: LoadedModel, kit: Any, most: int = 20) -> list[str]:
    return [kit.complete(model, prompt, max_tokens=most).text for prompt in PROMPTS]


def test_who_comes_later_does_not_wait_for_who_runs(make: Any, kit: Any) -> None:
    """Though a static batch lets nobody join: whether what runs is long by now, must follow a schema, or is sampled."""
    model = make()
    stop = Stop()
    longs = [begun(model, PROMPTS[0], stop), begun(model, PROMPTS[1], stop, ignore_eos=True)]
    alone = texts(make(1), kit)
    for place in (2, 3, 4):
        found = kit.complete(model, PROMPTS[place], max_tokens=20)
        assert where(found) == "engine"
        assert found.text == alone[place]
    stop.set()
    for events in longs:
        done = list(events)[-1]
        assert isinstance(done, Done)
        assert done.finishes[0].reason == "cancelled"
        assert 20 < done.usage.completion_tokens < CONTEXT - 20


def test_the_young_begin_again_with_who_comes(make: Any, kit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch is left for a larger one, no more often than it may be, and nobody's text is another for it."""
    from anyform_onnx.genai.loop import MOST_BEGINNINGS
    from anyform_onnx.genai.wave import Wave

    model, expected = make(8, batch=100_000), texts(make(1), kit)
    given: list[list[int]] = []
    add = Wave.add

    def noted(self: Wave, name: int, tokens: Any, *more: Any) -> None:
        if not self.names:
            given.append([])
        given[-1].append(len(tokens))
        add(self, name, tokens, *more)

    monkeypatch.setattr(Wave, "add", noted)
    stop = Stop()
    first = begun(model, PROMPTS[0], stop)
    found = [kit.complete(model, prompt, max_tokens=20).text for prompt in PROMPTS[1:]]
    stop.set()
    assert isinstance(list(first)[-1], Done)
    assert found == expected[1:]
    assert [len(wave) for wave in given] == [1] + [2] * (MOST_BEGINNINGS - 1) + [1] * (8 - MOST_BEGINNINGS)
    assert all(wave[0] > len(PROMPTS[0]) for wave in given[1:MOST_BEGINNINGS])
    assert model._loop._waves == []
    assert model._loop._beginnings == {}


def test_stopping_frees_the_place(make: Any, kit: Any) -> None:
    model = make(2)
    stops = [Stop() for _ in range(4)]
    jobs = [Complete(prompt=PROMPTS[0], generation=Generation(sampling=GREEDY)) for _ in stops]
    running = [model.generate(job, stop) for job, stop in zip(jobs, stops, strict=True)]
    for events in running[:2]:
        assert isinstance(next(events), Progress)
        next(events)
    for events in running[2:]:
        assert isinstance(next(events), Progress)
    for stop in reversed(stops):
        stop.set()
    for place, events in enumerate(running):
        done = list(events)[-1]
        assert isinstance(done, Done)
        assert done.finishes[0].reason == "cancelled"
        assert (done.usage.completion_tokens == 0) == (place >= 2)
        assert done.usage.completion_tokens < CONTEXT - len(PROMPTS[0])
    assert tokens(kit.complete(model, PROMPTS[1], max_tokens=30)) == 30


def test_a_reader_that_goes_ends_its_request(make: Any, kit: Any) -> None:
    model = make(1)
    begun(model, PROMPTS[0], Stop()).close()  # type: ignore[attr-defined]
    assert tokens(kit.complete(model, PROMPTS[1], max_tokens=9)) == 9
    assert model._loop._running == {}


def test_more_than_have_room_come_one_after_another(make: Any, kit: Any) -> None:
    model, alone = make(2), texts(make(1), kit)
    found = kit.together([partial(kit.complete, model, prompt, max_tokens=20) for prompt in PROMPTS])
    assert [one.text for one in found] == alone
    assert {where(one) for one in found} == {"engine"}


def test_both_ways_take_turns(make: Any, kit: Any) -> None:
    """With one place for all, and so that nobody waits for all of the others."""
    model, alone = make(1), texts(make(1), kit)
    seeds = [{}, {"sampling": Sampling(temperature=0.0, seed=1)}]
    asks = [
        partial(kit.complete, model, prompt, max_tokens=20, **seeds[place % 2]) for place, prompt in enumerate(PROMPTS)
    ]
    found = kit.together(asks)
    assert [one.text for one in found] == alone
    assert [where(one)[:3] for one in found] == ["eng", "own"] * 4


def test_never_more_than_parallel_take_memory(make: Any, kit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make(3)
    loop = model._loop
    most = []
    step = loop._step

    def counted() -> None:
        step()
        held = sum(loop._generators.holds(slot) for slot in range(3))
        most.append((len(loop._running) + held, len(loop._running) + len(loop._active)))

    monkeypatch.setattr(loop, "_step", counted)
    seeds = [{}, {"sampling": Sampling(temperature=0.0, seed=1)}]
    kit.together(
        [
            partial(kit.complete, model, prompt, max_tokens=8 + place, **seeds[place % 2])
            for place, prompt in enumerate(PROMPTS)
        ]
    )
    assert max(memory for memory, _ in most) == 3
    assert max(running for _, running in most) == 3


@pytest.mark.parametrize("after", [1, 2, 9])
def test_a_failed_engine_loses_nothing(
    after: int, make: Any, kit: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """Whatever had been said by then goes on without it."""
    from anyform_onnx.genai.wave import Wave

    model, expected = make(8), texts(make(1), kit)
    steps, step = [0], Wave.step

    def failing(self: Wave) -> Any:
        steps[0] += 1
        if steps[0] == after:
            raise RuntimeError("Non-zero status code")
        return step(self)

    monkeypatch.setattr(Wave, "step", failing)
    found = kit.together([partial(kit.complete, model, prompt, max_tokens=20) for prompt in PROMPTS])
    assert [one.text for one in found] == expected
    assert "own: the engine failed: RuntimeError: Non-zero status code" in {where(one) for one in found}
    assert "goes on without" in caplog.text
    assert where(kit.complete(model, PROMPTS[0], max_tokens=3)) == "engine"


def test_an_engine_that_fails_too_often_is_given_up(make: Any, kit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from anyform_onnx.genai.loop import MOST_FAILURES
    from anyform_onnx.genai.wave import Wave

    model, expected = make(1), texts(make(1), kit)

    def failing(self: Wave) -> Any:
        raise RuntimeError("Non-zero status code")

    monkeypatch.setattr(Wave, "step", failing)
    found = kit.together([partial(kit.complete, model, prompt, max_tokens=20) for prompt in PROMPTS])
    assert [one.text for one in found] == expected
    assert sum("given up" in where(one) or "failed" in where(one) for one in found) == len(PROMPTS)
    monkeypatch.undo()
    assert where(kit.complete(model, PROMPTS[0], max_tokens=3)).startswith(
        f"own: the engine failed {MOST_FAILURES} times"
    )


def test_an_engine_that_cannot_be_opened_loses_nothing(make: Any, kit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, expected = make(2), texts(make(1), kit)

    def none() -> None:
        raise RuntimeError("no engine")

    monkeypatch.setattr(model._loop, "_make", none)
    assert texts(model, kit) == expected


def test_genais_own_failures_are_told(make: Any) -> None:
    """A token that the graph has not makes its engine fail; the next engine is sound."""
    from anyform.text.sampling import recipe

    model = make()
    wave = model._loop._make()
    greedy = recipe(GREEDY, {}, 300)
    wave.add(7, [3, 4, 99999], 4, greedy)
    (grown,) = wave.step()
    assert (grown.name, grown.error) == (7, "engine_execution_failure")
    wave.free()
    again = model._loop._make()
    again.add(8, [3, 4, 5], 2, greedy)
    told = [one for _ in range(2) for one in again.step()]
    assert [(one.name, one.error) for one in told] == [(8, ""), (8, "")]
    assert again.step() == [type(grown)(8, error="the engine has lost it")]
    again.free()


@pytest.mark.parametrize("given", [("lark_grammar", "start: foo"), ("json_schema", '{"type": "string"}')])
def test_a_grammar_that_the_engine_gets_wrong_is_kept(
    given: tuple[str, str], make: Any, kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It refuses the first, and follows something else in the second."""
    from anyform_onnx.genai import wave

    model = make()
    guidance = wave.guidance
    monkeypatch.setattr(wave, "guidance", lambda one: guidance(one) and given)
    schema = {"type": "array", "items": {"type": "integer", "maximum": 50, "minimum": 0}, "maxItems": 3}
    found = kit.complete(model, PROMPTS[0], schema=schema, max_tokens=40)
    assert all(0 <= one <= 50 for one in json.loads(found.text))
    assert where(found).startswith("own: the engine")
    assert where(kit.complete(model, PROMPTS[0], max_tokens=2)) == "engine"


def test_an_engine_that_lets_others_join_is_one(make: Any, kit: Any) -> None:
    """As where the cache lies in pages, which takes CUDA; here later ones wait inside of it."""
    model, expected = make(8), texts(make(1), kit)
    model._loop._dynamic = True
    found = kit.together([partial(kit.complete, model, prompt, max_tokens=20) for prompt in PROMPTS])
    assert [one.text for one in found] == expected


def test_where_only_the_engine_runs_a_model_the_rest_is_refused(make: Any, kit: Any) -> None:
    model = make()
    model._loop._lacks = "its cache lies in pages"
    with pytest.raises(Unsupported, match=r"it has a seed.*its cache lies in pages"):
        kit.complete(model, PROMPTS[0], sampling=Sampling(seed=1))
    assert tokens(kit.complete(model, PROMPTS[0], max_tokens=4)) == 4


def test_closing_ends_what_runs(make: Any) -> None:
    model = make()
    events = [begun(model, PROMPTS[0], Stop()), begun(model, PROMPTS[1], Stop(), sampling=Sampling(seed=1))]
    model.close()
    for one in events:
        with pytest.raises(Closed):
            list(one)
    model.close()


def test_nothing_is_kept_of_answers_whose_engine_failed(
    make: Any, kit: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """Nor does it end the model that the requests of a failed engine cannot be closed either."""
    from anyform_onnx.genai.wave import Wave

    model = make(4)
    expected = kit.complete(model, PROMPTS[0], max_tokens=8).text
    step = Wave.step

    class Unclosable:
        def close(self) -> None:
            raise RuntimeError("the engine is gone")

    def failing(self: Wave) -> Any:
        for name, request in list(self._requests.items()):
            other = Unclosable()
            self._names[other] = self._names.pop(request)
            self._requests[name] = other
        raise RuntimeError("Non-zero status code")

    monkeypatch.setattr(Wave, "step", failing)
    found = kit.complete(model, PROMPTS[0], max_tokens=8)
    assert found.text == expected
    assert where(found).startswith("own: the engine failed")
    assert "did not close" in caplog.text
    assert model._loop._beginnings == {}
    monkeypatch.setattr(Wave, "step", step)
    assert where(kit.complete(model, PROMPTS[0], max_tokens=8)) == "engine"
    assert model._loop._beginnings == {}


def test_what_was_refused_is_not_kept(make: Any, kit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though only the engine runs the model, so that nothing goes on with it."""
    from anyform.contract.errors import Fault
    from anyform_onnx.genai.wave import Wave

    model = make(4)
    model._loop._lacks = "its cache lies in pages"

    def failing(self: Wave) -> Any:
        raise RuntimeError("Non-zero status code")

    monkeypatch.setattr(Wave, "step", failing)
    with pytest.raises(Fault, match="Non-zero"):
        kit.complete(model, PROMPTS[0], max_tokens=8)
    assert model._loop._beginnings == {}


def test_closing_gives_the_weights_back(make: Any, kit: Any) -> None:
    """Which genai does once its last Model is gone; whoever still holds the loop must not hold that."""
    og = pytest.importorskip("onnxruntime_genai")
    model = make(2)
    kit.complete(model, PROMPTS[0], max_tokens=3)
    kit.complete(model, PROMPTS[0], max_tokens=3, sampling=Sampling(temperature=0.0, seed=1))
    loop = model._loop
    made = weakref.ref(loop._make.args[0])
    assert isinstance(made(), og.Model)
    model.close()
    gc.collect()
    assert made() is None
