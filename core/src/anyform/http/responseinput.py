"""Reads the items of the Responses API as a conversation. What a model gave out is taken back in as it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from anyform.contract.jobs import Call, Message, Part, Picture, Text
from anyform.http.fields import Fields, NotSupported, mistyped, wrong
from anyform.http.media import Media
from anyform.http.responsestore import Link, ResponseNotFound, Store

ROLES = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
TEXTS = ("input_text", "output_text", "text", "refusal", "reasoning_text", "summary_text")
PARTS = (*TEXTS, "input_image", "input_audio", "input_file")
ITEMS = ("message", "function_call", "function_call_output", "reasoning", "item_reference")


def given(fields: Fields, store: Store) -> list[dict[str, Any]]:
    """The items that the request brings; references are what they stand for. Raises Invalid, ResponseNotFound."""
    value = fields.data.get("input")
    if value is None:
        fields.missing("input")
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    if not isinstance(value, list):
        mistyped(fields.path("input"), "a string or an array of items", value)
    if not value:
        wrong(fields.path("input"), "empty array", "Expected at least one item.")
    return [_dereferenced(item, store) for item in fields.items("input") or ()]


def _dereferenced(item: Fields, store: Store) -> dict[str, Any]:
    kind = item.text("type")
    if kind != "item_reference" and (kind is not None or set(item.data) != {"id"}):
        return dict(item.data)
    wanted = item.need_text("id")
    found = store.item(wanted)
    if found is None:
        raise ResponseNotFound(f"Item with id '{wanted[:100]}' not found.", store.hint, param=item.path("id"))
    return {**found, "id": wanted}


def conversation(before: Link | None, items: list[dict[str, Any]], media: Media) -> tuple[Message, ...]:
    """All messages: what was kept up to the response *before*, then those of *items*."""
    reader = _Reader(media)
    for link in before.chain() if before else ():
        reader.read(Fields({"input": link.brought()}, "previous_response_id."), "input")
        reader.read(Fields({"output": link.output()}, "previous_response_id."), "output")
    reader.read(Fields({"input": items}), "input")
    return reader.end()


class _Reader:
    """Items one after the other. Those that an assistant says without a break make one message."""

    def __init__(self, media: Media) -> None:
        self._media = media
        self._messages: list[Message] = []
        self._open: Message | None = None
        """What the assistant says, while more may belong to it."""
        self._called: set[str] = set()

    def read(self, fields: Fields, name: str) -> None:
        for item in fields.items(name) or ():
            self._item(item)

    def end(self) -> tuple[Message, ...]:
        self._close()
        return tuple(self._messages)

    def _item(self, item: Fields) -> None:
        kind = item.text("type") or ("message" if "role" in item.data else item.missing("type"))
        if kind == "message":
            self._message(item)
        elif kind == "reasoning":
            self._reason(item)
        elif kind == "function_call":
            self._call(item)
        elif kind == "function_call_output":
            self._result(item)
        else:
            told = f"Here there are {', '.join(map(repr, ITEMS))}."
            raise NotSupported(f"An item of type '{kind}' is not supported.", told, param=item.path("type"))

    def _close(self) -> None:
        if self._open is not None:
            self._messages.append(self._open)
            self._open = None

    def _message(self, item: Fields) -> None:
        role = item.choice("role", *ROLES) or item.missing("role")
        parts = parts_of(item, "content", self._media)
        if role != "assistant":
            self._close()
            self._messages.append(Message(role=ROLES[role], parts=parts))
            return
        said = self._open
        if said is None or said.parts or said.calls:
            self._close()
            said = Message(role="assistant")
        self._open = replace(said, parts=parts)

    def _reason(self, item: Fields) -> None:
        """What a model was thinking goes with what it says next. What is encrypted says nothing here."""
        texts = [part.need_text("text") for name in ("content", "summary") for part in item.items(name) or ()]
        if not any(texts):
            return
        if self._open is not None and (self._open.parts or self._open.calls):
            self._close()
        said = self._open or Message(role="assistant")
        self._open = replace(said, reasoning="\n".join(filter(None, (said.reasoning, *texts))))

    def _call(self, item: Fields) -> None:
        said = self._open or Message(role="assistant")
        name, arguments = item.need_text("name"), item.need_text("arguments")
        call = Call(id=item.need_text("call_id"), name=name, arguments=arguments or "{}")
        self._called.add(call.id)
        self._open = replace(said, calls=(*said.calls, call))

    def _result(self, item: Fields) -> None:
        self._close()
        call_id = item.need_text("call_id")
        if call_id not in self._called:
            told = "Send the function_call before its output, or the previous_response_id of the response that has it."
            wrong(item.path("call_id"), f"there is no function_call with the call_id '{call_id[:100]}' before it", told)
        parts = parts_of(item, "output", self._media)
        self._messages.append(Message(role="tool", parts=parts, call_id=call_id))


def parts_of(item: Fields, name: str, media: Media) -> tuple[Part, ...]:
    """A string or a list of parts."""
    content = item.data.get(name)
    if content is None:
        item.missing(name)
    if isinstance(content, str):
        return (Text(text=content),) if content else ()
    if not isinstance(content, list):
        mistyped(item.path(name), "a string or an array of objects", content)
    return tuple(_part(part, media) for part in item.items(name) or ())


def _part(part: Fields, media: Media) -> Part:
    kind = part.choice("type", *PARTS) or part.missing("type")
    if kind == "input_image":
        return _picture(part, media)
    if kind == "input_audio":
        return media.input_audio(part.need_inner("input_audio"))
    if kind == "input_file":
        hint = "Send its text as input_text, or its pages as input_image."
        raise NotSupported("A file in the input is not supported.", hint, param=part.path("type"))
    return Text(text=part.need_text("refusal" if kind == "refusal" else "text"))


def _picture(part: Fields, media: Media) -> Picture:
    part.choice("detail", "auto", "low", "high", "original")
    if part.data.get("image_url") is None:
        part.refuse("file_id", "Send the picture as image_url, which may be a data: URL; no files are kept here.")
    return media.written(part.need_text("image_url"), part.path("image_url"), bare=False)
