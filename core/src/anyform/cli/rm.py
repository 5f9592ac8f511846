"""`anyform rm MODEL`: delete a model that was pulled or created, and what only it needs."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from anyform.cli import document
from anyform.cli.arguments import add_json, add_library, read_config
from anyform.cli.named import known
from anyform.cli.opening import opened
from anyform.cli.terminal import errors, output
from anyform.contract.errors import Invalid
from anyform.kernel.units import size

if TYPE_CHECKING:
    from anyform.sources.removal import Form, Removal


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("model", metavar="MODEL", help="a name, as `anyform list` shows it")
    parser.add_argument("--force", action="store_true", help="also where anyform did not put it")
    parser.add_argument("--form", metavar="FORMAT", default="", help="of a model in several forms only this one")
    parser.add_argument("--yes", action="store_true", help="do not ask whether to delete several forms")
    add_json(parser)
    add_library(parser)


def execute(args: Namespace) -> int:
    """Delete, and say what went and what stayed."""
    from anyform.sources import derivation, removal

    config = read_config(args)
    with opened(config) as runtime:
        home = config.stores.home
        recipe = derivation.recipe_named(runtime, args.model)
        if recipe is not None:
            return _told(args, derivation.forget(runtime, recipe), "", recipe.base)
        entry = known(runtime, args.model, home, "Delete the file yourself.")
        forms = removal.forms(entry)
        chosen = _chosen(entry.name, forms, args.form) if args.form else None
        found = derivation.considered(runtime, home, entry, args.force, chosen)
        if chosen is None and len(forms) > 1 and not (found.hidden or args.yes or _agreed(entry.name, forms)):
            errors().line("nothing was deleted")
            return 1
        derivation.carry_out(runtime, home, entry, found)
    return _told(args, found, chosen.format if chosen else "", "")


def _told(args: Namespace, found: Removal, form: str, base: str) -> int:
    """Say what was done. *form*: the one that went; empty: all. *base*: what a created model was made from."""
    if args.json:
        document.show(found)
        return 0
    terminal = output()
    name = terminal.paint(found.model, "cyan")
    if found.hidden:
        terminal.line(f"deleted the name {name}: created models need its files, which go with the last of these")
        return 0
    terminal.line(f"deleted {f'the {form} of ' if form else ''}{name}: {size(found.freed_bytes)} freed")
    if base:
        terminal.line(f"kept {base}, which it was made from")
    for one in found.shared:
        terminal.line(f"kept {one}: another model, or another form of it, needs it")
    return 0


def _chosen(name: str, forms: Sequence[Form], wanted: str) -> Form:
    """The form of the format *wanted*. Raises Invalid."""
    found = next((form for form in forms if form.format == wanted.casefold()), None)
    if found is None:
        there = ", ".join(form.format for form in forms)
        raise Invalid(f"{name} has no form {wanted!r}.", f"It is here as {there}.")
    return found


def _agreed(name: str, forms: Sequence[Form]) -> bool:
    """Whether all *forms* are to go. Raises Invalid where nobody can be asked."""
    told = " and ".join(f"{form.format} ({size(form.size_bytes)})" for form in forms)
    if not sys.stdin.isatty():
        hint = f"Name one with --form {forms[0].format}, or delete all of them with --yes."
        raise Invalid(f"{name} is here as {told}.", hint)
    errors().write(f"{name} is here as {told}. Delete all of it? [y/N] ")
    return sys.stdin.readline().strip().casefold() in ("y", "yes")
