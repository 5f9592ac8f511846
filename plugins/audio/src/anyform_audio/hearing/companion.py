"""Whether the small files beside the weights are what their names say."""

from __future__ import annotations

import json
from collections.abc import Iterator

from anyform.contract.facts import Finding, ModelFiles
from anyform_audio.finding import AGAIN, critical
from anyform_audio.hearing.detection import TOKENIZER

PARSED_BYTES = 1 << 20
"""A longer JSON file is looked at by its ends: a tokenizer of 3 MB takes much memory to parse."""
EDGE = 256
POINTER, POINTER_BYTES = b"version https://git-lfs.github.com/spec/", 1024
"""What Git keeps in the place of a large file: https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md."""
PAGES = (b"<!doctype", b"<html", b"<?xml")


def substitute(files: ModelFiles, name: str, form: str) -> Finding | None:
    """The finding where something else lies in the place of a file: nothing, Git's pointer to it, or a web page."""
    start, size = files.head(name)[:64], files.files[name]
    if not size:
        return critical(f"{form}.empty_file", f"{name} is empty. {AGAIN}")
    if start.startswith(POINTER) and size <= POINTER_BYTES:
        text = f"{name} has {size} bytes and only says where Git LFS keeps the file."
        return critical(f"{form}.git_lfs", f"{text} Get the file itself: `git lfs pull`, or download it.")
    if start.lstrip().lower().startswith(PAGES):
        said = start.lstrip()[:20].decode("utf-8", "replace")
        return critical(
            f"{form}.web_page", f"{name} begins with {said!r}: it is a web page, saved in its place. {AGAIN}"
        )
    return None


def check(files: ModelFiles, name: str, form: str) -> Iterator[Finding]:
    """What is wrong with a JSON file that has to hold an object; a tokenizer has to describe one."""
    size = files.files[name]
    if size > PARSED_BYTES:
        yield from _ends(files, name, form)
        return
    content = files.head(name, size)
    if not content:
        yield critical(f"{form}.unreadable", f"{name} cannot be read. Check its permissions.")
        return
    try:
        said = json.loads(content)
    except (ValueError, RecursionError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        yield critical(f"{form}.bad_json", f"{name} is no JSON: {why}. {AGAIN}")
        return
    if not isinstance(said, dict):
        yield critical(f"{form}.no_object", f"{name} holds no JSON object. {AGAIN}")
    elif name.endswith(TOKENIZER) and not isinstance(said.get("model"), dict):
        yield critical(f"{form}.bad_tokenizer", f"{name} describes no tokenizer: it has no model. {AGAIN}")


def _ends(files: ModelFiles, name: str, form: str) -> Iterator[Finding]:
    """A long file that begins or ends as JSON never does."""
    start = files.head(name, EDGE)
    if start.lstrip()[:1] != b"{":
        yield critical(f"{form}.bad_json", f"{name} begins with {start[:8]!r}: it is no JSON object. {AGAIN}")
        return
    try:
        with (files.path / name).open("rb") as file:
            file.seek(files.files[name] - EDGE)
            end = file.read(EDGE)
    except FileNotFoundError:
        return  # it lies elsewhere
    except OSError as error:
        text = f"{name} cannot be read: {error.strerror or error}. Check its permissions."
        yield critical(f"{form}.unreadable", text)
        return
    if end.rstrip()[-1:] != b"}":
        text = f"{name} ends in the middle, after {files.files[name]} bytes: it is cut off. {AGAIN}"
        yield critical(f"{form}.bad_json", text)
