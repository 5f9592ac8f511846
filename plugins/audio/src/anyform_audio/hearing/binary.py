"""Reads what a CTranslate2 model.bin says of itself: names, types, shapes and sizes of variables. Reads no weights.

The format: ModelSpec._serialize in https://github.com/OpenNMT/CTranslate2/blob/master/python/ctranslate2/specs/
model_spec.py. Version, name and revision of the kind of model, the variables one after another, then aliases.
"""

from __future__ import annotations

import io
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO
from weakref import WeakKeyDictionary

from anyform.contract.facts import Finding, ModelFiles
from anyform_audio.finding import AGAIN, critical, warning

FILE = "model.bin"
WHISPER = "WhisperSpec"
OLDEST, NEWEST = 4, 6
"""Binary versions that are laid out like this; 6 is CTranslate2's since 3.0 (CURRENT_BINARY_VERSION)."""
NEWEST_REVISION = 3
"""Of WhisperSpec; the engine refuses a later one, and reads those before."""
KINDS: Mapping[int, tuple[str, int]] = {
    0: ("float32", 4), 1: ("int8", 1), 2: ("int16", 2), 3: ("int32", 4), 4: ("float16", 2), 5: ("bfloat16", 2),
}  # fmt: skip
"""DataType of include/ctranslate2/types.h -> (name, bytes of an element)."""
SPEC = re.compile(rb"[A-Za-z][A-Za-z0-9_]{0,40}Spec\0")
MOST_VARIABLES = 20_000
"""The largest Whisper has some 2,000."""
MOST_NAME, MOST_SHAPE = 512, 8
"""Bytes of a name, and lengths of a shape."""
REMOTE_BYTES = 1 << 16
"""What is looked at of a file that is not on this machine: the first variables."""


class _CutError(Exception):
    """The file ends where more is promised; says what."""


class _UnseenError(Exception):
    """What is asked for lies beyond what was fetched."""


@dataclass(frozen=True, slots=True)
class Variable:
    """One array as the file describes it."""

    name: str
    shape: tuple[int, ...]
    kind: int
    begin: int
    """Where in the file its bytes are."""
    size: int
    """How many they are."""
    value: bytes = b""
    """Of a single number."""

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


@dataclass(slots=True)
class Binary:
    """What one file says, and what is wrong with it."""

    size: int
    version: int = 0
    spec: str = ""
    """The kind of model, such as WhisperSpec; empty: it is none of CTranslate2."""
    revision: int = 0
    variables: dict[str, Variable] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    troubles: list[Finding] = field(default_factory=list)
    read: bool = False
    """Whether the variables are all there is."""

    def get(self, name: str) -> Variable | None:
        """The variable of that name, or the one that it stands for."""
        return self.variables.get(self.aliases.get(name, name))


def spec(start: bytes) -> str:
    """The kind of model that a file which begins with *start* holds; empty: it is none of CTranslate2."""
    if len(start) < 8:
        return ""
    version, length = struct.unpack_from("<IH", start)
    name = start[6 : 6 + length]
    return name[:-1].decode() if 0 < version < 1 << 8 and SPEC.fullmatch(name) else ""


def binary(files: ModelFiles, name: str) -> Binary:
    """What *name* says, read once for the same *files*."""
    kept = _read.setdefault(files, {})
    if name not in kept:
        kept[name] = _binary(files, name)
    return kept[name]


_read: WeakKeyDictionary[ModelFiles, dict[str, Binary]] = WeakKeyDictionary()
"""For as long as somebody holds the listing: metadata and validation ask for the same."""


def _binary(files: ModelFiles, name: str) -> Binary:
    found = Binary(size=files.files.get(name, 0), spec=spec(files.head(name)))
    if not found.spec:
        return found
    path = files.path / name
    try:
        if path.is_file():
            with path.open("rb") as file:
                _walk(found, _Reader(file, found.size), name)
        else:
            _walk(found, _Reader(io.BytesIO(files.head(name, REMOTE_BYTES)), found.size), name)
    except _UnseenError:
        pass
    except _CutError as error:
        text = f"{name} has {found.size} bytes, and {error}: it is cut off or damaged. {AGAIN}"
        found.troubles.append(critical("ctranslate2.truncated", text))
    except ValueError as error:
        found.troubles.append(critical("ctranslate2.bad_header", f"{name}: {error}. {AGAIN}"))
    except OSError as error:
        text = f"{name} cannot be read: {error.strerror or error}. Check its permissions."
        found.troubles.append(critical("ctranslate2.unreadable", text))
    return found


class _Reader:
    """Takes numbers and names from a file, and steps over the rest."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._size, self.place = file, size, 0

    def number(self, kind: str, what: str) -> int:
        data = self.take(struct.calcsize(kind), what)
        return int(struct.unpack(f"<{kind}", data)[0])

    def text(self, what: str) -> str:
        """A name with its length before it and a zero behind it. Raises ValueError."""
        length = self.number("H", what)
        if not 1 < length <= MOST_NAME:
            raise ValueError(f"at byte {self.place} stands {length} for the length of {what}")
        data = self.take(length, what)
        if data[-1] or not data[:-1].isascii():
            raise ValueError(f"{what} at byte {self.place - length} is {data[:30]!r}")
        return data[:-1].decode()

    def take(self, count: int, what: str) -> bytes:
        self._check(count, what)
        data = self._file.read(count)
        if len(data) < count:
            raise _UnseenError
        self.place += count
        return data

    def skip(self, count: int, what: str) -> None:
        self._check(count, what)
        self.place += count
        self._file.seek(self.place)

    def _check(self, count: int, what: str) -> None:
        if self.place + count > self._size:
            raise _CutError(f"{what} would end at byte {self.place + count}")


def _walk(found: Binary, reader: _Reader, name: str) -> None:
    """Fill *found*. Raises _CutError, _UnseenError, ValueError."""
    found.version = reader.number("I", "its version")
    if found.version > NEWEST:
        text = f"{name} has the binary version {found.version}, and {NEWEST} is the newest that is known here."
        found.troubles.append(critical("ctranslate2.newer", f"{text} Update anyform, or convert the model again."))
        return
    if found.version < OLDEST:
        text = f"{name} has the binary version {found.version}, which no Whisper has. Convert the model again."
        found.troubles.append(critical("ctranslate2.older", text))
        return
    reader.text("its kind")
    found.revision = reader.number("I", "its revision")
    count = reader.number("I", "the number of its variables")
    if count > MOST_VARIABLES:
        raise ValueError(f"it says that it has {count} variables; {MOST_VARIABLES} are allowed")
    for number in range(count):
        one = _variable(reader, f"variable {number + 1} of {count}")
        if one.name in found.variables:
            raise ValueError(f"it has the variable {one.name} twice")
        found.variables[one.name] = one
    _aliases(found, reader)
    found.read = True
    if reader.place < found.size:
        text = f"{name} has {found.size} bytes, and its variables end at byte {reader.place}: the rest is nothing."
        found.troubles.append(warning("ctranslate2.too_long", text))


def _variable(reader: _Reader, what: str) -> Variable:
    name = reader.text(f"the name of {what}")
    dimensions = reader.number("B", name)
    if dimensions > MOST_SHAPE:
        raise ValueError(f"{name} has {dimensions} dimensions; {MOST_SHAPE} are allowed")
    shape = tuple(reader.number("I", name) for _ in range(dimensions))
    kind, size = reader.number("B", name), reader.number("I", name)
    if kind not in KINDS:
        raise ValueError(f"{name} is of type {kind}; known are 0 to {max(KINDS)}")
    needs = math.prod(shape) * KINDS[kind][1]
    if size != needs:
        raise ValueError(f"{name} occupies {size} bytes; {KINDS[kind][0]} of shape {list(shape)} needs {needs}")
    begin = reader.place
    if not shape:
        return Variable(name, shape, kind, begin, size, reader.take(size, name))
    reader.skip(size, name)
    return Variable(name, shape, kind, begin, size)


def _aliases(found: Binary, reader: _Reader) -> None:
    """Names that stand for a variable."""
    count = reader.number("I", "the number of its aliases")
    if count > MOST_VARIABLES:
        raise ValueError(f"it says that it has {count} aliases; {MOST_VARIABLES} are allowed")
    for _ in range(count):
        alias, meant = reader.text("an alias"), reader.text("what an alias stands for")
        if meant not in found.variables:
            raise ValueError(f"{alias} stands for {meant}, which is not there")
        found.aliases[alias] = meant
