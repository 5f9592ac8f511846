"""Whether a GGUF is sound: everything that llama.cpp would refuse or crash on, found before it sees the file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from anyform.contract.facts import Finding, FormatMatch, ModelFiles
from anyform.finding import condensed
from anyform_gguf_llamacpp import gguf, network, projector, vocabulary
from anyform_gguf_llamacpp.detection import MODEL, PROJECTOR, SHARD, VOCABULARY, kind_of, missing_shards
from anyform_gguf_llamacpp.finding import critical, warning
from anyform_gguf_llamacpp.gguf import ALIGNMENT, KNOWN_VERSIONS, MAX_NAME_BYTES, Buffer, Header, Tensor
from anyform_gguf_llamacpp.quantization import NOT_WEIGHTS, TENSOR_TYPES

UINT16, INT32, UINT32 = 2, 5, 4
MAX_ELEMENTS = (1 << 63) - 1
AGAIN = "Copy or download the file again."
LATER = "Only that much was fetched to look at it: the rest is checked once the file is here."
ALWAYS_F32 = ("token_types.weight",)
"""Matrices that are added by element: ggml's CPU kernels abort unless they are F32. So it is with all vectors."""
TOKEN_TABLE = "tid2eid.weight"
"""The one kind of weight that holds whole numbers."""


def validate(files: ModelFiles, match: FormatMatch) -> list[Finding]:
    """Findings for all files of *match*. Bounded: headers only, no weights; see `gguf` for the limits."""
    return list(condensed(_findings(files, match)))


def _findings(files: ModelFiles, match: FormatMatch) -> Iterator[Finding]:
    yield from _missing_shards(files, match)
    headers: dict[str, Header] = {}
    for name in match.files:
        if name not in files.files:
            continue
        try:
            with gguf.opened(files, name) as (header, buffer):
                if header.trouble is not None and len(buffer) < header.size:
                    yield warning("header_unseen", f"{name} has a header of over {len(buffer)} bytes. {LATER}")
                    continue
                headers[name] = header
                yield from _file(header, name)
                if header.trouble is None:
                    yield from _meaning(header, buffer, name, match)
        except OSError as error:
            yield critical("unreadable", f"{name} cannot be read: {error.strerror or error}. Check its permissions.")
    yield from _whole(headers, match)


def _meaning(header: Header, buffer: Buffer, name: str, match: FormatMatch) -> Iterator[Finding]:
    """What is wrong with what a readable header says."""
    kind = kind_of(header, name)
    if name == match.entry and kind == MODEL:
        yield from network.check(header)
        yield from vocabulary.check(header, buffer)
    elif name != match.entry and kind == PROJECTOR:
        yield from projector.check(header)


def _file(header: Header, name: str) -> Iterator[Finding]:
    """What is wrong with one file by itself."""
    if header.trouble is not None:
        yield critical(header.trouble.code.removeprefix("gguf."), f"{name}: {header.trouble.text}")
    if not header.version:
        return
    if header.version > KNOWN_VERSIONS[-1] and header.version & 0xFFFF:
        text = f"{name} has GGUF version {header.version}; known are 2 and 3. The engine may refuse it: update it."
        yield warning("unknown_version", text)
    for key in header.duplicates:
        yield critical("duplicate_key", f"{name} has the key {key!r} twice. {AGAIN}")
    if "" in header.keys:
        yield critical("empty_key", f"{name} has a key without a name. {AGAIN}")
    yield from _alignment(header, name)
    if header.trouble is None:
        yield from _tensors(header, name)


def _alignment(header: Header, name: str) -> Iterator[Finding]:
    key = "general.alignment"
    if key not in header.keys:
        return
    if header.kinds[key] != (UINT32,):
        yield critical("wrong_type", f"{name}: {key} is {gguf.type_words(header.kinds[key])}, not uint32.")
        return
    stated = header.integer(key) or 0
    if stated == 0 or stated & (stated - 1) or stated % ALIGNMENT:
        # ggml maps tensors where they lie and aborts unless they lie on multiples of 32.
        text = f"{name}: {key} is {stated}; it has to be a power of two of at least {ALIGNMENT}."
        yield critical("bad_alignment", text)


def _tensors(header: Header, name: str) -> Iterator[Finding]:
    seen: set[str] = set()
    expected = 0
    for tensor in header.tensors:
        where = f"{name}: tensor {tensor.name!r}"
        if tensor.name in seen:
            yield critical("duplicate_tensor", f"{where} is there twice. {AGAIN}")
        seen.add(tensor.name)
        if len(tensor.name.encode()) > MAX_NAME_BYTES:
            yield critical("tensor_name_too_long", f"{where} has a name of over {MAX_NAME_BYTES} bytes.")
        trouble = _shape(tensor, where) or _type(tensor, where)
        if trouble is not None:
            yield trouble
            return  # where the next ones belong is not known
        size = tensor.size or 0
        yield from _place(header, tensor, size, expected, where)
        expected += -(-size // header.alignment) * header.alignment


def _shape(tensor: Tensor, where: str) -> Finding | None:
    shape = " x ".join(map(str, tensor.shape))
    if 0 in tensor.shape:
        return critical("bad_shape", f"{where} has the empty shape {shape}. {AGAIN}")
    if tensor.elements * 8 > MAX_ELEMENTS:
        return critical("bad_shape", f"{where} has the impossible shape {shape}. {AGAIN}")
    return None


def _type(tensor: Tensor, where: str) -> Finding | None:
    known = TENSOR_TYPES.get(tensor.kind)
    if known is None and tensor.kind > max(TENSOR_TYPES):
        text = f"{where} has type {tensor.kind}, newer than this plugin: it cannot be checked, the engine may know it."
        return warning("unknown_tensor_type", text)
    if known is None:
        return critical("bad_tensor_type", f"{where} has type {tensor.kind}, which was removed. Convert it again.")
    if tensor.size is None:
        row = tensor.shape[0] if tensor.shape else 1
        text = f"{where} has rows of {row} elements; {known.name} needs multiples of {known.block}."
        return critical("bad_tensor_type", text)
    vector = len(tensor.shape) < 2 and tensor.name.endswith((".weight", ".bias", ".scale"))
    if (vector or tensor.name in ALWAYS_F32) and known.name != "F32":
        return critical("bad_tensor_type", f"{where} is {known.name}; vectors and token types have to be F32.")
    if known.name in NOT_WEIGHTS and tensor.name.endswith(".weight") and not tensor.name.endswith(TOKEN_TABLE):
        return critical("bad_tensor_type", f"{where} is {known.name}, which is no type for weights.")
    return None


def _place(header: Header, tensor: Tensor, size: int, expected: int, where: str) -> Iterator[Finding]:
    end = header.data_offset + tensor.offset + size
    if end > header.size:
        text = f"{where} ends at byte {end}, the file at {header.size}: it is truncated. {AGAIN}"
        yield critical("tensor_beyond_file", text)
    if tensor.offset % header.alignment:
        text = f"{where} lies at offset {tensor.offset}, no multiple of {header.alignment}. {AGAIN}"
        yield critical("tensor_misaligned", text)
    elif tensor.offset != expected:
        yield critical("tensor_misplaced", f"{where} lies at offset {tensor.offset} instead of {expected}. {AGAIN}")


def _missing_shards(files: ModelFiles, match: FormatMatch) -> Iterator[Finding]:
    for name in missing_shards(match.entry, files.files):
        yield critical("missing_shard", f"{name} is missing: all shards have to lie in one folder. Fetch it.")


def _whole(headers: Mapping[str, Header], match: FormatMatch) -> Iterator[Finding]:
    """What is wrong with the files together."""
    first = headers.get(match.entry)
    if first is None or not first.version or first.trouble is not None:
        return
    kind = kind_of(first, match.entry)
    if kind == VOCABULARY:
        text = f"{match.entry} has only a vocabulary and no weights: it cannot answer. Get the whole model."
        yield critical("vocab_only", text)
    elif kind != MODEL:
        what = "an" if kind[0] in "aeiou" else "a"
        text = f"{match.entry} is {what} {kind}, no model by itself: put it beside the model it belongs to"
        hint = " or name it in the option lora." if kind == "adapter" else "."
        yield critical("companion", text + hint)
    else:
        shards = {name: header for name, header in headers.items() if _is_shard(name, header, match)}
        yield from _shards(shards, match.entry)


def _is_shard(name: str, header: Header, match: FormatMatch) -> bool:
    return name == match.entry or (_shard_name(name) is not None and kind_of(header, name) != PROJECTOR)


def _shard_name(name: str) -> re.Match[str] | None:
    return SHARD.match(PurePosixPath(name).stem)


def _shards(shards: Mapping[str, Header], entry: str) -> Iterator[Finding]:
    """Whether the shards' own marks agree with their names and with each other."""
    named = _shard_name(entry)
    stated = shards[entry].integer("split.count") or 1
    count = int(named["count"]) if named else 1
    if stated != count:
        text = f"{entry} says it is one of {stated} shards; its name says {count}. Give the files their own names back."
        yield critical("shard_mismatch", text)
        return
    if count == 1:
        return
    total = 0
    for name, header in shards.items():
        total += len(header.tensors)
        yield from _marks(name, header, count)
    said = shards[entry].integer("split.tensors.count")
    if len(shards) == count and said is not None and said != total:
        yield critical("shard_mismatch", f"{entry} says the model has {said} tensors; its shards have {total}. {AGAIN}")
    names = Counter(tensor.name for header in shards.values() for tensor in header.tensors)
    for twice in (name for name, times in names.items() if times > 1):
        yield critical("duplicate_tensor", f"tensor {twice!r} is in two shards. {AGAIN}")


def _marks(name: str, header: Header, count: int) -> Iterator[Finding]:
    parts = _shard_name(name)
    number = int(parts["number"]) - 1 if parts else 0
    for key, kind, wanted in (("split.no", UINT16, number), ("split.count", UINT16, count)):
        if header.kinds.get(key) != (kind,) or header.keys[key] != wanted:
            text = f"{name}: {key} is {header.keys.get(key)!r} where its name says {wanted}. Give it its own name back."
            yield critical("shard_mismatch", text)
    key = "split.tensors.count"
    if number == 0 and header.kinds.get(key) != (INT32,):
        yield critical("shard_mismatch", f"{name}: {key} is missing or no int32. {AGAIN}")
