"""How a conversation begins that a model's rule has a say in."""

from __future__ import annotations

from typing import Any

import pytest

from anyform.contract.jobs import Message, Text
from anyform.http.media import Media
from anyform.http.opening import begun
from anyform.kernel.rule import Rule

SHOWN: Any = ({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"})


def says(role: str, text: str) -> Message:
    return Message(role=role, parts=(Text(text=text),))


USER, SYSTEM = says("user", "x"), says("system", "be")


@pytest.mark.parametrize(
    ("rule", "messages", "opened"),
    [
        (Rule(), (USER,), "x"),
        (Rule(system="own"), (USER,), "own x"),
        (Rule(system="own"), (SYSTEM, USER), "be x"),
        (Rule(system="own"), (USER, SYSTEM), "x be"),
        (Rule(messages=SHOWN), (USER,), "a b x"),
        (Rule(messages=SHOWN), (SYSTEM, SYSTEM, USER), "be be a b x"),
        (Rule(system="own", messages=SHOWN), (USER,), "own a b x"),
        (Rule(system="own", messages=SHOWN), (), "own a b"),
    ],
)
def test_the_system_comes_first_then_what_the_rule_shows(rule: Rule, messages: Any, opened: str) -> None:
    made = begun(messages, rule, Media(0))
    assert " ".join(message.text for message in made) == opened
    assert [message.role for message in made if message.text in ("own", "be")] == ["system"] * (
        opened.count("own") + opened.count("be")
    )
