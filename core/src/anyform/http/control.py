"""/runtime/* and /registry/*: load, unload, explain, validate and watch models over HTTP."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from anyform.contract.errors import Fault, ModelNotFound, RefusedRequest
from anyform.contract.facts import Settings
from anyform.contract.jobs import TASKS
from anyform.http import body, pull
from anyform.http.fields import Fields
from anyform.kernel.residence import loaded
from anyform.kernel.runtime import Use
from anyform.sources.checking import validity

if TYPE_CHECKING:
    from anyform.http.service import Service
    from anyform.kernel.entry import Entry
    from anyform.kernel.residence import Loaded, Resident
    from anyform.kernel.router import Decision
    from anyform.kernel.runtime import Runtime


LOADING = frozenset({"context", "n_ctx", "num_ctx", "parallel", "device", "options"})
OWN = LOADING | {"task", "backend", "pin", "ttl", "keep_alive", "now"}
"""What is not an option of the plugin's."""
SHOWN = 40
"""Letters of a value that are told again."""


def settings(given: Mapping[str, Any], local: Collection[str] = ()) -> Settings | None:
    """Load-time settings from a query or a body; what is not the kernel's own goes to the plugin. None: none given.

    Raises RefusedRequest for an option that is text or a list: it may be a path or a command, which are the operator's;
    and for those that plugins call *local*.
    """
    fields = Fields(given)
    options = {name: value for name, value in given.items() if name not in OWN} | (fields.object("options") or {})
    for name, value in options.items():
        if name in local:
            raise RefusedRequest(
                f"Option '{name}' may not be set over HTTP: it reaches into the server's machine.",
                _where(name, value),
                param=name,
            )
        if not isinstance(value, bool | int | float | None):
            raise RefusedRequest(
                f"Option '{name}' may not be set over HTTP: only numbers and booleans may.",
                _where(name, value),
                param=name,
            )
    made = Settings(
        context=fields.integer("context", "n_ctx", "num_ctx", low=1),
        parallel=fields.integer("parallel", low=1),
        device=fields.text("device"),
        options=options,
    )
    return None if made == Settings() else made


def _where(name: str, value: Any) -> str:
    """Where an option is set that no request may."""
    shown = json.dumps(value) if isinstance(value, str) and len(value) <= SHOWN else "…"
    line = f"options = {{ {name} = {shown} }}"
    return (
        f'Set it where the server runs: `{line}` under [model."NAME"] of its settings file (`anyform config` there '
        "says which that is), and start it anew."
    )


def use(given: Mapping[str, Any], local: Collection[str] = (), *, anew: bool = False) -> Use:
    """How a model is to be used, from a query or a body. *local*: see `settings`. *anew*: crashes are forgiven."""
    fields = Fields(given)
    seconds = fields.duration("ttl")
    return Use(
        settings=settings(given, local),
        backend=fields.text("backend") or "",
        pin=fields.flag("pin"),
        keep_alive_s=seconds if seconds is not None else fields.duration("keep_alive"),
        anew=anew,
    )


def plain(text: str) -> Any:
    """A query's value as what it looks like: number, boolean, null or else text."""
    try:
        value = json.loads(text, parse_constant=str)
    except (ValueError, RecursionError):
        return text
    return text if isinstance(value, dict | list) else value


def ready(model: Loaded, given: Settings | None) -> dict[str, Any]:
    """What /runtime/load answers."""
    return {**status(model), "gpu_layers": (given.options if given else {}).get("gpu_layers", 0)}


def status(model: Loaded) -> dict[str, Any]:
    """One loaded model, as /runtime/status lists it."""
    facts = asdict(model)
    return {"status": model.state, "runtime": model.backend, **facts}


def coming(at: Resident) -> dict[str, Any]:
    """One model that is being loaded, or waits for the memory to be."""
    return {
        "model": at.name,
        "status": at.state if at.promised else "waiting",
        "since_s": at.since_s,
        "waiting": at.waiting + at.users,
        "estimated_bytes": sum(at.promised.values()),
    }


def decision(made: Decision) -> dict[str, Any]:
    """A Decision as JSON, its lines of text with it."""
    return {
        "model": made.model,
        "task": made.task,
        "plugin": made.plan.plugin if made.plan else None,
        "backend": made.plan.backend if made.plan else None,
        "context": made.context,
        "context_why": made.context_why,
        "estimate_bytes": made.estimate_bytes,
        "verdicts": [asdict(verdict) for verdict in made.verdicts],
        "notes": list(made.notes),
        "lines": made.lines(),
    }


def task(fields: Fields) -> str:
    """The task that a query or a body names; empty: none. Raises Invalid for one that there is not."""
    return (fields.choice("task", *TASKS) or "") if fields.text("task") else ""


class Control:
    """The resources."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def status(self) -> Response:
        service = self._service
        there = await service.threads.quick(service.runtime.pool.residents)
        return JSONResponse(
            {
                "models": [status(told) for at in sorted(there, key=lambda at: at.name) if (told := loaded(at))],
                "loading": [coming(at) for at in there if at.held is None],
                "failed": dict(service.runtime.pool.failed()),
                "requests": service.gate.present(),
                "pulls": pull.under_way(service),
            }
        )

    async def load(self, request: Request) -> Response:
        service = self._service
        entry = await service.find(request.path_params["model"])
        given = use(await self._given(request), await self._local(), anew=True)
        with service.gate.place(entry.name) as place:
            await place.open(partial(service.threads.slow, service.runtime.open, entry.name, None, None, given))
        return JSONResponse(ready(await service.threads.quick(_loaded, service.runtime, entry.name), given.settings))

    async def unload(self, request: Request) -> Response:
        """Also of a model that is loaded, and whose files or plugin have gone."""
        service, name = self._service, str(request.path_params["model"])
        now = bool(Fields(await self._given(request)).flag("now"))
        if all(at.name != name for at in await service.threads.quick(service.runtime.pool.residents)):
            name = (await service.find(name)).name
        was = await service.threads.slow(service.runtime.unload, name, now)
        return JSONResponse({"status": "unloaded" if was else "not-loaded", "model": name})

    async def explain(self, request: Request) -> Response:
        service = self._service
        entry = await service.find(request.path_params["model"])
        given = await self._given(request)
        wanted = task(Fields(given)) or None
        wish = use(given, await self._local())
        made = await service.threads.slow(service.runtime.explain, entry.name, wanted, wish)
        return JSONResponse(decision(made))

    async def validate(self, request: Request) -> Response:
        entry = await self._service.find(request.path_params["model"])
        return JSONResponse(await self._service.threads.slow(_validate, self._service.runtime, entry))

    async def _local(self) -> frozenset[str]:
        """The options that some backend keeps for its machine's own user."""
        states = await self._service.threads.quick(self._service.runtime.capabilities, False)
        return frozenset(name for state in states for name in state.backend.local_options)

    async def _given(self, request: Request) -> dict[str, Any]:
        """Query and JSON body together; the body goes over the query."""
        query = {name: plain(value) for name, value in request.query_params.items()}
        data = await body.read(request, self._service.config.body_bytes)
        return query | (body.parse(data) if data.strip() else {})


def _validate(runtime: Runtime, entry: Entry) -> dict[str, Any]:
    try:
        made = runtime.explain(entry.name)
        backend = made.plan.backend if made.plan else ""
    except Fault:
        backend = ""
    return validity(entry, list(runtime.findings(entry)), backend)


def _loaded(runtime: Runtime, name: str) -> Loaded:
    for model in runtime.loaded():
        if model.model == name:
            return model
    raise ModelNotFound(f"{name} was unloaded again.", "Load it anew.")
