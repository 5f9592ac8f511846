"""Reads the tokens of a vocabulary.json or .txt one after another: how many there are, and which are languages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from anyform.contract.facts import ModelFiles

READ_BYTES = 8 << 20
"""Whisper's has 1 MiB."""
MOST_TOKENS = 1 << 18
"""Whisper has 51,866."""
TOKEN = re.compile(r'[ \t\r\n]*+"((?:[^"\\\x00-\x1f]++|\\.)*+)"[ \t\r\n]*+([,\]])')
LANGUAGE = re.compile(r"<\|([a-z]{2,3})\|>")
NEEDED = ("<|endoftext|>", "<|startoftranscript|>", "<|transcribe|>", "<|notimestamps|>")


@dataclass(slots=True)
class Vocabulary:
    """What the tokens tell. trouble: what is wrong with the file, in words that follow its name."""

    count: int = 0
    multilingual: bool = False
    """Whether there is an empty token: by that the engine knows models of several languages (src/models/whisper.cc)."""
    languages: list[str] = field(default_factory=list)
    """Codes, in the order of the tokens."""
    lacks: list[str] = field(default_factory=lambda: list(NEEDED))
    trouble: str = ""


def vocabulary(files: ModelFiles, name: str) -> Vocabulary:
    """The tokens of *name*; nothing raises."""
    found, size = Vocabulary(), files.files.get(name, 0)
    if size > READ_BYTES:
        found.trouble = f"has {size} bytes, of which at most {READ_BYTES} are read"
        return found
    try:
        text = files.head(name, size).decode("utf-8")
        for token in _lines(text) if name.endswith(".txt") else _strings(text):
            _add(found, token)
            if found.count > MOST_TOKENS:
                raise ValueError(f"it has over {MOST_TOKENS}")
    except ValueError as error:
        found.trouble = f"is no list of tokens: {error}"
    return found


def _add(found: Vocabulary, token: str) -> None:
    found.count += 1
    found.multilingual |= not token
    language = LANGUAGE.fullmatch(token)
    if language:
        found.languages.append(language[1])
    if token in found.lacks:
        found.lacks.remove(token)


def _lines(text: str) -> Iterator[str]:
    if not text:
        raise ValueError("it is empty")
    yield from (line.removesuffix("\r") for line in text.removesuffix("\n").split("\n"))


def _strings(text: str) -> Iterator[str]:
    """The texts of a JSON list. Raises ValueError."""
    place, sign = len(text) - len(text.lstrip()), ","
    if text[place : place + 1] != "[":
        raise ValueError(f"it begins with {text[:8]!r}" if text else "it is empty")
    place += 1
    while sign == ",":
        token = TOKEN.match(text, place)
        if token is None:
            raise ValueError(f"at character {place} stands {text[place : place + 20]!r}")
        yield json.loads(f'"{token[1]}"') if "\\" in token[1] else token[1]
        place, sign = token.end(), token[2]
    if text[place:].strip():
        raise ValueError(f"after its end stands {text[place : place + 20]!r}")
