"""Any command that serves OpenAI's API, as a backend: llama-server, vLLM, SGLang, a script of your own.

Each table [command.NAME] of the settings file is a backend of that name for the formats that the table lists. Beside
them, a folder with `anyform-command.json` is a model, whose file says what its server can do. The command that is run
is never the one in that file, which may have been downloaded, but the load option `command` of the user's own settings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from anyform.builtin.command_option import DEVICES, FORMAT, OPTIONS, READY, READY_TIMEOUT_S, backend, checked, fill
from anyform.contract.errors import LoadFailed, RefusedRequest
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

if TYPE_CHECKING:
    from anyform.builtin.process import Server

ANYFORM_CONTRACT = 1

FILE = "anyform-command.json"
TASKS = ("chat", "complete", "embed", "rerank")
BYTES_PER_TOKEN = 64 << 10
CACHE_BYTES = 2
"""Of one cached number, in half precision."""
TRIES = 3
"""Ports that are tried, where others take them in the meantime."""

FILE_TYPES: Mapping[str, tuple[type, str]] = {
    "command": (list, "a list of words"),
    "tasks": (list, "a list of tasks"),
    "model": (str, "a file or folder"),
    "served_model": (str, "a name"),
    "ready": (str, "a path such as /health"),
    "context": (int, "a number of tokens"),
    "memory_bytes": (int, "a number of bytes"),
}


class CommandNotAllowed(RefusedRequest):
    """A model's own file names a command, and the user's configuration does not."""

    code = "command.not_allowed"


@hookimpl
def list_backends(tables: Mapping[str, Mapping[str, Any]]) -> list[BackendInfo]:
    own = BackendInfo(name="command", reads=(FORMAT,), tasks=TASKS, devices=DEVICES, local_options=OPTIONS)
    return [own, *(backend(name, table) for name, table in tables.items())]


@hookimpl
def detect_format(files: ModelFiles) -> list[FormatMatch]:
    if FILE not in files.files:
        return []
    why = f"{FILE} describes a server"
    return [FormatMatch(format=FORMAT, entry=FILE, files=(FILE,), evidence=Evidence.NAME, why=why)]


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
def estimate_memory(metadata: Metadata, settings: Settings) -> MemoryEstimate:
    stated = int(checked(settings).get("memory_bytes") or 0)
    if stated:
        return MemoryEstimate(weights_bytes=stated, confidence=0.5, why="memory_bytes of the command's table")
    per_token = _cache_bytes(metadata)
    return MemoryEstimate(
        weights_bytes=metadata.weight_bytes or 0,
        bytes_per_token=BYTES_PER_TOKEN if per_token is None else per_token,
        confidence=0.1 if per_token is None else 0.3,
        why="a guess: the weights as they lie in the files, and "
        + ("64 KiB a token" if per_token is None else "layers x KV heads x (key + value length) x 2 bytes a token"),
    )


def _cache_bytes(metadata: Metadata) -> int | None:
    """KV cache of one token in half precision, where the model says its shape."""
    names = ("layers", "kv_heads", "key_length", "value_length")
    known = [number for name in names if isinstance(number := metadata.extra.get(name), int)]
    if len(known) < len(names):
        return None
    layers, heads, key, value = known
    return layers * heads * (key + value) * CACHE_BYTES


@hookimpl
def probe_backend(backend: BackendInfo) -> Capabilities:
    return Capabilities(engine_version="1", devices=backend.devices)


@hookimpl
def load(plan: Plan) -> LoadedModel:
    from anyform.builtin.command_engine import CommandModel

    options = {**_stated(plan), **checked(plan.settings)}
    server = _started(plan, _allowed(plan, options), options)
    called = str(options.get("served_model") or "")
    return CommandModel(server, called or plan.model, find_name=not called, parallel=plan.settings.parallel or 4)


def _stated(plan: Plan) -> Mapping[str, Any]:
    """What a model says of its own server; nothing, for one that is a file of weights."""
    extra = plan.metadata.extra if plan.match.format == FORMAT else {}
    return {name: extra[name] for name in ("ready", "served_model") if name in extra}


def _started(plan: Plan, template: Sequence[str], options: Mapping[str, Any]) -> Server:
    """A server that is ready. One whose port was taken by a stranger after all is started again on another."""
    from anyform.builtin.process import Claim, Server

    folder = Path(plan.path) if plan.match.format == FORMAT else None
    path = options.get("ready") or READY
    timeout_s = float(options.get("ready_timeout_s") or READY_TIMEOUT_S)
    refused: list[int] = []
    while True:
        claim = Claim.of(options["ports"], refused)
        env = {name: fill([str(value)], plan, claim.port)[0] for name, value in options.get("env", {}).items()}
        server = Server(fill(template, plan, claim.port), claim, folder, env)
        try:
            server.wait_until_ready(path, timeout_s)
        except LoadFailed as fault:
            refused.append(claim.port)
            if fault.details.get("port_taken") and len(refused) < TRIES:
                continue
            raise
        return server


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
