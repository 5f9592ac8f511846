"""`anyform list`: the models that are known."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from anyform.cli import document
from anyform.cli.arguments import add_json, add_library, read_config
from anyform.cli.opening import opened
from anyform.cli.table import Cell, amount, table
from anyform.cli.terminal import errors, output
from anyform.contract.errors import Fault
from anyform.contract.facts import Metadata
from anyform.kernel.units import size

if TYPE_CHECKING:
    from anyform.kernel.library import Entry
    from anyform.kernel.runtime import Runtime

HEAD = ("NAME", "FORMAT", "QUANTIZATION", "SIZE", "PARAMETERS", "CONTEXT", "TASKS")


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    add_json(parser)
    add_library(parser)


def execute(args: Namespace) -> int:
    """Print one row a model."""
    with opened(read_config(args)) as runtime:
        known = [(entry, _metadata(runtime, entry)) for entry in map(runtime.find, runtime.names())]
    if args.json:
        document.show([_document(entry, metadata) for entry, metadata in known])
    elif known:
        table(output(), HEAD, [_row(entry, metadata) for entry, metadata in known])
    else:
        errors().line(
            "no models. Name a folder of models with --models DIR, or in anyform.toml: [models] folders = [...]"
        )
    return 0


def _metadata(runtime: Runtime, entry: Entry) -> Metadata | Fault:
    """What the model says of itself, or why it cannot be read."""
    try:
        return runtime.metadata(entry)
    except Fault as fault:
        return fault


def _row(entry: Entry, metadata: Metadata | Fault) -> list[Cell]:
    if isinstance(metadata, Fault):
        unread = (f"unreadable: see anyform show {entry.name}", "red")
        return [entry.name, entry.match.format, "-", size(entry.size_bytes), "-", "-", unread]
    return [
        (entry.name, "cyan"),
        entry.match.format,
        metadata.quantization or "-",
        size(entry.size_bytes),
        amount(metadata.parameters),
        str(metadata.context or "-"),
        " ".join(metadata.tasks) or "-",
    ]


def _document(entry: Entry, metadata: Metadata | Fault) -> dict[str, Any]:
    said = {"fault": metadata.as_dict()} if isinstance(metadata, Fault) else {"metadata": metadata}
    return {
        "name": entry.name,
        "aliases": entry.aliases,
        "format": entry.match.format,
        "plugin": entry.plugin,
        "path": entry.path,
        "files": entry.match.files,
        "size_bytes": entry.size_bytes,
        **said,
    }
