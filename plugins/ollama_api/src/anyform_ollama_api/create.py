"""POST /api/create: a model made of another one, or of uploads, by what is said of it."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from anyform.contract.errors import Invalid, ModelAmbiguous, ModelNotFound, Unsupported
from anyform.dialect import Derived, Entry, Fields, Recipe, Server, dumps
from anyform_ollama_api import naming, order, parameter, progress, pull
from anyform_ollama_api.detail import metadata
from anyform_ollama_api.identity import digest
from anyform_ollama_api.order import WEIGHTS, Order
from anyform_ollama_api.progress import Step, Steps

ADAPTERS = "lora"
"""The load option of backends that lay adapters over weights; it takes paths, so that it is their machine's own."""
QUANTIZE = "Pull it so: hf.co/owner/repo:{wanted}; or quantize the file, and upload that."


class Create:
    """The resource."""

    def __init__(self, here: Server) -> None:
        self._here = here

    async def create(self, request: Request) -> Response:
        body = Fields((await self._here.body(request)).values)
        wanted = await self._here.quick(order.read, body)
        return await progress.answer(body, steps(self._here, wanted))


async def steps(here: Server, wanted: Order) -> Steps:
    """What is done; all that can be refused is before the first step, but where the base is pulled first."""
    base = await _base(here, wanted.base) if wanted.base else None
    if wanted.base and base is None:
        async with aclosing(pull.steps(here, wanted.base)) as pulled:
            async for step in pulled:
                yield step
        base = await naming.find(here, wanted.base)
    await here.slow(_require, here, wanted, base)
    files = wanted.files
    if smaller := await _smaller(here, wanted, base):
        yield {"status": f"quantizing {smaller.is_now or 'the'} model to {wanted.quantize}"}
        files = {WEIGHTS: await smaller.make(smaller.source)}
    await here.slow(here.recipes.create, _recipe(wanted, base), files, wanted.adapters)
    for step in _layers(wanted, base):
        yield step
    yield {"status": "writing manifest"}


async def _base(here: Server, name: str) -> Entry | None:
    """The model of that name; None: it is not here, but may be pulled. Raises ModelNotFound."""
    try:
        return await naming.find(here, name)
    except ModelAmbiguous:
        raise
    except ModelNotFound:
        if not here.reference(name) or here.pulls is None:
            raise
        return None


@dataclass(frozen=True, kw_only=True)
class Smaller:
    """Weights that are to be quantized."""

    source: Path
    is_now: str
    make: Callable[[Path], Awaitable[str]]
    """The file -> the digest of the new one."""


async def _smaller(here: Server, wanted: Order, base: Entry | None) -> Smaller | None:
    """None where nothing is to be quantized. Raises Unsupported where nothing can do it."""
    is_now = (await here.slow(metadata, here.runtime, base)).quantization if base is not None else ""
    if not wanted.quantize or is_now.upper() == wanted.quantize:
        return None
    try:
        form, source = _one_file(here, wanted, base)
        make = await here.quantizer(form, is_now, wanted.quantize)
    except Unsupported as refusal:
        raise Unsupported(refusal.message, QUANTIZE.format(wanted=wanted.quantize), param="quantize") from None
    return Smaller(source=source, is_now=is_now, make=make)


def _one_file(here: Server, wanted: Order, base: Entry | None) -> tuple[str, Path]:
    """The format and the place of the only file that the model has."""
    names = base.match.files if base is not None else tuple(wanted.files)
    adapted = isinstance(base, Derived) and base.recipe.adapters
    if len(names) != 1 or adapted:
        what = "an adapter" if adapted else f"{len(names)} files"
        raise Unsupported(f"a model that has {what} is not quantized.")
    if base is not None:
        return base.match.format, Path(base.path) / names[0]
    return names[0].rpartition(".")[2].casefold(), here.recipes.blobs.path(wanted.files[names[0]])


def _require(here: Server, wanted: Order, base: Entry | None) -> None:
    """Raise Unsupported or Invalid for what cannot be done with these weights."""
    if wanted.adapters and base is not None:
        _require_adapters(here, base)
    if parameter.CONTEXT in wanted.parameters and base is not None:
        _require_context(here, int(wanted.parameters[parameter.CONTEXT]), base)


def _require_adapters(here: Server, base: Entry) -> None:
    plan = here.runtime.explain(base).plan
    backends = {state.backend.name: state.backend for state in here.runtime.capabilities(False)}
    if plan is not None and ADAPTERS not in backends[plan.backend].local_options:
        raise Unsupported(
            f"{base.name} is run by {plan.backend}, which lays no adapter over it.",
            "Make it of a GGUF, or merge the adapter into the weights.",
            param="adapters",
        )


def _require_context(here: Server, wanted: int, base: Entry) -> None:
    """As for a request: no more than it was trained for, unless its settings say more already."""
    trained = metadata(here.runtime, base).context
    if trained is not None and wanted > max(trained, here.runtime.rule(base).settings.context or 0):
        raise Invalid(
            f"{parameter.CONTEXT} {wanted} is over the {trained} tokens that {base.name} was trained for.",
            f"Say {trained} at the most.",
            param=f"parameters.{parameter.CONTEXT}",
        )


def _recipe(wanted: Order, base: Entry | None) -> Recipe:
    parameters = dict(wanted.parameters)
    if isinstance(base, Derived):
        parameters = {**base.recipe.about.get("parameters", {}), **parameters}
    made = Recipe(
        name=wanted.name,
        base=base.name if base is not None else "",
        system=wanted.system,
        request=parameter.request(wanted.parameters),
        settings=parameter.settings(wanted.parameters),
        messages=wanted.messages,
        chat_template=wanted.chat_template,
        licenses=wanted.licenses,
        about={"parameters": parameters},
    )
    return replace(made, about={**made.about, "template": wanted.template}) if wanted.template else made


def _layers(wanted: Order, base: Entry | None) -> list[Step]:
    """What the model is made of, as Ollama tells of it."""
    kinds = {name.rpartition(".")[2].casefold() for name in wanted.files}
    told = ["parsing GGUF" if "gguf" in kinds else "converting model"] if wanted.files else []
    there = [f"sha256:{digest(base)}"] if base is not None else []
    told += [f"using existing layer {one}" for one in (*there, *wanted.files.values(), *wanted.adapters.values())]
    made = [wanted.template, wanted.system, *wanted.licenses]
    made += [dumps(said) for said in (dict(wanted.parameters), list(wanted.messages)) if said]
    told += [f"creating new layer sha256:{hashlib.sha256(text.encode()).hexdigest()}" for text in made if text]
    return [{"status": text} for text in told]
