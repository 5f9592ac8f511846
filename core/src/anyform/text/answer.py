"""One answer's raw text to events: reasoning, text and tool calls, whatever pieces the text comes in."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property

from anyform.contract.events import Event, Reasoning, Text, ToolCall
from anyform.contract.jobs import Tool
from anyform.text.calls import Piece, Reader, reader_for, tool_name
from anyform.text.dialect import BARE, CHANNELS, CallForm, Dialect
from anyform.text.stop import held_back


def new_call_id() -> str:
    """An id as OpenAI's look."""
    return f"call_{secrets.token_hex(12)}"


_HEADERS = ("<|channel|>", "<|start|>")
_MESSAGE_ENDS = ("<|end|>", "<|return|>", "<|call|>", *_HEADERS)


class AnswerParser:
    """Feed it the text of one answer as it is decoded; it never raises and never loses text.

    *prompt*: the rendered prompt (its end will do), which may have opened the reasoning already.
    *tools*, *tool_choice*: of the Chat job; with "none" or no tools, calls are plain text. A call that turns out
    to be none (unknown tool, invalid JSON) is given as text, unless its arguments were being streamed already:
    then the rest is arguments. A forced call that is cut before its arguments is dropped.
    Whitespace around reasoning and calls is dropped. With *parallel_calls* False, `done`
    is set after the first call and what follows is ignored.
    """

    def __init__(
        self,
        dialect: Dialect,
        *,
        prompt: str = "",
        tools: Sequence[Tool] = (),
        tool_choice: str = "auto",
        parallel_calls: bool = True,
        index: int = 0,
        new_id: Callable[[], str] = new_call_id,
    ) -> None:
        self.calls = 0
        """How many tool calls have begun."""
        self.done = False
        """Whether nothing that follows matters."""
        self._dialect = dialect
        self._index = index
        self._tools = {} if tool_choice == "none" else {tool.name: tool for tool in tools}
        self._parallel = parallel_calls
        self._new_id = new_id
        self._forms = [form for form in dialect.calls if form.opener] if self._tools else []
        self._bare = [form for form in dialect.calls if not form.opener] if self._tools else []
        self._buffer = ""
        self._events: list[Event] = []
        self._forced = bool(self._tools) and tool_choice != "auto"
        self._home: Callable[[], bool] = self._in_header if dialect.channels else self._in_content
        opened = prompt.rstrip().endswith(dialect.think_open)
        self._state: Callable[[], bool] = self._in_reasoning if opened else self._at_start
        if dialect.channels:
            self._state = self._in_header
        if self._forced and not self._bare:
            self._bare = [BARE]
        self._fresh = True
        self._thought = False
        self._channel = ""
        self._ending = False

    @property
    def reasoning(self) -> bool:
        """Whether the model is thinking: a constraint on the answer does not bind yet."""
        if self._state == self._in_header:
            return not self._forced
        return self._state == self._in_reasoning or (self._state == self._in_message and self._channel == "analysis")

    @property
    def calling(self) -> bool:
        """Whether a tool call is being read, or has just been."""
        return self._state in (self._in_call, self._in_broken, self._after_call)

    def feed(self, text: str) -> list[Event]:
        """The events that *text* completes."""
        if self.done:
            return []
        self._buffer += text
        while self._state():
            pass
        return self._take()

    def finish(self) -> list[Event]:
        """The events of what was still held back. The answer is over."""
        self._ending = True
        while not self.done and self._state():
            pass
        events = self._take()
        return [event for event in events if not self._is_cut_call(event)] if self._forced else events

    def _is_cut_call(self, event: Event) -> bool:
        """Whether text at the end of a forced answer is the beginning of a call, which a token limit cut."""
        if not isinstance(event, Text):
            return False
        text = event.text.strip()
        openers = [*self._openers, *(["{"] if self._bare else [])]
        return any(text.startswith(opener) or opener.startswith(text) for opener in openers)

    def finish_reason(self, reason: str = "stop") -> str:
        """*reason*, or "tool_calls" where an answer that ended by itself made calls."""
        return "tool_calls" if self.calls and reason == "stop" else reason

    def _at_start(self) -> bool:
        """Only whitespace so far: reasoning, a bare call or content may follow."""
        text = self._buffer.lstrip()
        if not text:
            return self._ending and self._go(self._in_content)
        marker = self._dialect.think_open
        if not self._thought and text.startswith(marker):
            self._buffer = text[len(marker) :]
            return self._go(self._in_reasoning)
        if not self._thought and marker.startswith(text) and not self._ending:
            return False
        if self._bare and text[0] == "{":
            space = self._buffer[: len(self._buffer) - len(text)]
            self._buffer = text
            return self._begin_call(self._bare, "", space)
        if self._thought:
            self._buffer = text
        return self._go(self._in_content)

    def _in_reasoning(self) -> bool:
        marker = self._dialect.think_close
        if self._fresh:
            return self._reasoning_begins()
        self._thought = True
        text, found, rest = self._buffer.partition(marker)
        if found:
            self._say_reasoning(text.rstrip())
            self._buffer = rest
            return self._go(self._at_start)
        sure = len(text) if self._ending else len(text) - held_back(text, [marker])
        said = text[:sure].rstrip()
        self._say_reasoning(said)
        self._buffer = "" if self._ending else text[len(said) :]
        return False

    def _reasoning_begins(self) -> bool:
        """Some models open once more what their prompt opened."""
        marker = self._dialect.think_open
        text = self._buffer = self._buffer.lstrip()
        if not self._ending and (not text or (marker.startswith(text) and text != marker)):
            return False
        self._buffer = text.removeprefix(marker).lstrip()
        self._fresh = not self._buffer and not self._ending
        return not self._fresh

    def _in_content(self) -> bool:
        if not self._forms and not self._dialect.hidden:
            return self._say_and_wait(len(self._buffer))
        markers = self._openers
        place, marker = _first(self._buffer, markers)
        if not marker:
            sure = len(self._buffer) if self._ending else len(self._buffer) - held_back(self._buffer, markers)
            return self._say_and_wait(sure)
        rest = self._buffer[place:]
        if not self._ending and any(len(m) > len(rest) and m.startswith(rest) for m in markers):
            return self._say_and_wait(place)
        before, self._buffer = self._buffer[:place], rest[len(marker) :]
        if marker in self._dialect.hidden:
            self._say(before)
            return True
        said = before.rstrip()
        self._say(said)
        forms = [form for form in self._forms if marker in (form.opener, form.section_open)]
        return self._begin_call(forms, marker, before[len(said) :])

    @cached_property
    def _openers(self) -> list[str]:
        calls = [marker for form in self._forms for marker in (form.opener, form.section_open) if marker]
        return list(dict.fromkeys([*calls, *self._dialect.hidden]))

    def _say_and_wait(self, sure: int) -> bool:
        """Give *sure* characters as text, less the whitespace at their end that a call may follow."""
        text = self._buffer[:sure]
        if self._forms and (not self._ending or self.calls):
            text = text.rstrip()
        self._say(text)
        self._buffer = "" if self._ending else self._buffer[len(text) :]
        return False

    def _begin_call(self, forms: Sequence[CallForm], opener: str, space: str) -> bool:
        self._candidates = list(forms)
        self._opener = space + opener
        self._section = bool(opener) and opener == forms[0].section_open
        return self._next_reader()

    def _next_reader(self) -> bool:
        self._form = self._candidates.pop(0)
        self._reader: Reader = reader_for(self._form, self._tools, in_section=self._section)
        self._raw: list[str] = []
        return self._go(self._in_call)

    def _in_call(self) -> bool:
        reader, raw = self._reader, self._raw
        for place, character in enumerate(self._buffer):
            pieces = reader.push(character)
            raw.append(character)
            if pieces is None:
                self._buffer = "".join(raw) + self._buffer[place + 1 :]
                return self._no_call()
            self._give(pieces)
            if self.done:
                return False
            if reader.done or reader.broken:
                taken = place if reader.unread or reader.broken else place + 1
                self._buffer = self._buffer[taken:]
                return self._go(self._in_broken if reader.broken else self._after_call)
        self._buffer = ""
        return self._ending and self._call_cut()

    def _call_cut(self) -> bool:
        """The text is over in the middle of a call."""
        pieces = self._reader.end()
        if pieces is None:
            self._buffer = "".join(self._raw)
            return self._no_call()
        self._give(pieces)
        return False

    def _no_call(self) -> bool:
        """What is in the buffer was no call in this form: try the next form, or give it as text."""
        if self._candidates:
            return self._next_reader()
        self._say(self._opener)
        return self._go(self._in_content)

    def _in_broken(self) -> bool:
        """Arguments that are not JSON, up to the closer."""
        closer = self._form.closer
        text, found, rest = self._buffer.partition(closer) if closer else (self._buffer, "", "")
        sure = len(text) if found or self._ending else len(text) - held_back(text, [closer])
        self._call(arguments=text[:sure])
        self._buffer = rest if found else text[sure:]
        if not found:
            return False
        self._give([Piece(ended=True)])
        return not self.done and self._go(self._after_call)

    def _after_call(self) -> bool:
        """Closers, and further calls of forms that mark only the first."""
        text = self._buffer = self._buffer.lstrip()
        unmarked = self._form.style == "json" and not self._form.closer
        closers = [c.strip() for c in (self._form.closer, self._form.section_close, ";" if unmarked else "") if c]
        for closer in closers:
            if text.startswith(closer):
                self._buffer = text[len(closer) :]
                return True
        if not text or (not self._ending and any(closer.startswith(text) for closer in closers)):
            return False
        if unmarked and text[0] == "{":
            return self._begin_call([self._form], "", "")
        return self._go(self._home)

    def _in_header(self) -> bool:
        """gpt-oss: `<|channel|>` and what kind of message comes, up to `<|message|>`."""
        text = self._buffer.lstrip()
        if not text:
            return False
        if not any(text.startswith(m) for m in _HEADERS):
            partial = any(m.startswith(text) for m in _HEADERS)
            return not (partial and not self._ending) and self._go(self._in_content)
        header, found, rest = text.partition("<|message|>")
        if not found:
            return self._ending and self._go(self._in_content)
        self._buffer = rest
        _, _, called = header.partition("to=")
        if tool_name(called, self._tools) is not None:
            self._begin_call([CHANNELS], header + found, "")
            for character in f"{tool_name(called, self._tools)}{CHANNELS.name_end}":
                self._reader.push(character)
            return True
        self._channel = "analysis" if "analysis" in header and not called else "final"
        return self._go(self._in_message)

    def _in_message(self) -> bool:
        """gpt-oss: a message, up to the marker that ends it."""
        place, marker = _first(self._buffer, _MESSAGE_ENDS)
        sure = place if marker else len(self._buffer)
        if not marker and not self._ending:
            sure -= held_back(self._buffer, _MESSAGE_ENDS)
        (self._say_reasoning if self._channel == "analysis" else self._say)(self._buffer[:sure])
        self._buffer = self._buffer[sure:].removeprefix(marker if marker not in _HEADERS else "")
        return bool(marker) and self._go(self._in_header)

    def _go(self, state: Callable[[], bool]) -> bool:
        self._state = state
        return True

    def _give(self, pieces: Sequence[Piece]) -> None:
        for piece in pieces:
            if piece.name:
                self.calls += 1
                self._call(self._new_id(), piece.name)
            if piece.arguments:
                self._call(arguments=piece.arguments)
            if piece.ended:
                self._raw = []
                self._opener = ""
                self._candidates = []
                self.done = not self._parallel
            if self.done:
                self._buffer = ""
                return

    def _call(self, call_id: str = "", name: str = "", arguments: str = "") -> None:
        last = self._events[-1] if self._events else None
        if not name and isinstance(last, ToolCall) and last.call == self.calls - 1:
            self._events[-1] = replace(last, arguments=last.arguments + arguments)
        elif name or arguments:
            call = self.calls - 1
            self._events.append(ToolCall(call=call, index=self._index, id=call_id, name=name, arguments=arguments))

    def _say(self, text: str) -> None:
        last = self._events[-1] if self._events else None
        if text and isinstance(last, Text):
            self._events[-1] = replace(last, text=last.text + text)
        elif text:
            self._events.append(Text(text=text, index=self._index))

    def _say_reasoning(self, text: str) -> None:
        if text:
            self._events.append(Reasoning(text=text, index=self._index))

    def _take(self) -> list[Event]:
        events, self._events = self._events, []
        return events


def _first(text: str, markers: Sequence[str]) -> tuple[int, str]:
    """Where the first of *markers* begins, the longest of those that begin there; "" for none."""
    places = [(place, -len(marker), marker) for marker in markers if (place := text.find(marker)) >= 0]
    if not places:
        return 0, ""
    place, _, marker = min(places)
    return place, marker
