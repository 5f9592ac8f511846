"""Answers taken apart, so that each field of one can be laid beside the same field of another."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .exchanges import Exchange

SAME_VALUE = ("done", "done_reason", "role", "status", "error", "capabilities")
"""Fields whose values must be equal too; of all others the type."""
PATIENCE_S = 60


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer as it came."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def ask(address: str, exchange: Exchange) -> Answer:
    """What the server at *address* answers."""
    connection = http.client.HTTPConnection(address, timeout=PATIENCE_S)
    headers = {"content-type": "application/json", **exchange.headers}
    try:
        connection.request(exchange.method, exchange.path, exchange.content or None, headers)
        answer = connection.getresponse()
        told = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, told, answer.read())
    finally:
        connection.close()


def taken_apart(answer: Answer) -> dict[str, Any]:
    """Its parts by path: `status`, `type`, then fields as `last.message.content`; types, or values of SAME_VALUE."""
    kind, _, charset = answer.headers.get("content-type", "").partition("; charset=")
    parts: dict[str, Any] = {"status": answer.status, "type": kind, "charset": charset}
    objects = _objects(answer.body)
    if objects is None:
        parts["body"] = answer.body.decode("utf-8", "replace")
        return parts
    if "ndjson" in parts["type"]:
        parts["lines"] = min(len(objects), 2)
    for name, value in zip(("first", "last"), (objects[:1] + objects[1:][-1:]), strict=False):
        _flatten(name, value, parts)
    return parts


def _objects(body: bytes) -> list[Any] | None:
    try:
        return [json.loads(line) for line in body.splitlines() if line.strip()]
    except ValueError:
        return None


def _flatten(path: str, value: Any, into: dict[str, Any]) -> None:
    if isinstance(value, dict):
        for name, inner in value.items():
            _flatten(f"{path}.{name}", inner, into)
        if not value:
            into[path] = "{}"
    elif isinstance(value, list) and path.rpartition(".")[2] not in SAME_VALUE:
        into[path] = "[]" if not value else "list"
        kinds: dict[str, set[str]] = {}
        for inner in value:
            one: dict[str, Any] = {}
            _flatten(f"{path}[]", inner, one)
            for name, kind in one.items():
                kinds.setdefault(name, set()).add(str(kind))
        into.update({name: " or ".join(sorted(found)) for name, found in kinds.items()})
    elif path.rpartition(".")[2] in SAME_VALUE:
        into[path] = re.sub(r"[0-9a-f]{64}", "DIGEST", value) if isinstance(value, str) else value
    else:
        into[path] = _kind(value)


def _kind(value: Any) -> str:
    if isinstance(value, str):
        if re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)", value):
            return "time"
        return "digest" if re.fullmatch(r"[0-9a-f]{64}", value) else "text"
    return {bool: "truth", int: "number", float: "number", type(None): "null"}[type(value)]


def differences(ours: Answer, theirs: Answer) -> dict[str, tuple[Any, Any]]:
    """(ours, theirs) by path; None: not there. Where the status differs already, that alone.

    A text of ours that begins as theirs and goes on is a difference in `path+`.
    """
    if ours.status != theirs.status:
        return {"status": (ours.status, theirs.status)}
    here, there = taken_apart(ours), taken_apart(theirs)
    paths = sorted({*here, *there})
    pairs = {path: (here.get(path), there.get(path)) for path in paths if here.get(path) != there.get(path)}
    return {f"{path}+" if _goes_on(*pair) else path: pair for path, pair in pairs.items()}


def _goes_on(ours: Any, theirs: Any) -> bool:
    return isinstance(ours, str) and isinstance(theirs, str) and ours.startswith(theirs) and len(theirs) > 3
