"""How Ollama answers: refusals as one text, which also ends a stream as a line of its own."""

from __future__ import annotations

import re

from starlette.responses import JSONResponse, PlainTextResponse, Response

from anyform.contract.errors import Fault
from anyform.dialect import LISTED, NDJSON, Dialect, dumps, status_of

VERSION = "0.9.3"
"""Of Ollama, whose API this speaks; clients compare it to know what they may ask for."""


_ABSENT = re.compile(r"there is no model ('.*'|\".*\")\.(?: (.*))?", re.DOTALL)


def told(fault: Fault) -> str:
    """What happened and what to do; of a model that is not here in the words that clients look for."""
    said = str(fault).replace(LISTED, "GET /api/tags lists those that are here.")
    absent = _ABSENT.fullmatch(said)
    if absent is None:
        return said
    return f"model {absent[1]} not found" + (f". {absent[2]}" if absent[2] else "")


def _refusal(fault: Fault) -> Response:
    return JSONResponse({"error": told(fault)}, status_of(fault))


def _ending(fault: Fault) -> bytes:
    return dumps({"error": told(fault)}).encode("ascii") + b"\n"


def _unknown(method: str, path: str) -> Response:
    return PlainTextResponse("404 page not found", 404)


def _wrong_method(method: str, path: str) -> Response:
    return PlainTextResponse("405 method not allowed", 405)


DIALECT = Dialect(
    name="ollama_api",
    prefixes=("/", "/api"),
    refusal=_refusal,
    ending=_ending,
    streams=(NDJSON,),
    unknown=_unknown,
    wrong_method=_wrong_method,
    port=11434,
)
