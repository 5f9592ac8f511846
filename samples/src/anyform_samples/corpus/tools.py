"""Chats with tools: a question that calls for one of those offered, its call, and what its result says."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from anyform_samples.corpus.draw import Draw
from anyform_samples.corpus.example import Example
from anyform_samples.corpus.kinds import INTEGERS, KINDS, Kind


def example(draw: Draw) -> Example:
    """Up to three tools, and a question for one of them: its call, or after its result what that says."""
    kinds = draw.random.sample(KINDS, draw.one((1, 2, 2, 3)))
    kind = kinds[0]
    offered = {each.names: _offered(draw, each) for each in kinds}
    values = [make(draw) for _, make in kind.parameters]
    named = {f"p{index}": value for index, value in enumerate(values)}
    function = offered[kind.names]["function"]
    arguments = dict(zip(function["parameters"]["properties"], values, strict=True))
    call = {"type": "function", "function": {"name": function["name"], "arguments": arguments}}
    messages: list[Mapping[str, Any]] = [
        {"role": "user", "content": draw.question(kind.asked, **named)},
        {"role": "assistant", "content": "", "tool_calls": [call]},
    ]
    if draw.chance(0.3):
        messages += _concluded(draw, kind, values)
    return Example("tools", tuple(messages), tuple(_shuffled(draw, list(offered.values()))))


def offer(draw: Draw, without: Collection[str]) -> tuple[Mapping[str, Any], ...]:
    """Up to three tools, for a question that none of them fits: none of the kinds *without*, by their first names."""
    kinds = [kind for kind in KINDS if kind.names[0] not in without]
    return tuple(_offered(draw, kind) for kind in draw.random.sample(kinds, draw.one((1, 1, 2, 3))))


def _concluded(draw: Draw, kind: Kind, values: list[Any]) -> list[Mapping[str, Any]]:
    stated, make = kind.result
    given = make(draw, *values)
    content = json.dumps({"result": given}) if draw.chance(0.3) else str(given)
    answer = stated.format(**{f"p{index}": value for index, value in enumerate(values)}, r=given)
    return [{"role": "tool", "content": content}, {"role": "assistant", "content": answer}]


def _offered(draw: Draw, kind: Kind) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for names, make in kind.parameters:
        integer = make in INTEGERS
        property_ = {"type": "integer" if integer else "string"}
        told = {"description": f"The {names[0]}"} if draw.chance(0.12) else {}
        properties[draw.one(names)] = property_ | told
    parameters: dict[str, Any] = {"type": "object", "properties": properties}
    parameters |= {} if draw.chance(0.1) else {"required": list(properties)}
    function = {"name": draw.one(kind.names), "description": draw.one(kind.descriptions), "parameters": parameters}
    return {"type": "function", "function": function}


def _shuffled(draw: Draw, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return draw.random.sample(items, len(items))
