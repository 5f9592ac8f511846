"""Keeps web pages out: a page whose name was re-bound to this address, and a page that posts from elsewhere.

A server on a loopback address trusts all who reach it, and a browser reaches it for every page that it shows.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from anyform.contract.errors import RefusedRequest
from anyform.http import fault
from anyform.http.config import HttpConfig
from anyform.http.dialect import Dialects

SHOWN = 200
"""Letters of a header in a refusal."""
ELSEWHERE = (
    "To let its pages call this server, add it to cors_origins in anyform.toml; a further name of this server itself"
    " goes to allowed_hosts (--allow-host)."
)
NULL = "It is what a page says that was opened from a file, or is kept from saying more: serve it over http."


class Guard:
    """ASGI middleware: answers 403 to a Host or Origin that is not this server's."""

    def __init__(self, app: ASGIApp, config: HttpConfig, dialects: Dialects | None = None) -> None:
        """*dialects*: in whose form it refuses."""
        self._app, self._dialects = app, dialects or Dialects()
        self._open = "*" in config.allowed_hosts
        self._local = is_loopback(config.host)
        self._allowed = {name.lower() for name in config.allowed_hosts}
        self._origins = {origin.lower() for origin in config.cors_origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = None if scope["type"] == "lifespan" else self._judge(scope)
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            path = str(scope.get("path", ""))
            fault.tell(refusal, path)
            await self._dialects.of(path).refusal(refusal)(scope, receive, send)

    def _judge(self, scope: Scope) -> RefusedRequest | None:
        """Where all names are allowed, a page is still kept from opening a socket: no browser would for us."""
        if self._open and (scope["type"] != "websocket" or "*" in self._origins):
            return None
        host, origin = "", ""
        for name, value in scope["headers"]:
            if name == b"host":
                host = host_of(value.decode("latin-1"))
            elif name == b"origin":
                origin = value.decode("latin-1")
        if host and not (self._open or self._knows(host)):
            return RefusedRequest(
                f"Host '{host[:SHOWN]}' is not this server's.",
                "Allow it with --allow-host, or allowed_hosts in anyform.toml.",
            )
        if origin and not self._trusts(origin, host):
            return RefusedRequest(f"Origin '{origin[:SHOWN]}' is not allowed.", NULL if origin == "null" else ELSEWHERE)
        return None

    def _knows(self, host: str) -> bool:
        if host in self._allowed or is_loopback(host):
            return True
        return not self._local and not self._allowed

    def _trusts(self, origin: str, host: str) -> bool:
        """Pages of `cors_origins`, the server's own, those of its further names, and those of any port of this machine.

        So may programs that name a scheme of their own, such as tauri://localhost; "null" may be any page at all.
        """
        if origin.lower() in self._origins:
            return True
        try:
            parts = urlsplit(origin)
            name = (parts.hostname or "").lower()
        except ValueError:
            return False
        if parts.scheme not in ("http", "https"):
            return bool(parts.scheme)
        return name == host or name in self._allowed or is_loopback(name)


def host_of(header: str) -> str:
    """The name in a Host header, without port and brackets."""
    header = header.strip().lower()
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.rpartition(":")[0] if header.count(":") == 1 else header


def is_loopback(host: str) -> bool:
    """Whether *host* names this machine alone."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
