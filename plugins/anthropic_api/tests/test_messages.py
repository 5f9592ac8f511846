"""/v1/messages over the echo engine, as raw HTTP."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import pytest

from anyform.contract.errors import ContextExceeded, WorkerDied
from anyform.contract.events import Done, Finish, Progress, Reasoning, Text, ToolCall, Usage
from anyform.contract.facts import Settings
from anyform.contract.jobs import Chat, Picture
from anyform.kernel.rule import Rule

HELLO: Any = [{"role": "user", "content": "one two three"}]
LOOK: Any = {
    "name": "look",
    "description": "d",
    "input_schema": {"type": "object", "properties": {"at": {"type": "string"}}},
}
PNG = b64encode(b"\x89PNG picture").decode()
LEAST: Any = {"model": "parrot", "max_tokens": 50, "messages": HELLO}
CALLED: Any = {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "look", "input": {"at": "x"}}]}


def result(content: Any = "seen", call: str = "t1", **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": call, "content": content, **more}


def test_an_answer_has_all_fields(server: Any) -> None:
    response = server.post(**LEAST)
    body = response.json()
    assert re.fullmatch("msg_[0-9a-f]{24}", body.pop("id"))
    assert re.fullmatch("req_[0-9a-f]{24}", response.headers["request-id"])
    assert body == {
        "type": "message",
        "role": "assistant",
        "model": "parrot",
        "content": [{"type": "text", "text": "one two three", "citations": None}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 3,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 3,
            "output_tokens_details": {"thinking_tokens": 0},
            "service_tier": "standard",
        },
    }


def test_events_come_in_order(server: Any) -> None:
    events = server.events(**LEAST)
    deltas = ["content_block_delta"] * 3
    block = ["content_block_start", *deltas, "content_block_stop"]
    assert [name for name, _ in events] == ["message_start", *block, "message_delta", "message_stop"]
    start = events[0][1]["message"]
    assert (start["content"], start["stop_reason"], start["usage"]["input_tokens"]) == ([], None, 3)
    assert start["usage"]["output_tokens"] == 0
    assert events[1][1] == {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "text", "text": "", "citations": None},
    }
    assert events[2][1] == {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "text_delta", "text": "one"},
    }
    assert events[-2][1]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert events[-2][1]["usage"]["output_tokens"] == 3
    assert events[-1][1] == {"type": "message_stop"}


def test_thoughts_have_a_block_of_their_own_with_an_empty_signature(server: Any) -> None:
    wanted = {**LEAST, "max_tokens": 2000, "thinking": {"type": "enabled", "budget_tokens": 1024}}
    thought, said = server.post(**wanted).json()["content"]
    assert thought == {"type": "thinking", "thinking": "I shall repeat this.", "signature": ""}
    assert said["text"] == "one two three"
    events = server.events(**wanted)
    kinds = [event.get("delta", {}).get("type") for _, event in events if event.get("index") == 0]
    assert kinds == [None, *["thinking_delta"] * 4, "signature_delta", None]
    assert [event["index"] for _, event in events if "index" in event] == [0] * 7 + [1] * 5
    assert events[-2][1]["usage"]["output_tokens_details"] == {"thinking_tokens": 4}


@pytest.mark.parametrize(
    ("thinking", "blocks"),
    [(None, ["text"]), ({"type": "disabled"}, ["text"]), ({"type": "adaptive"}, ["text"])],
)
def test_who_does_not_ask_for_thoughts_gets_none(server: Any, thinking: Any, blocks: list[str]) -> None:
    assert [block["type"] for block in server.post(**LEAST, thinking=thinking).json()["content"]] == blocks


def test_thoughts_can_be_left_out(server: Any) -> None:
    hidden = {"type": "enabled", "budget_tokens": 1024, "display": "omitted"}
    wanted = {**LEAST, "max_tokens": 2000, "thinking": hidden}
    assert server.post(**wanted).json()["content"][0] == {"type": "thinking", "thinking": "", "signature": ""}
    deltas = [
        event["delta"]["type"] for _, event in server.events(**wanted) if event.get("index") == 0 and "delta" in event
    ]
    assert deltas == ["signature_delta"]


def test_a_call_has_an_object(server: Any) -> None:
    body = server.post(**LEAST, tools=[LOOK], tool_choice={"type": "tool", "name": "look"}).json()
    assert body["content"] == [{"type": "tool_use", "id": "call_0", "name": "look", "input": {"at": "one two three"}}]
    assert body["stop_reason"] == "tool_use"


def test_a_call_streams_as_pieces_of_json(server: Any) -> None:
    events = server.events(**LEAST, tools=[LOOK], tool_choice={"type": "any"})
    assert events[1][1]["content_block"] == {"type": "tool_use", "id": "call_0", "name": "look", "input": {}}
    pieces = [event["delta"]["partial_json"] for name, event in events if name == "content_block_delta"]
    assert len(pieces) == 2
    assert "".join(pieces) == '{"at": "one two three"}'
    assert events[-2][1]["delta"]["stop_reason"] == "tool_use"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("more", "reason", "stop", "text"),
    [
        ({"max_tokens": 2}, "max_tokens", None, "one two"),
        ({"max_tokens": 0}, "max_tokens", None, ""),
        ({"stop_sequences": ["wo", "zzz"]}, "stop_sequence", "wo", "one t"),
        ({"model": "small", "max_tokens": 50}, "end_turn", None, "one two three"),
        ({"model": "small", "max_tokens": 50, "system": "a b c d"}, "model_context_window_exceeded", None, "one"),
    ],
)
def test_why_it_ends(server: Any, stream: bool, more: Any, reason: str, stop: str | None, text: str) -> None:
    if stream:
        events = server.events(**{**LEAST, **more})
        ended = events[-2][1]["delta"]
        said = "".join(event["delta"].get("text", "") for _, event in events if "delta" in event)
    else:
        ended = server.post(**{**LEAST, **more}).json()
        said = "".join(block["text"] for block in ended["content"])
    assert (ended["stop_reason"], ended["stop_sequence"], said) == (reason, stop, text)


def test_count_tokens_is_what_usage_says(server: Any) -> None:
    wanted = {"model": "parrot", "system": "Be very short.", "messages": HELLO, "tools": [LOOK]}
    assert server.post("/count_tokens", **wanted).json() == {"input_tokens": 6}
    assert server.post(**wanted, max_tokens=5).json()["usage"]["input_tokens"] == 6


def test_a_prompt_over_the_context_is_counted_and_refused(server: Any) -> None:
    long = {"model": "small", "messages": [{"role": "user", "content": "a " * 20}]}
    assert server.post("/count_tokens", **long).json() == {"input_tokens": 21}
    for stream in (False, True):
        refused = server.post(**long, max_tokens=5, stream=stream)
        assert refused.status_code == 400
        assert refused.json()["error"]["type"] == "invalid_request_error"
        assert "21 tokens" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("more", "status", "kind"),
    [
        ({"model": "nobody"}, 404, "not_found_error"),
        ({"model": "nobody", "stream": True}, 404, "not_found_error"),
        ({"model": "../etc/passwd"}, 404, "not_found_error"),
        ({"model": "embedder"}, 400, "invalid_request_error"),
        ({"system": "x" * 2**21}, 413, "request_too_large"),
    ],
)
def test_refusals_have_a_type(server: Any, more: Any, status: int, kind: str) -> None:
    response = server.post(**{**LEAST, **more})
    assert response.status_code == status
    body = response.json()
    assert (body["type"], body["error"]["type"]) == ("error", kind)
    assert body["request_id"] == response.headers["request-id"]
    assert body["error"]["message"]


BAD: dict[str, tuple[Any, str]] = {
    "no model": ({"model": None}, "model"),
    "a model that is a number": ({"model": 5}, "model"),
    "no max_tokens": ({"max_tokens": None}, "max_tokens"),
    "max_tokens below 0": ({"max_tokens": -1}, "max_tokens"),
    "max_tokens as text": ({"max_tokens": "5"}, "max_tokens"),
    "max_tokens with a fraction": ({"max_tokens": 1.5}, "max_tokens"),
    "no messages": ({"messages": None}, "messages"),
    "empty messages": ({"messages": []}, "messages"),
    "messages as text": ({"messages": "hi"}, "messages"),
    "a message as text": ({"messages": ["hi"]}, "messages[0]"),
    "no role": ({"messages": [{"content": "x"}]}, "messages[0].role"),
    "an unknown role": ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
    "no content": ({"messages": [{"role": "user"}]}, "messages[0].content"),
    "content that is a number": ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    "prefill": ({"messages": [*HELLO, {"role": "assistant", "content": "{"}]}, "prefill"),
    "a stream as text": ({"stream": "yes"}, "stream"),
    "temperature above 1": ({"temperature": 1.1}, "temperature"),
    "temperature below 0": ({"temperature": -0.1}, "temperature"),
    "temperature as text": ({"temperature": "hot"}, "temperature"),
    "top_p above 1": ({"top_p": 2}, "top_p"),
    "top_k below 0": ({"top_k": -1}, "top_k"),
    "stop_sequences as text": ({"stop_sequences": "x"}, "stop_sequences"),
    "an empty stop sequence": ({"stop_sequences": ["a", ""]}, "stop_sequences[1]"),
    "a stop sequence that is a number": ({"stop_sequences": [5]}, "stop_sequences[0]"),
    "system as a number": ({"system": 5}, "system"),
    "a picture as system": ({"system": [{"type": "image"}]}, "image"),
    "tools as an object": ({"tools": {}}, "tools"),
    "a tool without a name": ({"tools": [{"input_schema": {}}]}, "tools[0].name"),
    "a tool without a schema": ({"tools": [{"name": "look"}]}, "tools[0].input_schema"),
    "a tool with a bad name": ({"tools": [{**LOOK, "name": "look at"}]}, "tools[0].name"),
    "a tool that takes no object": ({"tools": [{**LOOK, "input_schema": {"type": "string"}}]}, "input_schema"),
    "two tools of one name": ({"tools": [LOOK, LOOK]}, "tools[1].name"),
    "a tool of the server": ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "web_search_20250305"),
    "a tool that models know": ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "bash_20250124"),
    "a tool for code alone": ({"tools": [{**LOOK, "allowed_callers": ["code_execution_20260120"]}]}, "allowed_callers"),
    "a choice as text": ({"tools": [LOOK], "tool_choice": "auto"}, "tool_choice"),
    "a choice without a type": ({"tools": [LOOK], "tool_choice": {}}, "tool_choice.type"),
    "an unknown choice": ({"tools": [LOOK], "tool_choice": {"type": "required"}}, "tool_choice.type"),
    "any of no tools": ({"tool_choice": {"type": "any"}}, "tool_choice.type"),
    "a tool that is not there": ({"tools": [LOOK], "tool_choice": {"type": "tool", "name": "x"}}, "tool_choice.name"),
    "a tool without its name": ({"tools": [LOOK], "tool_choice": {"type": "tool"}}, "tool_choice.name"),
    "thinking as a flag": ({"thinking": True}, "thinking"),
    "unknown thinking": ({"thinking": {"type": "deep"}}, "thinking.type"),
    "no budget": ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
    "a small budget": ({"thinking": {"type": "enabled", "budget_tokens": 5}}, "thinking.budget_tokens"),
    "a budget above max_tokens": ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking.budget_tokens"),
    "an unknown effort": ({"output_config": {"effort": "most"}}, "output_config.effort"),
    "a form without a schema": ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
    "an unknown form": ({"output_config": {"format": {"type": "yaml"}}}, "output_config.format.type"),
    "a form without a type": ({"output_format": {"schema": {}}}, "output_format.type"),
    "a container": ({"container": "c"}, "container"),
    "servers of tools": ({"mcp_servers": [{"type": "url", "url": "http://x", "name": "x"}]}, "mcp_servers"),
    "keep_alive that is no time": ({"keep_alive": "long"}, "keep_alive"),
}
BLOCKS: dict[str, tuple[Any, str]] = {
    "no type": ({"text": "x"}, "messages[0].content[0].type"),
    "an unknown type": ({"type": "video"}, "'video'"),
    "what a server's tool said": ({"type": "web_search_tool_result"}, "'web_search_tool_result'"),
    "text without text": ({"type": "text"}, "content[0].text"),
    "a picture without a source": ({"type": "image"}, "content[0].source"),
    "a source without a type": ({"type": "image", "source": {}}, "source.type"),
    "a picture of an odd type": (
        {"type": "image", "source": {"type": "base64", "media_type": "image/bmp", "data": PNG}},
        "source.media_type",
    ),
    "a picture that is no base64": (
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "!!"}},
        "source.data",
    ),
    "a picture from here": (
        {"type": "image", "source": {"type": "url", "url": "http://127.0.0.1/x.png"}},
        "source.url",
    ),
    "a picture from the disk": (
        {"type": "image", "source": {"type": "url", "url": "file:///etc/passwd"}},
        "source.url",
    ),
    "a picture that was uploaded": ({"type": "image", "source": {"type": "file", "file_id": "f"}}, "Files"),
    "a PDF": (
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PNG}},
        "'base64'",
    ),
    "citations": (
        {"type": "document", "citations": {"enabled": True}, "source": {"type": "text", "data": "x"}},
        "citations",
    ),
    "a call by the user": ({"type": "tool_use", "id": "a", "name": "b", "input": {}}, "'tool_use'"),
    "a result without a call": (result(), "tool_use_id"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_by_name(server: Any, name: str) -> None:
    wrong, named = BAD[name]
    refused = server.post(**{**LEAST, **wrong})
    assert refused.status_code == 400, refused.text
    assert refused.json()["error"]["type"] == "invalid_request_error"
    assert named in refused.json()["error"]["message"]


@pytest.mark.parametrize("name", BLOCKS)
def test_bad_blocks_are_refused_by_name(server: Any, name: str) -> None:
    block, named = BLOCKS[name]
    refused = server.post(**{**LEAST, "model": "eye", "messages": [{"role": "user", "content": [block]}]})
    assert refused.status_code == 400, refused.text
    assert named in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("messages", "named"),
    [
        ([*HELLO, CALLED, {"role": "user", "content": "go on"}], "messages[2]"),
        ([*HELLO, CALLED, {"role": "user", "content": [result(call="t2")]}], "'t2'"),
        ([*HELLO, CALLED, {"role": "user", "content": [{"type": "text", "text": "a"}, result()]}], "content[1]"),
        ([*HELLO, {"role": "assistant", "content": [{"type": "image"}]}, *HELLO], "'image'"),
        ([*HELLO, {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "b"}]}, *HELLO], "input"),
    ],
)
def test_conversations_that_do_not_fit_are_refused(server: Any, messages: Any, named: str) -> None:
    refused = server.post(**{**LEAST, "messages": messages})
    assert refused.status_code == 400
    assert named in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b"{", 400),
        (b"\xff{}", 400),
        (b'{"model": NaN}', 400),
        (b"[" * 100_000, 400),
        (b'{"model": "\\ud800", "max_tokens": 5, "messages": []}', 400),
    ],
)
def test_bodies_that_are_no_json(server: Any, data: bytes, status: int) -> None:
    for path in ("", "/count_tokens"):
        refused = server.http.post(f"/v1/messages{path}", content=data)
        assert (refused.status_code, refused.json()["type"]) == (status, "error")


def test_a_compressed_body_is_refused(server: Any) -> None:
    refused = server.http.post("/v1/messages", content=b"x", headers={"content-encoding": "gzip"})
    assert (refused.status_code, refused.json()["error"]["type"]) == (415, "invalid_request_error")


def test_what_is_not_here(server: Any) -> None:
    for method, path, status, kind in (
        ("GET", "/v1/messages", 405, "invalid_request_error"),
        ("POST", "/v1/messages/batches", 404, "not_found_error"),
        ("GET", "/v1/messages/batches/b1/results", 404, "not_found_error"),
    ):
        refused = server.http.request(method, path)
        assert (refused.status_code, refused.json()["error"]["type"]) == (status, kind)
    shared = server.http.get("/v1/nothing").json()["error"]
    assert shared["code"] == "unknown_url", "a shared port answers in OpenAI's form"


def test_refusals_are_counted(server: Any) -> None:
    line = 'anyform_requests_total{backend="",model="",outcome="%s",route="/v1/messages"}'

    def counted(outcome: str) -> float:
        lines = server.http.get("/metrics").text.splitlines()
        return sum(float(one.rpartition(" ")[2]) for one in lines if one.startswith(line % outcome))

    before = counted("missing_required_parameter"), counted("invalid_json")
    server.post(model="parrot")
    server.http.post("/v1/messages", content=b"[")
    assert (counted("missing_required_parameter"), counted("invalid_json")) == (before[0] + 1, before[1] + 1)


def test_threads_are_refused_with_the_code_that_clients_know(server: Any) -> None:
    for path in ("", "/count_tokens"):
        refused = server.post(path, **LEAST, thread={"type": "create"})
        assert refused.status_code == 400
        assert refused.json()["error"]["details"] == {"error_code": "thread_unsupported_request"}


def test_headers_and_what_is_ignored(server: Any) -> None:
    headers = {"anthropic-version": "1999-01-01", "anthropic-beta": "all-2026", "x-api-key": "k"}
    more = {
        "cache_control": {"type": "ephemeral"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015"}]},
        "metadata": {"user_id": "u"},
        "service_tier": "auto",
        "speed": "fast",
        "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
    }
    assert server.http.post("/v1/messages", json={**LEAST, **more}, headers=headers).status_code == 200


def test_models_are_anthropics_where_openai_is_not_spoken(server: Any, own: Any) -> None:
    assert server.http.get("/v1/models").json()["object"] == "list"
    page = own.get("/v1/models", params={"limit": 3}).json()
    assert [model["id"] for model in page["data"]] == ["embedder", "eye", "parrot"]
    assert (page["first_id"], page["last_id"], page["has_more"]) == ("embedder", "parrot", True)
    rest = own.get("/v1/models", params={"after_id": "parrot"}).json()
    assert ([model["id"] for model in rest["data"]], rest["has_more"]) == (["small"], False)
    before = own.get("/v1/models", params={"before_id": "small", "limit": 1}).json()
    assert ([model["id"] for model in before["data"]], before["has_more"]) == (["parrot"], True)
    one = own.get("/v1/models/eye").json()
    assert (one["type"], one["id"], one["display_name"]) == ("model", "eye", "eye")
    small = own.get("/v1/models/small").json()
    assert (small["max_input_tokens"], small["max_tokens"]) == (8, 8)
    assert "aliases in [models]" in own.get("/v1/models/claude-sonnet-4-5").json()["error"]["message"]
    assert "aliases" not in own.get("/v1/models/nobody").json()["error"]["message"]
    asked = own.post("/v1/messages", json={**LEAST, "model": "claude-sonnet-4-5"})
    assert (asked.status_code, "aliases in [models]" in asked.json()["error"]["message"]) == (404, True)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", one["created_at"])
    for path in ("/v1/models/nobody", "/v1/nothing"):
        assert own.get(path).json()["error"]["type"] == "not_found_error"
    assert own.get("/v1/models", params={"limit": "many"}).status_code == 400


class Heard:
    """A script that keeps the job and answers with *events*."""

    def __init__(self, *events: Any) -> None:
        self.events = events or (Text(text="ok"), Done(finishes=(Finish(),)))
        self.job: Chat

    def __call__(self, job: Any, stop: Any) -> Any:
        self.job = job
        yield from self.events


Scripted = Callable[..., Any]
ASK: Any = {"model": "m", "max_tokens": 5000}


def asked(scripted: Scripted, rule: Rule | None = None, **body: Any) -> Chat:
    heard = Heard()
    response = scripted(heard, rule).post(**{**ASK, "messages": HELLO, **body})
    assert response.status_code == 200, response.text
    return heard.job


def test_the_whole_conversation_arrives(scripted: Scripted) -> None:
    job = asked(
        scripted,
        system=[{"type": "text", "text": "one"}, {"type": "text", "text": "two"}],
        messages=[
            {"role": "user", "content": "a"},
            {"role": "user", "content": [{"type": "text", "text": "b"}, {"type": "text", "text": "c"}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "any"},
                    {"type": "redacted_thinking", "data": "xyz"},
                    {"type": "text", "text": "d"},
                ],
            },
            CALLED,
            {
                "role": "user",
                "content": [
                    result(
                        [
                            {"type": "text", "text": "seen"},
                            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
                        ],
                        is_error=True,
                    ),
                    {"type": "text", "text": "e"},
                ],
            },
            {"role": "system", "content": "now"},
        ],
        tools=[{**LOOK, "strict": True}],
        tool_choice={"type": "auto", "disable_parallel_tool_use": True},
    )
    said = [(message.role, message.text) for message in job.messages]
    assert said == [
        ("system", "one\n\ntwo"),
        ("user", "a\n\nbc"),
        ("assistant", "d"),
        ("tool", "Error: seen"),
        ("user", "e"),
        ("system", "now"),
    ]
    assistant, tool, user = job.messages[2:5]
    assert assistant.reasoning == "hm"
    assert [(call.id, call.name, call.arguments) for call in assistant.calls] == [("t1", "look", '{"at": "x"}')]
    assert tool.call_id == "t1"
    assert user.parts[0] == Picture(data=b"\x89PNG picture", media_type="image/png")
    assert (job.tools[0].name, job.tools[0].description, job.tools[0].strict) == ("look", "d", True)
    assert (job.tool_choice, job.parallel_calls, job.thinking) == ("auto", False, False)


def test_documents_and_search_results_are_text(scripted: Scripted) -> None:
    plain = {"type": "text", "media_type": "text/plain", "data": "the text"}
    found = {"type": "search_result", "title": "T", "source": "S", "content": [{"type": "text", "text": "found"}]}
    inner = {"type": "document", "source": {"type": "content", "content": "inside"}}
    document = {"type": "document", "source": plain, "title": "Title", "context": "From here"}
    content = [document, found, inner, {"type": "text", "text": "What?"}]
    job = asked(scripted, messages=[{"role": "user", "content": content}])
    assert job.messages[0].text == (
        "<document>\nTitle\nFrom here\nthe text\n</document>\n<search_result>\nT\nS\nfound\n</search_result>\n"
        "<document>\ninside\n</document>\nWhat?"
    )


def test_how_it_is_generated(scripted: Scripted) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    job = asked(
        scripted,
        temperature=0.5,
        top_p=0.25,
        top_k=7,
        seed=3,
        stop_sequences=["x"],
        output_config={"effort": "low", "format": {"type": "json_schema", "schema": schema}},
        thinking={"type": "adaptive"},
    )
    sampling = job.generation.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.seed) == (0.5, 0.25, 7, 3)
    assert (job.generation.max_tokens, job.generation.stop, job.generation.schema) == (5000, ("x",), schema)
    assert job.template_options == {"reasoning_effort": "low"}
    assert job.thinking is None


def test_what_is_left_out_is_the_rules(scripted: Scripted) -> None:
    rule = Rule(
        settings=Settings(),
        system="Be a bird.",
        messages=({"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}),
        request={"temperature": 1.5, "stop": ["z"], "n": 3, "max_tokens": 1, "enable_thinking": True, "seed": 1},
    )
    job = asked(scripted, rule, seed=2)
    assert [message.text for message in job.messages] == ["Be a bird.", "x", "y", "one two three"]
    generation = job.generation
    assert (generation.sampling.temperature, generation.sampling.seed, generation.stop) == (1.5, 2, ("z",))
    assert (generation.n, generation.max_tokens, job.thinking) == (1, 5000, True)
    job = asked(scripted, rule, system="Mine.", thinking={"type": "disabled"})
    assert job.messages[0].text == "Mine."
    assert job.thinking is False


def test_blocks_alternate_as_the_model_does(scripted: Scripted) -> None:
    events = (
        Progress(stage="prompt", total=10),
        Reasoning(text="hm"),
        Text(text="I look."),
        ToolCall(call=0, id="", name="look", arguments=""),
        ToolCall(call=0, arguments='{"at": 1}'),
        ToolCall(call=1, id="c2", name="look", arguments='{"at"'),
        Done(
            finishes=(Finish(reason="tool_calls"),),
            usage=Usage(prompt_tokens=10, completion_tokens=9, cached_tokens=4, reasoning_tokens=1),
            extra={"remarks": ["Slowly."]},
        ),
    )
    server = scripted(Heard(*events))
    body = server.post(**ASK, messages=HELLO).json()
    first, second = body["content"][2:]
    assert [block["type"] for block in body["content"]] == ["thinking", "text", "tool_use", "tool_use"]
    assert (first["id"], first["input"]) == (f"toolu_{body['id'][4:]}_0", {"at": 1})
    assert (second["id"], second["input"]) == ("c2", {"INVALID_JSON": '{"at"'})
    assert body["remarks"] == ["Slowly."]
    usage = body["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"], usage["output_tokens"]) == (6, 4, 9)
    streamed = server.events(**ASK, messages=HELLO)
    assert streamed[0][1]["message"]["usage"]["input_tokens"] == 10
    assert [event["index"] for name, event in streamed if name == "content_block_start"] == [0, 1, 2, 3]
    assert [event["index"] for name, event in streamed if name == "content_block_stop"] == [0, 1, 2, 3]
    last = streamed[-2][1]
    assert (last["usage"]["input_tokens"], last["usage"]["cache_read_input_tokens"]) == (6, 4)
    assert last["remarks"] == ["Slowly."]


def test_a_model_that_breaks_in_the_middle_ends_the_stream_with_an_error(scripted: Scripted) -> None:
    def script(job: Any, stop: Any) -> Any:
        yield Progress(stage="prompt", total=3)
        yield Text(text="one")
        raise WorkerDied("the worker died.", "Try again.")

    server = scripted(script)
    events = server.events(**ASK, messages=HELLO)
    assert [name for name, _ in events[:3]] == ["message_start", "content_block_start", "content_block_delta"]
    assert events[-1] == (
        "error",
        {"type": "error", "error": {"type": "overloaded_error", "message": "the worker died. Try again."}},
    )
    whole = server.post(**ASK, messages=HELLO)
    assert (whole.status_code, whole.json()["error"]["type"]) == (503, "overloaded_error")


def test_a_count_that_no_engine_knows_is_refused(scripted: Scripted) -> None:
    def script(job: Any, stop: Any) -> Any:
        raise ContextExceeded("too long.")
        yield

    refused = scripted(script).post("/count_tokens", model="m", messages=HELLO)
    assert (refused.status_code, refused.json()["error"]["type"]) == (400, "invalid_request_error")
