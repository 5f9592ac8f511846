"""Clients of other servers, in Python: a conversation with a tool call, and an embedding, each."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.engine

ASKED = "What is the weather in Paris?"
EMBED = "embed"


def get_weather(city: str) -> str:
    """The weather in a city.

    Args:
        city: the city's name
    """
    return f"It rains in {city}."


def talk(model: Any, streamed: bool) -> None:
    """A round with a tool, as langchain has it: the model calls, is told, and answers."""
    from langchain_core.messages import HumanMessage, ToolMessage

    tools = model.bind_tools([get_weather])
    asked = HumanMessage(ASKED)
    if streamed:
        pieces = list(tools.stream([asked]))
        called = sum(pieces[1:], pieces[0])
    else:
        called = tools.invoke([asked])
    (call,) = called.tool_calls
    assert (call["name"], call["args"]) == ("get_weather", {"city": "Paris"})
    told = ToolMessage(get_weather(**call["args"]), tool_call_id=call["id"])
    answer = tools.invoke([asked, called, told])
    assert not answer.tool_calls
    assert answer.content
    assert answer.usage_metadata["input_tokens"] > called.usage_metadata["input_tokens"] > 0


def check(embed: Callable[[str], list[float]]) -> None:
    one, other, far = (embed(text) for text in ("How do I list models?", "Which models do I have?", "Pasta with basil"))
    assert len(one) == len(other) == len(far)
    assert abs(sum(number * number for number in one) - 1) < 1e-3
    near, apart = (sum(a * b for a, b in zip(one, two, strict=True)) for two in (other, far))
    assert near > apart


@pytest.mark.parametrize("streamed", [False, True])
def test_langchain_ollama_talks(served: Any, model: str, streamed: bool) -> None:
    made = pytest.importorskip("langchain_ollama").ChatOllama(model=model, base_url=served.url, temperature=0)
    talk(made, streamed)


def test_langchain_ollama_embeds(served: Any, model: str) -> None:
    made = pytest.importorskip("langchain_ollama").OllamaEmbeddings(model=EMBED, base_url=served.url)
    check(made.embed_query)


@pytest.mark.parametrize("responses", [False, True])
@pytest.mark.parametrize("streamed", [False, True])
def test_langchain_openai_talks(served: Any, model: str, responses: bool, streamed: bool) -> None:
    made = pytest.importorskip("langchain_openai").ChatOpenAI(
        model=model,
        base_url=f"{served.url}/v1",
        api_key="none",
        temperature=0,
        use_responses_api=responses,
        stream_usage=True,
        max_retries=0,
    )
    talk(made, streamed)


def test_langchain_openai_embeds(served: Any, model: str) -> None:
    made = pytest.importorskip("langchain_openai").OpenAIEmbeddings(
        model=EMBED, base_url=f"{served.url}/v1", api_key="none", check_embedding_ctx_length=False, max_retries=0
    )
    check(made.embed_query)


WAYS = {"openai": "/v1", "ollama_chat": "", "anthropic": ""}
"""What litellm calls the dialects, and where it wants to find them."""
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_litellm_talks(served: Any, model: str, way: str, streamed: bool) -> None:
    litellm = pytest.importorskip("litellm")
    wanted: Any = {"model": f"{way}/{model}", "api_base": served.url + WAYS[way], "api_key": "none", "max_tokens": 60}
    wanted |= {"temperature": 0, "tools": [TOOL], "num_retries": 0}
    asked = {"role": "user", "content": ASKED}
    if streamed:
        pieces = list(litellm.completion(**wanted, messages=[asked], stream=True))
        said = litellm.stream_chunk_builder(pieces).choices[0].message
    else:
        said = litellm.completion(**wanted, messages=[asked]).choices[0].message
    (call,) = said.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": "Paris"})
    told = {"role": "tool", "tool_call_id": call.id, "name": "get_weather", "content": get_weather("Paris")}
    answer = litellm.completion(**wanted, messages=[asked, said.model_dump(), told])
    assert answer.choices[0].message.content
    assert answer.usage.prompt_tokens > 20


@pytest.mark.parametrize(("way", "path"), [("openai", "/v1"), ("ollama", "")])
def test_litellm_embeds(served: Any, model: str, way: str, path: str) -> None:
    litellm = pytest.importorskip("litellm")

    def embed(text: str) -> list[float]:
        wanted = {"model": f"{way}/{EMBED}", "api_base": served.url + path, "api_key": "none"}
        numbers: list[float] = litellm.embedding(**wanted, input=[text]).data[0]["embedding"]
        return numbers

    check(embed)


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_litellm_streams_responses(served: Any, model: str) -> None:
    """Of a model that it has no prices for it asks for the whole answer, and makes a stream of two kinds of events."""
    litellm = pytest.importorskip("litellm")
    litellm.register_model({f"openai/{model}": {"litellm_provider": "openai", "supports_native_streaming": True}})
    wanted = {"model": f"openai/{model}", "api_base": f"{served.url}/v1", "api_key": "none", "stream": True}
    events = list(litellm.responses(**wanted, input=ASKED, max_output_tokens=8))
    kinds = [event.type.value.removeprefix("response.") for event in events]
    assert kinds[:4] == ["created", "in_progress", "output_item.added", "content_part.added"]
    assert kinds[-4:-1] == ["output_text.done", "content_part.done", "output_item.done"]
    assert kinds[-1] in ("completed", "incomplete")
    (item,) = events[-1].response.output
    assert item.content[0].text == "".join(one.delta for one in events if one.type.value.endswith("text.delta")) != ""
