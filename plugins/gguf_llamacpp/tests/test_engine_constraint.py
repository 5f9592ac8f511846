"""Text that is bound: by schemas, by grammars, and to calling the tool that fits."""

from __future__ import annotations

import json
from typing import Any

import pytest

from anyform.contract.errors import Invalid
from anyform.contract.events import ToolCall
from anyform.contract.jobs import Complete, Generation, Sampling, Tool
from anyform.contract.model import LoadedModel, Stop

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer", "maximum": 150}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def test_the_answer_follows_a_schema_and_says_what_was_asked(sample_model: LoadedModel, kit: Any) -> None:
    asked = "Give me JSON with the keys name, age: Tara is 54 years old and lives in Chicago"
    answered = kit.complete(sample_model, kit.question(asked), schema=PERSON, max_tokens=60)
    assert json.loads(answered.text) == {"name": "Tara", "age": 54}
    assert answered.done.finishes[0].reason == "stop"


def test_a_schema_binds_a_model_that_would_say_something_else(sample_model: LoadedModel, kit: Any) -> None:
    free = kit.complete(sample_model, kit.question(kit.FOLDER)).text
    assert kit.COMMAND in free
    for seed in range(4):
        sampling = Sampling(temperature=1.5, seed=seed)
        answered = kit.complete(
            sample_model, kit.question(kit.FOLDER), schema=PERSON, max_tokens=400, sampling=sampling
        )
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
    free = kit.complete(sample_model, kit.question(kit.FOLDER)).text
    calls = [
        lambda: kit.complete(sample_model, "a", grammar='root ::= "abcdefgh"', max_tokens=30).text,
        lambda: kit.complete(sample_model, kit.question(kit.FOLDER)).text,
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
    job = kit.chat(asked, tools=(WEATHER, TIMER), tool_choice=choice, generation=generation)
    answered = kit.ask(sample_model, job)
    assert called(answered) == [(name, arguments)]
    assert answered.text == ""
    assert answered.done.finishes[0].reason == "tool_calls"


def test_where_no_tool_fits_none_is_called_unless_it_must_be(sample_model: LoadedModel, kit: Any) -> None:
    generation = Generation(max_tokens=120, sampling=Sampling(temperature=0.0))
    free = kit.ask(sample_model, kit.chat(kit.FOLDER, tools=(TIMER,), generation=generation))
    assert called(free) == []
    assert kit.COMMAND in free.text
    forced = kit.ask(
        sample_model, kit.chat(kit.FOLDER, tools=(WEATHER, TIMER), tool_choice="set_timer", generation=generation)
    )
    [(name, arguments)] = called(forced)
    assert name == "set_timer"
    assert isinstance(arguments["minutes"], int)
    assert forced.done.finishes[0].reason == "tool_calls"
