"""POST /api/v1/models/load and /api/v1/models/unload."""

from __future__ import annotations

import time
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from anyform.contract.errors import ModelNotFound
from anyform.contract.facts import Settings
from anyform.dialect import Entry, Fields, NotSupported, Server, Use, wrong
from anyform_lmstudio_api.form import only
from anyform_lmstudio_api.listing import GGUF, OPTIONS, config, kind_v1

FOR_EVER = -1.0
"""Who loads a model by its own word wants it to stay until it is unloaded, as LM Studio has it."""
KNOWN = (
    "model", "context_length", "eval_batch_size", "flash_attention", "num_experts", "offload_kv_cache_to_gpu",
    "parallel", "echo_load_config", "ttl",
)  # fmt: skip


class Loading:
    """The resources."""

    def __init__(self, here: Server) -> None:
        self._here = here

    async def load(self, request: Request) -> Response:
        fields = Fields((await self._here.body(request)).values)
        only(fields, *KNOWN)
        model, echo = fields.need_text("model"), fields.flag("echo_load_config")
        given, options, stays = _settings(fields), _options(fields), fields.number("ttl", low=0)
        if stays == 0:
            wrong("ttl", "the model would be unloaded at once", "Expected a value > 0.")
        entry = await self._here.find(model)
        use = Use(
            settings=Settings(**given, options=options if _has_gguf(entry) else {}),
            keep_alive_s=FOR_EVER if stays is None else stays,
            anew=True,
        )
        began = time.monotonic()
        await self._here.load(entry.name, use)
        took = time.monotonic() - began
        at = await self._here.resident(entry.name)
        if at is None or at.held is None:
            raise ModelNotFound(f"{entry.name} was unloaded again.", "Load it anew.", param="model")
        plan = at.held.plan
        told = {
            "type": kind_v1(plan.metadata),
            "instance_id": entry.name,
            "load_time_seconds": took,
            "status": "loaded",
        }
        return JSONResponse({**told, "load_config": config(plan, at)} if echo else told)

    async def unload(self, request: Request) -> Response:
        fields = Fields((await self._here.body(request)).values)
        only(fields, "instance_id")
        name = fields.need_text("instance_id")
        at = await self._here.resident(name)
        if at is None or not await self._here.unload(at.name):
            told = "GET /api/v1/models lists those that are, as loaded_instances."
            raise ModelNotFound(f"no instance '{name[:200]}' is loaded.", told, param="instance_id")
        return JSONResponse({"instance_id": at.name})


def _settings(fields: Fields) -> dict[str, Any]:
    return {
        "context": fields.integer("context_length", low=1),
        "parallel": fields.integer("parallel", low=1),
    }


def _options(fields: Fields) -> dict[str, Any]:
    """Load options by their names here. Raises NotSupported."""
    if fields.integer("num_experts", low=0):
        told = "Leave it out: the model's own number is used."
        raise NotSupported("Unsupported parameter: 'num_experts'.", told, param="num_experts")
    given = {
        "eval_batch_size": fields.integer("eval_batch_size", low=1),
        "flash_attention": fields.flag("flash_attention"),
        "offload_kv_cache_to_gpu": fields.flag("offload_kv_cache_to_gpu"),
    }
    return {OPTIONS[name]: value for name, value in given.items() if value is not None}


def _has_gguf(entry: Entry) -> bool:
    """Whether the settings that are llama.cpp's alone mean anything; elsewhere they have no effect, as in LM Studio."""
    return entry.match.format == GGUF
