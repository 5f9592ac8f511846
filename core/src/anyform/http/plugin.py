"""/runtime/plugins: what is installed, and to look again. Keeps each plugin's own routes in the application.

A plugin's routes come after the server's own and those of plugins before it, so it can take none of theirs away.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from starlette.responses import Response

from anyform.contract.errors import Fault, PluginFault
from anyform.http import reply

if TYPE_CHECKING:
    from anyform.http.service import Service
    from anyform.kernel.choice import EngineState
    from anyform.kernel.runtime import Runtime

HOOK = "add_routes"


def report(runtime: Runtime) -> dict[str, Any]:
    """Each plugin with its backends and their engines, and what collected hooks raised. Imports no engine."""
    engines = runtime.capabilities(probe=False)
    return {
        "plugins": [
            {**asdict(record), "backends": [engine(one) for one in engines if one.plugin == record.name]}
            for record in runtime.plugins.records
        ],
        "failures": [fault.as_dict() for fault in runtime.plugins.failures],
    }


def engine(state: EngineState) -> dict[str, Any]:
    """One backend, and what is known of its engine without importing it; `capabilities` where it was proven before."""
    return {**asdict(state), "state": _word(state)}


def _body(runtime: Runtime, changes: Mapping[str, Any] | None = None) -> bytes:
    """As JSON; what a plugin says that is none is said as text."""
    return json.dumps({**(changes or {}), **report(runtime)}, default=str).encode()


def _word(state: EngineState) -> str:
    if state.missing:
        return "missing"
    if state.trouble:
        return "broken"
    return "proven" if state.capabilities is not None else "unproven"


class Installed:
    """The resources."""

    def __init__(self, service: Service, app: FastAPI) -> None:
        self._service, self._app = service, app
        self._routes: dict[str, list[Any]] = {}
        """What each plugin added."""
        self._looking = asyncio.Lock()

    def add_routes(self) -> None:
        """Let every plugin add its own."""
        for name in self._service.runtime.plugins.names():
            self._add(name)

    async def plugins(self) -> Response:
        return Response(await self._service.threads.quick(_body, self._service.runtime), media_type=reply.JSON)

    async def refresh(self) -> Response:
        """Look again; what runs goes on. Answers which were added, removed and changed, and all that there are now."""
        service = self._service
        async with self._looking:
            changes = await service.threads.slow(service.runtime.refresh_plugins)
            for name in (*changes["removed"], *changes["changed"]):
                self._remove(name)
            for name in (*changes["added"], *changes["changed"]):
                await service.threads.slow(self._add, name)
            self._app.openapi_schema = None
        return Response(await service.threads.quick(_body, service.runtime, changes), media_type=reply.JSON)

    def _add(self, name: str) -> None:
        """Let the plugin add its routes; one that fails keeps none and costs no other."""
        runtime, routes = self._service.runtime, self._app.router.routes
        if not runtime.plugins.implements(name, HOOK):
            return
        before = len(routes)
        try:
            runtime.plugins.ask_one(name, HOOK, routes=self._app, runtime=runtime)
        except Fault as fault:
            del routes[before:]
            failed = fault if isinstance(fault, PluginFault) else PluginFault(name, HOOK, fault)
            runtime.plugins.failures.append(failed)
        self._routes[name] = routes[before:]

    def _remove(self, name: str) -> None:
        """Take the plugin's routes out; answers under way go on."""
        gone = self._routes.pop(name, [])
        routes = self._app.router.routes
        routes[:] = [route for route in routes if not any(route is one for one in gone)]
