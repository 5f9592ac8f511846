"""Kokoro's voices: who they are by their ids, and the archive or the files that hold their styles. Never unpickles.

Ids: a letter of the language, f or m, then a name (https://huggingface.co/hexgrad/Kokoro-82M/blob/main/VOICES.md). An
archive is what `numpy.savez` writes: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html.
"""

from __future__ import annotations

import math
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

from anyform.contract.facts import Finding, ModelFiles
from anyform_audio.finding import AGAIN, critical, warning

LANGUAGES = {
    "a": ("American", "en-US"), "b": ("British", "en-GB"), "e": ("Spanish", "es"), "f": ("French", "fr-FR"),
    "h": ("Hindi", "hi"), "i": ("Italian", "it"), "j": ("Japanese", "ja"), "p": ("Brazilian", "pt-BR"),
    "z": ("Mandarin", "zh"),
}  # fmt: skip
SEXES = {"f": "Female", "m": "Male"}
ID = re.compile(r"(?P<language>[abefhijpz])(?P<sex>[fm])(?:_(?P<name>.+))?")

ROWS, WIDTH = (510, 511), 256
"""A row for each number of tokens (v0.19 had one more) and its length."""
FLOAT_BYTES = 4
MOST_VOICES = 4096
MOST_DIRECTORY_BYTES = 1 << 20
"""The archive's list: about 100 bytes a voice."""
MOST_BYTES = 512 << 20
"""Of all voices together; 103 of them have 54 MB."""
MOST_HEADER_BYTES = 1024
END = struct.Struct("<4s4H2LH")
"""ZIP's end of central directory record."""
END_MAGIC, ZIP_MAGIC, NPY_MAGIC = b"PK\x05\x06", b"PK\x03\x04", b"\x93NUMPY"
COMMENT = 1 << 16
CHUNK = 1 << 20
PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Others may ask for any amount of memory before the first byte."""
ARRAY = ".npy"
READABLE = ("<f4", "<f2", "<f8")
"""Types of numbers that are made F32 without loss that matters."""


class ArchiveError(Exception):
    """What is wrong with an archive of voices: a code and a sentence."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


def told(ids: Iterable[str]) -> list[dict[str, str]]:
    """`id`, `name`, `language` of each voice; an id of another kind is its own name, without a language."""
    return [_told(id) for id in ids]


def _told(id: str) -> dict[str, str]:
    known = ID.fullmatch(id)
    if known is None:
        return {"id": id, "name": id.replace("_", " ").strip().title() or id, "language": ""}
    people, language = LANGUAGES[known["language"]]
    who = f"{people} {SEXES[known['sex']]}"
    name = (known["name"] or "").replace("_", " ").strip().title()
    return {"id": id, "name": f"{name} ({who})" if name else who, "language": language}


def ids(files: ModelFiles, names: Sequence[str]) -> list[str]:
    """The ids of the voices in *names*, an archive or files of one voice each; empty where they cannot be told."""
    if len(names) == 1 and not is_single(names[0]):
        try:
            return archived(files.path / names[0])
        except (ArchiveError, OSError):
            return []
    return [PurePosixPath(name).stem for name in names]


def bytes_of(files: ModelFiles, names: Sequence[str]) -> int:
    """What the voices take once they are loaded: about what their files have."""
    return sum(files.files.get(name, 0) for name in names)


def is_single(name: str) -> bool:
    """Whether a file of voices holds one voice: then it lies in a folder called voices."""
    return PurePosixPath(name).parent.name == "voices"


def archived(path: Path) -> list[str]:
    """The ids in an archive, sorted. Reads only its list. Raises ArchiveError, OSError."""
    with path.open("rb") as file, _opened(file, path) as archive:
        return sorted({one.filename.removesuffix(ARRAY) for one in archive.infolist() if one.filename.endswith(ARRAY)})


def is_archive(head: bytes) -> bool:
    """Whether a file that begins so is an archive whose first file is an array."""
    if not head.startswith(ZIP_MAGIC) or len(head) < 30:
        return False
    (length,) = struct.unpack_from("<H", head, 26)
    return head[30 : 30 + length].endswith(ARRAY.encode())


def check(files: ModelFiles, names: Sequence[str]) -> Iterator[Finding]:
    """What is wrong with the voices in *names*. Their numbers are read only for the archive's checksums."""
    if len(names) == 1 and not is_single(names[0]):
        yield from _check_archive(files, names[0])
        return
    for name in names:
        there = files.files.get(name, 0)
        if there not in {rows * WIDTH * FLOAT_BYTES for rows in ROWS}:
            wanted = ROWS[0] * WIDTH * FLOAT_BYTES
            text = f"{name} has {there} bytes, and a voice has {wanted}: {ROWS[0]} rows of {WIDTH} F32. {AGAIN}"
            yield critical("kokoro.bad_voice", text)


def _check_archive(files: ModelFiles, name: str) -> Iterator[Finding]:
    path = files.path / name
    if not path.is_file():
        yield warning("kokoro.unseen", f"{name} is not on this machine: its voices are looked at once it is here.")
        return
    try:
        with path.open("rb") as file, _opened(file, path) as archive:
            members = archive.infolist()
            arrays = [one for one in members if one.filename.endswith(ARRAY)]
            if not arrays:
                yield critical("kokoro.no_voices", f"{name} holds no voice: none of its files is an array. {AGAIN}")
            for one in members:
                if one not in arrays:
                    text = f"{one.filename!r:.100} in {name} is no array, and is not offered as a voice."
                    yield warning("kokoro.no_voice", text)
            for one in arrays:
                yield from _check_voice(archive, one, name)
    except ArchiveError as wrong:
        yield critical(f"kokoro.{wrong.code}", str(wrong))
    except OSError as error:
        yield critical("kokoro.unreadable", f"{name} cannot be read: {error.strerror or error}. Check its permissions.")
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError, ValueError) as error:
        yield critical("kokoro.bad_archive", f"{name} is damaged: {error}. {AGAIN}")


def _opened(file: IO[bytes], path: Path) -> zipfile.ZipFile:
    """The archive, once its end is known to be there and its list is of a sane length. Raises ArchiveError, OSError."""
    size = path.stat().st_size
    start = file.read(len(ZIP_MAGIC))
    if start != ZIP_MAGIC:
        said = f"{path.name} begins with {start!r}: it is no archive of voices, as numpy writes it."
        hint = "Get voices-v1.0.bin from where the model came; the voices of other programs are not read."
        raise ArchiveError("bad_archive" if size else "truncated", f"{said} {hint}")
    file.seek(max(0, size - END.size - COMMENT))
    tail = file.read(END.size + COMMENT)
    place = tail.rfind(END_MAGIC)
    if place < 0 or len(tail) - place < END.size:
        raise ArchiveError("truncated", f"{path.name} has no end after its {size} bytes: it is cut off. {AGAIN}")
    count, length = END.unpack_from(tail, place)[4:6]
    if length > min(MOST_DIRECTORY_BYTES, size) or count > MOST_VOICES:
        raise ArchiveError("bad_archive", f"{path.name} lists {count} files in {length} bytes. {AGAIN}")
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError) as error:
        raise ArchiveError("bad_archive", f"{path.name} is damaged: {error}. {AGAIN}") from error
    if sum(one.file_size for one in archive.infolist()) > MOST_BYTES:
        raise ArchiveError("bad_archive", f"{path.name} holds more than {MOST_BYTES} bytes of voices. {AGAIN}")
    return archive


def _check_voice(archive: zipfile.ZipFile, one: zipfile.ZipInfo, name: str) -> Iterator[Finding]:
    where = f"the voice {one.filename.removesuffix(ARRAY)!r:.100} in {name}"
    if one.compress_type not in PACKINGS:
        text = f"{where} is packed in a way that numpy does not write ({one.compress_type}). {AGAIN}"
        yield critical("kokoro.bad_archive", text)
        return
    with archive.open(one) as file:
        start = file.read(10)
        start += file.read(2) if start[6:7] == b"\2" else b""
        if start[:6] != NPY_MAGIC or start[6:7] not in (b"\1", b"\2") or len(start) < (10 if start[6] == 1 else 12):
            yield critical("kokoro.bad_voice", f"{where} begins with {start[:6]!r}: it is no array. {AGAIN}")
            return
        length = int.from_bytes(start[8:], "little")
        header = file.read(min(length, MOST_HEADER_BYTES)).decode("latin-1")
        place = len(start) + length
        yield from _check_header(header, one.file_size - place, where)
        while file.read(CHUNK):
            pass


def _check_header(header: str, there: int, where: str) -> Iterator[Finding]:
    """*there*: bytes that follow the header."""
    kind, sides = re.search(r"'descr':\s*'([^']*)'", header), re.search(r"'shape':\s*\(([\d, ]*)\)", header)
    if "O" in (kind[1] if kind else "O"):
        said = repr(kind[1]) if kind else "something else than a type of numbers"
        text = f"{where} holds {said}, which could run anything when it is read. Get voices that are numbers."
        yield critical("kokoro.dangerous_voice", text)
        return
    shape = [int(side) for side in re.findall(r"\d+", sides[1])] if sides else []
    if kind is None or kind[1] not in READABLE:
        said = kind[1] if kind else ""
        yield critical("kokoro.bad_voice", f"{where} is of type {said!r:.40}; read are {', '.join(READABLE)}. {AGAIN}")
    elif len(shape) != 3 or shape[1:] != [1, WIDTH] or not shape[0]:
        text = f"{where} has the shape {shape[:8]}; a voice has [{ROWS[0]}, 1, {WIDTH}]. Get the voices of this model."
        yield critical("kokoro.bad_voice", text)
    elif math.prod(shape) * int(kind[1][2:]) != there:
        needed = math.prod(shape) * int(kind[1][2:])
        yield critical("kokoro.bad_voice", f"{where} has {there} bytes, and its shape needs {needed}. {AGAIN}")
    elif shape[0] < ROWS[0]:
        text = f"{where} has {shape[0]} rows, and a model has {ROWS[0]}: long sentences are spoken with its last one."
        yield warning("kokoro.short_voice", text)
