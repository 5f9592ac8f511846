"""What a rule fills in where a request says nothing, also where it says it in another way."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from anyform.http.bridge import Threads
from anyform.http.default import Defaults, completed
from anyform.kernel.rule import Rule

RULE = {
    "size": "64x64",
    "steps": 20,
    "guidance_scale": 3.5,
    "output_format": "jpeg",
    "output_compression": 80,
    "negative_prompt": "dogs",
}


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ({}, set(RULE)),
        ({"size": None, "steps": None}, set(RULE)),
        ({"width": 32, "height": 32}, set(RULE) - {"size"}),
        ({"num_inference_steps": 5}, set(RULE) - {"steps"}),
        ({"quality": "high"}, set(RULE) - {"steps"}),
        ({"quality": "auto"}, set(RULE)),
        ({"quality": "standard", "size": "auto"}, set(RULE)),
        ({"guidance": 1}, set(RULE) - {"guidance_scale"}),
        ({"output_format": "png"}, set(RULE) - {"output_format", "output_compression"}),
        ({"negative_prompt": ""}, set(RULE) - {"negative_prompt"}),
    ],
)
def test_who_says_a_thing_in_another_way_means_none_of_the_rule(given: dict[str, Any], left: set[str]) -> None:
    full = completed({"model": "m", **given}, Rule(request=RULE))
    assert {name for name, value in RULE.items() if full.get(name) == value} == left
    said = {name: value for name, value in given.items() if value is not None and name not in left}
    assert said.items() <= full.items()


USER, SYSTEM, DEVELOPER = ({"role": role, "content": role} for role in ("user", "system", "developer"))
ASKED, ANSWERED = {"role": "user", "content": "asked"}, {"role": "assistant", "content": "answered"}
OWN = {"role": "system", "content": "own"}


@pytest.mark.parametrize(
    ("given", "full"),
    [
        ([USER], [OWN, ASKED, ANSWERED, USER]),
        ([SYSTEM, USER], [SYSTEM, ASKED, ANSWERED, USER]),
        ([SYSTEM, DEVELOPER, USER], [SYSTEM, DEVELOPER, ASKED, ANSWERED, USER]),
        ([USER, SYSTEM, USER], [ASKED, ANSWERED, USER, SYSTEM, USER]),
        ([], [OWN, ASKED, ANSWERED]),
        ("no list", "no list"),
        (None, None),
        ([5, USER], [OWN, ASKED, ANSWERED, 5, USER]),
    ],
)
def test_every_conversation_begins_as_the_rule_says(given: Any, full: Any) -> None:
    rule = Rule(system="own", messages=(ASKED, ANSWERED))
    assert completed({"model": "m", "messages": given}, rule)["messages"] == full


def test_a_rule_without_messages_or_system_leaves_them_as_they_are() -> None:
    given = [USER]
    assert completed({"messages": given}, Rule())["messages"] is given
    assert completed({"messages": given}, Rule(system="own"))["messages"] == [OWN, USER]
    assert "messages" not in completed({"prompt": "x"}, Rule(system="own", messages=(ASKED,)))


def test_a_rule_that_is_read_while_names_change_is_not_remembered() -> None:
    async def run() -> list[str]:
        threads, said = Threads(1), ["old", "new", "none more"]

        def rule(entry: Any) -> Rule:
            if said[0] == "old":
                defaults.forget()
            return Rule(system=said.pop(0))

        runtime: Any = SimpleNamespace(library=None, find=lambda name: name, rule=rule)
        defaults = Defaults(runtime, threads)
        found = [await defaults.beside({"model": "m"}) for _ in range(3)]
        threads.close()
        return [rule.system for _, rule in found]

    assert asyncio.run(run()) == ["old", "new", "new"]
