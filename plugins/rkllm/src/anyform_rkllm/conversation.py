"""A chat in the library's own words: its template takes one message at a time, and its history may hold the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from anyform.contract.errors import Invalid, Unsupported
from anyform.contract.jobs import Chat, Message, Tool
from anyform.text.conversation import calls_as_text, tools_as_text
from anyform_rkllm import retelling
from anyform_rkllm.engine import Run
from anyform_rkllm.history import History
from anyform_rkllm.layout import Abi

TOOL_RESPONSE = "tool_response"
"""The tag around what tools answer, as the vendor's demo names it."""


class Remembering(Protocol):
    """What `Engine` has for conversations."""

    def clear(self) -> None:
        """Forget the history."""

    def tools(self, system: str, tools: str, response: str) -> None:
        """The functions that the model may call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """One chat, to be said when it is its turn."""

    job: Chat
    abi: Abi
    sees: bool = False
    """Whether it has pictures: then all of it is told each time."""

    def __post_init__(self) -> None:
        if self.job.messages[-1].role == "assistant":
            raise Unsupported(
                "the conversation ends with a message of the assistant, which the library's template cannot continue.",
                "Let it end with a message of the user, or give the model its tokenizer and chat template.",
                param="messages",
            )
        if "chat_template" in self.job.template_options:
            raise Unsupported(
                "the library's own chat template is used for this model; a request cannot bring another.",
                "Give the model its tokenizer and chat template, or leave chat_template out.",
                param="chat_template",
            )
        last = self.job.messages[-1]
        if last.role != "tool" and not retelling.said(last, retelling.MARKER if self.sees else "").strip():
            raise Invalid("the last message is empty.", "Send at least one word.", param="messages")

    @property
    def tools(self) -> tuple[Tool, ...]:
        """Those that may be called."""
        return () if self.job.tool_choice == "none" else self.job.tools

    @property
    def kept(self) -> bool:
        """Whether the library is to hold the conversation for the next message."""
        return self.abi.keeps_history and self.job.generation.n == 1 and not self.sees

    def unheard(self) -> Iterator[str]:
        """Remarks on what the library's template has no place for."""
        if self.job.thinking is not None and not self.abi.has_roles:
            yield f"thinking is ignored: a library of ABI {self.abi.name} has no such switch, and there is no template."
        if self.job.template_options:
            names = ", ".join(sorted(self.job.template_options))
            yield f"template options are ignored ({names}): the library's own chat template takes none."

    def say(self, run: Run, engine: Remembering, history: History) -> tuple[Run, list[str]]:
        """*run* with what is to be said; and remarks. The library holds what it must for it afterwards."""
        new = history.rest(self.job.messages, self.tools) if self.kept else ()
        if new:
            return replace(run, **_said(new, self._native), keep_history=True), []
        if self.abi.keeps_history and not history.empty:
            engine.clear()
            history.cleared()
        text, remarks = self._all(engine, history)
        return replace(run, text=text, keep_history=self.kept), remarks

    def answered(self, history: History, answer: Message) -> None:
        """The library has ended *answer* by itself, and holds it."""
        if self.kept:
            history.keep((*self.job.messages, answer), self.tools)

    @property
    def _native(self) -> bool:
        """Whether the library tells the model of tools."""
        return bool(self.tools) and self.abi.has_roles

    def _all(self, engine: Remembering, history: History) -> tuple[str, list[str]]:
        messages: Sequence[Message] = self.job.messages
        remarks = []
        if self._native:
            history.has_tools = True
            engine.tools(retelling.system_text(messages), retelling.tools_json(self.tools), TOOL_RESPONSE)
            messages = retelling.without_system(messages) or messages
        elif history.has_tools:
            engine.tools("", "[]", "")
            history.has_tools = False
        if len(messages) > 1:
            remarks.append(
                f"{len(messages)} messages were told the model as one text: the library's chat template takes one, and "
                "its history does not hold the others."
            )
        if self.tools and not self._native:
            messages = tools_as_text(messages, self.tools)
        return retelling.retold(messages, retelling.MARKER if self.sees else ""), remarks


def _said(new: Sequence[Message], native: bool) -> dict[str, Any]:
    if new[0].role == "tool" and native:
        return {"role": "tool", "text": retelling.answers(new)}
    return {"text": "\n".join(retelling.said(message) for message in calls_as_text(new))}
