"""Reads GBNF, llama.cpp's grammar notation, into a tree.

The syntax is that of llama.cpp's grammars/README.md and src/llama-grammar.cpp.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from anyform.contract.errors import Invalid

Ranges: TypeAlias = tuple[tuple[int, int], ...]
"""Sets of characters: first and last of each run, ascending and apart."""

_TOP = 0x10FFFF
_REPEATS = 2000
_DEPTH = 100
_ESCAPES = {"t": "\t", "r": "\r", "n": "\n", "\\": "\\", '"': '"', "[": "[", "]": "]", "-": "-"}
_HEX = {"x": 2, "u": 4, "U": 8}


@dataclass(frozen=True, slots=True)
class Chars:
    """One character of a set."""

    ranges: Ranges


@dataclass(frozen=True, slots=True)
class Literal:
    """These characters; may be none."""

    text: str


@dataclass(frozen=True, slots=True)
class Token:
    """One token of the vocabulary, in the notation that llguidance shares: `<[1000]>`, `<think>`."""

    text: str


@dataclass(frozen=True, slots=True)
class Ref:
    """Another rule."""

    name: str


@dataclass(frozen=True, slots=True)
class Seq:
    """One after the other."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Alt:
    """One of them."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """From `least` to `most` times; None: without end."""

    item: Node
    least: int
    most: int | None


Node: TypeAlias = Chars | Literal | Token | Ref | Seq | Alt | Repeat


def read_gbnf(source: str) -> dict[str, Node]:
    """The rules of a grammar, `root` among them. Raises `Invalid` with the line where it is wrong."""
    rules = _Reader(source).rules()
    if "root" not in rules:
        raise Invalid("The grammar has no rule named root.", "Name the rule that the whole answer must follow root.")
    for name, node in rules.items():
        for missing in sorted(_names(node) - rules.keys()):
            raise Invalid(f"The grammar's rule {name[:80]!r} needs {missing[:80]!r}, which it does not define.")
    return rules


def normalized(ranges: list[tuple[int, int]], *, negated: bool = False) -> Ranges:
    """*ranges* (or all that is outside them) as a set."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    if not negated:
        return tuple(merged)
    lows = [0, *(high + 1 for _, high in merged)]
    highs = [*(low - 1 for low, _ in merged), _TOP]
    return tuple((low, high) for low, high in zip(lows, highs, strict=True) if low <= high)


def _names(node: Node) -> set[str]:
    if isinstance(node, Ref):
        return {node.name}
    if isinstance(node, Repeat):
        return _names(node.item)
    if isinstance(node, Seq | Alt):
        return set().union(*map(_names, node.items))
    return set()


class _Reader:
    def __init__(self, source: str) -> None:
        self._source = source
        self._place = 0
        self._depth = 0

    def rules(self) -> dict[str, Node]:
        rules: dict[str, Node] = {}
        self._skip(newlines=True)
        while self._place < len(self._source):
            name = self._name()
            self._skip()
            if not self._source.startswith("::=", self._place):
                raise self._wrong("expected ::=")
            self._place += 3
            self._skip(newlines=True)
            rules[name] = self._alternatives(nested=False)
            if self._peek() not in ("", "\r", "\n"):
                raise self._wrong("expected the end of the rule")
            self._skip(newlines=True)
        return rules

    def _wrong(self, what: str) -> Invalid:
        line = self._source.count("\n", 0, self._place) + 1
        found = self._source[self._place : self._place + 20].split("\n")[0]
        return Invalid(f"The grammar is not valid GBNF: line {line}: {what}, found {found or 'the end'!r}.")

    def _peek(self) -> str:
        return self._source[self._place : self._place + 1]

    def _skip(self, *, newlines: bool = False) -> None:
        """Spaces and comments."""
        while character := self._peek():
            if character == "#":
                while self._peek() not in ("", "\r", "\n"):
                    self._place += 1
            elif character in " \t" or (newlines and character in "\r\n"):
                self._place += 1
            else:
                return

    def _name(self) -> str:
        begin = self._place
        while (character := self._peek()) and (character.isascii() and (character.isalnum() or character in "-_")):
            self._place += 1
        if begin == self._place:
            raise self._wrong("expected a name")
        return self._source[begin : self._place]

    def _alternatives(self, *, nested: bool) -> Node:
        self._depth += 1
        if self._depth > _DEPTH:
            raise self._wrong(f"groups are nested more than {_DEPTH} deep")
        items = [self._sequence(nested=nested)]
        while self._at_bar(nested=nested):
            self._place += 1
            self._skip(newlines=True)
            items.append(self._sequence(nested=nested))
        self._depth -= 1
        return items[0] if len(items) == 1 else Alt(tuple(items))

    def _at_bar(self, *, nested: bool) -> bool:
        """A rule may go on with a bar on its next line."""
        before = self._place
        self._skip(newlines=True)
        if self._peek() == "|":
            return True
        if not nested:
            self._place = before
        return False

    def _sequence(self, *, nested: bool) -> Node:
        items: list[Node] = []
        while (item := self._item()) is not None:
            self._skip(newlines=nested)
            while (times := self._times()) is not None:
                item = Repeat(item, *times)
                self._skip(newlines=nested)
            items.append(item)
        return items[0] if len(items) == 1 else Seq(tuple(items))

    def _item(self) -> Node | None:
        character = self._peek()
        if character in ("<", "!"):
            return self._token()
        if character and character.isascii() and (character.isalnum() or character in "-_"):
            return Ref(self._name())
        readers = {'"': self._literal, "[": self._chars, "(": self._group, ".": self._any}
        reader = readers.get(character)
        if reader is None and character in ("*", "+", "?", "{"):
            raise self._wrong("expected something to repeat")
        return reader() if reader is not None else None

    def _any(self) -> Node:
        self._place += 1
        return Chars(((0, _TOP),))

    def _group(self) -> Node:
        self._place += 1
        self._skip(newlines=True)
        inside = self._alternatives(nested=True)
        if self._peek() != ")":
            raise self._wrong("expected )")
        self._place += 1
        return inside

    def _literal(self) -> Node:
        self._place += 1
        text = ""
        while self._peek() != '"':
            text += self._character()
        self._place += 1
        return Literal(text)

    def _chars(self) -> Node:
        self._place += 1
        negated = self._peek() == "^"
        self._place += negated
        ranges: list[tuple[int, int]] = []
        while self._peek() != "]":
            low = high = ord(self._character())
            if self._peek() == "-" and self._source[self._place + 1 : self._place + 2] != "]":
                self._place += 1
                high = ord(self._character())
            if high < low:
                raise self._wrong(f"a range from {low:#x} down to {high:#x}")
            ranges.append((low, high))
        self._place += 1
        found = normalized(ranges, negated=negated)
        if not found:
            raise self._wrong("a set without characters before")
        return Chars(found)

    def _character(self) -> str:
        character = self._peek()
        if not character:
            raise self._wrong("the text or set does not end")
        self._place += 1
        if character != "\\":
            return character
        kind = self._peek()
        self._place += 1
        if kind in _ESCAPES:
            return _ESCAPES[kind]
        digits = self._source[self._place : self._place + _HEX.get(kind, 0)]
        if kind not in _HEX or len(digits) < _HEX[kind] or not all(c in "0123456789abcdefABCDEF" for c in digits):
            raise self._wrong("unknown escape before")
        self._place += len(digits)
        if int(digits, 16) > _TOP or 0xD800 <= int(digits, 16) <= 0xDFFF:
            raise self._wrong(f"no character has the number {digits}")
        return chr(int(digits, 16))

    def _token(self) -> Node:
        begin = self._place
        end = self._source.find(">", begin)
        if self._peek() == "!" or end < 0 or "\n" in self._source[begin:end]:
            raise self._wrong("tokens are read as <[number]> or <name>, and not negated")
        self._place = end + 1
        return Token(self._source[begin : self._place])

    def _times(self) -> tuple[int, int | None] | None:
        character = self._peek()
        if character in ("*", "+", "?"):
            self._place += 1
            return {"*": (0, None), "+": (1, None), "?": (0, 1)}[character]
        if character != "{":
            return None
        self._place += 1
        least = self._integer()
        most: int | None = least
        if self._peek() == ",":
            self._place += 1
            self._skip(newlines=True)
            most = self._integer() if self._peek() != "}" else None
        if self._peek() != "}":
            raise self._wrong("expected }")
        self._place += 1
        if least > _REPEATS or (most is not None and not least <= most <= _REPEATS):
            raise self._wrong(f"repetitions go up, to {_REPEATS} at the most; before")
        return least, most

    def _integer(self) -> int:
        self._skip(newlines=True)
        begin = self._place
        while self._peek().isdigit():
            self._place += 1
        if begin == self._place:
            raise self._wrong("expected a number")
        self._skip(newlines=True)
        return int(self._source[begin : self._place][:9])
