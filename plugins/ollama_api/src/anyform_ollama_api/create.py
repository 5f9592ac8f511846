"""POST /api/create: a model made of another one, or of uploads, by what is said of it."""

from __future__ import annotations

import hashlib
from contextlib import aclosing
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response

from anyform.contract.errors import ModelAmbiguous, ModelNotFound, Unsupported
from anyform.dialect import Derived, Entry, Fields, Recipe, Server, dumps
from anyform_ollama_api import naming, order, parameter, progress, pull
from anyform_ollama_api.detail import metadata
from anyform_ollama_api.identity import digest
from anyform_ollama_api.order import Order
from anyform_ollama_api.progress import Step, Steps

ADAPTERS = "lora"
"""The load option of backends that lay adapters over weights; it takes paths, so that it is their machine's own."""
QUANTIZE = "nothing here quantizes. Pull it so: hf.co/owner/repo:{wanted}; or quantize the file, and upload that."


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
    await here.slow(here.recipes.create, _recipe(wanted, base), wanted.files, wanted.adapters)
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


def _require(here: Server, wanted: Order, base: Entry | None) -> None:
    """Raise Unsupported for what cannot be done with these weights."""
    if wanted.quantize:
        is_now = metadata(here.runtime, base).quantization if base is not None else ""
        if is_now.upper() != wanted.quantize:
            what = f"{base.name}, which is {is_now or 'of an unknown type'}," if base is not None else "the upload"
            hint = QUANTIZE.format(wanted=wanted.quantize)
            raise Unsupported(f"{what} is not made {wanted.quantize}: {hint}", param="quantize")
    if wanted.adapters and base is not None:
        _require_adapters(here, base)


def _require_adapters(here: Server, base: Entry) -> None:
    plan = here.runtime.explain(base).plan
    backends = {state.backend.name: state.backend for state in here.runtime.capabilities(False)}
    if plan is not None and ADAPTERS not in backends[plan.backend].local_options:
        raise Unsupported(
            f"{base.name} is run by {plan.backend}, which lays no adapter over it.",
            "Make it of a GGUF, or merge the adapter into the weights.",
            param="adapters",
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
