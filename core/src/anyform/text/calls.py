"""Readers of one tool call (or a list of them), fed character by character, one for each style of `CallForm`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from anyform.contract.jobs import Tool
from anyform.text.bodies import ARGUMENT_KEYS, NAME_KEYS, call_of, calls_in
from anyform.text.dialect import CallForm
from anyform.text.jsonscan import SPACE, JsonScanner, Step

_OTHER_KEYS = ("id", "type", "tool_call_id", "index")
_BODY_LENGTH = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a call that can no longer be taken back: its name, more of its arguments, or its end."""

    name: str = ""
    arguments: str = ""
    ended: bool = False


class Reader(Protocol):
    """Reads calls after an opener. `push` and `end` give pieces; None: this is no call after all."""

    done: bool
    """No more calls will come from this reader."""
    unread: bool
    """The last character was not taken: it is no part of the call."""
    broken: bool
    """Arguments that were given out already are not JSON; nor was the last character taken."""

    def push(self, character: str) -> list[Piece] | None: ...

    def end(self) -> list[Piece] | None:
        """The text is over."""


def reader_for(form: CallForm, tools: Mapping[str, Tool], *, in_section: bool = False) -> Reader:
    """A reader for what follows *form*'s opener (*in_section*: its section's opener)."""
    if form.style in ("json", "list"):
        return JsonReader(tools, strict=not form.opener)
    if form.style == "named":
        return NamedReader(form, tools, expects_opener=in_section)
    return BodyReader(form, tools)


class JsonReader:
    """`{"name": …, "arguments": {…}}`, or a list of them.

    A call is given out once its name is a known tool's and its arguments have begun as an object with a
    key; from there the rest is arguments, valid or not. Any other order of keys waits for the whole object.
    """

    def __init__(self, tools: Mapping[str, Tool], *, strict: bool) -> None:
        self.done = self.unread = self.broken = False
        self._tools = tools
        self._strict = strict
        self._in_list = False
        self._state: Callable[[str], list[Piece] | None] = self._before
        self._begin_item()

    def push(self, character: str) -> list[Piece] | None:
        return self._state(character)

    def end(self) -> list[Piece] | None:
        return [] if self._given or self._state == self._between else None

    def _begin_item(self) -> None:
        self._fields: dict[str, str] = {}
        self._key = ""
        self._scanner = JsonScanner()
        self._value: list[str] = []
        self._given = self._streams = False

    def _before(self, character: str) -> list[Piece] | None:
        if character in SPACE:
            return []
        if character == "[" and not self._in_list and not self._strict:
            self._in_list = True
            return []
        if character != "{":
            return None
        self._begin_item()
        self._state = self._before_key
        return []

    def _before_key(self, character: str) -> list[Piece] | None:
        if character in SPACE:
            return []
        if character == "}" and self._fields:
            return self._item_ended()
        self._scanner = JsonScanner()
        self._state = self._in_key
        return self._in_key(character) if character == '"' else None

    def _in_key(self, character: str) -> list[Piece] | None:
        step = self._scanner.push(character)
        if step is Step.DONE:
            self._key = json.loads(self._scanner.take())
            known = self._key in (*NAME_KEYS, *ARGUMENT_KEYS, *_OTHER_KEYS)
            self._state = self._before_value
            return [] if known or not self._strict else None
        return [] if step is Step.MORE else None

    def _before_value(self, character: str) -> list[Piece] | None:
        if character in SPACE:
            return []
        self._scanner = JsonScanner()
        self._value = []
        self._state = self._in_value
        return [] if character == ":" else None

    def _in_value(self, character: str) -> list[Piece] | None:
        step = self._scanner.push(character)
        if step is Step.BAD:
            self.broken = self._streams
            return [] if self.broken else None
        if step is Step.MORE:
            return self._give_some()
        return self._value_ended(character if step is Step.OVER else "")

    def _value_ended(self, over: str) -> list[Piece] | None:
        pieces = self._give_some()
        self._streams = False
        text = "".join(self._value).strip()
        self._fields[self._key] = text
        if self._strict and self._key in NAME_KEYS and text.startswith('"') and json.loads(text) not in self._tools:
            return None
        self._state = self._after_value
        if not over:
            return pieces
        after = self._after_value(over)
        return None if after is None else pieces + after

    def _after_value(self, character: str) -> list[Piece] | None:
        if character in SPACE:
            return []
        if character == ",":
            self._state = self._before_key
            return []
        if character == "}":
            return self._item_ended()
        self.done = self.unread = self._given
        return [Piece(ended=True)] if self._given else None

    def _give_some(self) -> list[Piece]:
        """Arguments as they come, if they may be given out."""
        text = self._scanner.take()
        self._value.append(text)
        if self._streams:
            return [Piece(arguments=text)]
        if self._key not in ARGUMENT_KEYS or not self._scanner.keys or self._given:
            return []
        name = self._name()
        if name is None:
            return []
        self._given = self._streams = True
        return [Piece(name=name, arguments="".join(self._value).lstrip())]

    def _name(self) -> str | None:
        text = next((self._fields[key] for key in NAME_KEYS if key in self._fields), "")
        name = json.loads(text) if text.startswith('"') else None
        return name if name in self._tools else None

    def _item_ended(self) -> list[Piece] | None:
        pieces = self._whole()
        if pieces is None:
            return None
        self._state = self._between
        self.done = not self._in_list
        return pieces

    def _whole(self) -> list[Piece] | None:
        if self._given:
            return [Piece(ended=True)]
        try:
            call = call_of({key: json.loads(text) for key, text in self._fields.items()}, self._tools)
        except (ValueError, RecursionError):
            return None
        return None if call is None else [Piece(name=call[0], arguments=call[1]), Piece(ended=True)]

    def _between(self, character: str) -> list[Piece] | None:
        if character in SPACE:
            return []
        if character == ",":
            self._state = self._before
            return []
        self.done = True
        self.unread = character != "]"
        return []


class NamedReader:
    """`name name_end args_open {…}`; the closer is left to the caller, who hides it."""

    def __init__(self, form: CallForm, tools: Mapping[str, Tool], *, expects_opener: bool) -> None:
        self.done = self.unread = self.broken = False
        self._form = form
        self._tools = tools
        self._name = ""
        self._read = ""
        self._scanner = JsonScanner()
        self._held: list[str] = []
        self._given = False
        self._state = self._in_opener if expects_opener else self._in_name

    def push(self, character: str) -> list[Piece] | None:
        return self._state(character)

    def end(self) -> list[Piece] | None:
        return [] if self._given else None

    def _in_opener(self, character: str) -> list[Piece] | None:
        self._read = (self._read + character).lstrip()
        if self._read == self._form.opener:
            self._read = ""
            self._state = self._in_name
            return []
        return [] if self._form.opener.startswith(self._read) else None

    def _in_name(self, character: str) -> list[Piece] | None:
        """Up to `name_end`, or to the brace where models leave that out."""
        self._read += character
        end = self._form.name_end.strip() or self._form.name_end
        named = self._read.endswith(end)
        if not named and character != "{":
            return [] if len(self._read) < 300 else None
        name = tool_name(self._read[: -len(end)] if named else self._read[:-1], self._tools)
        if name is None:
            return None
        self._name, self._read = name, ""
        self._state = self._before_arguments
        return [] if named else self._before_arguments(character)

    def _before_arguments(self, character: str) -> list[Piece] | None:
        if character == "{":
            self._state = self._in_arguments
            return self._in_arguments(character)
        self._read = (self._read + character).lstrip()
        return [] if self._form.args_open.startswith(self._read.strip()) else None

    def _in_arguments(self, character: str) -> list[Piece] | None:
        step = self._scanner.push(character)
        if step is Step.BAD:
            self.broken = self._given
            return [] if self._given else None
        text = self._scanner.take()
        self._held.append(text)
        pieces: list[Piece] = []
        if self._given:
            pieces.append(Piece(arguments=text))
        elif self._scanner.keys or step is Step.DONE:
            self._given = True
            pieces.append(Piece(name=self._name, arguments="".join(self._held)))
        if step is Step.DONE:
            self.done = True
            pieces.append(Piece(ended=True))
        return pieces


class BodyReader:
    """Forms that can only be read as a whole: all up to the closer."""

    def __init__(self, form: CallForm, tools: Mapping[str, Tool]) -> None:
        self.done = self.unread = self.broken = False
        self._form = form
        self._tools = tools
        self._body: list[str] = []
        self._tail = ""
        self._length = 0

    def push(self, character: str) -> list[Piece] | None:
        self._body.append(character)
        self._length += 1
        self._tail = (self._tail + character)[-len(self._form.closer) :]
        if self._tail != self._form.closer:
            return [] if self._length < _BODY_LENGTH else None
        self.done = True
        return self._parsed("".join(self._body)[: -len(self._form.closer)])

    def end(self) -> list[Piece] | None:
        return self._parsed("".join(self._body))

    def _parsed(self, body: str) -> list[Piece] | None:
        calls = calls_in(self._form.style, body.strip(), self._tools)
        if calls is None:
            return None
        return [piece for name, text in calls for piece in (Piece(name=name, arguments=text), Piece(ended=True))]


def tool_name(text: str, tools: Mapping[str, Tool]) -> str | None:
    """The tool that *text* names: bare, or as `functions.f`, `functions.f:0`, `f[CALL_ID]…`, `f <|constrain|>json`."""
    text = re.split(r"\[CALL_ID\]|<\|", text)[0].strip()
    for name in (text, text.removeprefix("functions."), re.sub(r":\d+$", "", text.removeprefix("functions."))):
        if name in tools:
            return name
    return None
