"""`anyform validate PATH…`: whether files are sound models."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anyform.cli import document
from anyform.cli.arguments import add_json, add_library, read_config
from anyform.cli.named import found
from anyform.cli.opening import opened
from anyform.cli.table import Cell, table
from anyform.cli.terminal import errors, output
from anyform.contract.errors import Fault, UnknownFormat

if TYPE_CHECKING:
    from anyform.config import Config
    from anyform.kernel.entry import Entry
    from anyform.kernel.runtime import Runtime

HEAD = ("MODEL", "FORMAT", "RESULT")
STYLES = {"critical": "red", "warning": "yellow", "info": "dim"}


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("targets", nargs="+", metavar="PATH", help="a file, a folder, or a name")
    add_json(parser)
    add_library(parser)


def execute(args: Namespace) -> int:
    """Print a verdict a model; 1 if any is not sound."""
    config = read_config(args)
    verdicts = [verdict for target in args.targets for verdict in _verdicts(config, target)]
    if args.json:
        document.show(verdicts[0] if len(verdicts) == 1 else verdicts)
    else:
        table(output(), HEAD, [_row(verdict) for verdict in verdicts])
        for verdict in verdicts:
            for finding in verdict["findings"]:
                if finding["text"] == verdict["message"]:
                    continue  # the table has said it
                line = f"{verdict['model']}: {finding['severity']}: {finding['text']}"
                errors().line(errors().paint(line, STYLES[finding["severity"]]))
    return 0 if all(verdict["valid"] for verdict in verdicts) else 1


def _verdicts(config: Config, target: str) -> list[dict[str, Any]]:
    """Of everything at a path, or of the one model of a name; many are read at once."""
    path = Path(target)
    if not path.exists():
        with opened(config) as runtime:
            return _all(runtime, [found(runtime, target, paths=True)])
    alone = replace(config.models, paths=(path,), folders=(), sources=())
    listed = replace(config, models=replace(alone, paths=(), folders=(path,)))
    try:
        with opened(replace(config, models=alone)) as runtime:
            entries = runtime.library.entries()
            if not path.is_dir() or _are_variants(entries, path):
                return _all(runtime, entries)
    except UnknownFormat as stranger:
        return (_all_of(listed) if path.is_dir() else []) or [_unknown(target, stranger)]
    return _all_of(listed)


def _are_variants(entries: Sequence[Entry], path: Path) -> bool:
    """Whether all is one model in *path* itself."""
    one = {entry.match.name for entry in entries} == {""} or len(entries) == 1
    return one and all(_lies_at(entry, path) for entry in entries)


def _lies_at(entry: Entry, path: Path) -> bool:
    """Whether a model lies in *path* itself, which may have parts in folders of their own."""
    return any("/" not in name for name in entry.match.files) and Path(entry.path).resolve() == path.resolve()


def _all_of(config: Config) -> list[dict[str, Any]]:
    """Of everything in a folder, under the names of `anyform list`."""
    with opened(config) as runtime:
        return _all(runtime, runtime.library.entries())


def _all(runtime: Runtime, entries: Sequence[Entry]) -> list[dict[str, Any]]:
    from anyform.sources.checking import validity

    made = []
    terminal = errors()
    for number, one in enumerate(runtime.describe(entries), start=1):
        if len(entries) > 1:
            terminal.status(f"{number} of {len(entries)} models …")
        if isinstance(one.fault, Fault) and one.metadata is None:
            made.append(_unknown(one.entry.name, one.fault))
        else:
            made.append(validity(one.entry, one.findings, one.plugin))
    terminal.status("")
    return made


def _unknown(target: str, fault: Fault) -> dict[str, Any]:
    """The verdict on what no plugin can judge."""
    return {
        "model": target,
        "format": None,
        "valid": False,
        "files": [],
        "message": str(fault),
        "why": "",
        "findings": [],
    }


def _row(verdict: dict[str, Any]) -> list[Cell]:
    style = "green" if verdict["valid"] else "red"
    return [(verdict["model"], "cyan"), verdict["format"] or "-", (verdict["message"], style)]
