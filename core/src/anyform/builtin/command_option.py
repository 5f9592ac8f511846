"""What the command backends are told: tables of the settings file, load options, and the words of a command."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anyform.contract.errors import Invalid
from anyform.contract.facts import BackendInfo, Plan, Settings

FORMAT = "command"
"""The format of a folder that says itself what its server can do."""
DEVICES = ("cpu", "cuda", "rocm", "metal")
READY = "/v1/models"
READY_TIMEOUT_S = 300.0
CONTEXT = 4096
PARALLEL = 4
OPTIONS = ("args", "command", "env", "memory_bytes", "ports", "ready", "ready_timeout_s", "served_model")
STATED = ("reads", "tasks", "devices", "features", "args")
"""What of a table is told to the router, or joined to the command; all else is a load option. The option `args` holds
one model's own words, which come behind those of the table.
"""


class CommandOption(Invalid):
    """A load option that the command backend does not know, or of the wrong type."""

    code = "command.option"


def backend(name: str, table: Mapping[str, Any]) -> BackendInfo:
    """The backend that the table [command.NAME] describes.

    Its command, environment and ports become load options: they come from the user's own settings, and reach a worker
    in the plan.
    """
    words = {"command": [table["command"], *table.get("args", ())]}
    return BackendInfo(
        name=name,
        reads=tuple(table["reads"]),
        tasks=tuple(table.get("tasks") or ("chat", "complete")),
        devices=tuple(table.get("devices") or ("cpu",)),
        features=tuple(table.get("features") or ()),
        local_options=OPTIONS,
        options={key: value for key, value in table.items() if key not in STATED and value} | words,
        trouble=_absence(table["command"], table.get("env") or {}),
    )


def _absence(program: str, env: Mapping[str, str]) -> str:
    """Why *program* cannot be started; empty where it can, or where its name is known only at load."""
    if "{" in program or shutil.which(program, path=env.get("PATH")):
        return ""
    place = "is not in PATH" if Path(program).name == program else "is not where the settings say, or cannot be run"
    return f"its program {Path(program).name} {place}"


def checked(settings: Settings) -> dict[str, Any]:
    """The load options, with the command as a list of words and `args` behind them. Raises CommandOption."""
    options = dict(settings.options)
    for name in options:
        if name not in OPTIONS:
            raise CommandOption(f"command has no option {name!r}.", f"It has {', '.join(OPTIONS)}.")
    for name in ("ready_timeout_s", "memory_bytes"):
        if not isinstance(options.get(name, 1), int | float):
            raise CommandOption(f"option {name} is {options[name]!r}.", "Give a number.")
    if not isinstance(options.get("env", {}), Mapping):
        raise CommandOption(f"option env is {options['env']!r}.", "Give a table of names and values.")
    command, arguments = _words("command", options), _words("args", options)
    options["command"] = [*command, *arguments] if command else []
    options["ports"] = ports(str(options.get("ports", "")))
    return options


def _words(name: str, options: Mapping[str, Any]) -> list[str]:
    given = options.get(name, [])
    words = shlex.split(given) if isinstance(given, str) else given
    if not isinstance(words, Sequence) or not all(isinstance(word, str) for word in words):
        raise CommandOption(f"option {name} is {given!r}.", "Give a list of words, or one line.")
    return list(words)


def ports(text: str) -> range | None:
    """The ports of `9000-9100` or `9000`; None: any that is free. Raises CommandOption."""
    if not text:
        return None
    found = re.fullmatch(r"(\d{1,5})(?:\s*-\s*(\d{1,5}))?", text)
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 0 < first <= last < 65536:
        raise CommandOption(f"option ports is {text!r}.", 'Give a range such as "9000-9100".')
    return range(first, last + 1)


def fill(template: Sequence[str], plan: Plan, port: int) -> list[str]:
    """The words with what stands in braces filled in: see `values`. Other braces stay as they are."""
    known = values(plan, port)
    return [re.sub(r"\{(\w+)\}", lambda found: str(known.get(found[1], found[0])), word) for word in template]


def values(plan: Plan, port: int) -> Mapping[str, object]:
    """What {port}, {host}, {model_path}, {model}, {context}, {total_context}, {parallel}, {device}, {device_kind} and
    {device_index} stand for. context: tokens of one request; total_context: of all that run at once.
    """
    inner = str(plan.metadata.extra.get("model", ".")) if plan.match.format == FORMAT else plan.match.entry
    context, parallel = plan.settings.context or plan.metadata.context or CONTEXT, plan.settings.parallel or PARALLEL
    device = next(iter(plan.devices), None)
    return {
        "port": port,
        "host": "127.0.0.1",
        "model_path": Path(plan.path) / inner,
        "model": plan.model,
        "context": context,
        "total_context": context * parallel,
        "parallel": parallel,
        "device": device.id if device else "cpu",
        "device_kind": device.kind if device else "cpu",
        "device_index": device.index if device else 0,
    }
