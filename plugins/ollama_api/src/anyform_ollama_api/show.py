"""POST /api/show: all that there is to say of one model."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from anyform.contract.errors import Fault, Invalid
from anyform.contract.facts import Metadata
from anyform.dialect import Derived, Entry, Fields, Rule, Runtime, Server
from anyform_ollama_api import modelfile, naming, parameter
from anyform_ollama_api.detail import capabilities, details, metadata
from anyform_ollama_api.identity import called, modified_s, moment
from anyform_ollama_api.information import information, projector

BARE = "{{ .Prompt }}"
"""The template of a model that has none: what it is told is all that it reads."""


def shown(runtime: Runtime, entry: Entry, said: Mapping[str, Any]) -> dict[str, Any]:
    """One model; *said*: system, template and parameters that go in the place of its own."""
    rule, facts = runtime.rule(entry), metadata(runtime, entry)
    about = entry.recipe.about if isinstance(entry, Derived) else {}
    parameters = {**parameter.of(rule), **about.get("parameters", {}), **said.get("parameters", {})}
    template, system = said.get("template") or about.get("template", ""), said.get("system") or rule.system
    told = {
        "license": _license(entry, facts),
        "modelfile": _modelfile(entry, _base(runtime, entry), rule, parameters, template, system),
        "parameters": parameter.lines(parameters),
        "template": template or _template(rule, facts),
        "system": system,
        "details": details(entry, facts),
        "messages": [dict(message) for message in rule.messages],
        "model_info": information(entry, _whole(runtime, entry, facts)),
        "projector_info": projector(facts),
        "capabilities": capabilities(entry, facts),
        "modified_at": moment(modified_s(entry)),
    }
    return {name: value for name, value in told.items() if value or name in ("capabilities", "model_info")}


def _whole(runtime: Runtime, entry: Entry, facts: Metadata) -> Metadata:
    """*facts* with a context, which clients count on: what it would be loaded with, where its files do not say."""
    if facts.context or not {"chat", "complete", "embed"}.intersection(facts.tasks):
        return facts
    with suppress(Fault):
        return replace(facts, context=runtime.explain(entry).context)
    return facts


def _license(entry: Entry, facts: Metadata) -> str:
    if isinstance(entry, Derived) and entry.recipe.licenses:
        return "\n".join(entry.recipe.licenses)
    told = entry.about.get("license")
    return told if isinstance(told, str) and told else facts.license


def _template(rule: Rule, facts: Metadata) -> str:
    """The model's own, which is Jinja here, where Ollama has Go's."""
    return str(rule.request.get("chat_template") or facts.extra.get("chat_template") or BARE)


def _base(runtime: Runtime, entry: Entry) -> str:
    """What it can be made from again: the model that it was made from, unless that is not listed any more."""
    if isinstance(entry, Derived) and entry.base is not None:
        with suppress(Fault):
            return called(runtime.find(entry.base.name).name)
    return called(entry.name)


def _modelfile(entry: Entry, base: str, rule: Rule, parameters: Mapping[str, Any], template: str, system: str) -> str:
    """Of which the same model could be made again: without a path, and without a template that is not Ollama's.

    Where a text is such that no Modelfile can hold it, that is said, and nothing but its base.
    """
    made = modelfile.Modelfile(
        base=base,
        parameters=dict(parameters),
        template=template,
        system=system,
        licenses=entry.recipe.licenses if isinstance(entry, Derived) else (),
        messages=tuple((str(one.get("role")), str(one.get("content"))) for one in rule.messages),
    )
    try:
        return modelfile.write(made, called(entry.name))
    except Invalid as wrong:
        return f"# {wrong}\n" + modelfile.write(modelfile.Modelfile(base=called(entry.name)), called(entry.name))


class Show:
    """The resource."""

    def __init__(self, here: Server) -> None:
        self._here = here

    async def one(self, request: Request) -> Response:
        body = Fields((await self._here.body(request)).values)
        body.flag("verbose")
        said: dict[str, Any] = {"system": body.text("system"), "template": body.text("template")}
        said["parameters"] = parameter.checked(body.object("options") or {}, "options.")
        entry = await naming.find(self._here, naming.wanted(body))
        return JSONResponse(await self._here.slow(shown, self._here.runtime, entry, said))
