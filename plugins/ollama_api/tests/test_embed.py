"""/api/embed and /api/embeddings over HTTP, over the echo engine."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import httpx
import pytest

Post = Callable[..., httpx.Response]


def whole(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    said: dict[str, Any] = answer.json()
    return said


def length(vector: list[float]) -> float:
    return math.sqrt(sum(number * number for number in vector))


def test_texts_become_vectors_of_length_one(post: Post) -> None:
    said = whole(post("/api/embed", model="embedder", input=["one two", "", "three"]))
    assert set(said) == {"model", "embeddings", "total_duration", "load_duration", "prompt_eval_count"}
    assert [len(vector) for vector in said["embeddings"]] == [8, 8, 8]
    assert all(math.isclose(length(vector), 1, abs_tol=1e-6) for vector in said["embeddings"])
    assert said["prompt_eval_count"] == 3
    assert all(type(said[name]) is int and said[name] > 0 for name in ("total_duration", "load_duration"))
    one = whole(post("/api/embed", model="embedder", input="one two"))
    assert one["embeddings"] == said["embeddings"][:1]


def test_dimensions(post: Post) -> None:
    said = whole(post("/api/embed", model="embedder", input="one", dimensions=3))
    assert len(said["embeddings"][0]) == 3
    assert math.isclose(length(said["embeddings"][0]), 1, abs_tol=1e-6)
    assert post("/api/embed", model="embedder", input="one", dimensions=900).status_code == 400


@pytest.mark.parametrize("body", [{}, {"input": []}, {"input": ""}, {"input": None}])
def test_nothing_gives_nothing(post: Post, served: Any, body: dict[str, Any]) -> None:
    assert whole(post("/api/embed", model="embedder", **body)) == {"model": "embedder", "embeddings": []}
    assert any(model.model == "embedder" for model in served.runtime.loaded())
    assert whole(post("/api/embed", model="embedder", **body, keep_alive=0))["embeddings"] == []
    assert not any(model.model == "embedder" for model in served.runtime.loaded())


def test_a_text_over_the_context_is_refused_unless_it_may_be_cut(post: Post) -> None:
    long = "word" + " word" * 19
    for more in ({}, {"truncate": False}):
        refused = post("/api/embed", model="embedder", input=["a", long], **more)
        assert refused.status_code == 400
        assert "20 tokens" in refused.json()["error"]
        assert '"truncate": true' in refused.json()["error"]
    said = whole(post("/api/embed", model="embedder", input=["a", long], truncate=True))
    assert said["prompt_eval_count"] == 9
    assert said["truncated"] is True
    assert "cut" in said["remarks"][0]
    short = whole(post("/api/embed", model="embedder", input=["a"], truncate=True))
    assert not {"truncated", "remarks"} & set(short), "nothing was cut"
    assert whole(post("/api/embed", model="cutter", input=long))["truncated"] is True, "as its rule says"
    assert post("/api/embed", model="cutter", input=long, truncate=False).status_code == 400
    older = post("/api/embeddings", model="embedder", prompt=long)
    assert (older.status_code, "/api/embed cuts" in older.json()["error"]) == (400, True)


def test_the_older_form(post: Post) -> None:
    new = whole(post("/api/embed", model="embedder", input="one two"))["embeddings"][0]
    assert whole(post("/api/embeddings", model="embedder", prompt="one two")) == {"embedding": new}
    assert whole(post("/api/embeddings", model="embedder", prompt="")) == {"embedding": []}
    assert whole(post("/api/embeddings", model="embedder")) == {"embedding": []}
