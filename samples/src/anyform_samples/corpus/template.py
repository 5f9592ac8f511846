"""Conversations as the text that the model is trained on: ChatML, with tools in the form of Hermes and Qwen."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any

from anyform_samples.corpus.example import Example

CHAT_TEMPLATE = files(__package__).joinpath("chat_template.jinja").read_text(encoding="utf-8")
"""The Jinja source, for the model's files. Its variables: `messages`, `tools`, `add_generation_prompt`."""

_ANSWER = re.compile(r"(?<=<\|im_start\|>assistant\n).*?<\|im_end\|>", re.DOTALL)


def rendered(
    messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = (), *, add_generation_prompt: bool
) -> str:
    """*messages* and *tools*, in OpenAI's shapes, through the chat template. Needs jinja2."""
    text: str = _template().render(
        messages=list(messages), tools=list(tools) or None, add_generation_prompt=add_generation_prompt
    )
    return text


def render(example: Example) -> tuple[str, str]:
    """The prompt, which ends where the assistant begins, and the wanted completion, which ends with `<|im_end|>`."""
    prompt = rendered(example.messages[:-1], example.tools, add_generation_prompt=True)
    whole = rendered(example.messages, example.tools, add_generation_prompt=False)
    return prompt, whole[len(prompt) :].removesuffix("\n")


def segments(example: Example) -> list[tuple[str, bool]]:
    """The whole conversation in pieces, each with whether it is learnt: all answers with their `<|im_end|>` are."""
    whole = rendered(example.messages, example.tools, add_generation_prompt=False)
    pieces: list[tuple[str, bool]] = []
    end = 0
    for answer in _ANSWER.finditer(whole):
        pieces += [(whole[end : answer.start()], False), (answer[0], True)]
        end = answer.end()
    return [*pieces, (whole[end:], False)]


@lru_cache(maxsize=1)
def _template() -> Any:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    return environment.from_string(CHAT_TEMPLATE)
