"""The names of models that requests about models carry. Ollama calls the field `model`, and called it `name`."""

from __future__ import annotations

from anyform.contract.errors import Invalid
from anyform.dialect import Entry, Fields, Missing, Server

WRONG = "invalid model name"
REGISTRIES = ("registry.ollama.ai/", "ollama.com/")
LIBRARY = "library/"


def said(body: Fields) -> str:
    """The name that a request carries; empty: none. Clients in Go send both fields, and leave one of them empty."""
    return body.text("model") or body.text("name") or ""


def wanted(body: Fields) -> str:
    """The name of the model that a request is about. Raises Missing."""
    name = said(body)
    if not name:
        raise Missing("model is required.", "GET /api/tags lists those that are here.", param="model")
    return name


def new(body: Fields) -> str:
    """The name of a model that is to come here. Raises Invalid where none is said, or nothing that could be one."""
    name = said(body)
    if not is_name(name):
        shown = f": {name[:100]!r}" if name else ""
        raise Invalid(f"{WRONG}{shown}.", "Write it as model, model:tag or namespace/model:tag.", param="model")
    return name


def is_name(name: str) -> bool:
    """Whether *name* could be one, and no path."""
    parts = name.split("/")
    return bool(name) and name.isprintable() and not {"", ".", ".."}.intersection(parts) and "\\" not in name


async def find(here: Server, name: str) -> Entry:
    """The model of that name, never fetched. Raises ModelNotFound."""
    return await here.quick(here.runtime.find, own(name))


def own(name: str) -> str:
    """*name* without the registry and namespace that Ollama leaves out too."""
    for registry in REGISTRIES:
        name = name.removeprefix(registry)
    return name.removeprefix(LIBRARY)
