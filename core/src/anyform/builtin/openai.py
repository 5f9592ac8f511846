"""OpenAI's HTTP dialect from the asking side: a Job as a request body, an answer's JSON as events. Pure.

https://platform.openai.com/docs/api-reference, with llama-server's names for samplers and `reasoning_content`.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from anyform.contract.errors import Area, ContextExceeded, Fault, Invalid, Overloaded, Unsupported
from anyform.contract.events import (
    Event,
    Finish,
    Reasoning,
    Scores,
    Text,
    TokenLogprob,
    ToolCall,
    Usage,
    Vector,
)
from anyform.contract.jobs import Call, Chat, Complete, Embed, Generation, Job, Message, Part, Picture, Rerank, Sound
from anyform.contract.jobs import Text as TextPart


class ServerError(Fault):
    """The command's server failed; its own words are in the message."""

    code = "command.server"
    area = Area.BACKEND


def request(job: Job, model: str) -> tuple[str, dict[str, Any]]:
    """(path, body) that ask a server for *job*. Raises Unsupported for a task that OpenAI's text API lacks."""
    match job:
        case Chat():
            return "/v1/chat/completions", {"model": model, **_chat(job)}
        case Complete():
            return "/v1/completions", {"model": model, **_complete(job)}
        case Embed():
            extra = {} if job.dimensions is None else {"dimensions": job.dimensions}
            return "/v1/embeddings", {"model": model, "input": list(job.inputs), "encoding_format": "float", **extra}
        case Rerank():
            return "/v1/rerank", {"model": model, "query": job.query, "documents": list(job.documents)}
    raise Unsupported(f"a command does not {job.task}.", "It can chat, complete, embed and rerank.")


def _chat(job: Chat) -> dict[str, Any]:
    body: dict[str, Any] = {"messages": [_message(message) for message in job.messages], **_generation(job.generation)}
    if job.generation.logprobs:
        body |= {"logprobs": True, "top_logprobs": job.generation.top_logprobs}
    if job.tools:
        named = job.tool_choice not in ("none", "auto", "required")
        body["tools"] = [
            {
                "type": "function",
                "function": {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)},
            }
            for tool in job.tools
        ]
        choice = {"type": "function", "function": {"name": job.tool_choice}} if named else job.tool_choice
        body |= {"tool_choice": choice, "parallel_tool_calls": job.parallel_calls}
    options = dict(job.template_options)
    if "chat_template" in options:
        body["chat_template"] = options.pop("chat_template")
    if job.thinking is not None:
        options["enable_thinking"] = job.thinking
    return body | ({"chat_template_kwargs": options} if options else {})


def _complete(job: Complete) -> dict[str, Any]:
    body: dict[str, Any] = {"prompt": job.prompt if isinstance(job.prompt, str) else list(job.prompt)}
    body |= _generation(job.generation)
    if job.generation.logprobs:
        body["logprobs"] = job.generation.top_logprobs
    if job.suffix:
        body["suffix"] = job.suffix
    return body | ({"echo": True} if job.echo else {})


def _generation(wanted: Generation) -> dict[str, Any]:
    sampling = {field.name: getattr(wanted.sampling, field.name) for field in fields(wanted.sampling)}
    body: dict[str, Any] = {name: value for name, value in sampling.items() if value is not None and value != {}}
    if "logit_bias" in body:
        body["logit_bias"] = {str(token): bias for token, bias in wanted.sampling.logit_bias.items()}
    if wanted.max_tokens is not None:
        body["max_tokens"] = wanted.max_tokens
    if wanted.schema is not None:
        schema = {"name": "answer", "schema": dict(wanted.schema), "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    body |= {name: value for name, value in (("stop", list(wanted.stop)), ("grammar", wanted.grammar)) if value}
    body |= {"ignore_eos": True} if wanted.ignore_eos else {}
    body |= {"n": wanted.n} if wanted.n != 1 else {}
    return body | {"stream": True, "stream_options": {"include_usage": True}}


def _message(message: Message) -> dict[str, Any]:
    plain = all(isinstance(part, TextPart) for part in message.parts)
    body: dict[str, Any] = {"role": message.role}
    body["content"] = message.text if plain else [_part(part) for part in message.parts]
    if message.calls:
        body["tool_calls"] = [_call(call) for call in message.calls]
    named = {"tool_call_id": message.call_id, "name": message.name, "reasoning_content": message.reasoning}
    return body | {key: value for key, value in named.items() if value}


def _call(call: Call) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _part(part: Part) -> dict[str, Any]:
    match part:
        case Picture():
            data = base64.b64encode(part.data).decode()
            return {"type": "image_url", "image_url": {"url": f"data:{part.media_type or 'image/png'};base64,{data}"}}
        case Sound():
            kind = part.media_type.rpartition("/")[2].removeprefix("x-") or "wav"
            sound = {"data": base64.b64encode(part.data).decode(), "format": kind}
            return {"type": "input_audio", "input_audio": sound}
    return {"type": "text", "text": part.text}


def fault(status: int, body: Mapping[str, Any], retry_after: str = "") -> Fault:
    """The fault that an error answer means."""
    error = body.get("error", body)
    said = error if isinstance(error, Mapping) else {"message": error}
    text = str(said.get("message") or said.get("detail") or f"status {status}")
    codes = {str(said.get("code")), str(said.get("type"))}
    if codes & {"context_length_exceeded", "exceed_context_size_error"}:
        numbers = {"prompt_tokens": said.get("n_prompt_tokens"), "context": said.get("n_ctx")}
        details = {name: value for name, value in numbers.items() if value is not None}
        return ContextExceeded(text, "Shorten the prompt or start the command with a larger context.", **details)
    if status == 429:
        seconds = int(retry_after) if retry_after.isdigit() else 1
        return Overloaded(text, "Try again later.", retry_after_s=seconds)
    if status in (404, 405, 501):
        return Unsupported(text, "The command's server lacks this; see its own documentation.")
    if 400 <= status < 500:
        return Invalid(text)
    return ServerError(f"the command's server answered {status}: {text}", "See its own output.")


class Answers:
    """What has come of one streamed text answer: turns its chunks into events, keeps finishes and usage."""

    def __init__(self, count: int) -> None:
        """*count*: answers that were asked for."""
        self.finishes: dict[int, Finish] = {}
        self.usage = Usage()
        self._count = count

    def read(self, chunk: Mapping[str, Any]) -> Iterator[Event]:
        """The events in one chunk. Raises the fault that it holds, if it holds one."""
        if "error" in chunk:
            error = chunk["error"]
            code = error.get("code") if isinstance(error, Mapping) else None
            raise fault(code if isinstance(code, int) else 500, chunk)
        if isinstance(chunk.get("usage"), Mapping):
            self.usage = usage(chunk["usage"])
        for choice in chunk.get("choices") or ():
            yield from self._choice(choice)

    def complete(self) -> bool:
        """Whether every answer has said why it ended."""
        return len(self.finishes) >= self._count

    def ended(self) -> tuple[Finish, ...]:
        """One finish for each answer; those that never ended were cancelled."""
        return tuple(self.finishes.get(index, Finish(reason="cancelled")) for index in range(self._count))

    def _choice(self, choice: Mapping[str, Any]) -> Iterator[Event]:
        index = int(choice.get("index") or 0)
        delta = choice.get("delta") or {}
        logprobs = tuple(_logprob(item) for item in (choice.get("logprobs") or {}).get("content") or ())
        thought = delta.get("reasoning_content") or delta.get("reasoning")
        if thought:
            yield Reasoning(text=thought, index=index)
        text = delta.get("content") or choice.get("text") or ""
        if text or logprobs:
            yield Text(text=text, index=index, logprobs=logprobs)
        for call in delta.get("tool_calls") or ():
            made = call.get("function") or {}
            yield ToolCall(
                call=int(call.get("index") or 0),
                index=index,
                id=call.get("id") or "",
                name=made.get("name") or "",
                arguments=made.get("arguments") or "",
            )
        if choice.get("finish_reason"):
            reason, stop = choice["finish_reason"], choice.get("stop_reason")
            self.finishes[index] = Finish(reason=reason, stop=stop if isinstance(stop, str) else "")


def vectors(body: Mapping[str, Any]) -> Iterator[Event]:
    """The vectors of an answer of /v1/embeddings."""
    for item in body["data"]:
        numbers = item["embedding"]
        data = struct.pack(f"<{len(numbers)}f", *numbers)
        yield Vector(data=data, dimensions=len(numbers), index=int(item.get("index") or 0))


def scores(body: Mapping[str, Any], count: int) -> Scores:
    """The scores of an answer of /v1/rerank for *count* documents, in the documents' order."""
    values = [0.0] * count
    for item in body.get("results") or body["data"]:
        values[int(item["index"])] = float(item.get("relevance_score", item.get("score")))
    return Scores(values=tuple(values))


def usage(said: Mapping[str, Any]) -> Usage:
    """Tokens as the server counted them."""
    reused = said.get("prompt_tokens_details") or {}
    thought = said.get("completion_tokens_details") or {}
    return Usage(
        prompt_tokens=int(said.get("prompt_tokens") or said.get("total_tokens") or 0),
        completion_tokens=int(said.get("completion_tokens") or 0),
        cached_tokens=int(reused.get("cached_tokens") or 0),
        reasoning_tokens=int(thought.get("reasoning_tokens") or 0),
    )


def _logprob(item: Mapping[str, Any]) -> TokenLogprob:
    token = str(item.get("token", ""))
    return TokenLogprob(
        token=token,
        id=int(item.get("id", -1)),
        bytes=tuple(item.get("bytes") or token.encode()),
        logprob=None if item.get("logprob") is None else float(item["logprob"]),
        top=tuple(_logprob(other) for other in item.get("top_logprobs") or ()),
    )
