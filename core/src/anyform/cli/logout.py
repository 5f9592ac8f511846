"""`anyform logout`: forget the stored tokens of the hub."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from anyform.cli.arguments import add_config
from anyform.cli.terminal import errors, output


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    add_config(parser)


def execute(args: Namespace) -> int:
    """Remove what `login` stored, huggingface_hub's own logins included, since they are the same."""
    from anyform.sources import hubtoken

    output().line("logged out" if hubtoken.logout() else "nobody was logged in")
    if hubtoken.overrides():
        errors().line(errors().paint("note: HF_TOKEN is still set, and is used until it is removed", "yellow"))
    return 0
