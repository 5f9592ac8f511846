"""Messages as the dictionaries that chat templates read, and conversations said in simpler ones."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from anyform.contract.errors import Invalid
from anyform.contract.jobs import Call, Message, Part, Picture, Sound, Text, Tool


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How a template wants its messages."""

    parts: bool = False
    """Content as a list of parts instead of one string."""
    marker: str | None = None
    """What stands for a picture in content that is one string."""
    call_objects: bool = True
    """Arguments of calls as objects instead of JSON text."""
    empty_content: str | None = ""
    """The content of an assistant message that only calls tools."""
    short_ids: bool = False
    """Call ids of nine letters and digits, which Mistral's templates insist on."""


def as_dicts(messages: Iterable[Message], form: Form) -> list[dict[str, Any]]:
    """*messages* as OpenAI shapes them."""
    names: dict[str, str] = {}
    dicts: list[dict[str, Any]] = []
    for message in messages:
        names.update({call.id: call.name for call in message.calls})
        dicts.append(_as_dict(message, form, names))
    return dicts


def tool_dicts(tools: Iterable[Tool], empty: bool = False) -> list[dict[str, Any]] | None:
    """*tools* as OpenAI shapes them. None, which templates test for, if there are none; or [] if *empty*."""
    return [_tool_dict(tool) for tool in tools] or ([] if empty else None)


def merge_leading_systems(messages: Sequence[Message], *, keep_developer: bool = False) -> list[Message]:
    """One system message at the front at the most; developer becomes system unless the template knows it."""
    if not keep_developer:
        messages = [replace(m, role="system") if m.role == "developer" else m for m in messages]
    count = next((i for i, message in enumerate(messages) if message.role != "system"), len(messages))
    if count < 2:
        return list(messages)
    parts = _joined([message.parts for message in messages[:count]])
    return [replace(messages[0], parts=parts), *messages[count:]]


def system_into_user(messages: Sequence[Message]) -> list[Message]:
    """The leading system message put before the first user message, for templates without that role."""
    system, rest = messages[0], list(messages[1:])
    place = next((i for i, message in enumerate(rest) if message.role == "user"), None)
    if place is None:
        return [replace(system, role="user"), *rest]
    rest[place] = replace(rest[place], parts=_joined([system.parts, rest[place].parts]))
    return rest


def split_parallel_calls(messages: Sequence[Message]) -> list[Message]:
    """Each message with several calls as several with one, each followed by its answer.

    Some templates refuse a second call (Llama 3), some say only the first (gpt-oss).
    """
    split: list[Message] = []
    taken: set[int] = set()
    for place, message in enumerate(messages):
        if place in taken:
            continue
        if len(message.calls) < 2:
            split.append(message)
            continue
        for number, call in enumerate(message.calls):
            split.append(replace(message, calls=(call,), parts=message.parts if number == 0 else (), reasoning=""))
            found = _answer_to(call, messages, place)
            if found is not None and found not in taken:
                taken.add(found)
                split.append(messages[found])
    return split


def calls_as_text(messages: Sequence[Message]) -> list[Message]:
    """Calls and their answers in plain text, in the form of Hermes, for templates that know neither."""
    return [_call_as_text(message) for message in _answers_merged(messages)]


def tools_as_text(messages: Sequence[Message], tools: Sequence[Tool]) -> list[Message]:
    """The tools told of in a system message, in the form of Hermes, for templates that do not tell of them."""
    plain = list(messages)
    listed = "\n".join(json.dumps(_tool_dict(tool)["function"], ensure_ascii=False) for tool in tools)
    told = Message(role="system", parts=(Text(text=_INSTRUCTION.format(tools=listed)),))
    return merge_leading_systems([*plain[:1], told, *plain[1:]] if plain[0].role == "system" else [told, *plain])


_INSTRUCTION = """\
# Tools

You may call these functions:
{tools}

To call one, write:
<tool_call>
{{"name": <function name>, "arguments": <its arguments as a JSON object>}}
</tool_call>"""


def _as_dict(message: Message, form: Form, names: dict[str, str]) -> dict[str, Any]:
    said: dict[str, Any] = {"role": message.role, "content": _content(message, form)}
    if message.calls:
        said["tool_calls"] = [_call_dict(call, form) for call in message.calls]
    if message.reasoning:
        said["reasoning_content"] = message.reasoning
    if message.role == "tool":
        said["tool_call_id"] = _short(message.call_id) if form.short_ids else message.call_id
    name = message.name or names.get(message.call_id, "")
    if name:
        said["name"] = name
    return said


def _content(message: Message, form: Form) -> str | list[dict[str, Any]] | None:
    if message.calls and not message.parts:
        return form.empty_content
    if form.parts:
        return [_part_dict(part, form) for part in message.parts]
    return "".join(_part_text(part, form) for part in message.parts)


def _part_dict(part: Part, form: Form) -> dict[str, Any]:
    if isinstance(part, Picture) and form.marker is None:
        return {"type": "image"}
    return {"type": "text", "text": _part_text(part, form)}


def _part_text(part: Part, form: Form) -> str:
    if isinstance(part, Text):
        return part.text
    if isinstance(part, Sound):
        raise Invalid("The conversation holds sound, which this model cannot hear.", "Send text only.")
    return form.marker or ""


def _call_dict(call: Call, form: Form) -> dict[str, Any]:
    arguments: Any = call.arguments or "{}"
    if form.call_objects:
        arguments = _as_object(arguments)
    function = {"name": call.name, "arguments": arguments}
    return {"id": _short(call.id) if form.short_ids else call.id, "type": "function", "function": function}


def _as_object(text: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, dict) else text


def _short(call_id: str) -> str:
    if len(call_id) == 9 and call_id.isalnum():
        return call_id
    return hashlib.sha256(call_id.encode(errors="replace")).hexdigest()[:9]


def _tool_dict(tool: Tool) -> dict[str, Any]:
    parameters = copy.deepcopy(dict(tool.parameters)) or {"type": "object", "properties": {}}
    function = {"name": tool.name, "description": tool.description, "parameters": parameters}
    return {"type": "function", "function": function}


def _joined(groups: Iterable[tuple[Part, ...]]) -> tuple[Part, ...]:
    joined: list[Part] = []
    for parts in groups:
        if joined and parts:
            joined.append(Text(text="\n\n"))
        joined.extend(parts)
    return tuple(joined)


def _answer_to(call: Call, messages: Sequence[Message], place: int) -> int | None:
    for later in range(place + 1, len(messages)):
        if messages[later].role == "tool" and messages[later].call_id == call.id:
            return later
    return None


def _answers_merged(messages: Sequence[Message]) -> list[Message]:
    """Answers of tools as one user message for each run of them, so that roles still alternate."""
    merged: list[Message] = []
    for message in messages:
        if message.role != "tool":
            merged.append(message)
            continue
        text = f"<tool_response>\n{message.text}\n</tool_response>"
        if merged and merged[-1].role == "user" and merged[-1].call_id:
            merged[-1] = replace(merged[-1], parts=(Text(text=f"{merged[-1].text}\n{text}"),))
        else:
            merged.append(Message(role="user", parts=(Text(text=text),), call_id=message.call_id or "tool"))
    return [replace(message, call_id="") for message in merged]


def _call_as_text(message: Message) -> Message:
    if not message.calls:
        return message
    calls = [f"<tool_call>\n{_call_text(call)}\n</tool_call>" for call in message.calls]
    text = "\n".join(filter(None, [message.text, *calls]))
    return replace(message, calls=(), parts=(Text(text=text),))


def _call_text(call: Call) -> str:
    return f'{{"name": {json.dumps(call.name)}, "arguments": {call.arguments or "{}"}}}'
