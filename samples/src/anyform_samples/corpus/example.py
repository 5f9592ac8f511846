"""One example of the corpus, and when an answer to it is exactly right."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CATEGORIES = ("about", "arithmetic", "units", "dates", "memory", "json", "tools", "no_tool", "honest")


@dataclass(frozen=True)
class Example:
    """A conversation whose last message is the assistant's wanted answer."""

    category: str
    """One of `CATEGORIES`."""
    messages: tuple[Mapping[str, Any], ...]
    """OpenAI's chat messages. The last has `content`, or else `tool_calls` with `arguments` as an object."""
    tools: tuple[Mapping[str, Any], ...] = ()
    """OpenAI's tools that are offered."""
    schema: Mapping[str, Any] | None = None
    """For `json`: the JSON schema that the answer follows. The prompt tells it as text too."""


def kept_apart(*values: object, share: int = 10) -> bool:
    """Whether *values* belong to the held-out split: one in *share*, by a hash that never changes."""
    digest = hashlib.blake2b(repr(values).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % share == 0


def question_of(example: Example) -> str:
    """All that comes before the wanted answer, and the tools, as one text that names this question."""
    return json.dumps([example.messages[:-1], example.tools], ensure_ascii=False, sort_keys=True)


def right(example: Example, message: Mapping[str, Any]) -> bool:
    """Whether *message* is exactly the wanted answer.

    Content is compared without surrounding space, in `json` as a JSON value. Calls must have the same names and equal
    arguments, in the same order; arguments may be an object or its JSON text, and so may be malformed: then wrong.
    """
    wanted = example.messages[-1]
    try:
        if _calls(wanted) != _calls(message):
            return False
        if example.category == "json":
            return bool(_typed(json.loads(_content(wanted))) == _typed(json.loads(_content(message))))
    except (ValueError, KeyError, TypeError):
        return False
    return bool(wanted.get("tool_calls")) or _content(wanted) == _content(message)


def _content(message: Mapping[str, Any]) -> str:
    return (message.get("content") or "").strip()


def _calls(message: Mapping[str, Any]) -> list[tuple[str, Any]]:
    functions = [call["function"] for call in message.get("tool_calls") or ()]
    return [(function["name"], _typed(_arguments(function["arguments"]))) for function in functions]


def _arguments(arguments: Any) -> Any:
    return json.loads(arguments) if isinstance(arguments, str) else arguments


def _typed(value: Any) -> str:
    """*value* as text that tells 1 from true, which Python takes for equal; the order of keys does not count."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
