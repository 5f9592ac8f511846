"""POST /api/generate: one prompt, in a conversation that the client carries along as numbers, or as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from anyform.contract.jobs import Chat, Complete, Message, Text
from anyform.dialect import Ask, Fields, Head, Media, NotSupported, Rule, Writer, WrongValue, begun
from anyform_ollama_api import context, line, options, request
from anyform_ollama_api.cut import Cut, Messages

PARAGRAPH = "\n\n"
BARE = "What is raw or has a suffix is never cut."


def read(values: Mapping[str, Any], media: Media, rule: Rule, chats: bool = True) -> Ask:
    """The request as a Chat job, or as a Complete job where it is raw, has a suffix, or its model does not chat.
    Raises Invalid, Unsupported, TooLarge.
    """
    return _Request(Fields(values), media, rule, chats).ask()


class _Request:
    """One request."""

    def __init__(self, body: Fields, media: Media, rule: Rule, chats: bool) -> None:
        self._body, self._media, self._rule, self._chats = body, media, rule, chats
        self._model, self._use = request.model(body), request.use(body)
        self._stream = body.flag("stream") is not False
        self._prompt, self._system = body.text("prompt") or "", body.text("system") or ""
        self._suffix, self._template = body.text("suffix") or "", body.text("template") or ""
        self._truncates = request.truncates(body, rule)
        self._raw = bool(body.flag("raw"))
        if self._raw and (self._template or self._system or body.data.get("context")):
            raise WrongValue("raw mode does not support template, system, or context.", param="raw")
        self._history = context.read(body.data.get("context"))
        self._pictures = request.pictures(body, media)
        self._thinking, self._options = request.manner(body, rule, self._template)
        self._generation = options.generation(body, rule)

    def ask(self) -> Ask:
        """What it wants."""
        if self._raw or self._suffix:
            self._bare("raw" if self._raw else "suffix")
            return replace(self._plain(self._prompt), uncut=BARE)
        told = (Text(text=self._prompt),) if self._prompt else ()
        asked = Message(role="user", parts=(*self._pictures, *told))
        if not self._chats:
            self._bare("prompt")
        return Cut(self._turn, self._truncates).ask((*self._before(), asked))

    def _before(self) -> Messages:
        """The system prompt, and what was said earlier."""
        if not self._system:
            return self._history
        system = Message(role="system", parts=(Text(text=self._system),))
        return (system, *(message for message in self._history if message.role != "system"))

    def _turn(self, messages: Messages) -> Ask:
        if not self._chats:
            return self._plain(_joined(begun(messages, self._rule, self._media)), messages)
        job = Chat(
            messages=begun(messages, self._rule, self._media),
            thinking=self._thinking,
            template_options=self._options,
            generation=self._generation,
        )
        return self._made(job, messages)

    def _plain(self, prompt: str, messages: Messages | None = None) -> Ask:
        return self._made(Complete(prompt=prompt, suffix=self._suffix, generation=self._generation), messages)

    def _made(self, job: Chat | Complete, messages: Messages | None) -> Ask:
        """*messages*: what was said so far, for the client to keep; None: it keeps nothing."""

        def more(content: str) -> Mapping[str, Any]:
            answer = Message(role="assistant", parts=(Text(text=content),))
            return {"context": context.written((*(messages or ()), answer))}

        def writer(head: Head) -> Writer:
            kept = line.nothing if messages is None else more
            kind = line.Stream if self._stream else line.Whole
            return kind(head, line.response, kept)

        return Ask(model=self._model, jobs=(job,), writer=writer, stream=self._stream, prompt="prompt", use=self._use)

    def _bare(self, field: str) -> None:
        """Refuse what only a conversation may have."""
        asked = {
            "images": self._pictures,
            "template": self._template,
            "think": self._body.data.get("think"),
            "system": self._system and self._suffix,
            "context": self._history and self._suffix,
        }
        refused = next((name for name, value in asked.items() if value), None)
        if refused is not None:
            why = f"{self._model} only completes texts" if field == "prompt" else f"it does not go with '{field}'"
            raise NotSupported(f"'{refused}' is not supported: {why}.", f"Leave out '{refused}'.", param=refused)


def _joined(messages: Messages) -> str:
    """A conversation with a model that was never taught any: nothing but what was said."""
    return "".join(message.text + (PARAGRAPH if message.role == "system" else "") for message in messages)
