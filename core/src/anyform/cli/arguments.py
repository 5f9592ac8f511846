"""Arguments that several commands share, and the settings they mean."""

from __future__ import annotations

import json
import re
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from anyform import config
from anyform.config import Config
from anyform.contract.facts import Settings


def add_model(parser: ArgumentParser, *, optional: bool = False) -> None:
    """The model. *optional*: it may be left out, and is then the default model of the settings."""
    left_out = "; without one, the default_model of the settings" if optional else ""
    text = f"a file, a folder, or a name{left_out}"
    parser.add_argument("model", nargs="?" if optional else None, metavar="MODEL", help=text)


def add_inspection(parser: ArgumentParser, *, contexts: bool = False) -> None:
    """What a command takes that looks at one model, as it would be loaded. *contexts*: with several contexts."""
    add_model(parser)
    add_offline(parser)
    add_json(parser)
    add_library(parser)
    add_settings(parser, contexts=contexts)


def add_json(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def add_config(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help=f"settings (default: {config.FILE}, here or of the user)"
    )
    parser.add_argument(
        "--log-level", choices=get_args(config.Level), metavar="L", help="debug, info, warning or error: what is told"
    )


def add_library(parser: ArgumentParser) -> None:
    """Where models are, and which plugins may run them."""
    group = parser.add_argument_group("models")
    group.add_argument("--models", type=Path, action="append", default=[], metavar="DIR", help="search DIR for models")
    group.add_argument(
        "--prefer", action="append", default=[], metavar="PLUGIN", help="use PLUGIN where it can, before others"
    )
    group.add_argument("--forbid", action="append", default=[], metavar="PLUGIN", help="never use PLUGIN")
    add_config(group)  # type: ignore[arg-type]


def add_settings(parser: ArgumentParser, *, contexts: bool = False, context: bool = True) -> None:
    """Load-time settings. *contexts*: several contexts may be named, as `args.contexts`. *context*: whether models have
    one that are meant.
    """
    group = parser.add_argument_group("loading")
    meaning = "tokens that one request may use, prompt and answer together"
    if contexts:
        meaning = f"{meaning}; several as N,N"
        group.add_argument(
            "--context", type=positives, action="extend", dest="contexts", default=[], metavar="N", help=meaning
        )
    elif context:
        group.add_argument("--context", type=positive, metavar="N", help=meaning)
    group.add_argument("--parallel", type=positive, metavar="N", help="requests that run at once")
    group.add_argument("--device", metavar="D", help="cpu, cuda, cuda:1, ...")
    group.add_argument(
        "--option", type=option, action="append", default=[], metavar="KEY=VALUE", help="an option of the backend's own"
    )


def add_server(parser: ArgumentParser) -> None:
    """Which running server to talk to."""
    parser.add_argument("--url", metavar="URL", help="the server's address (default: ANYFORM_URL, else this machine's)")
    add_config(parser)


def add_offline(parser: ArgumentParser) -> None:
    parser.add_argument("--offline", action="store_true", help="ask no hub for anything")


def positive(text: str) -> int:
    """An argument that counts something: 1 or more."""
    return _from(1, text)


def natural(text: str) -> int:
    """An argument that counts something of which there may be none."""
    return _from(0, text)


def _from(low: int, text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = low - 1
    if number < low:
        raise ArgumentTypeError(f"{text!r} is not a number from {low} up")
    return number


def positives(text: str) -> list[int]:
    """Numbers of 1 or more, with commas between them."""
    return [positive(part) for part in text.split(",")]


def task(text: str) -> str:
    """An argument that names a task."""
    from anyform.contract.jobs import TASKS

    if text not in TASKS:
        raise ArgumentTypeError(f"{text!r} is no task; there are {', '.join(TASKS)}")
    return text


def size(text: str) -> int:
    """An argument that is a size: 4GB, 1.5GiB, 800M (as GB, a decimal unit, as disks are sold), or bytes."""
    found = re.fullmatch(r"([0-9]{1,20}(?:\.[0-9]+)?) ?(?:([kmgt])(i?)b?|b?)", text.strip(), re.IGNORECASE)
    if found is None:
        raise ArgumentTypeError(f"{text!r} is no size such as 4GB, 1.5GiB or 800MB")
    number, letter, binary = found.groups()
    unit = (1024 if binary else 1000) ** (1 + "kmgt".index(letter.casefold())) if letter else 1
    return int(float(number) * unit)


def within(name: str, kind: Callable[[str], float]) -> Callable[[str], float]:
    """Reads the sampling field *name*: a number, within its range. *kind*: int or float."""
    from anyform.contract.jobs import RANGES

    low, high = RANGES[name]

    def read(text: str) -> float:
        try:
            number = kind(text)
        except ValueError:
            raise ArgumentTypeError(f"{text!r} is not a {'whole ' if kind is int else ''}number") from None
        if not low <= number <= high:
            raise ArgumentTypeError(f"{text} is not from {low} to {high}")
        return number

    return read


def option(text: str) -> tuple[str, Any]:
    """KEY=VALUE; a VALUE that is JSON (4, true, [1, 2]) is taken as such, anything else as text."""
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    try:
        return key, json.loads(value, parse_constant=str)  # no NaN, which no worker could be told
    except ValueError:
        return key, value


def read_config(args: Namespace) -> Config:
    """The configuration, with the arguments of `add_library` and `add_settings` over it.

    Files and folders that are named are all there is: those of the settings, and the stores, are left out then.
    """
    found = config.load(args.config)
    folders, paths = tuple(getattr(args, "models", ())), tuple(getattr(args, "paths", ()))
    named = replace(found.models, paths=paths, folders=folders, sources=())
    return replace(
        found,
        models=named if folders or paths else found.models,
        offline=found.offline or getattr(args, "offline", False),
        prefer=(*getattr(args, "prefer", ()), *found.prefer),
        forbid=(*getattr(args, "forbid", ()), *found.forbid),
        defaults=settings(args, found.defaults),
        asked=settings(args, Settings()),
    )


def settings(args: Namespace, under: Settings) -> Settings:
    """The settings that the arguments ask for, over *under*."""
    asked = Settings(
        context=getattr(args, "context", None),
        parallel=getattr(args, "parallel", None),
        device=getattr(args, "device", None),
        options=dict(getattr(args, "option", ())),
    )
    return merged(under, asked)


def merged(under: Settings, over: Settings) -> Settings:
    """*over*, with *under* where it says nothing."""
    options: Mapping[str, Any] = {**under.options, **over.options}
    return Settings(
        context=under.context if over.context is None else over.context,
        parallel=under.parallel if over.parallel is None else over.parallel,
        device=under.device if over.device is None else over.device,
        options=options,
    )
