"""`anyform serve [PATH…]`: serve files and folders where they lie, over HTTP."""

from __future__ import annotations

import json
import logging
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from anyform.cli.arguments import add_library, add_settings, positive, read_config
from anyform.cli.opening import opened
from anyform.cli.run import load
from anyform.cli.table import Cell, table
from anyform.cli.terminal import Terminal, errors, output
from anyform.config import Config
from anyform.contract.errors import Fault, Invalid

if TYPE_CHECKING:
    from anyform.kernel.runtime import Runtime

HEAD = ("MODEL", "FORMAT", "QUANTIZATION", "RUNS ON")
SHOWN = 20
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("paths", nargs="*", default=[], type=Path, metavar="PATH", help="a model: a file or a folder")
    parser.add_argument("--host", metavar="H", help="the address to listen on (default: 127.0.0.1, this machine only)")
    parser.add_argument(
        "--port", type=port, metavar="N", help="the port to listen on; 0: any free one (default: 11540)"
    )
    parser.add_argument("--queue", type=positive, metavar="N", help="requests that may wait for a model")
    parser.add_argument(
        "--allow-host", action="append", default=[], metavar="H", help="a further name that clients may use"
    )
    parser.add_argument("--preload", action="store_true", help="load all models before the first request")
    add_settings(parser)
    add_library(parser)


def execute(args: Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM."""
    config = _configured(args)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S", level=logging.INFO)
    with suppress(KeyboardInterrupt), opened(config) as runtime:
        _serve(runtime, config, args.preload)
    return 0


def port(text: str) -> int:
    """A TCP port."""
    from argparse import ArgumentTypeError

    if not text.isdecimal() or int(text) > 65535:
        raise ArgumentTypeError(f"{text!r} is not a port from 0 to 65535")
    return int(text)


def _configured(args: Namespace) -> Config:
    found = read_config(args)
    asked = {"host": args.host, "port": args.port, "queue": args.queue}
    server = replace(
        found.server,
        allowed_hosts=(*found.server.allowed_hosts, *args.allow_host),
        **{name: value for name, value in asked.items() if value is not None},
    )
    models = replace(found.models, paths=(*args.paths, *found.models.paths))
    return replace(found, server=server, models=models)


def _serve(runtime: Runtime, config: Config, preload: bool) -> None:
    from anyform.http import server

    where = config.server.host, config.server.port
    _check(runtime)
    if config.server.host not in LOOPBACK:
        open_to_all = f"listening on {config.server.host}: whoever reaches this machine can use it; no key is asked for"
        errors().line(errors().paint(open_to_all, "yellow"))
    if preload:
        server.listen(*where).close()
        _preload(runtime)
    server.serve(runtime, *where, config.server, ready=lambda url: announce(output(), runtime, url), log=errors().line)


def _check(runtime: Runtime) -> None:
    """Raise what no request could mend: a path that is no model, settings that no backend takes."""
    for name in runtime.names():
        decision = runtime.explain(name)
        refused = [verdict.refusal for verdict in decision.verdicts if verdict.gate == "settings"]
        if refused and decision.plan is None:
            raise Invalid(f"{name} cannot be served so: {refused[0]}")


def _preload(runtime: Runtime) -> None:
    """Load every model. One that fails is told and left to its first request; raises the Fault if all fail."""
    faults = []
    for name in runtime.names():
        try:
            load(runtime, name)
        except Fault as fault:
            faults.append(fault)
            errors().line(errors().paint(f"{name} is not loaded: {fault}", "red"))
    if faults and not runtime.loaded():
        raise faults[-1]


def announce(terminal: Terminal, runtime: Runtime, url: str) -> None:
    """Say what is served, where, and how to ask."""
    names = runtime.names()
    terminal.line(f"anyform serves {terminal.paint(f'{url}/v1', 'cyan')} (Ctrl-C stops it)")
    terminal.line()
    if not names:
        terminal.line(
            terminal.paint("no models: name files or folders, or a folder of models with --models DIR", "yellow")
        )
    else:
        table(terminal, HEAD, [_row(runtime, name) for name in names[:SHOWN]])
        if len(names) > SHOWN:
            terminal.line(f"… and {len(names) - SHOWN} more")
        terminal.line()
        terminal.line(_example(runtime, url, names))
    terminal.stream.flush()


def _row(runtime: Runtime, name: str) -> list[Cell]:
    entry = runtime.find(name)
    try:
        quantization = runtime.metadata(entry).quantization or "-"
        decision = runtime.explain(name)
    except Fault as fault:
        return [(name, "cyan"), entry.match.format, "-", (fault.message, "red")]
    if decision.plan:
        return [(name, "cyan"), entry.match.format, quantization, (decision.plan.plugin, "green")]
    refusal = next((v.refusal for v in decision.verdicts if v.gate != "format"), "no plugin that is installed")
    return [(name, "cyan"), entry.match.format, quantization, (f"nothing: {refusal}", "red")]


def _example(runtime: Runtime, url: str, names: list[str]) -> str:
    """A request that works for the first model that chats or completes."""
    for name in names:
        tasks = runtime.metadata(runtime.find(name)).tasks
        if "chat" in tasks:
            return _curl(
                f"{url}/v1/chat/completions", {"model": name, "messages": [{"role": "user", "content": "Hello!"}]}
            )
        if "complete" in tasks:
            return _curl(f"{url}/v1/completions", {"model": name, "prompt": "Once upon a time", "max_tokens": 64})
    return f"curl {url}/v1/models"


def _curl(url: str, body: Mapping[str, Any]) -> str:
    text = json.dumps(body, ensure_ascii=False)
    return f"curl {url} -H 'Content-Type: application/json' -d {quote(text)}"
