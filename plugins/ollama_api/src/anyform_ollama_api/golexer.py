"""A Go text/template as texts and the words of its actions (https://pkg.go.dev/text/template)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

from anyform.contract.errors import Invalid

OPEN, CLOSE = "{{", "}}"
SPACES = " \t\r\n"
KEYWORDS = frozenset({"block", "break", "continue", "define", "else", "end", "if", "nil", "range", "template", "with"})

_WORD = re.compile(
    r"""(?P<space>[ \t\r\n]+)
    |(?P<declare>:=)
    |(?P<text>"(?:[^"\\\n]|\\.)*")
    |(?P<raw>`[^`]*`)
    |(?P<rune>'(?:[^'\\\n]|\\.)*')
    |(?P<field>\.[^\W\d]\w*)
    |(?P<number>[+-]?(?:0[xXoObB][0-9a-fA-F_]+|(?:[0-9][0-9_]*)?\.?[0-9][0-9_]*\.?(?:[eE][+-]?[0-9]+)?))
    |(?P<dot>\.)
    |(?P<variable>\$\w*)
    |(?P<name>[^\W\d]\w*)
    |(?P<sign>[=|(),])""",
    re.VERBOSE,
)
_COMMENT_END = re.compile(r"\*/(?P<trim>[ \t\r\n]+-)?\}\}")
_SIMPLE = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92, "'": 39, '"': 34}
_ESCAPE = re.compile(r"\\(?:(?P<plain>[abfnrtv\\'\"])|(?P<octal>[0-7]{3})|x(?P<byte>[0-9a-fA-F]{2})"
                     r"|u(?P<short>[0-9a-fA-F]{4})|U(?P<long>[0-9a-fA-F]{8}))")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Word:
    """One word of an action. *kind*: the name of its group above, or `keyword`."""

    kind: str
    text: str
    line: int
    apart: bool
    """Whether space stands before it: `.A .B` are two fields, `.A.B` is one of another."""


@dataclass(frozen=True, slots=True)
class Action:
    """What stands between two braces each; without words: a comment."""

    words: tuple[Word, ...]
    line: int


def refuse(line: int, what: str, hint: str = "") -> NoReturn:
    """Raise Invalid for *what* is wrong in *line*, counted from 1."""
    raise Invalid(f"the template cannot be used: line {line}: {what}.", hint, param="template", line=line)


def split(source: str) -> Iterator[str | Action]:
    """Texts, already trimmed as `{{-` and `-}}` ask, and actions, in order. Raises Invalid."""
    at, line, trimmed = 0, 1, False
    while True:
        opened = source.find(OPEN, at)
        text = source[at:] if opened < 0 else source[at:opened]
        line_after = line + text.count("\n")
        if trimmed:
            text = text.lstrip(SPACES)
        inside = opened + len(OPEN)
        trims = opened >= 0 and source[inside : inside + 1] == "-" and source[inside + 1 : inside + 2] in _SPACE
        if trims:
            text = text.rstrip(SPACES)
        if text:
            yield text
        if opened < 0:
            return
        action, at, trimmed = _action(source, inside + (1 if trims else 0), line_after)
        yield action
        line = line_after + source.count("\n", opened, at)


_SPACE = frozenset(SPACES)


def _action(source: str, at: int, line: int) -> tuple[Action, int, bool]:
    """The action that begins at *at*, where it ends, and whether it trims the text behind it."""
    inner = at
    while source[inner : inner + 1] in _SPACE:
        inner += 1
    if source.startswith("/*", inner):
        ended = _COMMENT_END.search(source, inner + 2)
        if ended is None or source.find("*/", inner + 2) != ended.start():
            refuse(line, "a comment does not end its action", "Write {{/* ... */}}.")
        return Action((), line), ended.end(), bool(ended["trim"])
    words: list[Word] = []
    apart, here = False, line
    while True:
        if source.startswith(CLOSE, at):
            return Action(tuple(words), line), at + len(CLOSE), False
        if apart and source.startswith("-" + CLOSE, at):
            return Action(tuple(words), line), at + len(CLOSE) + 1, True
        found = _WORD.match(source, at)
        if found is None:
            _refuse_rest(source[at : at + 20], line, here)
        at = found.end()
        kind, text = str(found.lastgroup), found.group()
        if kind == "space":
            apart = True
        else:
            words.append(Word("keyword" if text in KEYWORDS else kind, text, here, apart))
            apart = False
        here += text.count("\n")


def _refuse_rest(rest: str, begun: int, line: int) -> NoReturn:
    if not rest:
        refuse(begun, "an action is not closed", "End it with }}.")
    if rest[0] in "\"'`":
        refuse(line, f"a quoted text is not closed: {rest!r}")
    refuse(line, f"unexpected {rest[0]!r} in an action")


def unquoted(word: Word) -> str:
    """The text that a quoted word means, as Go reads it."""
    inner = word.text[1:-1]
    if word.kind == "raw":
        return inner.replace("\r", "")
    made, at = bytearray(), 0
    while at < len(inner):
        if inner[at] != "\\":
            made += inner[at].encode("utf-8", "surrogatepass")
            at += 1
            continue
        found = _ESCAPE.match(inner, at)
        if found is None:
            refuse(word.line, f"unknown escape {inner[at : at + 2]!r} in a text")
        made += _escaped(found, word.line)
        at = found.end()
    return made.decode("utf-8", "replace")


def _escaped(found: re.Match[str], line: int) -> bytes:
    if found["plain"]:
        return bytes([_SIMPLE[found["plain"]]])
    if found["octal"] or found["byte"]:
        code = int(found["octal"], 8) if found["octal"] else int(found["byte"], 16)
        if code > 0xFF:
            refuse(line, f"{found.group()} is no byte")
        return bytes([code])
    code = int(found["short"] or found["long"], 16)
    if code > 0x10FFFF or 0xD800 <= code < 0xE000:
        refuse(line, f"{found.group()} is no character")
    return chr(code).encode()


def number(word: Word) -> int | float:
    """The number that *word* writes, a rune's code included. Raises Invalid."""
    if word.kind == "rune":
        text = unquoted(word)
        if len(text) != 1:
            refuse(word.line, f"{word.text} is not one character")
        return ord(text)
    text = word.text.replace("_", "")
    try:
        if re.fullmatch(r"[+-]?0[0-7]+", text):
            return _bounded(int(text, 8), word)
        return _bounded(int(text, 0), word)
    except ValueError:
        pass
    try:
        value = float(text)
    except ValueError:
        value = float("inf")
    if abs(value) == float("inf"):
        refuse(word.line, f"{word.text[:40]} is no number that can be used")
    return value


def _bounded(value: int, word: Word) -> int:
    if not -(2**63) <= value < 2**64:
        refuse(word.line, f"{word.text[:40]} is too large a number")
    return value
