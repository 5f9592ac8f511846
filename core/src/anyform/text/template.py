"""Chat templates: a conversation as the text that a model was trained on, adapted to what its template knows."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from jinja2.exceptions import TemplateError, TemplateSyntaxError

from anyform.contract.errors import Invalid
from anyform.contract.jobs import Call, Message, Picture, Text, Tool
from anyform.text.conversation import (
    Form,
    as_dicts,
    calls_as_text,
    merge_leading_systems,
    split_parallel_calls,
    system_into_user,
    tool_dicts,
    tools_as_text,
)
from anyform.text.dialect import Dialect, dialect_of
from anyform.text.sandbox import OverLimit, RefusedByTemplate, Sandbox

CHATML = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
"""The template for models without one: ChatML, which is what llama.cpp falls back to as well."""

_RESERVED = frozenset({"messages", "tools", "add_generation_prompt", "raise_exception", "strftime_now"})
_NEEDLE = "Nee7dle"


class _TooCostly(Invalid):
    """A probe that ran into a limit is not tried again."""


class ChatTemplate:
    """One model's chat template. Safe to use from several threads; probed once, at first need.

    *special_tokens*: further variables that the template may use (`unk_token`, `pad_token`, ...).
    Raises `Invalid` for a template that does not compile.
    """

    def __init__(
        self,
        source: str,
        *,
        bos: str = "",
        eos: str = "",
        special_tokens: Mapping[str, str] | None = None,
        param: str = "",
    ) -> None:
        """*param*: the field that brought the template, to be blamed; empty: it is the model's."""
        self.source = source
        self._blamed = {"param": param} if param else {}
        self._whose = f"The {param}" if param else "The model's chat template"
        self._tokens = {**(special_tokens or {}), "bos_token": bos, "eos_token": eos}
        self._sandbox = Sandbox()
        self._too_costly = ""
        try:
            self._template = self._sandbox.compile_bounded(source)
        except TemplateSyntaxError as error:
            told = f"The chat template does not compile: line {error.lineno}: {error.message}."
            raise Invalid(told, **self._blamed) from error
        except (TemplateError, SyntaxError, RecursionError, MemoryError, ValueError, OverflowError) as error:
            raise Invalid(f"The chat template does not compile: {_said(error)}.", **self._blamed) from error

    def render(
        self,
        messages: Sequence[Message],
        tools: Sequence[Tool] = (),
        *,
        thinking: bool | None = None,
        add_generation_prompt: bool = True,
        options: Mapping[str, Any] | None = None,
    ) -> str:
        """The prompt for *messages*.

        *options*: further variables for the template, and `media_marker`: text that stands for each
        picture (llama.cpp's mtmd); without it pictures become parts that the template itself marks.
        What the template does not know is said in what it knows: a system message is put before the
        first user message, tools and their calls are described in text. Raises `Invalid`, with the
        template's own words where it refused the conversation.
        """
        extra = copy.deepcopy(dict(options or {}))
        marker = extra.pop("media_marker", None)
        taken = sorted(_RESERVED.intersection(extra))
        if taken:
            raise Invalid(f"Template option {taken[0]!r} is set by the conversation itself.", "Use another name.")
        if not messages:
            raise Invalid("The conversation has no messages.", "Send at least one.")
        extra.update(_thinking_variables(thinking))
        return self._render_adapted(list(messages), tools, marker, add_generation_prompt, extra)

    @cached_property
    def features(self) -> frozenset[str]:
        """What the template knows by itself: of system, tools, thinking, pictures."""
        known = {
            "system": self._knows_system,
            "tools": self._knows_tools,
            "thinking": self._knows_thinking,
            "pictures": self._knows_pictures,
        }
        return frozenset(name for name, knows in known.items() if knows)

    @cached_property
    def dialect(self) -> Dialect:
        """How a model with this template writes reasoning and tool calls."""
        return dialect_of(self.source, knows_tools=self._knows_tools)

    def _render_adapted(
        self, messages: list[Message], tools: Sequence[Tool], marker: str | None, prompt: bool, extra: dict[str, Any]
    ) -> str:
        """Say the conversation in what the template knows, then render it."""
        messages = merge_leading_systems(messages, keep_developer=self._knows_developer)
        called = any(message.calls or message.role == "tool" for message in messages)
        if called and (not self._knows_calls or (tools and not self._knows_tools)):
            messages = calls_as_text(messages)
        elif called and not self._knows_parallel_calls:
            messages = split_parallel_calls(messages)
        if tools and not self._knows_tools:
            messages, tools = tools_as_text(messages, tools), ()
        if messages[0].role == "system" and not self._knows_system:
            messages = system_into_user(messages)
        has_pictures = any(isinstance(part, Picture) for message in messages for part in message.parts)
        placed = has_pictures and marker is None
        if placed and not self._knows_pictures:
            raise Invalid("The chat template has no place for pictures.", "Send text only, or use a model that sees.")
        form = self._call_form if any(message.calls for message in messages) else self._plain
        form = replace(form, parts=form.parts or placed, marker=marker)
        return self._run(as_dicts(messages, form), tool_dicts(tools, self._empty_tools), prompt, extra)

    def _run(
        self, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None, prompt: bool, extra: Mapping[str, Any]
    ) -> str:
        if self._too_costly:
            raise _TooCostly(self._too_costly, **self._blamed)
        variables = {
            **self._tokens,
            **extra,
            "messages": messages,
            "tools": tools,
            "add_generation_prompt": prompt,
        }
        try:
            return self._sandbox.render_bounded(self._template, variables)
        except OverLimit as error:
            raise _TooCostly(f"{self._whose} is refused: {error}.", **self._blamed) from error
        except RefusedByTemplate as error:
            raise Invalid(f"{self._whose} refused the conversation: {error}", **self._blamed) from error
        except Exception as error:  # a template can raise whatever Python can
            raise Invalid(f"{self._whose} failed: {_said(error)}.", **self._blamed) from error

    def _try(
        self,
        messages: Sequence[Message],
        form: Form,
        tools: Sequence[Tool] = (),
        extra: Mapping[str, Any] | None = None,
    ) -> str:
        """A probe: what the template makes of it, or empty text if it refuses."""
        try:
            return self._run(as_dicts(messages, form), tool_dicts(tools, self._empty_tools), True, extra or {})
        except _TooCostly as fault:
            self._too_costly = fault.message
            raise
        except Invalid:
            return ""

    @cached_property
    def _empty_tools(self) -> bool:
        """Whether no tools must be said as an empty list: some templates loop over them without looking."""
        ask = as_dicts([_user("hi")], Form())
        choices: tuple[list[dict[str, Any]] | None, ...] = (None, [])
        for tools in choices:
            try:
                self._run(ask, tools, True, {})
            except _TooCostly as fault:
                self._too_costly = fault.message
                raise
            except Invalid:
                continue
            return tools is not None
        return False

    @cached_property
    def _knows_parts(self) -> bool:
        text = self._try([_user(_NEEDLE)], Form(parts=True))
        return _NEEDLE in text and "'type'" not in text and '"type"' not in text

    @cached_property
    def _knows_pictures(self) -> bool:
        seen = Message(role="user", parts=(Picture(data=b""), Text(text=_NEEDLE)))
        return self._knows_parts and _NEEDLE in self._try([seen], Form(parts=True))

    @cached_property
    def _plain(self) -> Form:
        """Content as one string, unless the template reads only lists of parts."""
        return Form(parts=_NEEDLE not in self._try([_user(_NEEDLE)], Form()) and self._knows_parts)

    @cached_property
    def _knows_system(self) -> bool:
        return self._knows_role("system")

    @cached_property
    def _knows_developer(self) -> bool:
        return "developer" in self.source and self._knows_role("developer")

    def _knows_role(self, role: str) -> bool:
        said = [Message(role=role, parts=(Text(text=_NEEDLE),)), _user("hi")]
        return _NEEDLE in self._try(said, self._plain)

    @cached_property
    def _knows_tools(self) -> bool:
        return _NEEDLE in self._try([_user("hi")], self._plain, [Tool(name=_NEEDLE, description="d")])

    @cached_property
    def _knows_thinking(self) -> bool:
        if any(mark in self.source for mark in ("think>", "[THINK]", "<|START_THINKING|>")):
            return True
        asked = [self._try([_user("hi")], self._plain, (), _thinking_variables(want)) for want in (True, False)]
        return asked[0] != asked[1]

    @cached_property
    def _knows_calls(self) -> bool:
        return self._found_call_form is not None

    @cached_property
    def _knows_parallel_calls(self) -> bool:
        calls = [Call(id=f"call0000{n}", name="f", arguments=f'{{"{_NEEDLE}{n}": "x"}}') for n in (1, 2)]
        answers = [_answer(call.id) for call in calls]
        text = self._try([_user("hi"), Message(role="assistant", calls=tuple(calls)), *answers], self._call_form)
        return f"{_NEEDLE}1" in text and f"{_NEEDLE}2" in text

    @cached_property
    def _call_form(self) -> Form:
        return self._found_call_form or self._plain

    @cached_property
    def _found_call_form(self) -> Form | None:
        """How earlier tool calls must be said: the first form that the template repeats faithfully."""
        call = Call(id="call00001", name="f", arguments=f'{{"{_NEEDLE}": "x"}}')
        said = [_user("hi"), Message(role="assistant", calls=(call,)), _answer("call00001")]
        tools = [Tool(name="f", description="d")] if self._knows_tools else []
        short = "length != 9" in self.source or "length 9" in self.source
        for empty in (None, ""):
            for objects in (True, False):
                form = replace(self._plain, call_objects=objects, empty_content=empty, short_ids=short)
                text = self._try(said, form, tools)
                if _NEEDLE in text and f"{{'{_NEEDLE}" not in text and f'\\"{_NEEDLE}' not in text:
                    return form
        return None


def _user(text: str) -> Message:
    return Message(role="user", parts=(Text(text=text),))


def _answer(call_id: str) -> Message:
    return Message(role="tool", parts=(Text(text="y"),), call_id=call_id, name="f")


def _thinking_variables(thinking: bool | None) -> dict[str, Any]:
    """Qwen and most others ask for `enable_thinking`, DeepSeek and Granite for `thinking`."""
    return {} if thinking is None else {"enable_thinking": thinking, "thinking": thinking}


def _said(error: BaseException) -> str:
    text = " ".join(str(error).split())[:300].rstrip(".")
    return text if isinstance(error, TemplateError) and text else f"{type(error).__name__}: {text}"
