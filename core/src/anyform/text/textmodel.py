"""A loaded model that chats and completes: prepares requests, hands them to the decode loop, reads answers from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from anyform.contract.errors import Closed, ContextExceeded, Invalid, Unsupported
from anyform.contract.events import Event
from anyform.contract.jobs import Chat, Complete, Generation, Job
from anyform.contract.model import Stop
from anyform.text.answer import AnswerParser
from anyform.text.prompt import ChatForm, Prompt, chat_tokens, complete_prompt, pictures
from anyform.text.reading import Loop, Request, read
from anyform.text.restraint import AfterReasoning, Constraints
from anyform.text.sampling import recipe
from anyform.text.ticket import Constraint, Ticket
from anyform.text.tokenizer import Tokenizer

_MOST_ANSWERS = 128
_MOST_ALTERNATIVES = 20


class TextModel:
    """What `load` gives for a model that generates text."""

    def __init__(
        self,
        loop: Loop,
        vocabulary: Tokenizer,
        chat: ChatForm,
        *,
        context: int,
        parallel: int,
        defaults: Mapping[str, Any],
        projector: Any = None,
        unseeing: str = "it reads text only.",
    ) -> None:
        """*context*: tokens of one request. *defaults*: sampling values that the model's file asks for.

        *projector*: has a `marker` and tokenizes text with pictures; None: pictures are refused, *unseeing* says why.
        """
        self.parallel = parallel
        self._loop = loop
        self._vocabulary = vocabulary
        self._chat = chat
        self._context = context
        self._defaults = defaults
        self._projector = projector
        self._unseeing = unseeing
        self._constraints = Constraints(vocabulary)

    def generate(self, job: Job, stop: Stop) -> Iterator[Event]:
        """Answer *job*. Raises, before any event, Unsupported, Invalid, ContextExceeded and Closed."""
        self._loop.check()
        try:
            request = self._prepare(job, stop)
        except Closed:
            self._loop.check()  # says so if it broke
            raise
        return read(self._loop, self._vocabulary, request)

    def close(self) -> None:
        """End running jobs with Closed, free everything. Idempotent."""
        self._loop.close()

    def _prepare(self, job: Job, stop: Stop) -> Request:
        if isinstance(job, Chat):
            return self._prepare_chat(job, stop)
        if isinstance(job, Complete):
            return self._prepare_completion(job, stop)
        raise Unsupported(
            f"this model generates text; it does not do the task {job.task}.",
            "Ask for chat or complete, or use a model that lists the task (`anyform list`).",
        )

    def _prepare_chat(self, job: Chat, stop: Stop) -> Request:
        generation = job.generation
        dialect = self._chat.dialect_for(job)
        prompt = self._chat_prompt(job)

        def parser(index: int) -> AnswerParser:
            return AnswerParser(
                dialect,
                prompt=prompt.text,
                tools=job.tools,
                tool_choice=job.tool_choice,
                parallel_calls=job.parallel_calls,
                index=index,
            )

        def constraint(index: int) -> Constraint | None:
            made = self._constraints.for_tools(job, dialect) or self._constraints.for_generation(generation)
            if made is None or not parser(index).reasoning:
                return made
            return AfterReasoning(made, parser(index), self._vocabulary)

        ticket = self._ticket(prompt, generation, stop, constraint)
        return Request(
            ticket,
            stops=(*generation.stop, *self._chat.stops_for(job)),
            parser=parser,
            visible=self._vocabulary.ids_of(dialect.markers),
        )

    def _chat_prompt(self, job: Chat) -> Prompt:
        images = pictures(job)
        if not images:
            text = self._chat.render(job)
            return Prompt(chat_tokens(self._vocabulary, text), text)
        if self._projector is None:
            raise Unsupported(
                f"this model reads no pictures: {self._unseeing}", "Use a model that lists vision (`anyform list`)."
            )
        text = self._chat.render(job, marker=self._projector.marker)
        tokens, media = self._projector.tokenize(text, images)
        return Prompt(tokens, text, media)

    def _prepare_completion(self, job: Complete, stop: Stop) -> Request:
        generation = job.generation
        prompt = complete_prompt(self._vocabulary, job)
        scored = job.echo and generation.logprobs
        ticket = self._ticket(
            prompt, generation, stop, lambda _: self._constraints.for_generation(generation), score_prompt=scored
        )
        return Request(ticket, stops=generation.stop, echo=prompt if job.echo else None)

    def _ticket(
        self,
        prompt: Prompt,
        generation: Generation,
        stop: Stop,
        constraint: Callable[[int], Constraint | None],
        *,
        score_prompt: bool = False,
    ) -> Ticket:
        self._check(generation)
        limit = self._limit(prompt, generation)
        words = self._vocabulary
        banned = (*words.suppressed, *(words.ends if generation.ignore_eos else ()))
        constraints = [made for index in range(generation.n) if (made := constraint(index)) is not None]
        return Ticket(
            prompt=prompt.tokens,
            recipe=recipe(generation.sampling, self._defaults, words.size, banned),
            limit=limit,
            stop=stop,
            media=prompt.media,
            constraints=constraints,
            n=generation.n,
            top_logprobs=generation.top_logprobs if generation.logprobs else -1,
            score_prompt=score_prompt,
            ends=frozenset() if generation.ignore_eos else words.ends,
        )

    def _check(self, generation: Generation) -> None:
        if not 1 <= generation.n <= _MOST_ANSWERS:
            raise Invalid(f"n is {generation.n}.", f"It must be 1 to {_MOST_ANSWERS}.")
        if not 0 <= generation.top_logprobs <= _MOST_ALTERNATIVES:
            raise Invalid(f"top_logprobs is {generation.top_logprobs}.", f"It must be 0 to {_MOST_ALTERNATIVES}.")
        if generation.max_tokens is not None and generation.max_tokens < 0:
            raise Invalid(f"max_tokens is {generation.max_tokens}.", "It must be 0 or more.")
        if generation.context is not None and generation.context > self._context:
            raise Invalid(
                f"the request needs a context of {generation.context} tokens; the model has {self._context}.",
                f"Load it with --context {generation.context}.",
            )

    def _limit(self, prompt: Prompt, generation: Generation) -> int:
        """How many tokens may be generated. Raises ContextExceeded where the prompt leaves no room for one."""
        used = len(prompt.tokens)
        wanted = generation.max_tokens
        if used == 0:
            raise Invalid("the prompt is empty.", "Send at least one token of text.")
        if used > self._context or (used == self._context and wanted != 0):
            raise ContextExceeded(
                f"the prompt has {used} tokens; the context has {self._context}, for prompt and answer together.",
                "Shorten the prompt, or load the model with a larger context.",
                prompt_tokens=used,
                context=self._context,
            )
        room = self._context - used
        return room if wanted is None else min(room, wanted)
