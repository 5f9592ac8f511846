"""Reads a conversation: OpenAI's messages and tools as the contract's. Media come as data: URLs only."""

from __future__ import annotations

import binascii
import json
from base64 import b64decode
from typing import Any

from anyform.contract.errors import TooLarge
from anyform.contract.jobs import Call, Message, Part, Picture, Sound, Text, Tool
from anyform.http.fields import Fields, NotSupported, mistyped, wrong

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
SOUNDS = {"wav": "audio/wav", "mp3": "audio/mpeg"}


def messages(fields: Fields, limit: int) -> tuple[Message, ...]:
    """The conversation; *limit*: bytes of one decoded picture or sound."""
    items = fields.items("messages")
    if items is None:
        fields.missing("messages")
    if not items:
        wrong(fields.path("messages"), "empty array", "Expected at least one message.")
    return tuple(_message(item, limit) for item in items)


def _message(item: Fields, limit: int) -> Message:
    role = item.choice("role", *ROLES)
    if role is None:
        item.missing("role")
    calls = tuple(_call(call) for call in item.items("tool_calls") or ()) if role == "assistant" else ()
    return Message(
        role=ROLES[role],
        parts=_parts(item, role, bool(calls), limit),
        calls=calls,
        call_id=item.need_text("tool_call_id") if role == "tool" else "",
        name=item.text("name") or "",
        reasoning=item.text("reasoning_content", "reasoning") or "" if role == "assistant" else "",
    )


def _parts(item: Fields, role: str, called: bool, limit: int) -> tuple[Part, ...]:
    content = item.data.get("content")
    if isinstance(content, str):
        return (Text(text=content),) if content else ()
    if content is None:
        if role == "assistant":
            return ()
        item.missing("content")
    if not isinstance(content, list):
        mistyped(item.path("content"), "a string or an array of objects", content)
    return tuple(_part(part, limit) for part in item.items("content") or ())


def _part(part: Fields, limit: int) -> Part:
    kind = part.choice("type", "text", "refusal", "image_url", "input_audio")
    if kind is None:
        part.missing("type")
    if kind == "image_url":
        return _picture(part, limit)
    if kind == "input_audio":
        return _sound(part.need_inner("input_audio"), limit)
    return Text(text=part.need_text(kind))


def _picture(part: Fields, limit: int) -> Picture:
    if isinstance(part.data.get("image_url"), str):
        url, param = part.need_text("image_url"), part.path("image_url")
    else:
        inner = part.need_inner("image_url")
        url, param = inner.need_text("url"), inner.path("url")
    media_type, data = data_url(url, param, limit)
    return Picture(data=data, media_type=media_type)


def data_url(url: str, param: str, limit: int) -> tuple[str, bytes]:
    """Media type and bytes of a base64 data: URL. Nothing is ever fetched."""
    scheme, _, rest = url.partition(":")
    if scheme.lower() != "data":
        wrong(param, f"'{url[:60]}' is not a data: URL and nothing is fetched", "Send it as a data: URL.")
    head, comma, text = rest.partition(",")
    kind, _, coding = head.rpartition(";")
    if not comma or coding.strip().lower() != "base64":
        wrong(param, "the data: URL is not base64", "Write data:image/png;base64,...")
    return kind.partition(";")[0].strip().lower(), decode(text, param, limit)


def decode(text: str, param: str, limit: int) -> bytes:
    """Base64, with or without padding, standard or URL-safe."""
    if len(text) * 3 // 4 > limit + 2:
        raise TooLarge(f"'{param}' holds more than {limit} bytes.", "Send a smaller one.", param=param, limit=limit)
    text = "".join(text.split()).rstrip("=").translate(_URL_SAFE)
    try:
        data = b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        wrong(param, "it is not base64")
    if not data:
        wrong(param, "it is empty")
    return data


_URL_SAFE = str.maketrans("-_", "+/")


def _sound(inner: Fields, limit: int) -> Sound:
    kind = inner.choice("format", *SOUNDS)
    return Sound(
        data=decode(inner.need_text("data"), inner.path("data"), limit), media_type=SOUNDS[kind] if kind else ""
    )


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
