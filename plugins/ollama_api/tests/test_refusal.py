"""What cannot be is refused with a 4xx and one line of text, streamed or not, and says which field it is about."""

from __future__ import annotations

import json
from typing import Any

import pytest

SAID = [{"role": "user", "content": "Hello"}]
CHAT = {"model": "parrot", "messages": SAID}
GENERATE = {"model": "parrot", "prompt": "Hello"}
EMBED = {"model": "embedder", "input": "Hello"}
OLD = {"model": "embedder", "prompt": "Hello"}
CALL = {"function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
NAMELESS = {"function": {"arguments": {}}}
BODIES = {"/api/chat": CHAT, "/api/generate": GENERATE, "/api/embed": EMBED, "/api/embeddings": OLD}

BAD: list[tuple[str, dict[str, Any], int, str]] = [
    *((path, {"model": value}, status, said) for path in BODIES for value, status, said in (
        (None, 400, "model is required"),
        ("", 400, "model is required"),
        (3, 400, "model"),
        ("nothing", 404, "model 'nothing' not found"),
        ("../../etc/passwd", 404, "not found"),
        ("/etc/passwd", 404, "not found. GET /api/tags lists those that are here."),
    )),
    *((path, {"keep_alive": value}, 400, said) for path in BODIES for value, said in (
        ("soon", 'time: invalid duration "soon"'),
        ([1], "keep_alive"),
        (True, "keep_alive"),
        ({}, "keep_alive"),
    )),
    *((path, {"options": value}, 400, said) for path in BODIES for value, said in (
        ([1], "options"),
        ("hot", "options"),
        ({"temperature": "hot"}, 'option "temperature" must be of type float32'),
        ({"num_ctx": "much"}, 'option "num_ctx" must be of type integer'),
        ({"num_predict": 4.5}, 'option "num_predict" must be of type integer'),
        ({"num_predict": True}, 'option "num_predict" must be of type integer'),
        ({"use_mmap": 1}, 'option "use_mmap" must be of type boolean'),
        ({"stop": 3}, 'option "stop" must be of type array or a string.'),
        ({"stop": ["a", 3]}, 'option "stop" must be of an array of strings'),
        ({"mirostat": "on"}, 'option "mirostat" must be of type integer'),
    )),
    *((path, {"options": value}, 400, said) for path in ("/api/chat", "/api/generate") for value, said in (
        ({"temperature": 3}, "options.temperature"),
        ({"temperature": -1}, "options.temperature"),
        ({"top_p": 7}, "options.top_p"),
        ({"min_p": -0.1}, "options.min_p"),
        ({"presence_penalty": 5}, "options.presence_penalty"),
        ({"seed": 2**70}, "options.seed"),
        ({"num_ctx": 10**6}, "1000000 tokens"),
        ({"num_ctx": 0}, "options.num_ctx"),
    )),
    *((path, body, 400, said) for path in ("/api/chat", "/api/generate") for body, said in (
        ({"stream": "yes"}, "stream"),
        ({"format": "xml"}, 'invalid format: "\\"xml\\""; expected "json" or a valid JSON Schema'),
        ({"format": 3}, "invalid format"),
        ({"format": ["json"]}, "invalid format"),
        ({"format": "json"}, "schema"),
        ({"format": {"type": "object"}}, "schema"),
        ({"think": "much"}, "invalid think value"),
        ({"think": 1}, "invalid think value"),
        ({"think": "much", "model": "plain"}, "invalid think value"),
        ({"truncate": "yes"}, "truncate"),
        ({"logprobs": "yes"}, "logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs must be between 0 and 20"),
        ({"top_logprobs": -1}, "top_logprobs"),
        ({"top_logprobs": "all"}, "top_logprobs"),
        ({"model": "embedder"}, "embed"),
    )),
    *(("/api/chat", body, 400, said) for body, said in (
        ({"messages": "Hello"}, "messages"),
        ({"messages": ["Hello"]}, "messages[0]"),
        ({"messages": [{"content": "Hello"}]}, "messages[0].role"),
        ({"messages": [{"role": "robot", "content": "Hello"}]}, "messages[0].role"),
        ({"messages": [{"role": "Robot", "content": "Hello"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "images": "abc"}]}, "messages[0].images"),
        ({"messages": [{"role": "user", "images": ["%%%"]}]}, "messages[0].images[0]"),
        ({"messages": [{"role": "user", "images": [3]}]}, "messages[0].images[0]"),
        ({"messages": [{"role": "user", "images": ["/etc/passwd"]}]}, "messages[0].images[0]"),
        ({"messages": [{"role": "user", "images": ["file:///etc/passwd"]}]}, "messages[0].images[0]"),
        ({"messages": [{"role": "user", "images": ["http://127.0.0.1:1/a.png"]}]}, "messages[0].images[0]"),
        ({"messages": [{"role": "assistant", "thinking": 3}]}, "messages[0].thinking"),
        ({"messages": [{"role": "assistant", "tool_calls": "weather"}]}, "messages[0].tool_calls"),
        ({"messages": [{"role": "assistant", "tool_calls": [CALL]}]}, "tool_calls[0].function.arguments"),
        ({"messages": [{"role": "assistant", "tool_calls": [NAMELESS]}]}, "tool_calls[0].function.name"),
        ({"messages": [{"role": "tool", "content": "a", "tool_name": 3}]}, "messages[0].tool_name"),
        ({"tools": "weather"}, "tools"),
        ({"tools": [{"type": "magic"}]}, "tool of type 'magic'"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]}, "parameters"),
    )),
    *(("/api/generate", body, 400, said) for body, said in (
        ({"prompt": 3}, "prompt"),
        ({"prompt": ["Hello"]}, "prompt"),
        ({"system": 3}, "system"),
        ({"suffix": 3}, "suffix"),
        ({"raw": "yes"}, "raw"),
        ({"raw": True, "context": [1]}, "raw mode does not support template, system, or context"),
        ({"template": 3}, "template"),
        ({"template": "{{ .Prompt"}, "template"),
        ({"template": "{{ shout .Prompt }}"}, "shout"),
        ({"images": "abc"}, "images"),
        ({"images": ["%%%"]}, "images[0]"),
        ({"context": "abc"}, "context"),
        ({"context": [1, 2, 3]}, "token ids"),
        ({"context": [1.5]}, "context"),
        ({"context": [6385273, 1]}, "context"),
        ({"context": [6385273, 5, 0, 0, 1, 2]}, "context"),
        ({"context": [6385273, 2**40, 0, 0, 1]}, "context"),
        ({"context": [6385273, 3, 0, 0, 2**24]}, "context"),
        ({"suffix": "x", "images": ["aGFsbG8="]}, "images"),
    )),
    *(("/api/embed", body, 400, said) for body, said in (
        ({"input": 3}, "invalid input type"),
        ({"input": [1, 2]}, "invalid input type"),
        ({"input": ["a", None]}, "invalid input type"),
        ({"input": {}}, "invalid input type"),
        ({"input": [], "options": {"temperature": "hot"}}, 'option "temperature" must be of type float32'),
        ({"dimensions": 0}, "dimensions"),
        ({"dimensions": "few"}, "dimensions"),
        ({"truncate": "yes"}, "truncate"),
        ({"model": "base"}, "embed"),
    )),
    ("/api/embeddings", {"prompt": 3}, 400, "prompt"),
]  # fmt: skip
"""Path, what is changed in a body that is good, status, and what the refusal says."""


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("path", "change", "status", "said"), BAD, ids=lambda value: str(value)[:60])
def test_it_is_refused(served: Any, path: str, change: dict[str, Any], status: int, said: str, stream: bool) -> None:
    body = {**BODIES[path], "stream": stream, **change}
    answer = served.http.post(path, json=body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/json")
    told = answer.json()
    assert set(told) == {"error"}
    assert said in told["error"], told
    assert "\n" not in told["error"]
    assert "Traceback" not in told["error"]


RAW = [
    (b"", "model is required"),
    (b"{", "JSON"),
    (b"hello", "JSON"),
    (b"[1]", "object"),
    (b'{"model": "\xff"}', "UTF-8"),
    (b'{"model": "parrot", "options": {"temperature": NaN}}', "NaN"),
    (b'{"model": "\\ud800"}', "surrogate"),
    (b'{"model": ' + b"[" * 5000 + b"]" * 5000 + b"}", "levels deep"),
]


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(("body", "said"), RAW, ids=lambda value: str(value)[:30])
def test_a_body_that_is_none(served: Any, path: str, body: bytes, said: str) -> None:
    answer = served.http.post(path, content=body)
    assert answer.status_code == 400
    assert said in answer.json()["error"]


def test_a_body_may_come_under_the_type_of_a_form(served: Any) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    answer = served.http.post("/api/generate", content=json.dumps({**GENERATE, "stream": False}), headers=form)
    assert answer.json()["response"] == "Hello"


def test_a_get_is_refused(served: Any) -> None:
    for path in BODIES:
        answer = served.http.get(path)
        assert answer.status_code == 405
        assert set(answer.json()) == {"error"}
