"""Reads a conversation in Ollama's form: arguments of calls are objects, and calls have no ids."""

from __future__ import annotations

from anyform.contract.jobs import Call, Message, Text
from anyform.dialect import Fields, Media, dumps, mistyped
from anyform_ollama_api import request

ROLES = ("system", "user", "assistant", "tool")


def messages(body: Fields, media: Media) -> tuple[Message, ...]:
    """The messages of *body*. Raises Invalid."""
    calls = _Calls()
    return tuple(_message(item, media, calls) for item in body.items("messages") or ())


def _message(item: Fields, media: Media, calls: _Calls) -> Message:
    said = item.text("role")
    if said is None:
        item.missing("role")
    role = said.lower()  # as Ollama reads it
    if role not in ROLES:
        item.choice("role", *ROLES)
    content = item.text("content")
    made = tuple(calls.made(call) for call in item.items("tool_calls") or ()) if role == "assistant" else ()
    tool = (item.text("tool_name", "name") or "") if role == "tool" else ""
    return Message(
        role=role,
        parts=(*request.pictures(item, media), *((Text(text=content),) if content else ())),
        calls=made,
        call_id=calls.answered(tool, item.text("tool_call_id") or "") if role == "tool" else "",
        name=tool,
        reasoning=(item.text("thinking") or "") if role == "assistant" else "",
    )


class _Calls:
    """Gives calls the ids that templates want, and results those of their calls."""

    def __init__(self) -> None:
        self._count = 0
        self._open: list[Call] = []

    def made(self, item: Fields) -> Call:
        """A call of the model's."""
        function = item.need_inner("function")
        arguments = function.data.get("arguments")
        if arguments is not None and not isinstance(arguments, dict):
            mistyped(function.path("arguments"), "an object", arguments)
        call = Call(
            id=item.text("id") or f"call{self._count:05d}",  # nine letters and digits, as some templates demand
            name=function.need_text("name"),
            arguments=dumps(arguments or {}),
        )
        self._count += 1
        self._open.append(call)
        return call

    def answered(self, tool: str, call_id: str) -> str:
        """The id of the call that a result of *tool* is for: that one, or the oldest that has none yet."""
        fitting = [call for call in self._open if (call.id == call_id if call_id else tool in ("", call.name))]
        if not fitting:
            return call_id
        self._open.remove(fitting[0])
        return fitting[0].id
