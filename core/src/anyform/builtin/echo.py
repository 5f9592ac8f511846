"""A toy format and backend: repeats what it is told. The example to read, the smoke test, and the tests' fake engine.

A model is a JSON file (`echo.json`, `x.echo.json` or `x.echo`) whose "format" is "echo"; its tokens are words.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

from anyform.builtin import echo_picture, echo_speech
from anyform.contract.errors import Invalid
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
    Reduction,
    Settings,
    Severity,
)
from anyform.contract.hooks import hookimpl
from anyform.contract.model import LoadedModel

ANYFORM_CONTRACT = 1

TEXT_TASKS = ("chat", "complete", "embed", "rerank")
"""What a model does whose file does not say it."""
TASKS = (
    *TEXT_TASKS,
    "classify",
    "zero_shot",
    "caption",
    "answer",
    "transcribe",
    "translate",
    "speak",
    *echo_picture.TASKS,
)
FEATURES = ("tools", "thinking")
"""Those too."""
SIGHT = "vision"
CONTEXT = 4096
BYTES_PER_TOKEN = 64

MAGIC = re.compile(rb'\s*\{\s*"format"\s*:\s*"echo"')
SUFFIXES = (".echo.json", ".echo")

OPTIONS: Mapping[str, type | tuple[type, ...]] = {
    "delay_s": (int, float),  # before each token, and each step of a picture
    "load_delay_s": (int, float),
    "memory_bytes": int,  # what the estimate says
    "careful": bool,
    "crash": str,  # load, first, or after:N tokens or steps: the process kills itself
    "crash_unless": str,  # the option that prevents it, to try reductions with
    "runs_on": str,  # what it says that it computes on
    "warning": str,  # what it says about its load
    "remark": str,  # what it says about each request that it answers
}
FILE_OPTIONS = ("delay_s", "load_delay_s", "memory_bytes")


class EchoOption(Invalid):
    """A load option that echo does not know, or of the wrong type."""

    code = "echo.option"


@hookimpl
def list_backends() -> list[BackendInfo]:
    careful = Reduction(options={"careful": True}, why="repeat carefully, which costs nothing")
    return [
        BackendInfo(
            name="echo",
            reads=("echo",),
            tasks=TASKS,
            features=(*FEATURES, SIGHT),
            local_options=("crash", "crash_unless"),
            reductions=(careful,),
        )
    ]


@hookimpl
def detect_format(files: ModelFiles) -> list[FormatMatch]:
    return [_match(files, name) for name in files.files if _stem(name) is not None and _is_echo(files, name)]


@hookimpl
def validate(files: ModelFiles, match: FormatMatch) -> list[Finding]:
    data = files.json(match.entry)
    if not data:
        text = f"{match.entry} is not a whole JSON object. Copy it again."
        return [Finding(code="echo.truncated", severity=Severity.CRITICAL, text=text)]
    wrong = [key for key, kind in _FILE_TYPES.items() if key in data and not _is(data[key], kind)]
    return [
        Finding(code="echo.type", severity=Severity.CRITICAL, text=f"{match.entry}: {key} is {data[key]!r}.")
        for key in wrong
    ]


@hookimpl
def extract_metadata(files: ModelFiles, match: FormatMatch) -> Metadata:
    data = {key: value for key, value in files.json(match.entry).items() if _is(value, _FILE_TYPES.get(key, object))}
    return Metadata(
        name=match.name or str(data.get("name", "")),
        version="1",
        architecture="echo",
        tasks=tuple(data.get("tasks", TEXT_TASKS)),
        parameters=data.get("parameters"),
        context=data.get("context", CONTEXT),
        weight_bytes=files.files.get(match.entry),
        features=tuple(data.get("features", FEATURES)),
        tokenizer="words",
        extra={
            "options": {key: data["options"][key] for key in FILE_OPTIONS if key in data.get("options", {})},
            **(_speech() if "speak" in data.get("tasks", ()) else {}),
            **(echo_picture.FACTS if set(echo_picture.TASKS) & set(data.get("tasks", ())) else {}),
        },
    )


def _speech() -> dict[str, Any]:
    return {
        "voices": [dict(voice) for voice in echo_speech.VOICES],
        "sample_rate": echo_speech.RATE,
        "speeds": list(echo_speech.SPEEDS),
    }


@hookimpl
def estimate_memory(metadata: Metadata, settings: Settings) -> MemoryEstimate:
    said = _options(metadata, settings).get("memory_bytes")
    return MemoryEstimate(
        weights_bytes=said if said is not None else metadata.weight_bytes or 0,
        bytes_per_token=BYTES_PER_TOKEN,
        confidence=1.0,
        why=f"the file, or the option memory_bytes, and {BYTES_PER_TOKEN} bytes a word",
    )


@hookimpl
def probe_backend() -> Capabilities:
    return Capabilities(engine_version="1", features=(*FEATURES, SIGHT))


@hookimpl
def load(plan: Plan) -> LoadedModel:
    options = _options(plan.metadata, plan.settings)
    context = plan.settings.context if plan.settings.context is not None else plan.metadata.context or CONTEXT
    parallel = plan.settings.parallel if plan.settings.parallel is not None else 4
    for name, value in (("context", context), ("parallel", parallel)):
        if value < 1:
            raise EchoOption(f"{name} is {value}.", "Give 1 or more.")
    time.sleep(options.get("load_delay_s", 0))
    from anyform.builtin.echo_engine import EchoModel

    sees = SIGHT in plan.metadata.features
    model = EchoModel(plan.model, plan.metadata.tasks, context, parallel, options, sees)
    model.crash_at("load")
    return model


_FILE_TYPES: Mapping[str, Any] = {
    "format": str,
    "name": str,
    "variant": str,
    "order": int,
    "context": int,
    "parameters": int,
    "tasks": list,
    "features": list,
    "options": dict,
}


def _is(value: Any, kind: Any) -> bool:
    """isinstance, but True and False are no numbers."""
    return isinstance(value, kind) and (not isinstance(value, bool) or kind in (bool, object))


def _options(metadata: Metadata, settings: Settings) -> dict[str, Any]:
    """Load options: those of the file under those of the user, all checked."""
    options = {**metadata.extra.get("options", {}), **settings.options}
    for name, value in options.items():
        if name not in OPTIONS:
            raise EchoOption(f"echo has no option {name!r}.", f"It has {', '.join(OPTIONS)}.")
        if not _is(value, OPTIONS[name]):
            raise EchoOption(f"option {name} is {value!r}.", f"Give a value of type {OPTIONS[name]}.")
    return options


def _stem(name: str) -> str | None:
    """The model's own name in a file name; "" for echo.json; None: not echo's."""
    if name == "echo.json":
        return ""
    return next((name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix)), None)


def _is_echo(files: ModelFiles, name: str) -> bool:
    return MAGIC.match(files.head(name)) is not None or files.json(name).get("format") == "echo"


def _match(files: ModelFiles, name: str) -> FormatMatch:
    data = files.json(name)
    stem = _stem(name) or ""
    return FormatMatch(
        format="echo",
        entry=name,
        files=(name,),
        evidence=Evidence.MAGIC,
        why=f'{name} says "format": "echo"',
        name=str(data.get("name", stem)),
        variant=str(data.get("variant", "")),
        order=data["order"] if _is(data.get("order"), int) else 0,
    )
