"""Walks over the fields of a file in protobuf's encoding, whatever its bytes are, in bounded memory and time.

https://protobuf.dev/programming-guides/encoding/; what the fields mean is for others to know.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

MOST_TEXT = 4096
"""Bytes of a name; longer ones are cut."""
MOST_TEXTS = 16 << 20
"""Bytes of all names and texts that are read, one of metadata's among them."""
CHUNK = 1 << 16
LONGEST_VARINT = 10
VARINT, EIGHT, BLOCK, FOUR = 0, 1, 2, 5
"""Kinds of fields."""


class DamagedError(Exception):
    """What is wrong with a file: a code, and a sentence without the file's name."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class UnseenError(Exception):
    """What is asked for lies beyond what was fetched."""


class Reader:
    """One pass over a file's fields. All raises DamagedError, or UnseenError beyond what can be read."""

    def __init__(self, file: IO[bytes], size: int, seen: int, most: int) -> None:
        """*size*: bytes of the file; *seen*: those that can be read; *most*: fields that are read."""
        self._file, self._size, self._seen, self._most = file, size, seen, most
        self._chunk, self._base = b"", 0
        self._left = most
        self._text_left = MOST_TEXTS

    def numbers(self, begin: int, end: int) -> Iterator[int]:
        """Packed ones."""
        place = begin
        while place < end:
            self._spend()
            value, place = self._varint(place, end)
            yield value

    def fields(self, begin: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """(number, kind, value, end) of each field: a number's value; of bytes where they begin and end."""
        place = begin
        while place < end:
            self._spend()
            at = place
            tag, place = self._varint(place, end)
            number, kind = tag >> 3, tag & 7
            if kind == VARINT and number:
                value, place = self._varint(place, end)
                yield number, kind, value, place
                continue
            if kind == BLOCK and number:
                length, place = self._varint(place, end)
            elif kind in (EIGHT, FOUR) and number:
                length = 8 if kind == EIGHT else 4
            else:
                raise DamagedError("damaged", f"at byte {at} stands a field that no protobuf has ({number}, {kind})")
            if length > end - place:
                cut = end == self._size
                text = f"at byte {at} begins a field of {length} bytes, and {end - place} follow"
                raise DamagedError("truncated" if cut else "damaged", f"{text}: it is cut off" if cut else text)
            yield number, kind, place, place + length
            place += length

    def _spend(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise DamagedError("too_many_fields", f"it has more than {self._most} fields, and is not read any further")

    def _varint(self, place: int, end: int) -> tuple[int, int]:
        offset = place - self._base
        if offset < 0 or offset + LONGEST_VARINT > len(self._chunk):
            self._fill(place)
            offset = 0
        value = shift = 0
        for byte in self._chunk[offset : offset + min(LONGEST_VARINT, end - place)]:
            value |= (byte & 127) << shift
            offset += 1
            if byte < 128:
                return value, self._base + offset
            shift += 7
        text = f"at byte {place} stands a number that does not end"
        raise DamagedError("truncated" if end - place < LONGEST_VARINT and end == self._size else "damaged", text)

    def _fill(self, place: int) -> None:
        if place >= self._seen:
            raise (UnseenError if self._seen < self._size else DamagedError("truncated", f"it ends at byte {place}"))
        self._file.seek(place)
        self._chunk, self._base = self._file.read(CHUNK), place
        if not self._chunk:
            raise DamagedError("truncated", f"it ends at byte {place}")

    def text(self, begin: int, end: int, most: int = MOST_TEXT) -> str:
        """What is no UTF-8 becomes question marks."""
        if begin >= self._seen:
            raise UnseenError
        length = min(end - begin, most)
        self._text_left -= length
        if self._text_left < 0:
            raise DamagedError(
                "too_many_fields", f"it has more than {MOST_TEXTS} bytes of names, and is not read further"
            )
        offset = begin - self._base
        if offset >= 0 and offset + length <= len(self._chunk):
            return self._chunk[offset : offset + length].decode("utf-8", "replace")
        self._file.seek(begin)
        return self._file.read(length).decode("utf-8", "replace")
