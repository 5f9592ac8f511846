"""/v1/responses against the sample model as GGUF: says what a chat says, whole and streamed, and counts as it does."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from anyform.assembly import start
from anyform.contract.facts import Settings
from anyform.http import chat
from anyform.http.config import HttpConfig
from anyform.http.count import count
from anyform.http.media import Media
from anyform.http.service import Service

pytestmark = pytest.mark.engine

QUESTION = "How do I serve a folder of models?"
SYSTEM = "You are a helpful assistant."
FILL = "Give me JSON with the keys name, age, city: Tara is 54 years old and lives in Chicago"
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}, "city": {"type": "string"}},
    "required": ["name", "age", "city"],
    "additionalProperties": False,
}
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"name": "get_weather", "description": "The weather in a city", "parameters": CITY}


@pytest.fixture(scope="module")
def served(sample: Path, running: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("models")
    shutil.copy(sample, folder / "sample.gguf")
    settings = Settings(parallel=4)
    runtime = start(folders=[folder], where="here", state=tmp_path_factory.mktemp("state"), defaults=settings)
    server = running(runtime, HttpConfig())
    yield server
    server.close()
    runtime.close()


@pytest.fixture
def ai(served: Any) -> OpenAI:
    client: OpenAI = served.openai
    return client


def test_the_greedy_answer_is_that_of_a_chat_whole_and_streamed(ai: OpenAI) -> None:
    messages: Any = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION}]
    said = ai.chat.completions.create(model="sample", messages=messages, temperature=0)
    asked: Any = {"model": "sample", "instructions": SYSTEM, "input": QUESTION, "temperature": 0}
    whole = ai.responses.create(**asked)
    with ai.responses.stream(**asked) as stream:
        pieces = [event.delta for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert whole.output_text == said.choices[0].message.content
    assert "".join(pieces) == final.output_text == whole.output_text
    assert said.usage is not None
    assert whole.usage is not None
    assert final.usage is not None
    for usage in (whole.usage, final.usage):
        assert (usage.input_tokens, usage.output_tokens) == (said.usage.prompt_tokens, said.usage.completion_tokens)
    assert ai.responses.input_tokens.count(model="sample", instructions=SYSTEM, input=QUESTION).input_tokens == (
        said.usage.prompt_tokens
    )


def test_a_prompt_is_counted_as_usage_does_also_over_the_context(served: Any, ai: OpenAI) -> None:
    """By the function that other dialects count with."""

    def counted(words: int) -> int:
        messages = [{"role": "user", "content": "a " * words}]
        wanted = chat.read({"model": "sample", "messages": messages, "n": 2, "max_tokens": 300}, Media(1000))

        async def run() -> int:
            service = Service(served.runtime, HttpConfig())
            try:
                return await count(service, wanted)
            finally:
                service.close()
                service.threads.close()

        return asyncio.run(run())

    few, more = (
        ai.chat.completions.create(
            model="sample", messages=[{"role": "user", "content": "a " * words}], max_tokens=1
        ).usage.prompt_tokens  # type: ignore[union-attr]
        for words in (10, 20)
    )
    assert (counted(10), counted(20)) == (few, more)
    assert counted(5000) > 5000 * (more - few) // 10


def test_a_round_of_a_tool_in_a_chain(ai: OpenAI) -> None:
    tools: Any = [{"type": "function", **WEATHER}]
    asked: Any = {"model": "sample", "tools": tools, "temperature": 0}
    made = ai.responses.create(input="What is the weather in Chicago?", **asked)
    [call] = [item for item in made.output if item.type == "function_call"]
    assert (call.name, json.loads(call.arguments)) == ("get_weather", {"city": "Chicago"})
    result: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "sunny, 21 degrees"}]
    told = ai.responses.create(input=result, previous_response_id=made.id, **asked)
    assert "sunny, 21 degrees" in told.output_text
    messages: Any = [
        {"role": "user", "content": "What is the weather in Chicago?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": call.call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            ],
        },
        {"role": "tool", "tool_call_id": call.call_id, "content": "sunny, 21 degrees"},
    ]
    nested: Any = [{"type": "function", "function": WEATHER}]
    same = ai.chat.completions.create(model="sample", messages=messages, tools=nested, temperature=0)
    assert same.choices[0].message.content == told.output_text
    assert same.usage is not None
    assert told.usage is not None
    assert same.usage.prompt_tokens == told.usage.input_tokens


@pytest.mark.parametrize("stream", [False, True])
def test_a_schema_is_kept_to(ai: OpenAI, stream: bool) -> None:
    form: Any = {"format": {"type": "json_schema", "name": "person", "schema": PERSON, "strict": True}}
    asked: Any = {"model": "sample", "input": FILL, "text": form, "temperature": 0}
    if stream:
        *_, last = ai.responses.create(stream=True, **asked)
        made = last.response
    else:
        made = ai.responses.create(**asked)
    assert json.loads(made.output_text) == {"name": "Tara", "age": 54, "city": "Chicago"}


def test_an_answer_at_its_limit_is_incomplete_and_may_be_gone_on_from(ai: OpenAI) -> None:
    made = ai.responses.create(model="sample", input=QUESTION, max_output_tokens=2, temperature=0)
    assert made.status == "incomplete"
    assert made.usage is not None
    assert made.usage.output_tokens == 2
    more = ai.responses.create(model="sample", input="Go on.", previous_response_id=made.id, max_output_tokens=2)
    assert more.usage is not None
    assert more.usage.input_tokens > made.usage.total_tokens


def test_a_long_conversation_is_cut_where_that_is_asked_for(ai: OpenAI) -> None:
    turns: Any = [
        {"role": role, "content": "a " * 150 if role == "user" else "b"}
        for _ in range(40)
        for role in ("user", "assistant")
    ]
    turns.append({"role": "user", "content": QUESTION})
    made = ai.responses.create(model="sample", input=turns, truncation="auto", temperature=0, max_output_tokens=5)
    assert "left out" in made.to_dict()["remarks"][0]  # type: ignore[index]
    assert made.usage is not None
    assert made.usage.input_tokens > 100
