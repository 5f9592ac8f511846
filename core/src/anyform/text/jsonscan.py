"""One JSON value, a character at a time: whether it may still become valid, and where it ends."""

from __future__ import annotations

import re
from enum import Enum

_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
_NUMBER_START = re.compile(r"-?((0|[1-9]\d*)((\.\d*)?|(\.\d+)?[eE][+-]?\d*))?", re.ASCII)
_WORDS = ("true", "false", "null")
_ESCAPES = frozenset('"\\/bfnrtu')
_HEX = frozenset("0123456789abcdefABCDEF")
_CONTROLS = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_AFTER_LITERAL = frozenset(",]} \t\r\n")
_DEPTH = 200
_LITERAL_LENGTH = 400

SPACE = " \t\r\n"


class Step(Enum):
    """What one character did."""

    MORE = "more"
    DONE = "done"
    """The value is complete, with this character."""
    OVER = "over"
    """The value (a number, true, ...) was complete before this character, which was not taken."""
    BAD = "bad"


class JsonScanner:
    """Scans one value, leading whitespace included."""

    def __init__(self) -> None:
        self.keys = 0
        """How many keys of the outermost object have been followed by a colon."""
        self._taken: list[str] = []
        self._stack: list[str] = []
        self._want = "value"
        self._literal = ""
        self._escape = 0

    def take(self) -> str:
        """The text scanned since the last `take`, with raw control characters in strings escaped as JSON wants."""
        text = "".join(self._taken)
        self._taken.clear()
        return text

    def push(self, character: str) -> Step:
        """Scan one character."""
        step = self._step(character)
        if step is Step.MORE or step is Step.DONE:
            raw = self._want == "string" and character < " "
            self._taken.append(_CONTROLS.get(character, f"\\u{ord(character):04x}") if raw else character)
        return step

    def _step(self, character: str) -> Step:
        if self._want == "string":
            return self._in_string(character)
        if self._literal and character not in _AFTER_LITERAL:
            return self._in_literal(self._literal + character)
        if self._literal and not _is_literal(self._literal):
            return Step.BAD
        if self._literal and self._literal_ended():
            return Step.OVER
        return Step.MORE if character in SPACE else self._structure(character)

    def _structure(self, character: str) -> Step:
        want = self._want
        if want.startswith("value") and character in '{["':
            return self._open(character)
        if want.startswith("value") and character not in "]},:":
            return self._in_literal(character)
        if want.startswith("key") and character == '"':
            self._stack.append("key")
            self._want = "string"
            return Step.MORE
        if want == "colon" and character == ":":
            self.keys += len(self._stack) == 1
            self._want = "value"
            return Step.MORE
        if want == "comma or end" and character == ",":
            self._want = "key" if self._stack[-1] == "{" else "value"
            return Step.MORE
        return self._close(character)

    def _open(self, character: str) -> Step:
        if len(self._stack) >= _DEPTH:
            return Step.BAD
        self._stack.append(character)
        self._want = {"{": "key or end", "[": "value or end", '"': "string"}[character]
        return Step.MORE

    def _close(self, character: str) -> Step:
        opened = {"}": "{", "]": "["}.get(character)
        if opened is None or not self._stack or self._stack[-1] != opened or not self._want.endswith("end"):
            return Step.BAD
        self._stack.pop()
        return self._value_ended()

    def _value_ended(self) -> Step:
        self._want = "comma or end"
        return Step.MORE if self._stack else Step.DONE

    def _in_literal(self, literal: str) -> Step:
        possible = _NUMBER_START.fullmatch(literal) or any(word.startswith(literal) for word in _WORDS)
        if not possible or len(literal) > _LITERAL_LENGTH:
            return Step.BAD
        self._literal = literal
        return Step.MORE

    def _literal_ended(self) -> bool:
        """Leave the literal behind; whether it was the whole value."""
        self._literal = ""
        return self._value_ended() is Step.DONE

    def _in_string(self, character: str) -> Step:
        if self._escape:
            return self._in_escape(character)
        if character == "\\":
            self._escape = 5
        if character != '"':
            return Step.MORE
        if self._stack.pop() == "key":
            self._want = "colon"
            return Step.MORE
        return self._value_ended()

    def _in_escape(self, character: str) -> Step:
        if self._escape == 5:
            self._escape = 4 if character == "u" else 0
            return Step.MORE if character in _ESCAPES else Step.BAD
        self._escape -= 1
        return Step.MORE if character in _HEX else Step.BAD


def _is_literal(literal: str) -> bool:
    return literal in _WORDS or _NUMBER.fullmatch(literal) is not None
