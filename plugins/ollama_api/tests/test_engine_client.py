"""The ollama package against the sample models as GGUF: what the answers say, and that schemas and tools are kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import ollama
import pytest
from jsonschema import validate

from anyform.assembly import start
from anyform.contract.facts import Settings
from anyform.testing.gguf import write_llama

pytestmark = pytest.mark.engine

FOLDER = "How do I serve a folder of models?"
COMMAND = "anyform serve --models DIR"
GREEDY = {"temperature": 0}
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}, "city": {"type": "string"}},
    "required": ["name", "age", "city"],
    "additionalProperties": False,
}


def get_weather(city: str) -> str:
    """The weather in a city

    Args:
      city: Which one.
    """
    return f"It is sunny in {city}."


def user(text: str) -> Any:
    return {"role": "user", "content": text}


@pytest.fixture(scope="module")
def sampled(sample: Path, sample_embed: Path, serving: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server over the sample models, and one with random weights that was never taught to chat."""
    root = tmp_path_factory.mktemp("models")
    write_llama(root / "random.gguf", chat_template=None)
    for path, name in ((sample, "sample"), (sample_embed, "encoder")):
        shutil.copy(path, root / f"{name}.gguf")
    here = serving(
        start(
            folders=[root],
            where="here",
            state=tmp_path_factory.mktemp("state"),
            defaults=Settings(parallel=4),
            forbid=("hf_transformers", "onnx"),
        )
    )
    yield here
    here.close()


@pytest.fixture
def client(sampled: Any) -> ollama.Client:
    return ollama.Client(host=sampled.url)


def test_a_question_is_answered_and_streams_as_it_comes_whole(client: ollama.Client) -> None:
    whole = client.chat("sample", [user(FOLDER)], options=GREEDY)
    assert COMMAND in str(whole.message.content)
    pieces = list(client.chat("sample", [user(FOLDER)], options=GREEDY, stream=True))
    assert "".join(piece.message.content or "" for piece in pieces) == whole.message.content
    assert pieces[-1].eval_count == whole.eval_count
    assert client.generate("sample", FOLDER, options=GREEDY).response == whole.message.content


def test_it_says_what_openai_s_dialect_says(client: ollama.Client, sampled: Any) -> None:
    body = {"model": "sample", "messages": [user(FOLDER)], "temperature": 0}
    other = sampled.http.post("/v1/chat/completions", json=body).json()
    answer = client.chat("sample", [user(FOLDER)], options=GREEDY)
    assert answer.message.content == other["choices"][0]["message"]["content"]
    assert answer.prompt_eval_count == other["usage"]["prompt_tokens"]
    assert answer.eval_count == other["usage"]["completion_tokens"]


def test_what_was_told_earlier_is_remembered_by_its_context(client: ollama.Client) -> None:
    told = client.generate("sample", "My name is Tara.", options=GREEDY)
    known = client.generate("sample", "What is my name?", context=told.context, options=GREEDY)
    assert "Tara" in str(known.response)
    assert "Tara" not in str(client.generate("sample", "What is my name?", options=GREEDY).response)


@pytest.mark.parametrize("temperature", [0, 1])
def test_a_schema_is_kept(client: ollama.Client, temperature: float) -> None:
    asked = "Give me JSON with the keys name, age, city: Tara is 54 years old and lives in Chicago"
    options = {"temperature": temperature, "seed": 7}
    answer = client.chat("sample", [user(asked)], format=PERSON, options=options)
    validate(json.loads(str(answer.message.content)), PERSON)
    made = client.generate("sample", asked, format="json", options=options)
    assert isinstance(json.loads(str(made.response)), dict)


def test_a_round_with_a_tool(client: ollama.Client) -> None:
    messages: list[Any] = [user("What is the weather in Paris?")]
    answer = client.chat("sample", messages, tools=[get_weather], options=GREEDY)
    assert answer.message.tool_calls is not None
    (call,) = answer.message.tool_calls
    assert (call.function.name, call.function.arguments) == ("get_weather", {"city": "Paris"})
    pieces = list(client.chat("sample", messages, tools=[get_weather], options=GREEDY, stream=True))
    assert [found for piece in pieces for found in piece.message.tool_calls or ()] == [call]
    messages += [answer.message, {"role": "tool", "tool_name": "get_weather", "content": get_weather("Paris")}]
    assert client.chat("sample", messages, tools=[get_weather], options=GREEDY).message.content


def test_a_template_of_the_request_is_rendered(client: ollama.Client) -> None:
    template = "{{ .System }}: {{ .Prompt }} is{{ .Response }}"
    told = client.generate("sample", "one", system="two", template=template, options={**GREEDY, "num_predict": 8})
    raw = client.generate("sample", "two: one is", raw=True, options={**GREEDY, "num_predict": 8})
    assert (told.response, told.prompt_eval_count) == (raw.response, raw.prompt_eval_count)
    assert told.prompt_eval_count != client.generate("sample", "one", system="two", options=GREEDY).prompt_eval_count


def test_likelihoods(client: ollama.Client) -> None:
    options = {"temperature": 0, "num_predict": 4}
    answer = client.chat("sample", [user(FOLDER)], logprobs=True, top_logprobs=2, options=options)
    assert answer.logprobs is not None
    assert "".join(token.token for token in answer.logprobs) == answer.message.content
    assert all(token.logprob <= 0 and len(token.top_logprobs or ()) == 2 for token in answer.logprobs)


def test_a_model_that_was_never_taught_to_chat_goes_on_from_the_text(client: ollama.Client, sampled: Any) -> None:
    options = {"temperature": 0, "num_predict": 4}
    answer = client.generate("random", "once upon", options=options)
    body = {"model": "random", "prompt": "once upon", "max_tokens": 4, "temperature": 0}
    other = sampled.http.post("/v1/completions", json=body).json()
    assert answer.response == other["choices"][0]["text"]
    with pytest.raises(ollama.ResponseError, match="suffix"):
        client.generate("random", "once", suffix="upon")


def test_embeddings_are_those_of_openai_s_dialect(client: ollama.Client, sampled: Any) -> None:
    texts = ["the sky is blue", "a folder of models"]
    answer = client.embed("encoder", texts)
    other = sampled.http.post("/v1/embeddings", json={"model": "encoder", "input": texts}).json()
    assert answer.embeddings == [item["embedding"] for item in other["data"]]
    assert answer.prompt_eval_count == other["usage"]["prompt_tokens"]


def test_a_long_text_is_cut_only_where_it_may_be(client: ollama.Client) -> None:
    long = "sky " * 4000
    with pytest.raises(ollama.ResponseError, match="context"):
        client.embed("encoder", long, truncate=False)
    assert len(client.embed("encoder", long, truncate=True).embeddings[0]) > 0


def test_a_long_conversation_is_cut_only_where_it_may_be(sampled: Any) -> None:
    messages = [user(f"word {at} " * 60) for at in range(20)]
    body = {"model": "sample", "messages": [*messages, user(FOLDER)], "stream": False, "options": GREEDY}
    refused: httpx.Response = sampled.http.post("/api/chat", json=body)
    assert refused.status_code == 400
    assert "context" in refused.json()["error"]
    answer = sampled.http.post("/api/chat", json={**body, "truncate": True}).json()
    assert 0 < answer["truncated"] <= 20
    assert answer["done"] is True
