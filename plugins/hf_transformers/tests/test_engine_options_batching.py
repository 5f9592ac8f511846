"""transformers' continuous batching beside our loop: the same text, who runs where, and what becomes of failures."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.errors import Closed, Fault, Invalid
from anyform.contract.events import Done, Progress
from anyform.contract.facts import Settings
from anyform.contract.jobs import Complete, Generation, Sampling
from anyform.contract.model import LoadedModel, Stop

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.engine

QUESTIONS = [f"What is {n} + {m}?" for n in range(3, 19, 2) for m in (2, 5)] + [
    *("How do I list models?", "What is `anyform ps`?", "Who are you?", "How many days has May?", "My name is Tara."),
]


@pytest.fixture
def paged(decoder_folder: Path, engine: Any) -> LoadedModel:
    """The sample decoder, plain requests in pages."""
    made: LoadedModel = engine.load(decoder_folder, context=512, parallel=4, batching="paged")
    return made


def where(answered: Any) -> str:
    return str(answered.done.extra.get("batching", ""))


def test_the_text_is_that_of_our_loop(paged: LoadedModel, decoder: LoadedModel, kit: Any) -> None:
    """Alone, and more together than run at once."""
    jobs = [kit.chat(question) for question in QUESTIONS]
    expected = [kit.ask(decoder, job) for job in jobs]
    for found in (
        [kit.ask(paged, job) for job in jobs[:5]],
        kit.together([partial(kit.ask, paged, job) for job in jobs]),
    ):
        assert [one.text for one in found] == [one.text for one in expected[: len(found)]]
        assert [one.done.finishes for one in found] == [one.done.finishes for one in expected[: len(found)]]
        assert [one.done.usage.completion_tokens for one in found] == [
            one.done.usage.completion_tokens for one in expected[: len(found)]
        ]
        assert {where(one) for one in found} == {"paged"}
    assert where(expected[0]) == ""


@pytest.mark.parametrize(
    ("generation", "said"),
    [
        ({"sampling": Sampling(temperature=1.0)}, "sampled"),
        ({"sampling": Sampling(temperature=0.0, seed=3)}, "seed"),
        ({"sampling": Sampling(temperature=0.0, frequency_penalty=1.0)}, "penalized"),
        ({"sampling": Sampling(temperature=0.0, logit_bias={7: 2.0})}, "favoured"),
        ({"logprobs": True, "sampling": Sampling(temperature=0.0)}, "log-probabilities"),
        ({"schema": {"type": "integer"}, "sampling": Sampling(temperature=0.0)}, "schema"),
        ({"ignore_eos": True, "sampling": Sampling(temperature=0.0)}, "banned"),
    ],
)
def test_what_pages_cannot_runs_as_ever(
    generation: dict[str, Any], said: str, paged: LoadedModel, decoder: LoadedModel, kit: Any
) -> None:
    prompt = kit.question("What is 3 + 4?")
    found = kit.complete(paged, prompt, max_tokens=12, **generation)
    assert where(found).startswith("own: ")
    assert said in where(found)
    if generation["sampling"].temperature == 0.0:
        assert found.text == kit.complete(decoder, prompt, max_tokens=12, **generation).text


def test_both_run_at_once(paged: LoadedModel, decoder: LoadedModel, kit: Any) -> None:
    prompts = [kit.question(question) for question in QUESTIONS[:12]]
    options = [{}, {"sampling": Sampling(temperature=0.0, seed=1)}]
    calls = [partial(kit.complete, paged, prompt, **options[place % 2]) for place, prompt in enumerate(prompts)]
    found = kit.together(calls)
    assert [one.text for one in found] == [kit.complete(decoder, prompt).text for prompt in prompts]
    assert [where(one)[:3] for one in found] == ["pag", "own"] * 6


def test_stop_strings_and_several_answers(paged: LoadedModel, decoder: LoadedModel, kit: Any) -> None:
    prompt = kit.question(kit.FOLDER)
    for generation in ({"stop": ("anyform",)}, {"n": 3}, {"max_tokens": 1}, {"max_tokens": 3}):
        found, expected = (kit.complete(model, prompt, **generation) for model in (paged, decoder))
        assert where(found) == "paged"
        assert [found.text_of(n) for n in range(3)] == [expected.text_of(n) for n in range(3)]
        assert found.done.finishes == expected.done.finishes


def endless(kit: Any) -> Complete:
    """A greedy request whose answer is as long as the context: the tokens that would end it are none here."""
    return Complete(prompt=(300,) * 8, generation=Generation(sampling=kit.GREEDY))


@pytest.fixture
def unending(paged: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> LoadedModel:
    """The same, whose answers never end by themselves."""
    monkeypatch.setattr(paged._vocabulary, "ends", frozenset())  # type: ignore[attr-defined]
    return paged


def test_stopping_frees_the_place(unending: LoadedModel, kit: Any) -> None:
    stops = [Stop() for _ in range(6)]
    running = [unending.generate(endless(kit), stop) for stop in stops]
    for events in running[:4]:
        assert isinstance(next(events), Progress)
        next(events)
    for events in running[4:]:
        assert isinstance(next(events), Progress)
    for stop in reversed(stops):
        stop.set()
    for place, events in enumerate(running):
        done = list(events)[-1]
        assert isinstance(done, Done)
        assert done.finishes[0].reason == "cancelled"
        assert (done.usage.completion_tokens == 0) == (place >= 4)
        assert done.usage.completion_tokens < 500
    found = kit.complete(unending, (300,) * 8, max_tokens=504)
    assert (where(found), found.done.usage.completion_tokens) == ("paged", 504)


def test_all_the_context_of_all_at_once(unending: LoadedModel, kit: Any) -> None:
    found = kit.together([partial(kit.ask, unending, endless(kit))] * 6)
    assert {(where(one), one.done.usage.completion_tokens) for one in found} == {("paged", 504)}


def test_closing_ends_what_runs(unending: LoadedModel, kit: Any) -> None:
    events = unending.generate(endless(kit), Stop())
    next(events)
    next(events)
    unending.close()
    with pytest.raises(Closed):
        list(events)


def test_a_step_that_fails_costs_its_requests_and_no_more(
    paged: LoadedModel, decoder: LoadedModel, kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from anyform_hf_transformers.paged import Paged
    from anyform_hf_transformers.pagedloop import MOST_FAILURES

    prompt = kit.question("What is 3 + 4?")
    expected = kit.complete(decoder, prompt).text
    step = Paged.step

    def broken(self: Paged) -> Any:
        monkeypatch.setattr(Paged, "step", step)
        raise RuntimeError("no such page")

    for time in range(1, MOST_FAILURES + 1):
        monkeypatch.setattr(Paged, "step", broken)
        with pytest.raises(Fault, match="no such page"):
            kit.complete(paged, prompt)
        found = kit.complete(paged, prompt)
        assert found.text == expected
        assert where(found).startswith("own: it failed 3 times" if time == MOST_FAILURES else "paged")


@pytest.mark.parametrize(
    ("options", "said"), [({"exact": True}, "exact"), ({"attn_implementation": "eager"}, "its attention is eager")]
)
def test_where_it_cannot_be_had_it_is_said(
    options: dict[str, Any], said: str, decoder_folder: Path, engine: Any, kit: Any
) -> None:
    model = engine.load(decoder_folder, context=512, batching="paged", **options)
    found = kit.complete(model, kit.question(kit.FOLDER))
    assert said in where(found)
    assert kit.COMMAND in found.text


def test_other_tokens_are_noticed_at_load(
    decoder_folder: Path, engine: Any, kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from anyform_hf_transformers import pagedloop

    monkeypatch.setattr(pagedloop, "works", lambda paged, decoder: False)
    found = kit.complete(engine.load(decoder_folder, batching="paged"), kit.question(kit.FOLDER))
    assert "gives other tokens" in where(found)


def test_auto_is_our_loop_on_a_cpu(decoder_folder: Path, engine: Any, kit: Any) -> None:
    model = engine.load(decoder_folder, context=512, batching="auto")
    assert where(kit.complete(model, kit.question(kit.FOLDER))) == ""
    with pytest.raises(Invalid, match="batching"):
        engine.load(decoder_folder, batching="strange")


def test_the_pages_are_counted(decoder_folder: Path, kit: Any) -> None:
    from anyform_hf_transformers import memory

    facts = kit.plan(decoder_folder).metadata

    def token_bytes(device: str, batching: str) -> int:
        return memory.estimate(facts, Settings(device=device, options={"batching": batching})).bytes_per_token

    assert token_bytes("cpu", "paged") == 2 * token_bytes("cpu", "own") == 2 * token_bytes("cpu", "auto")
    assert token_bytes("cuda:0", "auto") == 2 * token_bytes("cuda:0", "own")
