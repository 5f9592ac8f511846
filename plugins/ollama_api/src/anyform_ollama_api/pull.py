"""POST /api/pull: fetch a model from the Hugging Face hub, and tell how far it is."""

from __future__ import annotations

import hashlib
from contextlib import aclosing

from starlette.requests import Request
from starlette.responses import Response

from anyform.contract.errors import Fault, Invalid, ModelAmbiguous, ModelNotFound
from anyform.dialect import Fields, PullState, Server
from anyform_ollama_api import naming, progress
from anyform_ollama_api.progress import Step, Steps

OWN = "anyform"
"""The source whose models a pull may bring up to date."""
EXAMPLE = "hf.co/owner/repo:Q4_K_M"
FETCHING = ("copying", "downloading")


class Pull:
    """The resource."""

    def __init__(self, here: Server) -> None:
        self._here = here

    async def pull(self, request: Request) -> Response:
        """As Ollama's, it stops when the last client that watches it hangs up; what has come is kept for the next."""
        body = Fields((await self._here.body(request)).values)
        body.flag("insecure")
        name = naming.own(naming.new(body))
        return await progress.answer(body, steps(self._here, name))


async def steps(here: Server, name: str) -> Steps:
    """What is done to have *name* here. Raises ModelNotFound for a name that no hub has, and what ends a pull."""
    named = here.reference(name)
    there = await _there(here, name)
    if not named and not there:
        raise await absent(here, name)
    if not there and here.pulls is None:
        here.pull(named)  # which says why it cannot be
    yield {"status": "pulling manifest"}
    if named and there in ("", OWN) and here.pulls is not None:
        async with aclosing(_pulled(here, named)) as pulled:
            async for step in pulled:
                yield step
    yield {"status": "verifying sha256 digest"}
    yield {"status": "writing manifest"}


async def _pulled(here: Server, name: str) -> Steps:
    digest = hashlib.sha256(name.encode()).hexdigest()
    last: Step = {}
    async with here.watching(name) as running:
        async for state in here.states(running):
            step = _step(state, digest)
            if step and step != last:
                last = step
                yield step
        running.result()


def _step(state: PullState, digest: str) -> Step:
    """One moment. All files are told of as one, which is what a pull here is; its digest is of the model's name."""
    if state.stage not in (*FETCHING, "done") or not state.total_bytes:
        return {}
    told = {"status": f"pulling {digest[:12]}", "digest": f"sha256:{digest}"}
    return {**told, "total": state.total_bytes, "completed": min(state.done_bytes, state.total_bytes)}


async def _there(here: Server, name: str) -> str:
    """The source of the model of that name; empty: it is not here."""
    try:
        return (await naming.find(here, name)).source or "folder"
    except ModelAmbiguous:
        return ""
    except ModelNotFound:
        return ""


async def absent(here: Server, name: str) -> Fault:
    """The refusal of a name that is Ollama's own library's, or nobody's."""
    if "/" in name:
        return Invalid(f"{naming.WRONG}: {name[:100]!r}.", f"Name a repository of the Hugging Face hub: {EXAMPLE}.")
    model = name.removesuffix(":latest")
    near = await here.suggested(model) or await here.suggested(model.partition(":")[0])
    said = f"pull model manifest: {name[:100]!r} names a model of Ollama's own library, which is not pulled from here."
    if near:
        return ModelNotFound(said, f"Pull {' or '.join(f'hf.co/{one}' for one in near[:3])} instead.", model=name)
    return ModelNotFound(said, f"Name a repository of the Hugging Face hub: {EXAMPLE}.", model=name)
