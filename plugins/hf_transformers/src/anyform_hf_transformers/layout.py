"""Which files of a folder are weights, and which belong to them: by names alone, as transformers writes them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from anyform.pretrained.layout import is_inside

SAFETENSORS, PYTORCH, PEFT = "safetensors", "pytorch", "peft"
ADAPTER_CONFIG = "adapter_config.json"
PIPELINE = "model_index.json"
"""What marks a diffusers folder, whose parts look like models of their own."""

_VARIANT = r"(?:\.(?P<variant>[A-Za-z0-9_]+))?"
_SHARD = r"(?:-(?P<number>\d{5})-of-(?P<count>\d{5}))?"
PATTERNS: Sequence[tuple[str, re.Pattern[str]]] = (
    (SAFETENSORS, re.compile(rf"model{_VARIANT}{_SHARD}\.safetensors")),
    (PYTORCH, re.compile(rf"pytorch_model{_VARIANT}{_SHARD}\.bin")),
)
INDEXES: Sequence[tuple[str, re.Pattern[str]]] = (
    (SAFETENSORS, re.compile(rf"model\.safetensors\.index{_VARIANT}\.json")),
    (PYTORCH, re.compile(rf"pytorch_model\.bin\.index{_VARIANT}\.json")),
)
"""transformers' SAFE_WEIGHTS_NAME and kin, with `_add_variant` (modeling_utils.py)."""
ADAPTERS = ("adapter_model.safetensors", "adapter_model.bin")

PICKLED = ".bin"


@dataclass(frozen=True, slots=True)
class Weights:
    """One set of weights in a folder: a file, or shards, with or without an index."""

    format: str
    variant: str
    """As the files' names have it, such as `fp16`; empty: the main one."""
    names: tuple[str, ...]
    """The files that are there, without folder, sorted; shards in their order."""
    index: str = ""
    count: int = 0
    """How many shards there should be by their names; 0: it is one file, or the names do not say."""

    @property
    def entry(self) -> str:
        """What stands for all of it: the index, else the first file."""
        return self.index or self.names[0]


def weights(names: Iterable[str]) -> list[Weights]:
    """The sets of weights among *names*, which lie in one folder: safetensors first, the main variant first.

    Shards come before a single file of the same name: that is a rest of something else.
    """
    files: dict[tuple[str, str], list[tuple[int, str]]] = {}
    single: dict[tuple[str, str], str] = {}
    indexes: dict[tuple[str, str], str] = {}
    for name in names:
        for format, pattern in PATTERNS:
            if found := pattern.fullmatch(name):
                key = (format, found["variant"] or "")
                if found["count"]:
                    files.setdefault(key, []).append((int(found["count"]), name))
                else:
                    single[key] = name
        for format, pattern in INDEXES:
            if found := pattern.fullmatch(name):
                indexes[format, found["variant"] or ""] = name
    sets = [
        _set(key, files.get(key, []), single.get(key, ""), indexes.get(key, ""))
        for key in {**files, **single, **indexes}
    ]
    return sorted(sets, key=lambda one: (one.format != SAFETENSORS, bool(one.variant), one.variant))


def _set(key: tuple[str, str], shards: Sequence[tuple[int, str]], single: str, index: str) -> Weights:
    """Transformers takes the single file where both are there (`_get_resolved_checkpoint_files`)."""
    if single:
        return Weights(*key, (single,))
    count = max((number for number, _ in shards), default=0)
    return Weights(*key, tuple(sorted(name for _, name in shards)), index, count)


def shards(index: Mapping[str, Any]) -> list[str]:
    """The files that an index names, sorted; those that would lie outside of the folder are left out."""
    mapped = index.get("weight_map")
    named = {name for name in mapped.values() if isinstance(name, str)} if isinstance(mapped, dict) else set()
    return sorted(name for name in named if is_inside(name))


def missing_shards(entry: str, present: Iterable[str]) -> list[str]:
    """The shards that *entry*, a shard's name, belongs with and that are not among *present*."""
    folder, name = PurePosixPath(entry).parent, PurePosixPath(entry).name
    there = set(present)
    for _, pattern in PATTERNS:
        found = pattern.fullmatch(name)
        if found and found["count"]:
            stem, suffix = name[: found.start("number") - 1], name[found.end("count") :]
            count = int(found["count"])
            wanted = (str(folder / f"{stem}-{n:05}-of-{count:05}{suffix}") for n in range(1, count + 1))
            return [name for name in wanted if name not in there]
    return []
