"""The openai package against real GGUF models; skipped where the engine or the sample models are absent."""

from __future__ import annotations

import json
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

pytest.importorskip("llama_cpp")
FOLDER = Path(__file__).parents[4] / "shared" / "models" / "stories260K-gguf"
PROMPT = "Once upon a time"
STORY = ", there was a little girl named Lily. She loved to play outside in the park."
pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(not FOLDER.is_dir(), reason="the sample models are not here"),
]


@pytest.fixture(scope="module", params=["worker", "here"])
def stories(request: pytest.FixtureRequest, running: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    where: Literal["worker", "here"] = request.param
    state = tmp_path_factory.mktemp("state")
    runtime = start(folders=[FOLDER], where=where, state=state, defaults=Settings(parallel=32))
    server = running(runtime, HttpConfig())
    yield server
    server.close()
    runtime.close()


@pytest.fixture
def ai(stories: Any) -> OpenAI:
    client: OpenAI = stories.openai
    return client


@pytest.fixture(params=["F16", "Q8_0"])
def name(request: pytest.FixtureRequest) -> str:
    return f"stories260K:{request.param}"


def test_the_variants_are_listed(ai: OpenAI) -> None:
    assert {"stories260K:F16", "stories260K:Q8_0"} <= {model.id for model in ai.models.list()}


@pytest.mark.parametrize("stream", [False, True])
def test_greedy_decoding_tells_the_known_story(ai: OpenAI, name: str, stream: bool) -> None:
    assert _tell(ai, name, stream=stream) == STORY


def _tell(ai: OpenAI, name: str, stream: bool = False, **fields: Any) -> str:
    asked: dict[str, Any] = {
        "model": name,
        "prompt": PROMPT,
        "temperature": 0,
        "max_tokens": 40,
        "stop": "\n",
        **fields,
    }
    if not stream:
        return str(ai.completions.create(**asked).choices[0].text)[: len(STORY)]
    return "".join(chunk.choices[0].text for chunk in ai.completions.create(stream=True, **asked))[: len(STORY)]


def test_thirty_two_at_once_tell_what_each_tells_alone(ai: OpenAI, name: str) -> None:
    prompts = [f"{PROMPT}, {who}" for who in ("Tom", "Lily", "a cat", "the sun")] * 8

    def tell(at: int) -> str:
        return _tell(ai, name, prompt=prompts[at], stream=bool(at % 2))

    alone = [tell(at) for at in range(4)]
    with ThreadPoolExecutor(32) as threads:
        assert list(threads.map(tell, range(32))) == alone * 8


def test_the_same_seed_gives_the_same_text(ai: OpenAI) -> None:
    texts = {_tell(ai, "stories260K", temperature=1.5, seed=7) for _ in range(3)}
    assert len(texts) == 1
    assert texts != {_tell(ai, "stories260K", temperature=1.5, seed=8)}


def test_usage_counts_what_was_generated_and_reused(ai: OpenAI) -> None:
    for _ in range(2):
        answer = ai.completions.create(model="stories260K", prompt=PROMPT + STORY, max_tokens=5, temperature=0)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 5
    assert answer.usage.prompt_tokens > 20
    assert answer.usage.prompt_tokens_details is not None
    assert (answer.usage.prompt_tokens_details.cached_tokens or 0) > 10


def test_logprobs_have_an_entry_for_each_token(ai: OpenAI) -> None:
    answer = ai.completions.create(model="stories260K", prompt=PROMPT, max_tokens=6, temperature=0, logprobs=3)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens is not None
    assert len(logprobs.tokens) == 6
    assert "".join(logprobs.tokens) == answer.choices[0].text
    for at, top in enumerate(logprobs.top_logprobs or ()):
        assert len(top) == 3
        assert max(top, key=lambda token: top[token]) == logprobs.tokens[at]


def test_several_answers_and_prompts(ai: OpenAI) -> None:
    answer = ai.completions.create(model="stories260K", prompt=[PROMPT, "The dog"], n=2, max_tokens=4, temperature=1)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 16


@pytest.mark.parametrize("temperature", [0, 2])
def test_a_schema_is_enforced_at_any_temperature(stories: Any, temperature: float) -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"enum": ["Tom", "Lily"]}, "old": {"type": "boolean"}},
        "required": ["name", "old"],
        "additionalProperties": False,
    }
    body = {
        "model": "stories260K",
        "prompt": PROMPT,
        "temperature": temperature,
        "json_schema": schema,
        "max_tokens": 60,
    }
    answer = json.loads(stories.http.post("/v1/completions", json=body).json()["choices"][0]["text"])
    assert answer["name"] in ("Tom", "Lily")
    assert isinstance(answer["old"], bool)


def test_what_it_cannot_do_is_400(stories: Any, ai: OpenAI) -> None:
    http: httpx.Client = stories.http
    with pytest.raises(openai.BadRequestError):
        ai.embeddings.create(model="stories260K", input="a")
    with pytest.raises(openai.BadRequestError) as caught:
        ai.completions.create(model="stories260K", prompt="word " * 5000)
    assert caught.value.code == "context_length_exceeded"
    refused = http.post("/v1/completions", json={"model": "stories260K", "prompt": "a", "grammar": "root ::= ("})
    assert refused.status_code == 400, refused.text


def test_hanging_up_frees_the_slot(stories: Any) -> None:
    body = {"model": "stories260K", "prompt": PROMPT, "max_tokens": 400, "ignore_eos": True, "stream": True}
    for _ in range(40):
        with stories.http.stream("POST", "/v1/completions", json=body) as response:
            assert next(response.iter_lines()).startswith("data: {")
    assert _tell(stories.openai, "stories260K") == STORY
