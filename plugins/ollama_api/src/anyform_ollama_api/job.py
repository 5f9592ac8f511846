"""The resources that have a model work: /api/chat, /api/generate, /api/embed and /api/embeddings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from anyform.contract.errors import ModelNotFound, Unsupported
from anyform.contract.jobs import Chat, Complete, Embed, Generation, Job
from anyform.dialect import Entry, Fields, Rule, Runtime, Server
from anyform_ollama_api import chat, embed, generate, options, request
from anyform_ollama_api.clock import now
from anyform_ollama_api.form import DIALECT

THINKING = "thinking"
"""A feature of models."""


class Jobs:
    """The resources."""

    def __init__(self, here: Server) -> None:
        self._here = here

    async def chat(self, given: Request) -> Response:
        """POST /api/chat; without messages it loads or unloads the model."""
        body = self._here.named(await self._here.body(given))
        fields = Fields(body.values)
        if not fields.array("messages"):
            said = {"message": {"role": "assistant", "content": ""}}
            return await self._stay(fields, said, Chat(messages=(), generation=_generation(fields)))
        if request.think(fields):
            await self._check_thinking(fields)
        return await self._here.answer(given, body, chat.read, DIALECT)

    async def generate(self, given: Request) -> Response:
        """POST /api/generate; without a prompt it loads or unloads the model."""
        body = self._here.named(await self._here.body(given))
        fields = Fields(body.values)
        asked = fields.text("prompt") or fields.text("suffix") or fields.array("images")
        plain = asked and (body.values.get("raw") is True or fields.text("suffix"))
        chats = True if plain else await self._ask(_chats, fields)
        if not asked:
            wanted = _generation(fields)
            job = Chat(messages=(), generation=wanted) if chats else Complete(prompt="", generation=wanted)
            return await self._stay(fields, {"response": ""}, job)
        if request.think(fields) and not fields.text("template"):
            await self._check_thinking(fields)
        return await self._here.answer(given, body, partial(generate.read, chats=chats), DIALECT)

    async def embed(self, given: Request) -> Response:
        """POST /api/embed; without texts it loads or unloads the model."""
        body = self._here.named(await self._here.body(given))
        fields = Fields(body.values)
        if embed.inputs(fields):
            return await self._here.answer(given, body, embed.read, DIALECT)
        await self._stay(fields, {}, Embed(inputs=()))
        return JSONResponse({"model": request.model(fields), "embeddings": []})

    async def embeddings(self, given: Request) -> Response:
        """POST /api/embeddings; without a text it loads or unloads the model."""
        body = self._here.named(await self._here.body(given))
        fields = Fields(body.values)
        if embed.prompt(fields):
            return await self._here.answer(given, body, embed.read_one, DIALECT)
        await self._stay(fields, {}, Embed(inputs=()))
        return JSONResponse({"embedding": []})

    async def _ask(self, question: Callable[[Runtime, Entry], bool], body: Fields) -> bool:
        """What there is to know of the model before its request can be read. Raises ModelNotFound."""
        model, runtime = request.model(body), self._here.runtime
        try:
            return await self._here.quick(lambda: question(runtime, runtime.find(model)))
        except ModelNotFound:
            entry = await self._here.find(model)  # which may pull it
            return await self._here.quick(question, runtime, entry)

    async def _check_thinking(self, body: Fields) -> None:
        """Refuse to have a model think that was not taught to, as far as its own template tells."""
        if not await self._ask(_may_think, body):
            raise Unsupported(
                f'"{request.model(body)}" does not support thinking.', "Leave 'think' out.", param="think"
            )

    async def _stay(self, body: Fields, said: Mapping[str, Any], job: Job) -> Response:
        """Have the model loaded, ready for *job*, or, where it is to stay for no time, unloaded."""
        model, use = request.model(body), request.use(body)
        options.read(body)
        if use.keep_alive_s == 0:
            entry = await self._here.find(model)
            await self._here.unload(entry.name)
        else:
            await self._here.load(model, use, job)
        reason = "unload" if use.keep_alive_s == 0 else "load"
        return JSONResponse({"model": model, "created_at": now(), **said, "done": True, "done_reason": reason})


def _generation(body: Fields) -> Generation:
    """What a model that is loaded for no request yet must have room for."""
    return Generation(context=options.generation(body, Rule()).context)


def _chats(runtime: Runtime, entry: Entry) -> bool:
    """Whether it is to be asked in conversations; False: it only completes."""
    tasks = runtime.metadata(entry).tasks
    return Complete.task not in tasks or Chat.task in tasks


def _may_think(runtime: Runtime, entry: Entry) -> bool:
    metadata = runtime.metadata(entry)
    known = Chat.task in metadata.tasks and not runtime.rule(entry).request.get("chat_template")
    return not known or THINKING in metadata.features
