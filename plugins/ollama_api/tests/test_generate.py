"""/api/generate over HTTP, over the echo engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

Post = Callable[..., httpx.Response]
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def whole(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    said: dict[str, Any] = answer.json()
    return said


def error(answer: httpx.Response) -> str:
    assert answer.status_code == 400, answer.text
    assert set(answer.json()) == {"error"}
    return str(answer.json()["error"])


def test_an_answer_is_streamed_unless_it_is_not_to_be(post: Post) -> None:
    answer = post("/api/generate", model="parrot", prompt="one two")
    assert answer.headers["content-type"] == "application/x-ndjson"
    pieces = [json.loads(line) for line in answer.text.splitlines()]
    assert [piece["response"] for piece in pieces] == ["one", " two", ""]
    assert [piece["done"] for piece in pieces] == [False, False, True]
    assert all("context" not in piece for piece in pieces[:-1])
    said = whole(post("/api/generate", model="parrot", prompt="one two", stream=False))
    assert (said["response"], said["done_reason"], said["context"]) == ("one two", "stop", pieces[-1]["context"])


def test_a_conversation_goes_on_from_its_context(post: Post) -> None:
    first = whole(post("/api/generate", model="parrot", prompt="one two", system="Be kind.", stream=False))
    assert first["prompt_eval_count"] == 4
    second = whole(post("/api/generate", model="parrot", prompt="three", context=first["context"], stream=False))
    assert second["prompt_eval_count"] == 7, "the system's two, two asked, two answered, one asked"
    third = whole(post("/api/generate", model="parrot", prompt="four", context=second["context"], stream=False))
    assert third["prompt_eval_count"] == 9
    other = whole(
        post("/api/generate", model="parrot", prompt="four", context=second["context"], system="No.", stream=False)
    )
    assert other["prompt_eval_count"] == 8, "the request's own system prompt is in the place of the earlier"


def test_what_a_model_begins_with_comes_once(post: Post) -> None:
    first = whole(post("/api/generate", model="told", prompt="one", stream=False))
    assert first["prompt_eval_count"] == 5
    second = whole(post("/api/generate", model="told", prompt="two", context=first["context"], stream=False))
    assert second["prompt_eval_count"] == 7
    own = whole(post("/api/generate", model="told", prompt="one", system="No.", stream=False))
    assert own["prompt_eval_count"] == 4


def test_a_raw_prompt_is_taken_as_it_is(post: Post) -> None:
    said = whole(post("/api/generate", model="told", prompt="<s> one", raw=True, stream=False))
    assert (said["response"], said["prompt_eval_count"]) == ("<s> one", 2)
    assert "context" not in said


@pytest.mark.parametrize("more", [{"system": "No."}, {"template": "{{ .Prompt }}"}])
def test_a_raw_prompt_goes_with_no_form(post: Post, more: dict[str, Any]) -> None:
    told = error(post("/api/generate", model="parrot", prompt="one", raw=True, **more))
    assert told.startswith("raw mode does not support template, system, or context")


def test_a_raw_prompt_goes_with_no_context(post: Post) -> None:
    first = whole(post("/api/generate", model="parrot", prompt="one", stream=False))
    told = error(post("/api/generate", model="parrot", prompt="one", raw=True, context=first["context"]))
    assert told.startswith("raw mode does not support template, system, or context")
    assert "images" in error(post("/api/generate", model="parrot", prompt="one", raw=True, images=[PIXEL]))
    assert "think" in error(post("/api/generate", model="parrot", prompt="one", raw=True, think=True))


def test_a_hole_is_filled(post: Post) -> None:
    said = whole(post("/api/generate", model="base", prompt="def f():", suffix="return x", stream=False))
    assert said["response"] == "def f():"
    assert "context" not in said
    assert "system" in error(post("/api/generate", model="base", prompt="a", suffix="b", system="No."))


def test_a_template_of_the_request(post: Post) -> None:
    said = whole(
        post("/api/generate", model="parrot", prompt="one", template="{{ .System }} {{ .Prompt }}", stream=False)
    )
    assert said["response"] == "one"
    assert "template" in error(post("/api/generate", model="parrot", prompt="one", template="{{ .Prompt"))


def test_pictures_are_seen(post: Post) -> None:
    said = whole(post("/api/generate", model="parrot", prompt="what is this", images=[PIXEL], stream=False))
    assert "picture of 70 bytes" in said["response"]


def test_thoughts_stand_apart(post: Post) -> None:
    said = whole(post("/api/generate", model="parrot", prompt="one", think=True, stream=False))
    assert (said["response"], said["thinking"]) == ("one", "I shall repeat this.")
    assert error(post("/api/generate", model="plain", prompt="one", think="low")).startswith(
        '"plain" does not support thinking'
    )


def test_a_model_that_was_never_taught_to_chat_goes_on_from_the_text(post: Post) -> None:
    said = whole(post("/api/generate", model="base", prompt="Once upon", stream=False))
    assert said["response"] == "Once upon"
    more = whole(post("/api/generate", model="base", prompt=" a time", context=said["context"], stream=False))
    assert more["response"] == "Once uponOnce upon a time"
    told = whole(post("/api/generate", model="base", prompt="Once", system="A tale.", stream=False))
    assert told["response"] == "A tale.\n\nOnce"
    assert "only completes texts" in error(post("/api/generate", model="base", prompt="a", images=[PIXEL]))
    assert post("/api/chat", model="base", messages=[{"role": "user", "content": "a"}]).status_code == 400


def test_without_a_prompt_it_loads_and_unloads(post: Post) -> None:
    for body in ({}, {"prompt": ""}, {"prompt": None, "keep_alive": None}):
        for model in ("parrot", "base"):
            said = whole(post("/api/generate", model=model, **body))
            assert said.pop("created_at")
            assert said == {"model": model, "response": "", "done": True, "done_reason": "load"}
    assert whole(post("/api/generate", model="parrot", keep_alive=0))["done_reason"] == "unload"
    assert whole(post("/api/generate", model="embedder", keep_alive=0))["done_reason"] == "unload"
    assert "embed" in error(post("/api/generate", model="embedder"))


def test_a_load_may_ask_for_a_context(post: Post, served: Any) -> None:
    whole(post("/api/generate", model="brief", options={"num_ctx": 64}))
    assert next(model for model in served.runtime.loaded() if model.model == "brief").context >= 64
    assert "trained for 12" in error(post("/api/generate", model="small", options={"num_ctx": 64}))


def test_what_is_over_the_context_is_refused_unless_it_may_be_cut(post: Post) -> None:
    numbers: list[int] = []
    for word in ("one", "two", "three"):
        said = whole(post("/api/generate", model="small", prompt=f"{word} {word}", context=numbers, stream=False))
        numbers = said["context"]
    refused = error(post("/api/generate", model="small", prompt="four", context=numbers))
    assert "context of small is 12" in refused
    assert '"truncate": true' in refused
    ruled = whole(post("/api/generate", model="cutting", prompt="four", context=numbers, stream=False))
    assert ruled["truncated"] == 2, "as its rule says"
    raw = {"prompt": "word " * 20, "raw": True, "truncate": True}
    assert "raw or has a suffix is never cut" in error(post("/api/generate", model="small", **raw))
    cut = whole(post("/api/generate", model="small", prompt="four", context=numbers, truncate=True, stream=False))
    assert (cut["truncated"], cut["prompt_eval_count"]) == (2, 9)
    assert "context: 2." in cut["remarks"][0]
    after = whole(post("/api/generate", model="small", prompt="five", context=cut["context"], stream=False))
    assert after["prompt_eval_count"] == 11, "what was cut is in the context no more"
    assert "truncated" not in after
