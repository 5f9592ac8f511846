"""Any command that serves OpenAI's API, as a backend: llama-server, vLLM, SGLang, a script of your own.

A model is a folder with `anyform-command.json`, which says what the server can do. The command that is run is never
the one in that file, which may have been downloaded, but the load option `command` of the user's own configuration.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from anyform.contract.errors import Invalid, RefusedRequest
from anyform.contract.facts import (
    BackendInfo,
    Capabilities,
    Evidence,
    Finding,
    FormatMatch,
    MemoryEstimate,
    Metadata,
    ModelFiles,
    Plan,
    Settings,
    Severity,
)
from anyform.contract.hooks import hookimpl
from anyform.contract.model import LoadedModel

ANYFORM_CONTRACT = 1

FILE = "anyform-command.json"
TASKS = ("chat", "complete", "embed", "rerank")
READY_TIMEOUT_S = 300.0
BYTES_PER_TOKEN = 64 << 10

FILE_TYPES: Mapping[str, tuple[type, str]] = {
    "command": (list, "a list of words"),
    "tasks": (list, "a list of tasks"),
    "model": (str, "a file or folder"),
    "served_model": (str, "a name"),
    "ready": (str, "a path such as /health"),
    "context": (int, "a number of tokens"),
    "memory_bytes": (int, "a number of bytes"),
}
OPTIONS = ("command", "ready", "ready_timeout_s", "served_model")


class CommandOption(Invalid):
    """A load option that the command backend does not know, or of the wrong type."""

    code = "command.option"


class CommandNotAllowed(RefusedRequest):
    """A model's own file names a command, and the user's configuration does not."""

    code = "command.not_allowed"


@hookimpl
def list_backends() -> list[BackendInfo]:
    return [
        BackendInfo(
            name="command",
            reads=("command",),
            tasks=TASKS,
            devices=("cpu", "cuda", "rocm", "metal"),
            local_options=OPTIONS,
        )
    ]


@hookimpl
def detect_format(files: ModelFiles) -> list[FormatMatch]:
    if FILE not in files.files:
        return []
    why = f"{FILE} describes a server"
    return [FormatMatch(format="command", entry=FILE, files=(FILE,), evidence=Evidence.NAME, why=why)]


@hookimpl
def validate(files: ModelFiles, match: FormatMatch) -> list[Finding]:
    data = files.json(match.entry)
    if not data:
        text = f"{match.entry} is not a whole JSON object. Write it again."
        return [Finding(code="command.truncated", severity=Severity.CRITICAL, text=text)]
    wrong = [
        Finding(
            code="command.type",
            severity=Severity.CRITICAL,
            text=f"{match.entry}: {key} is {data[key]!r}. Give {wanted}.",
        )
        for key, (kind, wanted) in FILE_TYPES.items()
        if key in data and not isinstance(data[key], kind)
    ]
    model = PurePosixPath(str(data.get("model", ".")))
    if model.is_absolute() or ".." in model.parts:
        text = f"{match.entry}: model is {data['model']!r}, outside of its folder. Put such a path in your command."
        wrong.append(Finding(code="command.outside", severity=Severity.CRITICAL, text=text))
    return wrong


@hookimpl
def extract_metadata(files: ModelFiles, match: FormatMatch) -> Metadata:
    data = files.json(match.entry)
    said = {key: data[key] for key, (kind, _) in FILE_TYPES.items() if isinstance(data.get(key), kind)}
    return Metadata(
        tasks=tuple(task for task in said.get("tasks", ("chat",)) if task in TASKS),
        context=said.get("context"),
        weight_bytes=said.get("memory_bytes", sum(files.files.values())),
        extra={key: said[key] for key in ("command", "model", "served_model", "ready") if key in said},
    )


@hookimpl
def estimate_memory(metadata: Metadata) -> MemoryEstimate:
    return MemoryEstimate(
        weights_bytes=metadata.weight_bytes or 0,
        bytes_per_token=BYTES_PER_TOKEN,
        confidence=0.1,
        why=f"a guess: memory_bytes of {FILE}, or the size of its folder, and 64 KiB a token",
    )


@hookimpl
def probe_backend(backend: BackendInfo) -> Capabilities:
    return Capabilities(engine_version="1", devices=backend.devices)


@hookimpl
def load(plan: Plan) -> LoadedModel:
    from anyform.builtin.command_engine import CommandModel
    from anyform.builtin.process import Server, free_port

    options, extra = checked(plan.settings), plan.metadata.extra
    template = _allowed(plan, options)
    port = free_port()
    server = Server(fill(template, plan, port), port, Path(plan.path))
    ready = options.get("ready", extra.get("ready", "/v1/models"))
    server.wait_until_ready(ready, float(options.get("ready_timeout_s", READY_TIMEOUT_S)))
    called = options.get("served_model", extra.get("served_model", ""))
    return CommandModel(server, called or plan.model, find_name=not called, parallel=plan.settings.parallel or 4)


def checked(settings: Settings) -> dict[str, Any]:
    """The load options, with the command as a list of words. Raises CommandOption."""
    options = dict(settings.options)
    for name in options:
        if name not in OPTIONS:
            raise CommandOption(f"command has no option {name!r}.", f"It has {', '.join(OPTIONS)}.")
    command = options.get("command", [])
    words = shlex.split(command) if isinstance(command, str) else command
    if not isinstance(words, Sequence) or not all(isinstance(word, str) for word in words):
        raise CommandOption(f"option command is {command!r}.", "Give a list of words, or one line.")
    if not isinstance(options.get("ready_timeout_s", 1), int | float):
        raise CommandOption(f"option ready_timeout_s is {options['ready_timeout_s']!r}.", "Give seconds.")
    options["command"] = list(words)
    return options


def _allowed(plan: Plan, options: Mapping[str, Any]) -> list[str]:
    command: list[str] = options["command"]
    if command:
        return command
    proposed = plan.metadata.extra.get("command")
    words = json.dumps(proposed or ["llama-server", "--port", "{port}", "-m", "{model_path}"])
    table = f"[model.{json.dumps(plan.model)}.options]"
    raise CommandNotAllowed(
        f"{plan.model} is served by a command, and your configuration names none for it. "
        f"A command in a model's own {FILE} is never run, since whoever wrote that file would rule this machine.",
        f"If you trust it, put this under {table} in your anyform.toml: command = {words}",
        proposed=proposed,
    )


def fill(template: Sequence[str], plan: Plan, port: int) -> list[str]:
    """The command with {port}, {host}, {model_path}, {model}, {context} and {parallel} filled in."""
    path = Path(plan.path) / str(plan.metadata.extra.get("model", "."))
    values: Mapping[str, object] = {
        "port": port,
        "host": "127.0.0.1",
        "model_path": path,
        "model": plan.model,
        "context": plan.settings.context or plan.metadata.context or 4096,
        "parallel": plan.settings.parallel or 4,
    }
    return [re.sub(r"\{(\w+)\}", lambda found: str(values.get(found[1], found[0])), word) for word in template]
