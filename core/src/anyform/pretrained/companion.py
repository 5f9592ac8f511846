"""Whether the small files beside the weights are what their names say: JSON, texts, tokenizers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from anyform.contract.facts import Finding, ModelFiles
from anyform.finding import Family
from anyform.pretrained.layout import COMPANIONS, CONFIG, MODULES

AGAIN = "Copy or download the file again."
PARSED_BYTES = 1 << 20
"""A longer JSON file is looked at by its ends: a tokenizer of 30 MB takes half a second and 300 MB to parse."""
READ_BYTES = 16 << 20
"""`ModelFiles.json` reads no longer file."""
EDGE = 256
TEXTS = (".txt", ".jinja", ".py")
POINTER, POINTER_BYTES = b"version https://git-lfs.github.com/spec/", 1024
"""What Git keeps in the place of a large file: https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md."""
PAGES = (b"<!doctype", b"<html", b"<?xml")
TOKENIZER = "tokenizer.json"
OBJECTS = COMPANIONS - {CONFIG, MODULES}
"""JSON files that have to hold an object, beside those that validation reads by itself."""


def check(files: ModelFiles, name: str, family: Family) -> Iterator[Finding]:
    """What is wrong with a file that holds no weights, as findings of *family*."""
    if not files.files[name]:
        yield family.critical("empty_file", f"{name} is empty. {AGAIN}")
    elif name.endswith(".json"):
        yield from _json(files, name, family)
    elif name.endswith(TEXTS):
        yield from _text(files, name, family)


def substitute(files: ModelFiles, name: str, family: Family) -> Finding | None:
    """The finding where something else lies in the place of a file: Git's pointer to it, or a web page."""
    start = files.head(name)[:64]
    size = files.files[name]
    if start.startswith(POINTER) and size <= POINTER_BYTES:
        text = f"{name} has {size} bytes and only says where Git LFS keeps the file."
        return family.critical("git_lfs", f"{text} Get the file itself: `git lfs pull`, or download it.")
    if start.lstrip().lower().startswith(PAGES) and not name.endswith(TEXTS):
        said = start.lstrip()[:20].decode("utf-8", "replace")
        return family.critical(
            "web_page", f"{name} begins with {said!r}: it is a web page, saved in its place. {AGAIN}"
        )
    return None


def _json(files: ModelFiles, name: str, family: Family) -> Iterator[Finding]:
    size = files.files[name]
    content = files.head(name, min(size, PARSED_BYTES))
    last = name.rpartition("/")[2]
    if not content:
        yield family.critical("unreadable", f"{name} cannot be read. Check its permissions.")
    elif size > READ_BYTES and last != TOKENIZER:
        yield family.critical("too_big", f"{name} has {size} bytes, of which at most {READ_BYTES} are read. {AGAIN}")
    elif size > PARSED_BYTES:
        yield from _ends(files, name, content[:EDGE], family)
    else:
        try:
            yield from _content(json.loads(content), name, last, family)
        except (ValueError, RecursionError) as error:
            said = "nested too deeply" if isinstance(error, RecursionError) else str(error)
            yield family.critical("bad_json", f"{name} is no JSON: {said}. {AGAIN}")


def _content(said: Any, name: str, last: str, family: Family) -> Iterator[Finding]:
    if last in OBJECTS and not isinstance(said, dict):
        yield family.critical("no_object", f"{name} holds a JSON {_kind(said)}, where an object is needed. {AGAIN}")
    elif last == TOKENIZER and not isinstance(said.get("model"), dict):
        yield family.critical("bad_tokenizer", f"{name} describes no tokenizer: it has no model. {AGAIN}")


def _kind(said: Any) -> str:
    return {list: "list", str: "text", bool: "truth value", type(None): "null"}.get(type(said), "number")


def _ends(files: ModelFiles, name: str, start: bytes, family: Family) -> Iterator[Finding]:
    """A long file that begins or ends as JSON never does."""
    if start.lstrip()[:1] not in (b"{", b"["):
        yield family.critical("bad_json", f"{name} begins with {start[:8]!r}: it is no JSON. {AGAIN}")
        return
    path = files.path / name
    try:
        with path.open("rb") as file:
            file.seek(max(0, files.files[name] - EDGE))
            end = file.read(EDGE)
    except FileNotFoundError:
        return  # it lies elsewhere
    except OSError as error:
        yield family.critical("unreadable", f"{name} cannot be read: {error.strerror or error}. Check its permissions.")
        return
    if end.rstrip()[-1:] not in (b"}", b"]"):
        yield family.critical(
            "bad_json", f"{name} ends in the middle, after {files.files[name]} bytes: it is cut off. {AGAIN}"
        )


def _text(files: ModelFiles, name: str, family: Family) -> Iterator[Finding]:
    size = min(files.files[name], READ_BYTES)
    content = files.head(name, size)
    try:
        text = content.decode("utf-8") if content or not size else ""
    except UnicodeDecodeError as error:
        cut = len(content) - error.start < 4 and files.files[name] > size
        if not cut:
            yield family.critical("bad_text", f"{name} is no UTF-8 text at byte {error.start}. {AGAIN}")
        return
    if "\0" in text:
        yield family.critical("bad_text", f"{name} has a zero byte in its text. {AGAIN}")
