"""`anyform load MODEL`: load a model into a running server, ahead of its first request."""

from __future__ import annotations

from argparse import ArgumentParser, BooleanOptionalAction, Namespace
from typing import Any

from anyform.cli import document
from anyform.cli.arguments import add_json, add_server, add_settings
from anyform.cli.background import waited
from anyform.cli.client import Client
from anyform.cli.terminal import errors, output


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("model", metavar="MODEL", help="a name that the server knows")
    parser.add_argument("--backend", metavar="B", help="the plugin or backend that is to run it")
    parser.add_argument(
        "--pin",
        action=BooleanOptionalAction,
        help="keep it: never evict it, never unload it when idle (--no-pin: as others)",
    )
    parser.add_argument("--keep-alive", metavar="T", help="unload it after so long unused: 300, 5m, 2h; -1: never")
    add_json(parser)
    add_settings(parser)
    add_server(parser)


def execute(args: Namespace) -> int:
    """Load, and say where it runs."""
    client, terminal = Client.of(args), errors()
    try:
        answer = waited(
            lambda: client.load(args.model, _settings(args)),
            lambda s: terminal.status(f"loading {args.model} … {s:.0f} s"),
        )
    finally:
        terminal.status("")
    if args.json:
        document.show(answer)
    else:
        output().line(
            f"{answer.get('model', args.model)} is {answer.get('status', 'ready')} ({answer.get('runtime', '?')})"
        )
    return 0


def _settings(args: Namespace) -> dict[str, Any]:
    """What was asked for, as the endpoint takes it."""
    named = {
        "context": args.context,
        "parallel": args.parallel,
        "device": args.device,
        "options": dict(args.option) or None,
        "backend": args.backend,
        "pin": args.pin,
        "keep_alive": args.keep_alive,
    }
    return {name: value for name, value in named.items() if value is not None}
