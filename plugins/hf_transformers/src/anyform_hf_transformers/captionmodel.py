"""A loaded model that writes about pictures: captions, and answers to questions."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from anyform.contract.errors import Fault, Invalid, Unsupported
from anyform.contract.events import Done, Event, Finish, Progress, Text, Usage
from anyform.contract.jobs import Answer, Caption, Job
from anyform.contract.model import Stop
from anyform.picture.pixels import Pixels
from anyform.picture.seen import Seen
from anyform.picture.texts import Texts
from anyform_hf_transformers.captionloop import CaptionLoop, CaptionTicket

_LAG = 3
"""Tokens at the end of a text whose spaces may still change, where the tokenizer cleans them up."""
_DOES = {"caption": "describes pictures (caption)", "answer": "answers questions about pictures (answer)"}


class CaptionModel:
    """What `load` gives for it."""

    def __init__(
        self,
        loop: CaptionLoop,
        pixels: Pixels,
        texts: Texts,
        tokenizer: Any,
        tasks: tuple[str, ...],
        *,
        question: str,
        parallel: int,
    ) -> None:
        """*tasks*: caption, answer or both. *question*: the words around a question, which {} stands for."""
        self.parallel = parallel
        self._loop = loop
        self._pixels = pixels
        self._texts = texts
        self._tokenizer = tokenizer
        self._tasks = tasks
        self._question = question

    def generate(self, job: Job, stop: Stop) -> Iterator[Event]:
        """Do *job*. Raises, before any event, Unsupported, Invalid, ContextExceeded and Closed."""
        self._loop.check()
        if not isinstance(job, Caption | Answer) or job.task not in self._tasks:
            does = " and ".join(_DOES[task] for task in self._tasks)
            raise Unsupported(
                f"this model {does}; it does not do the task {job.task}.",
                "Use a model that lists the task (`anyform list`).",
            )
        if job.max_tokens < 1:
            raise Invalid(f"max_tokens is {job.max_tokens}.", "It must be 1 or more.")
        tokens = self._asked(job.question) if isinstance(job, Answer) else ()
        seen = Seen(tokens, arrays=self._pixels.read(job.picture, "the picture"))
        return self._write(CaptionTicket(seen, min(job.max_tokens, self._texts.limit), stop))

    def close(self) -> None:
        """End running jobs with Closed, free everything. Idempotent."""
        self._loop.close()

    def _asked(self, question: str) -> tuple[int, ...]:
        if not question.strip():
            raise Invalid("question is empty.", "Ask something about the picture.")
        return tuple(self._texts.read(self._question.replace("{}", question), "the question").tokens)

    def _write(self, ticket: CaptionTicket) -> Iterator[Event]:
        started = time.perf_counter()
        yield Progress(stage="prompt", total=len(ticket.seen))
        spelling = Spelling(self._tokenizer)
        written, first, result = 0, 0.0, "cancelled"
        try:
            self._loop.submit(ticket)
            while isinstance(token := _said(ticket), int):
                written += 1
                first = first or time.perf_counter() - started
                if piece := spelling.add(token):
                    yield Text(text=piece)
            result = token
            if piece := spelling.rest():
                yield Text(text=piece)
        finally:
            ticket.left = True
        yield Done(
            finishes=(Finish(reason=result),),
            usage=Usage(prompt_tokens=len(ticket.seen), completion_tokens=written),
            prompt_s=first,
            generate_s=time.perf_counter() - started - first,
        )


def _said(ticket: CaptionTicket) -> int | str:
    """A token, or why the text ended. Raises what the loop says."""
    result = ticket.results.get()
    if isinstance(result, Fault):
        raise result
    return result


class Spelling:
    """Tokens to text, piece by piece; all pieces together are what the tokenizer makes of all tokens."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._lag = _LAG if getattr(tokenizer, "clean_up_tokenization_spaces", False) else 0
        self._tokens: list[int] = []
        self._text = ""

    def add(self, token: int) -> str:
        """What is new and will stay; empty: nothing yet."""
        self._tokens.append(token)
        text = self._decoded()
        sure = self._decoded(self._lag) if self._lag else text
        length = next((place for place, (a, b) in enumerate(zip(text, sure, strict=False)) if a != b), len(sure))
        sure = sure[: min(length, len(text))].rstrip("\ufffd")
        return self._grown(sure)

    def rest(self) -> str:
        """All that was held back."""
        return self._grown(self._decoded())

    def _grown(self, text: str) -> str:
        if not text.startswith(self._text):
            return ""
        piece = text[len(self._text) :]
        self._text = text
        return piece

    def _decoded(self, without: int = 0) -> str:
        tokens = self._tokens[: len(self._tokens) - without] if without else self._tokens
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))
