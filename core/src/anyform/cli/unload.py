"""`anyform unload MODEL`: unload a model from a running server, once its running requests have ended."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from anyform.cli import document
from anyform.cli.arguments import add_json, add_server
from anyform.cli.client import Client
from anyform.cli.terminal import output


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("model", metavar="MODEL", help="a name that the server knows")
    parser.add_argument("--now", action="store_true", help="do not wait for its running requests: they are cut off")
    add_json(parser)
    add_server(parser)


def execute(args: Namespace) -> int:
    """Unload, and say whether it was loaded."""
    answer = Client.of(args).unload(args.model, args.now)
    if args.json:
        document.show(answer)
    else:
        output().line(f"{answer.get('model', args.model)}: {answer.get('status', 'unloaded')}")
    return 0
