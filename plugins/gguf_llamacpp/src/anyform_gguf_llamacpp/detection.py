"""Which GGUF models lie in a folder: shards, quantizations of one model, and the companions beside them.

Only heads are read, so a remote listing works too.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from anyform.contract.facts import Evidence, FormatMatch, ModelFiles
from anyform_gguf_llamacpp import gguf
from anyform_gguf_llamacpp.cache import ENCODERS
from anyform_gguf_llamacpp.gguf import Header
from anyform_gguf_llamacpp.quantization import file_type_name, rank, split_name

FORMAT = "gguf"
SUFFIX = ".gguf"
HEADS = (4096, 1 << 16, 1 << 20)
"""Bytes read of each file, growing until the keys that tell what it is have been seen."""
WHOLE_HEADS = (*HEADS, 1 << 24)
"""Where two files differ in nothing but what follows the vocabulary."""

SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})$")
GENERIC = frozenset({"", "model", "ggml-model"})
"""Names that say nothing: the folder's serves instead."""

MODEL, VOCABULARY, PROJECTOR, ADAPTER, MATRIX = "model", "vocabulary", "projector", "adapter", "importance matrix"
COMPANION_ORDER = 1000
PROJECTOR_PREFERENCE = ("F16", "BF16", "Q8_0", "F32")


@dataclass(frozen=True, slots=True)
class Candidate:
    """One GGUF as a user sees it: a file, or the shards of one."""

    folder: str
    stem: str
    """The file's name without folder, shard number and suffix."""
    names: tuple[str, ...]
    """The files that are there, shards in order."""
    header: Header
    """As much of the first file's header as was read."""
    kind: str
    shards: int

    @property
    def home(self) -> str:
        """The folder that the model belongs to: its own, or the one above a folder that is named for a quantization."""
        path = PurePosixPath(self.folder)
        bare, quantization = split_name(path.name)
        return str(path.parent) if quantization and not bare else self.folder

    @property
    def bare(self) -> str:
        """The stem without its quantization."""
        return split_name(self.stem)[0]


def detect(files: ModelFiles) -> list[FormatMatch]:
    """One match a model, (name, variant) unlike any other; companions only where no model is beside them."""
    candidates = [_candidate(files, names) for names in _grouped(_ggufs(files))]
    homes: dict[str, list[Candidate]] = {}
    for one in candidates:
        homes.setdefault(one.home, []).append(one)
    matches = [match for group in homes.values() for match in _together(files, group)]
    taken = Counter((match.name, match.variant) for match in matches)
    return [
        replace(match, variant=_place(match.entry)) if taken[match.name, match.variant] > 1 else match
        for match in matches
    ]


def kind_of(header: Header, name: str) -> str:
    """MODEL, VOCABULARY, PROJECTOR, ADAPTER or MATRIX; *name*: the file's, for projectors that do not say it."""
    stated = header.text("general.type")
    if stated == "mmproj" or header.architecture == "clip" or PurePosixPath(name).name.lower().startswith("mmproj"):
        return PROJECTOR
    if stated == "adapter" or header.text("adapter.type"):
        return ADAPTER
    if stated == "imatrix":
        return MATRIX
    return VOCABULARY if header.version and not header.tensor_count and "split.count" not in header.keys else MODEL


def missing_shards(entry: str, present: Iterable[str]) -> list[str]:
    """The shards that belong to *entry*, by its name, and are not among *present*."""
    parts = SHARD.match(_stem(entry))
    if parts is None:
        return []
    count, folder = int(parts["count"]), PurePosixPath(entry).parent
    there = set(present)
    wanted = [str(folder / f"{parts['stem']}-{number:05}-of-{count:05}{SUFFIX}") for number in range(1, count + 1)]
    return [name for name in wanted if name not in there]


def _ggufs(files: ModelFiles) -> list[str]:
    """Files named .gguf, and files without a telling suffix that begin as a GGUF does (Ollama's blobs)."""
    return [name for name in files.files if name.lower().endswith(SUFFIX) or _is_blob(files, name)]


def _is_blob(files: ModelFiles, name: str) -> bool:
    path = PurePosixPath(name)
    if path.suffix not in ("", ".bin", ".ggml") or files.files[name] < gguf.FIRST.size:
        return False
    return files.head(name, 4) == gguf.MAGIC


def _stem(name: str) -> str:
    path = PurePosixPath(name)
    return path.stem if path.suffix.lower() in (SUFFIX, ".bin", ".ggml") else path.name


def _grouped(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Shards of one model together, by number; every other file by itself."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for name in names:
        parts = SHARD.match(_stem(name))
        key = (str(PurePosixPath(name).parent), parts["stem"], parts["count"]) if parts else (name, "", "")
        groups.setdefault(key, []).append(name)
    return [tuple(sorted(group)) for group in groups.values()]


def _candidate(files: ModelFiles, names: tuple[str, ...]) -> Candidate:
    parts = SHARD.match(_stem(names[0]))
    stem = parts["stem"] if parts else _stem(names[0])
    shards = int(parts["count"]) if parts else 1
    header = _head(files, names[0], HEADS, _tells_kind)
    kind = MODEL if parts and kind_of(header, stem) == VOCABULARY else kind_of(header, stem)
    return Candidate(str(PurePosixPath(names[0]).parent), stem, names, header, kind, shards)


def _head(
    files: ModelFiles, name: str, sizes: Sequence[int], enough: Callable[[Header], bool] = lambda header: False
) -> Header:
    """The header as far as the growing heads show it, up to the point where *enough* says so."""
    size = files.files[name]
    header = Header(size=size)
    for length in sizes:
        header = gguf.parse(files.head(name, length), size)
        cut = header.trouble is not None and header.trouble.code == "gguf.truncated" and length < size
        if not cut or enough(header):
            break
    return header


def _tells_kind(header: Header) -> bool:
    general = "general.type" in header.keys or any(not key.startswith("general.") for key in header.keys)
    return bool(header.architecture) and general


def _together(files: ModelFiles, group: Sequence[Candidate]) -> list[FormatMatch]:
    """Matches of what lies in one folder."""
    models = [one for one in group if one.kind == MODEL]
    projectors = [one for one in group if one.kind == PROJECTOR]
    shown = [one for one in group if one.kind in (MODEL, VOCABULARY)] if models else group
    return [
        _match(files, one, group, _projector(one, models, projectors))
        if one.kind in (MODEL, VOCABULARY)
        else _companion(one)
        for one in shown
    ]


def _match(files: ModelFiles, one: Candidate, group: Sequence[Candidate], projector: Candidate | None) -> FormatMatch:
    variant = split_name(one.stem)[1]
    if not variant and sum(other.bare == one.bare for other in group) > 1:
        variant = _stated_quantization(files, one) or one.stem
    return FormatMatch(
        format=FORMAT,
        entry=one.names[0],
        files=one.names + ((projector.names[0],) if projector else ()),
        evidence=Evidence.MAGIC if one.header.version else Evidence.NAME,
        why=_why(one, variant),
        name="" if one.bare.lower() in GENERIC else one.bare,
        variant=variant,
        order=rank(variant) + (COMPANION_ORDER if one.kind == VOCABULARY else 0),
    )


def _place(entry: str) -> str:
    """What tells a file apart when its quantization does not: its folder and name."""
    folder = PurePosixPath(entry).parent
    return _stem(entry) if str(folder) == "." else f"{folder}/{_stem(entry)}"


def _stated_quantization(files: ModelFiles, one: Candidate) -> str:
    header = one.header
    if "general.file_type" not in header.keys:
        header = _head(files, one.names[0], WHOLE_HEADS)
    return file_type_name(header.keys.get("general.file_type"))


def _projector(one: Candidate, models: Sequence[Candidate], projectors: Sequence[Candidate]) -> Candidate | None:
    """The projector that serves *one*: one named like it, or any where only one model lies beside it."""
    if one.kind != MODEL or one.header.architecture in ENCODERS:
        return None
    named = [other for other in projectors if _owner(other) == one.bare.lower()]
    alone = len({model.bare for model in models}) == 1
    return min(named or (projectors if alone else ()), key=_projector_rank, default=None)


def _owner(projector: Candidate) -> str:
    """The model's name within `mmproj-NAME-F16` or `NAME-mmproj-F16`; may be ""."""
    return re.sub(r"[-._]?mmproj[-._]?", "", projector.bare.lower())


def _projector_rank(projector: Candidate) -> tuple[int, str]:
    quantization = split_name(projector.stem)[1]
    known = quantization in PROJECTOR_PREFERENCE
    return PROJECTOR_PREFERENCE.index(quantization) if known else len(PROJECTOR_PREFERENCE), projector.stem


def _companion(one: Candidate) -> FormatMatch:
    return FormatMatch(
        format=FORMAT,
        entry=one.names[0],
        files=one.names,
        evidence=Evidence.MAGIC if one.header.version else Evidence.NAME,
        why=f"GGUF version {one.header.version}, but {_article(one.kind)}, not a model",
        name=one.stem,
        order=2 * COMPANION_ORDER,
    )


def _article(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def _why(one: Candidate, quantization: str) -> str:
    header = one.header
    if not header.version:
        return "the file's name ends in .gguf" if header.size else "an empty file named .gguf"
    said = f"GGUF version {header.version}"
    parts = [said, header.architecture, quantization, f"{one.shards} shards" if one.shards > 1 else ""]
    if one.kind == VOCABULARY:
        parts.append("a vocabulary without a model")
    return ", ".join(part for part in parts if part)
