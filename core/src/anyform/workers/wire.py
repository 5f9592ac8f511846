"""Facts as frames. A frame is two little-endian u32 lengths, a JSON head and raw bytes.

A fact becomes `{"$": "jobs.Chat", field: value, ...}` with default-valued fields left out; `bytes` become
`{"$b": [offset, length]}` into the raw part. No pickle: a frame can only make facts of the contract.
"""

from __future__ import annotations

import dataclasses
import json
import socket
import struct
import typing
from collections.abc import Callable, Mapping
from enum import IntEnum
from types import ModuleType
from typing import Any

from anyform.contract import events, facts, jobs
from anyform.contract.errors import Fault
from anyform.contract.events import Event

LENGTHS = struct.Struct("<II")
MAX_HEAD = 256 << 20
MAX_BLOB = 1 << 30

Convert = Callable[[Any, bytes], Any]
_MISSING = dataclasses.MISSING
_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=True)


class _Form:
    """How one fact class is written and read: its wire name, and a converter for each field."""

    __slots__ = ("cls", "fields", "name", "readers")

    def __init__(self, name: str, cls: type) -> None:
        self.name, self.cls = name, cls
        hints = typing.get_type_hints(cls)
        own = dataclasses.fields(cls)
        self.fields = tuple((field.name, _default(field)) for field in own)
        self.readers: dict[str, Convert] = {field.name: _reader(hints[field.name]) for field in own}


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default_factory() if field.default_factory is not _MISSING else field.default


def _reader(hint: Any) -> Convert:
    """How to turn JSON back into a field of type *hint*. Mappings are opaque JSON; lists elsewhere are tuples."""
    if isinstance(hint, type) and issubclass(hint, IntEnum):
        return lambda value, _: hint(value)
    arms = typing.get_args(hint) if not _is_mapping(hint) else (hint,)
    for arm in (hint, *arms):
        if _is_mapping(arm):
            by_number = typing.get_args(arm)[:1] == (int,)
            return (lambda value, _: {int(k): v for k, v in value.items()}) if by_number else (lambda value, _: value)
    return _revive


def _is_mapping(hint: Any) -> bool:
    origin = typing.get_origin(hint)
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _forms(*modules: ModuleType) -> dict[str, _Form]:
    found: dict[str, _Form] = {}
    for module in modules:
        room = module.__name__.rpartition(".")[2]
        for name, cls in vars(module).items():
            if isinstance(cls, type) and dataclasses.is_dataclass(cls) and cls.__module__ == module.__name__:
                found[f"{room}.{name}"] = _Form(f"{room}.{name}", cls)
    return found


def pack(value: Any) -> bytes:
    """One frame holding *value*: a fact, a Fault, or JSON-shaped data with facts and bytes in it.

    Raises TypeError for anything else (such as a set or a foreign object in a Mapping field).
    """
    blobs: list[bytes] = []
    head = _encoder.encode(_plain(value, blobs)).encode("utf-8", "surrogatepass")
    blob = b"".join(blobs)
    return LENGTHS.pack(len(head), len(blob)) + head + blob


def _plain(value: Any, blobs: list[bytes]) -> Any:
    if value is None or isinstance(value, str | int | float):
        return value
    form = _BY_CLASS.get(type(value))
    if form is not None:
        out: dict[str, Any] = {"$": form.name}
        for name, default in form.fields:
            item = getattr(value, name)
            if item is not default and item != default:
                out[name] = _plain(item, blobs)
        return out
    if isinstance(value, bytes | bytearray | memoryview):
        start = sum(map(len, blobs))
        blobs.append(bytes(value))
        return {"$b": [start, len(blobs[-1])]}
    if isinstance(value, tuple | list):
        return [_plain(item, blobs) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item, blobs) for key, item in value.items()}
    if isinstance(value, Fault):
        return {"$fault": value.as_dict()}
    raise TypeError(f"{type(value).__name__} cannot cross the wire; facts hold JSON values and bytes only")


def unpack(head: bytes, blob: bytes = b"") -> Any:
    """What `pack` was given. Faults are returned, not raised; lists outside Mapping fields come back as tuples."""
    return _revive(json.loads(head), blob)


def _revive(value: Any, blob: bytes) -> Any:
    if isinstance(value, dict):
        if "$" in value:
            return _fact(_BY_NAME[value.pop("$")], value, blob)
        if "$b" in value:
            start, size = value["$b"]
            return blob[start : start + size]
        if "$fault" in value:
            return Fault.revive(value["$fault"])
        return {key: _revive(item, blob) for key, item in value.items()}
    if isinstance(value, list):
        return tuple(_revive(item, blob) for item in value)
    return value


def _fact(form: _Form, fields: dict[str, Any], blob: bytes) -> Any:
    readers = form.readers
    for name, item in fields.items():
        if item.__class__ is not str:
            fields[name] = readers[name](item, blob)
    return form.cls(**fields)


_BY_NAME = _forms(facts, jobs, events)
_BY_CLASS = {form.cls: form for form in _BY_NAME.values()}


class Decoder:
    """Bytes in any pieces -> whole values. Holds the unfinished rest."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Any]:
        """The values that *data* completes. Raises ValueError on a frame over the size limits."""
        buffer = self._buffer
        buffer += data
        values: list[Any] = []
        start = 0
        while len(buffer) - start >= LENGTHS.size:
            head, blob = LENGTHS.unpack_from(buffer, start)
            if head > MAX_HEAD or blob > MAX_BLOB:
                raise ValueError(f"frame of {head} + {blob} bytes is over the limit")
            body = start + LENGTHS.size
            end = body + head + blob
            if len(buffer) < end:
                break
            values.append(unpack(bytes(buffer[body : body + head]), bytes(buffer[body + head : end])))
            start = end
        del buffer[:start]
        return values


class Channel:
    """A connected socket that sends and receives whole values. A reset counts as the end of the stream."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._decoder = Decoder()
        self._ready: list[Any] = []
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, value: Any) -> None:
        """Blocks while the other side is slow. Raises OSError when it has gone."""
        self.socket.sendall(pack(value))

    def receive(self) -> Any:
        """The next value; blocks. Raises EOFError when the other side has gone, TimeoutError as the socket does."""
        while not self._ready:
            try:
                data = self.socket.recv(1 << 16)
            except ConnectionError:
                data = b""
            if not data:
                raise EOFError("the other side closed the connection")
            self._ready = self._decoder.feed(data)
        return self._ready.pop(0)

    def close(self) -> None:
        self.socket.close()


def is_event(value: Any) -> typing.TypeGuard[Event]:
    """Whether *value* is one of the contract's events."""
    return isinstance(value, Event.__args__)
