"""The numbers of /api/generate's `context`: a conversation, which this server does not keep, for the client to keep.

MAGIC, bytes, and two halves of their CRC-32, then three bytes a number: zlib over a JSON array of [role, text].
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from typing import Any, NoReturn

from anyform.contract.jobs import Message, Text
from anyform.dialect import WrongValue

MAGIC = 0x616E79
"""No token id: no vocabulary is that large."""
LIMIT_BYTES = 16 * 1024**2
"""Of the JSON."""
ROLES = ("system", "user", "assistant")
_HEAD = 4
_WIDTH = 3


def written(messages: Sequence[Message]) -> list[int]:
    """The texts of *messages*; pictures and thoughts are not kept."""
    plain = [[message.role, message.text] for message in messages]
    data = zlib.compress(json.dumps(plain, ensure_ascii=False, separators=(",", ":")).encode("utf-8"), 1)
    check, padded = zlib.crc32(data), data + b"\0" * (-len(data) % _WIDTH)
    numbers = (int.from_bytes(padded[at : at + _WIDTH], "big") for at in range(0, len(padded), _WIDTH))
    return [MAGIC, len(data), check >> 16, check & 0xFFFF, *numbers]


def read(value: Any) -> tuple[Message, ...]:
    """The messages of such numbers; none where there are no numbers. Raises Invalid."""
    if value is None or value == []:
        return ()
    if not isinstance(value, list) or any(type(number) is not int for number in value):
        _foreign("it is not a list of whole numbers")
    if value[0] != MAGIC or len(value) < _HEAD:
        _foreign("these are token ids, such as Ollama itself gives, and mean nothing to this server")
    return tuple(Message(role=role, parts=(Text(text=text),) if text else ()) for role, text in _pairs(_bytes(value)))


def _bytes(value: list[int]) -> bytes:
    _, length, high, low, *numbers = value
    if not all(0 <= number < 1 << 8 * _WIDTH for number in numbers):
        _foreign("it was changed")
    data = b"".join(number.to_bytes(_WIDTH, "big") for number in numbers)
    whole = 0 <= len(data) - length < _WIDTH and not any(data[length:])
    if not whole or zlib.crc32(data[:length]) != (high << 16) | low:
        _foreign("it was changed, or a part of it is missing")
    unpacker = zlib.decompressobj()
    try:
        plain = unpacker.decompress(data[:length], LIMIT_BYTES)
    except zlib.error:
        _foreign("it was changed")
    if unpacker.unconsumed_tail or not unpacker.eof:
        _foreign(f"it holds more than {LIMIT_BYTES} bytes")
    return plain


def _pairs(data: bytes) -> list[tuple[str, str]]:
    try:
        pairs = [(role, text) for role, text in json.loads(data.decode("utf-8"))]
        for _, text in pairs:
            text.encode("utf-8")
    except (ValueError, TypeError, AttributeError, RecursionError):
        _foreign("it was changed")
    if not all(role in ROLES and isinstance(text, str) for role, text in pairs):
        _foreign("it was changed")
    return pairs


def _foreign(why: str) -> NoReturn:
    raise WrongValue(
        f"Invalid 'context': {why}.",
        "Send back what an answer of this server had in 'context', or the earlier messages to /api/chat.",
        param="context",
    )
