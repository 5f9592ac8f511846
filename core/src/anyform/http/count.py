"""How many tokens a request's prompt has, as its model would count them; nothing is generated."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from anyform.contract.errors import ContextExceeded, ModelNotFound, Unsupported
from anyform.contract.events import Done, Progress
from anyform.contract.jobs import Chat, Complete, Job
from anyform.http.reply import Ask
from anyform.kernel.runtime import Use

if TYPE_CHECKING:
    from anyform.http.service import Service


async def count(service: Service, ask: Ask) -> int:
    """Tokens of the prompt of *ask*, over all its jobs: what `usage.prompt_tokens` would be. A prompt over the context
    is counted too. The model is loaded for it, if it is not. Raises what the request itself would.
    """
    return sum([await _one(service, replace(ask, jobs=(_brief(job),))) for job in ask.jobs])


def _brief(job: Job) -> Job:
    """*job*, ending after a token: some engines count only at the end."""
    if isinstance(job, Chat | Complete):
        return replace(job, generation=replace(job.generation, max_tokens=1, n=1, stop=()))
    return job


async def _one(service: Service, ask: Ask) -> int:
    try:
        async with service.events(ask, ask.use or Use(), True) as source:
            while True:
                for event in (await source.read())[1]:
                    if isinstance(event, Progress) and event.stage == "prompt" and event.total:
                        return event.total
                    if isinstance(event, Done):
                        return event.usage.prompt_tokens
    except ModelNotFound as absent:
        absent.details.setdefault("param", "model")
        raise
    except ContextExceeded as over:
        counted = over.details.get("prompt_tokens")
        if isinstance(counted, int):
            return counted
        raise Unsupported(
            f"the engine of {ask.model} does not say how many tokens a prompt over its context has.",
            "Shorten the prompt, or load the model with a larger context.",
            param=ask.prompt,
        ) from over
