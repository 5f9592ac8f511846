"""What an operator may set about the HTTP side. Who reads it from files or the environment is `anyform.config`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PORT = 11540


@dataclass(frozen=True, kw_only=True)
class Listener:
    """A further port, for programs that expect a server of another kind there."""

    port: int | None = None
    """0: any that is free; None: where clients of the first of its dialects that says so look for a server."""
    host: str = ""
    """Empty: the server's own."""
    dialects: tuple[str, ...] = ()
    """Whose routes are served here; empty: all. What belongs to none of them is answered as the first would."""


@dataclass(frozen=True, kw_only=True)
class HttpConfig:
    """Limits and names of one server; sizes in bytes, times in seconds."""

    host: str = "127.0.0.1"
    """The address that the server is bound to: on a loopback address only loopback names are answered."""
    port: int = PORT
    dialects: tuple[str, ...] = ()
    """Whose routes are served at this port: `openai`, `anyform` (/health, /metrics, /runtime, /registry), and names of
    plugins; empty: all.
    """
    listeners: tuple[Listener, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    """Further names that a Host or Origin header may carry; "*" allows every one."""
    cors_origins: tuple[str, ...] = ()
    """Origins (`https://chat.example`) whose pages may call this server from a browser."""
    body_bytes: int = 36 * 1024**2
    """Room for one picture or sound of `media_bytes` as base64, and 2 MiB of other things."""
    media_bytes: int = 25 * 1024**2
    """One decoded picture or sound inside a request; OpenAI takes sounds of as many."""
    speech_letters: int = 50_000
    """Letters that one request may have spoken; over a socket, that may wait to be."""
    images_folder: str = ""
    """Where pictures are kept whose answer has a URL; empty: in a folder that goes with the server."""
    images_bytes: int = 1024**3
    """Of all that are kept there; the oldest go first. 0: none are kept."""
    images_keep_s: int = 3600
    """How long each is kept."""
    responses_bytes: int = 64 * 1024**2
    """Of the responses of /v1/responses that are kept in memory; the longest unused go first. 0: none are kept."""
    responses_keep_s: int = 24 * 3600
    """How long each is kept after its last use."""
    fetch: bool = False
    """Whether pictures and sounds that a request names by URL are fetched, from public addresses only."""
    fetch_hosts: tuple[str, ...] = ()
    """From these alone: `name`, `*.name`, each maybe with a `:port`; empty: from all, at the ports 80 and 443."""
    fetch_s: int = 10
    """How long one may take."""
    media_folders: tuple[Path, ...] = ()
    """Folders of which requests may name pictures and sounds by path."""
    queue: int = 64
    """Requests that may wait for one model, beside those that run; one more is answered 429."""
    grace_s: int = 1
    """How long running answers may go on after the server was told to stop."""
    default_model: str = ""
    """The model of requests that name none; empty: they are refused."""
    suggestions: str = ""
    """A file of models to suggest; empty: anyform's own."""
