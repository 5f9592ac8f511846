"""POST /v1/chat/completions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from json.encoder import encode_basestring_ascii as quote
from typing import Any

from anyform.contract.events import Done, Event, Reasoning, Text, TokenLogprob, ToolCall, Usage
from anyform.contract.jobs import Chat, Generation
from anyform.http import generation, message
from anyform.http.fields import Fields, wrong
from anyform.http.media import Media
from anyform.http.reply import JSON, SSE, Ask, Chunk, Head, Writer, added, dumps, finish, logprob, remarks, whole

LARGEST_TEMPLATE = 64 * 1024
"""Characters of a request's own chat template."""
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


def read(body: Mapping[str, Any], media: Media) -> Ask:
    """The request as a Chat job. Raises Invalid, Unsupported, TooLarge."""
    fields = Fields(body)
    model = fields.need_text("model")
    job = _job(fields, media)
    stream = bool(fields.flag("stream"))
    counted = generation.includes_usage(fields, stream)

    def writer(head: Head) -> Writer:
        return Stream(head, job.generation.n, counted) if stream else Whole(head, job.generation)

    return Ask(model=model, jobs=(job,), writer=writer, stream=stream, prompt="messages")


def _job(fields: Fields, media: Media) -> Chat:
    tools = message.tools(fields)
    thinking, options = template(fields)
    parallel = fields.flag("parallel_tool_calls")
    return Chat(
        messages=message.messages(fields, media),
        tools=tools,
        tool_choice=message.tool_choice(fields, tools),
        parallel_calls=parallel is not False,
        thinking=thinking,
        template_options=options,
        generation=_generation(fields),
    )


def _generation(fields: Fields) -> Generation:
    logprobs = bool(fields.flag("logprobs"))
    top = fields.integer("top_logprobs", low=0, high=generation.TOP_LOGPROBS)
    if top and not logprobs:
        wrong(fields.path("top_logprobs"), "it is only allowed when 'logprobs' is enabled", "Set logprobs to true.")
    longest = fields.integer("max_completion_tokens", "max_tokens", low=1)
    return generation.read(fields, max_tokens=longest, logprobs=logprobs, top_logprobs=top or 0)


def template(fields: Fields) -> tuple[bool | None, dict[str, Any]]:
    """Whether to think, and further variables for the template."""
    options = dict(fields.object("chat_template_kwargs") or {})
    if "chat_template" in options:
        wrong(fields.path("chat_template_kwargs") + ".chat_template", "it is a field of its own", "Say chat_template.")
    inner = Fields(options, fields.path("chat_template_kwargs") + ".")
    thinking = inner.flag("enable_thinking", "thinking")
    for name in ("enable_thinking", "thinking"):
        options.pop(name, None)
    effort = fields.choice("reasoning_effort", *EFFORTS)
    if effort is not None:
        thinking = effort != "none"
        if thinking:
            options.setdefault("reasoning_effort", effort)
    own = fields.text("chat_template")
    if own:
        if len(own) > LARGEST_TEMPLATE:
            longest = f"it has {len(own)} characters; at most {LARGEST_TEMPLATE} are read"
            wrong(fields.path("chat_template"), longest)
        options["chat_template"] = own
    direct = fields.flag("enable_thinking")
    return (thinking if direct is None else direct), options


class Stream:
    """Writes an answer as chat.completion.chunk events. What no event changes is serialised once."""

    media_type = SSE

    def __init__(self, head: Head, n: int, counted: bool) -> None:
        """*counted*: whether usage is wanted."""
        self._n = n
        self._usage = Usage()
        self._chunk = Chunk(head, "chatcmpl", "chat.completion.chunk", counted)
        self._key = head.key
        self._begun: set[int] = set()
        self._calls: set[tuple[int, int]] = set()

    def write(self, event: Event, job: int = 0) -> bytes:
        if isinstance(event, Text):
            return self._say("content", event)
        if isinstance(event, Reasoning):
            return self._say("reasoning_content", event)
        if isinstance(event, ToolCall):
            return (self._begin(event.index, "null") + self._call(event)).encode("ascii")
        if isinstance(event, Done):
            return self._finish(event)
        return b""

    def end(self) -> bytes:
        return self._chunk.last(self._usage)

    def _say(self, field: str, event: Text | Reasoning) -> bytes:
        if not event.text and not event.logprobs:
            return b""
        first = self._begin(event.index, '""')
        logs = dumps(logprobs(event.logprobs)) if event.logprobs else "null"
        delta = f'{{"{field}":{quote(event.text)}}},"logprobs":{logs}'
        return f'{first}{self._chunk.open}{{"index":{event.index},"delta":{delta}{self._chunk.tail}'.encode("ascii")

    def _begin(self, index: int, content: str) -> str:
        """The first delta of an answer, with its role; "" once it was sent."""
        if index in self._begun:
            return ""
        self._begun.add(index)
        return self._delta(index, f'{{"role":"assistant","content":{content},"refusal":null}}')

    def _delta(self, index: int, delta: str, reason: str = "null", told: Sequence[str] = ()) -> str:
        choice = f'{{"index":{index},"delta":{delta},"logprobs":null,"finish_reason":{reason}}}'
        return self._chunk.open + choice + self._chunk.remarking(told)

    def _call(self, event: ToolCall) -> str:
        piece: dict[str, Any] = {"index": event.call}
        function: dict[str, Any] = {"arguments": event.arguments}
        if (event.index, event.call) not in self._calls:
            self._calls.add((event.index, event.call))
            piece |= {"id": call_id(event, self._key), "type": "function"}
            function = {"name": event.name, **function}
        return self._delta(event.index, dumps({"tool_calls": [{**piece, "function": function}]}))

    def _finish(self, done: Done) -> bytes:
        self._usage = added(self._usage, done.usage)
        told = {self._n - 1: remarks(done)}
        chunks = [
            self._begin(index, '""') + self._delta(index, "{}", f'"{finish(done, index)}"', told.get(index, ()))
            for index in range(self._n)
        ]
        return "".join(chunks).encode("ascii")


class Whole:
    """Collects an answer into one chat.completion object."""

    media_type = JSON

    def __init__(self, head: Head, wanted: Generation) -> None:
        self._head = head
        self._logprobs = wanted.logprobs
        self._choices = [_Choice(head.key) for _ in range(wanted.n)]
        self._done = Done()

    def write(self, event: Event, job: int = 0) -> bytes:
        if isinstance(event, Text):
            self._choices[event.index].text.append(event.text)
            self._choices[event.index].logprobs.extend(event.logprobs)
        elif isinstance(event, Reasoning):
            self._choices[event.index].reasoning.append(event.text)
        elif isinstance(event, ToolCall):
            self._choices[event.index].call(event)
        elif isinstance(event, Done):
            self._done = event
        return b""

    def end(self) -> bytes:
        choices = [self._choice(index, choice) for index, choice in enumerate(self._choices)]
        return whole(self._head, "chatcmpl", "chat.completion", choices, self._done.usage, remarks(self._done))

    def _choice(self, index: int, choice: _Choice) -> dict[str, Any]:
        return {
            "index": index,
            "message": choice.message(),
            "logprobs": logprobs(tuple(choice.logprobs)) if self._logprobs else None,
            "finish_reason": finish(self._done, index),
        }


class _Choice:
    """One answer in the making."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.logprobs: list[TokenLogprob] = []
        self.calls: dict[int, dict[str, Any]] = {}

    def call(self, event: ToolCall) -> None:
        call = self.calls.setdefault(
            event.call, {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
        )
        if event.name:
            call["id"] = call_id(event, self.key)
            call["function"]["name"] = event.name
        call["function"]["arguments"] += event.arguments

    def message(self) -> dict[str, Any]:
        text = "".join(self.text)
        said: dict[str, Any] = {
            "role": "assistant",
            "content": None if self.calls and not text else text,
            "refusal": None,
        }
        if self.reasoning:
            said["reasoning_content"] = "".join(self.reasoning)
        if self.calls:
            said["tool_calls"] = [self.calls[at] for at in sorted(self.calls)]
        return said


def call_id(event: ToolCall, key: str) -> str:
    """The call's own id, or one made of the answer's key and the call's place."""
    return event.id or f"call_{key}_{event.index}_{event.call}"


def logprobs(tokens: tuple[TokenLogprob, ...]) -> dict[str, Any]:
    """OpenAI's logprobs object: one entry a generated token."""
    return {
        "content": [{**_entry(token), "top_logprobs": [_entry(other) for other in token.top]} for token in tokens],
        "refusal": None,
    }


def _entry(token: TokenLogprob) -> dict[str, Any]:
    return {"token": token.token, "logprob": logprob(token.logprob), "bytes": list(token.bytes)}
