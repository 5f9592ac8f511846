"""`anyform du`: what models take on the disk, and what is left."""

from __future__ import annotations

import shutil
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anyform.cli import document
from anyform.cli.arguments import add_json, add_library, read_config
from anyform.cli.opening import opened
from anyform.cli.table import Cell, table
from anyform.cli.terminal import output
from anyform.kernel.units import size
from anyform.sources.derived import SOURCE

if TYPE_CHECKING:
    from anyform.kernel.entry import Entry

HEAD = ("MODEL", "SIZE", "SOURCE")


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    add_json(parser)
    add_library(parser)


def execute(args: Namespace) -> int:
    """Print one row a model, the largest first, then the sums; a file that several models need counts once."""
    from anyform.sources.removal import leftovers

    config = read_config(args)
    home = config.stores.home
    with opened(config) as runtime:
        entries = sorted(runtime.library.entries(), key=lambda entry: -entry.size_bytes)
    incomplete = sum(one.size_bytes for one in leftovers(home))
    sums = _sums(entries)
    free = shutil.disk_usage(_existing(home)).free
    if args.json:
        document.show(_document(entries, sums, incomplete, free))
        return 0
    terminal = output()
    rows: list[list[Cell]] = [[(entry.name, "cyan"), size(entry.size_bytes), entry.source or "-"] for entry in entries]
    table(terminal, HEAD, rows)
    terminal.line()
    for source, taken in sums.items():
        terminal.line(f"{source}: {size(taken)}")
    if incomplete:
        terminal.line(f"incomplete pulls and uploads: {size(incomplete)} (`anyform clean` deletes them)")
    terminal.line(f"free: {size(free)}")
    return 0


def _sums(entries: Iterable[Entry]) -> dict[str, int]:
    """Bytes by source, each file once however many models and names have it."""
    taken: dict[str, int] = {}
    seen: set[tuple[int, int]] = set()
    for entry in sorted(entries, key=lambda entry: entry.source == SOURCE):  # what is made of a model lies in its place
        for name in entry.match.files:
            try:
                stat = (Path(entry.path) / name).stat()
            except OSError:
                continue
            if (stat.st_dev, stat.st_ino) not in seen:
                seen.add((stat.st_dev, stat.st_ino))
                source = entry.source or "named folders"
                taken[source] = taken.get(source, 0) + stat.st_size
    return taken


def _document(entries: Iterable[Entry], sums: dict[str, int], incomplete: int, free: int) -> dict[str, Any]:
    return {
        "models": [
            {"name": entry.name, "size_bytes": entry.size_bytes, "source": entry.source, "path": entry.path}
            for entry in entries
        ],
        "sources": sums,
        "incomplete_bytes": incomplete,
        "free_bytes": free,
    }


def _existing(path: Path) -> Path:
    """*path*, or the nearest folder above it that there is."""
    return next(folder for folder in (path, *path.absolute().parents) if folder.exists())
