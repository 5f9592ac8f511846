"""One question in every dialect, for tests that all of them are answered alike."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol


class Http(Protocol):
    """An HTTP client whose base URL is the server's, such as httpx's."""

    def post(self, url: str, *, json: Any) -> Any: ...


@dataclass(frozen=True)
class Way:
    """How a dialect is asked, and where the text is in its answers."""

    path: str
    body: Mapping[str, Any]
    whole: Callable[[Any], str]
    piece: Callable[[Any], str]
    """The text in one object of a stream."""


def ways(prompt: str, most: int) -> dict[str, Way]:
    """All of them, by name: *prompt*, greedily, with an answer of *most* tokens."""
    messages = [{"role": "user", "content": prompt}]
    options = {"temperature": 0, "num_predict": most}
    chat = {"messages": messages, "temperature": 0, "max_tokens": most}
    told = {"input": prompt, "temperature": 0, "max_output_tokens": most}
    first = _at("choices", 0, "message", "content")
    message, response = _at("message", "content"), _at("response")
    return {
        "openai chat": Way("/v1/chat/completions", chat, first, _chosen),
        "openai responses": Way(
            "/v1/responses",
            told,
            _at("output", -1, "content", 0, "text"),
            _typed("response.output_text.delta", "delta"),
        ),
        "anthropic": Way(
            "/v1/messages", chat, _at("content", 0, "text"), _typed("content_block_delta", "delta", "text")
        ),
        "ollama chat": Way("/api/chat", {"messages": messages, "options": options}, message, message),
        "ollama generate": Way("/api/generate", {"prompt": prompt, "options": options}, response, response),
        "lm studio v0": Way("/api/v0/chat/completions", chat, first, _chosen),
        "lm studio v1": Way("/api/v1/chat", told, _at("output", 0, "content"), _typed("message.delta", "content")),
    }


def answers(http: Http, model: str, prompt: str, most: int) -> dict[str, str]:
    """What *model* says in each way, streamed and whole."""
    said: dict[str, str] = {}
    for name, way in ways(prompt, most).items():
        for stream in (False, True):
            response = http.post(way.path, json={"model": model, "stream": stream, **way.body})
            assert response.status_code == 200, (name, stream, response.text)
            text = "".join(map(way.piece, _objects(response.text))) if stream else way.whole(response.json())
            said[f"{name}, {'streamed' if stream else 'whole'}"] = text
    return said


def _at(*where: Any) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        for key in where:
            value = value[key]
        return str(value or "")

    return read


def _typed(kind: str, *where: Any) -> Callable[[Any], str]:
    """The text in events of that type."""
    read = _at(*where)
    return lambda event: read(event) if event.get("type") == kind else ""


def _chosen(chunk: Any) -> str:
    return "".join(choice["delta"].get("content") or "" for choice in chunk["choices"])


def _objects(text: str) -> list[Any]:
    """Those of a stream: server-sent events, or a line each."""
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line and not line.startswith("event: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]
