"""`anyform clean`: delete what pulls and uploads left unfinished, or everything that was pulled."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from anyform.cli import document
from anyform.cli.arguments import add_config, add_json, read_config
from anyform.cli.table import table
from anyform.cli.terminal import errors, output
from anyform.contract.errors import Invalid
from anyform.kernel.units import size

if TYPE_CHECKING:
    from anyform.sources.removal import Leftovers

HEAD = ("REPOSITORY", "FILES", "SIZE")


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--all", action="store_true", help="everything that was pulled, not only what is incomplete")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    add_json(parser)
    add_config(parser)


def execute(args: Namespace) -> int:
    """Show what would go, ask, delete."""
    from anyform.sources import removal

    home = read_config(args).stores.home
    kept = removal.needed(home) if args.all else {}
    found = list(removal.leftovers(home, args.all, kept))
    if found and not args.json:
        rows = [(one.repository, str(len(one.files)), size(one.size_bytes)) for one in found]
        table(errors(), HEAD, rows)
    if found and not (args.yes or _agreed(found)):
        errors().line("nothing was deleted")
        return 1
    for one in found:
        removal.clean(home, one)
    for repository, names in kept.items():
        if (home / repository).is_dir():
            errors().line(f"kept {repository}: {', '.join(names)} {'is' if len(names) == 1 else 'are'} made of it")
    if args.json:
        document.show(found)
    else:
        total = sum(one.size_bytes for one in found)
        output().line(f"{size(total)} freed" if found else "nothing to delete")
    return 0


def _agreed(found: Sequence[Leftovers]) -> bool:
    if not sys.stdin.isatty():
        raise Invalid("there is no terminal to ask whether to delete that.", "Say --yes.")
    count, total = sum(len(one.files) for one in found), sum(one.size_bytes for one in found)
    errors().write(f"Delete {count} files, {size(total)}? [y/N] ")
    return sys.stdin.readline().strip().casefold() in ("y", "yes")
