"""How LM Studio refuses: v0 with a text, but for models that are not there; v1 with an object; what it does not know
with a 200.
"""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response

from anyform.contract.errors import Area, Category, Fault, Invalid, ModelNotFound
from anyform.dialect import LISTED, Dialect, Fields, NotSupported, UnknownRoute, dumps, status_of


class Unrecognized(Invalid):
    """A field that v1 does not know, which it says of all of them."""

    code = "unrecognized_keys"


class JobNotFound(Fault):
    """No download of that id."""

    code = "job_not_found"
    category, area = Category.NOT_FOUND, Area.REQUEST


SHOWN = 8
"""Unknown fields that a refusal names."""


def only(fields: Fields, *known: str) -> None:
    """Refuse a body that has other fields. Raises Unrecognized."""
    unknown = [name[:100] for name in fields.data if name not in known]
    if unknown:
        said = ", ".join(f"'{name}'" for name in unknown[:SHOWN])
        raise Unrecognized(
            f"Unrecognized key(s) in object: {said}.", f"Known: {', '.join(known)}.", param=fields.path(unknown[0])
        )


def kind(fault: Fault) -> str:
    """v1's `type` of a fault."""
    if isinstance(fault, ModelNotFound | JobNotFound):
        return "job_not_found" if isinstance(fault, JobNotFound) else "model_not_found"
    if isinstance(fault, NotSupported):
        return "not_implemented"
    return "internal_error" if status_of(fault) >= 500 else "invalid_request"


def _said(fault: Fault, models: str) -> str:
    """What happened and what to do, with the place where this API lists *models*."""
    return str(fault).replace(LISTED, f"Model names are listed under {models}.")


def error(fault: Fault) -> dict[str, Any]:
    """v1's error object."""
    told = {"message": _said(fault, "/api/v1/models"), "type": kind(fault), "code": fault.code}
    if isinstance(fault, ModelNotFound):
        fault.details.setdefault("param", "model")
    param = fault.details.get("param")
    return {**told, "param": param} if isinstance(param, str) else told


def _openai(fault: Fault) -> dict[str, Any]:
    """OpenAI's error object, which LM Studio's v0 has for some."""
    param = fault.details.get("param")
    return {
        "message": _said(fault, "/api/v0/models"),
        "type": "server_error" if status_of(fault) >= 500 else "invalid_request_error",
        "param": param if isinstance(param, str) else None,
        "code": fault.code,
    }


def _refusal_v0(fault: Fault) -> Response:
    if isinstance(fault, UnknownRoute):
        return _shared(fault)
    if isinstance(fault, ModelNotFound):
        fault.details.setdefault("param", "model")
        return JSONResponse({"error": _openai(fault)}, status_of(fault))
    return JSONResponse({"error": str(fault)}, status_of(fault))


def _ending_v0(fault: Fault) -> bytes:
    return f"data: {dumps({'error': _openai(fault)})}\n\n".encode("ascii")


def _unknown(method: str, path: str) -> Response:
    return JSONResponse({"error": f"Unexpected endpoint or method. ({method} {path})"})


def _shared(fault: Fault) -> Response:
    """LM Studio answers what it does not know with a 200: at a port that others share, OpenAI's 404 says it."""
    return JSONResponse({"error": _openai(fault)}, status_of(fault))


def _refusal_v1(fault: Fault) -> Response:
    if isinstance(fault, UnknownRoute):
        return _shared(fault)
    return JSONResponse({"error": error(fault)}, status_of(fault))


def event(name: str, **data: Any) -> bytes:
    """One named server-sent event of v1."""
    return f"event: {name}\ndata: {dumps({'type': name, **data})}\n\n".encode("ascii")


def _ending_v1(fault: Fault) -> bytes:
    return event("error", error=error(fault))


NAME = "lmstudio_api"
PORT = 1234
"""Where LM Studio's clients look for it."""
_OWN: dict[str, Any] = {"name": NAME, "unknown": _unknown, "wrong_method": _unknown, "port": PORT}
V0 = Dialect(prefixes=("/api/v0",), refusal=_refusal_v0, ending=_ending_v0, **_OWN)
V1 = Dialect(prefixes=("/api/v1",), refusal=_refusal_v1, ending=_ending_v1, **_OWN)
