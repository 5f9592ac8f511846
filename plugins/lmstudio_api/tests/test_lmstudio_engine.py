"""The sample models as GGUF over LM Studio's API: the same greedy text as over OpenAI's, and what is told of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from anyform.assembly import start
from anyform.contract.facts import Settings
from anyform.testing.serving import Served

pytestmark = pytest.mark.engine

QUESTION = "How do I serve a folder of models?"
GREEDY: dict[str, Any] = {"model": "sample", "temperature": 0}
MESSAGES = [{"role": "user", "content": QUESTION}]


@pytest.fixture(scope="module")
def samples(sample: Path, sample_embed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    root = tmp_path_factory.mktemp("models")
    for path, name in ((sample, "sample"), (sample_embed, "encoder")):
        shutil.copy(path, root / f"{name}.gguf")
    state = tmp_path_factory.mktemp("state")
    served = Served(start(folders=[root], where="here", state=state, defaults=Settings(parallel=2)))
    with httpx.Client(base_url=served.url, timeout=120) as http:
        yield http
    served.close()


def answered(http: httpx.Client, path: str, **body: Any) -> Any:
    response = http.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


def streamed(http: httpx.Client, path: str, **body: Any) -> list[dict[str, Any]]:
    text = http.post(path, json={**body, "stream": True}).text
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: {")]
    return [json.loads(line) for line in lines]


def test_the_greedy_text_is_the_same(samples: httpx.Client) -> None:
    body = {**GREEDY, "messages": MESSAGES}
    expected = answered(samples, "/v1/chat/completions", **body)["choices"][0]["message"]["content"]
    assert expected
    whole = answered(samples, "/api/v0/chat/completions", **body, max_tokens=-1)
    assert whole["choices"][0]["message"]["content"] == expected
    chunks = streamed(samples, "/api/v0/chat/completions", **body)
    assert "".join(one["choices"][0]["delta"].get("content", "") for one in chunks) == expected
    chat = answered(samples, "/api/v1/chat", **GREEDY, input=QUESTION)
    assert [item["content"] for item in chat["output"]] == [expected]
    events = streamed(samples, "/api/v1/chat", **GREEDY, input=QUESTION)
    assert "".join(one["content"] for one in events if one["type"] == "message.delta") == expected


def test_a_completion_is_the_same(samples: httpx.Client) -> None:
    body = {**GREEDY, "prompt": "anyform", "max_tokens": 8}
    expected = answered(samples, "/v1/completions", **body)["choices"]
    assert answered(samples, "/api/v0/completions", **body)["choices"] == expected


def test_what_is_told_of_a_gguf(samples: httpx.Client) -> None:
    answer = answered(samples, "/api/v0/chat/completions", **GREEDY, messages=MESSAGES, max_tokens=2)
    assert answer["model_info"]["format"] == "gguf"
    assert answer["model_info"]["quant"] == "Q8_0"
    assert answer["runtime"]["name"] == "llama.cpp"
    assert answer["runtime"]["version"]
    assert "gguf" in answer["runtime"]["supported_formats"]
    assert answer["stats"]["stop_reason"] == "maxPredictedTokensReached"
    one = samples.get("/api/v0/models/sample").json()
    assert (one["type"], one["compatibility_type"], one["quantization"]) == ("llm", "gguf", "Q8_0")
    assert samples.get("/api/v0/models/encoder").json()["type"] == "embeddings"


def test_settings_that_are_llama_cpps_reach_it(samples: httpx.Client) -> None:
    asked = {"context_length": 128, "eval_batch_size": 64, "flash_attention": False, "offload_kv_cache_to_gpu": False}
    told = answered(samples, "/api/v1/models/load", model="sample", echo_load_config=True, **asked)
    assert told["load_config"] == {**asked, "parallel": 2}
    assert answered(samples, "/api/v1/models/unload", instance_id="sample") == {"instance_id": "sample"}


def test_embeddings_are_the_same(samples: httpx.Client) -> None:
    body = {"model": "encoder", "input": ["a cat", "a dog"]}
    assert (
        answered(samples, "/api/v0/embeddings", **body)["data"] == answered(samples, "/v1/embeddings", **body)["data"]
    )
