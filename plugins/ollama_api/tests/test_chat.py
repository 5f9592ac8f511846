"""/api/chat over HTTP, over the echo engine: what comes back for each thing that may be asked."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

Post = Callable[..., httpx.Response]

HELLO = [{"role": "user", "content": "one two three"}]
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
TIMES = ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration")
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z")


def lines(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


def whole(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    said: dict[str, Any] = answer.json()
    return said


def resident(served: Any, name: str) -> Any:
    """The model of that name as it is loaded; None: it is not."""
    return next((model for model in served.runtime.loaded() if model.model == name), None)


def test_an_answer_is_streamed_unless_it_is_not_to_be(post: Post) -> None:
    said = lines(post("/api/chat", model="parrot", messages=HELLO))
    assert [piece["message"] for piece in said] == [
        {"role": "assistant", "content": text} for text in ("one", " two", " three", "")
    ]
    assert [piece["done"] for piece in said] == [False, False, False, True]
    assert all(set(piece) == {"model", "created_at", "message", "done"} for piece in said[:-1])
    assert all(piece["model"] == "parrot" and MOMENT.fullmatch(piece["created_at"]) for piece in said)
    assert said == sorted(said, key=lambda piece: piece["created_at"])


def test_the_last_object_tells_counts_and_times_in_nanoseconds(post: Post) -> None:
    said = whole(post("/api/chat", model="parrot", messages=HELLO, stream=False))
    assert said["message"] == {"role": "assistant", "content": "one two three"}
    assert (said["done"], said["done_reason"]) == (True, "stop")
    assert (said["prompt_eval_count"], said["eval_count"]) == (3, 3)
    assert all(type(said[name]) is int and said[name] > 0 for name in TIMES)
    assert said["total_duration"] >= said["load_duration"] + said["eval_duration"]
    assert not {"truncated", "remarks", "context"} & set(said)


def test_the_name_may_carry_its_tag(post: Post) -> None:
    assert whole(post("/api/chat", model="parrot:latest", messages=HELLO, stream=False))["model"] == "parrot:latest"


@pytest.mark.parametrize(
    ("options", "content", "reason"),
    [
        ({"num_predict": 2}, "one two", "length"),
        ({"num_predict": 2.0}, "one two", "length"),
        ({"num_predict": -1}, "one two three", "stop"),
        ({"num_predict": -2}, "one two three", "stop"),
        ({"num_predict": 0}, "one two three", "stop"),
        ({"stop": [" three"]}, "one two", "stop"),
        ({"stop": " three"}, "one two", "stop"),
        ({"nothing": 1, "mirostat": 2, "num_gpu": 99, "use_mmap": None}, "one two three", "stop"),
        ({"num_ctx": 16, "temperature": 0, "top_k": 1, "seed": -1}, "one two three", "stop"),
    ],
)
def test_options(post: Post, options: dict[str, Any], content: str, reason: str) -> None:
    said = whole(post("/api/chat", model="parrot", messages=HELLO, stream=False, options=options))
    assert (said["message"]["content"], said["done_reason"]) == (content, reason)


@pytest.mark.parametrize("think", [True, "low", "high"])
def test_thoughts_stand_apart(post: Post, think: Any) -> None:
    said = whole(post("/api/chat", model="parrot", messages=HELLO, stream=False, think=think))
    assert said["message"] == {"role": "assistant", "content": "one two three", "thinking": "I shall repeat this."}
    pieces = lines(post("/api/chat", model="parrot", messages=HELLO, think=think))
    assert pieces[0]["message"] == {"role": "assistant", "content": "", "thinking": "I"}
    assert "".join(piece["message"].get("thinking", "") for piece in pieces) == "I shall repeat this."
    assert "thinking" not in pieces[-1]["message"]


def test_a_model_that_does_not_think_is_not_asked_to(post: Post) -> None:
    refused = post("/api/chat", model="plain", messages=HELLO, think=True)
    assert refused.status_code == 400
    assert refused.json()["error"].startswith('"plain" does not support thinking.')
    assert (
        "thinking" not in whole(post("/api/chat", model="plain", messages=HELLO, stream=False, think=False))["message"]
    )


def test_a_call_comes_whole_with_an_object_of_arguments(post: Post) -> None:
    pieces = lines(post("/api/chat", model="caller", messages=HELLO, tools=[WEATHER]))
    called = [piece["message"] for piece in pieces if "tool_calls" in piece["message"]]
    function = {"index": 0, "name": "weather", "arguments": {"city": "one two three"}}
    assert called == [{"role": "assistant", "content": "", "tool_calls": [{"id": "call_0", "function": function}]}]
    assert pieces[-1]["done_reason"] == "stop"


def test_results_of_tools_go_back_to_the_model(post: Post) -> None:
    call = {"function": {"name": "weather", "arguments": {"city": "Rome"}}}
    messages = [
        *HELLO,
        {"role": "assistant", "content": "", "thinking": "Hm.", "tool_calls": [call]},
        {"role": "tool", "content": "It is sunny.", "tool_name": "weather"},
    ]
    said = whole(post("/api/chat", model="parrot", messages=messages, stream=False, tools=[WEATHER]))
    assert said["message"]["content"]


def test_pictures_are_seen(post: Post) -> None:
    message = {"role": "user", "content": "what is this", "images": [PIXEL]}
    said = whole(post("/api/chat", model="parrot", messages=[message], stream=False))
    assert "picture of 70 bytes" in said["message"]["content"]


def test_a_model_without_eyes_refuses_pictures(post: Post) -> None:
    message = {"role": "user", "content": "what is this", "images": [PIXEL]}
    assert post("/api/chat", model="plain", messages=[message]).status_code == 400


def test_content_may_be_missing(post: Post) -> None:
    for message in ({"role": "user"}, {"role": "user", "content": None}, {"role": "user", "content": ""}):
        messages = [{"role": "system", "content": "a b"}, message]
        said = whole(post("/api/chat", model="parrot", messages=messages, stream=False))
        assert said["done"] is True


def test_likelihoods(post: Post) -> None:
    pieces = lines(post("/api/chat", model="parrot", messages=HELLO, logprobs=True, top_logprobs=1))
    assert [piece["logprobs"][0]["token"] for piece in pieces[:-1]] == ["one", " two", " three"]
    first = pieces[0]["logprobs"][0]
    assert first["bytes"] == [*b"one"]
    assert [other["token"] for other in first["top_logprobs"]] == ["one"]
    said = whole(post("/api/chat", model="parrot", messages=HELLO, stream=False, logprobs=True))
    assert len(said["logprobs"]) == 3
    unasked = whole(post("/api/chat", model="parrot", messages=HELLO, stream=False, top_logprobs=3))
    assert "logprobs" not in unasked


def test_without_messages_it_loads_and_unloads(post: Post, served: Any) -> None:
    loaded = whole(post("/api/chat", model="plain"))
    assert loaded.pop("created_at")
    message = {"role": "assistant", "content": ""}
    assert loaded == {"model": "plain", "message": message, "done": True, "done_reason": "load"}
    assert resident(served, "plain")
    assert whole(post("/api/chat", model="plain", messages=[], keep_alive=0))["done_reason"] == "unload"
    assert not resident(served, "plain")


def test_a_model_goes_with_its_answer_where_it_is_to_stay_for_no_time(post: Post, served: Any) -> None:
    def stays(**more: Any) -> Iterator[Any]:
        """The model after an answer, again and again: it is let go of a moment after that."""
        whole(post("/api/chat", model="remarking", messages=HELLO, stream=False, **more))
        return (served.http.get("/health") and resident(served, "remarking") for _ in range(2000))

    assert any(model is None for model in stays(keep_alive=0))
    left = next(model.expires_s for model in stays(keep_alive="10m") if model.expires_s is not None)
    assert 590 < left <= 600
    assert next(model for model in stays(keep_alive=-1) if not model.active).expires_s is None


def test_remarks_of_the_engine_are_passed_on(post: Post) -> None:
    assert whole(post("/api/chat", model="remarking", messages=HELLO, stream=False))["remarks"] == ["This is an echo."]
    assert lines(post("/api/chat", model="remarking", messages=HELLO))[-1]["remarks"] == ["This is an echo."]


def test_the_settings_of_a_model_fill_in_what_a_request_leaves_out(post: Post) -> None:
    said = whole(post("/api/chat", model="brief", messages=HELLO, stream=False))
    assert (said["message"]["content"], said["done_reason"]) == ("one two", "length")
    own = {"num_predict": 9, "stop": []}
    longer = whole(post("/api/chat", model="brief", messages=HELLO, stream=False, options=own))
    assert longer["message"]["content"] == "one two three"
    told = whole(post("/api/chat", model="told", messages=HELLO, stream=False))
    assert told["prompt_eval_count"] == 7, "Be kind. A. B. one two three"
    other = [{"role": "system", "content": "No."}, *HELLO]
    assert whole(post("/api/chat", model="told", messages=other, stream=False))["prompt_eval_count"] == 6


LONG = [{"role": "system", "content": "Be kind."}]
LONG += [{"role": role, "content": f"word{at} and more"} for at in range(4) for role in ("user", "assistant")]
LONG += [{"role": "user", "content": "the last of all"}]


def test_what_is_over_the_context_is_refused_unless_it_may_be_cut(post: Post) -> None:
    for more in ({}, {"truncate": False}):
        refused = post("/api/chat", model="small", messages=LONG, **more)
        assert refused.status_code == 400
        assert "30 tokens" in refused.json()["error"]
        assert "12" in refused.json()["error"]
        assert '"truncate": true' in refused.json()["error"]
    said = whole(post("/api/chat", model="small", messages=LONG, stream=False, truncate=True))
    assert said["truncated"] == 8
    assert said["prompt_eval_count"] == 6, "the system's message and the last one are left"
    assert "context: 8." in said["remarks"][0]
    last = lines(post("/api/chat", model="small", messages=LONG, truncate=True))[-1]
    assert (last["truncated"], last["remarks"]) == (8, said["remarks"])


def test_the_last_message_is_never_cut(post: Post) -> None:
    message = {"role": "user", "content": "word " * 20}
    refused = post("/api/chat", model="small", messages=[*HELLO, message], truncate=True)
    assert refused.status_code == 400
    assert refused.json()["error"].count("never cut") == 1
    assert '"truncate"' not in refused.json()["error"], "it was asked for"


def test_a_rule_may_have_all_conversations_of_a_model_be_cut(post: Post) -> None:
    assert whole(post("/api/chat", model="cutting", messages=LONG, stream=False))["truncated"] == 8
    refused = post("/api/chat", model="cutting", messages=LONG, truncate=False)
    assert refused.status_code == 400, "the request's own word goes before the rule's"


def test_a_client_that_hangs_up_ends_its_answer(served: Any) -> None:
    body = {"model": "slow", "messages": [{"role": "user", "content": "word " * 500}]}
    with served.http.stream("POST", "/api/chat", json=body) as answer:
        assert json.loads(next(answer.iter_lines()))["message"]["content"] == "word"
    gone = 'anyform_requests_total{backend="echo",model="slow",outcome="cancelled",route="/api/chat"} 1.0'
    for _ in range(500):
        if gone in served.http.get("/metrics").text:
            return
    raise AssertionError(served.http.get("/metrics").text)


def test_roles_are_read_in_any_case(post: Post) -> None:
    said = whole(post("/api/chat", model="parrot", messages=[{"role": "User", "content": "one"}], stream=False))
    assert said["message"]["content"] == "one"
    assert post("/api/chat", model="parrot", messages=[{"role": "Robot", "content": "one"}]).status_code == 400
