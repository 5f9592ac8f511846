"""Requests as jobs: what of Ollama's fields becomes what of the contract's."""

from __future__ import annotations

from typing import Any

import pytest

from anyform.contract.errors import Invalid
from anyform.contract.jobs import Call, Chat, Complete, Embed, Generation, Job, Message, Sampling, Text
from anyform.dialect import Fields, Media, Rule
from anyform_ollama_api import chat, conversation, embed, generate, options

CALLS = [{"function": {"name": name, "arguments": {"at": at}}} for at, name in enumerate(("a", "b", "a"))]
MEDIA = Media(1 << 20)
HELLO = [{"role": "user", "content": "a"}]


def read(reader: Any, rule: Rule | None = None, **body: Any) -> Any:
    ask = reader({"model": "m", **body}, MEDIA, rule or Rule())
    assert len(ask.jobs) == 1
    return ask.jobs[0]


def generation(rule: Rule | None = None, **body: Any) -> Generation:
    return options.generation(Fields(body), rule or Rule())


def test_all_options_arrive() -> None:
    given = {
        "temperature": 0.5, "seed": 42, "num_predict": 16, "num_ctx": 64, "stop": ["a", ""], "top_k": 40, "top_p": 0.9,
        "min_p": 0.05, "typical_p": 0.8, "repeat_last_n": 64, "repeat_penalty": 1.1, "presence_penalty": 0.1,
        "frequency_penalty": 0.2,
    }  # fmt: skip
    sampling = Sampling(
        temperature=0.5, top_k=40, top_p=0.9, min_p=0.05, typical_p=0.8, repeat_penalty=1.1, repeat_last_n=64,
        presence_penalty=0.1, frequency_penalty=0.2, seed=42,
    )  # fmt: skip
    assert generation(options=given) == Generation(sampling=sampling, max_tokens=16, stop=("a",), context=64)


def test_what_is_left_out_is_left_open() -> None:
    assert generation() == generation(options=None) == generation(options={"temperature": None}) == Generation()


def test_alternatives_count_beside_likelihoods_only() -> None:
    assert generation(top_logprobs=3) == Generation()
    assert generation(logprobs=True, top_logprobs=3) == Generation(logprobs=True, top_logprobs=3)


def test_a_rule_says_whether_several_tools_may_be_called_at_once() -> None:
    assert read(chat.read, messages=HELLO).parallel_calls is True
    assert read(chat.read, Rule(request={"parallel_tool_calls": False}), messages=HELLO).parallel_calls is False


def test_a_rule_is_under_the_request() -> None:
    rule = Rule(
        request={"temperature": 0.1, "top_p": 0.5, "max_tokens": 9, "n_ctx": 32, "stop": "x", "n": 3, "grammar": "g"}
    )
    assert generation(rule) == Generation(
        sampling=Sampling(temperature=0.1, top_p=0.5), max_tokens=9, context=32, stop=("x",), grammar="g"
    )
    own = {"temperature": 1, "num_predict": -1, "num_ctx": 64, "stop": ["y"]}
    assert generation(rule, options=own, format={"type": "integer"}) == Generation(
        sampling=Sampling(temperature=1.0, top_p=0.5), context=64, stop=("y",), schema={"type": "integer"}
    )


@pytest.mark.parametrize(
    ("form", "schema"), [(None, None), ("", None), ("json", {"type": "object"}), ({"type": "array"}, {"type": "array"})]
)
def test_the_form_of_the_answer(form: Any, schema: Any) -> None:
    assert generation(format=form).schema == schema


def test_the_conversation_of_tools_has_ids() -> None:
    said = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "thinking": "Hm.", "tool_calls": CALLS},
        {"role": "tool", "content": "of b", "tool_name": "b"},
        {"role": "tool", "content": "of the first a", "name": "a"},
        {"role": "tool", "content": "of whatever is left"},
        {"role": "tool", "content": "of none", "tool_name": "c"},
    ]
    _, asked, *results = conversation.messages(Fields({"messages": said}), MEDIA)
    ids = [f"call{at:05d}" for at in range(3)]
    assert asked.calls == tuple(
        Call(id=ids[at], name=name, arguments=f'{{"at":{at}}}') for at, name in enumerate(("a", "b", "a"))
    )
    assert asked.reasoning == "Hm."
    assert [(one.call_id, one.name, one.text) for one in results] == [
        (ids[1], "b", "of b"),
        (ids[0], "a", "of the first a"),
        (ids[2], "", "of whatever is left"),
        ("", "c", "of none"),
    ]


def test_ids_of_the_client_are_kept() -> None:
    said = [
        {"role": "assistant", "tool_calls": [{"id": "x", **CALLS[0]}, {"id": "y", **CALLS[2]}]},
        {"role": "tool", "content": "second", "tool_name": "a", "tool_call_id": "y"},
        {"role": "tool", "content": "first", "tool_name": "a"},
    ]
    asked, second, first = conversation.messages(Fields({"messages": said}), MEDIA)
    assert [call.id for call in asked.calls] == ["x", "y"]
    assert (second.call_id, first.call_id) == ("y", "x")


@pytest.mark.parametrize(
    ("think", "thinking", "effort"),
    [(None, True, "low"), (True, True, None), (False, False, None), ("high", True, "high"), ("max", True, "max")],
)
def test_what_a_rule_says_of_thinking_holds_until_the_request_does(think: Any, thinking: Any, effort: Any) -> None:
    rule = Rule(request={"reasoning_effort": "low", "chat_template_kwargs": {"a": 1}})
    job: Chat = read(chat.read, rule, messages=HELLO, think=think)
    assert job.thinking is thinking
    assert job.template_options == {"a": 1, **({"reasoning_effort": effort} if effort else {})}


def test_a_template_of_the_request_goes_before_that_of_the_rule() -> None:
    rule = Rule(request={"chat_template": "of the rule"})
    assert read(generate.read, rule, prompt="a").template_options == {"chat_template": "of the rule"}
    own = read(generate.read, rule, prompt="a", template="{{ .Prompt }}").template_options["chat_template"]
    assert own != "of the rule"
    assert read(chat.read, rule, messages=HELLO).template_options["chat_template"] == "of the rule"


def test_prompts_become_the_job_that_their_model_does() -> None:
    asked = Message(role="user", parts=(Text(text="a"),))
    jobs: list[Job] = [
        read(generate.read, prompt="a", raw=True),
        read(generate.read, prompt="a", suffix="b"),
        read(generate.read, Rule(system="s"), prompt="a"),
        read(generate.read, Rule(system="s"), prompt="a", system="t"),
    ]
    system = [Message(role="system", parts=(Text(text=text),)) for text in "st"]
    assert jobs == [
        Complete(prompt="a"),
        Complete(prompt="a", suffix="b"),
        Chat(messages=(system[0], asked)),
        Chat(messages=(system[1], asked)),
    ]


def test_embedding_asks_to_cut_only_once_it_was_refused() -> None:
    ask = embed.read({"model": "m", "input": ["a"], "truncate": True}, MEDIA, Rule())
    assert ask.jobs == (Embed(inputs=("a",)),)
    assert ask.shorter is not None
    cut = ask.shorter()
    assert cut is not None
    assert (cut.jobs, cut.cut) == ((Embed(inputs=("a",), truncate=True),), 1)
    assert cut.shorter is None or cut.shorter() is None, "cutting cannot help twice"
    assert embed.read({"model": "m", "input": ["a"]}, MEDIA, Rule()).shorter is None


@pytest.mark.parametrize(
    ("given", "seconds"), [(None, None), (0, 0), (-1, -1), (2.5, 2.5), ("1h30m", 5400), ("-1m", -60)]
)
def test_how_long_a_model_stays(given: Any, seconds: Any) -> None:
    ask = chat.read({"model": "m", "messages": HELLO, "keep_alive": given}, MEDIA, Rule())
    assert ask.use is not None
    assert ask.use.keep_alive_s == seconds


def test_an_id_of_no_call_is_left_to_the_template() -> None:
    said = [{"role": "tool", "content": "a", "tool_call_id": "z"}]
    assert conversation.messages(Fields({"messages": said}), MEDIA)[0].call_id == "z"
    with pytest.raises(Invalid):
        conversation.messages(Fields({"messages": [{"role": "tool", "tool_call_id": 3}]}), MEDIA)
