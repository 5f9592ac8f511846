"""The ollama package against a server over echo models: each of its methods that has a model work."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from typing import Any

import ollama
import pytest

HELLO = [{"role": "user", "content": "one two three"}]
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def weather(city: str) -> str:
    """The weather of a city.

    Args:
      city: Which one.
    """
    return f"It is sunny in {city}."


class Both:
    """The client and the asynchronous one, as one that blocks and gives whole lists for streams."""

    def __init__(self, host: str, waits: bool) -> None:
        self._waits = waits
        self._client: Any = (ollama.Client if waits else ollama.AsyncClient)(host=host)
        self._runner = asyncio.Runner()

    def close(self) -> None:
        self._runner.close()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if self._waits:
            return lambda *given, **more: _listed(method(*given, **more))

        async def call(*given: Any, **more: Any) -> Any:
            answer = await method(*given, **more)
            return [part async for part in answer] if hasattr(answer, "__aiter__") else answer

        return lambda *given, **more: self._runner.run(call(*given, **more))


def _listed(answer: Any) -> Any:
    return list(answer) if isinstance(answer, Iterator) else answer


@pytest.fixture(params=["sync", "async"])
def client(served: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    both = Both(served.url, request.param == "sync")
    yield both
    both.close()


def test_chat(client: Any) -> None:
    answer = client.chat("parrot", HELLO)
    assert answer.message.content == answer["message"]["content"] == "one two three"
    assert (answer.model, answer.done, answer.done_reason) == ("parrot", True, "stop")
    assert (answer.prompt_eval_count, answer.eval_count) == (3, 3)
    assert min(answer.total_duration, answer.load_duration, answer.eval_duration, answer.prompt_eval_duration) > 0


def test_chat_in_pieces(client: Any) -> None:
    pieces = client.chat("parrot", HELLO, stream=True, options={"num_predict": 2})
    assert [piece.message.content for piece in pieces] == ["one", " two", ""]
    assert [piece.done_reason for piece in pieces] == [None, None, "length"]


def test_options_of_the_package(client: Any) -> None:
    said = ollama.Options(num_predict=1, top_k=3, num_ctx=32, numa=False, mirostat=0, penalize_newline=True, stop=["x"])
    assert client.chat("parrot", HELLO, options=said).message.content == "one"


def test_thinking(client: Any) -> None:
    answer = client.chat("parrot", HELLO, think=True)
    assert (answer.message.thinking, answer.message.content) == ("I shall repeat this.", "one two three")
    pieces = client.generate("parrot", "one", think="high", stream=True)
    assert "".join(piece.thinking or "" for piece in pieces) == "I shall repeat this."
    assert "".join(piece.response or "" for piece in pieces) == "one"


def test_a_round_with_a_tool(client: Any) -> None:
    messages: list[Any] = list(HELLO)
    answer = client.chat("caller", messages, tools=[weather])
    (call,) = answer.message.tool_calls
    assert (call.function.name, call.function.arguments) == ("weather", {"city": "one two three"})
    result = {"role": "tool", "content": weather(**call.function.arguments), "tool_name": call.function.name}
    messages += [answer.message, result]
    assert client.chat("parrot", messages, tools=[weather]).message.content
    pieces = client.chat("caller", HELLO, tools=[weather], stream=True)
    assert [call for piece in pieces for call in piece.message.tool_calls or ()] == [call]


def test_pictures(client: Any) -> None:
    message = ollama.Message(role="user", content="what is it", images=[ollama.Image(value=PNG)])
    assert "picture of 70 bytes" in client.chat("parrot", [message]).message.content
    assert "picture of 70 bytes" in client.generate("parrot", "what is it", images=[PNG]).response


def test_generate(client: Any) -> None:
    first = client.generate("parrot", "one two", system="Be kind.")
    assert (first.response, first.done_reason) == ("one two", "stop")
    pieces = client.generate("parrot", "three", context=first.context, stream=True)
    assert "".join(piece.response for piece in pieces) == "three"
    assert pieces[-1].prompt_eval_count == 7
    raw = client.generate("parrot", "<s>", raw=True)
    assert (raw.response, raw.context) == ("<s>", None)
    assert client.generate("base", "def f():", suffix="return").response == "def f():"


def test_likelihoods(client: Any) -> None:
    answer = client.chat("parrot", HELLO, logprobs=True, top_logprobs=1)
    assert [token.token for token in answer.logprobs] == ["one", " two", " three"]
    assert answer.logprobs[0].top_logprobs[0].token == "one"
    assert len(client.generate("parrot", "one two", logprobs=True).logprobs) == 2


def test_loading_and_unloading(client: Any, served: Any) -> None:
    assert client.generate("parrot", keep_alive="5m").done_reason == "load"
    assert client.chat("parrot", []).done_reason == "load"
    assert client.generate("parrot", keep_alive=0).done_reason == "unload"
    assert not any(model.model == "parrot" for model in served.runtime.loaded())


def test_embedding(client: Any) -> None:
    answer = client.embed("embedder", ["one two", "three"], dimensions=4)
    assert [len(vector) for vector in answer.embeddings] == [4, 4]
    assert answer.prompt_eval_count == 3
    assert client.embed("embedder", []).embeddings == []
    assert len(client.embeddings("embedder", "one").embedding) == 8
    assert client.embeddings("embedder", "").embedding == []
    assert client.embed("embedder", "word " * 20, truncate=True).prompt_eval_count == 8


def test_refusals(client: Any) -> None:
    for stream in (False, True):
        with pytest.raises(ollama.ResponseError, match="model 'nothing' not found") as absent:
            client.chat("nothing", HELLO, stream=stream)
        assert absent.value.status_code == 404
        with pytest.raises(ollama.ResponseError, match='option "temperature" must be of type float32') as wrong:
            client.generate("parrot", "a", stream=stream, options={"temperature": "hot"})
        assert wrong.value.status_code == 400
    with pytest.raises(ollama.ResponseError, match="context of embedder is 8"):
        client.embed("embedder", "word " * 20, truncate=False)


def test_a_fault_that_comes_late_is_raised(served: Any) -> None:
    pieces = ollama.Client(host=served.url).chat("slow", [{"role": "user", "content": "word " * 500}], stream=True)
    assert next(pieces).message.content == "word"
    served.runtime.unload("slow", True)
    with pytest.raises(ollama.ResponseError, match="slow"):
        list(pieces)
