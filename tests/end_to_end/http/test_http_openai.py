"""The openai package against a real server, over the echo engine, in this process and in workers."""

from __future__ import annotations

import math
from base64 import b64decode
from concurrent.futures import ThreadPoolExecutor
from struct import unpack
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

HELLO: Any = [{"role": "user", "content": "one two three four"}]
LOOK: Any = {
    "type": "function",
    "function": {"name": "look", "parameters": {"type": "object", "properties": {"at": {"type": "string"}}}},
}


def test_models(client: OpenAI) -> None:
    models = {model.id: model for model in client.models.list()}
    assert {"parrot", "small", "slow", "owner/bird:Q4", "owner/bird:Q8"} <= set(models)
    assert all(model.object == "model" and model.created > 1e9 and model.owned_by for model in models.values())


@pytest.mark.parametrize(
    ("name", "found"), [("parrot", "parrot"), ("owner/bird:Q4", "owner/bird:Q4"), ("owner/bird", "owner/bird:Q8")]
)
def test_one_model(http: httpx.Client, client: OpenAI, name: str, found: str) -> None:
    assert client.models.retrieve(name).id == found
    assert http.get(f"/v1/models/{name}").json()["id"] == found


def test_chat(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="owner/bird:Q4", messages=HELLO)
    assert answer.choices[0].message.content == "one two three four"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].logprobs is None
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (4, 4, 8)
    assert answer.model == "owner/bird:Q4"
    assert answer.id.startswith("chatcmpl-")


def test_the_raw_answer_has_nulls_where_openai_has(http: httpx.Client) -> None:
    choice = http.post("/v1/chat/completions", json={"model": "parrot", "messages": HELLO}).json()["choices"][0]
    assert choice["logprobs"] is None
    assert choice["message"] == {"role": "assistant", "content": "one two three four", "refusal": None}


def test_a_chat_streams(client: OpenAI) -> None:
    stream = client.chat.completions.create(model="parrot", messages=HELLO, stream=True)
    chunks = list(stream)
    assert [chunk.choices[0].delta.content for chunk in chunks] == ["", "one", " two", " three", " four", None]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * 5 + ["stop"]
    assert len({chunk.id for chunk in chunks}) == 1
    assert all("usage" not in chunk.model_fields_set for chunk in chunks)


def test_a_stream_can_count_its_tokens(client: OpenAI) -> None:
    options: Any = {"include_usage": True}
    chunks = list(client.chat.completions.create(model="parrot", messages=HELLO, stream=True, stream_options=options))
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 8
    assert all(chunk.usage is None and "usage" in chunk.model_fields_set for chunk in chunks[:-1])


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_string_is_never_seen(client: OpenAI, stream: bool) -> None:
    text, reason = _text(client, stream, stop=["wo th", "zzz"])
    assert (text, reason) == ("one t", "stop")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_a_limit_ends_the_answer(client: OpenAI, stream: bool, field: str) -> None:
    assert _text(client, stream, **{field: 2}) == ("one two", "length")


def _text(client: OpenAI, stream: bool, **fields: Any) -> tuple[str, str | None]:
    if not stream:
        choice = client.chat.completions.create(model="parrot", messages=HELLO, **fields).choices[0]
        return choice.message.content or "", choice.finish_reason
    chunks = list(client.chat.completions.create(model="parrot", messages=HELLO, stream=True, **fields))
    return "".join(c.choices[0].delta.content or "" for c in chunks), chunks[-1].choices[0].finish_reason


def test_several_answers(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="parrot", messages=HELLO, n=3, seed=0)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert answer.choices[0].message.content == "one two three four"
    assert answer.choices[1].message.content != "one two three four"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 12


def test_logprobs(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="parrot", messages=HELLO, logprobs=True, top_logprobs=2)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert [entry.token for entry in logprobs.content] == ["one", " two", " three", " four"]
    assert logprobs.content[0].bytes == list(b"one")
    assert logprobs.content[0].top_logprobs[0].token == "one"


def test_reasoning(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="parrot", messages=HELLO, reasoning_effort="low")
    assert answer.choices[0].message.reasoning_content == "I shall repeat this."  # type: ignore[attr-defined]
    assert answer.choices[0].message.content == "one two three four"
    assert answer.usage is not None
    assert answer.usage.completion_tokens_details is not None
    assert answer.usage.completion_tokens_details.reasoning_tokens == 4


def _only_call(answer: Any) -> Any:
    (call,) = answer.choices[0].message.tool_calls
    assert call.type == "function"
    return call


def test_a_forced_tool_call(client: OpenAI) -> None:
    choice: Any = {"type": "function", "function": {"name": "look"}}
    answer = client.chat.completions.create(model="parrot", messages=HELLO, tools=[LOOK], tool_choice=choice)
    call = _only_call(answer)
    assert answer.choices[0].message.content is None
    assert answer.choices[0].finish_reason == "tool_calls"
    assert (call.function.name, call.function.arguments) == ("look", '{"at": "one two three four"}')


def test_a_streamed_tool_call(client: OpenAI) -> None:
    with client.chat.completions.stream(model="parrot", messages=HELLO, tools=[LOOK], tool_choice="required") as stream:
        answer = stream.get_final_completion()
    call = _only_call(answer)
    assert call.function.arguments == '{"at": "one two three four"}'
    assert answer.choices[0].finish_reason == "tool_calls"


def test_completions(client: OpenAI) -> None:
    answer = client.completions.create(model="parrot", prompt="a b c", echo=True)
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("a b ca b c", "stop")
    default = client.completions.create(model="parrot", prompt="x " * 20)
    assert default.usage is not None
    assert default.usage.completion_tokens == 16
    assert default.choices[0].finish_reason == "length"


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_each(client: OpenAI, stream: bool) -> None:
    prompts = [f"a{at} b{at}" for at in range(9)]
    texts = [""] * 18
    if stream:
        for chunk in client.completions.create(model="parrot", prompt=prompts, n=2, stream=True):
            for choice in chunk.choices:
                texts[choice.index] += choice.text
    else:
        for choice in client.completions.create(model="parrot", prompt=prompts, n=2).choices:
            texts[choice.index] = choice.text
    assert texts == [prompt for prompt in prompts for _ in range(2)]


def test_token_prompts_and_logprobs(client: OpenAI) -> None:
    answer = client.completions.create(model="parrot", prompt=[[5, 6], [7]], logprobs=1)
    assert [choice.text for choice in answer.choices] == ["5 6", "7"]
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert (logprobs.tokens, logprobs.text_offset) == (["5", " 6"], [0, 1])
    assert logprobs.top_logprobs == [{"5": 0.0}, {" 6": 0.0}]


def test_embeddings(client: OpenAI, http: httpx.Client) -> None:
    listed = client.embeddings.create(model="embedder", input=["red bird", "blue sky", "red bird"])
    assert [item.index for item in listed.data] == [0, 1, 2]
    assert listed.data[0].embedding == listed.data[2].embedding != listed.data[1].embedding
    assert math.isclose(sum(x * x for x in listed.data[0].embedding), 1, rel_tol=1e-5)
    assert listed.usage.prompt_tokens == 6
    raw = http.post("/v1/embeddings", json={"model": "embedder", "input": "red bird"}).json()["data"][0]["embedding"]
    assert raw == pytest.approx(listed.data[0].embedding, rel=1e-8)
    body = {"model": "embedder", "input": "red bird", "encoding_format": "base64"}
    packed = http.post("/v1/embeddings", json=body).json()["data"][0]["embedding"]
    assert list(unpack("<8f", b64decode(packed))) == listed.data[0].embedding


def test_embedding_dimensions_and_tokens(client: OpenAI) -> None:
    listed = client.embeddings.create(model="embedder", input=[[1, 2], [3]], dimensions=4)
    assert [len(item.embedding) for item in listed.data] == [4, 4]
    assert math.isclose(sum(x * x for x in listed.data[0].embedding), 1, rel_tol=1e-5)


def test_two_thousand_inputs_and_no_more(client: OpenAI) -> None:
    assert len(client.embeddings.create(model="embedder", input=["a"] * 2048).data) == 2048
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model="embedder", input=["a"] * 2049)
    assert caught.value.param == "input"


@pytest.mark.parametrize("path", ["/v1/rerank", "/rerank"])
def test_rerank(http: httpx.Client, path: str) -> None:
    documents = ["blue sky", "a red bird", "the red sky"]
    body = {"model": "parrot", "query": "red sky", "documents": documents, "top_n": 2, "return_documents": True}
    results = http.post(path, json=body).json()["results"]
    assert results == [
        {"index": 2, "relevance_score": 1.0, "document": {"text": "the red sky"}},
        {"index": 0, "relevance_score": 0.5, "document": {"text": "blue sky"}},
    ]


@pytest.mark.parametrize("stream", [False, True])
def test_an_unknown_model(client: OpenAI, stream: bool) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="nobody", messages=HELLO, stream=stream)
    assert caught.value.code == "model_not_found"


def test_a_file_name_leads_to_the_model(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match=r"Did you mean parrot\?"):
        client.models.retrieve("parrot.gguf")


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_over_the_context(client: OpenAI, stream: bool) -> None:
    long: Any = [{"role": "user", "content": "word " * 50}]
    with pytest.raises(openai.BadRequestError, match=r"51 tokens .* 8\b") as caught:
        client.chat.completions.create(model="small", messages=long, stream=stream)
    assert caught.value.code == "context_length_exceeded"
    assert caught.value.param == "messages"
    with pytest.raises(openai.BadRequestError) as second:
        client.completions.create(model="small", prompt=["a", "word " * 50], stream=stream)
    assert (second.value.code, second.value.param) == ("context_length_exceeded", "prompt")


@pytest.mark.parametrize("stream", [False, True])
def test_a_picture_for_a_model_without_eyes(client: OpenAI, stream: bool) -> None:
    picture: Any = [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}
    ]
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="parrot", messages=picture, stream=stream)


def test_the_wrong_task_for_a_model(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="embedder does embed, not chat"):
        client.chat.completions.create(model="embedder", messages=HELLO)
    with pytest.raises(openai.BadRequestError, match="chatter does chat, not embed"):
        client.embeddings.create(model="chatter", input="a")


def test_a_grammar_that_the_engine_cannot_follow(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="parrot", messages=HELLO, response_format={"type": "json_object"})


def test_many_at_once_answer_as_each_alone(client: OpenAI) -> None:
    def ask(at: int) -> str:
        messages: Any = [{"role": "user", "content": " ".join(f"w{at}-{word}" for word in range(30))}]
        if at % 2:
            return client.chat.completions.create(model="parrot", messages=messages).choices[0].message.content or ""
        stream = client.chat.completions.create(model="parrot", messages=messages, stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in stream)

    with ThreadPoolExecutor(32) as threads:
        answers = list(threads.map(ask, range(64)))
    assert answers == [" ".join(f"w{at}-{word}" for word in range(30)) for at in range(64)]
