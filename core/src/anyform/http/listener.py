"""Listeners as people write them: `[HOST:]PORT[=DIALECT,…]`, or a dialect alone, at the port where its clients look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from anyform.contract.errors import Invalid
from anyform.http.config import Listener

FORM = "Write [HOST:]PORT[=DIALECT,DIALECT…], or DIALECT for its customary port: 8080=openai,anyform."


@dataclass(frozen=True, kw_only=True)
class Place:
    """A listener that listens."""

    url: str
    """At which this machine reaches it."""
    host: str
    """The address that it is bound to."""
    port: int
    speaks: tuple[str, ...]
    """The names of its dialects."""


def read(text: str) -> Listener:
    """The listener that *text* means. Raises Invalid."""
    place, sign, said = text.strip().partition("=")
    host, colon, last = place.rpartition(":")
    if colon and not _is_host(host):
        raise Invalid(f"{text!r} is no listener: {host!r} is no host.", f"{FORM} IPv6 has brackets: [::1]:8080.")
    host = host.removeprefix("[").removesuffix("]")
    if not sign and not last.isdecimal():
        return Listener(port=None, host=host, dialects=_names(last, text))
    if not (last.isascii() and last.isdecimal() and int(last[:20]) <= 65535):
        raise Invalid(f"{text!r} is no listener: {last!r} is no port from 0 to 65535.", FORM)
    return Listener(port=int(last), host=host, dialects=_names(said, text) if sign else ())


def _is_host(text: str) -> bool:
    bracketed = text.startswith("[") and text.endswith("]")
    return bool(text) and (bracketed or ":" not in text)


def _names(said: str, text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in said.split(",")))
    if not all(names):
        raise Invalid(f"{text!r} is no listener: it names no dialect where one belongs.", FORM)
    return names


def written(listener: Listener) -> str:
    """*listener* as `read` takes it, for messages."""
    host = f"[{listener.host}]" if ":" in listener.host else listener.host
    names = ",".join(listener.dialects)
    if listener.port is None:
        return f"{host}:{names}" if host else names
    return (f"{host}:" if host else "") + str(listener.port) + (f"={names}" if names else "")


def check(listeners: Sequence[Listener]) -> None:
    """Raise Invalid for two at one host and port. The first is the main one; *listeners* have their hosts and ports."""
    seen: set[tuple[str, int | None]] = set()
    for one in listeners:
        place = (one.host, one.port)
        if place in seen and one.port:
            raise Invalid(
                f"two listeners are to be at {one.host} port {one.port}.",
                "Give one of them another port, in [server], [[server.listeners]] or with --port and --listen.",
            )
        seen.add(place)
