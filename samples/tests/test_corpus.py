"""The corpus: the same for a seed, divided cleanly, true, and rendered alike wherever templates are rendered."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from anyform.cli.overview import COMMANDS
from anyform.text.sandbox import Sandbox
from anyform.text.template import ChatTemplate
from anyform_samples.corpus import (
    CATEGORIES,
    CHAT_TEMPLATE,
    Example,
    held_out,
    question_of,
    render,
    rendered,
    right,
    segments,
    training,
)
from anyform_samples.corpus.draw import bare
from anyform_samples.corpus.facts import FACTS

USE = (Path(__file__).parents[2] / "docs" / "use.md").read_text(encoding="utf-8")
SUM = re.compile(r"^(\d+) ([+-]) (\d+) = (\d+)$")
MOVED = re.compile(r"^(\d+) (km|m|cm|kg|g|t|l|centuries|kB) = (\d+) (m|cm|mm|g|mg|kg|ml|years|bytes)$")
LATER = re.compile(r"^(\d) years after (\d{4}) is (\d{4})\.$")
LEAP = re.compile(r"^(\d{4}) is (a|not a) leap year\.$")
REMEMBERED = re.compile(r"^Your (?!favourite colour)([\w' ]+) is (.+)\.$")


@lru_cache(maxsize=1)
def drawn() -> list[Example]:
    return list(islice(training(1), 8000))


def answers(example: Example) -> Iterator[Mapping[str, Any]]:
    return (message for message in example.messages if message["role"] == "assistant")


def asked(example: Example) -> Iterator[str]:
    return (message["content"] for message in example.messages if message["role"] == "user")


def values(message: Mapping[str, Any]) -> Iterator[tuple[object, ...]]:
    """What an answer states, where the split keeps values apart."""
    text = message["content"]
    if found := SUM.match(text):
        a, sign, b, c = int(found[1]), found[2], int(found[3]), int(found[4])
        total, part = (c, a) if sign == "+" else (a, b)
        yield ("sum", total, min(part, total - part))
    elif found := MOVED.match(text):
        yield ("unit", *found.groups())
    elif found := LATER.match(text):
        yield ("year", found[1], found[2])
    elif found := LEAP.match(text):
        yield ("leap", found[1])
    elif found := REMEMBERED.match(text):
        yield ("remembered", found[2])
    elif text.startswith("{"):
        filled = json.loads(text)
        yield from (("filled", filled[key]) for key in ("name", "title", "customer", "age", "price") if key in filled)
    for call in message.get("tool_calls", ()):
        function = call["function"]
        kept = ("city", "location", "minutes", "query", "to", "person", "company", "symbol", "title")
        given = function["arguments"]
        if "language" not in given and "translat" not in function["name"]:
            yield from (("called", given[key]) for key in kept if key in given)


def all_values(examples: Iterable[Example], *, last: bool) -> set[tuple[object, ...]]:
    chosen = ([example.messages[-1]] if last else answers(example) for example in examples)
    return {value for messages in chosen for message in messages for value in values(message)}


def assert_apart(trained: list[Example]) -> None:
    held = held_out()
    questions = {bare(text) for example in trained for text in asked(example)}
    shared = [text for text in (list(asked(example))[-1] for example in held) if bare(text) in questions]
    assert not shared, shared[:5]
    both = all_values(trained, last=False) & all_values(held, last=True)
    assert not both, sorted(both, key=repr)[:5]


def test_a_seed_gives_the_same_examples_and_another_gives_others() -> None:
    first, again, other = (list(islice(training(seed), 300)) for seed in (7, 7, 8))
    assert first == again
    assert len({question_of(example) for example in first} & {question_of(example) for example in other}) < 15


def test_the_corpus_is_the_one_that_the_shipped_model_was_trained_on() -> None:
    """When this changes, train anew: the held-out split may no longer be what that model never saw."""
    digest = hashlib.sha256()
    for example in [*islice(training(3), 3000), *held_out()]:
        digest.update(json.dumps([example.category, example.messages, example.tools, example.schema]).encode())
    assert digest.hexdigest()[:16] == "9886f37bd9859cf4"


def test_held_out_questions_are_fixed_different_and_of_every_category() -> None:
    held = held_out(40)
    assert Counter(example.category for example in held) == dict.fromkeys(CATEGORIES, 40)
    assert len({question_of(example) for example in held}) == len(held)
    assert [question_of(example) for example in held_out(40)] == [question_of(example) for example in held]


def test_training_has_every_category_and_chats_of_several_turns() -> None:
    counts = Counter(example.category for example in drawn())
    assert min(counts[category] for category in CATEGORIES) > 0.03 * len(drawn())
    assert sum(len(list(answers(example))) for example in drawn()) > 1.5 * len(drawn())


def test_held_out_phrasings_and_values_never_come_in_training() -> None:
    assert_apart(drawn())


@pytest.mark.full
def test_held_out_phrasings_and_values_never_come_in_a_hundred_thousand_draws() -> None:
    assert_apart(list(islice(training(2), 100_000)))


def test_the_check_of_values_sees_them() -> None:
    kinds = Counter(str(value[0]) for value in all_values(held_out(), last=True))
    assert min(kinds[kind] for kind in ("sum", "unit", "year", "leap", "remembered", "filled", "called")) >= 3


def test_a_question_has_one_answer() -> None:
    found: dict[str, set[str]] = {}
    for example in (*drawn(), *held_out()):
        if len(example.messages) == 2 and not example.tools and example.category != "json":
            found.setdefault(bare(example.messages[0]["content"]), set()).add(example.messages[1]["content"])
    assert len(found) > 1000
    assert [question for question, given in found.items() if len(given) > 1] == []


def test_sums_units_and_years_are_true() -> None:
    factors = {"km m": 1000, "m cm": 100, "cm mm": 10, "m mm": 1000, "kg g": 1000, "g mg": 1000, "t kg": 1000}
    factors |= {"l ml": 1000, "centuries years": 100, "kB bytes": 1000}
    checked = 0
    for text in (message["content"] for example in drawn() for message in answers(example)):
        if found := SUM.match(text):
            a, b, c = int(found[1]), int(found[3]), int(found[4])
            assert (a + b if found[2] == "+" else a - b) == c, text
        elif found := MOVED.match(text):
            assert int(found[1]) * factors[f"{found[2]} {found[4]}"] == int(found[3]), text
        elif found := LATER.match(text):
            assert int(found[1]) + int(found[2]) == int(found[3]), text
        else:
            continue
        checked += 1
    assert checked > 1000


def test_what_is_copied_stands_in_the_question() -> None:
    for example in held_out():
        said = "\n".join(message["content"] for message in example.messages[:-1])
        answer = example.messages[-1]
        for call in answer.get("tool_calls", ()):
            assert all(str(value) in said for value in call["function"]["arguments"].values())
        if example.category == "json":
            assert all(str(value) in said for value in json.loads(answer["content"]).values())
        if example.category == "memory" and (found := REMEMBERED.match(answer["content"])):
            assert found[2] in said


def test_answers_follow_their_schemas_and_calls_their_tools() -> None:
    for example in held_out():
        answer = example.messages[-1]
        if example.category == "json":
            assert example.schema is not None
            jsonschema.validate(json.loads(answer["content"]), {**example.schema, "additionalProperties": False})
            assert list(json.loads(answer["content"])) == list(example.schema["properties"])
        offered = {tool["function"]["name"]: tool["function"]["parameters"] for tool in example.tools}
        assert len(offered) == len(example.tools)
        for call in answer.get("tool_calls", ()):
            function = call["function"]
            jsonschema.validate(function["arguments"], offered[function["name"]])
        assert example.category in ("tools", "no_tool") or not example.tools


def test_every_wanted_answer_is_right_and_an_altered_one_is_wrong() -> None:
    for example in held_out():
        wanted = copy.deepcopy(dict(example.messages[-1]))
        assert right(example, wanted)
        for call in wanted.get("tool_calls", ()):
            call["function"]["arguments"] = json.dumps(call["function"]["arguments"])
        assert right(example, wanted)
        assert not right(example, {"role": "assistant", "content": "Something else."})
        assert not right(example, {"role": "assistant", "content": None})
        assert not any(right(example, altered) for altered in altered_answers(wanted))


def altered_answers(wanted: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    calls = wanted.get("tool_calls")
    if not calls:
        yield {**wanted, "content": wanted["content"][:-1]}
        yield {**wanted, "content": wanted["content"] + "1"}
        yield {**wanted, "tool_calls": [{"function": {"name": "add", "arguments": "{}"}}]}
        return
    function = calls[0]["function"]
    for change in ({"name": function["name"] + "x"}, {"arguments": "{"}, {"arguments": "{}"}):
        yield {**wanted, "tool_calls": [{"function": {**function, **change}}]}
    yield {**wanted, "tool_calls": [*calls, *calls]}


@pytest.mark.parametrize(
    ("answer", "is_right"),
    [
        (' {"b": "x", "a": 1}\n', True),
        ('{"a": 1, "b": "x", "c": 2}', False),
        ('{"a": true, "b": "x"}', False),
        ('{"a": "1", "b": "x"}', False),
        ('{"a": 1, "b": "x"', False),
    ],
)
def test_json_is_compared_as_a_value(answer: str, is_right: bool) -> None:
    example = Example("json", ({"role": "assistant", "content": '{"a": 1, "b": "x"}'},))
    assert right(example, {"role": "assistant", "content": answer}) is is_right


def test_the_template_renders_the_same_in_the_runtime_that_serves_the_model() -> None:
    sandbox = Sandbox()
    template = sandbox.compile_bounded(CHAT_TEMPLATE)
    for example in [*held_out(20), *drawn()[:300]]:
        for messages, prompt in ((example.messages[:-1], True), (example.messages, False)):
            given = {"messages": [dict(each) for each in messages], "tools": [dict(each) for each in example.tools]}
            there = sandbox.render_bounded(template, {**given, "add_generation_prompt": prompt})
            assert there == rendered(messages, example.tools, add_generation_prompt=prompt)


def test_the_template_knows_tools_and_is_taken_for_hermes() -> None:
    template = ChatTemplate(CHAT_TEMPLATE)
    assert template.features == {"system", "tools"}
    assert template.dialect.name == "hermes"


def test_a_conversation_with_tools_is_written_like_this() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    call = {"type": "function", "function": {"name": "f", "arguments": {"a": "ö"}}}
    messages = (
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": None, "tool_calls": [call, call]},
        {"role": "tool", "content": "1"},
        {"role": "tool", "content": "2"},
        {"role": "assistant", "content": "Done."},
    )
    assert rendered(messages, (tool,), add_generation_prompt=True) == (
        "<|im_start|>system\nBe brief.\n\n<tools>\n"
        '{"name": "f", "parameters": {"type": "object", "properties": {}}}\n</tools>\n'
        'To call one:\n<tool_call>\n{"name": ..., "arguments": ...}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
        '<tool_call>\n{"name": "f", "arguments": {"a": "ö"}}\n</tool_call>\n'
        '<tool_call>\n{"name": "f", "arguments": {"a": "ö"}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\n1\n</tool_response>\n<tool_response>\n2\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\nDone.<|im_end|>\n<|im_start|>assistant\n"
    )


def test_the_completion_continues_the_prompt_and_all_answers_are_learnt() -> None:
    for example in [*held_out(10), *drawn()[:500]]:
        prompt, completion = render(example)
        pieces = segments(example)
        assert "".join(text for text, _ in pieces) == prompt + completion + "\n"
        learnt = [text for text, is_learnt in pieces if is_learnt]
        assert learnt[-1] == completion
        assert len(learnt) == len(list(answers(example)))
        assert all(text.endswith("<|im_end|>") and "<|im_start|>" not in text for text in learnt)


@pytest.mark.parametrize("answer", [fact.answer for fact in FACTS])
def test_what_an_answer_names_exists(answer: str) -> None:
    """Commands, options, endpoints and variables, as the guide and the command line have them."""
    for command in re.findall(r"`anyform ([a-z]+)", answer):
        assert command in COMMANDS
    named = re.findall(r"(?<=[` ])--[a-z-]+|(?<= )/[a-z0-9/]+|ANYFORM_[A-Z]+|anyform\.toml", answer)
    helped = {"--here", "--image", "--system", "--version"}
    fields = {each: each.removeprefix("--").replace("-", "_") for each in named}
    assert [each for each in named if each not in helped and each not in USE and f"`{fields[each]}`" not in USE] == []


def test_every_fact_is_asked_in_many_ways_some_of_them_held_out() -> None:
    trained = {message["content"] for example in drawn() for message in answers(example)}
    assert [fact.answer for fact in FACTS if fact.answer not in trained] == []
    assert len(FACTS) >= 60
