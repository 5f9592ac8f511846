"""/api/blobs/{digest}: files that a client uploads before it makes a model of them."""

from __future__ import annotations

import re
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response

from anyform.contract.errors import Invalid
from anyform.dialect import Server

DIGEST = re.compile(r"sha256[:-][0-9a-f]{64}")
STEP = 1 << 20
"""Bytes that are written at once: the most of an upload that is in memory."""


class Draft(Protocol):
    """Where an upload is written to."""

    def write(self, chunk: bytes) -> None: ...


class Blob:
    """The resources."""

    def __init__(self, here: Server) -> None:
        self._here = here

    async def known(self, request: Request) -> Response:
        digest = _digest(request)
        there = await self._here.quick(self._here.recipes.blobs.has, digest)
        return Response(status_code=200 if there else 404)

    async def upload(self, request: Request) -> Response:
        """201 for a new file; 200 for one that is here already, whose bytes are passed over."""
        digest, blobs = _digest(request), self._here.recipes.blobs
        if await self._here.quick(blobs.has, digest):
            async for _ in self._here.pieces(request):
                pass
            return Response(status_code=200)
        draft = await self._here.quick(blobs.begin, digest, _length(request))
        try:
            await self._write(request, draft)
            try:
                await self._here.slow(draft.commit)
            except Invalid as wrong:
                raise Invalid(_mismatch(wrong), wrong.hint, param="digest") from wrong
        finally:
            await self._here.quick(draft.close)
        return Response(status_code=201)

    async def _write(self, request: Request, draft: Draft) -> None:
        held = bytearray()
        async for piece in self._here.pieces(request):
            held += piece
            if len(held) >= STEP:
                await self._here.quick(draft.write, bytes(held))
                held.clear()
        if held:
            await self._here.quick(draft.write, bytes(held))


def _digest(request: Request) -> str:
    digest = str(request.path_params["digest"])
    if not DIGEST.fullmatch(digest):
        raise Invalid("invalid digest format.", "Write it as sha256: and 64 hexadecimal digits.", param="digest")
    return digest


def _length(request: Request) -> int:
    """What the client says; 0: nothing."""
    said = request.headers.get("content-length", "")
    return int(said[:20]) if said.isascii() and said.isdecimal() else 0


def _mismatch(wrong: Invalid) -> str:
    """In Ollama's words."""
    found = re.search(r"SHA-256 ([0-9a-f]{64}) came for sha256:([0-9a-f]{64})", wrong.message)
    return f'digest mismatch, expected "sha256:{found[2]}", got "sha256:{found[1]}".' if found else wrong.message
