"""GET /api/v0/models and /api/v1/models: the language and embedding models that are here, and which are loaded."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from anyform.contract.errors import Fault, ModelNotFound
from anyform.contract.facts import Metadata, Plan
from anyform.dialect import Entry, Resident, Runtime, Server

LOCAL = "local"
"""The publisher of a model whose name says none."""
LANGUAGE = ("chat", "complete")
OPTIONS = {
    "eval_batch_size": "batch",
    "flash_attention": "flash_attention",
    "offload_kv_cache_to_gpu": "offload_kqv",
}
"""LM Studio's names of load settings that only its llama.cpp has, which reads gguf, and what they are called here."""
GGUF = "gguf"
"""The only format of ours for which v1 has a word."""
REASONING = ("off", "low", "medium", "high", "on")
BITS = {"mxfp4": 4, "nf4": 4, "nvfp4": 4}
SCALES = ((1_000_000_000, "B"), (1_000_000, "M"), (1_000, "K"))
_NUMBER = re.compile(r"\d+")
Describe = Callable[[Entry, Metadata, Resident | None], dict[str, Any]]


def kind(metadata: Metadata) -> str:
    """llm, vlm, embeddings, or empty for a model of another kind. The first task is a model's main one."""
    main = metadata.tasks[0] if metadata.tasks else LANGUAGE[0]
    if main in LANGUAGE:
        return "vlm" if "vision" in metadata.features else "llm"
    return "embeddings" if main == "embed" else ""


def kind_v1(metadata: Metadata) -> str:
    """llm, embedding, or the main task of a model of another kind."""
    told = kind(metadata)
    return {"vlm": "llm", "embeddings": "embedding", "": metadata.tasks[0] if metadata.tasks else ""}.get(told, told)


def describe_v0(entry: Entry, metadata: Metadata, at: Resident | None) -> dict[str, Any]:
    """v0's model object."""
    plan = _plan(at)
    told = {
        "id": entry.name,
        "object": "model",
        "type": kind(metadata),
        "publisher": _publisher(entry),
        "arch": metadata.architecture,
        "compatibility_type": entry.match.format,
        "quantization": metadata.quantization or entry.match.variant or None,
        "state": "loaded" if plan else "loading" if at else "not-loaded",
        "max_context_length": metadata.context,
    }
    if plan is not None:
        told["loaded_context_length"] = plan.settings.context
    able = told["type"] != "embeddings" and "tools" in metadata.features
    return {**told, "capabilities": ["tool_use"]} if able else told


def describe_v1(entry: Entry, metadata: Metadata, at: Resident | None) -> dict[str, Any]:
    """v1's model object."""
    plan, type_ = _plan(at), kind_v1(metadata)
    language = type_ == "llm"
    quantization = metadata.quantization or entry.match.variant
    loaded = [] if plan is None else [{"id": entry.name, "config": config(plan, at)}]
    return {
        "type": type_,
        "publisher": _publisher(entry),
        "key": entry.name,
        "display_name": metadata.name or entry.name.rpartition("/")[2],
        **({"architecture": metadata.architecture or None} if language else {}),
        "quantization": {"name": quantization, "bits_per_weight": bits(quantization)} if quantization else None,
        "size_bytes": entry.size_bytes,
        "params_string": parameters(metadata.parameters),
        "loaded_instances": loaded,
        "max_context_length": metadata.context,
        "format": GGUF if entry.match.format == GGUF else None,
        **({"capabilities": _capabilities(metadata), "description": None} if language else {}),
    }


def _capabilities(metadata: Metadata) -> dict[str, Any]:
    told: dict[str, Any] = {
        "vision": "vision" in metadata.features,
        "trained_for_tool_use": "tools" in metadata.features,
    }
    return {**told, "reasoning": {"allowed_options": list(REASONING), "default": "on"}} if thinks(metadata) else told


def thinks(metadata: Metadata) -> bool:
    """Whether it can be told to reason or not."""
    return "thinking" in metadata.features


def config(plan: Plan, at: Resident | None) -> dict[str, Any]:
    """The settings that a model was loaded with, of those that LM Studio knows."""
    told: dict[str, Any] = {"context_length": plan.settings.context}
    if kind_v1(plan.metadata) == "llm":
        if at is not None and at.model is not None:
            told["parallel"] = at.model.parallel
        options = plan.settings.options
        told |= {name: options[own] for name, own in OPTIONS.items() if own in options}
    return told


def parameters(count: int | None) -> str | None:
    """7B, 0.6B, 270M."""
    if not count:
        return None
    scale, letter = next((one for one in SCALES if count >= one[0] / 2), (1, ""))
    size = count / scale
    return f"{size:.2g}{letter}" if size < 10 else f"{size:.0f}{letter}"


def bits(quantization: str) -> int | None:
    """Bits a weight, as the quantization's name says them: 4 of Q4_K_M, 16 of F16; None: it does not."""
    name = quantization.lower()
    known = next((value for word, value in BITS.items() if word in name), None)
    found = _NUMBER.search(name)
    said = int(found[0]) if found else 0
    return known or (said if 0 < said <= 64 else None)


def _publisher(entry: Entry) -> str:
    owner, slash, _ = entry.name.partition("/")
    return owner if slash else LOCAL


def _plan(at: Resident | None) -> Plan | None:
    """How it is loaded; None while it is not ready."""
    return at.held.plan if at is not None and at.held is not None and at.model is not None else None


def _listed(runtime: Runtime, describe: Describe) -> list[dict[str, Any]]:
    return list(_all(runtime, describe))


def _all(runtime: Runtime, describe: Describe) -> Iterator[dict[str, Any]]:
    there = _residents(runtime)
    for entry in runtime.library.entries():
        try:
            metadata = runtime.metadata(entry)
        except Fault:  # of files that cannot be read `anyform list` tells
            continue
        if kind(metadata):
            yield describe(entry, metadata, there.get(entry.name))


def _residents(runtime: Runtime) -> Mapping[str, Resident]:
    return {at.name: at for at in runtime.pool.residents()}


def _one(runtime: Runtime, entry: Entry) -> dict[str, Any]:
    metadata = runtime.metadata(entry)
    if not kind(metadata):
        raise ModelNotFound(
            f"{entry.name} is no language or embedding model: it does {', '.join(metadata.tasks)}.",
            "GET /v1/models lists models of all kinds.",
        )
    return describe_v0(entry, metadata, _residents(runtime).get(entry.name))


class Listing:
    """The resources."""

    def __init__(self, here: Server) -> None:
        self._here = here

    async def all_v0(self) -> Response:
        told = await self._here.slow(_listed, self._here.runtime, describe_v0)
        return JSONResponse({"object": "list", "data": told})

    async def one_v0(self, request: Request) -> Response:
        name = request.path_params["model"]
        entry = await self._here.known(name)
        if entry is None:
            raise ModelNotFound(f"there is no model '{name[:200]}'.", "GET /api/v0/models lists those that are here.")
        return JSONResponse(await self._here.quick(_one, self._here.runtime, entry))

    async def all_v1(self) -> Response:
        return JSONResponse({"models": await self._here.slow(_listed, self._here.runtime, describe_v1)})
