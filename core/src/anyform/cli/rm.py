"""`anyform rm MODEL`: delete a model that was pulled, and what only it needs."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from anyform.cli import document
from anyform.cli.arguments import add_json, add_library, read_config
from anyform.cli.named import known
from anyform.cli.opening import opened
from anyform.cli.terminal import output
from anyform.kernel.units import size


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("model", metavar="MODEL", help="a name, as `anyform list` shows it")
    parser.add_argument("--force", action="store_true", help="also where anyform did not put it")
    add_json(parser)
    add_library(parser)


def execute(args: Namespace) -> int:
    """Delete, and say what went and what stayed."""
    from anyform.sources import removal

    config = read_config(args)
    with opened(config) as runtime:
        home = config.stores.home
        entry = known(runtime, args.model, home, "Delete the file yourself.")
        found = removal.considered(home, entry, runtime.library.entries(), args.force)
        removal.remove(home, found)
    if args.json:
        document.show(found)
        return 0
    terminal = output()
    terminal.line(f"deleted {terminal.paint(found.model, 'cyan')}: {size(found.freed_bytes)} freed")
    for name in found.shared:
        terminal.line(f"kept {name}: another model needs it")
    return 0
