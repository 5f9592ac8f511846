"""GET /api/ps: what is loaded."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response

from anyform.contract.errors import ModelNotFound
from anyform.dialect import Resident, Runtime, Server
from anyform_ollama_api.detail import details, metadata
from anyform_ollama_api.identity import called, digest, expiry

LEAVING = "leaving"
"""The state of a model that is being unloaded."""


def running(runtime: Runtime) -> dict[str, Any]:
    """All loaded models, those that stay longest first."""
    there = [at for at in runtime.pool.residents() if at.held is not None]
    there.sort(key=lambda at: (_left_s(at) is not None, -(_left_s(at) or 0), at.name))
    return {"models": [told for at in there if (told := _told(runtime, at)) is not None]}


def _left_s(at: Resident) -> float | None:
    """How long it stays; None: for ever, or as long as it is used."""
    return 0.0 if at.state == LEAVING else at.expires_s


def _told(runtime: Runtime, at: Resident) -> dict[str, Any] | None:
    """One model; None for one whose name has gone while it is being unloaded."""
    assert at.held is not None
    try:
        entry = runtime.find(at.name)
    except ModelNotFound:
        return None
    plan, name = at.held.plan, called(at.name)
    there = dict(at.promised) or dict(at.held.needs)
    video = sum(number for device, number in there.items() if device != "cpu")
    measured = int(getattr(at.model, "memory_bytes", 0) or 0)
    return {
        "name": name,
        "model": name,
        "size": max(sum(there.values()), measured + video),
        "digest": digest(entry),
        "details": details(entry, metadata(runtime, entry)),
        "expires_at": expiry(_left_s(at)),
        "size_vram": video,
        "context_length": plan.settings.context or plan.metadata.context or 0,
    }


class Ps:
    """The resource."""

    def __init__(self, here: Server) -> None:
        self._here = here

    async def all(self) -> Response:
        return JSONResponse(await self._here.quick(running, self._here.runtime))
