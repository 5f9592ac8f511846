"""A conversation as one text, for a library whose own template takes one message of the user at a time."""

from __future__ import annotations

import json
from collections.abc import Sequence

from anyform.contract.errors import Invalid, Unsupported
from anyform.contract.jobs import Message, Picture, Sound, Text, Tool
from anyform.text.conversation import calls_as_text, tool_dicts

MARKER = "<image>"
"""What stands for a picture in a text for the library."""
_NAMES = {"user": "User", "assistant": "Assistant", "system": "System", "developer": "System"}


def retold(messages: Sequence[Message], marker: str = "") -> str:
    """All of *messages* in one text: what the model is told, what was said, and then the last message by itself.

        You are kind.

        The conversation so far:
        User: Hello.
        Assistant: Hello!

        The user says now:
        How are you?

    Without anything said before it is the first and the last of these, an empty line between them.
    """
    plain = calls_as_text(messages)
    system = [said(message, marker) for message in plain if _is_system(message)]
    turns = [message for message in plain if not _is_system(message)]
    if not turns:
        return "\n\n".join(system)
    *before, last = turns
    parts = [*system]
    if before:
        parts.append("\n".join(["The conversation so far:", *(_line(message, marker) for message in before)]))
        parts.append(f"The user says now:\n{said(last, marker)}")
    else:
        parts.append(said(last, marker))
    return "\n\n".join(parts)


def said(message: Message, marker: str = "") -> str:
    """The text of *message*, with *marker* for each picture. Raises Invalid, Unsupported."""
    parts = []
    for part in message.parts:
        if isinstance(part, Sound):
            raise Unsupported("this backend does not read sound.", "Send text and pictures only.")
        if isinstance(part, Text) and marker and marker in part.text:
            raise Invalid(f"the text holds {marker}, which stands for a picture here.", "Write it otherwise.")
        parts.append(part.text if isinstance(part, Text) else marker)
    return "".join(parts)


def answers(messages: Sequence[Message]) -> str:
    """What tools answered, as the library takes it by the role `tool`: one answer as it is, others as a JSON list."""
    texts = [message.text for message in messages]
    return texts[0] if len(texts) == 1 and texts[0] else json.dumps(texts, ensure_ascii=False)


def tools_json(tools: Sequence[Tool]) -> str:
    """*tools* as the library takes them: a JSON list in OpenAI's form."""
    return json.dumps(tool_dicts(tools, empty=True), ensure_ascii=False)


def pictures(messages: Sequence[Message]) -> list[bytes]:
    """The encoded pictures of *messages*, in order."""
    return [part.data for message in messages for part in message.parts if isinstance(part, Picture)]


def system_text(messages: Sequence[Message]) -> str:
    """What the model is told before the conversation."""
    return "\n\n".join(message.text for message in messages if _is_system(message))


def without_system(messages: Sequence[Message]) -> list[Message]:
    """*messages* less that."""
    return [message for message in messages if not _is_system(message)]


def _is_system(message: Message) -> bool:
    return message.role in ("system", "developer")


def _line(message: Message, marker: str) -> str:
    """Its further lines are indented: none of them is to be taken for what another said."""
    text = "\n  ".join(said(message, marker).splitlines())
    return f"{_NAMES.get(message.role, message.role.capitalize())}: {text}"
