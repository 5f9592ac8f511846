"""Request bodies: read in pieces up to a limit, then strict JSON. Every refusal is a fault with status 4xx."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from starlette.requests import Request

from anyform.contract.errors import Invalid, TooLarge
from anyform.http.fault import WrongEncoding
from anyform.http.media import size

DEPTH = 128
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class NotJson(Invalid):
    """A body that is not the JSON object it should be."""

    code = "invalid_json"


async def read(request: Request, limit: int) -> bytes:
    """The body; TooLarge as soon as it is known to exceed *limit* bytes, before the rest has come."""
    require_plain(request)
    _announced(request.headers.get("content-length", ""), limit)
    pieces = bytearray()
    async for piece in request.stream():
        pieces += piece
        if len(pieces) > limit:
            _too_large(limit)
    return bytes(pieces)


def require_plain(request: Request) -> None:
    """Raise WrongEncoding for a compressed body."""
    encoding = request.headers.get("content-encoding", "")
    if encoding.strip().lower() not in ("", "identity"):
        raise WrongEncoding(f"Content-Encoding '{encoding}' is not accepted.", "Send the body uncompressed.")


def _announced(length: str, limit: int) -> None:
    if length.isascii() and length.isdigit() and int(length[:20]) > limit:
        _too_large(limit)


def _too_large(limit: int) -> NoReturn:
    raise TooLarge(
        f"The request body is larger than {limit} bytes.",
        f"Send at most {size(limit)}, or raise the server's body_bytes.",
        limit=limit,
    )


def parse(data: bytes) -> dict[str, Any]:
    """The JSON object in *data*. NaN, infinities, lone surrogates and nesting over DEPTH levels are refused."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise NotJson(f"The request body is not UTF-8: {error.reason} at byte {error.start}.") from None
    try:
        value = json.loads(text, parse_constant=_constant, parse_float=_float)
    except RecursionError:
        _too_deep()
    except ValueError as error:
        raise NotJson(f"We could not parse the JSON body of your request: {error}.") from None
    if not isinstance(value, dict):
        raise NotJson("The request body must be a JSON object.")
    _shallow(value)
    if _SURROGATE.search(text):
        _whole(value)
    return value


def _constant(name: str) -> NoReturn:
    raise NotJson(f"{name} is not a JSON number.")


def _float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise NotJson(f"The number {text[:40]} is too large.")
    return value


def _too_deep() -> NoReturn:
    raise NotJson(f"The request body is nested more than {DEPTH} levels deep.")


def _shallow(value: Any) -> None:
    level = [value]
    for _ in range(DEPTH):
        level = [inner for outer in level for inner in _nested(outer)]
        if not level:
            return
    _too_deep()


def _nested(value: Any) -> list[Any]:
    inner = value.values() if isinstance(value, dict) else value
    return [item for item in inner if isinstance(item, dict | list)]


def _whole(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise NotJson("The request body contains half of a surrogate pair, which is no character.") from None
