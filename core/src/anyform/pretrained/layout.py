"""The files of a folder that are no weights, and names of files in folders: by names alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

CONFIG = "config.json"
MODULES = "modules.json"
COMPANIONS = frozenset({
    CONFIG, "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "tokenizer.model", "spiece.model",
    "sentencepiece.bpe.model", "source.spm", "target.spm", "normalizer.json", "chat_template.jinja",
    "chat_template.json", "preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json",
    "image_processor_config.json", MODULES, "sentence_bert_config.json", "config_sentence_transformers.json",
})  # fmt: skip
"""Files beside the weights that are read when a model is loaded."""


def is_inside(name: str) -> bool:
    """Whether a name that a file states stays in that file's folder."""
    path = PurePosixPath(name)
    return bool(name) and not path.is_absolute() and ".." not in path.parts and "\\" not in name and "\0" not in name


def by_folder(names: Iterable[str]) -> dict[str, list[str]]:
    """Folder -> names of the files in it, without the folder; the folder itself is "."."""
    found: dict[str, list[str]] = {}
    for name in names:
        folder, _, last = name.rpartition("/")
        found.setdefault(folder or ".", []).append(last)
    return found


def at(folder: str, name: str) -> str:
    """The name of a file in *folder*, which may be "."."""
    return name if folder in ("", ".") else f"{folder}/{name}"


def above(folder: str) -> Iterator[str]:
    """*folder* and all folders above it, "." last."""
    path = PurePosixPath(folder)
    yield str(path)
    yield from (str(parent) for parent in path.parents)


def folder_of(name: str) -> str:
    """The folder of a file, "." for the model's own."""
    return name.rpartition("/")[0] or "."
