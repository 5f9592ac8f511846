"""Each request of these routes, streamed and whole: both say the same."""

from __future__ import annotations

import json
from typing import Any

import pytest

from anyform_ollama_api.options import OPTIONS

HELLO = [{"role": "user", "content": "one two three"}]
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
LONG = [{"role": "user", "content": f"word{at} and more"} for at in range(6)]
TOOLS = [
    {
        "type": "function",
        "function": {"name": name, "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
    }
    for name in ("weather", "time")
]
CALLED = [
    *HELLO,
    {"role": "assistant", "tool_calls": [{"function": {"name": "weather", "arguments": {"city": "Rome"}}}]},
    {"role": "tool", "content": "sunny", "tool_name": "weather"},
]
CHATS: list[dict[str, Any]] = [
    {},
    {"model": "parrot:latest"},
    {"messages": []},
    {"messages": [], "keep_alive": 0},
    {"messages": [{"role": "system", "content": "Be kind."}, *HELLO]},
    {"messages": [{"role": "user", "content": 'a\n\u2028 \u00e9\U0001f600 "q" \\'}]},
    {"messages": [{**HELLO[0], "images": [PIXEL]}]},
    {"messages": CALLED, "tools": TOOLS},
    {"model": "caller", "tools": TOOLS},
    {"think": True},
    {"think": "low"},
    {"think": False},
    {"logprobs": True, "top_logprobs": 2},
    {"think": True, "logprobs": True},
    {"format": ""},
    {"model": "small", "messages": LONG, "truncate": True},
    {"model": "told"},
    {"model": "brief"},
    {"model": "remarking"},
    {"shift": True, "keep_alive": "1h", "nothing": 1},
    *({"options": {option.name: option.example}} for option in OPTIONS),
]
GENERATES: list[dict[str, Any]] = [
    {},
    {"prompt": ""},
    {"system": "Be kind."},
    {"template": "{{ .System }} {{ .Prompt }}"},
    {"raw": True},
    {"suffix": "the end"},
    {"images": [PIXEL]},
    {"model": "base"},
    {"model": "base", "system": "A tale."},
    {"model": "base", "suffix": "the end"},
    {"model": "told"},
    {"model": "remarking"},
    {"think": True},
    {"logprobs": True},
    {"width": 8, "height": 8, "steps": 1},
    *({"options": {option.name: option.example}} for option in OPTIONS),
]
REQUESTS = [
    *(("/api/chat", {"model": "parrot", "messages": HELLO, **body}) for body in CHATS),
    *(("/api/generate", {"model": "parrot", "prompt": "one two three", **body}) for body in GENERATES),
]
MEASURED = ("created_at", "total_duration", "load_duration", "prompt_eval_duration", "eval_duration")


def joined(pieces: list[dict[str, Any]]) -> dict[str, Any]:
    """The pieces of a stream as the one object that they are parts of."""
    whole: dict[str, Any] = dict(pieces[-1])
    told = [piece.get("message", piece) for piece in pieces]
    said: dict[str, Any] = whole.setdefault("message", {}) if "message" in whole else whole
    name = "content" if "message" in whole else "response"
    said[name] = "".join(piece[name] for piece in told)
    if thinking := "".join(piece.get("thinking", "") for piece in told):
        said["thinking"] = thinking
    if calls := [call for piece in told for call in piece.get("tool_calls", ())]:
        said["tool_calls"] = calls
    if logprobs := [token for piece in pieces for token in piece.get("logprobs", ())]:
        whole["logprobs"] = logprobs
    return whole


@pytest.mark.parametrize(("path", "body"), REQUESTS, ids=lambda value: str(value)[:90])
def test_both_ways_say_the_same(served: Any, path: str, body: dict[str, Any]) -> None:
    streamed, whole = (served.http.post(path, json={**body, "stream": stream}) for stream in (True, False))
    assert (streamed.status_code, whole.status_code) == (200, 200), streamed.text
    pieces = [json.loads(line) for line in streamed.text.split("\n") if line]
    assert [piece["done"] for piece in pieces] == [*[False] * (len(pieces) - 1), True]
    one, other = joined(pieces), whole.json()
    assert set(one) == set(other)
    for name in MEASURED:
        one.pop(name, None), other.pop(name, None)
    assert one == other


def test_a_fault_that_comes_late_is_the_last_line(served: Any) -> None:
    body = {"model": "slow", "messages": [{"role": "user", "content": "word " * 500}]}
    with served.http.stream("POST", "/api/chat", json=body) as answer:
        lines = answer.iter_lines()
        assert json.loads(next(lines))["message"]["content"] == "word"
        served.runtime.unload("slow", True)
        *_, last = (json.loads(line) for line in lines)
    assert answer.status_code == 200
    assert set(last) == {"error"}
    assert "slow" in last["error"]
