"""Dialects: whose routes are whose, and in which form each of them is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from starlette.responses import Response

from anyform.contract.errors import Fault
from anyform.http import fault
from anyform.http.reply import SSE, Head

OPENAI, ANYFORM = "openai", "anyform"
"""The server's own: OpenAI's resources, and those about the server itself."""


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How one family of clients is answered."""

    name: str
    """That of its plugin."""
    prefixes: tuple[str, ...]
    """Paths whose refusals are in its form, and all that lies below them, but for `/`, which is itself alone. The
    longest that fits counts. None ends in a slash.
    """
    refusal: Callable[[Fault], Response]
    """The whole answer for a fault."""
    ending: Callable[[Fault], bytes]
    """What ends a stream that had begun well."""
    streams: tuple[str, ...] = (SSE,)
    """Media types of streams that begin at once, since a fault has a place in them."""
    headers: Callable[[Head], Mapping[str, str]] = lambda head: {}
    """Of good answers, beside what HTTP itself wants."""
    unknown: Callable[[str, str], Response | None] = lambda method, path: None
    """The answer to a method and path that nothing serves, on a listener of its own; None: the refusal of a fault."""
    wrong_method: Callable[[str, str], Response | None] | None = None
    """The same for a path that is served, but by other methods; None: as `unknown` says."""
    port: int | None = None
    """Where its clients look for a server if they are told of none; a listener that names no port has this one."""

    def has(self, path: str) -> int:
        """How many letters of *path* say that it belongs here; 0: it does not."""
        return max((len(one) for one in self.prefixes if _below(path, one)), default=0)


def _below(path: str, prefix: str) -> bool:
    return path == prefix or (prefix != "/" and path.startswith(f"{prefix}/"))


def _event(error: Fault) -> bytes:
    return fault.event(error, True)


_PATHS = ("/v1", "/rerank")
OWN = Dialect(name=OPENAI, prefixes=_PATHS, refusal=fault.response, ending=fault.event)
TYPED = Dialect(name=OPENAI, prefixes=_PATHS, refusal=fault.response, ending=_event)
"""OpenAI's, where each event of a stream says its type."""
ABOUT = Dialect(
    name=ANYFORM,
    prefixes=("/health", "/ready", "/metrics", "/runtime", "/registry"),
    refusal=fault.response,
    ending=fault.event,
)
"""The server's own word about itself, refused as OpenAI refuses."""


class Dialects:
    """Those of one listener. They are asked by its event loop while a thread may add and remove."""

    def __init__(self, wanted: Sequence[str] = ()) -> None:
        """*wanted*: names of those that are served; empty: all."""
        self.wanted = tuple(wanted)
        self.known: tuple[Dialect, ...] = tuple(one for one in (OWN, ABOUT) if self.serves(one.name))
        """Those that are there now; never changed in place."""

    def serves(self, name: str) -> bool:
        """Whether the routes of that plugin, or of the server itself, are here."""
        return not self.wanted or name in self.wanted

    def add(self, dialect: Dialect) -> None:
        """Let *dialect* have its paths."""
        self.known = (*self.known, dialect)

    def keep(self, known: Sequence[Dialect]) -> None:
        """Let only these have theirs, of those that are there."""
        self.known = tuple(one for one in self.known if one in known)

    @property
    def first(self) -> Dialect:
        """The one that answers for what belongs to none."""
        named = {one.name: one for one in reversed(self.known)}
        return next((named[name] for name in self.wanted if name in named), OWN)

    def of(self, path: str) -> Dialect:
        """The one in whose form a refusal of *path* is."""
        nearest = max(self.known, key=lambda one: one.has(path), default=OWN)
        return nearest if nearest.has(path) else self.first

    def unknown(self, method: str, path: str, served: bool = False) -> Response | None:
        """What the first dialect answers where nothing serves, if it has its own word. *served*: other methods are;
        then only where the path is its own, or where it has a word for just that.
        """
        first = self.first
        if served and first.wrong_method is None and self.of(path) is not first:
            return None
        ask = first.wrong_method if served and first.wrong_method is not None else first.unknown
        return ask(method, path)

    @property
    def port(self) -> int | None:
        """Where the clients of the first that is wanted look, of those that have such a port."""
        ports = {one.name: one.port for one in reversed(self.known) if one.port is not None}
        return next((ports[name] for name in self.wanted if name in ports), None)
