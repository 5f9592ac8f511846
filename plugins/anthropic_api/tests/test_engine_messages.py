"""/v1/messages over the sample decoder."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytestmark = pytest.mark.engine

ASKED: Any = [{"role": "user", "content": "What is the capital of France?"}]
LOOK: Any = {
    "name": "get_weather",
    "description": "The weather of a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def test_greedy_text_is_openais_and_is_counted(sampled: Any) -> None:
    plain = {"max_tokens": 12, "messages": ASKED, "temperature": 0}
    openai = sampled.http.post("/v1/chat/completions", json=plain).json()
    body = sampled.post(**plain).json()
    assert body["content"][0]["text"] == openai["choices"][0]["message"]["content"]
    usage = body["usage"]
    read = usage["input_tokens"] + usage["cache_read_input_tokens"]
    assert read == openai["usage"]["prompt_tokens"]
    assert usage["cache_read_input_tokens"] > 0, "the same prompt came before"
    assert sampled.post("/count_tokens", messages=ASKED).json() == {"input_tokens": read}
    events = sampled.events(**plain)
    said = "".join(event["delta"].get("text", "") for _, event in events if "delta" in event)
    assert said == body["content"][0]["text"]
    assert events[0][1]["message"]["usage"]["input_tokens"] == read


def test_a_prompt_can_be_read_into_the_cache_alone(sampled: Any) -> None:
    asked: Any = [{"role": "user", "content": "Which day comes after Monday? And after that one?"}]
    body = sampled.post(max_tokens=0, messages=asked).json()
    assert (body["content"], body["stop_reason"], body["usage"]["output_tokens"]) == ([], "max_tokens", 0)
    assert sampled.post(max_tokens=1, messages=asked).json()["usage"]["cache_read_input_tokens"] > 10


def test_a_prompt_over_the_context_is_counted(sampled: Any) -> None:
    long: Any = [{"role": "user", "content": "word " * 5000}]
    counted = sampled.post("/count_tokens", messages=long).json()["input_tokens"]
    assert counted > 5000
    refused = sampled.post(messages=long, max_tokens=5)
    assert refused.status_code == 400
    assert str(counted) in refused.json()["error"]["message"]


def test_a_forced_call_follows_its_schema(sampled: Any) -> None:
    choice = {"type": "tool", "name": "get_weather"}
    wanted = {"max_tokens": 60, "messages": ASKED, "temperature": 0, "tools": [LOOK], "tool_choice": choice}
    body = sampled.post(**wanted).json()
    (call,) = body["content"]
    assert (call["type"], call["name"], body["stop_reason"]) == ("tool_use", "get_weather", "tool_use")
    assert isinstance(call["input"]["city"], str)
    pieces = [
        event["delta"]["partial_json"] for name, event in sampled.events(**wanted) if name == "content_block_delta"
    ]
    assert json.loads("".join(pieces)) == call["input"]
    result = {"type": "tool_result", "tool_use_id": call["id"], "content": "rain"}
    back = [*ASKED, {"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]
    answer = sampled.post(**{**wanted, "messages": back, "tool_choice": {"type": "none"}}).json()
    assert answer["content"][0]["type"] == "text"


@pytest.mark.parametrize("stream", [False, True])
def test_anthropics_own_tool_runner(sampled: Any, stream: bool) -> None:
    anthropic = pytest.importorskip("anthropic")
    called: list[str] = []

    @anthropic.beta_tool  # type: ignore[untyped-decorator]
    def get_weather(city: str) -> str:
        """The weather of a city.

        Args:
            city: its name
        """
        called.append(city)
        return f"It rains in {city}."

    asked: Any = [{"role": "user", "content": "What is the weather in Paris?"}]
    with anthropic.Anthropic(base_url=sampled.url, api_key="none", max_retries=0, timeout=120) as client:
        wanted: Any = {"model": sampled.model, "max_tokens": 60, "tools": [get_weather], "messages": asked}
        last = client.beta.messages.tool_runner(**wanted, stream=stream).until_done()
    assert called == ["Paris"]
    assert (last.stop_reason, last.content[0].type) == ("end_turn", "text")


def test_an_answer_follows_a_schema(sampled: Any) -> None:
    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}},
        "required": ["ok"],
        "additionalProperties": False,
    }
    form = {"format": {"type": "json_schema", "schema": schema}}
    body = sampled.post(max_tokens=60, messages=ASKED, output_config=form).json()
    assert set(json.loads(body["content"][0]["text"])) == {"ok"}
