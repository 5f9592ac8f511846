"""`anyform verify [MODEL…]`: read files anew and compare them with their checksums."""

from __future__ import annotations

import threading
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from anyform.cli import document
from anyform.cli.arguments import add_json, add_library, read_config
from anyform.cli.background import waited
from anyform.cli.named import known
from anyform.cli.opening import opened
from anyform.cli.table import Cell, table
from anyform.cli.terminal import errors, output
from anyform.kernel.units import size
from anyform.sources.reader import together

if TYPE_CHECKING:
    from anyform.config import Config
    from anyform.kernel.entry import Entry
    from anyform.kernel.runtime import Runtime
    from anyform.sources.checking import Checked

HEAD = ("MODEL", "RESULT")


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("names", nargs="*", default=[], metavar="MODEL", help="names (default: all that are known)")
    add_json(parser)
    add_library(parser)


def execute(args: Namespace) -> int:
    """Check, several models at once; 1 if any is not what it should be."""
    config = read_config(args)
    with opened(config) as runtime:
        entries = [_named(runtime, config, name) for name in args.names] or list(runtime.library.entries())
        checked = _checked(runtime, entries)
    if args.json:
        document.show([{"sound": one.sound, **document.plain(one)} for one in checked])
    elif checked:
        table(output(), HEAD, [_row(one) for one in checked])
    else:
        errors().line("no models to check")
    return 0 if all(one.sound for one in checked) else 1


def _named(runtime: Runtime, config: Config, name: str) -> Entry:
    hint = f"No checksum is known of it; `anyform validate {name}` says whether it is sound."
    return known(runtime, name, config.stores.home, hint)


def _checked(runtime: Runtime, entries: Sequence[Entry]) -> list[Checked]:
    from anyform.sources.checking import verify

    read, lock, terminal = [0], threading.Lock(), errors()
    total = sum(entry.size_bytes for entry in entries)

    def count(came: int) -> None:
        with lock:
            read[0] += came

    def check(entry: Entry) -> Checked:
        return verify(entry, runtime.findings(entry), count)

    try:
        return waited(
            lambda: list(together(check, entries)),
            lambda s: terminal.status(f"read {size(read[0])} of {size(total)} … {s:.0f} s"),
        )
    finally:
        terminal.status("")


def _row(one: Checked) -> list[Cell]:
    if one.wrong:
        return [(one.model, "cyan"), (" ".join(one.wrong), "red")]
    if one.unproven:
        return [(one.model, "cyan"), f"sound; no checksum is known of {', '.join(one.unproven)}"]
    return [(one.model, "cyan"), ("all checksums are right", "green")]
