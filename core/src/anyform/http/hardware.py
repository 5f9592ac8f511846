"""GET /runtime/hardware: the devices of this machine, and what of them is free."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response

if TYPE_CHECKING:
    from anyform.http.service import Service
    from anyform.kernel.runtime import Runtime


def report(runtime: Runtime) -> dict[str, Any]:
    """Sizes in bytes. `fingerprint` stays while the devices do, whatever is free of them."""
    found = runtime.hardware()
    return {
        "fingerprint": found.fingerprint,
        "devices": [{"id": device.id, **asdict(device)} for device in found.devices],
    }


class Machine:
    """The resource."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def hardware(self) -> Response:
        return JSONResponse(await self._service.threads.quick(report, self._service.runtime))
