"""The greedy answer to one prompt is the same text in every dialect, streamed and not, on every text engine here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from anyform.testing.ways import answers

PROMPT = "How do I serve a folder of models?"
MOST = 24
ENGINES = (
    "echo",
    *(pytest.param(name, marks=pytest.mark.engine) for name in ("gguf", "transformers", "onnx", "genai")),
)


@pytest.fixture(scope="module")
def http(served: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.url, timeout=120) as client:
        yield client


@pytest.mark.parametrize("engine", ENGINES)
def test_every_dialect_says_the_same(http: httpx.Client, engine: str) -> None:
    names = {model["id"] for model in http.get("/v1/models").json()["data"]}
    if engine not in names:
        pytest.skip(f"the engine of {engine} is not installed")
    said = answers(http, engine, PROMPT, MOST)
    assert len(said) == 14
    assert set(said.values()) == {said["openai chat, whole"]}, said
    assert len(said["openai chat, whole"].split()) > 2
