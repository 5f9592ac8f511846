"""Finds a command's module, parses its arguments, runs it, and turns every fault into one line and an exit code."""

from __future__ import annotations

import signal
import sys
from argparse import ArgumentParser, Namespace
from importlib import import_module
from pathlib import Path
from shlex import quote
from typing import Any, NoReturn, Protocol, TextIO, cast

from anyform.cli import is_closed_pipe
from anyform.cli.complaint import MISUSED, complain
from anyform.cli.overview import COMMANDS
from anyform.cli.parser import EXIT, Parser

FAILED, TERMINATED = 1, 143
"""What a shell shows for SIGTERM is 128 and its number."""


class Terminated(KeyboardInterrupt):
    """SIGTERM."""


class Command(Protocol):
    """What a command's module has."""

    def configure(self, parser: ArgumentParser) -> None:
        """Add the command's arguments."""

    def execute(self, args: Namespace) -> int:
        """Do it; the exit code. Faults may be raised."""


def dispatch(arguments: list[str]) -> int:
    """Run the command that the first argument names; the exit code."""
    name, rest = arguments[0], arguments[1:]
    if name in ("-V", "--version", "version"):
        return _version()
    if name == "help":
        return dispatch([*rest[:1], "--help"]) if rest else _overview()
    if name not in COMMANDS:
        return _unknown(name, "--json" in arguments)
    _prepare_streams()
    _end_on_terminate()
    command = cast(Command, import_module(f"anyform.cli.{name}"))
    parser = Parser(name, *COMMANDS[name])
    command.configure(parser)
    try:
        return _execute(command, parser.read(rest))
    except SystemExit as exit:
        return exit.code if isinstance(exit.code, int) else FAILED
    except Terminated:
        return TERMINATED


def _execute(command: Command, args: Namespace) -> int:
    from anyform.config import debugging

    try:
        _begin_log(args)
        status = command.execute(args)
        sys.stdout.flush()
        return status
    except Exception as error:
        if debugging() or (isinstance(error, OSError) and is_closed_pipe(error)):
            raise
        _tell(error, getattr(args, "json", False))
    return FAILED


def _begin_log(args: Namespace) -> None:
    """Tell as much as is asked for; a command that always tells something sets that up by itself."""
    level = getattr(args, "log_level", None)
    if level:
        from anyform.config import Log
        from anyform.journal import begin

        begin(Log(level=level), short=True)


def _tell(error: Exception, as_json: bool) -> None:
    from anyform.contract.errors import Fault

    if isinstance(error, Fault):
        complain(error.message, error.hint, code=error.code, as_json=as_json, known=error.as_dict())
        return
    message, hint, code = _told(error)
    complain(message, hint, code=code, as_json=as_json)


def _told(error: Exception) -> tuple[str, str, str]:
    """(what happened, what to do, code) of what is no fault."""
    from anyform.contract.errors import Fault

    if isinstance(error, OSError):
        where = f": {error.filename}" if error.filename else ""
        advice = "Check the disk, the permissions and where the output goes."
        return f"{error.strerror or error}{where}.", advice, "os_error"
    advice = "This is a bug in anyform; ANYFORM_DEBUG=1 shows where."
    return f"{type(error).__name__}: {error}.", advice, Fault.code


def _overview() -> int:
    from anyform.cli.overview import text

    sys.stdout.write(text())
    return 0


def _version() -> int:
    from anyform import __version__

    print(f"anyform {__version__}")
    return 0


def _unknown(name: str, as_json: bool) -> int:
    if name.startswith("-"):
        message, hint = f"{name} stands before the command.", "Write `anyform COMMAND [options]`."
    elif Path(name).exists():
        message, hint = f"{name!r} is no command.", f"Did you mean `anyform run {quote(name)}`?"
    else:
        from difflib import get_close_matches

        near = get_close_matches(name, COMMANDS, n=1, cutoff=0.5)
        meant = f"Did you mean `anyform {near[0]}`?" if near else "`anyform --help` lists the commands."
        message, hint = f"there is no command {name!r}.", meant
    complain(message, hint, code=MISUSED, as_json=as_json)
    return EXIT


def _prepare_streams() -> None:
    """Let any text through: pipes carry UTF-8 on every platform; a terminal shows what it can."""
    for stream in cast("list[TextIO | Any]", [sys.stdin, sys.stdout, sys.stderr]):
        if stream is None or not hasattr(stream, "reconfigure"):
            continue
        if stream.isatty():
            stream.reconfigure(errors="replace")
        else:
            stream.reconfigure(encoding="utf-8", errors="replace" if stream is not sys.stdin else "surrogateescape")


def _end_on_terminate() -> None:
    """Let SIGTERM end a command as Ctrl-C does, so that models are closed. Only the main thread may say so."""
    import threading

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(number: int, frame: object) -> NoReturn:
    raise Terminated
