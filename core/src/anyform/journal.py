"""The log of a command: on the console, in a file that is begun anew when it is full, as lines of text or of JSON.

Set up once, by the command line; everything else only asks `logging` for a logger. Secrets never get into it.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import IO, Any, get_args

from anyform.config import Level, Log, LogFormat, secrets
from anyform.contract.errors import Invalid

QUIET = (
    "asyncio", "filelock", "fsspec", "httpcore", "httpcore2", "httpx", "httpx2", "huggingface_hub", "urllib3",
    "uvicorn",
)  # fmt: skip
"""Others' loggers, which tell at length what is normal: warnings only, unless the level is debug."""
HIDDEN = "***"

_VALUE = r"[^\s'\",;&)}\\]+"
_SECRETS = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"()\b(?-i:(?:hf|api_org)_(?=[a-z]*[A-Z0-9])[A-Za-z0-9]{8,})",  # no names: hf_transformers, HF_ENDPOINT
        r"()\bsk-[A-Za-z0-9_-]{16,}",
        rf"((?:proxy-)?authorization['\"]?\s*[:=,]\s*b?['\"]?(?:(?:bearer|basic|token)\s+)?){_VALUE}",
        rf"(\b(?:bearer|basic)\s+)(?=[^\s]{{12}}){_VALUE}",
        rf"([?&][\w-]*(?:signature|policy|token|sig|key|credential|key-pair-id)=){_VALUE}",
        rf"(\b(?:api[-_]?key|access[-_]?token|password|secret)['\"]?\s*[:=]\s*['\"]?){_VALUE}",
        r"(://)[^/\s@'\"]+(?=@)",
    )
]
"""What goes before a secret, and the secret."""
_CONTROL = {number: f"\\x{number:02x}" for number in (*range(32), 127) if number != 9} | {10: "\\n", 13: "\\r"}


def begin(log: Log, stream: IO[str] | None = None, short: bool = False) -> None:
    """Let all that is logged go to *stream* (None: standard error) and to the file of *log*.

    *short*: `anyform: message`, for a command whose output a person reads. Called again it replaces what it set up.
    Raises Invalid for an unknown level or format, and for a file that cannot be written.
    """
    _check("level", log.level, get_args(Level))
    _check("format", log.format, get_args(LogFormat))
    known, level = secrets(), getattr(logging, log.level.upper())
    console = logging.StreamHandler(stream or sys.stderr)
    if log.format == "json":
        console.setFormatter(Json(known))
    else:
        pattern = "anyform: %(message)s" if short else "%(asctime)s %(levelname)s %(message)s"
        console.setFormatter(Text(known, pattern, "%H:%M:%S"))
    handlers: list[logging.Handler] = [console]
    if log.file is not None:
        handlers.append(_file(log, known))
    root = logging.getLogger()
    for old in [handler for handler in root.handlers if isinstance(handler.formatter, Text | Json)]:
        root.removeHandler(old)
        old.close()
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(level)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.INFO if log.level == "debug" else logging.WARNING)


def _check(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise Invalid(f"{name} of the log is {value!r}.", f"It must be one of {', '.join(allowed)}.")


def _file(log: Log, known: Iterable[str]) -> logging.Handler:
    from logging.handlers import RotatingFileHandler

    assert log.file is not None
    try:
        log.file.parent.mkdir(parents=True, exist_ok=True)
        handler = RotatingFileHandler(
            log.file, maxBytes=log.file_bytes, backupCount=log.files, encoding="utf-8", errors="backslashreplace"
        )
    except OSError as error:
        raise Invalid(
            f"the log cannot be written to {log.file}: {error.strerror or error}.",
            "Name another with --log-file, or `file` in [log].",
            file=str(log.file),
        ) from error
    pattern = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    handler.setFormatter(Json(known) if log.format == "json" else Text(known, pattern))
    return handler


def clean(text: str, known: Iterable[str] = ()) -> str:
    """*text* without secrets: tokens, what stands in Authorization, signatures of addresses, and those *known*."""
    for secret in known:
        text = text.replace(secret, HIDDEN)
    for pattern in _SECRETS:
        text = pattern.sub(rf"\1{HIDDEN}", text)
    return text


def _all_clean(value: Any, known: Iterable[str]) -> Any:
    """`clean`, of each text in a JSON value."""
    if isinstance(value, Mapping):
        return {str(name): _all_clean(one, known) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_all_clean(one, known) for one in value]
    return value if isinstance(value, bool | int | float | None) else clean(str(value), known)


class Text(logging.Formatter):
    """One line a record, whatever its message holds; a traceback follows on lines of its own."""

    def __init__(self, known: Iterable[str], pattern: str, date: str | None = None) -> None:
        super().__init__(pattern, date)
        self._known = tuple(known)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        return super().formatMessage(record).translate(_CONTROL)

    def format(self, record: logging.LogRecord) -> str:
        return clean(super().format(record), self._known)


class Json(logging.Formatter):
    """One JSON object a record: time (UTC), level, logger, message; fault and exception where there is one."""

    def __init__(self, known: Iterable[str]) -> None:
        super().__init__()
        self._known = tuple(known)

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC)
        said: dict[str, Any] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        fault = getattr(record, "fault", None)
        if fault is not None:
            said["fault"] = fault
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return json.dumps(_all_clean(said, self._known), ensure_ascii=False)
