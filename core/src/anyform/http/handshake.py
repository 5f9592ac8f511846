"""How sockets are opened: as uvicorn does it, save that one that was refused with a body is no error in its log."""

from __future__ import annotations

import asyncio
from typing import Any

__all__ = ["PROTOCOL"]

PROTOCOL: type[asyncio.Protocol] | str = "auto"
"""For uvicorn's `ws`."""

try:
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
except ImportError:  # an older uvicorn, which logs none
    pass
else:

    class Handshake(WebSocketsSansIOProtocol):
        """It takes an answer with a body for none, unless it is told that the handshake is over."""

        async def send(self, message: Any) -> None:
            await super().send(message)
            self.handshake_complete = self.handshake_complete or self.close_sent

    PROTOCOL = Handshake
