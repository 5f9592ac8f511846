"""Bodies of /v1/responses -> jobs: what is understood, and what is refused under which name."""

from __future__ import annotations

import json
from base64 import b64encode
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyform.contract.errors import Fault
from anyform.contract.events import Done, Finish, Reasoning, Text, ToolCall
from anyform.contract.jobs import Call, Chat, Message, Picture, Tool
from anyform.contract.jobs import Text as Words
from anyform.http import fault, response
from anyform.http.media import Media
from anyform.http.reply import Ask, Head
from anyform.http.responsestore import Store
from anyform.kernel.rule import Rule

PNG = b64encode(b"\x89PNG....").decode()
LOOK: Any = {"type": "function", "name": "look", "parameters": {"type": "object"}}
GO: Any = {"type": "function", "name": "go", "description": "Goes.", "parameters": None, "strict": False}
KEY = "0" * 24


def store() -> Store:
    return Store(1 << 20, 60)


def ask(kept: Store | None = None, rule: Rule | None = None, **fields: Any) -> Ask:
    return response.read({"model": "m", "input": "hi", **fields}, Media(1000), rule or Rule(), kept or store())


def job(**fields: Any) -> Chat:
    (made,) = ask(**fields).jobs
    assert isinstance(made, Chat)
    return made


def messages(*items: Any, **fields: Any) -> tuple[Message, ...]:
    return job(input=list(items), **fields).messages


def says(role: str, *texts: str, **more: Any) -> Message:
    return Message(role=role, parts=tuple(Words(text=text) for text in texts), **more)


def told(wanted: Ask, key: str = KEY, *events: Any) -> Any:
    """The response object that *wanted* is answered with."""
    writer = wanted.writer(Head(key=key, created=1, model=wanted.model))
    for event in events:
        writer.write(event, 0)
    writer.write(Done(finishes=(Finish(),)), 0)
    return json.loads(writer.end())


def test_the_least() -> None:
    made = ask()
    assert (made.model, made.stream, made.prompt, made.shorter) == ("m", False, "input", None)
    assert made.jobs == (Chat(messages=(says("user", "hi"),)),)


def test_messages_of_every_role_with_and_without_type() -> None:
    assert messages(
        {"role": "developer", "content": "be brief"},
        {
            "type": "message",
            "role": "user",
            "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}],
        },
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "c", "annotations": []}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        {"role": "system", "content": "go on"},
        {"role": "user", "content": ""},
    ) == (
        says("system", "be brief"),
        says("user", "a", "b"),
        says("assistant", "c"),
        says("assistant", "no"),
        says("system", "go on"),
        says("user"),
    )


def test_pictures() -> None:
    (message,) = messages(
        {
            "role": "user",
            "content": [{"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "low"}],
        }
    )
    assert message.parts == (Picture(data=b"\x89PNG....", media_type="image/png"),)


def test_instructions_come_first() -> None:
    assert messages({"role": "user", "content": "x"}, instructions="be") == (says("system", "be"), says("user", "x"))


def test_the_models_rule_opens_a_conversation_that_brings_no_system_prompt() -> None:
    rule = Rule(
        system="be",
        messages=({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}),
        request={"max_tokens": 7},
    )
    made = job(rule=rule)
    assert made.messages == (says("system", "be"), says("user", "a"), says("assistant", "b"), says("user", "hi"))
    assert made.generation.max_tokens == 7
    assert job(rule=rule, max_output_tokens=9).generation.max_tokens == 9
    assert job(rule=rule, instructions="other").messages[0] == says("system", "other")
    assert [one.role for one in job(rule=rule, input=[{"role": "developer", "content": "x"}]).messages].count(
        "system"
    ) == 1


CALL = {"type": "function_call", "call_id": "c1", "name": "look", "arguments": '{"at":1}'}
RESULT = {"type": "function_call_output", "call_id": "c1", "output": "seen"}


def test_what_an_assistant_says_without_a_break_is_one_message() -> None:
    called = Call(id="c1", name="look", arguments='{"at":1}')
    thought = {
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": "s"}],
        "content": [{"type": "reasoning_text", "text": "t"}],
    }
    assert messages(
        {"role": "user", "content": "x"},
        thought,
        {"role": "assistant", "content": "I look."},
        CALL,
        {**CALL, "call_id": "c2", "arguments": ""},
        RESULT,
        {**RESULT, "call_id": "c2", "output": [{"type": "input_text", "text": "nothing"}]},
        {"role": "assistant", "content": "a"},
        {"role": "assistant", "content": "b"},
        CALL,
        thought,
    ) == (
        says("user", "x"),
        says("assistant", "I look.", reasoning="t\ns", calls=(called, replace(called, id="c2", arguments="{}"))),
        says("tool", "seen", call_id="c1"),
        says("tool", "nothing", call_id="c2"),
        says("assistant", "a"),
        says("assistant", "b", calls=(called,)),
        says("assistant", reasoning="t\ns"),
    )


def test_thoughts_that_cannot_be_read_leave_nothing_behind() -> None:
    secret = {"type": "reasoning", "summary": [], "encrypted_content": "x"}
    assert messages(secret, {"role": "user", "content": "a"}, secret) == (says("user", "a"),)


def test_a_conversation_goes_on_from_what_was_kept() -> None:
    kept = store()
    first = ask(kept, instructions="be", input="one")
    told(first, "a" * 24, Reasoning(text="hm"), Text(text="1"), ToolCall(call=0, id="c1", name="look", arguments="{}"))
    second = ask(kept, input=[RESULT], previous_response_id=f"resp_{'a' * 24}")
    told(second, "b" * 24, Text(text="2"))
    third = ask(kept, input="three", previous_response_id=f"resp_{'b' * 24}", instructions="new")
    (made,) = third.jobs
    assert isinstance(made, Chat)
    assert made.messages == (
        says("system", "new"),
        says("user", "one"),
        says("assistant", "1", reasoning="hm", calls=(Call(id="c1", name="look", arguments="{}"),)),
        says("tool", "seen", call_id="c1"),
        says("assistant", "2"),
        says("user", "three"),
    )


def test_pictures_and_what_is_named_by_id_go_on_too() -> None:
    kept = store()
    seen = {"role": "user", "content": [{"type": "input_image", "image_url": f"data:image/png;base64,{PNG}"}]}
    told(ask(kept, input=[seen]), "a" * 24, Text(text="1"))
    named = ask(kept, input=[{"type": "item_reference", "id": f"msg_{'a' * 24}i0"}])
    told(named, "b" * 24, Text(text="2"))
    kept.delete(f"resp_{'a' * 24}")
    (made,) = ask(kept, input="three", previous_response_id=f"resp_{'b' * 24}").jobs
    assert isinstance(made, Chat)
    picture = Message(role="user", parts=(Picture(data=b"\x89PNG....", media_type="image/png"),))
    assert made.messages == (picture, says("assistant", "2"), says("user", "three"))


def test_a_rule_for_several_answers_is_for_other_resources() -> None:
    assert job(rule=Rule(request={"n": 3, "best_of": 3, "temperature": 0.5})).generation.n == 1


def test_where_nothing_can_be_kept_the_response_says_so() -> None:
    none = Store(0, 60)
    assert told(ask(none, store=True))["store"] is False
    assert none.count == 0


def test_items_may_be_named_by_their_ids() -> None:
    kept = store()
    told(ask(kept, input="one"), "a" * 24, Text(text="1"))
    said = {"type": "item_reference", "id": f"msg_{'a' * 24}o0"}
    (made,) = ask(kept, input=[{"id": f"msg_{'a' * 24}i0"}, said, {"role": "user", "content": "two"}]).jobs
    assert isinstance(made, Chat)
    assert made.messages == (says("user", "one"), says("assistant", "1"), says("user", "two"))


def test_what_is_not_to_be_kept_is_not() -> None:
    kept = store()
    told(ask(kept, store=False))
    assert kept.count == 0
    told(ask(kept, store=True))
    assert kept.count == 1


def test_tools() -> None:
    made = job(tools=[LOOK, GO], parallel_tool_calls=False)
    assert made.tools == (
        Tool(name="look", parameters={"type": "object"}, strict=True),
        Tool(name="go", description="Goes.", strict=False),
    )
    assert (made.tool_choice, made.parallel_calls) == ("auto", False)


@pytest.mark.parametrize(
    ("choice", "name", "count"),
    [
        ("none", "none", 2),
        ("required", "required", 2),
        ({"type": "function", "name": "go"}, "go", 2),
        ({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "go"}]}, "auto", 1),
        ({"type": "allowed_tools", "mode": "required", "tools": [LOOK, GO]}, "required", 2),
    ],
)
def test_tool_choices(choice: Any, name: str, count: int) -> None:
    made = job(tools=[LOOK, GO], tool_choice=choice)
    assert (made.tool_choice, len(made.tools)) == (name, count)


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("form", "schema"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, {"type": "object"}),
        ({"type": "json_schema", "name": "x", "schema": SCHEMA, "strict": True}, SCHEMA),
        (None, None),
    ],
)
def test_forms_of_text(form: Any, schema: Any) -> None:
    assert job(text={"format": form, "verbosity": "low"}).generation.schema == schema


@pytest.mark.parametrize(
    ("reasoning", "thinking", "options"),
    [
        (None, None, {}),
        ({"summary": "auto"}, None, {}),
        ({"effort": "none"}, False, {}),
        ({"effort": "high"}, True, {"reasoning_effort": "high"}),
    ],
)
def test_reasoning(reasoning: Any, thinking: bool | None, options: Any) -> None:
    made = job(reasoning=reasoning)
    assert (made.thinking, made.template_options) == (thinking, options)


def test_sampling_beyond_openais() -> None:
    made = job(
        temperature=0.5, top_p=0.9, top_k=3, min_p=0.1, seed=4, repeat_penalty=1.1, stop=["x"], logit_bias={"5": 2}
    ).generation
    sampling = made.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p, sampling.seed) == (
        0.5,
        0.9,
        3,
        0.1,
        4,
    )
    assert (made.stop, sampling.logit_bias, sampling.repeat_penalty) == (("x",), {5: 2}, 1.1)


@pytest.mark.parametrize(
    ("fields", "scored", "top"),
    [
        ({}, False, 0),
        ({"include": ["message.output_text.logprobs"]}, True, 0),
        ({"top_logprobs": 3}, True, 3),
        ({"include": ["reasoning.encrypted_content"]}, False, 0),
    ],
)
def test_logprobs(fields: Any, scored: bool, top: int) -> None:
    made = job(**fields).generation
    assert (made.logprobs, made.top_logprobs) == (scored, top)


def test_the_response_repeats_the_request() -> None:
    fields: dict[str, Any] = {
        "instructions": "be",
        "max_output_tokens": 5,
        "max_tool_calls": 3,
        "metadata": {"a": "b"},
        "parallel_tool_calls": False,
        "prompt_cache_key": "k",
        "reasoning": {"effort": "low", "summary": "auto"},
        "safety_identifier": "s",
        "temperature": 0.25,
        "text": {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}, "verbosity": "low"},
        "tool_choice": {"type": "function", "name": "look"},
        "top_logprobs": 2,
        "top_p": 0.5,
        "truncation": "auto",
        "user": "u",
        "store": False,
    }
    made = told(ask(tools=[LOOK], service_tier="flex", **fields))
    assert {name: made[name] for name in fields} == fields
    assert made["tools"] == [{**LOOK, "description": None, "strict": True}]
    assert (made["service_tier"], made["background"], made["previous_response_id"]) == ("default", False, None)


def test_a_conversation_may_be_cut_where_that_is_asked_for() -> None:
    turns = [
        {"role": role, "content": str(at)} for at, role in enumerate(["user", "assistant", "user", "assistant", "user"])
    ]
    wanted = ask(input=turns, instructions="be", truncation="auto")
    left, cuts = [], []
    while wanted.shorter is not None and (less := wanted.shorter()) is not None:
        (made,) = less.jobs
        assert isinstance(made, Chat)
        left.append("".join(message.text for message in made.messages))
        cuts.append(less.cut)
        wanted = less
    assert (left, cuts) == (["be234", "be4"], [2, 4])
    assert "never cut" in wanted.uncut
    assert "'truncation': 'auto'" in ask(input=turns).uncut


TOOLS = {"tools": [LOOK]}
MANY = {f"k{at}": "v" for at in range(17)}
PART = {"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}
REFUSALS: list[tuple[dict[str, Any], str]] = [
    ({"model": None}, "model"),
    ({"model": 5}, "model"),
    ({"input": None}, "input"),
    ({"input": 5}, "input"),
    ({"input": []}, "input"),
    ({"input": ["x"]}, "input[0]"),
    ({"input": [{}]}, "input[0].type"),
    ({"input": [{"type": 5}]}, "input[0].type"),
    ({"input": [{"type": "web_search_call"}]}, "input[0].type"),
    ({"input": [{"type": "message", "content": "x"}]}, "input[0].role"),
    ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
    ({"input": [{"role": "user"}]}, "input[0].content"),
    ({"input": [{"role": "user", "content": 5}]}, "input[0].content"),
    ({"input": [{"role": "user", "content": [{"text": "x"}]}]}, "input[0].content[0].type"),
    ({"input": [{"role": "user", "content": [{"type": "image_url"}]}]}, "input[0].content[0].type"),
    ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content[0].text"),
    ({"input": [PART]}, "input[0].content[0].type"),
    (
        {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
        "input[0].content[0].file_id",
    ),
    ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0].image_url"),
    (
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "file:///etc/passwd"}]}]},
        "input[0].content[0].image_url",
    ),
    (
        {"input": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "!"}}]}]},
        "input[0].content[0].input_audio.data",
    ),
    ({"input": [{"type": "function_call", "name": "look", "arguments": "{}"}]}, "input[0].call_id"),
    ({"input": [{"type": "function_call", "name": "look", "call_id": "c"}]}, "input[0].arguments"),
    ({"input": [RESULT]}, "input[0].call_id"),
    ({"input": [CALL, {**RESULT, "output": None}]}, "input[1].output"),
    ({"input": [{"type": "item_reference", "id": "msg_x"}]}, "input[0].id"),
    ({"input": [{"type": "item_reference"}]}, "input[0].id"),
    ({"instructions": ["x"]}, "instructions"),
    ({"previous_response_id": 5}, "previous_response_id"),
    ({"previous_response_id": "resp_x"}, "previous_response_id"),
    ({"max_output_tokens": 0}, "max_output_tokens"),
    ({"max_output_tokens": "5"}, "max_output_tokens"),
    ({"temperature": 2.5}, "temperature"),
    ({"top_p": -0.1}, "top_p"),
    ({"top_logprobs": 21}, "top_logprobs"),
    ({"include": "x"}, "include"),
    ({"include": ["x"]}, "include[0]"),
    ({"n": 2}, "n"),
    ({"tools": {}}, "tools"),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
    ({"tools": [LOOK, {"type": "custom", "name": "x"}]}, "tools[1].type"),
    ({"tools": [{"name": "x"}]}, "tools[0].type"),
    ({"tools": [{"type": "function", "function": {"name": "x"}}]}, "tools[0].name"),
    ({"tools": [{"type": "function", "name": ""}]}, "tools[0].name"),
    ({"tools": [{"type": "function", "name": "x", "parameters": []}]}, "tools[0].parameters"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tool_choice": "any", **TOOLS}, "tool_choice"),
    ({"tool_choice": 5, **TOOLS}, "tool_choice"),
    ({"tool_choice": {"type": "function", "name": "x"}, **TOOLS}, "tool_choice.name"),
    ({"tool_choice": {"type": "file_search"}, **TOOLS}, "tool_choice.type"),
    ({"tool_choice": {"type": "allowed_tools", "mode": "auto"}, **TOOLS}, "tool_choice.tools"),
    (
        {"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"name": "x"}]}, **TOOLS},
        "tool_choice.tools[0].name",
    ),
    ({"text": "x"}, "text"),
    ({"text": {"verbosity": "loud"}}, "text.verbosity"),
    ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
    ({"text": {"format": {}}}, "text.format.type"),
    ({"text": {"format": {"type": "json_schema", "schema": {}}}}, "text.format.name"),
    ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
    ({"text": {"format": {"type": "json_object"}}, "grammar": "root ::= x"}, "grammar"),
    ({"reasoning": "high"}, "reasoning"),
    ({"reasoning": {"effort": "hard"}}, "reasoning.effort"),
    ({"reasoning": {"summary": "long"}}, "reasoning.summary"),
    ({"truncation": "left"}, "truncation"),
    ({"stream": "yes"}, "stream"),
    ({"stream_options": {"include_obfuscation": False}}, "stream_options"),
    ({"store": 1}, "store"),
    ({"metadata": []}, "metadata"),
    ({"metadata": MANY}, "metadata"),
    ({"metadata": {"a": 1}}, "metadata.a"),
    ({"metadata": {"a": "x" * 513}}, "metadata.a"),
    ({"metadata": {"k" * 65: "x"}}, f"metadata.{'k' * 64}"),
    ({"user": 5}, "user"),
    ({"service_tier": 5}, "service_tier"),
    ({"background": True}, "background"),
    ({"conversation": "conv_1"}, "conversation"),
    ({"prompt": {"id": "pmpt_1"}}, "prompt"),
]


@pytest.mark.parametrize(("fields", "param"), REFUSALS, ids=[f"{at}-{param}" for at, (_, param) in enumerate(REFUSALS)])
def test_what_is_wrong_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Fault) as refused:
        ask(**fields)
    assert 400 <= fault.status(refused.value) < 500
    assert refused.value.details["param"] == param
    assert refused.value.message


def test_a_tool_that_cannot_be_here_is_named() -> None:
    with pytest.raises(Fault, match="'web_search_preview' is not supported"):
        ask(tools=[{"type": "web_search_preview"}])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "role", "content", "text", "id", "name", "tools", "output", "call_id", "format", "mode"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
NAMES = (
    "input",
    "tools",
    "tool_choice",
    "text",
    "reasoning",
    "metadata",
    "include",
    "previous_response_id",
    "instructions",
    "store",
    "stream",
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), JSON, max_size=4))
def test_whatever_comes_is_read_or_refused(fields: dict[str, Any]) -> None:
    with suppress(Fault):
        ask(**fields)
