"""From a job to what the library is given: checked before anything runs, worded when it is its turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

from anyform.contract.errors import ContextExceeded, Invalid, Unsupported
from anyform.contract.jobs import Chat, Complete, Generation
from anyform.pretrained.template import uses_tools
from anyform.text.answer import AnswerParser
from anyform.text.dialect import Dialect, dialect_of
from anyform_rkllm import retelling, sampling
from anyform_rkllm.call import text as encoded
from anyform_rkllm.conversation import Conversation
from anyform_rkllm.engine import Run
from anyform_rkllm.layout import Era
from anyform_rkllm.wording import Way, Wording

if TYPE_CHECKING:
    from anyform.text.words import Words
    from anyform_rkllm.engine import Pictures
    from anyform_rkllm.layout import Abi

ENDS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|endoftext|>")
"""Ends of a turn as texts, which are no part of an answer where no tokenizer says that they are none."""


class Sight(Protocol):
    """What `vision.Encoder` is."""

    @property
    def tokens_per_picture(self) -> int:
        """How much of the context each takes."""

    def check(self, count: int, prompt_tokens: int, context: int) -> None:
        """Raise ContextExceeded where pictures and text do not fit."""

    def encode(self, pictures: Sequence[bytes]) -> Pictures:
        """Pictures as the library takes them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A job for text, checked."""

    run: Run
    """What each answer's run is; text and tokens may be *conversation*'s to fill in."""
    conversation: Conversation | None = None
    """None: *run* is whole."""
    prompt_tokens: int
    """Counted by the tokenizer; without one, or where the library words it, at the least."""
    exact: bool
    """Whether *prompt_tokens* are all."""
    limit: int
    """The most tokens of an answer."""
    n: int = 1
    stops: tuple[str, ...] = ()
    own_stops: tuple[str, ...] = ()
    """Beside the request's: ends of turns."""
    parser: Callable[[int], AnswerParser] | None = None
    visible: frozenset[int] = frozenset()
    """Control tokens that the parser must see."""
    echo: str = ""
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompting:
    """How this model is asked."""

    abi: Abi
    wording: Wording
    context: int
    defaults: dict[str, float] = field(default_factory=dict)
    """Sampling that the model was loaded with."""
    most: int | None = None
    """The most tokens of an answer that says nothing of it."""
    sight: Sight | None = None
    unseeing: str = ""
    """Why there is none, in a clause."""

    def chat(self, job: Chat) -> Asked:
        """Raises ContextExceeded, Invalid, Unsupported."""
        if not job.messages:
            raise Invalid("the conversation has no messages.", "Send at least one.")
        drawing = self._drawing(job.generation)
        seen = retelling.pictures(job.messages)
        if seen and self.sight is None:
            raise Unsupported(
                f"this model reads no pictures: {self.unseeing or 'it has no vision encoder'}.",
                "Put the model's vision encoder beside it, or name it with --option vision=FILE.",
                param="messages",
            )
        self._check_pictures(job, len(seen))
        if self.wording.way is Way.PLAIN:
            raise Unsupported("this model takes no conversations.", "Ask for a completion, or for embeddings.")
        if self.wording.way is Way.LIBRARY or (seen and self.wording.way is Way.TOKENS):
            asked = self._by_library(job, seen)
        else:
            asked = self._by_template(job, seen)
        how = replace(asked.run, sampling=drawing.values, max_tokens=asked.limit)
        return replace(asked, run=how, remarks=(*drawing.remarks, *_unforced(job), *asked.remarks))

    def complete(self, job: Complete) -> Asked:
        """Raises ContextExceeded, Invalid, Unsupported."""
        drawing = self._drawing(job.generation)
        if job.suffix:
            raise Unsupported(
                "this backend does not fill in the middle, so suffix cannot be used.",
                "Send only a prompt.",
                param="suffix",
            )
        run, echo = self._raw(job)
        used, exact = (len(run.tokens), True) if run.tokens else (self.least(run.text), False)
        limit = self._limit(used, exact, job.generation)
        return Asked(
            run=replace(run, sampling=drawing.values, max_tokens=limit),
            prompt_tokens=used,
            exact=exact,
            limit=limit,
            n=job.generation.n,
            stops=job.generation.stop,
            echo=echo if job.echo else "",
            remarks=drawing.remarks,
        )

    def least(self, text: str) -> int:
        """How many tokens *text* is; without a tokenizer how many it is at the least.

        No tokenizer that such models have puts two words into one token.
        """
        if self.wording.words is None:
            return len(text.split())
        return len(self.wording.words.tokenize(text, affixes=False, special=True))

    def raw_text(self, text: str, what: str) -> Run:
        """*text* with nothing around it but what its tokenizer puts there. Raises Unsupported. *what*: its name."""
        if self.wording.words is not None:
            return Run(tokens=self.wording.words.tokenize(text, affixes=True, special=True))
        if self.wording.way in (Way.TEXT, Way.PLAIN):
            return Run(text=legible(text, what))
        raise Unsupported(
            f"{what} is text, which the library would put into its chat template: there is no tokenizer here.",
            "Put tokenizer.json (and have tokenizers installed) beside the model, or send token ids.",
        )

    def _raw(self, job: Complete) -> tuple[Run, str]:
        """The run, and what it echoes."""
        if not isinstance(job.prompt, str):
            tokens = checked(self.wording.words, job.prompt, "the prompt")
            return Run(tokens=tokens), self._echoed(tokens) if job.echo else ""
        if not job.prompt:
            raise Invalid("the prompt is empty.", "Send at least one token of text.")
        run = self.raw_text(job.prompt, "the prompt")
        words = self.wording.words
        if words is not None and words.adds_eos and len(run.tokens) > 1 and run.tokens[-1] == words.eos:
            run = replace(run, tokens=run.tokens[:-1])  # an answer is to follow
        return run, job.prompt

    def _echoed(self, tokens: Sequence[int]) -> str:
        words = self.wording.words
        if words is None:
            raise Unsupported(
                "token ids cannot be echoed: there is no tokenizer here.", "Leave echo out.", param="echo"
            )
        return b"".join(map(words.piece, tokens)).decode("utf-8", "replace")

    def _by_template(self, job: Chat, seen: Sequence[bytes]) -> Asked:
        """By the model's own template."""
        from anyform.text.prompt import chat_tokens

        form, words = self.wording.form, self.wording.words
        assert form is not None
        text = form.render(job, marker=retelling.MARKER if seen else None)
        dialect = form.dialect_for(job)
        if words is not None:
            run = Run(tokens=chat_tokens(words, text))
        else:
            legible(text, "conversation")
            run = Run(text=text.removeprefix(self.wording.adds_bos))
        if seen and text.count(retelling.MARKER) != len(seen):
            raise Invalid(
                f"the conversation has {len(seen)} pictures, and {retelling.MARKER}, which stands for one, "
                f"{text.count(retelling.MARKER)} times in the model's chat template's words.",
                f"Write no {retelling.MARKER} yourself; or load it with --option template=library.",
                param="messages",
            )
        exact = not run.text
        used = len(run.tokens) if exact else self._used(seen, self.least(text))
        asked = self._conversing(job, run, dialect, used, exact, text, () if words else ENDS, form.stops_for(job))
        return self._showing(asked, seen)

    def _by_library(self, job: Chat, seen: Sequence[bytes]) -> Asked:
        """By the library's template."""
        conversation = Conversation(job=job, abi=self.abi, sees=bool(seen))
        for message in job.messages:
            legible(retelling.said(message, retelling.MARKER if seen else ""), "message")
        used = self._used(seen, sum(self.least(message.text) for message in job.messages))
        source = self.wording.source
        dialect = dialect_of(source, knows_tools=not source or uses_tools(source))
        run = Run(thinking=job.thinking is True and self.abi.has_roles)
        asked = self._showing(self._conversing(job, run, dialect, used, False, "", ENDS, ()), seen)
        return replace(asked, conversation=conversation, remarks=tuple(conversation.unheard()))

    def _conversing(
        self,
        job: Chat,
        run: Run,
        dialect: Dialect,
        used: int,
        exact: bool,
        text: str,
        ends: tuple[str, ...],
        stops: tuple[str, ...],
    ) -> Asked:
        words = self.wording.words
        parser = partial(_parser, job, dialect, text)
        return Asked(
            run=run,
            prompt_tokens=used,
            exact=exact,
            limit=self._limit(used, exact, job.generation),
            n=job.generation.n,
            stops=job.generation.stop,
            own_stops=(*stops, *(end for end in ends if end not in dialect.markers)),
            parser=parser,
            visible=words.ids_of(dialect.markers) if words else frozenset(),
        )

    def _check_pictures(self, job: Chat, count: int) -> None:
        """Raise Unsupported for pictures that the library cannot be told of in their order."""
        if count > 1 and self.abi.era < Era.V121:
            raise Unsupported(
                f"librkllmrt.so {self.abi.name} takes one picture, and there are {count}.",
                "Send one; a library since 1.2.1 takes several.",
                param="messages",
            )
        if count and retelling.pictures([one for one in job.messages if one.role in ("system", "developer")]):
            raise Unsupported(
                "a picture in a message of the system cannot be told to the library.",
                "Send it in a message of the user.",
                param="messages",
            )

    def _used(self, seen: Sequence[bytes], used: int) -> int:
        """*used* tokens of text and those of the pictures. Raises ContextExceeded."""
        if not seen or self.sight is None:
            return used
        self.sight.check(len(seen), used, self.context)
        return used + len(seen) * self.sight.tokens_per_picture

    def _showing(self, asked: Asked, seen: Sequence[bytes]) -> Asked:
        """*asked* with its pictures, encoded last of all: that takes seconds on a board."""
        if not seen or self.sight is None:
            return asked
        return replace(asked, run=replace(asked.run, pictures=self.sight.encode(seen)))

    def _drawing(self, generation: Generation) -> sampling.Drawing:
        words = self.wording.words
        if generation.context is not None and generation.context > self.context:
            raise Invalid(
                f"the request needs a context of {generation.context} tokens; the model has {self.context}.",
                f"Load it with --context {generation.context}, if it was made for so many.",
            )
        return sampling.read(
            generation,
            self.defaults,
            per_run=self.abi.samples_per_run,
            abi=self.abi.name,
            tokens=words.size if words else None,
        )

    def _limit(self, used: int, exact: bool, generation: Generation) -> int:
        """How many tokens may be generated. Raises ContextExceeded where the prompt leaves no room for one."""
        if used == 0 and exact:
            raise Invalid("the prompt is empty.", "Send at least one token of text.")
        wanted = self.most if generation.max_tokens is None else generation.max_tokens
        if used > self.context or (used == self.context and generation.max_tokens != 0):
            many = f"{used} tokens" if exact else f"{used} tokens or more"
            raise ContextExceeded(
                f"the prompt has {many}; the context has {self.context}, for prompt and answer together.",
                "Shorten the prompt; a larger context needs a model that was converted for it.",
                prompt_tokens=used,
                context=self.context,
            )
        room = self.context - used
        return room if wanted is None else min(room, wanted)


def _parser(job: Chat, dialect: Dialect, prompt: str, index: int) -> AnswerParser:
    return AnswerParser(
        dialect,
        prompt=prompt,
        tools=job.tools,
        tool_choice=job.tool_choice,
        parallel_calls=job.parallel_calls,
        index=index,
    )


def _unforced(job: Chat) -> list[str]:
    """What is said of tools that cannot be enforced."""
    remarks = []
    if job.tools and job.tool_choice not in ("auto", "none"):
        remarks.append(f"tool_choice {job.tool_choice} is not enforced: the library has no constraints.")
    if job.tool_choice != "none" and any(tool.strict for tool in job.tools):
        remarks.append("strict of a tool is ignored: nothing holds the arguments of calls to their schema.")
    return remarks


def legible(text: str, what: str) -> str:
    """*text*, which is called *what*, as the library can read it. Raises Invalid where it cannot."""
    encoded(text, what)
    return text


def checked(words: Words | None, tokens: Sequence[int], name: str) -> tuple[int, ...]:
    """*tokens*, which are called *name*. Raises Invalid where one is none of the model's."""
    most = (words.size if words is not None else 1 << 31) - 1
    for token in tokens:
        if not 0 <= token <= most:
            raise Invalid(f"{name} has token {token}; this model has tokens 0 to {most}.")
    if not tokens:
        raise Invalid(f"{name} is empty.", "Send at least one token.")
    return tuple(tokens)
