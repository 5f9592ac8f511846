"""Files that a command makes: there whole or not at all, and never over others unless that is asked for."""

from __future__ import annotations

import os
import shutil
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from anyform.contract.errors import Area, Category, Fault, Invalid
from anyform.contract.facts import Severity


class Occupied(Fault):
    """A file that would be written over."""

    code = "file_exists"
    category, area, severity = Category.REFUSED, Area.STORAGE, Severity.INFO


def add_force(parser: ArgumentParser) -> None:
    parser.add_argument("--force", action="store_true", help="write over files that are there")


def check(path: Path, force: bool) -> None:
    """Raises Occupied for a file that is there and not to be replaced, Invalid where none can be."""
    if path.is_dir():
        raise Invalid(f"{path} is a folder.", "Name a file in it.")
    if not path.parent.is_dir():
        raise Invalid(f"there is no folder {path.parent} to write {path.name} into.", "Make it, or write elsewhere.")
    if path.is_file() and not force:
        raise Occupied(f"{path} is there already.", "Write elsewhere, or over it with --force.", file=str(path))


def _made(beside: Path, named: Path) -> BinaryIO:
    """*beside*, new and open. Raises Invalid that tells of *named*, for which it stands."""
    try:
        return beside.open("xb")
    except OSError as error:
        why = error.strerror or error
        raise Invalid(f"{named} cannot be written: {why}.", "Check the permissions, or write elsewhere.") from None


@contextmanager
def whole(path: Path, force: bool) -> Iterator[BinaryIO]:
    """Writes *path*, which appears when the `with` block ends; where it fails, nothing stays and nothing is changed.
    Who might read and write a file that is replaced may read and write the new one.

    What is no file, such as a named pipe or /dev/null, is written as it is. Raises as `check` does.
    """
    check(path, force)
    if path.exists() and not path.is_file():
        with path.open("wb") as stream:
            yield stream
        return
    named, path = path, Path(os.path.realpath(path))  # a link stays one, to the new file
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with _made(beside, named) as file:
            if path.exists():
                shutil.copymode(path, beside)
            yield file
        check(path, force)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
