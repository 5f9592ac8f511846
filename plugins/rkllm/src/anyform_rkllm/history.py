"""The conversation that the library holds since its last run, and whether another goes on from there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from anyform.contract.jobs import Message, Picture, Tool


class History:
    """What was asked and answered last, as far as it is certain. Used by whoever's turn it is."""

    def __init__(self) -> None:
        self.empty = True
        """Whether the library holds nothing for certain."""
        self.has_tools = False
        """Whether the library tells the model of functions."""
        self._held: list[Any] = []
        self._tools: tuple[Tool, ...] = ()

    def cleared(self) -> None:
        """The library holds nothing."""
        self.forget()
        self.empty = True

    def forget(self) -> None:
        """A run begins, and nobody knows what the library holds until it has ended well."""
        self.empty, self._held, self._tools = False, [], ()

    def keep(self, messages: Sequence[Message], tools: tuple[Tool, ...]) -> None:
        """The library holds *messages*, the answer to them last."""
        self._held, self._tools = [_seen(message) for message in messages], tools

    def rest(self, messages: Sequence[Message], tools: tuple[Tool, ...]) -> Sequence[Message]:
        """The new ones of *messages* where they go on from what is held, with the same *tools*; else none.

        New ones are one message of the user, or answers of tools.
        """
        count = len(self._held)
        rest = messages[count:]
        roles = [message.role for message in rest]
        new = roles == ["user"] or (bool(roles) and set(roles) == {"tool"})
        if not count or not new or tools != self._tools:
            return ()
        same = all(_seen(message) == held for message, held in zip(messages, self._held, strict=False))
        return rest if same else ()


def _seen(message: Message) -> Any:
    """What two messages must have in common to be the same. What a model thought is no part of what it is told."""
    pictures = tuple(part.data for part in message.parts if isinstance(part, Picture))
    calls = tuple((call.name, _arguments(call.arguments)) for call in message.calls)
    return message.role, message.text.strip(), pictures, calls, message.name


def _arguments(text: str) -> Any:
    try:
        return json.loads(text or "{}")
    except (ValueError, RecursionError):
        return text
