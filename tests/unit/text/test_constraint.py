# ruff: noqa: RUF001 - DeepSeek's markers do have fullwidth bars
"""Constraints over random logits: whatever the model wants, the answer follows."""

from __future__ import annotations

import json
import re
import threading
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyform.contract.errors import Invalid
from anyform.contract.events import Event, ToolCall
from anyform.contract.events import Text as TextEvent
from anyform.contract.jobs import Tool
from anyform.text.answer import AnswerParser
from anyform.text.constraint import Constraint, Vocabulary
from anyform.text.dialect import Dialect, dialect_of
from anyform.text.toolgrammar import MOST_CALLS

from .tokens import BYTES, ENDS, FIRST_BYTE, SPECIAL, TOKENS, accepts, ids_of, sample, vocabulary

VOCABULARY = vocabulary()
BYTEWISE = vocabulary(BYTES)
PLAIN = Vocabulary([*BYTES[:2], *[b""] * (FIRST_BYTE - 2), *BYTES[FIRST_BYTE:]], ENDS)
"""Markers are text, not control tokens."""
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
SCHEMAS: list[dict[str, Any]] = [
    PERSON,
    {"type": "array", "items": PERSON, "minItems": 1, "maxItems": 3},
    {"enum": ["red", "green", 3, None]},
    {"const": {"a": [1]}},
    {"type": "string", "pattern": "^[a-f0-9]{8}$"},
    {"type": "string", "minLength": 2, "maxLength": 5},
    {"type": "string", "format": "date"},
    {"type": "string", "format": "date-time"},
    {"type": "string", "format": "uuid"},
    {"type": "string", "format": "ipv4"},
    {"type": "integer", "minimum": -5, "maximum": 17},
    {"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 3},
    {"type": "number", "minimum": 0, "maximum": 1},
    {"type": "integer", "multipleOf": 5, "minimum": 0, "maximum": 100},
    {"type": "boolean"},
    {"type": "null"},
    {"type": ["integer", "null"], "maximum": 99, "minimum": 0},
    {"anyOf": [{"type": "boolean"}, PERSON]},
    {
        "type": "object",
        "properties": {"kind": {"const": "a"}, "a": {"type": "boolean"}},
        "required": ["kind"],
        "additionalProperties": False,
    },
    {"allOf": [PERSON, {"properties": {"age": {"maximum": 9}}}]},
    {"type": "array", "prefixItems": [{"type": "boolean"}, {"type": "null"}], "items": False, "minItems": 2},
    {"type": "array", "items": {"enum": [1, 2]}, "minItems": 2, "maxItems": 4},
    {
        "type": "object",
        "patternProperties": {"^x": {"type": "boolean"}},
        "additionalProperties": False,
        "maxProperties": 2,
    },
    {"type": "object", "additionalProperties": {"type": "boolean"}, "maxProperties": 2},
    {
        "$defs": {"p": PERSON},
        "type": "object",
        "properties": {"one": {"$ref": "#/$defs/p"}},
        "required": ["one"],
        "additionalProperties": False,
    },
    {
        "$defs": {
            "node": {
                "type": "object",
                "properties": {
                    "v": {"type": "boolean"},
                    "next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/node"}]},
                },
                "required": ["v", "next"],
                "additionalProperties": False,
            }
        },
        "$ref": "#/$defs/node",
    },
    {
        "type": "object",
        "properties": {"grüße": {"type": "boolean"}, 'a"b\\c': {"type": "null"}},
        "required": ["grüße", 'a"b\\c'],
        "additionalProperties": False,
    },
    {
        "type": "object",
        "title": "T",
        "description": "D",
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "properties": {"x": {"type": "boolean", "default": True, "examples": [True], "deprecated": False}},
        "required": ["x"],
        "additionalProperties": False,
    },
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=range(len(SCHEMAS)))
def test_random_answers_are_valid(schema: dict[str, Any]) -> None:
    for seed in range(20):
        text = sample(Constraint.from_schema(VOCABULARY, schema), seed)
        jsonschema.validate(json.loads(text), schema)


def test_one_space_may_follow_a_colon_or_a_comma_and_stands_nowhere_else() -> None:
    for said in ('{"name":"a","age":1}', '{"name": "a", "age": 1}', '{"name": "a","age":1}'):
        assert accepts(Constraint.from_schema(BYTEWISE, PERSON), said)
    spaced = '{ "name": "a",\n "age": 1 }'
    for padded in ('{"name":  "a", "age": 1}', '{ "name": "a", "age": 1}', '{"name": "a", "age": 1 }', spaced):
        assert not accepts(Constraint.from_schema(BYTEWISE, PERSON), padded)
    assert accepts(Constraint.from_schema(BYTEWISE, PERSON, whitespace=True), spaced)


def test_the_empty_schema_is_any_object() -> None:
    for seed in range(10):
        assert isinstance(json.loads(sample(Constraint.from_schema(VOCABULARY, {}), seed)), dict)
    assert not accepts(Constraint.from_schema(BYTEWISE, {}), "[]")


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"not": {"type": "string"}}, "not"),
        ({"type": "nothing"}, "nothing"),
        ({"$ref": "https://example.org/schema"}, "https://example.org/schema"),
        ({"type": "string", "pattern": "(?=a)b"}, "look-around"),
        ({"type": "string", "format": "password"}, "password"),
        ({"type": "object", "required": ["x"], "additionalProperties": False}, "'x'"),
        ({"type": "integer", "minimum": 5, "maximum": 4}, "minimum"),
        ({"type": "integer", "x": {1, 2}}, "JSON"),
    ],
)
def test_a_schema_that_cannot_be_enforced_is_named(schema: dict[str, Any], words: str) -> None:
    with pytest.raises(Invalid, match="JSON schema cannot be enforced") as caught:
        Constraint.from_schema(VOCABULARY, schema)
    assert words in caught.value.message


def test_messages_are_bounded() -> None:
    with pytest.raises(Invalid) as caught:
        Constraint.from_schema(VOCABULARY, {"type": "string", "pattern": "(" * 50_000})
    assert len(caught.value.message) < 700


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "^(a{1000}){1000}$"},
        {"type": "object", "properties": {f"p{number}": {} for number in range(3000)}},
        {"a" * 2_000_000: 1},
    ],
    ids=["regex", "properties", "length"],
)
def test_a_schema_that_costs_too_much_is_refused_at_once(schema: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match="cannot be enforced"):
        Constraint.from_schema(VOCABULARY, schema)


def test_regex() -> None:
    for seed in range(10):
        assert re.fullmatch("[a-c]{3}(x|é)+", sample(Constraint.from_regex(VOCABULARY, "[a-c]{3}(x|é)+"), seed))
    with pytest.raises(Invalid, match="regular expression"):
        Constraint.from_regex(VOCABULARY, "(")


def test_lark() -> None:
    sums = 'start: term ("+" term)*\nterm: NUMBER | "(" start ")"\nNUMBER: /[0-9]+/'
    assert accepts(Constraint.from_lark(BYTEWISE, sums), "1+(2+34)")
    assert not accepts(Constraint.from_lark(BYTEWISE, sums), "1+(2+34")
    with pytest.raises(Invalid, match="grammar cannot be enforced"):
        Constraint.from_lark(VOCABULARY, "start: missing")


@given(st.integers(0, 2**32), st.integers(0, 3))
def test_the_mask_is_the_bitmask(seed: int, extra: int) -> None:
    constraint = Constraint.from_schema(VOCABULARY, PERSON)
    for token in ids_of('{"name":"é')[: seed % 11]:
        constraint.accept(token)
    logits = np.random.default_rng(seed).normal(size=len(TOKENS) + extra).astype(np.float32)
    before = logits.copy()
    constraint.mask(logits)
    allowed = constraint.allowed()
    bits = constraint.allowed_bitmask()
    assert [i for i in range(len(TOKENS)) if bits[i // 32] >> (i % 32) & 1] == allowed.tolist()
    assert np.array_equal(np.flatnonzero(logits > -np.inf), allowed)
    assert np.array_equal(logits[allowed], before[allowed])


def test_the_end_is_allowed_only_where_the_answer_is_whole() -> None:
    constraint = Constraint.from_regex(VOCABULARY, "ab?")
    assert not set(ENDS) & set(constraint.allowed())
    constraint.accept(FIRST_BYTE + ord("a"))
    assert set(ENDS) <= set(constraint.allowed())
    assert constraint.may_end
    assert not constraint.finished
    constraint.accept(FIRST_BYTE + ord("b"))
    assert constraint.finished


def test_an_end_token_is_never_text() -> None:
    open_string = Constraint.from_schema(VOCABULARY, {"type": "string"})
    open_string.accept(FIRST_BYTE + ord('"'))
    assert not set(range(len(SPECIAL))) & set(open_string.allowed())


def test_a_forbidden_token_is_told() -> None:
    constraint = Constraint.from_regex(VOCABULARY, "a")
    with pytest.raises(Invalid):
        constraint.accept(FIRST_BYTE + ord("b"))


def test_forced_tokens() -> None:
    constraint = Constraint.from_regex(VOCABULARY, "name(a|b)")
    assert b"".join(TOKENS[token] for token in constraint.forced_tokens()) == b"name"
    constraint.accept(TOKENS.index(b"name"))
    assert constraint.forced_tokens() == []


def test_answers_of_one_grammar_are_independent() -> None:
    first, second = (Constraint.from_schema(BYTEWISE, PERSON) for _ in range(2))
    first.accept(ids_of("{")[0])
    assert ids_of("{")[0] in second.allowed()
    assert ids_of("{")[0] not in first.allowed()


def test_threads_share_a_vocabulary() -> None:
    texts: list[str] = []

    def write(seed: int) -> None:
        texts.append(sample(Constraint.from_schema(VOCABULARY, PERSON), seed))

    threads = [
        threading.Thread(
            target=lambda seed=seed: texts.append(sample(Constraint.from_schema(VOCABULARY, PERSON), seed))
        )
        for seed in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for text in texts:
        jsonschema.validate(json.loads(text), PERSON)
    assert len(texts) == 8


def test_a_vocabulary_may_come_with_its_own_tokenizer() -> None:
    def by_bytes(text: bytes) -> list[int]:
        return [FIRST_BYTE + byte for byte in text]

    own = Vocabulary(TOKENS, ENDS, special=range(len(SPECIAL)), tokenize=by_bytes)
    assert Constraint.from_regex(own, "name(a|b)").forced_tokens() == by_bytes(b"name")


WEATHER = Tool(
    name="get_weather",
    parameters={
        "type": "object",
        "properties": {
            "city": {"type": "string", "maxLength": 6},
            "days": {"type": "integer", "minimum": 1, "maximum": 9},
            "flags": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2},
        },
        "required": ["city"],
        "additionalProperties": False,
    },
)
PING = Tool(name="ping")
DIALECTS = [
    dialect_of(signs)
    for signs in (
        "<tool_call>",
        "<|python_tag|>",
        "[TOOL_CALLS]",
        "[TOOL_CALLS] [ARGS]",
        "<｜tool▁calls▁begin｜> ```json",
        "<｜tool▁calls▁begin｜>",
        "<|tool_calls_section_begin|>",
        "<tool_call> <function= <parameter=",
        "<arg_key>",
        "<function=",
        "<|tool_call_start|>",
        "<|START_ACTION|>",
        "<|tools_prefix|>",
        "<minimax:tool_call> <invoke",
        "<|tool_call|>",
        "<|tool_call>call:",
        "<TOOLCALL>",
        "<|channel|> <|message|>",
        "nothing",
    )
]


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
@pytest.mark.parametrize("choice", ["required", "get_weather", "ping"])
def test_random_weights_still_call(dialect: Dialect, choice: str) -> None:
    for seed in range(10):
        constraint = Constraint.from_tools(VOCABULARY, [WEATHER, PING], choice, dialect)
        text = sample(constraint, seed)
        parser = AnswerParser(dialect, tools=[WEATHER, PING], tool_choice=choice)
        events: list[Event] = [*parser.feed(text), *parser.finish()]
        assert events
        calls: dict[int, tuple[str, str]] = {}
        for event in events:
            assert isinstance(event, ToolCall)
            name, arguments = calls.get(event.call, ("", ""))
            calls[event.call] = (name + event.name, arguments + event.arguments)
        for name, arguments in calls.values():
            assert name == choice or choice == "required"
            jsonschema.validate(json.loads(arguments), dict((WEATHER if name == "get_weather" else PING).parameters))


def test_named_and_lone_calls_are_single() -> None:
    for choice, parallel in (("ping", True), ("required", False)):
        for seed in range(5):
            constraint = Constraint.from_tools(VOCABULARY, [PING], choice, DIALECTS[0], parallel_calls=parallel)
            assert sample(constraint, seed).count("<tool_call>") == 1


@pytest.mark.parametrize(
    ("dialect", "again"), [(DIALECTS[0], min), (DIALECTS[2], min), (DIALECTS[4], max)], ids=["json", "list", "named"]
)
def test_a_model_that_repeats_itself_is_ended_after_eight_calls(dialect: Dialect, again: Any) -> None:
    """*again*: which of two ways on begins another call."""
    constraint = Constraint.from_tools(VOCABULARY, [PING], "required", dialect)
    text = b""
    while not constraint.finished:
        allowed = [token for token in constraint.allowed().tolist() if token not in ENDS]
        if not allowed:
            break
        constraint.accept(again(allowed))
        text += TOKENS[again(allowed)]
    assert text.decode().count("ping") == MOST_CALLS == 8


ANSWER = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}},
    "required": ["ok"],
    "additionalProperties": False,
}


def events_of(dialect: Dialect, text: str) -> list[Event]:
    parser = AnswerParser(dialect, tools=[WEATHER, PING])
    return [*parser.feed(text), *parser.finish()]


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_a_schema_beside_tools_leaves_the_model_its_choice(dialect: Dialect) -> None:
    seen: set[type[Event]] = set()
    for seed in range(60):
        constraint = Constraint.from_answer_or_calls(BYTEWISE, ANSWER, [WEATHER, PING], dialect)
        text = sample(constraint, seed)
        events = events_of(dialect, text)
        seen.update(type(event) for event in events)
        if text.startswith('{"ok"'):
            jsonschema.validate(json.loads(text), ANSWER)
            assert all(isinstance(event, TextEvent) for event in events)
    assert TextEvent in seen
    if dialect.calls[0].style in ("json", "list", "named") and not dialect.channels:
        assert seen == {TextEvent, ToolCall}


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_a_call_in_the_taught_form_passes_beside_a_schema(dialect: Dialect) -> None:
    form = dialect.calls[0]
    if dialect.channels:
        pytest.skip("calls have a channel of their own")
    calls = {
        "json": f'{form.opener}{form.padding}{{"{form.name_key}": "ping", "{form.arguments_key}": {{}}}}'
        f"{form.padding}{form.closer}",
        "list": f'{form.opener}[{{"{form.name_key}": "ping", "{form.arguments_key}": {{}}}}]{form.closer}',
        "named": f"{form.section_open}{form.opener}ping{form.name_end}{form.args_open}{{}}{form.closer}"
        f"{form.section_close}",
        "parameters": f"{form.opener}\n<function=ping>\n</function>\n{form.closer}",
        "pairs": f"{form.opener}ping\n{form.closer}",
        "invoke": f'{form.opener}\n<invoke name="ping">\n</invoke>\n{form.closer}',
        "python": f"{form.opener}[ping()]{form.closer}",
        "mapping": f'{form.opener}[{{"ping": {{}}}}]{form.closer}',
        "braces": f"{form.opener}call:ping{{}}{form.closer}",
    }
    text = calls[form.style]
    constraint = Constraint.from_answer_or_calls(PLAIN, ANSWER, [WEATHER, PING], dialect)
    assert accepts(constraint, text)
    assert [event.name for event in events_of(dialect, text) if isinstance(event, ToolCall)] == ["ping"]
    assert not accepts(Constraint.from_answer_or_calls(PLAIN, ANSWER, [WEATHER, PING], dialect), "plain words")


def test_an_answers_schema_that_cannot_be_enforced_beside_tools() -> None:
    impossible: list[dict[str, Any]] = [{"not": {}}, {"x": {1, 2}}]
    for schema in impossible:
        with pytest.raises(Invalid, match="JSON schema"):
            Constraint.from_answer_or_calls(VOCABULARY, schema, [PING], DIALECTS[0])


def test_markers_are_written_with_the_models_own_tokens() -> None:
    constraint = Constraint.from_tools(VOCABULARY, [PING], "ping", DIALECTS[0])
    assert constraint.allowed().tolist() == [SPECIAL.index("<tool_call>")]


def test_a_tool_that_does_not_exist() -> None:
    with pytest.raises(Invalid, match="'pong'"):
        Constraint.from_tools(VOCABULARY, [PING], "pong", DIALECTS[0])


def test_a_tools_schema_that_cannot_be_enforced() -> None:
    odd = Tool(name="odd", parameters={"type": "object", "properties": {"a": {"not": {}}}})
    with pytest.raises(Invalid, match="schema of a tool"):
        Constraint.from_tools(VOCABULARY, [odd], "odd", DIALECTS[0])
