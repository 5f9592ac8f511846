"""`anyform login`: store a token of the hub, once the hub has accepted it."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace

from anyform.cli.arguments import add_config, read_config
from anyform.cli.pulling import hub_of
from anyform.cli.terminal import errors, output
from anyform.contract.errors import Invalid


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--token-stdin", action="store_true", help="read the token from standard input")
    add_config(parser)


def execute(args: Namespace) -> int:
    """Ask for a token without showing it, check it, store it where huggingface_hub keeps its own."""
    from anyform.sources import hubtoken

    hub = hub_of(read_config(args))
    hub.require_online("the account")
    account = hubtoken.login(hub, _token(args.token_stdin, hub.endpoint))
    output().line(f"logged in to {account.endpoint} as {account.name}")
    if hubtoken.overrides():
        errors().line(errors().paint("note: HF_TOKEN is set and goes over what is stored", "yellow"))
    return 0


def _token(piped: bool, endpoint: str) -> str:
    if piped:
        return sys.stdin.readline()
    if not sys.stdin.isatty():
        raise Invalid("there is no terminal to ask for the token.", "Pipe it in with --token-stdin, or set HF_TOKEN.")
    from getpass import getpass

    errors().line(f"Make a token at {endpoint}/settings/tokens; reading is enough.")
    try:
        return getpass("Token (not shown): ", errors().stream)
    except EOFError:
        raise KeyboardInterrupt from None
