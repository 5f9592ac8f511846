"""A request among others: batched, sharing what was read, in which events, and stopped."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from anyform.contract.errors import Closed
from anyform.contract.events import Done, Event, Progress, Text
from anyform.contract.jobs import Chat, Complete, Generation, Message, Sampling
from anyform.contract.jobs import Text as Said
from anyform.contract.model import LoadedModel, Stop

QUESTIONS = [f"What is {n} + {m}?" for n in range(3, 27, 2) for m in (2, 5)] + [
    *("How do I list models?", "What is `anyform ps`?", "Which port does the server use?", "Who are you?"),
    *("Which day comes after Monday?", "How many days has May?", "3 km in m", "My name is Tara."),
]


def test_what_was_told_is_remembered_and_not_read_again(sample_model: LoadedModel, kit: Any) -> None:
    told = Message(role="user", parts=(Said(text="My name is Tara."),))
    first = kit.ask(sample_model, Chat(messages=(told,), generation=Generation(max_tokens=40, sampling=kit.GREEDY)))
    assert "Tara" in first.text
    answered = Message(role="assistant", parts=(Said(text=first.text),))
    asked = Message(role="user", parts=(Said(text="What is my name?"),))
    job = Chat(messages=(told, answered, asked), generation=Generation(max_tokens=40, sampling=kit.GREEDY))
    second = kit.ask(sample_model, job)
    assert "Tara" in second.text
    assert second.done.usage.cached_tokens >= first.done.usage.prompt_tokens + first.done.usage.completion_tokens - 1


def test_each_gets_the_text_it_gets_alone(decoder: Path, engine: Any, kit: Any) -> None:
    def tell(model: LoadedModel, place: int) -> str:
        """Half of them greedy, half with a seed."""
        sampling = Sampling(temperature=place % 2, seed=place)
        return str(kit.complete(model, kit.question(QUESTIONS[place]), max_tokens=60, sampling=sampling).text)

    def calls(model: LoadedModel) -> list[Callable[[], str]]:
        return [partial(tell, model, place) for place in range(len(QUESTIONS))]

    alone = [call() for call in calls(engine.load(decoder, parallel=1))]
    assert len(set(alone)) > 25
    for parallel in (3, 8, 32):
        assert kit.together(calls(engine.load(decoder, parallel=parallel))) == alone


def test_many_requests_wait_their_turn_and_all_are_answered(tiny_model: LoadedModel, kit: Any) -> None:
    calls = [lambda n=n: kit.complete(tiny_model, f"{n}", max_tokens=n % 7 + 1, ignore_eos=True) for n in range(40)]
    answers = kit.together(calls)
    assert [answered.done.usage.completion_tokens for answered in answers] == [n % 7 + 1 for n in range(40)]


def test_events_come_in_order_and_while_it_runs(tiny: Path, engine: Any) -> None:
    model = engine.load(tiny, text_interval=0)
    events = model.generate(Complete(prompt="once", generation=Generation(max_tokens=40, ignore_eos=True)), Stop())
    first = next(events)
    assert isinstance(first, Progress)
    assert first.total == 2
    rest = list(events)
    assert all(isinstance(event, Text) for event in rest[:-1])
    assert len(rest) > 5
    done = rest[-1]
    assert isinstance(done, Done)
    assert done.generate_s > 0.0
    assert done.prompt_s > 0.0


def test_a_finished_requests_prefix_is_reused(sample: Path, engine: Any, kit: Any) -> None:
    model = engine.load(sample)
    prompt = kit.question(kit.FOLDER)
    first = kit.complete(model, prompt)
    again = kit.complete(model, prompt)
    assert kit.COMMAND in first.text
    assert first.done.usage.cached_tokens == 0
    assert again.done.usage.cached_tokens == again.done.usage.prompt_tokens - 2
    assert again.text == first.text
    longer = kit.complete(model, prompt + first.text + "<|im_end|>\n" + kit.question("What is 2 + 3?"))
    assert longer.done.usage.cached_tokens >= first.done.usage.prompt_tokens
    assert longer.text == "2 + 3 = 5"
    other = kit.complete(model, "zzz", max_tokens=8)
    assert other.done.usage.cached_tokens == 0


def test_a_running_requests_prefix_is_copied(sample: Path, engine: Any, kit: Any) -> None:
    other = engine.load(sample, context=2048)
    prompt = ""
    for said in ("Who are you?", "How do I list models?", "What is the capital of France?", "Hello!"):
        prompt += kit.question(said)
        prompt += kit.complete(other, prompt).text + "<|im_end|>\n"
    asked = prompt + kit.question(kit.FOLDER)
    alone = kit.complete(other, asked).text
    assert kit.COMMAND in alone
    model = engine.load(sample, context=2048)
    running = cast("Generator[Event]", model.generate(kit.unending(prompt), Stop()))
    next(running)
    next(running)
    answered = kit.complete(model, asked)
    running.close()
    assert answered.done.usage.cached_tokens > 100
    assert answered.text == alone


def test_several_answers_share_a_prompt(tiny_model: LoadedModel, kit: Any) -> None:
    sampling = Sampling(temperature=1.0, seed=5)
    answered = kit.complete(tiny_model, "once upon", n=6, max_tokens=20, sampling=sampling)
    texts = [answered.text_of(index) for index in range(6)]
    assert len(answered.done.finishes) == 6
    assert answered.done.usage.completion_tokens <= 120
    assert len(set(texts)) > 3
    assert texts[0] == kit.complete(tiny_model, "once upon", max_tokens=20, sampling=sampling).text


def test_stopping_frees_the_slot_at_once(tiny: Path, engine: Any, kit: Any) -> None:
    model = engine.load(tiny, parallel=1, context=512)
    stop = Stop()
    events = model.generate(kit.unending("once"), stop)
    next(events)
    next(events)
    stop.set()
    rest = list(events)
    done = rest[-1]
    assert isinstance(done, Done)
    assert done.finishes[0].reason == "cancelled"
    assert done.usage.completion_tokens < 400
    assert kit.complete(model, "upon", max_tokens=3).done.usage.completion_tokens == 3


def test_a_request_that_waits_can_be_stopped(tiny: Path, engine: Any, kit: Any) -> None:
    model = engine.load(tiny, parallel=1, context=512)
    first, second = Stop(), Stop()
    running = model.generate(kit.unending("once"), first)
    next(running)
    next(running)
    waiting = model.generate(Complete(prompt="upon", generation=Generation(max_tokens=4)), second)
    assert isinstance(next(waiting), Progress)
    second.set()
    done = list(waiting)[-1]
    assert isinstance(done, Done)
    assert done.finishes[0].reason == "cancelled"
    assert done.usage.completion_tokens == 0
    first.set()
    assert list(running)


def test_a_reader_that_goes_away_frees_the_slot(tiny: Path, engine: Any, kit: Any) -> None:
    model = engine.load(tiny, parallel=1, context=512)
    events = cast("Generator[Event]", model.generate(kit.unending("once"), Stop()))
    next(events)
    next(events)
    events.close()
    assert kit.complete(model, "upon", max_tokens=3).done.usage.completion_tokens == 3


def test_closing_ends_running_jobs(tiny: Path, engine: Any, kit: Any) -> None:
    model = engine.load(tiny, parallel=1, context=512)
    raised: queue.SimpleQueue[BaseException] = queue.SimpleQueue()
    begun = threading.Semaphore(0)

    def run() -> None:
        try:
            for _ in model.generate(kit.unending("once"), Stop()):
                begun.release()
        except Closed as fault:
            raised.put(fault)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(4):
        begun.acquire()
    model.close()
    model.close()
    for thread in threads:
        thread.join()
    assert raised.qsize() >= 1
    with pytest.raises(Closed):
        model.generate(Complete(prompt="once"), Stop())
