"""Tool calls over the `openai` client, whatever the engine: name and arguments, streamed and not, a whole round."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai import OpenAI

pytestmark = pytest.mark.engine

KINDS = {
    "get_weather": {"city": "string"},
    "set_timer": {"minutes": "integer"},
    "send_message": {"to": "string", "text": "string"},
    "turn_on_light": {"room": "string"},
}
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": name.replace("_", " "),
            "parameters": {
                "type": "object",
                "properties": {key: {"type": kind} for key, kind in kinds.items()},
                "required": list(kinds),
            },
        },
    }
    for name, kinds in KINDS.items()
]
CASES = [
    ("What is the weather in Chicago?", "get_weather", {"city": "Chicago"}),
    ("Is it raining in Shanghai?", "get_weather", {"city": "Shanghai"}),
    ("Set a timer for 58 minutes.", "set_timer", {"minutes": 58}),
    ("Turn on the light in the kitchen.", "turn_on_light", {"room": "kitchen"}),
    ('Tell Tara "see you Boston".', "send_message", {"to": "Tara", "text": "see you Boston"}),
]


def said_by(question: str) -> list[Any]:
    return [{"role": "user", "content": question}]


def whole(client: OpenAI, messages: list[Any], **fields: Any) -> Any:
    """The answer's message, in one body."""
    made = client.chat.completions.create(model="sample", messages=messages, tools=TOOLS, temperature=0, **fields)
    return made.choices[0].message


def streamed(client: OpenAI, messages: list[Any], **fields: Any) -> list[tuple[str, Any]]:
    """The calls that a stream's pieces make up; text is none."""
    calls: dict[int, list[str]] = {}
    stream = client.chat.completions.create(
        model="sample", messages=messages, tools=TOOLS, temperature=0, stream=True, **fields
    )
    for chunk in stream:
        for piece in chunk.choices[0].delta.tool_calls or ():
            parts = calls.setdefault(piece.index, ["", ""])
            parts[0] += (piece.function and piece.function.name) or ""
            parts[1] += (piece.function and piece.function.arguments) or ""
    return [(name, json.loads(arguments)) for name, arguments in calls.values()]


def calls_of(message: Any) -> list[tuple[str, Any]]:
    return [(call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls or ()]


@pytest.mark.parametrize(("question", "name", "arguments"), CASES)
def test_the_right_tool_is_called_with_the_right_arguments(
    client: OpenAI, question: str, name: str, arguments: Any
) -> None:
    assert calls_of(whole(client, said_by(question))) == [(name, arguments)]
    assert streamed(client, said_by(question)) == [(name, arguments)]


def test_two_turns_end_with_what_the_tool_told(client: OpenAI) -> None:
    messages = said_by("What is the weather in Chicago?")
    asked = whole(client, messages)
    messages += [
        asked.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": asked.tool_calls[0].id, "content": "fog, 17 degrees"},
    ]
    told = whole(client, messages)
    assert not told.tool_calls
    assert "Chicago" in told.content
    assert "fog, 17 degrees" in told.content
    pieces = client.chat.completions.create(model="sample", messages=messages, tools=TOOLS, temperature=0, stream=True)
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == told.content


@pytest.mark.parametrize("take", [lambda c, m, **f: calls_of(whole(c, m, **f)), streamed], ids=["whole", "streamed"])
def test_the_choice_of_a_tool_binds(client: OpenAI, take: Any) -> None:
    question = said_by("How do I list models?")
    assert take(client, question) == []
    assert take(client, said_by(CASES[0][0]), tool_choice="none") == []
    named: Any = {"type": "function", "function": {"name": "set_timer"}}
    [(name, arguments)] = take(client, question, tool_choice=named)
    assert name == "set_timer"
    assert isinstance(arguments["minutes"], int)
    required = take(client, question, tool_choice="required")
    assert required
    for name, arguments in required:
        assert set(arguments) == set(KINDS[name])
    assert len(take(client, question, tool_choice="required", parallel_tool_calls=False)) == 1
