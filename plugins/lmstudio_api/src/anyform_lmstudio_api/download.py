"""POST /api/v1/models/download, and how far downloads are."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from anyform.dialect import Fields, Running, Server, wrong
from anyform_lmstudio_api.form import JobNotFound, error, only

STATES = {"done": "completed", "failed": "failed", "cancelled": "paused"}
"""Of a pull that has ended; what has come of one that was stopped is kept, so that it can go on."""
DOWNLOADING = "downloading"
PREFIX = "job_"


def job(running: Running) -> dict[str, Any]:
    """A download as it stands."""
    state = running.state
    status = STATES.get(state.stage, DOWNLOADING)
    told: dict[str, Any] = {
        "job_id": PREFIX + running.id,
        "status": status,
        "total_size_bytes": state.total_bytes,
        "downloaded_bytes": state.done_bytes,
        "started_at": _when(running.began_s),
    }
    if status == DOWNLOADING:
        told["bytes_per_second"] = state.rate
        if state.left_s is not None:
            told["estimated_completion"] = _when(time.time() + state.left_s)
    elif status == "completed":
        told["completed_at"] = _when(running.ended_s or time.time())
    elif running.fault is not None:
        told["error"] = error(running.fault)
    return told


def _when(seconds: float) -> str:
    """ISO 8601 with milliseconds, as JavaScript writes it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Downloads:
    """The resources."""

    def __init__(self, here: Server) -> None:
        self._here = here

    async def start(self, request: Request) -> Response:
        """Start one, or join the one that runs."""
        fields = Fields((await self._here.body(request)).values)
        only(fields, "model", "quantization")
        name, quantization = fields.need_text("model").rstrip("/"), fields.text("quantization")
        if quantization:
            if ":" in name.rpartition("/")[2]:
                wrong("quantization", f"'{name[:200]}' names a variant already", "Give one of them.")
            name = f"{name}:{quantization}"
        if await self._here.known(name) is not None:
            return JSONResponse({"status": "already_downloaded"})
        return JSONResponse(job(await self._here.quick(self._here.pull, name)))

    async def all(self) -> Response:
        told: dict[str, list[dict[str, Any]]] = {name: [] for name in (DOWNLOADING, "completed", "failed", "paused")}
        for one in map(job, self._running()):
            told[one["status"]].append(one)
        return JSONResponse(told)

    async def one(self, request: Request) -> Response:
        wanted = request.path_params["job_id"]
        for running in self._running():
            if PREFIX + running.id == wanted:
                return JSONResponse(job(running))
        told = "GET /api/v1/models/download/status lists those that run, and the last that have ended."
        raise JobNotFound(f"there is no download '{wanted[:100]}'.", told, param="job_id")

    def _running(self) -> list[Running]:
        return self._here.pulls.all() if self._here.pulls is not None else []
