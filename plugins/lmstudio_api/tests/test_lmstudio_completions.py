"""/api/v0/chat/completions, /completions and /embeddings: OpenAI's answers, with how it went."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from openai import BadRequestError, NotFoundError, OpenAI

from anyform.testing.serving import Served

CHAT, COMPLETE, EMBED = "/api/v0/chat/completions", "/api/v0/completions", "/api/v0/embeddings"
SAY = {"model": "parrot", "messages": [{"role": "user", "content": "one two three"}]}
OURS = ("stats", "model_info", "runtime")
Told = Callable[..., Any]
Chunks = Callable[..., list[dict[str, Any]]]
Post = Callable[..., httpx.Response]


def without(answer: dict[str, Any]) -> dict[str, Any]:
    """What OpenAI's answer has too, but for what no two answers share."""
    return {name: value for name, value in answer.items() if name not in (*OURS, "id", "created")}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/chat/completions", {**SAY, "n": 2, "logprobs": True}),
        ("/chat/completions", {**SAY, "tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "f"}),
        ("/completions", {"model": "parrot", "prompt": ["a b", "c d"], "max_tokens": 1, "logprobs": 1}),
        ("/embeddings", {"model": "embedder", "input": ["a", "b"], "encoding_format": "base64"}),
    ],
)
def test_the_answer_is_openais(path: str, body: dict[str, Any], told: Told) -> None:
    if "tools" in body:
        body = {**body, "tool_choice": "required"}
    assert without(told(f"/api/v0{path}", **body)) == without(told(f"/v1{path}", **body))


def test_it_says_how_it_went(told: Told) -> None:
    answer = told(CHAT, **SAY)
    stats = answer["stats"]
    assert stats.pop("tokens_per_second") > 0
    assert stats.pop("time_to_first_token") > 0
    assert stats.pop("generation_time") > 0
    assert stats == {"stop_reason": "eosFound"}
    assert answer["model_info"] == {"arch": "echo", "quant": None, "format": "echo", "context_length": 256}
    assert answer["runtime"] == {"name": "echo", "version": "", "supported_formats": ["echo"]}


def test_the_model_info_is_that_of_the_variant(told: Told) -> None:
    assert told(CHAT, **{**SAY, "model": "owner/bird:F16"})["model_info"]["quant"] == "F16"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({}, "eosFound"),
        ({"max_tokens": 2}, "maxPredictedTokensReached"),
        ({"max_completion_tokens": 2}, "maxPredictedTokensReached"),
        ({"max_tokens": -1}, "eosFound"),
        ({"stop": "three"}, "stopStringFound"),
        ({"model": "small", "max_tokens": -1, "ignore_eos": True}, "contextLengthReached"),
        ({"model": "small", "max_tokens": 500, "ignore_eos": True}, "contextLengthReached"),
        (
            {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "required"},
            "toolCalls",
        ),
    ],
)
def test_it_says_why_it_ended(body: dict[str, Any], reason: str, told: Told, chunks: Chunks) -> None:
    assert told(CHAT, **(SAY | body))["stats"]["stop_reason"] == reason
    assert chunks(CHAT, **(SAY | body))[-1]["stats"]["stop_reason"] == reason


def test_no_number_of_tokens_is_no_limit(told: Told) -> None:
    prompt = " ".join(map(str, range(30)))
    for limit in ({}, {"max_tokens": -1}, {"max_tokens": -1.0}):
        answer = told(COMPLETE, model="parrot", prompt=prompt, **limit)
        assert answer["choices"][0]["text"] == prompt
    assert told(COMPLETE, model="parrot", prompt=prompt, max_tokens=3)["choices"][0]["text"] == "0 1 2"


def test_no_limit_goes_over_that_of_the_settings(told: Told) -> None:
    body = {**SAY, "model": "brief", "n": 1, "stop": []}
    assert told(CHAT, **body)["choices"][0]["message"]["content"] == "one two"
    assert told(CHAT, **body, max_tokens=-1)["choices"][0]["message"]["content"] == "one two three"


def test_minus_one_is_refused_by_openai(post: Post) -> None:
    assert post("/v1/chat/completions", **SAY, max_tokens=-1).status_code == 400


def test_what_the_settings_say_is_heeded(told: Told) -> None:
    prompt = ["Be", "kind.", "A", "B", "one", "two", "three"]
    assert told(CHAT, **{**SAY, "model": "told"})["usage"]["prompt_tokens"] == len(prompt)
    assert len(told(CHAT, **{**SAY, "model": "brief"})["choices"]) == 2


@pytest.mark.parametrize("counted", [False, True])
def test_the_last_chunk_says_how_it_went(counted: bool, chunks: Chunks) -> None:
    got = chunks(CHAT, **SAY, **({"stream_options": {"include_usage": True}} if counted else {}))
    telling = [at for at, chunk in enumerate(got) if "stats" in chunk]
    last = got[telling[0]]
    assert telling == [len(got) - 1 - counted]
    assert last["choices"][0]["finish_reason"] == "stop"
    assert last["stats"]["generation_time"] > 0
    assert last["model_info"]["context_length"] == 256
    assert last["runtime"]["name"] == "echo"
    assert (
        "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in got if chunk["choices"]) == "one two three"
    )


def test_a_stream_of_several_prompts_says_it_once(chunks: Chunks) -> None:
    got = chunks(COMPLETE, model="parrot", prompt=["a b", "c d"])
    assert [at for at, chunk in enumerate(got) if "stats" in chunk] == [len(got) - 1]
    assert got[-1]["stats"]["tokens_per_second"] > 0


def test_remarks_of_the_model_are_told_beside(told: Told, chunks: Chunks) -> None:
    body = {**SAY, "model": "remarking"}
    assert told(CHAT, **body)["remarks"] == ["This is an echo."]
    assert chunks(CHAT, **body)[-1]["remarks"] == ["This is an echo."]


def stays_s(served: Served, model: str) -> float:
    """How long *model* will stay, once the answer that the client has already is ended here too."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        left = next(one.expires_s for one in served.runtime.loaded() if one.model == model)
        if left is not None:
            return left
    raise AssertionError(f"{model} is not idle.")


def test_ttl_says_how_long_the_model_stays(told: Told, served: Served) -> None:
    for path, body in ((CHAT, SAY), (COMPLETE, {"model": "parrot", "prompt": "a"})):
        told(path, **body, ttl=4321)
        assert round(stays_s(served, "parrot"), -2) == 4300
        told(path, **body, ttl=60)
    told(EMBED, model="embedder", input="a", ttl=1234)
    assert round(stays_s(served, "embedder"), -2) == 1200


def test_the_openai_client_speaks_it(served: Served) -> None:
    with OpenAI(base_url=f"{served.url}/api/v0", api_key="lm-studio", max_retries=0) as client:
        messages: Any = SAY["messages"]
        answer = client.chat.completions.create(model="parrot", messages=messages)
        assert answer.choices[0].message.content == "one two three"
        assert (answer.model_extra or {})["stats"]["stop_reason"] == "eosFound"
        pieces = list(client.chat.completions.create(model="parrot", messages=messages, stream=True))
        assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == "one two three"
        assert (pieces[-1].model_extra or {})["model_info"]["arch"] == "echo"
        assert "parrot" in [model.id for model in client.models.list()]
        assert client.models.retrieve("owner/bird:Q4_K_M").id
        assert len(client.embeddings.create(model="embedder", input="a").data[0].embedding) == 8
        with pytest.raises(NotFoundError, match="there is no model 'nothing'"):
            client.chat.completions.create(model="nothing", messages=messages)
        with pytest.raises(BadRequestError) as refused:
            client.chat.completions.create(model="parrot", messages=messages, temperature=7)
        assert refused.value.body == "Invalid 'temperature': 7 is above the maximum. Expected a value <= 2."


def test_a_model_that_is_not_there_is_refused_as_openai_does(post: Post) -> None:
    for more in ({}, {"stream": True}):
        answer = post(CHAT, **{**SAY, "model": "nothing", **more})
        assert answer.status_code == 404
        error = answer.json()["error"]
        assert error["message"].startswith("there is no model 'nothing'")
        assert {**error, "message": ""} == {
            "message": "",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
        }


@pytest.mark.parametrize(("path", "models"), [(CHAT, "/api/v0/models"), ("/api/v1/chat", "/api/v1/models")])
def test_what_is_no_name_is_told_where_the_names_are_here(path: str, models: str, post: Post) -> None:
    answer = post(path, **({**SAY, "model": "/etc/passwd"} if path == CHAT else {"model": "/etc/passwd", "input": "a"}))
    assert answer.json()["error"]["message"].endswith(f"Model names are listed under {models}.")


def test_a_prompt_over_the_context_is_refused(post: Post) -> None:
    answer = post(CHAT, model="small", messages=[{"role": "user", "content": "a " * 20}], stream=True)
    assert answer.status_code == 400
    assert "the context of small is 8" in answer.json()["error"]


WRONG: list[tuple[str, dict[str, Any], str]] = [
    (CHAT, {"messages": []}, "messages"),
    (CHAT, {"messages": None}, "messages"),
    (CHAT, {"messages": "hi"}, "messages"),
    (CHAT, {"messages": [{"role": "king", "content": "a"}]}, "role"),
    (CHAT, {"model": None}, "model"),
    (CHAT, {"model": 5}, "model"),
    (CHAT, {"temperature": -1}, "temperature"),
    (CHAT, {"top_p": 2}, "top_p"),
    (CHAT, {"max_tokens": -2}, "Invalid 'max_tokens': -2 is below the minimum. Expected a value >= -1."),
    (CHAT, {"max_tokens": 0}, "max_tokens"),
    (CHAT, {"max_tokens": True}, "max_tokens"),
    (CHAT, {"stream": "yes"}, "stream"),
    (CHAT, {"ttl": -5}, "ttl"),
    (CHAT, {"ttl": "long"}, "ttl"),
    (CHAT, {"preset": "mine"}, "preset"),
    (CHAT, {"response_format": {"type": "xml"}}, "response_format"),
    (CHAT, {"stream_options": {"include_usage": True}}, "stream_options"),
    (CHAT, {"functions": [{"name": "f"}]}, "functions"),
    (COMPLETE, {"prompt": None}, "prompt"),
    (COMPLETE, {"prompt": []}, "prompt"),
    (COMPLETE, {"max_tokens": -7}, "max_tokens"),
    (COMPLETE, {"preset": "mine"}, "preset"),
    (COMPLETE, {"ttl": []}, "ttl"),
    (EMBED, {"input": None}, "input"),
    (EMBED, {"input": []}, "input"),
    (EMBED, {"encoding_format": "hex"}, "encoding_format"),
    (EMBED, {"ttl": -1}, "ttl"),
    (EMBED, {"model": "parrot", "input": "a", "dimensions": 0}, "dimensions"),
]


@pytest.mark.parametrize(("path", "body", "field"), WRONG)
def test_what_is_wrong_is_refused_in_a_text_that_names_it(
    path: str, body: dict[str, Any], field: str, post: Post
) -> None:
    least = {CHAT: SAY, COMPLETE: {"model": "parrot", "prompt": "a"}, EMBED: {"model": "embedder", "input": "a"}}[path]
    answer = post(path, **(least | body))
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"]
    assert field in answer.json()["error"]


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b"{", 400),
        (b'{"model": NaN}', 400),
        (b"\xff\xfe", 400),
        (b'{"a":' * 20_000, 400),
        (json.dumps({"model": "\ud800", "messages": [{"role": "user", "content": "a"}]}).encode(), 404),
    ],
)
def test_no_json_is_refused_in_its_form(content: bytes, status: int, http: httpx.Client) -> None:
    answer = http.post(CHAT, content=content, headers={"content-type": "application/json"})
    assert answer.status_code in (status, 400)
    assert answer.json()["error"]


def test_an_embedder_does_not_chat(post: Post) -> None:
    answer = post(CHAT, **{**SAY, "model": "embedder"})
    assert answer.status_code == 400
    assert "embedder does embed, not chat" in answer.json()["error"]
