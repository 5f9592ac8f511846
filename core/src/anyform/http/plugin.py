"""/runtime/plugins: what is installed, and to look again. Keeps each plugin's own routes in the applications.

A plugin's routes come after the server's own and those of plugins before it, so it can take none of theirs away.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple

from fastapi import FastAPI
from starlette.responses import Response

from anyform.contract.errors import Fault, Invalid, PluginFault
from anyform.http import fault, reply
from anyform.http.dialect import ANYFORM, OPENAI, Dialect

if TYPE_CHECKING:
    from anyform.http.service import Service
    from anyform.kernel.choice import EngineState
    from anyform.kernel.runtime import Runtime

HOOK = "add_routes"


def report(runtime: Runtime, spoken: Mapping[str, Sequence[Dialect]]) -> dict[str, Any]:
    """Each plugin with its backends and their engines, its dialects, and what collected hooks raised. Imports no
    engine. *spoken*: dialects by the plugin's name.
    """
    engines = runtime.capabilities(probe=False)
    return {
        "plugins": [
            {
                **asdict(record),
                "backends": [engine(one) for one in engines if one.plugin == record.name],
                "dialects": [{"paths": one.prefixes, "port": one.port} for one in spoken.get(record.name, ())],
            }
            for record in runtime.plugins.records
        ],
        "failures": [fault.as_dict() for fault in runtime.plugins.failures],
    }


def engine(state: EngineState) -> dict[str, Any]:
    """One backend, and what is known of its engine without importing it; `capabilities` where it was proven before."""
    return {**asdict(state), "state": _word(state)}


def _body(runtime: Runtime, spoken: Mapping[str, Sequence[Dialect]], changes: Mapping[str, Any] | None = None) -> bytes:
    """As JSON; what a plugin says that is none is said as text."""
    return json.dumps({**(changes or {}), **report(runtime, spoken)}, default=str).encode()


def _word(state: EngineState) -> str:
    if state.missing:
        return "missing"
    if state.trouble:
        return "broken"
    return "proven" if state.capabilities is not None else "unproven"


class _Hung(NamedTuple):
    """What one plugin added to one application."""

    face: FastAPI
    routes: list[Any]
    dialects: tuple[Dialect, ...]


class Installed:
    """The resources."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._faces: list[FastAPI] = []
        self._hung: dict[str, list[_Hung]] = {}
        """By plugin."""
        self._looking = asyncio.Lock()

    def add_face(self, app: FastAPI) -> None:
        """Have the routes of plugins kept in *app* too."""
        self._faces.append(app)

    def add_routes(self) -> None:
        """Let every plugin add its own. Raises Invalid for a listener's dialect that nothing speaks."""
        for name in self._service.runtime.plugins.names():
            self._add(name)
        for face in self._faces:
            for name in face.state.dialects.wanted:
                if name not in (OPENAI, ANYFORM, *self._hung):
                    raise self._unknown(name)

    def names(self, face: FastAPI) -> tuple[str, ...]:
        """Whose routes *face* has."""
        dialects = face.state.dialects
        here = (name for name, hung in self._all() if any(one.face is face and one.routes for one in hung))
        known = [*(name for name in (OPENAI, ANYFORM) if dialects.serves(name)), *here]
        return tuple(sorted(known, key=dialects.wanted.index) if dialects.wanted else known)

    @property
    def spoken(self) -> dict[str, Sequence[Dialect]]:
        """The dialects of each plugin, as they are wherever they are spoken."""
        return {name: next((one.dialects for one in hung if one.dialects), ()) for name, hung in self._all()}

    def _all(self) -> list[tuple[str, list[_Hung]]]:
        """By plugin, as it is now: a thread may add to it."""
        return list(self._hung.items())

    def _unknown(self, name: str) -> Invalid:
        known = [OPENAI, ANYFORM, *self._hung]
        record = self._service.runtime.plugins.record(name)
        if record is not None:
            why = "it adds no routes over HTTP" if record.sound else f"it is broken: {record.reason}"
            return Invalid(f"the plugin {name!r} is no dialect: {why.rstrip('.')}.", f"Known: {', '.join(known)}.")
        near = get_close_matches(name, known, n=1, cutoff=0.5)
        meant = f"Did you mean {near[0]!r}? " if near else ""
        return Invalid(
            f"there is no dialect {name!r}.", f"{meant}Known: {', '.join(known)}; others come with their plugins."
        )

    async def plugins(self) -> Response:
        body = await self._service.threads.quick(_body, self._service.runtime, self.spoken)
        return Response(body, media_type=reply.JSON)

    async def refresh(self) -> Response:
        """Look again; what runs goes on. Answers which were added, removed and changed, and all that there are now."""
        service = self._service
        async with self._looking:
            changes = await service.threads.slow(service.runtime.refresh_plugins)
            for name in (*changes["removed"], *changes["changed"]):
                self._remove(name)
            for name in (*changes["added"], *changes["changed"]):
                await service.threads.slow(self._add, name)
            for face in self._faces:
                face.openapi_schema = None
        body = await service.threads.quick(_body, service.runtime, self.spoken, changes)
        return Response(body, media_type=reply.JSON)

    def _add(self, name: str) -> None:
        """Let the plugin add its routes; one that fails keeps none and costs no other."""
        if not self._service.runtime.plugins.implements(name, HOOK):
            return
        wanted = [face for face in self._faces if face.state.dialects.serves(name)]
        self._hung[name] = [self._added(name, face) for face in wanted]

    def _added(self, name: str, face: FastAPI) -> _Hung:
        runtime, routes, dialects = self._service.runtime, face.router.routes, face.state.dialects
        before, spoken = len(routes), dialects.known
        try:
            runtime.plugins.ask_one(name, HOOK, routes=face, runtime=runtime)
            _check(name, dialects.known[len(spoken) :])
        except Fault as raised:
            del routes[before:]
            dialects.keep(spoken)
            self._note(raised if isinstance(raised, PluginFault) else PluginFault(name, HOOK, raised))
        return _Hung(face, routes[before:], dialects.known[len(spoken) :])

    def _note(self, failed: PluginFault) -> None:
        """It may fail at each listener, which is one failure."""
        failures = self._service.runtime.plugins.failures
        if failed.message not in {one.message for one in failures}:
            failures.append(failed)
            fault.tell(failed)

    def _remove(self, name: str) -> None:
        """Take the plugin's routes out; answers under way go on."""
        for face, gone, spoken in self._hung.pop(name, []):
            dialects, routes = face.state.dialects, face.router.routes
            dialects.keep([one for one in dialects.known if one not in spoken])
            routes[:] = [route for route in routes if not any(route is one for one in gone)]


def _check(name: str, spoken: Sequence[Dialect]) -> None:
    """Raise Invalid for dialects that nobody would find by the plugin's name."""
    for one in spoken:
        if one.name != name:
            raise Invalid(f"its dialect is called {one.name!r}.", f"Call it {name!r}, as the plugin.")
