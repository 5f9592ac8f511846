"""`anyform whoami`: the account that the hub takes us for."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from anyform.cli import document
from anyform.cli.arguments import add_config, add_json, read_config
from anyform.cli.pulling import hub_of
from anyform.cli.table import pairs
from anyform.cli.terminal import output


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    add_json(parser)
    add_config(parser)


def execute(args: Namespace) -> int:
    """Ask the hub; 1 if nobody is logged in."""
    from anyform.sources import hubtoken

    account = hubtoken.whoami(hub_of(read_config(args)))
    if args.json:
        document.show(account)
        return 0
    rows = [
        ("account", account.name),
        ("hub", account.endpoint),
        ("organizations", ", ".join(account.organizations)),
        ("token", f"{account.token_name} ({account.role})" if account.role else account.token_name),
        ("kept in", account.kept_in),
    ]
    pairs(output(), [(name, value) for name, value in rows if value])
    return 0
