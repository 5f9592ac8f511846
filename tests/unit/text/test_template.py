"""Chat templates of the known forms, and conversations that they do not know."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest

from anyform.contract.errors import Invalid
from anyform.contract.jobs import Call, Message, Picture, Text, Tool
from anyform.text.template import CHATML, ChatTemplate

TEMPLATES = Path(__file__).parents[2] / "golden" / "templates"
FORMS = sorted(path.stem for path in TEMPLATES.glob("*.jinja"))
WEATHER = Tool(
    name="get_weather",
    description="The weather",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)


def template(form: str) -> ChatTemplate:
    return ChatTemplate((TEMPLATES / f"{form}.jinja").read_text(encoding="utf-8"), bos="<s>", eos="</s>")


def say(role: str, text: str) -> Message:
    return Message(role=role, parts=(Text(text=text),))


def call(number: int, city: str) -> Call:
    return Call(id=f"call_{number}", name="get_weather", arguments=json.dumps({"city": city}))


def answer(number: int, text: str) -> Message:
    return Message(role="tool", parts=(Text(text=text),), call_id=f"call_{number}")


ROUND = [
    say("system", "SYSTEM"),
    say("user", "QUESTION"),
    Message(role="assistant", calls=(call(1, "Bonn"),)),
    answer(1, "RAIN"),
    say("assistant", "It rains."),
    say("user", "THANKS"),
]


@pytest.mark.parametrize("form", FORMS)
def test_a_whole_round_with_system_and_tools_is_said(form: str) -> None:
    prompt = template(form).render(ROUND, [WEATHER])
    for said in ("SYSTEM", "QUESTION", "get_weather", "Bonn", "RAIN", "It rains.", "THANKS"):
        assert said in prompt
    assert prompt.index("SYSTEM") < prompt.index("RAIN") < prompt.index("THANKS") or form == "mistral"


@pytest.mark.parametrize("form", FORMS)
def test_two_calls_at_once_are_both_said(form: str) -> None:
    both = Message(role="assistant", calls=(call(1, "Bonn"), call(2, "Graz")))
    prompt = template(form).render([say("user", "hi"), both, answer(1, "RAIN"), answer(2, "SNOW")], [WEATHER])
    for said in ("Bonn", "Graz", "RAIN", "SNOW"):
        assert said in prompt


@pytest.mark.parametrize("form", FORMS)
def test_developer_and_picture_marker(form: str) -> None:
    seen = Message(role="user", parts=(Text(text="look "), Picture(data=b"png"), Text(text="!")))
    prompt = template(form).render([say("developer", "RULES"), seen], options={"media_marker": "<__media__>"})
    assert "RULES" in prompt
    assert "look <__media__>!" in prompt


@pytest.mark.parametrize(
    ("form", "features"),
    [
        ("deepseek-r1", {"system", "thinking", "tools"}),
        ("gemma", set()),
        ("gpt-oss", {"system", "tools"}),
        ("llama3", {"system", "tools"}),
        ("mistral", {"system", "tools"}),
        ("phi", {"system"}),
        ("qwen3", {"system", "thinking", "tools"}),
        ("vision", {"system", "pictures"}),
    ],
)
def test_features(form: str, features: set[str]) -> None:
    assert template(form).features == features


@pytest.mark.parametrize(
    ("form", "dialect"),
    [
        ("deepseek-r1", "deepseek-r1"),
        ("gemma", "generic"),
        ("gpt-oss", "gpt-oss"),
        ("llama3", "llama3"),
        ("mistral", "mistral"),
        ("phi", "generic"),
        ("qwen3", "hermes"),
    ],
)
def test_dialects(form: str, dialect: str) -> None:
    assert template(form).dialect.name == dialect


def test_chatml() -> None:
    prompt = ChatTemplate(CHATML).render([say("system", "S"), say("user", "U")])
    assert prompt == "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n"
    assert ChatTemplate(CHATML).render([say("user", "U")], add_generation_prompt=False).endswith("U<|im_end|>\n")


def test_qwen_prompt_is_exact() -> None:
    asked = [say("system", "S"), say("user", "U"), Message(role="assistant", calls=(call(1, "Bonn"),)), answer(1, "7")]
    assert template("qwen3").render(asked, thinking=False) == (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n"
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Bonn"}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\n7\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n<think>\n\n</think>\n\n"
    )


def test_thinking_is_left_to_the_template_unless_asked_for() -> None:
    qwen = template("qwen3")
    assert qwen.render([say("user", "U")]) == qwen.render([say("user", "U")], thinking=True)
    assert "</think>" in qwen.render([say("user", "U")], thinking=False)


def test_reasoning_of_earlier_turns_is_passed() -> None:
    thought = Message(role="assistant", parts=(Text(text="A"),), reasoning="BECAUSE")
    assert "<think>\nBECAUSE\n</think>\n\nA" in template("qwen3").render([say("user", "U"), thought, say("user", "V")])


def test_a_system_message_goes_to_the_first_user_message_where_the_template_refuses_it() -> None:
    prompt = template("gemma").render([say("system", "S"), say("user", "U")])
    assert "<start_of_turn>user\nS\n\nU<end_of_turn>" in prompt


def test_tools_are_told_in_text_where_the_template_does_not_know_them() -> None:
    prompt = template("phi").render([say("system", "S"), say("user", "U")], [WEATHER])
    assert prompt.startswith("<|system|>\nS\n\n# Tools")
    assert '\n{"name": "get_weather", "description": "The weather"' in prompt


def test_several_leading_system_messages_become_one() -> None:
    prompt = template("qwen3").render([say("system", "S"), say("developer", "D"), say("user", "U")])
    assert "<|im_start|>system\nS\n\nD<|im_end|>" in prompt


def test_a_template_for_lists_of_parts_marks_pictures_itself() -> None:
    seen = Message(role="user", parts=(Text(text="look "), Picture(data=b"png")))
    assert template("vision").render([seen]) == "<|user|>look <|image|><|end|><|assistant|>"
    with pytest.raises(Invalid, match="no place for pictures"):
        template("phi").render([seen])


def test_mistral_gets_ids_that_it_accepts() -> None:
    prompt = template("mistral").render(ROUND[1:4], [WEATHER])
    short = prompt.split('"id": "')[1][:9]
    assert short.isalnum()
    assert f'"call_id": "{short}"' in prompt


def test_deepseek_gets_arguments_as_text() -> None:
    assert '\n```json\n{"city": "Bonn"}\n```' in template("deepseek-r1").render(ROUND, [WEATHER])


def test_the_templates_own_words_are_told() -> None:
    with pytest.raises(Invalid, match="roles must alternate"):
        template("gemma").render([say("user", "a"), say("user", "b")])


def test_todays_date() -> None:
    assert str(datetime.now().year) in template("llama3").render([say("user", "U")])


def test_json_is_written_as_it_is() -> None:
    tool = Tool(name="grüße", description="<b>&amp;</b>")
    assert '"grüße", "description": "<b>&amp;</b>"' in template("qwen3").render([say("user", "U")], [tool])


def test_options_reach_the_template_but_cannot_replace_the_conversation() -> None:
    odd = ChatTemplate("{{ messages[0].content }} {{ effort }}")
    assert odd.render([say("user", "U")], options={"effort": "high"}) == "U high"
    with pytest.raises(Invalid, match="'messages'"):
        odd.render([say("user", "U")], options={"messages": []})


def test_a_template_cannot_change_the_job() -> None:
    asked = {"names": ["a"]}
    parameters = {"type": "object", "required": ["a"]}
    greedy = ChatTemplate(
        "{{ messages[0].content }}{{ names.append('b') if names }}"
        "{% for tool in tools or [] %}{% set known = tool.function.parameters %}"
        "{{ tool.function.name }}{{ (known.required or []).append('b') }}{% endfor %}"
    )
    greedy.render([say("user", "U")], [Tool(name="t", parameters=parameters)], options=asked)
    assert asked == {"names": ["a"]}
    assert parameters["required"] == ["a"]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{% if %}", "line 1"),
        ("{{ 1 ", "line 1"),
        ("{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}", "RecursionError"),
        ("{% for a in [1] %}" * 30 + "{% endfor %}" * 30, "nested"),
        ("x" * 2_000_000, "characters"),
    ],
)
def test_a_template_that_does_not_compile(source: str, words: str) -> None:
    with pytest.raises(Invalid, match="does not compile") as caught:
        ChatTemplate(source)
    assert words in caught.value.message


def test_no_messages() -> None:
    with pytest.raises(Invalid, match="no messages"):
        template("qwen3").render([])


def test_a_mistake_of_the_template_is_told() -> None:
    with pytest.raises(Invalid, match="TypeError"):
        ChatTemplate("{{ messages + 1 }}").render([say("user", "U")])
