"""POST /api/v1/chat: one turn of a conversation that the server keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from anyform.contract.jobs import Chat, Generation, Message, Part
from anyform.contract.jobs import Text as Words
from anyform.dialect import (
    Ask,
    Fields,
    Head,
    Link,
    Media,
    NotSupported,
    Rule,
    Server,
    Store,
    Use,
    Wish,
    Writer,
    WrongValue,
    begun,
    completed,
    dumps,
    mistyped,
    read_generation,
    read_items,
    read_template,
    wrong,
)
from anyform_lmstudio_api.chatreply import Stream, Whole
from anyform_lmstudio_api.form import V1, only
from anyform_lmstudio_api.listing import REASONING, thinks

SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repeat_penalty")
KNOWN = (
    "model", "input", "system_prompt", "integrations", "stream", *SAMPLING, "max_output_tokens", "reasoning",
    "context_length", "store", "previous_response_id", "ttl",
)  # fmt: skip
MARK = "system_prompt"
"""Says of an item that is kept that it is the thread's system prompt, which a later one replaces."""


class Chats:
    """The resource."""

    def __init__(self, here: Server) -> None:
        self._here = here

    async def chat(self, request: Request) -> Response:
        given = self._here.named(await self._here.body(request))
        await self._check_reasoning(Fields(given.values))
        large = given.large or self._here.responses.large(given.values.get("previous_response_id"))
        return await self._here.answer(request, given._replace(large=large), self._read, V1)

    async def _check_reasoning(self, fields: Fields) -> None:
        """A model that does not reason cannot be told to."""
        wanted, model = fields.choice("reasoning", *REASONING), fields.data.get("model")
        if wanted in (None, "off") or not isinstance(model, str):
            return
        entry = await self._here.find(model)
        if not thinks(await self._here.quick(self._here.runtime.metadata, entry)):
            raise WrongValue(
                f"Invalid 'reasoning': {entry.name} does not support '{wanted}': it does not reason.",
                "Leave it out, or say 'off'.",
                param="reasoning",
            )

    def _read(self, values: Mapping[str, Any], media: Media, rule: Rule) -> Ask:
        fields = Fields(values)
        only(fields, *KNOWN)
        model, stream = fields.need_text("model"), bool(fields.flag("stream"))
        _refuse_integrations(fields)
        before, store = self._before(fields), self._store(fields)
        asked, items = _asked(fields, media)
        system = fields.text("system_prompt")
        if system is not None:
            items.insert(0, {"type": "message", "role": "system", "content": system, MARK: True})
        job = _job(fields, rule, begun((*_thread(before, system, media), asked), rule, media))
        inputs = dumps(items).encode("ascii") if store else b"[]"
        wish = Wish(told=_told(fields, job.generation), store=store, inputs=inputs, before=before)
        stays = fields.number("ttl", low=0)

        def writer(head: Head) -> Writer:
            return (Stream if stream else Whole)(head, wish, job.generation)

        return Ask(
            model=model,
            jobs=(job,),
            writer=writer,
            stream=stream,
            prompt="input",
            informed=True,
            spelt={"max_tokens": "max_output_tokens", "messages": "input"},
            use=None if stays is None else Use(keep_alive_s=stays),
        )

    def _before(self, fields: Fields) -> Link | None:
        previous = fields.text("previous_response_id")
        return None if previous is None else self._here.responses.previous(previous)

    def _store(self, fields: Fields) -> Store | None:
        """Where the answer is kept; None: nowhere."""
        store = self._here.responses
        return store if fields.flag("store") is not False and store.limit_bytes else None


def _refuse_integrations(fields: Fields) -> None:
    if fields.array("integrations"):
        told = "No MCP servers and plugins run here: leave it out, or send tools to /api/v0/chat/completions."
        raise NotSupported("Unsupported parameter: 'integrations'.", told, param="integrations")


def _asked(fields: Fields, media: Media) -> tuple[Message, list[dict[str, Any]]]:
    """The user's message, and how it is kept."""
    value = fields.data.get("input")
    if value is None:
        fields.missing("input")
    if isinstance(value, str):
        return Message(role="user", parts=(Words(text=value),)), [{"role": "user", "content": value}]
    if not isinstance(value, list):
        mistyped(fields.path("input"), "a string or an array of objects", value)
    if not value:
        wrong(fields.path("input"), "empty array", "Expected at least one item.")
    parts: list[Part] = []
    kept: list[dict[str, Any]] = []
    for item in fields.items("input") or ():
        said = item.choice("type", "message", "text", "image") or item.missing("type")
        if said == "image":
            only(item, "type", "data_url")
            url = item.need_text("data_url")
            parts.append(media.written(url, item.path("data_url"), bare=False))
            kept.append({"type": "input_image", "image_url": url})
        else:
            only(item, "type", "content")
            text = item.need_text("content")
            if parts and isinstance(parts[-1], Words):  # two texts are lines of one message, not one word
                text = f"\n{text}"
            parts.append(Words(text=text))
            kept.append({"type": "input_text", "text": text})
    return Message(role="user", parts=tuple(parts)), [{"role": "user", "content": kept}]


def _thread(before: Link | None, system: str | None, media: Media) -> tuple[Message, ...]:
    """The conversation so far, behind its system prompt: *system*, or else the last that it was given."""
    links = before.chain() if before else []
    said = read_items(before, [], media)
    prompts = [item["content"] for link in links for item in link.brought() if _is_prompt(item)]
    rest = tuple(message for message in said if not (message.role == "system" and message.text in prompts))
    prompt = system if system is not None else (prompts[-1] if prompts else "")
    return (Message(role="system", parts=(Words(text=prompt),)), *rest) if prompt else rest


def _is_prompt(item: Mapping[str, Any]) -> bool:
    """Whether the item is one of those that `_read` marks: what others keep over /v1/responses may have any members."""
    return item.get(MARK) is True and item.get("role") == "system" and isinstance(item.get("content"), str)


def _job(fields: Fields, rule: Rule, messages: tuple[Message, ...]) -> Chat:
    fields.integer("context_length", low=1)
    longest = fields.integer("max_output_tokens", low=1)
    own = {name: fields.data[name] for name in SAMPLING if name in fields.data}
    wanted = {**own, **_thinking(fields), "n_ctx": fields.data.get("context_length"), "max_tokens": longest}
    full = Fields(completed(wanted, rule))
    thinking, options = read_template(full)
    generation = read_generation(full, max_tokens=full.integer("max_tokens", "max_completion_tokens", low=1))
    return Chat(
        messages=messages,
        thinking=thinking,
        template_options=options,
        generation=replace(generation, n=1),
    )


def _thinking(fields: Fields) -> dict[str, Any]:
    wanted = fields.choice("reasoning", *REASONING)
    if wanted is None:
        return {}
    effort = wanted if wanted in ("low", "medium", "high") else None
    return {"enable_thinking": wanted != "off", "reasoning_effort": effort}


def _told(fields: Fields, wanted: Generation) -> dict[str, Any]:
    """What the response that is kept says of its request, to who asks for it over /v1/responses."""
    return {
        "instructions": None,
        "max_output_tokens": wanted.max_tokens,
        "metadata": {},
        "parallel_tool_calls": True,
        "previous_response_id": fields.text("previous_response_id"),
        "store": True,
        "temperature": wanted.sampling.temperature,
        "tool_choice": "auto",
        "tools": [],
        "top_p": wanted.sampling.top_p,
    }
