"""Bodies of any kind: each is answered or refused, and none is met with an exception."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from anyform_ollama_api.options import OPTIONS

SAID = [{"role": "user", "content": "Hello"}]
CALL = {"id": "x", "function": {"name": "f", "arguments": {"a": 1}}}
BODIES: dict[str, dict[str, Any]] = {
    "/api/chat": {
        "model": "parrot",
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "Hello", "images": ["aGFsbG8="]},
            {"role": "assistant", "content": "", "thinking": "Hm.", "tool_calls": [CALL]},
            {"role": "tool", "content": "a", "tool_name": "f", "tool_call_id": "x"},
        ],
        "tools": [
            {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}
        ],
    },
    "/api/generate": {
        "model": "parrot",
        "prompt": "Hello",
        "suffix": "",
        "images": [],
        "system": "Be kind.",
        "template": "{{ .System }}{{ .Prompt }}",
        "context": [],
        "raw": False,
    },
    "/api/embed": {"model": "embedder", "input": ["a", "b"], "dimensions": 4, "truncate": True},
    "/api/embeddings": {"model": "embedder", "prompt": "a"},
}
SHARED: dict[str, Any] = {
    "think": False,
    "format": "",
    "stream": False,
    "keep_alive": "5m",
    "truncate": False,
    "logprobs": True,
    "top_logprobs": 1,
    "options": {option.name: option.example for option in OPTIONS},
}
ODD = [
    None, True, False, 0, 1, -1, 2**31, -(2**63), 10**400, 1.5, -0.0, 1e308, "", " ", "json", "low", "5m", "9" * 400,
    "\x00", "\u2028", "a" * 5000, "{{ .Messages }}", "{{ range", "{%", "data:,", "aGFsbG8", "../x", [], [[]], [None],
    [0], ["a"], [{}], [[1, [2]]], {}, {"a": {}}, {"type": "object"}, {"type": []}, {"role": "user"}, SAID, [CALL],
    [6385273, 0, 0, 0], [6385273] * 9,
]  # fmt: skip


def changed(chance: random.Random, value: Any) -> Any:
    """*value* with something odd in one place of it."""
    if isinstance(value, dict) and value and chance.random() < 0.7:
        name = chance.choice([*value, "nothing"])
        return {**value, name: changed(chance, value.get(name))}
    if isinstance(value, list) and value and chance.random() < 0.7:
        at = chance.randrange(len(value))
        return [*value[:at], changed(chance, value[at]), *value[at + 1 :]]
    return chance.choice(ODD)


@pytest.mark.parametrize("path", BODIES)
def test_no_body_is_met_with_an_exception(served: Any, path: str) -> None:
    chance, answered = random.Random(path), 0
    for _ in range(150):
        body = changed(chance, {**SHARED, **BODIES[path]})
        answer = served.http.post(path, content=json.dumps(body))
        assert answer.status_code in (200, 400, 404, 413), f"{body}: {answer.text}"
        if answer.status_code == 200:
            answered += 1
        else:
            assert set(answer.json()) == {"error"}, body
            assert "internal error" not in answer.text
    assert 10 < answered < 140, "neither is every body refused, nor none"
