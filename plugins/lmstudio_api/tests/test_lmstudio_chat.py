"""/api/v1/chat: turns of conversations that the server keeps, whole and as named events."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from anyform.testing.serving import Served
from anyform_lmstudio_api import chat

CHAT = "/api/v1/chat"
SAY = {"model": "parrot", "input": "one two three"}
PICTURE = f"data:image/png;base64,{base64.b64encode(b'a picture').decode()}"
TIMES = ("tokens_per_second", "time_to_first_token_seconds")
Told = Callable[..., Any]
Post = Callable[..., httpx.Response]
Events = Callable[..., list[tuple[str, dict[str, Any]]]]


def text(answer: dict[str, Any]) -> str:
    """The messages of an answer."""
    return "".join(item["content"] for item in answer["output"] if item["type"] == "message")


def timeless(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer without what no two share."""
    stats = {name: value for name, value in answer["stats"].items() if name not in (*TIMES, "model_load_time_seconds")}
    return {**answer, "stats": stats, "response_id": ""}


def test_one_turn(told: Told) -> None:
    told(CHAT, **SAY)
    answer = told(CHAT, **SAY)
    assert answer["response_id"].startswith("resp_")
    assert all(answer["stats"][name] > 0 for name in TIMES)
    assert timeless(answer) == {
        "model_instance_id": "parrot",
        "output": [{"type": "message", "content": "one two three"}],
        "stats": {
            "input_tokens": 3,
            "total_output_tokens": 3,
            "reasoning_output_tokens": 0,
            "stop_reason": "eosFound",
        },
        "response_id": "",
    }
    assert "model_load_time_seconds" not in answer["stats"]


def test_a_model_that_had_to_be_loaded(told: Told, served: Served, events: Events) -> None:
    served.runtime.unload("owner/bird:F16")
    answer = told(CHAT, model="owner/bird:F16", input="a")
    assert answer["model_instance_id"] == "owner/bird:F16"
    assert answer["stats"]["model_load_time_seconds"] > 0
    assert "model_load_time_seconds" not in told(CHAT, model="owner/bird:F16", input="a")["stats"]
    served.runtime.unload("owner/bird:F16")
    got = events(model="owner/bird:F16", input="a")
    assert [name for name, _ in got[:4]] == ["chat.start", "model_load.start", "model_load.progress", "model_load.end"]
    assert got[3][1]["load_time_seconds"] == got[-1][1]["result"]["stats"]["model_load_time_seconds"] > 0
    assert all(data["model_instance_id"] == "owner/bird:F16" for _, data in got[:4])


def test_the_events_of_a_stream(events: Events, told: Told) -> None:
    told(CHAT, **SAY)
    got = events(**SAY, reasoning="on")
    assert [name for name, _ in got] == [
        "chat.start",
        "prompt_processing.start",
        "prompt_processing.progress",
        "prompt_processing.end",
        "reasoning.start",
        *["reasoning.delta"] * 4,
        "reasoning.end",
        "message.start",
        *["message.delta"] * 3,
        "message.end",
        "chat.end",
    ]
    assert got[0][1] == {"model_instance_id": "parrot"}
    assert [data for name, data in got if name == "prompt_processing.progress"] == [{"progress": 1.0}]
    result = got[-1][1]["result"]
    for kind in ("reasoning", "message"):
        said = "".join(data["content"] for name, data in got if name == f"{kind}.delta")
        assert said == "".join(item["content"] for item in result["output"] if item["type"] == kind)
    assert timeless(result) == timeless(told(CHAT, **SAY, reasoning="on"))


def test_it_remembers(told: Told, events: Events) -> None:
    first = told(CHAT, **SAY)
    second = told(CHAT, model="parrot", input="four", previous_response_id=first["response_id"])
    assert second["stats"]["input_tokens"] == len(["one", "two", "three"] * 2 + ["four"])
    result = events(model="parrot", input="five", previous_response_id=second["response_id"])[-1][1]["result"]
    assert result["stats"]["input_tokens"] == second["stats"]["input_tokens"] + 2
    other = told(CHAT, model="parrot", input="five", previous_response_id=first["response_id"])
    assert other["stats"]["input_tokens"] == second["stats"]["input_tokens"]
    assert len({first["response_id"], second["response_id"], other["response_id"], result["response_id"]}) == 4


def test_a_system_prompt_holds_until_another_takes_its_place(told: Told) -> None:
    first = told(CHAT, model="parrot", input="a", system_prompt="be brief")
    assert first["stats"]["input_tokens"] == len(["be", "brief", "a"])
    second = told(CHAT, model="parrot", input="b", previous_response_id=first["response_id"])
    assert second["stats"]["input_tokens"] == len(["be", "brief", "a", "a", "b"])
    third = told(
        CHAT, model="parrot", input="c", previous_response_id=second["response_id"], system_prompt="be long and kind"
    )
    assert third["stats"]["input_tokens"] == len(["be", "long", "and", "kind", "a", "a", "b", "b", "c"])
    fourth = told(CHAT, model="parrot", input="d", previous_response_id=third["response_id"])
    assert fourth["stats"]["input_tokens"] == len(["be", "long", "and", "kind", "a", "a", "b", "b", "c", "c", "d"])


def test_what_is_not_stored_has_no_id(told: Told, events: Events) -> None:
    assert "response_id" not in told(CHAT, **SAY, store=False)
    assert "response_id" not in events(**SAY, store=False)[-1][1]["result"]


def test_it_goes_on_from_responses_and_they_from_it(told: Told) -> None:
    theirs = told("/v1/responses", model="parrot", input="one two")
    ours = told(CHAT, model="parrot", input="three", previous_response_id=theirs["id"])
    assert ours["stats"]["input_tokens"] == len(["one", "two", "one", "two", "three"])
    again = told("/v1/responses", model="parrot", input="four", previous_response_id=ours["response_id"])
    assert again["usage"]["input_tokens"] == len(["one", "two", "one", "two", "three", "three", "four"])


@pytest.mark.parametrize(
    "item",
    [
        {"type": "reasoning", "summary": []},
        {"role": "user", "content": "one"},
        {"role": "system", "content": [{"type": "input_text", "text": "one"}]},
    ],
)
def test_what_looks_like_a_system_prompt_of_it_is_none(told: Told, item: dict[str, Any]) -> None:
    theirs = told(
        "/v1/responses", model="parrot", input=[{**item, "system_prompt": True}, {"role": "user", "content": "two"}]
    )
    before = theirs["usage"]["input_tokens"] + theirs["usage"]["output_tokens"]
    ours = told(CHAT, model="parrot", input="three", previous_response_id=theirs["id"])
    assert ours["stats"]["input_tokens"] == before + 1


def test_a_long_conversation_is_not_read_where_all_requests_are(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    read, loops = chat.read_items, []

    def watched(*given: Any) -> Any:
        try:
            loops.append(asyncio.get_running_loop())
        except RuntimeError:
            loops.append(None)
        return read(*given)

    monkeypatch.setattr(chat, "read_items", watched)
    first = told(CHAT, model="parrot", input="one")["response_id"]
    second = told(CHAT, model="parrot", input="x" * 40_000, previous_response_id=first)["response_id"]
    loops.clear()
    told(CHAT, model="parrot", input="two", previous_response_id=first)
    told(CHAT, model="parrot", input="two", previous_response_id=second)
    assert [bool(loop) for loop in loops] == [True, False]


def test_a_response_that_is_kept_may_be_asked_for_and_forgotten(told: Told, http: httpx.Client, post: Post) -> None:
    kept = told(CHAT, **SAY)["response_id"]
    response = http.get(f"/v1/responses/{kept}").json()
    assert (response["status"], response["output"][0]["content"][0]["text"]) == ("completed", "one two three")
    assert http.delete(f"/v1/responses/{kept}").status_code == 200
    answer = post(CHAT, **SAY, previous_response_id=kept)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "previous_response_not_found"


def test_items_make_one_message(told: Told) -> None:
    items = [{"type": "message", "content": "one"}, {"type": "text", "content": "two"}]
    assert text(told(CHAT, model="parrot", input=items)) == "one\ntwo"
    items.insert(1, {"type": "image", "data_url": PICTURE})
    first = told(CHAT, model="seer", input=items)
    assert text(first) == "one [image/png of 9 bytes] two"
    second = told(CHAT, model="seer", input="more", previous_response_id=first["response_id"])
    assert second["stats"]["input_tokens"] == 2 * first["stats"]["input_tokens"] + 1


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({}, "eosFound"),
        ({"max_output_tokens": 2}, "maxPredictedTokensReached"),
        ({"max_output_tokens": 3}, "maxPredictedTokensReached"),
        ({"model": "brief", "input": "one three"}, "stopStringFound"),
    ],
)
def test_it_says_why_it_ended(body: dict[str, Any], reason: str, told: Told) -> None:
    assert told(CHAT, **(SAY | body))["stats"]["stop_reason"] == reason


def test_what_the_settings_say_is_heeded(told: Told) -> None:
    answer = told(CHAT, model="told", input="one")
    assert answer["stats"]["input_tokens"] == len(["Be", "kind.", "A", "B", "one"])
    assert told(CHAT, model="told", input="one", system_prompt="no")["stats"]["input_tokens"] == len(
        ["no", "A", "B", "one"]
    )
    assert text(told(CHAT, model="brief", input="one two four")) == "one two"
    assert text(told(CHAT, model="brief", input="one two four", max_output_tokens=9)) == "one two four"


def test_remarks_of_the_model_are_told(told: Told, events: Events) -> None:
    assert told(CHAT, model="remarking", input="a")["remarks"] == ["This is an echo."]
    assert events(model="remarking", input="a")[-1][1]["result"]["remarks"] == ["This is an echo."]


@pytest.mark.parametrize(
    ("wanted", "thoughts"), [("off", 0), ("low", 4), ("medium", 4), ("high", 4), ("on", 4), (None, 0)]
)
def test_reasoning(wanted: str | None, thoughts: int, told: Told) -> None:
    answer = told(CHAT, **SAY, reasoning=wanted)
    assert answer["stats"]["reasoning_output_tokens"] == thoughts
    assert [item["type"] for item in answer["output"]] == ["reasoning", "message"][not thoughts :]


def test_a_model_that_does_not_reason_is_not_told_to(told: Told, post: Post) -> None:
    assert text(told(CHAT, model="plain", input="a", reasoning="off")) == "a"
    answer = post(CHAT, model="plain", input="a", reasoning="high")
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request", "reasoning")
    assert "plain does not support 'high'" in error["message"]


def test_a_context_that_is_too_small_is_made_larger(told: Told, http: httpx.Client) -> None:
    told("/api/v1/models/load", model="owner/bird:Q4_K_M", context_length=4)
    told(CHAT, model="owner/bird:Q4_K_M", input="a", context_length=100)
    assert http.get("/api/v0/models/owner/bird:Q4_K_M").json()["loaded_context_length"] >= 100


def test_a_prompt_over_the_context_is_refused(post: Post) -> None:
    for more in ({}, {"stream": True}):
        answer = post(CHAT, model="small", input="a " * 20, **more)
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert (error["type"], error["code"], error["param"]) == ("invalid_request", "context_length_exceeded", "input")


def test_a_model_that_dies_in_the_middle_leaves_what_it_said(events: Events, post: Post) -> None:
    got = events(model="crasher", input="one two three")
    assert [name for name, _ in got[-4:]] == ["message.delta", "message.end", "error", "chat.end"]
    assert got[-2][1]["error"]["type"] == "internal_error"
    result = got[-1][1]["result"]
    said = "".join(data["content"] for name, data in got if name == "message.delta")
    assert said
    assert "one two three".startswith(said)
    assert result["output"] == [{"type": "message", "content": said}]
    assert "response_id" not in result
    messages = [{"role": "user", "content": "one two three"}]
    stream = post("/api/v0/chat/completions", model="crasher", messages=messages, stream=True)
    last = json.loads(stream.text.rstrip().rpartition("\n")[2].removeprefix("data: "))
    assert last["error"]["code"] == "worker_died"


def test_a_model_that_is_not_there(post: Post) -> None:
    for more in ({}, {"stream": True}, {"reasoning": "on"}):
        answer = post(CHAT, model="nothing", input="a", **more)
        assert answer.status_code == 404
        error = answer.json()["error"]
        assert (error["type"], error["code"], error["param"]) == ("model_not_found", "model_not_found", "model")


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"model": None}, "model"),
    ({"model": 5}, "model"),
    ({"model": "embedder"}, ""),
    ({"input": None}, "input"),
    ({"input": 5}, "input"),
    ({"input": []}, "input"),
    ({"input": ["a"]}, "input[0]"),
    ({"input": [{"content": "a"}]}, "input[0].type"),
    ({"input": [{"type": "sound", "content": "a"}]}, "input[0].type"),
    ({"input": [{"type": "message"}]}, "input[0].content"),
    ({"input": [{"type": "message", "content": ["a"]}]}, "input[0].content"),
    ({"input": [{"type": "message", "text": "a"}]}, "input[0].text"),
    ({"input": [{"type": "image"}]}, "input[0].data_url"),
    ({"input": [{"type": "image", "data_url": "/etc/passwd"}]}, "input[0].data_url"),
    ({"input": [{"type": "image", "data_url": "file:///etc/passwd"}]}, "input[0].data_url"),
    ({"input": [{"type": "image", "data_url": "http://127.0.0.1/a.png"}]}, "input[0].data_url"),
    ({"input": [{"type": "image", "data_url": "data:image/png;base64,?"}]}, "input[0].data_url"),
    ({"input": [{"type": "image", "data_url": PICTURE}]}, ""),
    ({"system_prompt": 5}, "system_prompt"),
    ({"integrations": ["mcp/playwright"]}, "integrations"),
    ({"integrations": [{"type": "ephemeral_mcp", "server_label": "a", "server_url": "http://a"}]}, "integrations"),
    ({"integrations": "mcp/playwright"}, "integrations"),
    ({"stream": 1}, "stream"),
    ({"temperature": -1}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"top_p": 1.5}, "top_p"),
    ({"top_k": 1.5}, "top_k"),
    ({"min_p": -1}, "min_p"),
    ({"repeat_penalty": -1}, "repeat_penalty"),
    ({"max_output_tokens": 0}, "max_output_tokens"),
    ({"max_output_tokens": -1}, "max_output_tokens"),
    ({"reasoning": "most"}, "reasoning"),
    ({"reasoning": True}, "reasoning"),
    ({"context_length": 0}, "context_length"),
    ({"store": "no"}, "store"),
    ({"previous_response_id": 5}, "previous_response_id"),
    ({"previous_response_id": "resp_nothing"}, "previous_response_id"),
    ({"previous_response_id": "thread_1"}, "previous_response_id"),
    ({"ttl": -1}, "ttl"),
    ({"seed": 1}, "seed"),
    ({"stop": ["a"]}, "stop"),
    ({"messages": [{"role": "user", "content": "a"}]}, "messages"),
]


@pytest.mark.parametrize(("body", "param"), WRONG)
def test_what_is_wrong_is_refused(body: dict[str, Any], param: str, post: Post) -> None:
    answer = post(CHAT, **(SAY | body))
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error.get("param", "") == param
    assert error["type"] == ("not_implemented" if isinstance(body.get("integrations"), list) else "invalid_request")


def test_an_unknown_field_is_named_with_those_that_there_are(post: Post) -> None:
    error = post(CHAT, **SAY, seed=1, stop="a").json()["error"]
    assert error["code"] == "unrecognized_keys"
    assert error["message"].startswith("Unrecognized key(s) in object: 'seed', 'stop'. Known: model, input,")


@pytest.mark.parametrize("path", [CHAT, "/api/v1/models/load", "/api/v1/models/unload", "/api/v1/models/download"])
@pytest.mark.parametrize(
    ("content", "status"),
    [(b"[]", 400), (b"{", 400), (b"\xff", 400), (b'{"a":' * 20_000, 400), (b'{"model": NaN}', 400), (b"", 400)],
)
def test_no_json_is_refused_in_its_form(path: str, content: bytes, status: int, http: httpx.Client) -> None:
    answer = http.post(path, content=content)
    assert answer.status_code == status
    assert answer.json()["error"]["type"] == "invalid_request"


def test_a_packed_or_too_large_body_is_refused_in_its_form(http: httpx.Client, served: Served) -> None:
    packed = http.post(CHAT, content=gzip.compress(b"{}"), headers={"content-encoding": "gzip"})
    assert packed.status_code == 415
    too_large = http.post(CHAT, content=b" " * (served.server.service.config.body_bytes + 1))
    assert too_large.status_code == 413
    for answer in (packed, too_large):
        assert answer.json()["error"]["type"] == "invalid_request"


def test_no_integrations_are_none(told: Told) -> None:
    assert text(told(CHAT, **SAY, integrations=[])) == "one two three"
