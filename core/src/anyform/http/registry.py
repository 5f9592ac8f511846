"""/registry/models and /registry/suggestions: what is here, in full, and what could be."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from anyform.contract.errors import Fault, ModelAmbiguous, ModelNotFound
from anyform.http.control import decision, plain, task
from anyform.http.fields import Fields
from anyform.sources import hubname
from anyform.sources.suggestion import gathered

if TYPE_CHECKING:
    from anyform.http.service import Service
    from anyform.kernel.entry import Entry
    from anyform.kernel.runtime import Description, Runtime
    from anyform.sources.hubpulls import Pulls


def listed(one: Description) -> dict[str, Any]:
    """One model of the listing."""
    entry, metadata = one.entry, one.metadata
    return {
        **located(entry),
        "architecture": metadata.architecture if metadata else None,
        "quantization": metadata.quantization if metadata else None,
        "parameters": metadata.parameters if metadata else None,
        "context": metadata.context if metadata else None,
        "tasks": list(metadata.tasks) if metadata else [],
        "features": list(metadata.features) if metadata else [],
        "runs_on": one.plugin or None,
        "fault": one.fault.as_dict() if one.fault else None,
    }


def located(entry: Entry) -> dict[str, Any]:
    """What and where it is; no path, since clients may be elsewhere."""
    return {
        "name": entry.name,
        "aliases": list(entry.aliases),
        "format": entry.match.format,
        "variant": entry.match.variant,
        "files": list(entry.match.files),
        "size_bytes": entry.size_bytes,
        "source": entry.source,
        "revisions": sorted({spot.revision for spot in entry.places if spot.revision}),
    }


def _listing(runtime: Runtime) -> list[dict[str, Any]]:
    return [listed(one) for one in runtime.describe(runtime.library.entries())]


def _shown(runtime: Runtime, entry: Entry) -> dict[str, Any]:
    metadata, findings = runtime.metadata(entry), runtime.findings(entry)
    return {
        **located(entry),
        "here": entry.here,
        "metadata": asdict(metadata),
        "findings": [{"code": f.code, "severity": f.severity.name.lower(), "text": f.text} for f in findings],
        "decision": decision(runtime.explain(entry)),
        "memory": [asdict(verdict.memory) for verdict in runtime.estimate(entry) if verdict.memory],
    }


def _looked(runtime: Runtime, pulls: Pulls, reference: hubname.Reference) -> dict[str, Any]:
    """A model that only the hub has."""
    entry = pulls.look(reference)
    shown = _shown(runtime, entry)
    entry.remote.check()
    return {**shown, "variants": list(entry.variants)}


class Registry:
    """The resources."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def models(self) -> Response:
        return JSONResponse({"models": await self._service.threads.slow(_listing, self._service.runtime)})

    async def model(self, request: Request) -> Response:
        """One that is here, or one that could be pulled."""
        service, name = self._service, request.path_params["model"]
        try:
            entry = await service.threads.quick(service.runtime.find, name)
        except ModelAmbiguous:
            raise
        except ModelNotFound as absent:
            return JSONResponse(await self._elsewhere(name, absent))
        return JSONResponse(await service.threads.slow(_shown, service.runtime, entry))

    async def suggestions(self, request: Request) -> Response:
        """`task` and `max_bytes` narrow it."""
        given = Fields({name: plain(value) for name, value in request.query_params.items()})
        wanted, most = task(given), given.integer("max_bytes", low=0)
        return JSONResponse(await self._service.threads.slow(self._suggested, wanted, most))

    def _suggested(self, task: str, most_bytes: int | None) -> dict[str, Any]:
        file = self._service.config.suggestions
        engines = self._service.runtime.capabilities(probe=False)
        found, troubles = gathered(engines, Path(file) if file else None, task, most_bytes)
        return {"suggestions": [asdict(one) for one in found], "troubles": troubles}

    async def _elsewhere(self, name: str, absent: Fault) -> dict[str, Any]:
        service, reference = self._service, hubname.parsed(name)
        if reference is None or service.pulls is None:
            raise absent
        return await service.threads.slow(_looked, service.runtime, service.pulls, reference)
