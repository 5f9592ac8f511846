"""Echo's engine: answers with the words of its input, as slowly, and with the crashes, as it was told."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import signal
import struct
import threading
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from anyform.builtin import echo_speech
from anyform.builtin.echo_easel import Easel
from anyform.contract.errors import Closed, ContextExceeded, Invalid, Unsupported
from anyform.contract.events import (
    Blob,
    Done,
    Event,
    Finish,
    Progress,
    Reasoning,
    Scores,
    Segment,
    Text,
    TokenLogprob,
    ToolCall,
    Usage,
    Vector,
)
from anyform.contract.jobs import (
    Answer,
    Caption,
    Chat,
    Classify,
    Complete,
    EditImage,
    Embed,
    Generation,
    Image,
    Job,
    Message,
    Part,
    Picture,
    Rerank,
    Sound,
    Speak,
    Tool,
    Transcribe,
    Translate,
    VaryImage,
    ZeroShot,
)
from anyform.contract.jobs import Text as Words
from anyform.contract.model import Stop

DIMENSIONS = 8
_SOUND: Mapping[str, Any] = {"sample_rate": echo_speech.RATE, "channels": 1}
LABELS = ("red", "orange", "yellow", "green", "blue", "indigo", "violet", "white")
"""What texts and pictures are classified as, for no reason but their bytes."""
THOUGHT = "I shall repeat this."
PATCH = 1024
"""Bytes of a picture that make a token."""


class EchoModel:
    """Answers with the words of its input; every word with the space before it is a token."""

    def __init__(
        self,
        name: str,
        tasks: Sequence[str],
        context: int,
        parallel: int,
        options: Mapping[str, Any],
        sees: bool = False,
    ) -> None:
        """*context*: words; *options*: see `echo.OPTIONS`; *sees*: whether conversations may have pictures."""
        self._sees = sees
        self.parallel = parallel
        self.runs_on = str(options.get("runs_on", ""))
        self.notes = (str(options["warning"]),) if "warning" in options else ()
        self._remarks = (str(options["remark"]),) if "remark" in options else ()
        self._name = name
        self._tasks = tasks
        self._context = context
        self._delay_s = float(options.get("delay_s", 0))
        spared = bool(options.get(options.get("crash_unless", "")))
        self._crash = "" if spared else str(options.get("crash", ""))
        self._slots = threading.Semaphore(parallel)
        self._closed = threading.Event()
        self._produced = itertools.count(1)
        self._easel = Easel(self._step, self._cancelled)

    def generate(self, job: Job, stop: Stop) -> Iterator[Event]:
        if job.task not in self._tasks:
            raise Unsupported(f"{self._name} does not {job.task}.", f"It can {', '.join(self._tasks)}.")
        match job:
            case Chat() | Complete():
                return self._answer(job, stop)
            case Caption() | Answer():
                return self._answer(_told(job), stop)
            case Embed():
                return self._embed(job)
            case Rerank():
                return self._rerank(job)
            case Classify():
                return self._classify(job)
            case ZeroShot():
                return self._match(job)
            case Transcribe() | Translate():
                return self._transcribe(job, stop)
            case Speak():
                return self._speak(job, stop)
            case Image() | EditImage() | VaryImage():
                return self._easel.paint(job, stop)
        raise Unsupported(f"echo does not {job.task}.", f"It can {', '.join(self._tasks)}.")

    def close(self) -> None:
        self._closed.set()

    def crash_at(self, place: str) -> None:
        """Kill this very process, as a native crash would, if the option `crash` names *place*."""
        if self._crash and self._crash == place:
            if hasattr(signal, "SIGKILL"):
                os.kill(os.getpid(), signal.SIGKILL)
            os.abort()

    def _answer(self, job: Chat | Complete, stop: Stop) -> Iterator[Event]:
        wanted = job.generation
        if wanted.grammar or wanted.schema is not None:
            raise Unsupported("echo follows no grammar and no JSON schema.", "Leave response_format out.")
        prompt, source = _prompt(job, self._sees)
        tool = _forced_tool(job)
        used = self._admit(prompt)
        yield Progress(stage="prompt", done=used, total=used)
        began = time.monotonic()
        answers = [_Answer(wanted, index, self._context - used) for index in range(wanted.n)]
        if self._wait_for_slot(stop):
            try:
                for answer in answers:
                    yield from answer.call(tool, source) if tool else self._say(job, source, answer, stop)
            finally:
                self._slots.release()
        yield Done(
            finishes=tuple(answer.finish or Finish(reason="cancelled") for answer in answers),
            usage=Usage(
                prompt_tokens=used,
                completion_tokens=sum(answer.tokens for answer in answers),
                reasoning_tokens=sum(answer.thoughts for answer in answers),
            ),
            generate_s=time.monotonic() - began,
            extra={"remarks": self._remarks} if self._remarks else {},
        )

    def _say(self, job: Chat | Complete, source: str, answer: _Answer, stop: Stop) -> Iterator[Event]:
        if isinstance(job, Chat) and job.thinking:
            yield from answer.think()
        if isinstance(job, Complete) and job.echo:
            yield Text(text=source, index=answer.index)
        for word in _spoken(source, job.generation, answer.index):
            if answer.finish or self._cancelled(stop):
                break
            self._step(stop)
            yield from answer.take(word)
        yield from answer.end(stop.is_set())

    def _embed(self, job: Embed) -> Iterator[Event]:
        inputs = [_pieces(given) for given in job.inputs]
        if job.dimensions is not None and not 0 < job.dimensions <= DIMENSIONS:
            raise Invalid(f"dimensions is {job.dimensions}.", f"Give 1 to {DIMENSIONS}.")
        if job.truncate:
            inputs = [tokens[: self._context] for tokens in inputs]
        used = sum(self._admit(tokens, answer=0) for tokens in inputs)
        yield Progress(stage="prompt", done=used, total=used)
        for index, tokens in enumerate(inputs):
            numbers = embedding(tokens, job.dimensions or DIMENSIONS)
            yield Vector(data=struct.pack(f"<{len(numbers)}f", *numbers), dimensions=len(numbers), index=index)
        yield Done(finishes=(Finish(),), usage=Usage(prompt_tokens=used))

    def _rerank(self, job: Rerank) -> Iterator[Event]:
        query = words(job.query)
        used = sum(self._admit(query + words(document), answer=0) for document in job.documents)
        yield Progress(stage="prompt", done=used, total=used)
        yield Scores(values=tuple(overlap(job.query, document) for document in job.documents))
        yield Done(finishes=(Finish(),), usage=Usage(prompt_tokens=used))

    def _classify(self, job: Classify) -> Iterator[Event]:
        inputs = [_pieces(given) for given in job.inputs]
        used = sum(self._admit(tokens, answer=0) for tokens in inputs)
        yield Progress(stage="prompt", done=used, total=used)
        for index, tokens in enumerate(inputs):
            shares = _shares([math.exp(number) for number in embedding(tokens, DIMENSIONS)])
            best = sorted(zip(shares, LABELS, strict=True), reverse=True)[: job.top_k]
            yield Scores(
                values=tuple(share for share, _ in best), labels=tuple(label for _, label in best), index=index
            )
        yield Done(finishes=(Finish(),), usage=Usage(prompt_tokens=used))

    def _match(self, job: ZeroShot) -> Iterator[Event]:
        asked = [word for label in job.labels for word in words(label)]
        used = sum(self._admit(asked + _pieces(given), answer=0) for given in job.inputs)
        yield Progress(stage="prompt", done=used, total=used)
        for index, given in enumerate(job.inputs):
            shares = _shares([0.1 + _has(given, label) for label in job.labels])
            yield Scores(values=tuple(shares), labels=job.labels, index=index)
        yield Done(finishes=(Finish(),), usage=Usage(prompt_tokens=used))

    def _transcribe(self, job: Transcribe | Translate, stop: Stop) -> Iterator[Event]:
        """What the bytes of the sound are as text: a segment a line, a second a word."""
        said = [words(line) for line in heard(job.audio).splitlines()]
        used = self._admit(words(job.prompt), answer=0)
        began = time.monotonic()
        yield Progress(stage="audio", total=sum(map(len, said)))
        second = 0
        for line in said:
            for _ in line:
                if not self._cancelled(stop):
                    self._step(stop)
            if self._cancelled(stop):
                break
            yield _segment(line, second, isinstance(job, Transcribe) and job.words)
            second += len(line)
        yield Done(
            finishes=(Finish(reason="cancelled" if stop.is_set() else "stop"),),
            usage=Usage(prompt_tokens=used, completion_tokens=second),
            generate_s=time.monotonic() - began,
            extra={"duration": float(sum(map(len, said))), "language": _spoken_in(job)},
        )

    def _speak(self, job: Speak, stop: Stop) -> Iterator[Event]:
        """A word takes as long as a token does; a sentence comes as one piece."""
        voice = echo_speech.check(job)
        said = echo_speech.sentences(job.text)
        used = self._admit([word for sentence in said for word in sentence], answer=0)
        yield Progress(stage="text", total=len(said))
        began, samples = time.monotonic(), 0
        if self._wait_for_slot(stop):
            try:
                for sentence in said:
                    for _ in sentence:
                        if not self._cancelled(stop):
                            self._step(stop)
                    if self._cancelled(stop):
                        break
                    sound = echo_speech.spoken(sentence, voice, job.speed)
                    samples += len(sound) // 2
                    yield Blob(data=sound, media_type="audio/pcm", extra=_SOUND)
            finally:
                self._slots.release()
        yield Done(
            finishes=(Finish(reason="cancelled" if stop.is_set() else "stop"),),
            usage=Usage(prompt_tokens=used),
            generate_s=time.monotonic() - began,
            extra={"duration": samples / echo_speech.RATE, "sample_rate": echo_speech.RATE, "voice": voice},
        )

    def _admit(self, tokens: Sequence[str], answer: int = 1) -> int:
        if self._closed.is_set():
            raise Closed(f"{self._name} was closed.", "Open it again.")
        if len(tokens) + answer > self._context:
            raise ContextExceeded(
                f"the prompt has {len(tokens)} tokens and the context of {self._name} is {self._context}.",
                "Shorten the prompt or load the model with a larger context.",
                prompt_tokens=len(tokens),
                context=self._context,
            )
        return len(tokens)

    def _wait_for_slot(self, stop: Stop) -> bool:
        """Whether this job may run; False when it was cancelled while it waited."""
        while not self._slots.acquire(timeout=0.02):
            if self._cancelled(stop):
                return False
        return True

    def _cancelled(self, stop: Stop) -> bool:
        if self._closed.is_set():
            raise Closed(f"{self._name} was closed while it answered.", "Open it again.")
        return stop.is_set()

    def _step(self, stop: Stop) -> None:
        """One decode step: takes `delay_s`, and is where `crash` strikes."""
        if self._delay_s:
            stop.wait(self._delay_s)
        produced = next(self._produced)
        self.crash_at(f"after:{produced - 1}")
        if produced == 1:
            self.crash_at("first")


class _Answer:
    """One answer in the making: counts its tokens and holds back what may become a stop string."""

    def __init__(self, wanted: Generation, index: int, room: int) -> None:
        """*room*: tokens that the context leaves."""
        self.index = index
        self.tokens = self.thoughts = 0
        self._wanted = wanted
        self._room = room if wanted.max_tokens is None else min(room, wanted.max_tokens)
        self._held = ""
        self.finish = Finish(reason="length") if self._room < 1 else None

    def call(self, tool: Tool, source: str) -> Iterator[Event]:
        self.tokens += 1
        self.finish = Finish(reason="tool_calls")
        yield ToolCall(call=0, index=self.index, id=f"call_{self.index}", name=tool.name)
        arguments = json.dumps(_arguments(tool.parameters, source))
        half = len(arguments) // 2
        yield ToolCall(call=0, index=self.index, arguments=arguments[:half])
        yield ToolCall(call=0, index=self.index, arguments=arguments[half:])

    def think(self) -> Iterator[Event]:
        for word in words(THOUGHT):
            self.tokens += 1
            self.thoughts += 1
            yield Reasoning(text=word, index=self.index)

    def take(self, word: str) -> Iterator[Event]:
        self.tokens += 1
        self._held += word
        found = [(self._held.find(stop), stop) for stop in self._wanted.stop if stop and stop in self._held]
        if found:
            at, stop = min(found)
            self._held = self._held[:at]
            self.finish = Finish(reason="stop", stop=stop)
        elif self.tokens - self.thoughts >= self._room:
            self.finish = Finish(reason="length")
        keep = 0 if self.finish else held_back(self._held, self._wanted.stop)
        out, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        logprobs = (_logprob(word, self._wanted.top_logprobs),) if self._wanted.logprobs else ()
        if out or logprobs:
            yield Text(text=out, index=self.index, logprobs=logprobs)

    def end(self, cancelled: bool) -> Iterator[Event]:
        if self.finish is None:
            self.finish = Finish(reason="cancelled" if cancelled else "stop")
        if self._held:
            yield Text(text=self._held, index=self.index)


def words(text: str) -> list[str]:
    """The tokens of *text*: each word with the white space before it; joined they give *text*."""
    return re.findall(r"\s*\S+|\s+\Z", text)


def embedding(tokens: Sequence[str], dimensions: int) -> list[float]:
    """A hashed bag of words of length 1; the same words give the same vector in every process."""
    numbers = [1e-3] * DIMENSIONS
    for token in tokens:
        hashed = zlib.crc32(token.strip().lower().encode())
        numbers[hashed % DIMENSIONS] += 1.0 if hashed & 0x100 else -1.0
    kept = numbers[:dimensions]
    length = sum(number * number for number in kept) ** 0.5
    return [number / length for number in kept]


def overlap(query: str, document: str) -> float:
    """The share of the query's words that the document has."""
    asked = set(query.lower().split())
    return len(asked & set(document.lower().split())) / max(1, len(asked))


def held_back(text: str, stops: Sequence[str]) -> int:
    """How many characters at the end of *text* may be the beginning of a stop string."""
    sizes = (size for stop in stops for size in range(1, len(stop)) if text.endswith(stop[:size]))
    return max(sizes, default=0)


def seen(picture: Picture) -> str:
    """All that echo says of a picture."""
    return f"{picture.media_type or 'picture'} of {len(picture.data)} bytes"


def heard(sound: Sound) -> str:
    """All that echo hears in a sound. Raises Invalid."""
    try:
        return sound.data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Invalid(
            f"Invalid 'file': echo hears nothing in it: {error}.", "Send text, in UTF-8.", param="file"
        ) from error


def _segment(line: Sequence[str], second: int, timed: bool) -> Segment:
    each = [{"word": word, "start": float(at), "end": at + 1.0} for at, word in enumerate(line, second)]
    extra = {"words": each} if timed else {}
    return Segment(text=f" {''.join(line).strip()}", start=float(second), end=float(second + len(line)), extra=extra)


def _spoken_in(job: Transcribe | Translate) -> str:
    return (job.language or "en") if isinstance(job, Transcribe) else "en"


def _told(job: Caption | Answer) -> Complete:
    """What is said of a picture, as a text to repeat: after the question, if there is one."""
    asked = f"{job.question} {seen(job.picture)}" if isinstance(job, Answer) else seen(job.picture)
    return Complete(prompt=asked, generation=Generation(max_tokens=job.max_tokens))


def _has(given: str | Picture, label: str) -> float:
    """How much of *label* is in a text; whether it is among the bytes of a picture."""
    return overlap(label, given) if isinstance(given, str) else float(label.encode() in given.data)


def _shares(numbers: Sequence[float]) -> list[float]:
    """*numbers* that are above 0, divided by their sum."""
    total = sum(numbers)
    return [number / total for number in numbers]


def _prompt(job: Chat | Complete, sees: bool) -> tuple[list[str], str]:
    """All tokens of the prompt, and the text to repeat."""
    if isinstance(job, Complete):
        text = job.prompt if isinstance(job.prompt, str) else " ".join(map(str, job.prompt))
        return words(text), text
    said = [(message.role, _heard(message, sees)) for message in job.messages]
    asked = [text for role, text in said if role == "user"]
    return [word for _, text in said for word in words(text)], asked[-1] if asked else ""


def _heard(message: Message, sees: bool) -> str:
    return "".join(_part(part, sees) for part in message.parts)


def _part(part: Part, sees: bool) -> str:
    if isinstance(part, Words):
        return part.text
    if sees and isinstance(part, Picture):
        return f" [{seen(part)}] "
    raise Unsupported("echo reads text only, no picture and no sound.", "Ask a model with vision.")


def _pieces(given: str | tuple[int, ...] | Picture) -> list[str]:
    """The words of a text, the ids of tokens, the patches of a picture."""
    if isinstance(given, str):
        return words(given)
    if isinstance(given, Picture):
        return [str(zlib.crc32(given.data[at : at + PATCH])) for at in range(0, len(given.data), PATCH)]
    return [str(one) for one in given]


def _spoken(source: str, wanted: Generation, index: int) -> Iterator[str]:
    """The words to say. A seed rotates them, so that it can be seen to arrive; ignore_eos never ends."""
    said = words(source)
    if said and wanted.sampling.seed is not None:
        by = (wanted.sampling.seed + index) % len(said)
        said = said[by:] + said[:by]
    return itertools.cycle(said) if wanted.ignore_eos else iter(said)


def _forced_tool(job: Chat | Complete) -> Tool | None:
    if not isinstance(job, Chat) or job.tool_choice in ("auto", "none"):
        return None
    named = [tool for tool in job.tools if job.tool_choice in ("required", tool.name)]
    if not named:
        raise Invalid(f"tool_choice is {job.tool_choice!r}, which is not among the tools.", "Name one of them.")
    return named[0]


def _arguments(schema: Mapping[str, Any], source: str) -> dict[str, Any]:
    """A value for each property: strings repeat the question."""
    plain = {"string": source, "integer": 1, "number": 1.0, "boolean": True, "array": [], "object": {}, "null": None}
    properties: Mapping[str, Mapping[str, Any]] = schema.get("properties", {})
    try:
        return {name: value.get("enum", [plain.get(str(value.get("type")))])[0] for name, value in properties.items()}
    except (AttributeError, LookupError, TypeError):
        raise Invalid("The schema of a tool is no JSON schema.", "Give each of its properties a schema.") from None


def _logprob(word: str, alternatives: int) -> TokenLogprob:
    """Echo is always certain."""
    data = word.encode()
    sure = TokenLogprob(token=word, id=zlib.crc32(data), bytes=tuple(data), logprob=0.0)
    return TokenLogprob(token=word, id=sure.id, bytes=sure.bytes, logprob=0.0, top=(sure,) if alternatives else ())
