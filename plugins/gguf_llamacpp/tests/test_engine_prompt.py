"""From jobs to tokens: templates, beginnings, holes to fill, and constraints that wait for the end of thinking."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anyform.contract.events import Reasoning
from anyform.contract.jobs import Chat, Complete, Generation, Message, Sampling, Text, Tool
from anyform.contract.model import LoadedModel
from anyform.testing import gguf
from anyform.text.answer import AnswerParser
from anyform.text.dialect import dialect_of
from anyform.text.prompt import TRANSCRIPT_STOPS, ChatForm, chat_tokens, complete_prompt
from anyform.text.restraint import AfterReasoning, Constraints

THINKING = gguf.CHATML.replace("assistant\n{% endif %}", "assistant\n<think>{% endif %}")


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory, kit: Any) -> Iterator[LoadedModel]:
    from anyform_gguf_llamacpp import backend

    holes = {
        "tokenizer.ggml.fim_pre_token_id": 300,
        "tokenizer.ggml.fim_suf_token_id": 301,
        "tokenizer.ggml.fim_mid_token_id": 302,
    }
    path = tmp_path_factory.mktemp("thinker") / "t.gguf"
    model = backend.load(kit.plan(gguf.write_llama(path, chat_template=THINKING, context=512, extra=holes)))
    yield model
    model.close()


def vocabulary(model: LoadedModel) -> Any:
    return model._vocabulary  # type: ignore[attr-defined]


def test_a_beginning_that_the_template_wrote_is_not_doubled(thinker: LoadedModel) -> None:
    words = vocabulary(thinker)
    assert chat_tokens(words, "<s>once") == chat_tokens(words, "once")
    assert chat_tokens(words, "once")[0] == words.bos
    assert chat_tokens(words, "once").count(words.bos) == 1


def test_a_hole_is_put_between_its_marks(thinker: LoadedModel, kit: Any) -> None:
    words = vocabulary(thinker)
    prompt = complete_prompt(words, Complete(prompt="once", suffix="play"))
    once, play = (words.tokenize(text, affixes=False, special=False) for text in ("once", "play"))
    assert prompt.tokens == [words.bos, 300, *once, 301, *play, 302]
    job = Complete(prompt="once", suffix="play", generation=Generation(max_tokens=4))
    assert kit.ask(thinker, job).prompt_tokens == len(prompt.tokens)


def test_without_a_template_a_transcript_is_written(thinker: LoadedModel) -> None:
    words = vocabulary(thinker)
    messages = tuple(Message(role=role, parts=(Text(text=role[:2]),)) for role in ("system", "user"))

    class NoMarks:
        bos = eos = -1

        @staticmethod
        def tokenize(text: str, **_: Any) -> list[int]:
            return list(text.encode())

    plain = ChatForm(NoMarks(), "")  # type: ignore[arg-type]
    assert plain.render(Chat(messages=messages)) == "System: sy\nUser: us\nAssistant:"
    assert plain.stops_for(Chat(messages=messages)) == TRANSCRIPT_STOPS
    assert ChatForm(words, "").stops_for(Chat(messages=messages)) == ()


def test_a_template_that_does_not_compile_spoils_chat_only(tmp_path: Path, engine: Any, kit: Any) -> None:
    from anyform.contract.errors import Invalid

    model = engine.load(gguf.write_llama(tmp_path / "b.gguf", chat_template="{% for %}"))
    assert kit.complete(model, "once", max_tokens=2).done.usage.completion_tokens == 2
    with pytest.raises(Invalid, match="template"):
        kit.ask(model, Chat(messages=(Message(role="user", parts=(Text(text="x"),)),)))


def test_a_constraint_waits_until_the_model_has_thought(thinker: LoadedModel) -> None:
    words = vocabulary(thinker)
    constraint = Constraints(words).for_generation(Generation(grammar='root ::= "yes"'))
    assert constraint is not None
    dialect = dialect_of(THINKING)
    waiting = AfterReasoning(constraint, AnswerParser(dialect, prompt="assistant\n<think>"), words)
    free = np.zeros(words.size, np.float32)
    for token in words.tokenize("once</think>", affixes=False, special=True):
        waiting.mask(free)
        assert free.min() == 0.0
        waiting.accept(token)
        assert not waiting.finished
    bound = np.zeros(words.size, np.float32)
    waiting.mask(bound)
    allowed = {words.piece(int(token), True) for token in np.flatnonzero(bound == 0.0)}
    assert allowed <= {b"y", b"ye", b"yes", b" y"}
    for letter in b"yes":
        waiting.accept(letter - 33 + 260)
    assert waiting.finished


SCHEMA = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}},
    "required": ["ok"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("said", ['{"ok":true}', '<tool_call>\n{"name": "ping", "arguments": {}}\n</tool_call>'])
def test_under_tool_choice_auto_a_schema_binds_the_answer_and_leaves_calls_free(
    thinker: LoadedModel, said: str
) -> None:
    words = vocabulary(thinker)
    job = Chat(messages=(), tools=(Tool(name="ping"),), generation=Generation(schema=SCHEMA))
    constraint = Constraints(words).for_tools(job, dialect_of("<tool_call>"))
    assert constraint is not None
    by_piece = {words.piece(token, True): token for token in reversed(range(words.size))}
    for letter in said:
        constraint.accept(by_piece[letter.encode()])
    assert constraint.may_end


def test_without_a_schema_or_under_none_nothing_binds(thinker: LoadedModel) -> None:
    constraints = Constraints(vocabulary(thinker))
    for choice, schema in (("auto", None), ("none", SCHEMA)):
        job = Chat(messages=(), tools=(Tool(name="ping"),), tool_choice=choice, generation=Generation(schema=schema))
        assert constraints.for_tools(job, dialect_of("<tool_call>")) is None


def test_a_call_in_its_own_channel_is_not_bound_by_the_answers_schema(thinker: LoadedModel) -> None:
    words, dialect = vocabulary(thinker), dialect_of("<|channel|> <|message|>")
    tools = (Tool(name="ping"),)
    made = Constraints(words).for_tools(Chat(messages=(), tools=tools, generation=Generation(schema=SCHEMA)), dialect)
    assert made is not None
    parser = AnswerParser(dialect, tools=tools)
    waiting = AfterReasoning(made, parser, words)
    parser.feed("<|channel|>commentary to=functions.ping <|constrain|>json<|message|>{")
    logits = np.zeros(words.size, np.float32)
    waiting.mask(logits)
    assert logits.min() == 0.0
    parser.feed("}<|call|><|start|>assistant<|channel|>final<|message|>")
    waiting.mask(logits)
    assert logits.min() == -np.inf


def test_thoughts_are_told_apart_and_counted(thinker: LoadedModel, kit: Any) -> None:
    job = Chat(
        messages=(Message(role="user", parts=(Text(text="once"),)),),
        generation=Generation(max_tokens=20, ignore_eos=True, sampling=Sampling(temperature=0.0)),
    )
    answered = kit.ask(thinker, job)
    assert answered.text == ""
    assert any(isinstance(event, Reasoning) for event in answered.events)
    assert answered.done.usage.reasoning_tokens == 20
