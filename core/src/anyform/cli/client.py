"""Talks to a running server, by the standard library alone."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import quote, urlsplit

from anyform.cli.arguments import read_config
from anyform.contract.errors import Area, Category, Fault, Invalid

CONNECT_S = 5.0
ELSEWHERE = ("unknown_url", "method_not_supported")
"""Codes of OpenAI's form for what a port does not serve; other forms have none."""


class ServerAbsent(Fault):
    """No server answers at the address."""

    code = "server_absent"
    category, area = Category.UNAVAILABLE, Area.SERVER


class ServerRefused(Fault):
    """The server answered with an error; the message is its own."""

    code = "server_refused"
    category, area = Category.INVALID, Area.SERVER


class Client:
    """One server at *url*. Raises ServerAbsent, ServerRefused."""

    def __init__(self, url: str) -> None:
        """Raises Invalid for what is no http address."""
        url = url.rstrip("/").removesuffix("/v1")  # as `serve` prints it, for OpenAI's clients
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Invalid(f"{url!r} is not a server's address.", "Give one such as http://127.0.0.1:11540.")
        self.url = url
        self._parts = parts

    @classmethod
    def of(cls, args: Namespace) -> Client:
        """The server that `--url`, ANYFORM_URL or the configuration names."""
        return cls(args.url or read_config(args).server_url)

    def status(self) -> Mapping[str, Any]:
        """What is loaded, as `models`, loading, as `loading`, given up, as `failed`, and being pulled, as `pulls`."""
        said = self._ask("GET", "/runtime/status")
        return {"models": [], "loading": [], "failed": {}, "pulls": [], **said}

    def load(self, model: str, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """Load *model*; returns when it is ready."""
        return self._ask("POST", f"/runtime/load/{quote(model, safe='/:')}", settings)

    def unload(self, model: str, now: bool = False) -> Mapping[str, Any]:
        """Unload *model*, once its requests have ended or *now*."""
        return self._ask("POST", f"/runtime/unload/{quote(model, safe='/:')}", {"now": now})

    def refresh_plugins(self) -> Mapping[str, Any]:
        """Have it look for plugins again: what was added, removed and changed, and all that there are."""
        return self._ask("POST", "/runtime/plugins/refresh", {})

    def health(self) -> Mapping[str, Any]:
        """The server's own word on its health."""
        return self._ask("GET", "/health", limit_s=CONNECT_S)

    def _ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, limit_s: float | None = None
    ) -> Mapping[str, Any]:
        """One request. *limit_s*: how long it may take once connected; None: as long as loading takes."""
        connection = self._connection()
        try:
            connection.connect()
            connection.sock.settimeout(limit_s)
            content = None if body is None else json.dumps(body).encode()
            connection.request(
                method, self._parts.path.rstrip("/") + path, content, {"Content-Type": "application/json"}
            )
            response = connection.getresponse()
            status, data = response.status, response.read()
        except (OSError, HTTPException) as error:
            raise ServerAbsent(
                f"no server answers at {self.url} ({_cause(error)}).",
                "Start one with `anyform serve`, or name another with --url or ANYFORM_URL.",
            ) from None
        finally:
            connection.close()
        return self._answer(status, data)

    def _connection(self) -> HTTPConnection:
        kind = HTTPSConnection if self._parts.scheme == "https" else HTTPConnection
        return kind(self._parts.hostname or "", self._parts.port, timeout=CONNECT_S)

    def _answer(self, status: int, data: bytes) -> Mapping[str, Any]:
        try:
            answer = json.loads(data)
        except ValueError:
            answer = None
        error = answer.get("error") if isinstance(answer, dict) else None
        if status < 400 and isinstance(answer, dict) and set(answer) != {"error"}:
            return answer
        if isinstance(error, dict) and error.get("message") and error.get("code", ELSEWHERE[0]) not in ELSEWHERE:
            raise _refused(error)
        raise ServerRefused(
            f"{self.url} answered {status}, which is not anyform's.",
            "Check --url. If a server of anyform listens there, it speaks other dialects only at that port: name one"
            " where it speaks 'anyform', or add that to dialects in [server].",
        )


def _refused(error: Mapping[str, Any]) -> Fault:
    """The server's own fault, where its body tells enough of it; the message has the first suggestion in it."""
    said = str(error["message"])
    more = [str(one) for one in error.get("suggestions") or () if str(one) not in said]
    try:
        return Fault.revive({**error, "code": str(error["code"]), "message": said, "suggestions": more})
    except (KeyError, ValueError, TypeError):
        return ServerRefused(said, suggestions=more, cause=str(error.get("cause") or ""))


def _cause(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__
