"""From a job to the tokens that the model reads: chat templates, raw prompts, fill in the middle."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from anyform.contract.errors import Invalid, Unsupported
from anyform.contract.jobs import Chat, Complete, Picture, Sound
from anyform.text.dialect import Dialect, dialect_of
from anyform.text.slot import Media
from anyform.text.template import CHATML, ChatTemplate
from anyform.text.tokenizer import Tokenizer

TRANSCRIPT = """\
{%- for message in messages %}
    {{- message['role'].capitalize() + ': ' + message['content'] + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- 'Assistant:' }}
{%- endif %}
"""
"""For a model that has no chat template and no ChatML tokens: most likely one that was never taught to chat."""
TRANSCRIPT_STOPS = ("\nUser:", "\nSystem:", "\nTool:")
OWN = "chat_template"
"""The template option that is a template: for one request, in the place of the model's own."""
LARGEST_OWN = 64 * 1024
"""Characters of a request's own template."""
_KEPT = 8
"""Templates of requests that are kept compiled."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is decoded before the answer."""

    tokens: list[int]
    text: str = ""
    """As it was rendered; empty for token ids."""
    media: tuple[Media, ...] = ()


class ChatForm:
    """How this model wants a conversation, and how it answers."""

    def __init__(self, vocabulary: Tokenizer, source: str, tool_source: str = "") -> None:
        """*source*: the file's chat template; empty: none. *tool_source*: one that is meant for tools."""
        self._vocabulary = vocabulary
        self._stops: tuple[str, ...] = ()
        self._given: OrderedDict[str, ChatTemplate] = OrderedDict()
        self._lock = threading.Lock()
        if not source:
            chatml = len(vocabulary.tokenize("<|im_start|>", affixes=False, special=True)) == 1
            source = CHATML if chatml else TRANSCRIPT
            self._stops = () if chatml else TRANSCRIPT_STOPS
        self._source = source
        self._tool_source = tool_source

    def dialect_for(self, job: Chat) -> Dialect:
        """How the model answers *job*. Raises Invalid if the template does not compile."""
        if OWN in job.template_options:
            return _dialect(self._own(job))
        return self._tool_dialect if job.tools else self._dialect

    def stops_for(self, job: Chat) -> tuple[str, ...]:
        """Strings that end the answer to *job*, beside the request's own."""
        return () if OWN in job.template_options else self._stops

    @cached_property
    def _template(self) -> ChatTemplate:
        return self._compile(self._source)

    @cached_property
    def _tool_template(self) -> ChatTemplate:
        return self._compile(self._tool_source) if self._tool_source else self._template

    @cached_property
    def _dialect(self) -> Dialect:
        return _dialect(self._template)

    @cached_property
    def _tool_dialect(self) -> Dialect:
        return _dialect(self._tool_template)

    def render(self, job: Chat, marker: str | None = None) -> str:
        """The prompt text. *marker*: what stands for a picture. Raises Invalid in the template's words."""
        options = dict(job.template_options)
        if OWN in options:
            template = self._own(job)
            del options[OWN]
        else:
            template = self._tool_template if job.tools else self._template
        if marker is not None:
            options["media_marker"] = marker
        tools = () if job.tool_choice == "none" else job.tools
        return template.render(job.messages, tools, thinking=job.thinking, options=options)

    def _own(self, job: Chat) -> ChatTemplate:
        """The template that *job* brings. Raises Invalid, which blames it."""
        source = job.template_options[OWN]
        if not isinstance(source, str) or not source:
            raise Invalid(f"{OWN} is {type(source).__name__} {str(source)[:20]!r}.", "Give a Jinja text.", param=OWN)
        if len(source) > LARGEST_OWN:
            raise Invalid(f"{OWN} has {len(source)} characters.", f"At most {LARGEST_OWN} are read.", param=OWN)
        with self._lock:
            template = self._given.pop(source, None)
        template = template or self._compile(source, param=OWN)
        with self._lock:
            self._given[source] = template
            if len(self._given) > _KEPT:
                self._given.popitem(last=False)
        return template

    def _compile(self, source: str, param: str = "") -> ChatTemplate:
        words = self._vocabulary
        return ChatTemplate(source, bos=_name(words, words.bos), eos=_name(words, words.eos), param=param)


def _dialect(template: ChatTemplate) -> Dialect:
    return dialect_of(template.source, knows_tools="tools" in template.features)


def _name(vocabulary: Tokenizer, token: int) -> str:
    return vocabulary.piece(token, True).decode("utf-8", "replace") if token >= 0 else ""


def chat_tokens(vocabulary: Tokenizer, text: str) -> list[int]:
    """Ids of rendered *text*, with one BOS where the model wants one, whether or not the template wrote it."""
    bos = _name(vocabulary, vocabulary.bos)
    if vocabulary.adds_bos and bos:
        text = text.removeprefix(bos)
    return without_end(vocabulary, vocabulary.tokenize(text, affixes=True, special=True))


def complete_prompt(vocabulary: Tokenizer, job: Complete) -> Prompt:
    """The prompt of a completion. Raises Invalid (a token id out of range), Unsupported (no place for a suffix)."""
    if not isinstance(job.prompt, str):
        return Prompt(_checked(vocabulary, job.prompt))
    if job.suffix:
        return Prompt(_around(vocabulary, job.prompt, job.suffix), job.prompt)
    tokens = vocabulary.tokenize(job.prompt, affixes=True, special=True)
    return Prompt(without_end(vocabulary, tokens), job.prompt)


def without_end(vocabulary: Tokenizer, tokens: list[int]) -> list[int]:
    """*tokens* less an end token that the tokenizer has put behind them: an answer is to follow."""
    if vocabulary.adds_eos and len(tokens) > 1 and tokens[-1] == vocabulary.eos:
        return tokens[:-1]
    return tokens


def _checked(vocabulary: Tokenizer, tokens: Sequence[int]) -> list[int]:
    for token in tokens:
        if not 0 <= token < vocabulary.size:
            raise Invalid(f"the prompt has token {token}; this model has tokens 0 to {vocabulary.size - 1}.")
    return list(tokens)


def _around(vocabulary: Tokenizer, before: str, after: str) -> list[int]:
    """Prefix, suffix, middle: the order that code models are taught (Bavarian et al. 2022)."""
    marks = (vocabulary.fim_prefix, vocabulary.fim_suffix, vocabulary.fim_middle)
    if min(marks) < 0:
        raise Unsupported("this model has no fill-in-the-middle tokens and cannot use a suffix.", "Send only a prompt.")
    bos = [vocabulary.bos] if vocabulary.adds_bos else []
    head = vocabulary.tokenize(before, affixes=False, special=False)
    tail = vocabulary.tokenize(after, affixes=False, special=False)
    return [*bos, marks[0], *head, marks[1], *tail, marks[2]]


def pictures(job: Chat) -> list[bytes]:
    """The encoded pictures of *job*, in order. Raises Unsupported for sound."""
    parts = [part for message in job.messages for part in message.parts]
    if any(isinstance(part, Sound) for part in parts):
        raise Unsupported("this backend does not read sound.", "Send text and pictures only.")
    return [part.data for part in parts if isinstance(part, Picture)]
