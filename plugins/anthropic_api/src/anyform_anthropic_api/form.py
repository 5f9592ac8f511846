"""How Anthropic answers: an error object with its type, which also ends a stream as an event."""

from __future__ import annotations

import random
from typing import Any

from starlette.responses import JSONResponse, Response

from anyform.contract.errors import Fault, ModelNotFound
from anyform.dialect import Dialect, Head, NotSupported, dumps, headers_of, status_of

PATH = "/v1/messages"
KINDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""Source: https://docs.claude.com/en/api/errors, but for 503, which is there what 529 is."""

CLAUDE = "claude"
ALIAS = "A name that a client insists on can mean a model of yours: aliases in [models] of the settings file."


class NoThreads(NotSupported):
    """Conversations are not kept here. Clients know this code, and then send the whole conversation."""

    code = "thread_unsupported_request"


def _message(fault: Fault) -> str:
    absent = isinstance(fault, ModelNotFound) and str(fault.details.get("model", "")).startswith(CLAUDE)
    return f"{fault} {ALIAS}" if absent else str(fault)


def body(fault: Fault, request_id: str = "") -> dict[str, Any]:
    """Anthropic's error body."""
    status = status_of(fault)
    kind = KINDS.get(status, "invalid_request_error" if status < 500 else "api_error")
    error: dict[str, Any] = {"type": kind, "message": _message(fault)}
    if isinstance(fault, NoThreads):
        error["details"] = {"error_code": fault.code}
    told = {"type": "error", "error": error}
    return told | ({"request_id": request_id} if request_id else {})


def _refusal(fault: Fault) -> Response:
    request_id = f"req_{random.getrandbits(96):024x}"
    return JSONResponse(body(fault, request_id), status_of(fault), {**headers_of(fault), "request-id": request_id})


def _ending(fault: Fault) -> bytes:
    return b"event: error\ndata: " + dumps(body(fault)).encode("ascii") + b"\n\n"


def _headers(head: Head) -> dict[str, str]:
    return {"request-id": f"req_{head.key}"}


DIALECT = Dialect(name="anthropic_api", prefixes=(PATH,), refusal=_refusal, ending=_ending, headers=_headers)
