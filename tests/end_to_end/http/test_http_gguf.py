"""The openai package against the sample models as GGUF, in this process and in workers: what the answers say."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import httpx
import openai
import pytest
from openai import OpenAI

from anyform.assembly import start
from anyform.contract.facts import Settings
from anyform.http.config import HttpConfig
from anyform.testing.gguf import write_bert, write_llama

pytestmark = pytest.mark.engine

FOLDER = "How do I serve a folder of models?"
COMMAND = "anyform serve --models DIR"
QUESTIONS = {
    FOLDER: COMMAND,
    "How do I list models?": "anyform list",
    "What is 2 + 3?": "2 + 3 = 5",
    "Which day comes after Monday?": "Tuesday",
}
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}, "city": {"type": "string"}},
    "required": ["name", "age", "city"],
    "additionalProperties": False,
}
FILL: Any = [
    {
        "role": "user",
        "content": "Give me JSON with the keys name, age, city: Tara is 54 years old and lives in Chicago",
    }
]


def tool(name: str, description: str, **properties: str) -> Any:
    schema = {
        "type": "object",
        "properties": {key: {"type": kind} for key, kind in properties.items()},
        "required": list(properties),
    }
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


TOOLS = [
    tool("get_weather", "The weather in a city", city="string"),
    tool("set_timer", "Sets a timer", minutes="integer"),
]


@pytest.fixture(scope="module")
def folder(sample: Path, sample_half: Path, sample_embed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both forms of the decoder, the encoder, and random weights: trained ones are too sure for chance to show."""
    root = tmp_path_factory.mktemp("models")
    write_llama(root / "random.gguf")
    write_bert(root / "ranker.gguf", pooling="rank")
    for path, name in ((sample, "sample-Q8_0"), (sample_half, "sample-F16"), (sample_embed, "encoder")):
        shutil.copy(path, root / f"{name}.gguf")
    return root


@pytest.fixture(scope="module", params=["worker", "here"])
def served(
    request: pytest.FixtureRequest, folder: Path, running: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    where: Literal["worker", "here"] = request.param
    state = tmp_path_factory.mktemp("state")
    runtime = start(folders=[folder], where=where, state=state, defaults=Settings(parallel=32))
    server = running(runtime, HttpConfig())
    yield server
    server.close()
    runtime.close()


@pytest.fixture
def ai(served: Any) -> OpenAI:
    client: OpenAI = served.openai
    return client


@pytest.fixture(params=["F16", "Q8_0"])
def name(request: pytest.FixtureRequest) -> str:
    return f"sample:{request.param}"


def user(text: str) -> Any:
    return {"role": "user", "content": text}


def say(ai: OpenAI, model: str, *messages: Any, stream: bool = False, **fields: Any) -> str:
    """The text of an answer, greedy unless *fields* say otherwise."""
    asked: dict[str, Any] = {"model": model, "messages": list(messages), "temperature": 0, **fields}
    if not stream:
        return str(ai.chat.completions.create(**asked).choices[0].message.content)
    chunks = ai.chat.completions.create(stream=True, **asked)
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def test_the_variants_are_listed(ai: OpenAI) -> None:
    assert {"sample:F16", "sample:Q8_0", "encoder"} <= {model.id for model in ai.models.list()}


@pytest.mark.parametrize("asked", QUESTIONS)
def test_a_question_is_answered_and_streams_as_it_comes_whole(ai: OpenAI, name: str, asked: str) -> None:
    whole = say(ai, name, user(asked))
    assert QUESTIONS[asked] in whole
    assert say(ai, name, user(asked), stream=True) == whole


def test_what_was_told_earlier_is_remembered(ai: OpenAI, name: str) -> None:
    messages = [user("My name is Tara.")]
    messages += [{"role": "assistant", "content": say(ai, name, *messages)}, user("What is my name?")]
    assert "Tara" in say(ai, name, *messages)
    assert "Tara" not in say(ai, name, user("What is my name?"))


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_string_is_never_seen(ai: OpenAI, name: str, stream: bool) -> None:
    whole = say(ai, name, user(FOLDER))
    for stop in ("--models", "a fold", " "):
        assert say(ai, name, user(FOLDER), stream=stream, stop=[stop, "never"]) == whole[: whole.index(stop)]


def test_thirty_two_at_once_say_what_each_says_alone(ai: OpenAI, name: str) -> None:
    questions = [*QUESTIONS, "What is `anyform ps`?", "Who are you?", "3 km in m", "My name is Tara."]

    def tell(at: int) -> str:
        return say(ai, name, user(questions[at % 8]), stream=bool(at % 2), temperature=at // 4 % 2, seed=at % 8)

    alone = [tell(at) for at in range(8)]
    assert all(answer in said for answer, said in zip(QUESTIONS.values(), alone, strict=False))
    with ThreadPoolExecutor(32) as threads:
        assert list(threads.map(tell, range(32))) == alone * 4


def test_the_same_seed_gives_the_same_text(ai: OpenAI) -> None:
    def drawn(seed: int) -> str:
        asked: dict[str, Any] = {"model": "random", "prompt": "once upon", "max_tokens": 30, "temperature": 1}
        return str(ai.completions.create(seed=seed, **asked).choices[0].text)

    assert len({drawn(7) for _ in range(3)}) == 1
    assert drawn(7) != drawn(8)


def test_usage_counts_what_was_generated_and_reused(ai: OpenAI) -> None:
    for _ in range(2):
        answer = ai.chat.completions.create(model="sample", messages=FILL, temperature=0, max_tokens=5)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 5
    assert answer.usage.prompt_tokens > 20
    assert answer.usage.prompt_tokens_details is not None
    assert (answer.usage.prompt_tokens_details.cached_tokens or 0) > 10


def test_logprobs_have_an_entry_for_each_token(ai: OpenAI) -> None:
    answer = ai.chat.completions.create(
        model="sample", messages=[user(FOLDER)], temperature=0, logprobs=True, top_logprobs=3
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content
    assert COMMAND in (answer.choices[0].message.content or "")
    assert "".join(one.token for one in logprobs.content) == answer.choices[0].message.content
    for one in logprobs.content:
        assert one.logprob <= 0
        assert len(one.top_logprobs) == 3
        assert max(one.top_logprobs, key=lambda top: top.logprob).token == one.token


def test_several_answers_and_prompts(ai: OpenAI) -> None:
    answer = ai.completions.create(model="sample", prompt=["Once upon", "The dog"], n=2, max_tokens=4, temperature=1)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert answer.usage is not None
    assert answer.usage.completion_tokens <= 16


def test_the_tool_that_fits_is_called_and_its_result_told(ai: OpenAI, name: str) -> None:
    messages = [user("What is the weather in Chicago?")]
    said = ai.chat.completions.create(model=name, messages=messages, tools=TOOLS, temperature=0).choices[0]
    assert said.finish_reason == "tool_calls"
    assert said.message.tool_calls
    [call] = said.message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": "Chicago"})
    messages += [
        said.message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "sunny, 21 degrees"},
    ]
    told = say(ai, name, *messages, tools=TOOLS)
    assert "Chicago" in told
    assert "sunny, 21 degrees" in told


@pytest.mark.parametrize("choice", ["auto", "required", {"type": "function", "function": {"name": "set_timer"}}])
def test_a_streamed_call_is_put_together_whatever_the_choice(ai: OpenAI, choice: Any) -> None:
    messages: Any = [user("Set a timer for 58 minutes.")]
    chunks = ai.chat.completions.create(
        model="sample", messages=messages, tools=TOOLS, tool_choice=choice, temperature=0, stream=True
    )
    names, arguments = "", ""
    for chunk in chunks:
        for piece in chunk.choices[0].delta.tool_calls or ():
            assert piece.index == 0
            names += piece.function.name or "" if piece.function else ""
            arguments += piece.function.arguments or "" if piece.function else ""
    assert (names, json.loads(arguments)) == ("set_timer", {"minutes": 58})


def test_where_no_tool_fits_the_answer_is_text(ai: OpenAI) -> None:
    assert COMMAND in say(ai, "sample", user(FOLDER), tools=TOOLS[1:])
    assert say(ai, "sample", user("Set a timer for 58 minutes."), tools=TOOLS, tool_choice="none") != "None"


def test_a_schema_is_filled_with_what_the_sentence_says(ai: OpenAI, name: str) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}
    for stream in (False, True):
        said = say(ai, name, *FILL, response_format=form, stream=stream)
        assert json.loads(said) == {"name": "Tara", "age": 54, "city": "Chicago"}


@pytest.mark.parametrize("temperature", [0, 2])
def test_a_schema_is_enforced_at_any_temperature(served: Any, temperature: float) -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"enum": ["Tom", "Lily"]}, "old": {"type": "boolean"}},
        "required": ["name", "old"],
        "additionalProperties": False,
    }
    body = {
        "model": "sample",
        "prompt": "Once upon a time",
        "temperature": temperature,
        "json_schema": schema,
        "max_tokens": 60,
    }
    answer = json.loads(served.http.post("/v1/completions", json=body).json()["choices"][0]["text"])
    assert answer["name"] in ("Tom", "Lily")
    assert isinstance(answer["old"], bool)


def test_embeddings_are_the_same_alone_and_among_others_and_as_base64(ai: OpenAI, served: Any) -> None:
    texts = ["anyform list shows the models that are known", "the server answers on loopback only", "2 + 3 = 5"]
    together = [item.embedding for item in ai.embeddings.create(model="encoder", input=texts).data]
    for text, vector in zip(texts, together, strict=True):
        [alone] = ai.embeddings.create(model="encoder", input=text, encoding_format="float").data
        assert alone.embedding == pytest.approx(vector, abs=1e-3)
        assert sum(x * x for x in vector) == pytest.approx(1, abs=1e-3)


def test_what_it_cannot_do_is_400(served: Any, ai: OpenAI) -> None:
    http: httpx.Client = served.http
    with pytest.raises(openai.BadRequestError):
        ai.embeddings.create(model="sample", input="a")
    with pytest.raises(openai.BadRequestError):
        say(ai, "encoder", user(FOLDER))
    with pytest.raises(openai.BadRequestError) as caught:
        ai.completions.create(model="sample", prompt="word " * 5000)
    assert caught.value.code == "context_length_exceeded"
    refused = http.post("/v1/completions", json={"model": "sample", "prompt": "a", "grammar": "root ::= ("})
    assert refused.status_code == 400, refused.text


def fields_of(endpoint: str, words: int) -> dict[str, Any]:
    """A body with a prompt of *words* words, for one of the endpoints."""
    text = " ".join(["a"] * words)
    return {
        "/v1/chat/completions": {"model": "sample:Q8_0", "messages": [user(text)], "max_tokens": 1},
        "/v1/completions": {"model": "sample:Q8_0", "prompt": text, "max_tokens": 1},
        "/v1/embeddings": {"model": "encoder", "input": text},
        "/v1/rerank": {"model": "ranker", "query": "a", "documents": [text]},
    }[endpoint]


@pytest.mark.parametrize("endpoint", ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/rerank"])
def test_one_token_over_the_context_is_refused_and_never_cut(served: Any, endpoint: str) -> None:
    http: httpx.Client = served.http
    body = fields_of(endpoint, 1)
    few, more = (
        http.post(endpoint, json=fields_of(endpoint, words)).json()["usage"]["prompt_tokens"] for words in (10, 20)
    )
    loaded = http.get("/runtime/status").json()["models"]
    [context] = [model["context"] for model in loaded if model["model"] == body["model"]]
    a_word, rest = divmod(more - few, 10)
    assert rest == 0
    words, rest = divmod(context + 1 - few, a_word)
    assert rest == 0
    refused = http.post(endpoint, json=fields_of(endpoint, 10 + words))
    assert refused.status_code == 400, refused.text
    error = refused.json()["error"]
    assert error["code"] == "context_length_exceeded"
    assert str(context) in error["message"]
    assert str(context + 1) in error["message"]


def test_hanging_up_frees_the_slot(served: Any) -> None:
    body = {"model": "sample", "prompt": "Once upon", "max_tokens": 400, "ignore_eos": True, "stream": True}
    for _ in range(40):
        with served.http.stream("POST", "/v1/completions", json=body) as response:
            assert next(response.iter_lines()).startswith("data: {")
    assert COMMAND in say(served.openai, "sample", user(FOLDER))
