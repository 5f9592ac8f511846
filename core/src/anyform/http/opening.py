"""How a conversation begins, by the model's rule."""

from __future__ import annotations

from anyform.contract.jobs import Message, Text
from anyform.http import message
from anyform.http.fields import Fields
from anyform.http.media import Media
from anyform.kernel.rule import Rule


def begun(messages: tuple[Message, ...], rule: Rule, media: Media) -> tuple[Message, ...]:
    """*messages* behind those that every conversation with the model begins with; the system prompt comes first, the
    rule's where they bring none. *media*: reads pictures in the rule's messages.
    """
    first = message.messages(Fields({"messages": list(rule.messages)}), media) if rule.messages else ()
    count = next((at for at, one in enumerate(messages) if one.role != "system"), len(messages))
    system, rest = messages[:count], messages[count:]
    if rule.system and not any(one.role == "system" for one in messages):
        system = (Message(role="system", parts=(Text(text=rule.system),)),)
    return (*system, *first, *rest)
