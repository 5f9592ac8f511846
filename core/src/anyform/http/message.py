"""Reads a conversation: OpenAI's messages and tools as the contract's."""

from __future__ import annotations

import json
from typing import Any

from anyform.contract.jobs import Call, Message, Part, Picture, Text, Tool
from anyform.http.fields import Fields, NotSupported, mistyped, wrong
from anyform.http.media import Media

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}


def messages(fields: Fields, media: Media) -> tuple[Message, ...]:
    """The conversation, with the pictures and sounds of *media*."""
    items = fields.items("messages")
    if items is None:
        fields.missing("messages")
    if not items:
        wrong(fields.path("messages"), "empty array", "Expected at least one message.")
    return tuple(_message(item, media) for item in items)


def _message(item: Fields, media: Media) -> Message:
    role = item.choice("role", *ROLES)
    if role is None:
        item.missing("role")
    calls = tuple(_call(call) for call in item.items("tool_calls") or ()) if role == "assistant" else ()
    return Message(
        role=ROLES[role],
        parts=_parts(item, role, bool(calls), media),
        calls=calls,
        call_id=item.need_text("tool_call_id") if role == "tool" else "",
        name=item.text("name") or "",
        reasoning=item.text("reasoning_content", "reasoning") or "" if role == "assistant" else "",
    )


def _parts(item: Fields, role: str, called: bool, media: Media) -> tuple[Part, ...]:
    content = item.data.get("content")
    if isinstance(content, str):
        return (Text(text=content),) if content else ()
    if content is None:
        if role == "assistant":
            return ()
        item.missing("content")
    if not isinstance(content, list):
        mistyped(item.path("content"), "a string or an array of objects", content)
    return tuple(_part(part, media) for part in item.items("content") or ())


def _part(part: Fields, media: Media) -> Part:
    kind = part.choice("type", "text", "refusal", "image_url", "input_audio")
    if kind is None:
        part.missing("type")
    if kind == "image_url":
        return _picture(part, media)
    if kind == "input_audio":
        return media.input_audio(part.need_inner("input_audio"))
    return Text(text=part.need_text(kind))


def _picture(part: Fields, media: Media) -> Picture:
    if isinstance(part.data.get("image_url"), str):
        url, param = part.need_text("image_url"), part.path("image_url")
    else:
        inner = part.need_inner("image_url")
        url, param = inner.need_text("url"), inner.path("url")
    return media.written(url, param, bare=False)


def _call(item: Fields) -> Call:
    function = item.need_inner("function")
    arguments: Any = function.data.get("arguments")
    if isinstance(arguments, dict):
        arguments = json.dumps(arguments)
    if arguments is not None and not isinstance(arguments, str):
        mistyped(function.path("arguments"), "a string", arguments)
    return Call(id=item.text("id") or "", name=function.need_text("name"), arguments=arguments or "{}")


def tools(fields: Fields) -> tuple[Tool, ...]:
    """The functions that the model may call."""
    fields.refuse("functions", "Use 'tools'.")
    return tuple(_tool(item) for item in fields.items("tools") or ())


def _tool(item: Fields) -> Tool:
    kind = item.text("type") or "function"
    if kind != "function":
        raise NotSupported(f"A tool of type '{kind}' is not supported.", "Use 'function'.", param=item.path("type"))
    function = item.need_inner("function")
    name = function.need_text("name")
    if not name:
        wrong(function.path("name"), "it is empty")
    return Tool(
        name=name,
        description=function.text("description") or "",
        parameters=function.object("parameters") or {},
        strict=bool(function.flag("strict")),
    )


def tool_choice(fields: Fields, known: tuple[Tool, ...]) -> str:
    """none, auto, required, or the name of one of the tools."""
    value = fields.data.get("tool_choice")
    if value is None or isinstance(value, str):
        choice = fields.choice("tool_choice", "none", "auto", "required") or "auto"
    elif isinstance(value, dict):
        return _named(Fields(value, fields.path("tool_choice") + "."), known)
    else:
        mistyped(fields.path("tool_choice"), "a string or an object", value)
    if choice == "required" and not known:
        wrong(fields.path("tool_choice"), "'required' is only allowed when 'tools' are specified")
    return choice


def _named(choice: Fields, known: tuple[Tool, ...]) -> str:
    name = choice.need_inner("function").need_text("name")
    if name not in {tool.name for tool in known}:
        wrong(choice.path("function.name"), f"there is no tool '{name}' in 'tools'")
    return name
