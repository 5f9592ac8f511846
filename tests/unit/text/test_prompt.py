"""A request's own chat template, in the place of the model's."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import pytest

from anyform.contract.errors import Invalid
from anyform.contract.jobs import Chat, Message, Text, Tool
from anyform.text import prompt
from anyform.text.prompt import LARGEST_OWN, TRANSCRIPT_STOPS, ChatForm

TOOLS = (Tool(name="now", description="The time."),)
TELLING = "{{ tools | tojson if tools }}<tool_call>{{ messages[-1]['content'] }}"


class Words:
    """Just enough of a vocabulary: no ChatML, no BOS, no EOS."""

    bos = eos = -1

    def tokenize(self, text: str, *, affixes: bool, special: bool) -> list[int]:
        return [0] * len(text)


def form(source: str = "{{ messages[0]['content'] }}!") -> ChatForm:
    return ChatForm(Words(), source, "tools: {{ tools | tojson }}")  # type: ignore[arg-type]


def chat(text: str = "hi", *, tools: tuple[Tool, ...] = (), **options: Any) -> Chat:
    return Chat(messages=(Message(role="user", parts=(Text(text=text),)),), tools=tools, template_options=options)


def test_it_is_rendered_with_all_that_the_models_own_is_given() -> None:
    own = chat(chat_template="{{ colour }} {{ messages[0]['content'] }}{{ chat_template is defined }}", colour="red")
    assert form().render(own) == "red hiFalse"
    assert form().render(chat()) == "hi!"


def test_it_says_how_tools_are_called() -> None:
    asked = chat(tools=TOOLS, chat_template=TELLING)
    assert '"name": "now"' in form().render(asked)
    assert "tools:" not in form().render(asked)
    assert form().dialect_for(asked).name == "hermes"
    assert form().dialect_for(chat(chat_template="[TOOL_CALLS]{{ tools }}")).name == "mistral"
    assert form().dialect_for(chat()).name == "generic"


def test_the_stops_of_a_transcript_are_not_its_own() -> None:
    assert form("").stops_for(chat()) == TRANSCRIPT_STOPS
    assert form("").stops_for(chat(chat_template="x{{ messages[0]['content'] }}")) == ()


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ("{% if", "does not compile"),
        ("{{ 1 }", "does not compile"),
        ("{{ raise_exception('never') }}", "The chat_template refused the conversation: never"),
        ("{{ nothing.at.all }}", "The chat_template failed"),
        (
            "{% for a in range(99999) %}{{ '" + "x" * 1000 + "' }}{% endfor %}",
            "The chat_template is refused",
        ),
        ("x" * (LARGEST_OWN + 1), f"has {LARGEST_OWN + 1} characters"),
        ("", "chat_template is str"),
        (7, "chat_template is int"),
        ({"a": 1}, "chat_template is dict"),
    ],
)
def test_what_is_wrong_with_it_is_blamed_on_it(own: object, said: str) -> None:
    with pytest.raises(Invalid, match=said) as caught:
        form().render(chat(chat_template=own))
    assert caught.value.details["param"] == "chat_template"


def test_the_models_own_is_not_blamed_on_the_request() -> None:
    with pytest.raises(Invalid, match="The model's chat template refused") as caught:
        form("{{ raise_exception('never') }}").render(chat())
    assert "param" not in caught.value.details


def test_few_are_kept_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []
    made = prompt.ChatTemplate

    def count(source: str, **given: Any) -> Any:
        compiled.append(source)
        return made(source, **given)

    monkeypatch.setattr(prompt, "ChatTemplate", count)
    here = form()
    for number in (0, 0, 1, 0, *range(20), 19, 18):
        assert here.render(chat(chat_template=f"{number}{{{{ messages[0]['content'] }}}}")) == f"{number}hi"
    assert len(compiled) == 2 + 18
    assert len(here._given) == 8


def test_threads_share_them() -> None:
    here, failed = form(), []

    def ask(number: int) -> None:
        for turn in range(20):
            own: Mapping[str, Any] = {"chat_template": f"{(number + turn) % 12}{{{{ messages[0]['content'] }}}}"}
            if here.render(chat("a", **own)) != f"{(number + turn) % 12}a":
                failed.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert len(here._given) <= 8
