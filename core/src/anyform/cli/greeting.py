"""What `serve` says when it is ready: what is served, where, and how to ask."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping, Sequence
from shlex import quote
from typing import TYPE_CHECKING, Any

from anyform.cli.table import Cell, table
from anyform.cli.terminal import Terminal
from anyform.contract.errors import Fault

if TYPE_CHECKING:
    from anyform.http.config import HttpConfig
    from anyform.http.listener import Place
    from anyform.kernel.router import Decision
    from anyform.kernel.runtime import Runtime

HEAD = ("MODEL", "FORMAT", "QUANTIZATION", "RUNS ON")
PLACES = ("LISTENS AT", "SPEAKS")
OPENAI = "openai"
"""The dialect of which the examples are."""
SHOWN = 20
EVERYWHERE = ("0.0.0.0", "::", "")
"""Hosts that mean all interfaces."""
_FAR = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}
"""Addresses kept for documentation (RFC 5737, RFC 3849)."""


def announce(terminal: Terminal, runtime: Runtime, config: HttpConfig, places: Sequence[Place]) -> None:
    """Print it. *places*: where the server listens, the main one first."""
    names, main = runtime.names(), places[0]
    terminal.line(f"anyform serves {terminal.paint(_base(main), 'cyan')} (Ctrl-C stops it)")
    everywhere = [place for place in places if place.host in EVERYWHERE]
    for place in everywhere:
        far = f"http://{reached_as(config, place.host)}:{place.port}{'/v1' if OPENAI in place.speaks else ''}"
        terminal.line(f"on all interfaces; from other machines: {terminal.paint(far, 'cyan')}")
    terminal.line()
    if places[1:]:
        table(terminal, PLACES, [[(place.url, "cyan"), " ".join(place.speaks)] for place in places])
        terminal.line()
    if names:
        _list(terminal, runtime, names, next((place.url for place in places if OPENAI in place.speaks), ""))
    else:
        none = "no models: pull one, or name files, folders, or --models DIR"
        terminal.line(terminal.paint(none, "yellow"))
    terminal.stream.flush()


def _base(place: Place) -> str:
    """What clients are told of it: OpenAI's want the /v1 too."""
    return f"{place.url}/v1" if OPENAI in place.speaks else place.url


def reached_as(config: HttpConfig, host: str) -> str:
    """What other machines may call a server on all interfaces, of *host*: the first name that it was told, else its
    address.
    """
    told = next((name for name in config.allowed_hosts if name != "*"), "")
    host = told or _own_address(socket.AF_INET6 if host == "::" else socket.AF_INET)
    return f"[{host}]" if ":" in host else host


def _own_address(family: socket.AddressFamily) -> str:
    """The address that this machine's packets carry; its name where it has no network. Nothing is sent."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((_FAR[family], 9))
            return str(probe.getsockname()[0])
    except OSError:
        return socket.gethostname()


def _list(terminal: Terminal, runtime: Runtime, names: Sequence[str], url: str) -> None:
    """*url*: of a listener for OpenAI's clients; empty: there is none, and no example then."""
    decisions = {name: _decided(runtime, name) for name in names[:SHOWN]}
    table(terminal, HEAD, [_row(runtime, name, decided) for name, decided in decisions.items()])
    if len(names) > SHOWN:
        terminal.line(f"… and {len(names) - SHOWN} more")
    if url:
        terminal.line()
        terminal.line(_example(runtime, url, decisions))


def _decided(runtime: Runtime, name: str) -> Decision | Fault:
    try:
        return runtime.explain(name)
    except Fault as fault:
        return fault


def _row(runtime: Runtime, name: str, decided: Decision | Fault) -> list[Cell]:
    entry = runtime.find(name)
    if isinstance(decided, Fault):
        return [(name, "cyan"), entry.match.format, "-", (decided.message, "red")]
    quantization = runtime.metadata(entry).quantization or "-"
    return [(name, "cyan"), entry.match.format, quantization, _runs_on(decided)]


def _runs_on(decision: Decision) -> Cell:
    if decision.plan:
        return decision.runner, "green"
    for verdict in decision.verdicts:
        if verdict.gate != "format":
            return f"{'refused' if verdict.gate == 'memory' else 'nothing'}: {verdict.refusal}", "red"
    return "nothing: no plugin that is installed", "red"


def _example(runtime: Runtime, url: str, decisions: Mapping[str, Decision | Fault]) -> str:
    """A request that works, for the first model that can run and that chats, completes, hears, speaks or paints."""
    for name, decided in decisions.items():
        if isinstance(decided, Fault) or decided.plan is None:
            continue
        tasks = runtime.metadata(runtime.find(name)).tasks
        if "chat" in tasks:
            hello = {"role": "user", "content": "Hello!"}
            return _curl(f"{url}/v1/chat/completions", {"model": name, "messages": [hello]})
        if "complete" in tasks:
            return _curl(f"{url}/v1/completions", {"model": name, "prompt": "Once upon a time", "max_tokens": 64})
        if "transcribe" in tasks:
            return f"curl {url}/v1/audio/transcriptions -F {quote(f'model={name}')} -F file=@speech.mp3"
        if "speak" in tasks:
            return f"{_curl(f'{url}/v1/audio/speech', {'model': name, 'input': 'Hello!'})} -o speech.mp3"
        if "image" in tasks:
            return _curl(f"{url}/v1/images/generations", {"model": name, "prompt": "A red fox"})
    return f"curl {url}/v1/models"


def _curl(url: str, body: Mapping[str, Any]) -> str:
    text = json.dumps(body, ensure_ascii=False)
    return f"curl {url} -H 'Content-Type: application/json' -d {quote(text)}"
