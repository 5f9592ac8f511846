"""The decode loop when the engine fails, and how it divides its steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from anyform.contract.errors import Fault
from anyform.contract.events import Text
from anyform.contract.jobs import Complete, Generation, Sampling
from anyform.contract.model import Stop
from anyform_gguf_llamacpp.engine import Context
from anyform_gguf_llamacpp.loop import DecodeFailed


def fail_on(context: Context, token: int, code: int) -> None:
    """Make decodes of batches with *token* fail, as the engine would: nothing of them gets into memory."""
    decode = context.decode

    def failing(count: int) -> int:
        return code if token in context.token[:count] else decode(count)

    context.decode = failing  # type: ignore[method-assign]


@pytest.mark.parametrize("code", [1, -1, -3])
@pytest.mark.parametrize("exact", [True, False])
def test_a_failed_decode_costs_the_affected_request_only(
    tiny: Path, engine: Any, kit: Any, code: int, exact: bool
) -> None:
    model = engine.load(tiny, exact=exact)
    prompts = ["once upon", "the little", "play"]
    alone = [kit.complete(model, prompt, max_tokens=40, ignore_eos=True).text for prompt in prompts]
    (bad,) = kit.ids(model, "\x07")[-1:]
    fail_on(model._loop._context, bad, code)
    calls = [lambda p=p: kit.complete(model, p, max_tokens=40, ignore_eos=True).text for p in prompts]
    *texts, failed = kit.together([*calls, lambda: kit.complete(model, "was \x07 outside", max_tokens=40)])
    assert isinstance(failed, DecodeFailed)
    assert failed.details["decode_code"] == code
    if exact:
        assert texts == alone
    again = [kit.complete(model, prompt, max_tokens=40, ignore_eos=True).text for prompt in prompts]
    assert again == alone or not exact


def test_a_loop_that_breaks_tells_everyone(tiny: Path, engine: Any, kit: Any) -> None:
    model = engine.load(tiny)

    def explode(_: int) -> int:
        raise RuntimeError("the sky fell")

    model._loop._context.decode = explode
    for raised in kit.together([lambda: kit.complete(model, "once") for _ in range(6)]):
        assert isinstance(raised, Fault)
        assert "the sky fell" in raised.message
    with pytest.raises(Fault, match="the sky fell"):
        kit.complete(model, "once")
    model.close()


def test_running_answers_go_on_while_a_long_prompt_is_read(tiny: Path, engine: Any, kit: Any) -> None:
    model = engine.load(tiny, text_interval=0, exact=False, context=4096, parallel=2, ubatch=32, batch=64)
    loop = model._loop
    steps: list[tuple[int, int]] = []
    decode = loop._context.decode

    def watched(count: int) -> int:
        steps.append((count, loop._layout.prompt_rows))
        return int(decode(count))

    loop._context.decode = watched
    events = model.generate(Complete(prompt="once", generation=Generation(max_tokens=400, ignore_eos=True)), Stop())
    next(events)
    next(events)
    kit.complete(model, (7,) * 1500, max_tokens=2)
    texts = sum(isinstance(event, Text) for event in events)
    reading = [rows for rows in steps if rows[1] >= 16]
    assert len(reading) >= 1500 // 32
    assert all(rows - prompt == 1 for rows, prompt in reading[1:-1])
    assert texts > len(reading)


def test_holes_between_slots_do_not_change_texts(sample: Path, engine: Any, kit: Any) -> None:
    model = engine.load(sample, parallel=8, exact=False)
    prompts = [kit.question(f"What is {n} + 2?") for n in range(3, 11)]
    lengths = [150, 5, 150, 5, 5, 5, 150, 5]
    calls = [
        lambda p=p, n=n: kit.complete(model, p, max_tokens=n, ignore_eos=True)
        for p, n in zip(prompts, lengths, strict=True)
    ]
    together = kit.together(calls)
    again = [kit.complete(model, p, max_tokens=n, ignore_eos=True) for p, n in zip(prompts, lengths, strict=True)]
    for one, other in zip(together, again, strict=True):
        assert one.done.usage.completion_tokens == other.done.usage.completion_tokens
    assert all(answered.done.usage.cached_tokens > 0 for answered in again)
    for number, (one, other) in enumerate(zip(together, again, strict=True), 3):
        assert one.text.startswith(f"{number} + 2"[:3])
        assert one.text[:6] == other.text[:6]


def test_a_prompt_of_one_token_is_read_beside_running_answers(sample: Path, engine: Any, kit: Any) -> None:
    model = engine.load(sample, parallel=3, exact=True)
    prompts = ["a", kit.question("How do I serve a folder of models?"), "b"]
    assert [len(kit.ids(model, prompt)) for prompt in prompts if len(prompt) == 1] == [1, 1]
    calls = [lambda p=p: kit.complete(model, p, max_tokens=30).text for p in prompts]
    alone = [call() for call in calls]  # type: ignore[no-untyped-call]
    assert "anyform serve --models DIR" in alone[1]
    for _ in range(6):
        assert kit.together(calls) == alone


def only_a(kit: Any, model: Any) -> Sampling:
    """Answers of whole characters: a random model's own are often halves."""
    return Sampling(temperature=0, logit_bias={kit.ids(model, "a")[-1]: 100.0})


def test_tokens_that_come_soon_travel_together(tiny: Path, engine: Any, kit: Any) -> None:
    def said(interval: float) -> tuple[str, list[Text]]:
        model = engine.load(tiny, text_interval=interval)
        sampling = only_a(kit, model)
        answered = kit.complete(model, "once", max_tokens=60, ignore_eos=True, logprobs=True, sampling=sampling)
        return answered.text, [event for event in answered.events if isinstance(event, Text)]

    text, waited = said(3600)
    expected, _ = said(0)
    assert text == expected
    assert len(waited[0].logprobs) == 1  # the first never waits
    assert len(waited) == 2
    assert sum(len(event.logprobs) for event in waited) == 60


def test_held_tokens_are_not_lost_when_an_answer_is_cancelled(tiny: Path, engine: Any, kit: Any) -> None:
    model = engine.load(tiny, text_interval=3600, context=512)
    stop = Stop()
    decode, steps = model._loop._context.decode, iter(range(1000))

    def slow(count: int) -> int:
        if next(steps) == 10:
            stop.wait(10)
        return decode(count)

    model._loop._context.decode = slow
    generation = Generation(max_tokens=400, ignore_eos=True, sampling=only_a(kit, model))
    running = model.generate(Complete(prompt="once upon", generation=generation), stop)
    events = []
    for event in running:
        events.append(event)
        if isinstance(event, Text):
            stop.set()
    done = events[-1]
    assert done.finishes[0].reason == "cancelled"
    assert "".join(event.text for event in events if isinstance(event, Text)) == " a" * done.usage.completion_tokens
