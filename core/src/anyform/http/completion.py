"""POST /v1/completions: raw continuation, several prompts a request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from json.encoder import encode_basestring_ascii as quote
from typing import Any

from anyform.contract.events import Done, Event, Text, TokenLogprob, Usage
from anyform.contract.jobs import Complete, Generation
from anyform.http import generation
from anyform.http.fields import Fields, is_tokens, mistyped, tokens, wrong
from anyform.http.reply import JSON, SSE, Ask, Chunk, Head, Writer, added, dumps, finish, logprob, remarks, whole

MAX_TOKENS = 16
"""The dialect's own default."""
PROMPTS = 2048


def read(body: Mapping[str, Any], usual: int | None = MAX_TOKENS) -> Ask:
    """The request as one Complete job a prompt. *usual*: how many tokens one has that says no number; None: as many as
    there is room for. Raises Invalid.
    """
    fields = Fields(body)
    model = fields.need_text("model")
    wanted = _generation(fields, usual)
    suffix, echo = fields.text("suffix") or "", bool(fields.flag("echo"))
    jobs = tuple(Complete(prompt=prompt, suffix=suffix, echo=echo, generation=wanted) for prompt in _prompts(fields))
    stream = bool(fields.flag("stream"))
    counted = generation.includes_usage(fields, stream)

    def writer(head: Head) -> Writer:
        return Stream(head, wanted, counted) if stream else Whole(head, wanted, len(jobs))

    return Ask(model=model, jobs=jobs, writer=writer, stream=stream, prompt="prompt")


def _generation(fields: Fields, usual: int | None) -> Generation:
    longest = fields.integer("max_tokens", "max_completion_tokens", low=0)
    top = fields.integer("logprobs", low=0, high=generation.TOP_LOGPROBS)
    return generation.read(
        fields,
        max_tokens=usual if longest is None else longest,
        logprobs=top is not None,
        top_logprobs=top or 0,
    )


def _prompts(fields: Fields) -> list[str | tuple[int, ...]]:
    value = fields.data.get("prompt")
    if value is None:
        fields.missing("prompt")
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        mistyped(fields.path("prompt"), "a string or an array", value)
    if is_tokens(value):
        return [tokens(fields.path("prompt"), value)]
    if not value:
        wrong(fields.path("prompt"), "empty array", "Expected at least one prompt.")
    if len(value) > PROMPTS:
        wrong(fields.path("prompt"), f"{len(value)} prompts", f"Expected at most {PROMPTS}.")
    return [_prompt(f"{fields.path('prompt')}[{at}]", item) for at, item in enumerate(value)]


def _prompt(param: str, item: Any) -> str | tuple[int, ...]:
    if isinstance(item, str):
        return item
    if not isinstance(item, list):
        mistyped(param, "a string or an array of token ids", item)
    if not item:
        wrong(param, "empty array", "Expected at least one token id.")
    return tokens(param, item)


class Stream:
    """Writes answers as text_completion events; choice index = job * n + answer."""

    media_type = SSE

    def __init__(self, head: Head, wanted: Generation, counted: bool) -> None:
        """*counted*: whether usage is wanted."""
        self._n = wanted.n
        self._scored = wanted.logprobs
        self._usage = Usage()
        self._logs: dict[int, _Logprobs] = {}
        self._chunk = Chunk(head, "cmpl", "text_completion", counted)

    def write(self, event: Event, job: int = 0) -> bytes:
        if isinstance(event, Text):
            return self._say(event, job * self._n + event.index)
        if isinstance(event, Done):
            return self._finish(event, job)
        return b""

    def end(self) -> bytes:
        return self._chunk.last(self._usage)

    def _say(self, event: Text, index: int) -> bytes:
        if not event.text and not event.logprobs:
            return b""
        logs = self._weigh(event, index) if self._scored else "null"
        said = f'{{"index":{index},"text":{quote(event.text)},"logprobs":{logs}'
        return f"{self._chunk.open}{said}{self._chunk.tail}".encode("ascii")

    def _weigh(self, event: Text, index: int) -> str:
        part = self._logs.setdefault(index, _Logprobs()).add(event)
        return dumps(part) if event.logprobs else "null"

    def _finish(self, done: Done, job: int) -> bytes:
        self._usage = added(self._usage, done.usage)
        told = {self._n - 1: remarks(done)}
        ends = [self._last(job * self._n + at, finish(done, at), told.get(at, ())) for at in range(self._n)]
        return "".join(ends).encode("ascii")

    def _last(self, index: int, reason: str, told: Sequence[str]) -> str:
        choice = f'{{"index":{index},"text":"","logprobs":null,"finish_reason":"{reason}"}}'
        return self._chunk.open + choice + self._chunk.remarking(told)


class Whole:
    """Collects all answers into one text_completion object."""

    media_type = JSON

    def __init__(self, head: Head, wanted: Generation, jobs: int) -> None:
        self._head = head
        self._wanted = wanted
        self._texts: list[list[str]] = [[] for _ in range(jobs * wanted.n)]
        self._logs = [_Logprobs() for _ in self._texts]
        self._reasons = ["stop"] * len(self._texts)
        self._usage = Usage()
        self._remarks: dict[str, None] = {}

    def write(self, event: Event, job: int = 0) -> bytes:
        if isinstance(event, Text):
            index = job * self._wanted.n + event.index
            self._texts[index].append(event.text)
            self._logs[index].add(event)
        elif isinstance(event, Done):
            self._usage = added(self._usage, event.usage)
            self._remarks |= dict.fromkeys(remarks(event))
            for at in range(self._wanted.n):
                self._reasons[job * self._wanted.n + at] = finish(event, at)
        return b""

    def end(self) -> bytes:
        choices = [self._choice(index) for index in range(len(self._texts))]
        return whole(self._head, "cmpl", "text_completion", choices, self._usage, list(self._remarks))

    def _choice(self, index: int) -> dict[str, Any]:
        return {
            "index": index,
            "text": "".join(self._texts[index]),
            "logprobs": self._logs[index].whole if self._wanted.logprobs else None,
            "finish_reason": self._reasons[index],
        }


class _Logprobs:
    """The four parallel arrays of one answer; offsets count characters of its text."""

    def __init__(self) -> None:
        self.whole = _arrays()
        self._offset = 0

    def add(self, event: Text) -> dict[str, list[Any]]:
        """Append the event's tokens; returns their part alone, as a stream's chunk wants it."""
        part = _arrays()
        if not event.logprobs:
            self._offset += len(event.text)
        for token in event.logprobs:
            part["tokens"].append(token.token)
            part["token_logprobs"].append(logprob(token.logprob))
            part["top_logprobs"].append(_alternatives(token))
            part["text_offset"].append(self._offset)
            self._offset += len(token.token)
        for name, values in part.items():
            self.whole[name].extend(values)
        return part


def _alternatives(token: TokenLogprob) -> dict[str, float | None] | None:
    return None if token.logprob is None else {other.token: logprob(other.logprob) for other in token.top}


def _arrays() -> dict[str, list[Any]]:
    return {"text_offset": [], "token_logprobs": [], "tokens": [], "top_logprobs": []}
