"""Anthropic's own client against the server: sync and async, streamed and not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

anthropic = pytest.importorskip("anthropic")

HELLO: Any = [{"role": "user", "content": "one two three"}]
LOOK: Any = {"name": "look", "input_schema": {"type": "object", "properties": {"at": {"type": "string"}}}}
ANY: Any = {"type": "any"}
THINK: Any = {"type": "enabled", "budget_tokens": 1024}


@pytest.fixture(scope="module")
def client(server: Any) -> Iterator[Any]:
    with anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0, timeout=120) as made:
        yield made


def said(message: Any) -> list[tuple[str, str]]:
    """Kind and text of each block: the classes differ."""
    return [(block.type, block.thinking if block.type == "thinking" else block.text) for block in message.content]


def test_a_message(client: Any) -> None:
    message = client.messages.create(model="parrot", max_tokens=50, messages=HELLO)
    assert (message.type, message.role, message.model) == ("message", "assistant", "parrot")
    assert message.content[0].text == "one two three"
    assert (message.stop_reason, message.stop_sequence) == ("end_turn", None)
    assert (message.usage.input_tokens, message.usage.output_tokens) == (3, 3)
    assert message._request_id == f"req_{message.id.removeprefix('msg_')}"


def test_a_stream_makes_the_same_message(client: Any) -> None:
    with client.messages.stream(model="parrot", max_tokens=2000, messages=HELLO, thinking=THINK) as stream:
        text = "".join(stream.text_stream)
        message = stream.get_final_message()
    assert text == "one two three"
    whole = client.messages.create(model="parrot", max_tokens=2000, messages=HELLO, thinking=THINK)
    assert said(message) == said(whole) == [("thinking", "I shall repeat this."), ("text", "one two three")]
    assert message.usage == whole.usage
    assert message.stop_reason == whole.stop_reason == "end_turn"


def test_raw_events(client: Any) -> None:
    kinds = [event.type for event in client.messages.create(model="parrot", max_tokens=1, messages=HELLO, stream=True)]
    block = ["content_block_start", "content_block_delta", "content_block_stop"]
    assert kinds == ["message_start", *block, "message_delta", "message_stop"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_round_with_a_tool(client: Any, stream: bool) -> None:
    wanted: Any = {"model": "parrot", "max_tokens": 50, "tools": [LOOK]}
    if stream:
        with client.messages.stream(**wanted, messages=HELLO, tool_choice=ANY) as events:
            asked = events.get_final_message()
    else:
        asked = client.messages.create(**wanted, messages=HELLO, tool_choice=ANY)
    (call,) = asked.content
    assert (asked.stop_reason, call.name, call.input) == ("tool_use", "look", {"at": "one two three"})
    result: Any = {"type": "tool_result", "tool_use_id": call.id, "content": json.dumps({"seen": True})}
    back: Any = [*HELLO, {"role": "assistant", "content": asked.content}, {"role": "user", "content": [result]}]
    answer = client.messages.create(**wanted, messages=back)
    assert (answer.stop_reason, answer.content[0].text) == ("end_turn", "one two three")


def test_tokens_are_counted_as_usage_says(client: Any) -> None:
    counted = client.messages.count_tokens(model="parrot", system="Be short.", messages=HELLO, tools=[LOOK])
    message = client.messages.create(model="parrot", max_tokens=5, system="Be short.", messages=HELLO, tools=[LOOK])
    usage = message.usage
    told = (usage.input_tokens, usage.cache_creation_input_tokens, usage.cache_read_input_tokens)
    assert counted.input_tokens == sum(told) == 5


def test_errors_have_their_class(client: Any) -> None:
    with pytest.raises(anthropic.NotFoundError) as absent:
        client.messages.create(model="nobody", max_tokens=5, messages=HELLO)
    assert absent.value.type == "not_found_error"
    assert absent.value.request_id.startswith("req_")
    with pytest.raises(anthropic.BadRequestError):
        client.messages.create(model="parrot", max_tokens=-1, messages=HELLO)
    with pytest.raises(anthropic.BadRequestError), client.messages.stream(model="small", max_tokens=5, messages=[
        {"role": "user", "content": "a " * 20}
    ]) as stream:  # fmt: skip
        stream.get_final_message()


def test_models(client: Any, own: Any) -> None:
    assert {model.id for model in client.models.list()} == {"embedder", "eye", "parrot", "small"}
    with anthropic.Anthropic(base_url=str(own.base_url), api_key="none", max_retries=0) as alone:
        models = list(alone.models.list(limit=2))
        assert [model.id for model in models] == ["embedder", "eye", "parrot", "small"], "page by page"
        assert models[0].created_at.year > 2000
        assert alone.models.retrieve("parrot").display_name == "parrot"


def test_asynchronously(server: Any) -> None:
    async def work() -> None:
        async with anthropic.AsyncAnthropic(base_url=server.url, api_key="none", max_retries=0, timeout=120) as client:
            whole, counted = await asyncio.gather(
                client.messages.create(model="parrot", max_tokens=50, messages=HELLO),
                client.messages.count_tokens(model="parrot", messages=HELLO),
            )
            assert (whole.content[0].text, counted.input_tokens) == ("one two three", 3)
            async with client.messages.stream(model="parrot", max_tokens=50, messages=HELLO) as stream:
                text = "".join([piece async for piece in stream.text_stream])
                message = await stream.get_final_message()
            assert text == "one two three"
            assert said(message) == said(whole)

    asyncio.run(work())
