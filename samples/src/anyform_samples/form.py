"""The sample decoder's forms, each a function from questions to messages: GGUF through anyform, folder in torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyform
from anyform.contract.events import Text, ToolCall
from anyform.contract.facts import Settings
from anyform.contract.jobs import Call, Chat, Generation, Message, Sampling, Tool
from anyform.contract.jobs import Text as Part
from anyform_samples.answer import message_of
from anyform_samples.corpus import Example, render

MOST = 200
"""Tokens of an answer."""
PARALLEL = 4
ROWS = 32
"""Questions that transformers answers together."""

Ask = Callable[[Sequence[Example]], list[dict[str, Any]]]
"""Greedy answers to the questions of examples, as messages of OpenAI's shape."""


@contextmanager
def served(path: Path) -> Iterator[Ask]:
    """A GGUF file as anyform runs it, in a worker process that ends with the context."""
    runtime = anyform.start([path], defaults=Settings(context=2048, parallel=PARALLEL))
    (name,) = runtime.names()

    def answer(example: Example) -> dict[str, Any]:
        return _message(runtime.generate(name, chat(example)))

    def ask(examples: Sequence[Example]) -> list[dict[str, Any]]:
        with ThreadPoolExecutor(PARALLEL) as threads:
            return list(threads.map(answer, examples))

    try:
        yield ask
    finally:
        runtime.close()


@contextmanager
def in_torch(folder: Path) -> Iterator[Ask]:
    """A Hugging Face folder in transformers, float32. Raises ImportError where torch or transformers is missing."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def together(examples: Sequence[Example]) -> list[dict[str, Any]]:
        prompts = [render(example)[0] for example in examples]
        given = tokenizer(prompts, add_special_tokens=False, padding=True, return_tensors="pt")
        with torch.no_grad():
            out = model.generate(**given, max_new_tokens=MOST, do_sample=False)
        texts = tokenizer.batch_decode(out[:, given.input_ids.shape[1] :], skip_special_tokens=True)
        return [
            message_of(text) if example.tools else {"role": "assistant", "content": text}
            for example, text in zip(examples, texts, strict=True)
        ]

    def ask(examples: Sequence[Example]) -> list[dict[str, Any]]:
        found: dict[int, dict[str, Any]] = {}
        by_length = sorted(range(len(examples)), key=lambda number: len(render(examples[number])[0]))
        for at in range(0, len(examples), ROWS):
            group = by_length[at : at + ROWS]
            found.update(zip(group, together([examples[number] for number in group]), strict=True))
        return [found[number] for number in range(len(examples))]

    yield ask


def chat(example: Example) -> Chat:
    """The example's question as a job, greedy."""
    return Chat(
        messages=tuple(map(_said, example.messages[:-1])),
        tools=tuple(_tool(tool) for tool in example.tools),
        generation=Generation(sampling=Sampling(temperature=0.0), max_tokens=MOST),
    )


def _said(message: Mapping[str, Any]) -> Message:
    return Message(
        role=message["role"],
        parts=(Part(text=message["content"]),) if message.get("content") else (),
        calls=tuple(_call(call) for call in message.get("tool_calls") or ()),
        call_id=message.get("tool_call_id", ""),
    )


def _call(call: Mapping[str, Any]) -> Call:
    function = call["function"]
    arguments = function["arguments"]
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return Call(id=call.get("id", ""), name=function["name"], arguments=text)


def _tool(tool: Mapping[str, Any]) -> Tool:
    function = tool["function"]
    return Tool(
        name=function["name"], description=function.get("description", ""), parameters=function.get("parameters", {})
    )


def _message(events: Any) -> dict[str, Any]:
    content = ""
    calls: dict[int, dict[str, str]] = {}
    for event in events:
        if isinstance(event, Text):
            content += event.text
        elif isinstance(event, ToolCall):
            call = calls.setdefault(event.call, {"name": "", "arguments": ""})
            call["name"] += event.name
            call["arguments"] += event.arguments
    return {"role": "assistant", "content": content, "tool_calls": [{"function": call} for call in calls.values()]}
