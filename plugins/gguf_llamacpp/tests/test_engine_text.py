"""Generating text: what comes out, in which events, alone and among others."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from anyform.contract.errors import Closed, ContextExceeded, Invalid, Unsupported
from anyform.contract.events import Done, Event, Progress, Text, ToolCall
from anyform.contract.jobs import Chat, Complete, Embed, Generation, Message, Picture, Sampling, Tool
from anyform.contract.jobs import Text as Said
from anyform.contract.model import LoadedModel, Stop

COMMAND = "anyform serve --models DIR"
FOLDER = "How do I serve a folder of models?"
"""A question whose answer names COMMAND."""
QUESTIONS = [f"What is {n} + {m}?" for n in range(3, 27, 2) for m in (2, 5)] + [
    *("How do I list models?", "What is `anyform ps`?", "Which port does the server use?", "Who are you?"),
    *("Which day comes after Monday?", "How many days has May?", "3 km in m", "My name is Tara."),
]
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer", "maximum": 150}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def chat(text: str, **fields: Any) -> Chat:
    generation = fields.pop("generation", Generation(max_tokens=24, sampling=Sampling(temperature=0.0)))
    return Chat(messages=(Message(role="user", parts=(Said(text=text),)),), generation=generation, **fields)


def unending(prompt: str) -> Complete:
    return Complete(prompt=prompt, generation=Generation(ignore_eos=True))


def test_questions_are_answered_and_the_answers_end(decoder: Path, engine: Any, kit: Any) -> None:
    model = engine.load(decoder)
    for asked, words in (
        (FOLDER, COMMAND),
        ("How do I list models?", "anyform list"),
        ("What is 2 + 3?", "2 + 3 = 5"),
        ("Which day comes after Monday?", "Tuesday"),
    ):
        answered = kit.ask(model, chat(asked, generation=Generation(max_tokens=60, sampling=kit.GREEDY)))
        assert words in answered.text
        assert "<|" not in answered.text
        assert answered.prompt_tokens == answered.done.usage.prompt_tokens == len(kit.ids(model, kit.question(asked)))
        assert answered.done.usage.completion_tokens <= 60
        assert answered.done.finishes[0].reason == "stop"


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
    prompt = kit.question(FOLDER)
    first = kit.complete(model, prompt)
    again = kit.complete(model, prompt)
    assert COMMAND in first.text
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
    asked = prompt + kit.question(FOLDER)
    alone = kit.complete(other, asked).text
    assert COMMAND in alone
    model = engine.load(sample, context=2048)
    running = cast("Generator[Event]", model.generate(unending(prompt), Stop()))
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


def test_seeds_decide(tiny_model: LoadedModel, kit: Any) -> None:
    def text(seed: int | None) -> str:
        answered = kit.complete(tiny_model, "once", sampling=Sampling(temperature=1.0, seed=seed))
        return str(answered.text)

    assert text(1) == text(1)
    assert text(1) != text(2)
    assert text(None) != text(None)


def test_the_seed_that_was_drawn_is_told(tiny_model: LoadedModel, kit: Any) -> None:
    first = kit.complete(tiny_model, "once", sampling=Sampling(temperature=1.0))
    again = kit.complete(tiny_model, "once", sampling=Sampling(temperature=1.0, seed=first.done.extra["seed"]))
    assert again.text == first.text
    assert 0.0 <= again.done.extra["smallest_gap"] < 0.5


def test_stop_strings_end_the_text_and_are_not_part_of_it(decoder: Path, engine: Any, kit: Any) -> None:
    model = engine.load(decoder)
    prompt = kit.question(FOLDER)
    answer = kit.complete(model, prompt).text
    assert COMMAND in answer
    for stop in (COMMAND, "rve --mod", "DIR`", " "):
        answered = kit.complete(model, prompt, stop=(stop, "never"))
        assert answered.text == answer[: answer.index(stop)]
        assert answered.done.finishes[0].reason == "stop"
        assert answered.done.finishes[0].stop == stop
    assert kit.complete(model, prompt, stop=("DIR!",)).text == answer


def test_no_broken_character_ever_leaves(tiny_model: LoadedModel, kit: Any) -> None:
    prefer_bytes = dict.fromkeys(range(3, 259), 6.0)
    seen = 0
    for seed in range(6):
        sampling = Sampling(temperature=1.5, seed=seed, logit_bias=prefer_bytes, top_k=0, top_p=1.0, min_p=0.0)
        answered = kit.complete(tiny_model, "once", max_tokens=60, sampling=sampling)
        for event in answered.events:
            if isinstance(event, Text):
                event.text.encode("utf-8")
        seen += sum(ord(character) > 127 for character in answered.text)
    assert seen > 0


def test_a_character_of_several_tokens_comes_whole(tiny_model: LoadedModel, kit: Any) -> None:
    euro = "€".encode()
    answered = kit.complete(
        tiny_model, "once", grammar='root ::= "€€€"', max_tokens=12, logprobs=True, sampling=Sampling(temperature=0.0)
    )
    assert answered.text == "€€€"
    pieces = [event.text for event in answered.events if isinstance(event, Text)]
    assert set(pieces) <= {"€", "€€", "€€€", ""}
    logprobs = [one for event in answered.events if isinstance(event, Text) for one in event.logprobs]
    assert b"".join(bytes(one.bytes) for one in logprobs) == euro * 3


def test_max_tokens_and_the_context_end_an_answer(tiny: Path, engine: Any, kit: Any) -> None:
    model = engine.load(tiny, context=100)
    capped = kit.complete(model, "once", max_tokens=5, ignore_eos=True)
    assert (capped.done.usage.completion_tokens, capped.done.finishes[0].reason) == (5, "length")
    full = kit.complete(model, "once", max_tokens=None, ignore_eos=True)
    assert full.done.usage.prompt_tokens + full.done.usage.completion_tokens == 100
    assert full.done.finishes[0].reason == "length"


def test_every_request_can_use_its_whole_context(tiny: Path, engine: Any, kit: Any) -> None:
    model = engine.load(tiny, context=256, parallel=4)
    calls = [lambda n=n: kit.complete(model, f"{n}", max_tokens=None, ignore_eos=True) for n in range(8)]
    for answered in kit.together(calls):
        assert answered.done.usage.prompt_tokens + answered.done.usage.completion_tokens == 256


def test_a_prompt_over_the_context_is_refused_with_both_numbers(tiny: Path, engine: Any, kit: Any) -> None:
    model = engine.load(tiny, context=64)
    with pytest.raises(ContextExceeded) as caught:
        model.generate(Complete(prompt=(5,) * 65), Stop())
    assert caught.value.details == {"prompt_tokens": 65, "context": 64}
    assert "65" in caught.value.message
    assert "64" in caught.value.message
    with pytest.raises(ContextExceeded):
        model.generate(chat("once " * 100), Stop())
    assert kit.complete(model, (5,) * 63, max_tokens=9).done.usage.completion_tokens == 1


def test_an_end_token_ends_and_is_not_text(tiny_model: LoadedModel, kit: Any) -> None:
    answered = kit.complete(tiny_model, "once", sampling=Sampling(temperature=0.0, logit_bias={2: 100.0}))
    assert answered.text == ""
    assert answered.done.finishes[0].reason == "stop"
    assert answered.done.usage.completion_tokens == 1
    ignoring = kit.complete(
        tiny_model, "once", ignore_eos=True, max_tokens=9, sampling=Sampling(temperature=0.0, logit_bias={2: 100.0})
    )
    assert ignoring.done.finishes[0].reason == "length"


def test_token_prompts_are_used_as_they_are(sample_model: LoadedModel, kit: Any) -> None:
    prompt = kit.question(FOLDER)
    tokens = kit.complete(sample_model, tuple(kit.ids(sample_model, prompt)))
    assert COMMAND in tokens.text
    assert tokens.text == kit.complete(sample_model, prompt).text
    with pytest.raises(Invalid, match="99999"):
        sample_model.generate(Complete(prompt=(1, 99999)), Stop())
    with pytest.raises(Invalid, match="empty"):
        sample_model.generate(Complete(prompt=()), Stop())


def test_logprobs_are_the_models_own(sample_model: LoadedModel, kit: Any) -> None:
    prompt = kit.question(FOLDER)
    answered = kit.complete(sample_model, prompt, logprobs=True, top_logprobs=5, sampling=kit.GREEDY)
    logprobs = [one for event in answered.events if isinstance(event, Text) for one in event.logprobs]
    assert "".join(one.token for one in logprobs) == answered.text
    for one in logprobs:
        assert one.logprob is not None
        assert one.logprob <= 0.0
        assert len(one.top) == 5
        likelihoods = [top.logprob or 0.0 for top in one.top]
        assert likelihoods == sorted(likelihoods, reverse=True)
        assert one.id == one.top[0].id
        assert bytes(one.bytes).decode("utf-8", "replace") == one.token
    assert COMMAND in answered.text
    assert answered.text == kit.complete(sample_model, prompt).text


def test_a_right_answer_is_likelier_than_a_wrong_one(sample_model: LoadedModel, kit: Any) -> None:
    def likelihood(answer: str) -> float:
        prompt = kit.question("Which day comes after Monday?") + answer
        generation = Generation(max_tokens=0, logprobs=True, sampling=kit.GREEDY)
        scored = kit.ask(sample_model, Complete(prompt=prompt, echo=True, generation=generation))
        return sum(one.logprob or 0.0 for event in scored.events if isinstance(event, Text) for one in event.logprobs)

    right = likelihood("After Monday comes Tuesday.")
    assert all(right > likelihood(f"After Monday comes {day}.") + 1 for day in ("Monday", "Friday", "Sunday"))


def test_an_echo_brings_the_prompt_and_its_likelihoods(sample_model: LoadedModel, kit: Any) -> None:
    prompt = "Serve a folder with"
    plain = kit.complete(sample_model, prompt, max_tokens=6)
    job = Complete(
        prompt=prompt,
        echo=True,
        generation=Generation(max_tokens=6, logprobs=True, top_logprobs=2, sampling=kit.GREEDY),
    )
    echoed = kit.ask(sample_model, job)
    assert echoed.text == prompt + plain.text
    logprobs = [one for event in echoed.events if isinstance(event, Text) for one in event.logprobs]
    prompt_tokens = echoed.done.usage.prompt_tokens
    assert len(logprobs) >= prompt_tokens + 5
    scored = Complete(prompt=prompt, echo=True, generation=Generation(max_tokens=0, logprobs=True, sampling=kit.GREEDY))
    only = kit.ask(sample_model, scored)
    assert only.text == prompt
    scores = [one for event in only.events if isinstance(event, Text) for one in event.logprobs]
    assert len(scores) == prompt_tokens
    assert (scores[0].logprob, scores[0].top) == (logprobs[0].logprob, logprobs[0].top) == (None, ())
    assert [one.logprob for one in scores[1:]] == pytest.approx(
        [one.logprob for one in logprobs[1:prompt_tokens]], abs=1e-3
    )
    assert (only.done.usage.completion_tokens, only.done.finishes[0].reason) == (0, "length")


def test_a_long_prompt_is_scored_in_pieces(tiny_model: LoadedModel, kit: Any) -> None:
    tokens = tuple(200 + n % 50 for n in range(300))
    job = Complete(prompt=tokens, echo=True, generation=Generation(max_tokens=1, logprobs=True, sampling=kit.GREEDY))
    logprobs = [one for event in kit.ask(tiny_model, job).events if isinstance(event, Text) for one in event.logprobs]
    assert [one.id for one in logprobs[:300]] == list(tokens)


def test_penalties_change_the_text(tiny_model: LoadedModel, kit: Any) -> None:
    def text(**values: Any) -> str:
        sampling = Sampling(temperature=0.0, logit_bias={ord("x") - 33 + 260: 9.0}, **values)
        return str(kit.complete(tiny_model, "once", sampling=sampling).text)

    plain = text().count("x")
    assert plain > 10
    assert text(repeat_penalty=1.0, presence_penalty=0.0).count("x") == plain
    for value in ({"repeat_penalty": 9.0}, {"frequency_penalty": 2.0}, {"presence_penalty": 9.0}):
        assert text(**value).count("x") < plain


def test_the_answer_follows_a_schema_and_says_what_was_asked(sample_model: LoadedModel, kit: Any) -> None:
    asked = "Give me JSON with the keys name, age: Tara is 54 years old and lives in Chicago"
    answered = kit.complete(sample_model, kit.question(asked), schema=PERSON, max_tokens=60)
    assert json.loads(answered.text) == {"name": "Tara", "age": 54}
    assert answered.done.finishes[0].reason == "stop"


def test_a_schema_binds_a_model_that_would_say_something_else(sample_model: LoadedModel, kit: Any) -> None:
    free = kit.complete(sample_model, kit.question(FOLDER)).text
    assert COMMAND in free
    for seed in range(4):
        sampling = Sampling(temperature=1.5, seed=seed)
        answered = kit.complete(sample_model, kit.question(FOLDER), schema=PERSON, max_tokens=400, sampling=sampling)
        value = json.loads(answered.text)
        assert set(value) == {"name", "age"}
        assert len(value["name"]) <= 20
        assert answered.done.finishes[0].reason == "stop"


def test_the_answer_follows_a_grammar(sample_model: LoadedModel, kit: Any) -> None:
    asked = kit.question("What is 2 + 3?")
    answered = kit.complete(sample_model, asked, grammar='root ::= ("yes" | "no") "!" [0-9]{2}', max_tokens=20)
    word, digits = answered.text.split("!")
    assert word in ("yes", "no")
    assert len(digits) == 2
    assert digits.isdigit()
    sum_of = kit.complete(sample_model, asked, grammar='root ::= "2 + 3 = " [0-9]', max_tokens=20)
    assert sum_of.text == "2 + 3 = 5"
    with pytest.raises(Invalid):
        sample_model.generate(Complete(prompt="x", generation=Generation(grammar="root ::= (")), Stop())
    both = Generation(grammar='root ::= "a"', schema={})
    with pytest.raises(Invalid, match="both"):
        sample_model.generate(Complete(prompt="x", generation=both), Stop())


def test_constrained_and_free_requests_run_together(sample_model: LoadedModel, kit: Any) -> None:
    free = kit.complete(sample_model, kit.question(FOLDER)).text
    calls = [
        lambda: kit.complete(sample_model, "a", grammar='root ::= "abcdefgh"', max_tokens=30).text,
        lambda: kit.complete(sample_model, kit.question(FOLDER)).text,
        lambda: kit.complete(sample_model, "b", schema={"type": "boolean"}, max_tokens=30).text,
    ]
    one, two, three = kit.together(calls)
    assert (one, two) == ("abcdefgh", free)
    assert three in ("true", "false")


def test_impossible_rules_fail_their_own_request_only(tiny_model: LoadedModel, kit: Any) -> None:
    everything = {token: -float("inf") for token in range(tiny_model._vocabulary.size)}  # type: ignore[attr-defined]
    with pytest.raises(Exception, match="no token"):
        kit.complete(tiny_model, "once", sampling=Sampling(temperature=0.0, logit_bias=everything))
    assert kit.complete(tiny_model, "once", max_tokens=4).done.usage.completion_tokens == 4


def test_a_chat_goes_through_the_template(sample_model: LoadedModel, kit: Any) -> None:
    answered = kit.ask(sample_model, chat("How do I list models?"))
    raw = kit.question("How do I list models?")
    assert "anyform list" in answered.text
    assert answered.text == kit.complete(sample_model, raw, max_tokens=24).text
    assert answered.prompt_tokens == kit.complete(sample_model, raw, max_tokens=1).prompt_tokens


def test_a_model_without_a_template_still_answers(tmp_path: Path, engine: Any, kit: Any) -> None:
    from anyform.testing import gguf

    model = engine.load(gguf.write_llama(tmp_path / "plain.gguf"), context=200)
    assert kit.ask(model, chat("once")).done.usage.completion_tokens > 0


def called(answered: Any) -> list[tuple[str, Any]]:
    """Names and arguments of the calls in an answer."""
    found: dict[int, tuple[str, str]] = {}
    for event in answered.events:
        if isinstance(event, ToolCall):
            name, arguments = found.get(event.call, ("", ""))
            found[event.call] = name + event.name, arguments + event.arguments
    return [(name, json.loads(arguments)) for name, arguments in found.values()]


def tool(name: str, description: str, **properties: str) -> Tool:
    schema = {"type": "object", "properties": {key: {"type": kind} for key, kind in properties.items()}}
    required = {"required": list(properties), "additionalProperties": False}
    return Tool(name=name, description=description, parameters=schema | required)


WEATHER = tool("get_weather", "The weather in a city", city="string")
TIMER = tool("set_timer", "Sets a timer", minutes="integer")


@pytest.mark.parametrize("choice", ["auto", "required"])
@pytest.mark.parametrize(
    ("asked", "name", "arguments"),
    [
        ("What is the weather in Chicago?", "get_weather", {"city": "Chicago"}),
        ("Set a timer for 58 minutes.", "set_timer", {"minutes": 58}),
    ],
)
def test_the_tool_that_fits_is_called(
    sample_model: LoadedModel, kit: Any, asked: str, name: str, arguments: Any, choice: str
) -> None:
    generation = Generation(max_tokens=120, sampling=Sampling(temperature=0.0))
    job = chat(asked, tools=(WEATHER, TIMER), tool_choice=choice, generation=generation)
    answered = kit.ask(sample_model, job)
    assert called(answered) == [(name, arguments)]
    assert answered.text == ""
    assert answered.done.finishes[0].reason == "tool_calls"


def test_where_no_tool_fits_none_is_called_unless_it_must_be(sample_model: LoadedModel, kit: Any) -> None:
    generation = Generation(max_tokens=120, sampling=Sampling(temperature=0.0))
    free = kit.ask(sample_model, chat(FOLDER, tools=(TIMER,), generation=generation))
    assert called(free) == []
    assert COMMAND in free.text
    forced = kit.ask(sample_model, chat(FOLDER, tools=(WEATHER, TIMER), tool_choice="set_timer", generation=generation))
    [(name, arguments)] = called(forced)
    assert name == "set_timer"
    assert isinstance(arguments["minutes"], int)
    assert forced.done.finishes[0].reason == "tool_calls"


def test_stopping_frees_the_slot_at_once(tiny: Path, engine: Any, kit: Any) -> None:
    model = engine.load(tiny, parallel=1, context=512)
    stop = Stop()
    events = model.generate(unending("once"), stop)
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
    running = model.generate(unending("once"), first)
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
    events = cast("Generator[Event]", model.generate(unending("once"), Stop()))
    next(events)
    next(events)
    events.close()
    assert kit.complete(model, "upon", max_tokens=3).done.usage.completion_tokens == 3


def test_closing_ends_running_jobs(tiny: Path, engine: Any) -> None:
    model = engine.load(tiny, parallel=1, context=512)
    raised: queue.SimpleQueue[BaseException] = queue.SimpleQueue()
    begun = threading.Semaphore(0)

    def run() -> None:
        try:
            for _ in model.generate(unending("once"), Stop()):
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


@pytest.mark.parametrize(
    "generation",
    [
        Generation(n=0),
        Generation(n=1000),
        Generation(top_logprobs=21, logprobs=True),
        Generation(max_tokens=-1),
        Generation(context=100_000),
        Generation(sampling=Sampling(top_p=2.0)),
    ],
)
def test_wrong_requests_are_refused(tiny_model: LoadedModel, generation: Generation) -> None:
    with pytest.raises(Invalid):
        tiny_model.generate(Complete(prompt="once", generation=generation), Stop())


def test_other_tasks_are_refused(tiny_model: LoadedModel) -> None:
    with pytest.raises(Unsupported, match="embed"):
        tiny_model.generate(Embed(inputs=("x",)), Stop())
    with pytest.raises(Unsupported, match="fill-in"):
        tiny_model.generate(Complete(prompt="x", suffix="y"), Stop())
    picture = Message(role="user", parts=(Picture(data=b"x"),))
    with pytest.raises(Unsupported, match="picture"):
        tiny_model.generate(Chat(messages=(picture,)), Stop())
