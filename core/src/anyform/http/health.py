"""GET /health (is it alive, also while it generates) and /ready (does it take requests)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anyform.contract.facts import Device
    from anyform.http.service import Service
    from anyform.kernel.runtime import Runtime


def report(runtime: Runtime) -> dict[str, Any]:
    """The shape that older clients know. Memory is what the loaded models occupy, by their estimates."""
    loaded = runtime.loaded()
    device = _main(runtime.hardware().devices)
    used = sum(model.memory_bytes for model in loaded)
    kind = device.kind if device else "cpu"
    return {
        "status": "healthy",
        "device": kind,
        "device_info": {
            "type": kind,
            "name": device.name if device else "",
            "memory_allocated": used,
            "memory_reserved": used,
        },
        "loaded_models": [model.model for model in loaded],
    }


def _main(devices: Sequence[Device]) -> Device | None:
    """The first accelerator, else the CPU."""
    accelerators = [device for device in devices if device.kind != "cpu"]
    return next(iter([*accelerators, *devices]), None)


class Health:
    """The two resources."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def live(self) -> Response:
        return JSONResponse(await self._service.threads.quick(report, self._service.runtime))

    async def ready(self) -> Response:
        names = await self._service.threads.quick(self._service.runtime.names)
        return JSONResponse({"status": "ready", "models": len(names)})
