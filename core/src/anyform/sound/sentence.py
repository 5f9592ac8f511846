"""Splits text where a speaker pauses: at sentences, and long ones at clauses and words. Pure; no letter is lost."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum


class Break(IntEnum):
    """What lies between a piece and the next one, the slightest first."""

    WORD = 0
    CLAUSE = 1
    SENTENCE = 2
    PARAGRAPH = 3


@dataclass(frozen=True, slots=True)
class Piece:
    """A sentence, or a part of a long one; white space is one blank each, and none at the ends."""

    text: str
    end: Break


ENDS = ".!?\u2026"
"""They end a sentence where white space follows, or a letter of a script that has none."""
SOLID_ENDS = (
    "\u3002\uff01\uff1f\uff61\uff0e\u0964\u0965\u061f\u06d4\u0589\u1362\u104b\u17d4"  # CJK, Devanagari, Arabic, ...
)
"""They end one whatever follows."""
CLAUSE_ENDS = ",;:\u2013"
SOLID_CLAUSE_ENDS = "\u2014\u3001\uff0c\uff1b\uff1a\u060c\u061b"
CLOSERS = "\"')]}\u201d\u2019\u00bb\u203a\u300d\u300f\u3011\u300b\uff09\u3015"
"""What may stand between the mark of an end and the end itself."""
OPENERS = "\"'([{\u201c\u2018\u00ab\u2039\u300c\u300e\u3010\u300a\uff08\u3014\u00bf\u00a1"

TITLES = frozenset({
    "adm", "approx", "av", "avda", "bspw", "bzw", "ca", "capt", "cf", "dña", "dr", "dra", "ej", "gov", "hon", "hr",
    "hrsg", "inkl", "lt", "maj", "messrs", "mgr", "mlle", "mme", "mr", "mrs", "ms", "mt", "pres", "prof", "profa",
    "rev", "sgt", "sig", "sog", "sr", "sra", "srta", "st", "sta", "ste", "str", "tel", "vgl", "vs", "zb",
})  # fmt: skip
"""Abbreviations of English, French, German, Italian, Portuguese and Spanish that end no sentence."""
NUMBERED = frozenset({
    "abb", "art", "cap", "ch", "chap", "col", "ed", "eq", "fig", "figs", "no", "nos", "nr", "núm", "op", "p", "pag",
    "pág", "pp", "s", "sec", "tel", "vol",
})  # fmt: skip
"""They end none where a digit follows; else they may be words."""
TAILS = frozenset({
    "bros", "co", "corp", "dept", "ecc", "etc", "inc", "jr", "ltd", "usf", "usw",
})  # fmt: skip
"""They end none where a small letter follows."""

_MARK = re.compile(f"[{re.escape(ENDS + SOLID_ENDS)}]+[{re.escape(CLOSERS)}]*")
_CLAUSE = re.compile(
    f"(?:(?<![{re.escape(CLAUSE_ENDS)}])[{re.escape(CLAUSE_ENDS)}]++[{re.escape(CLOSERS)}]*+(?=\\s)"
    f"|[{re.escape(SOLID_CLAUSE_ENDS)}]++[{re.escape(CLOSERS)}]*+)"
)
"""A row of marks is looked at once, however long it is."""
_DOTTED = re.compile(r"(?:[^\W\d]\.)+[^\W\d]{1,2}")
_HOURS = frozenset(("a.m", "p.m"))
_WORD = 40
"""Characters that are looked at before a mark."""
_SHARE = 3
"""A clause that is shorter than 1/3 of what may be is no place to cut, as long as there is a later one."""


def split(text: str, most: int) -> list[Piece]:
    """The sentences of *text*; those of more than *most* characters at clauses, else between words, else in words.

    Newlines end a sentence, save before a lower-case letter and after a comma; empty lines end a paragraph. A point
    ends none in numbers, addresses and dotted names, after an initial, a known abbreviation, or the number of a list,
    nor where the writer begins sentences with capitals and a small letter follows. All characters of *text* but white
    space are in the pieces, in their order; none: it is empty.
    """
    return [piece for sentence in sentences(text) for piece in _cut(sentence, most)]


def sentences(text: str) -> list[Piece]:
    """As `split`, however long they are."""
    return [piece for paragraph in _paragraphs(text) for piece in _paragraph(paragraph)]


def _paragraphs(text: str) -> Iterator[list[str]]:
    """Lines that stand together, each without needless white space."""
    lines: list[str] = []
    for line in text.splitlines():
        if bare := " ".join(line.split()):
            lines.append(bare)
        elif lines:
            yield lines
            lines = []
    if lines:
        yield lines


def _paragraph(lines: list[str]) -> Iterator[Piece]:
    joined = [lines[0]]
    for line in lines[1:]:
        if line[0].islower() or joined[-1][-1] in ",\uff0c\u3001":
            joined[-1] += f" {line}"
        else:
            joined.append(line)
    found = [sentence for line in joined for sentence in _line(line)]
    for sentence in found[:-1]:
        yield Piece(sentence, Break.SENTENCE)
    yield Piece(found[-1], Break.PARAGRAPH)


def _line(line: str) -> Iterator[str]:
    start = 0
    for mark in _MARK.finditer(line):
        if mark.end() < len(line) and _ends(line, start, mark):
            yield line[start : mark.end()].strip()
            start = mark.end()
    if rest := line[start:].strip():
        yield rest


def _ends(line: str, start: int, mark: re.Match[str]) -> bool:
    """Whether the sentence that begins at *start* ends with *mark*, after which something comes."""
    ends, after = mark[0].rstrip(CLOSERS), line[mark.end()]
    if any(character in SOLID_ENDS for character in ends):
        return not (ends == "\uff0e" and after.isdigit())
    if not after.isspace():
        return _is_solid(after)
    following = line[mark.end() : mark.end() + _WORD].lstrip().lstrip(OPENERS)[:1]
    quoted, trails_off = ends != mark[0], ends.endswith(("..", "\u2026"))
    if following.islower() and (quoted or trails_off):
        return False
    return ends != "." or not _abbreviates(line, start, mark.start(), following)


def _abbreviates(line: str, start: int, at: int, following: str) -> bool:
    """Whether the point at *at* belongs to the word before it, and does not end the sentence that began at *start*."""
    word = line[max(start, at - _WORD) : at].rpartition(" ")[2].lstrip(OPENERS)
    small, first = word.lower(), at - start <= _WORD and line[start:at].lstrip(OPENERS + " ") == word
    if small in TAILS or small in _HOURS:
        return following.islower()
    if small in NUMBERED and following.isdigit():
        return True
    initial = len(word) == 1 and word.isupper() and (word != "I" or first)
    if small in TITLES or initial or _DOTTED.fullmatch(word) or (first and word.isdigit()):
        return True
    begun = line[start : start + _WORD].lstrip(OPENERS + " ")[:1]
    return following.islower() and begun.isupper()


def _is_solid(character: str) -> bool:
    """Whether it is a letter of a script that is written without blanks between sentences."""
    return unicodedata.east_asian_width(character) == "W" and character.isalpha()


def _cut(sentence: Piece, most: int) -> Iterator[Piece]:
    text, start = sentence.text, 0
    while len(text) - start > most:
        at, kind = _place(text[start : start + most + 1], most)
        yield Piece(text[start : start + at], kind)
        start += at
        start += text[start] == " "
    yield Piece(text[start:], sentence.end)


def _place(text: str, most: int) -> tuple[int, Break]:
    """Where *text*, of *most* + 1 characters, is best cut: after one of them at least."""
    clauses = [mark.end() for mark in _CLAUSE.finditer(text) if most // _SHARE <= mark.end() <= most]
    if clauses:
        return clauses[-1], Break.CLAUSE
    blank = text.rfind(" ", 1)
    if blank > 0:
        return blank, Break.WORD
    at = max(most, 1)
    while at > 1 and _belongs(text[at]):
        at -= 1
    return at if at > 1 else max(most, 1), Break.WORD


def _belongs(character: str) -> bool:
    """Whether it is a part of the character before it."""
    return character == "\u200d" or unicodedata.category(character).startswith("M")
