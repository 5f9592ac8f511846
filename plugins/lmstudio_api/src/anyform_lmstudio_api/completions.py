"""POST /api/v0/chat/completions, /completions and /embeddings: OpenAI's, with how it went beside the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from anyform.contract.jobs import Chat, Complete, Generation
from anyform.dialect import (
    SSE,
    Ask,
    Done,
    Event,
    Fields,
    Head,
    Media,
    Rule,
    Server,
    Use,
    Writer,
    completed,
    dumps,
    read_chat,
    read_completion,
    read_embedding,
)
from anyform_lmstudio_api.engine import Engines
from anyform_lmstudio_api.form import V0
from anyform_lmstudio_api.pace import Pace

Read = Callable[[Mapping[str, Any], Media], Ask]
LIMITS = ("max_tokens", "max_completion_tokens")


class Completions:
    """The resources."""

    def __init__(self, here: Server) -> None:
        self._here = here
        self._engines = Engines(here)

    async def chat(self, request: Request) -> Response:
        return await self._told(request, read_chat)

    async def complete(self, request: Request) -> Response:
        return await self._told(request, lambda body, media: read_completion(body, None))

    async def embed(self, request: Request) -> Response:
        def read(values: Mapping[str, Any], media: Media, rule: Rule) -> Ask:
            return _kept(read_embedding(completed(dict(values), rule), media), values)

        return await self._here.answer(request, await self._here.body(request), read, V0)

    async def _told(self, request: Request, openai: Read) -> Response:
        def read(values: Mapping[str, Any], media: Media, rule: Rule) -> Ask:
            return self._telling(openai(unlimited(completed(dict(values), rule)), media), values)

        given = await self._here.body(request)
        await self._engines.learn()
        return await self._here.answer(request, given, read, V0)

    def _telling(self, ask: Ask, values: Mapping[str, Any]) -> Ask:
        Fields(values).refuse("preset", "Send what the preset says: system message, temperature and the like.")
        wanted = _generation(ask)

        def writer(head: Head) -> Writer:
            return Telling(ask.writer(head), head, self._engines, wanted, len(ask.jobs))

        return replace(_kept(ask, values), writer=writer, informed=True)


def unlimited(values: dict[str, Any]) -> dict[str, Any]:
    """*values*, in which -1 tokens, LM Studio's word for no limit, are none that are said. Raises Invalid for less."""
    for name in LIMITS:
        Fields(values).integer(name, low=-1)
    return {name: value for name, value in values.items() if not (name in LIMITS and _is_none(value))}


def _is_none(value: Any) -> bool:
    return type(value) in (int, float) and value == -1


def _kept(ask: Ask, values: Mapping[str, Any]) -> Ask:
    """*ask*, with how long its model stays."""
    seconds = Fields(values).number("ttl", low=0)
    return ask if seconds is None else replace(ask, use=Use(keep_alive_s=seconds))


def _generation(ask: Ask) -> Generation:
    job = ask.jobs[0]
    assert isinstance(job, Chat | Complete)
    return job.generation


class Telling:
    """OpenAI's writer, whose whole answer, or last chunk of a stream, ends with stats, model_info and runtime."""

    def __init__(self, openai: Writer, head: Head, engines: Engines, wanted: Generation, jobs: int) -> None:
        self.media_type = openai.media_type
        self._openai, self._engines, self._wanted, self._jobs = openai, engines, wanted, jobs
        self._course, self._pace = head.course, Pace(head.course)

    def write(self, event: Event, job: int) -> bytes:
        self._pace.take(event)
        data = self._openai.write(event, job)
        if self.media_type == SSE and isinstance(event, Done) and len(self._pace.dones) == self._jobs:
            return data.removesuffix(b"}\n\n") + self._told() + b"\n\n"
        return data

    def end(self) -> bytes:
        data = self._openai.end()
        return data if self.media_type == SSE else data.removesuffix(b"}") + self._told()

    def _told(self) -> bytes:
        """The last members of the object, and its end."""
        pace, plan = self._pace, self._course.plan
        told: dict[str, Any] = {
            "stats": {
                "tokens_per_second": pace.rate,
                "time_to_first_token": pace.first_s,
                "generation_time": pace.generate_s,
                "stop_reason": pace.reason(self._wanted),
            }
        }
        if plan is not None:
            told["model_info"] = {
                "arch": plan.metadata.architecture,
                "quant": plan.metadata.quantization or plan.match.variant or None,
                "format": plan.match.format,
                "context_length": plan.settings.context,
            }
            told["runtime"] = self._engines.of(plan)
        return f",{dumps(told)[1:]}".encode("ascii")
