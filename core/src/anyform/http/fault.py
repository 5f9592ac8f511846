"""Faults in OpenAI's error form, `{"error": {message, type, param, code}}` and more, with the right status."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from starlette.responses import Response

from anyform.contract.errors import (
    Area,
    Category,
    EngineMissing,
    Fault,
    LoadFailed,
    NoBackend,
    OutOfMemory,
    PluginFault,
)
from anyform.contract.facts import Severity

STATUS = {
    Category.INVALID: 400,
    Category.UNSUPPORTED: 400,
    Category.REFUSED: 403,
    Category.NOT_FOUND: 404,
    Category.TOO_LARGE: 413,
    Category.BUSY: 429,
    Category.UNAVAILABLE: 503,
    Category.INTERNAL: 500,
}
MORE = ("category", "area", "severity", "part", "cause", "suggestions")
"""What an error's body says beyond OpenAI's own fields, as `Fault.as_dict` does."""
LEVEL = {Severity.INFO: logging.INFO, Severity.WARNING: logging.WARNING, Severity.CRITICAL: logging.ERROR}
LASTING = (EngineMissing, LoadFailed, NoBackend, OutOfMemory, PluginFault)

log = logging.getLogger("anyform.http")


class UnknownRoute(Fault):
    """No resource at that path."""

    code = "unknown_url"
    category, area, severity = Category.NOT_FOUND, Area.REQUEST, Severity.INFO


class WrongMethod(Fault):
    """The resource exists, but not for that method."""

    code = "method_not_supported"
    category, area, severity = Category.INVALID, Area.REQUEST, Severity.INFO
    status = 405


class WrongEncoding(Fault):
    """A compressed body: how large it would become cannot be known before it has."""

    code = "unsupported_content_encoding"
    category, area, severity = Category.INVALID, Area.REQUEST, Severity.INFO
    status = 415


class Internal(Fault):
    """An exception that nobody foresaw."""

    severity = Severity.CRITICAL


def status(fault: Fault) -> int:
    """The HTTP status of *fault*: its category's, unless HTTP itself has a more exact one."""
    own = getattr(fault, "status", None)
    return own if isinstance(own, int) else STATUS[fault.category]


def kind(code: int) -> str:
    """OpenAI's error `type` for an HTTP status."""
    if code == 429:
        return "requests"
    return "server_error" if code >= 500 else "invalid_request_error"


def body(fault: Fault) -> dict[str, Any]:
    """OpenAI's error body; `param` and `code` are strings or null. MORE stands beside."""
    param, known = fault.details.get("param"), fault.as_dict()
    return {
        "error": {
            "message": str(fault),
            "type": kind(status(fault)),
            "param": param if isinstance(param, str) else None,
            "code": fault.code,
            **{name: known[name] for name in MORE},
        }
    }


def tell(fault: Fault, where: str = "") -> None:
    """One line in the log: code, part and *where* it was met, then what happened and what to do; and what a program
    printed last, which no client is told: it may name files.
    """
    at = " ".join(filter(None, (fault.code, fault.part, where)))
    printed = " | ".join(str(fault.details.get("output") or "").splitlines())
    told = f"{fault} It printed last: {printed}" if printed else str(fault)
    log.log(LEVEL[fault.severity], "[%s] %s", at, told, extra={"fault": fault.as_dict()})


def encode(fault: Fault) -> bytes:
    """The error body as JSON."""
    return json.dumps(body(fault)).encode("ascii")


def typed(fault: Fault) -> dict[str, Any]:
    """The error body as an event that says its type."""
    return {"type": "error", **body(fault)}


def event(fault: Fault, has_type: bool = False) -> bytes:
    """The server-sent event that ends a stream which had begun well."""
    return b"data: " + json.dumps(typed(fault) if has_type else body(fault)).encode("ascii") + b"\n\n"


def headers(fault: Fault) -> dict[str, str]:
    """Retry-After for a full queue; the openai client's own header where trying again would only fail again; the end
    of a connection whose request did not come whole.
    """
    if status(fault) == 408:
        return {"connection": "close"}
    if fault.category is Category.BUSY:
        return {"retry-after": str(max(1, math.ceil(_retry_after(fault))))}
    lasting = isinstance(fault, LASTING) or getattr(fault, "lasting", False)
    return {"x-should-retry": "false"} if lasting else {}


def _retry_after(fault: Fault) -> float:
    seconds = fault.details.get("retry_after_s", 1)
    return float(seconds) if isinstance(seconds, int | float) and math.isfinite(seconds) else 1.0


def response(fault: Fault) -> Response:
    """The whole HTTP answer for *fault*."""
    return Response(encode(fault), status(fault), headers(fault), media_type="application/json")


def unforeseen(error: BaseException) -> Fault:
    """An exception that is no fault, as one."""
    if isinstance(error, Fault):
        return error
    said = f"{type(error).__name__}: {error}"
    return Internal(f"internal error: {said}.", "This is a bug in anyform; the log has more.", cause=said)


class Told(Fault):
    """What a plugin's resource refused as the framework lets it: with a status and some words."""

    category, area, severity = Category.INVALID, Area.REQUEST, Severity.INFO


def from_status(
    code: int, method: str, path: str, said: str = "", spoken: Sequence[str] = (), owner: str = "openai"
) -> Fault:
    """The fault for a status that the router itself gave, or a plugin's resource, which *said* why. *spoken*: the
    dialects of the port; empty: all. *owner*: the one that has the path.
    """
    if said:
        told: Fault = (Told if code < 500 else Internal)(said)
        told.status = code  # type: ignore[attr-defined]
        return told
    if code == 404:
        return UnknownRoute(f"Invalid URL ({method} {path}).", _where(path, spoken, owner))
    if code == 405:
        return WrongMethod(f"Not allowed to {method} on {path}.", "Perhaps you meant to use a different HTTP method?")
    phrase = HTTPStatus(code).phrase if code in HTTPStatus.__members__.values() else "?"
    made = Internal(f"{code} {phrase}: {method} {path}.")
    made.status = code  # type: ignore[attr-defined]
    return made


def _where(path: str, spoken: Sequence[str], owner: str) -> str:
    """What to do about a path that nothing serves."""
    if path.startswith("/v1/v1/"):
        return "It has /v1 twice: leave it out of the client's base URL."
    if owner not in ("openai", "anyform"):
        return f"{owner} has no such resource."
    if spoken and "openai" not in spoken:
        return f"Spoken at this port: {', '.join(spoken)}."
    return "The OpenAI resources are under /v1."
