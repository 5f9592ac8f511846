"""`anyform serve [PATH…]`: serve files and folders where they lie, over HTTP."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from argparse import ArgumentParser, Namespace
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from anyform.cli.arguments import add_library, add_offline, add_settings, natural, read_config
from anyform.cli.greeting import EVERYWHERE, announce
from anyform.cli.opening import opened, with_own
from anyform.cli.pulling import pulls_of
from anyform.cli.run import load
from anyform.cli.terminal import errors, output
from anyform.config import Config, LogFormat
from anyform.contract.errors import Fault, Invalid, OutOfMemory
from anyform.contract.facts import Settings
from anyform.journal import begin

if TYPE_CHECKING:
    from anyform.http.config import HttpConfig, Listener
    from anyform.http.listener import Place
    from anyform.kernel.runtime import Runtime

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("paths", nargs="*", default=[], type=Path, metavar="PATH", help="a model: a file or a folder")
    parser.add_argument("--host", metavar="H", help="the address to listen on (default: 127.0.0.1, this machine only)")
    parser.add_argument(
        "--port", type=port, metavar="N", help="the port to listen on; 0: any free one (default: 11540)"
    )
    parser.add_argument(
        "--listen",
        type=listener,
        action="append",
        default=[],
        metavar="[HOST:]PORT[=DIALECT,…]",
        help="listen there too, and speak these alone (11434=ollama_api,openai); DIALECT: at its customary port",
    )
    parser.add_argument("--queue", type=natural, metavar="N", help="requests that may wait for a model; 0: none")
    parser.add_argument(
        "--allow-host", action="append", default=[], metavar="H", help="a further name that clients may use"
    )
    parser.add_argument(
        "--warm", "--preload", dest="preload", action="store_true", help="load what is named before the first request"
    )
    parser.add_argument("--pull", action="store_true", help="fetch owner/repo from the hub when a request names it")
    parser.add_argument("--log-file", type=Path, metavar="FILE", help="log also into FILE, begun anew when it is full")
    parser.add_argument("--log-format", choices=get_args(LogFormat), help="lines of text, or of JSON")
    add_offline(parser)
    add_settings(parser)
    add_library(parser)


def execute(args: Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM."""
    config = _configured(args)
    begin(config.log)
    with suppress(KeyboardInterrupt), opened(with_own(config) if config.models.pull else config) as runtime:
        _serve(runtime, config, args.preload)
    return 0


def port(text: str) -> int:
    """A TCP port."""
    from argparse import ArgumentTypeError

    if not text.isdecimal() or int(text) > 65535:
        raise ArgumentTypeError(f"{text!r} is not a port from 0 to 65535")
    return int(text)


def listener(text: str) -> Listener:
    """A further listener."""
    from argparse import ArgumentTypeError

    from anyform.http.listener import read

    try:
        return read(text)
    except Invalid as wrong:
        raise ArgumentTypeError(f"{wrong.message} {wrong.hint}".rstrip(".")) from None


def _configured(args: Namespace) -> Config:
    found = read_config(args)
    asked = {"host": args.host, "port": args.port, "queue": args.queue}
    server = replace(
        found.server,
        allowed_hosts=(*found.server.allowed_hosts, *args.allow_host),
        listeners=(*found.server.listeners, *args.listen),
        images_folder=str(found.images_folder),
        **{name: value for name, value in asked.items() if value is not None},
    )
    log = {"level": args.log_level, "file": args.log_file, "format": args.log_format}
    found = replace(found, log=replace(found.log, **{name: value for name, value in log.items() if value}))
    return replace(found, server=server, models=replace(found.models, pull=found.models.pull or args.pull))


def _serve(runtime: Runtime, config: Config, preload: bool) -> None:
    from anyform.http import server

    _check(runtime, config)
    _check_default(runtime, config)
    if preload:
        server.check(runtime, config.server)
        _preload(runtime)
    places: list[Place] = []
    pulls = pulls_of(config, runtime)
    _end_at_once_when_told_again()
    try:
        server.serve(
            runtime,
            config.server.host,
            config.server.port,
            config.server,
            ready=lambda url: _greet(runtime, config.server, places),
            pulls=pulls,
            places=places.extend,
        )
    finally:
        pulls.close()


def _greet(runtime: Runtime, config: HttpConfig, places: list[Place]) -> None:
    """Say that it serves; it goes on serving where nobody reads that to its end."""
    _warn_of_others(config)
    try:
        announce(output(), runtime, config, places)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _warn_of_others(config: HttpConfig) -> None:
    """Say where others than this machine's users can reach the server."""
    for host in dict.fromkeys([config.host, *(one.host or config.host for one in config.listeners)]):
        if host not in LOOPBACK:
            where = "all interfaces" if host in EVERYWHERE else host
            warning = f"listening on {where}: whoever reaches this machine can use it; no key is asked for"
            errors().line(errors().paint(warning, "yellow"))


def _end_at_once_when_told_again() -> None:
    """A signal that comes while the server, having had its own, closes or exits: the process ends as with one.

    Workers end by themselves once their server is gone.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        signal.signal(number, lambda *_: os._exit(0))

    @atexit.register
    def ignore() -> None:  # the interpreter, ending, puts the system's own handling in the place of the above
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)


def _check(runtime: Runtime, config: Config) -> None:
    """Raise what no request could mend: nothing of what was named can be served, or nothing at all as it was asked.

    One model that cannot be served keeps no other from it, and what was not asked for keeps no server from starting.
    """
    if not config.models.paths and config.asked == Settings():
        return
    first: Fault | None = None
    for name in _named(runtime) or runtime.names():
        refused = _refused(runtime, name)
        if refused is None:
            return
        first = first or refused
    if first is not None:
        raise first


def _refused(runtime: Runtime, name: str) -> Fault | None:
    """Why it cannot be served so: its files, settings that no backend takes, a context that does not fit."""
    try:
        decision = runtime.explain(name)
    except Fault as unreadable:
        return unreadable
    refused = {verdict.gate: verdict.refusal for verdict in decision.verdicts if decision.plan is None}
    if "settings" in refused:
        return Invalid(f"{name} cannot be served so: {refused['settings']}")
    if "memory" in refused and _context_asked(runtime, name):
        return OutOfMemory(f"{name} cannot be served so: it {refused['memory']}.")
    return None


def _check_default(runtime: Runtime, config: Config) -> None:
    """Say that requests which name no model will be refused, where the default one is not here."""
    try:
        if config.default_model:
            runtime.find(config.default_model)
    except Fault as fault:
        warning = f"default_model of {config.file or 'ANYFORM_DEFAULT_MODEL'}: {fault}"
        errors().line(errors().paint(warning, "yellow"))


def _context_asked(runtime: Runtime, name: str) -> bool:
    return runtime.rule(runtime.find(name)).settings.context is not None


def _preload(runtime: Runtime) -> None:
    """Load what was named. One that fails is told and left to its first request; raises the last Fault if all fail."""
    names = _named(runtime)
    if not names:
        raise Invalid("--preload has nothing to load.", "Name the models: `anyform serve PATH … --preload`.")
    for name in names:
        try:
            load(runtime, name)
        except Fault as fault:
            if name == names[-1] and not runtime.loaded():
                raise
            logged = bool(fault.details.get("tried"))
            why = "its first request tries again" if logged else str(fault)
            errors().line(errors().paint(f"{name} is not loaded: {why}", "red"))


def _named(runtime: Runtime) -> list[str]:
    """The models that the user named, and not those that just lie in some store."""
    return [entry.name for entry in runtime.library.entries() if not entry.source]
