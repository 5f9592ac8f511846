"""Looks into PyTorch's pickled files for what they would import and call, without unpickling anything.

What torch writes: a ZIP with one `data.pkl` and the raw numbers beside it; before version 1.6 five pickles in a row,
then the numbers. Only what `torch.load(weights_only=True)` takes is let through (torch/_weights_only_unpickler.py).
"""

from __future__ import annotations

import io
import pickletools
import struct
import zipfile
from collections.abc import Iterator, Sequence
from typing import IO

from anyform.contract.facts import Finding, ModelFiles
from anyform.pretrained.layout import is_inside
from anyform_hf_transformers.finding import AGAIN, critical, warning

MOST_PICKLE_BYTES = 32 << 20
MOST_OPCODES = 1 << 20
"""About a second's worth; a shard of 20,000 tensors has 800,000."""
MOST_DIRECTORY_BYTES = 32 << 20
"""The ZIP's list of files: about 100 bytes a tensor."""
LEGACY_PICKLES = 5
ZIP_MAGIC = b"PK\x03\x04"
END = struct.Struct("<4s4H2LH")
"""ZIP's end of central directory record."""
END_MAGIC = b"PK\x05\x06"
END64_LOCATOR, END64_LOCATOR_MAGIC = struct.Struct("<4sLQL"), b"PK\x06\x07"
END64, END64_MAGIC = struct.Struct("<4sQ2H2L4Q"), b"PK\x06\x06"
COMMENT = 1 << 16

TYPES = (
    "Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool", "ComplexFloat",
    "ComplexDouble", "QInt8", "QUInt8", "QInt32", "QUInt4x2", "QUInt2x4",
)  # fmt: skip
DTYPES = (
    "float16", "float32", "float64", "half", "float", "double", "bfloat16", "int8", "int16", "int32", "int64",
    "uint8", "uint16", "uint32", "uint64", "bool", "complex32", "complex64", "complex128", "qint8", "quint8",
    "qint32", "quint4x2", "quint2x4", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz",
    "float8_e8m0fnu", "float4_e2m1fn_x2",
)  # fmt: skip
REBUILDERS = (
    "_rebuild_parameter", "_rebuild_parameter_with_state", "_rebuild_qtensor", "_rebuild_tensor",
    "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_sparse_tensor", "_rebuild_meta_tensor_no_storage",
)  # fmt: skip
ALLOWED = frozenset(
    {
        "collections.OrderedDict", "collections.Counter", "torch.nn.parameter.Parameter", "torch.Size", "torch.Tensor",
        "torch.device", "torch.serialization._get_layout", "torch.storage.UntypedStorage",
        "torch.storage.TypedStorage", "torch._tensor._rebuild_from_type_v2", "torch.per_tensor_affine",
        "torch.per_tensor_symmetric", "torch.per_channel_affine", "torch.per_channel_symmetric",
        "torch.per_channel_affine_float_qparams",
    }
    | {f"torch.{name}" for name in DTYPES}
    | {f"torch.{name}{kind}" for name in TYPES for kind in ("Storage", "Tensor")}
    | {f"torch._utils.{name}" for name in REBUILDERS}
)  # fmt: skip
"""What a file of weights needs: types, and functions that make tensors of numbers."""

REFUSED_OPCODES = frozenset({"STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4", "NEWOBJ_EX"})
"""Further ways to import or make things, which torch's safe loader does not read and weights do not need."""


class _PickleError(Exception):
    """What is wrong with a file: a code and a sentence."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


def check(files: ModelFiles, name: str) -> Iterator[Finding]:
    """What is wrong with one pickled file. Bounded in memory and time, whatever the bytes."""
    size = files.files.get(name, 0)
    try:
        head = files.head(name, 16)
        if not head and size:
            raise _PickleError("unreadable", f"{name} cannot be read. Check its permissions.")
        if head.startswith(ZIP_MAGIC):
            yield from _archive(files, name, size)
        elif head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
            _legacy(files, name)
        else:
            raise _PickleError("not_pytorch", f"{name} begins with {head[:8]!r}: it is no file of PyTorch's. {AGAIN}")
    except _PickleError as wrong:
        yield critical(wrong.code, str(wrong))
    except OSError as error:
        yield critical("unreadable", f"{name} cannot be read: {error.strerror or error}. Check its permissions.")
    except (ValueError, zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError) as error:
        yield critical("bad_archive", f"{name} is damaged: {error}. {AGAIN}")


def _archive(files: ModelFiles, name: str, size: int) -> Iterator[Finding]:
    path = files.path / name
    if not path.is_file():
        text = f"{name} is not on this machine: what it imports is looked at once it is here, before it is loaded."
        yield warning("pickle_unseen", text)
        return
    with path.open("rb") as file:
        _check_directory(file, name, size)
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            pickles = [member for member in members if member.filename.rpartition("/")[2] == "data.pkl"]
            if len(pickles) != 1:
                raise _PickleError(
                    "bad_archive", f"{name} has {len(pickles)} data.pkl, and PyTorch writes one. {AGAIN}"
                )
            if any("/code/" in f"/{member.filename}" for member in members):
                text = f"{name} is a TorchScript program, no weights. Get the weights, as safetensors if it can be."
                raise _PickleError("torchscript", text)
            _check_members(members, name, size)
            if pickles[0].file_size > MOST_PICKLE_BYTES:
                raise _too_big(name, pickles[0].file_size)
            _inspect(io.BytesIO(archive.read(pickles[0])), name)


def _check_members(members: Sequence[zipfile.ZipInfo], name: str, size: int) -> None:
    """That each file lies in the archive as it is, under a name of its own folder, and no two share their bytes."""
    for member in members:
        where = f"{member.filename[:100]!r} in {name}"
        if not is_inside(member.filename):
            raise _PickleError("bad_archive", f"{where} names a place outside of it. Get safetensors instead.")
        if member.compress_type != zipfile.ZIP_STORED or member.header_offset + member.file_size > size:
            raise _PickleError("bad_archive", f"{where} is compressed or lies beyond the file's end. {AGAIN}")
    total = sum(member.file_size for member in members)
    if total > size:
        raise _PickleError("bad_archive", f"the files in {name} come to {total} bytes, and it has {size}. {AGAIN}")


def _check_directory(file: IO[bytes], name: str, size: int) -> None:
    """That the list of files is there and of a sane length, before `zipfile` reads all of it."""
    start = max(0, size - END.size - COMMENT)
    file.seek(start)
    tail = file.read(END.size + COMMENT)
    place = tail.rfind(END_MAGIC)
    if place < 0 or len(tail) - place < END.size:
        raise _PickleError(
            "truncated", f"{name} has no end of an archive after its {size} bytes: it is cut off. {AGAIN}"
        )
    length = END.unpack_from(tail, place)[5]
    locator = place - END64_LOCATOR.size
    if locator >= 0 and tail[locator : locator + 4] == END64_LOCATOR_MAGIC:
        file.seek(min(END64_LOCATOR.unpack_from(tail, locator)[2], size))
        record = file.read(END64.size)
        if len(record) < END64.size or not record.startswith(END64_MAGIC):
            raise _PickleError("bad_archive", f"the end of the archive {name} is damaged. {AGAIN}")
        length = END64.unpack(record)[8]
    if length > min(MOST_DIRECTORY_BYTES, size):
        raise _PickleError("bad_archive", f"{name} has a list of files of {length} bytes. {AGAIN}")


def _legacy(files: ModelFiles, name: str) -> None:
    """Five pickles in a row: a magic number, the protocol, the system, the objects, the keys of their numbers."""
    content = files.head(name, MOST_PICKLE_BYTES)
    stream = io.BytesIO(content)
    for _ in range(LEGACY_PICKLES):
        if stream.tell() == len(content):
            whole = len(content) == files.files.get(name, 0)
            raise (
                _PickleError("truncated", f"{name} ends within its pickles. {AGAIN}")
                if whole
                else _too_big(name, len(content))
            )
        _inspect(stream, name)


def _inspect(stream: IO[bytes], name: str) -> None:
    """Raise _PickleError if the next pickle of *stream* imports what weights do not need."""
    seen: list[str] = []
    try:
        for number, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if number >= MOST_OPCODES:
                raise _PickleError(
                    "pickle_too_big", f"{name} has over {MOST_OPCODES} steps to unpickle: it is not read."
                )
            if isinstance(argument, str) and opcode.name != "GLOBAL":
                seen = [*seen[-1:], argument]
            if opcode.name == "GLOBAL":
                imported = str(argument).replace(" ", ".", 1)
                if imported not in ALLOWED:
                    raise _dangerous(name, imported)
            elif opcode.name in REFUSED_OPCODES:
                said = str(argument).replace(" ", ".", 1) if opcode.name == "INST" else ".".join(seen)
                raise _dangerous(name, said)
    except (ValueError, OverflowError, MemoryError, struct.error) as error:
        raise _PickleError("bad_pickle", f"the pickle in {name} is damaged: {error}. {AGAIN}") from error


def _dangerous(name: str, imported: str) -> _PickleError:
    said = imported if len(imported) <= 100 else f"{imported[:100]}…"
    text = f"{name} imports {said!r}, which weights do not need: it could run anything. Get safetensors instead."
    return _PickleError("dangerous_pickle", text)


def _too_big(name: str, size: int) -> _PickleError:
    text = f"{name} has a pickle of {size} bytes; up to {MOST_PICKLE_BYTES} are inspected. Get safetensors instead."
    return _PickleError("pickle_too_big", text)
