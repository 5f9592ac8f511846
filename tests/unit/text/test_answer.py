# ruff: noqa: RUF001 - DeepSeek's markers do have fullwidth bars
"""Raw answers to events, in every dialect, whatever the pieces."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyform.contract.events import Event, Reasoning, Text, ToolCall
from anyform.contract.jobs import Tool
from anyform.text.answer import AnswerParser
from anyform.text.dialect import Dialect, dialect_of

WEATHER = Tool(
    name="get_weather",
    parameters={"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
)
PING = Tool(name="ping")
TOOLS = (WEATHER, PING)

HERMES = dialect_of("<tool_call>")
LLAMA = dialect_of("<|python_tag|>")
MISTRAL = dialect_of("[TOOL_CALLS]")
MISTRAL_ARGS = dialect_of("[TOOL_CALLS] [ARGS] [THINK] [/THINK]")
DEEPSEEK_R1 = dialect_of("<｜tool▁calls▁begin｜> ```json")
DEEPSEEK_V3 = dialect_of("<｜tool▁calls▁begin｜>")
KIMI = dialect_of("<|tool_calls_section_begin|>")
CODER = dialect_of("<tool_call> <function= <parameter=")
GLM = dialect_of("<arg_key>")
FUNCTIONARY = dialect_of("<function=")
LFM = dialect_of("<|tool_call_start|>")
COMMAND = dialect_of("<|START_ACTION|> <|END_THINKING|> <|START_RESPONSE|>")
APERTUS = dialect_of("<|tools_prefix|>")
MINIMAX = dialect_of("<minimax:tool_call> <invoke")
GRANITE = dialect_of("<|tool_call|>")
GEMMA = dialect_of("<|tool_call>call: <channel|>")
NEMOTRON = dialect_of("<TOOLCALL>")
HARMONY = dialect_of("<|channel|> <|message|>")
GENERIC = dialect_of("no tools here", knows_tools=False)


def pieces_of(text: str, cuts: Sequence[int]) -> Iterator[str]:
    places = sorted({cut % (len(text) + 1) for cut in cuts} | {0, len(text)})
    for begin, end in pairwise(places):
        yield text[begin:end]


def parse(dialect: Dialect, text: str, cuts: Sequence[int] = (), **options: Any) -> list[tuple[str, ...]]:
    """The events, neighbours of one kind joined: ("text", …), ("reasoning", …), ("call", name, arguments)."""
    options.setdefault("tools", TOOLS)
    parser = AnswerParser(dialect, new_id=lambda: "id", **options)
    events = [event for piece in pieces_of(text, cuts) for event in parser.feed(piece)]
    return joined([*events, *parser.finish()])


def joined(events: Sequence[Event]) -> list[tuple[str, ...]]:
    said: list[tuple[str, ...]] = []
    for event in events:
        if isinstance(event, ToolCall):
            assert bool(event.name) == bool(event.id)
            if event.name:
                said.append(("call", event.name, event.arguments))
            else:
                assert said[-1][0] == "call"
                said[-1] = (*said[-1][:2], said[-1][2] + event.arguments)
        elif isinstance(event, Text | Reasoning):
            kind = "text" if isinstance(event, Text) else "reasoning"
            if said and said[-1][0] == kind:
                said[-1] = (kind, said[-1][1] + event.text)
            else:
                said.append((kind, event.text))
    return said


BONN = '{"city": "Bonn"}'
CALL = ("call", "get_weather", BONN)
TYPED = ("call", "get_weather", '{"city": "Bonn", "days": 3}')
PINGED = ("call", "ping", "{}")

ANSWERS: list[tuple[Dialect, str, list[tuple[str, ...]]]] = [
    (HERMES, "Hello <b>", [("text", "Hello <b>")]),
    (HERMES, "<think>\nhm\n</think>\n\nHello", [("reasoning", "hm"), ("text", "Hello")]),
    (HERMES, "\n <think></think>Hello", [("text", "Hello")]),
    (HERMES, "see <think>this</think>", [("text", "see <think>this</think>")]),
    (HERMES, "<think>never closed </thi", [("reasoning", "never closed </thi")]),
    (HERMES, f'<tool_call>\n{{"name": "get_weather", "arguments": {BONN}}}\n</tool_call>', [CALL]),
    (
        HERMES,
        f'Let me see.\n\n<tool_call>{{"name": "get_weather", "arguments": {BONN}}}</tool_call>\n'
        '<tool_call>\n{"name": "ping", "arguments": {}}\n</tool_call>\n',
        [("text", "Let me see."), CALL, PINGED],
    ),
    (HERMES, f'<think>x</think><tool_call>{{"name":"get_weather","arguments":{BONN}}}', [("reasoning", "x"), CALL]),
    (HERMES, f'<tool_call>{{"arguments": {BONN}, "name": "get_weather"}}</tool_call>', [CALL]),
    (
        HERMES,
        f'<tool_call>[{{"name": "get_weather", "arguments": {BONN}}}, {{"name": "ping"}}]</tool_call>',
        [CALL, PINGED],
    ),
    (HERMES, '<tool_call>{"name": "get_weather", "arguments": "{\\"city\\": \\"Bonn\\"}"}</tool_call>', [CALL]),
    (
        HERMES,
        f'<tool_call>{{"type": "function", "function": {{"name": "get_weather", "arguments": {BONN}}}}}</tool_call>',
        [CALL],
    ),
    (HERMES, f'<tool_call>{{"name": "get_weather", "arguments": {BONN}}}</tool_call> Done.', [CALL, ("text", "Done.")]),
    (LLAMA, f'{{"name": "get_weather", "parameters": {BONN}}}', [CALL]),
    (
        LLAMA,
        f'<|python_tag|>{{"name": "get_weather", "parameters": {BONN}}}; {{"name": "ping", "parameters": {{}}}}',
        [CALL, PINGED],
    ),
    (LLAMA, '{"answer": 42}', [("text", '{"answer": 42}')]),
    (LLAMA, "<|python_tag|>print(1)", [("text", "<|python_tag|>print(1)")]),
    (
        MISTRAL,
        f'[TOOL_CALLS][{{"name": "get_weather", "arguments": {BONN}, "id": "abcdefghi"}}, '
        '{"name": "ping", "arguments": {}}]',
        [CALL, PINGED],
    ),
    (MISTRAL, f"[TOOL_CALLS]get_weather[ARGS]{BONN}", [CALL]),
    (
        MISTRAL_ARGS,
        f"[THINK]hm[/THINK][TOOL_CALLS]get_weather[CALL_ID]abcdefghi[ARGS]{BONN}[TOOL_CALLS]ping[ARGS]{{}}",
        [("reasoning", "hm"), CALL, PINGED],
    ),
    (
        DEEPSEEK_R1,
        "Now.<｜tool▁calls▁begin｜>"
        f"<｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{BONN}\n```<｜tool▁call▁end｜>\n"
        "<｜tool▁call▁begin｜>function<｜tool▁sep｜>ping\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        [("text", "Now."), CALL, PINGED],
    ),
    (
        DEEPSEEK_V3,
        f"<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{BONN}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        [CALL],
    ),
    (
        KIMI,
        f"<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>{BONN}<|tool_call_end|>"
        "<|tool_call_begin|>functions.ping:1<|tool_call_argument_begin|>{}<|tool_call_end|><|tool_calls_section_end|>",
        [CALL, PINGED],
    ),
    (
        CODER,
        "<tool_call>\n<function=get_weather>\n<parameter=city>\nBonn\n</parameter>\n<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>",
        [TYPED],
    ),
    (
        GLM,
        "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Bonn</arg_value>\n<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n</tool_call>\n"
        "<tool_call>ping</tool_call>",
        [TYPED, PINGED],
    ),
    (FUNCTIONARY, f"<function=get_weather>{BONN}</function>", [CALL]),
    (LFM, "<|tool_call_start|>[get_weather(city='Bonn', days=3), ping()]<|tool_call_end|>", [TYPED, PINGED]),
    (
        COMMAND,
        "<|START_THINKING|>plan<|END_THINKING|><|START_ACTION|>[\n"
        f'    {{"tool_call_id": "0", "tool_name": "get_weather", "parameters": {BONN}}}\n]<|END_ACTION|>',
        [("reasoning", "plan"), CALL],
    ),
    (COMMAND, "<|START_RESPONSE|>Hi there.<|END_RESPONSE|>", [("text", "Hi there.")]),
    (APERTUS, f'<|tools_prefix|>[{{"get_weather": {BONN}}}, {{"ping": {{}}}}]<|tools_suffix|>', [CALL, PINGED]),
    (
        MINIMAX,
        '<minimax:tool_call>\n<invoke name="get_weather">\n<parameter name="city">Bonn</parameter>\n'
        '<parameter name="days">3</parameter>\n</invoke>\n</minimax:tool_call>',
        [TYPED],
    ),
    (GRANITE, f'<|tool_call|>[{{"name": "get_weather", "arguments": {BONN}}}]', [CALL]),
    (
        HARMONY,
        "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>Hi.<|return|>",
        [("reasoning", "hm"), ("text", "Hi.")],
    ),
    (
        HARMONY,
        "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>commentary to=functions.get_weather "
        f"<|constrain|>json<|message|>{BONN}<|call|>",
        [("reasoning", "hm"), CALL],
    ),
    (HARMONY, f"<|start|>assistant to=functions.get_weather<|channel|>commentary json<|message|>{BONN}", [CALL]),
    (HARMONY, "no channels <|", [("text", "no channels <|")]),
    (
        GEMMA,
        '<|channel>thought\nhm\n<channel|><|tool_call>call:get_weather{city:<|"|>Bonn<|"|>,days:3}<tool_call|>'
        "<|tool_call>call:ping{}<tool_call|>",
        [("reasoning", "hm"), TYPED, PINGED],
    ),
    (NEMOTRON, f'<TOOLCALL>[{{"name": "get_weather", "arguments": {BONN}}}]</TOOLCALL>', [CALL]),
    (GENERIC, f'<tool_call>{{"name": "get_weather", "arguments": {BONN}}}</tool_call>', [CALL]),
    (GENERIC, f'{{"name": "get_weather", "arguments": {BONN}}}', [CALL]),
]

NO_CALLS: list[tuple[Dialect, str]] = [
    (HERMES, "<tool_call>{bad}</tool_call> x"),
    (HERMES, '<tool_call>{"name": "unknown", "arguments": {}}</tool_call>'),
    (HERMES, '<tool_call>{"name": "get_weather", "arguments": {bad}}</tool_call>'),
    (HERMES, '<tool_call>{"name": "get_weather", "arguments": [1]}</tool_call>'),
    (HERMES, '<tool_call>{"name": "get_weather", "arguments": 1'),
    (HERMES, '<tool_call>{"name": "get_wea'),
    (HERMES, "text \n <tool_call> \n "),
    (HERMES, "a <tool_call> b <tool_call> c"),
    (LLAMA, '{"name": "unknown", "parameters": {}}'),
    (LLAMA, '{"name": "get_weather"'),
    (LLAMA, '{"name": 7}'),
    (MISTRAL, "[TOOL_CALLS] none"),
    (MISTRAL, "[TOOL_CALLS]unknown[ARGS]{}"),
    (MISTRAL_ARGS, "[TOOL_CALLS]get_weather[ARGS]{1}"),
    (DEEPSEEK_R1, "<｜tool▁calls▁begin｜>nothing"),
    (DEEPSEEK_V3, "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>unknown<｜tool▁sep｜>{}"),
    (KIMI, "<|tool_call_begin|>functions.unknown:0<|tool_call_argument_begin|>{}<|tool_call_end|>"),
    (CODER, "<tool_call>\n<function=unknown>\n</function>\n</tool_call>"),
    (GLM, "<tool_call>unknown</tool_call>"),
    (LFM, "<|tool_call_start|>[__import__('os').system('ls')]<|tool_call_end|>"),
    (LFM, "<|tool_call_start|>[get_weather(city=open('x'))]<|tool_call_end|>"),
    (GEMMA, '<|tool_call>call:unknown{a:<|"|>b<|"|>}<tool_call|>'),
    (GEMMA, "<|tool_call>call:ping{a:b}<tool_call|>"),
    (APERTUS, "<|tools_prefix|>[1]<|tools_suffix|>"),
    (MINIMAX, "<minimax:tool_call>nothing</minimax:tool_call>"),
]


@pytest.mark.parametrize(("dialect", "text", "said"), ANSWERS)
@given(cuts=st.lists(st.integers(0, 400), max_size=12))
def test_answers_in_any_pieces(dialect: Dialect, text: str, said: list[tuple[str, ...]], cuts: list[int]) -> None:
    assert parse(dialect, text, cuts) == said


@pytest.mark.parametrize(("dialect", "text", "said"), ANSWERS)
def test_answers_character_by_character(dialect: Dialect, text: str, said: list[tuple[str, ...]]) -> None:
    assert parse(dialect, text, range(len(text))) == said


@pytest.mark.parametrize(("dialect", "text"), NO_CALLS)
def test_what_is_no_call_is_text_to_the_last_character(dialect: Dialect, text: str) -> None:
    assert parse(dialect, text) == [("text", text)]
    assert parse(dialect, text, range(len(text))) == [("text", text)]


MARKS = sorted({mark for dialect, _, _ in ANSWERS for mark in dialect.markers})
FRAGMENTS = st.sampled_from(
    [
        *MARKS,
        "get_weather",
        "ping",
        BONN,
        "{",
        "}",
        "[",
        "]",
        '"name": "ping"',
        '"arguments": ',
        ",",
        "\n",
        " ",
        "a",
        '"',
        "<",
        "function",
    ]
)


@given(
    st.sampled_from([dialect for dialect, _, _ in ANSWERS]),
    st.lists(FRAGMENTS, max_size=14),
    st.lists(st.integers(0, 400), max_size=12),
    st.booleans(),
    st.sampled_from(["auto", "required"]),
)
def test_pieces_never_matter(dialect: Dialect, parts: list[str], cuts: list[int], parallel: bool, choice: str) -> None:
    text = "".join(parts)
    whole = parse(dialect, text, parallel_calls=parallel, tool_choice=choice)
    assert parse(dialect, text, cuts, parallel_calls=parallel, tool_choice=choice) == whole


@given(st.sampled_from([HERMES, LLAMA, GLM, CODER, LFM]), st.lists(FRAGMENTS, max_size=14))
def test_without_tools_only_reasoning_is_read(dialect: Dialect, parts: list[str]) -> None:
    text = "x" + "".join(parts)
    assert parse(dialect, text, tools=()) == [("text", text)]
    assert parse(dialect, text, tool_choice="none") == [("text", text)]


def test_reasoning_that_the_prompt_opened() -> None:
    parser = AnswerParser(HERMES, prompt="<|im_start|>assistant\n<think>\n")
    assert parser.reasoning
    assert parser.feed("because") == [Reasoning(text="because")]
    assert parser.feed(" so.\n</think>\n\n") == [Reasoning(text=" so.")]
    assert not parser.reasoning
    assert parser.feed("Yes.") == [Text(text="Yes.")]


def test_a_model_may_open_the_reasoning_once_more() -> None:
    assert parse(HERMES, "<think>\nwhy</think>ok", prompt="<think>\n") == [("reasoning", "why"), ("text", "ok")]


def test_text_is_not_held_back_without_need() -> None:
    parser = AnswerParser(HERMES, tools=TOOLS)
    assert parser.feed("Hello") == [Text(text="Hello")]
    assert parser.feed(" wor") == [Text(text=" wor")]
    assert parser.feed("ld <to") == [Text(text="ld")]
    assert parser.feed("day>") == [Text(text=" <today>")]


def test_arguments_are_streamed() -> None:
    parser = AnswerParser(HERMES, tools=TOOLS, new_id=lambda: "id", index=2)
    assert parser.feed('<tool_call>\n{"name": "get_weather", "arguments": {"ci') == []
    first = parser.feed('ty": "Bo')
    assert first == [ToolCall(call=0, index=2, id="id", name="get_weather", arguments='{"city": "Bo')]
    assert parser.feed("nn") == [ToolCall(call=0, index=2, arguments="nn")]
    assert parser.feed('"}}') == [ToolCall(call=0, index=2, arguments='"}')]
    assert parser.feed("\n</tool_call>") == []


def test_arguments_that_break_off_after_they_began_stay_arguments() -> None:
    text = '<tool_call>{"name": "get_weather", "arguments": {"city": oops}}</tool_call> x'
    assert parse(HERMES, text) == [("call", "get_weather", '{"city": oops}}'), ("text", "x")]
    cut = '<tool_call>{"name": "get_weather", "arguments": {"city": "Bo'
    assert parse(HERMES, cut) == [("call", "get_weather", '{"city": "Bo')]


def test_raw_line_breaks_in_arguments_are_escaped() -> None:
    said = parse(HERMES, '<tool_call>{"name": "get_weather", "arguments": {"city": "Bonn\n\tBeuel"}}</tool_call>')
    assert json.loads(said[0][2]) == {"city": "Bonn\n\tBeuel"}


def test_one_call_only() -> None:
    parser = AnswerParser(HERMES, tools=TOOLS, parallel_calls=False)
    call = '<tool_call>{"name": "ping", "arguments": {}}</tool_call>'
    assert len(parser.feed(call + call + " text")) == 1
    assert parser.done
    assert parser.calls == 1
    assert parser.feed("more") == []
    assert parser.finish() == []


def test_finish_reason() -> None:
    parser = AnswerParser(HERMES, tools=TOOLS)
    assert parser.finish_reason("stop") == "stop"
    parser.feed('<tool_call>{"name": "ping", "arguments": {}}')
    assert parser.finish_reason("stop") == "tool_calls"
    assert parser.finish_reason("length") == "length"


def test_forced_calls_are_read_as_bare_json_in_any_dialect() -> None:
    assert parse(GLM, f'{{"name": "get_weather", "parameters": {BONN}}}', tool_choice="required") == [CALL]
    assert parse(GLM, '{"name": "get_weather"', tool_choice="auto") == [("text", '{"name": "get_weather"')]


def test_call_ids_differ() -> None:
    parser = AnswerParser(HERMES, tools=TOOLS)
    call = '<tool_call>{"name": "ping", "arguments": {}}</tool_call>'
    ids = [event.id for event in parser.feed(call * 3) if isinstance(event, ToolCall)]
    assert len(set(ids)) == 3
    assert all(call_id.startswith("call_") and len(call_id) == 29 for call_id in ids)


def test_a_call_in_a_channel_of_its_own_can_be_told_from_the_answer() -> None:
    parser = AnswerParser(HARMONY, tools=TOOLS)
    parser.feed("<|channel|>analysis<|message|>hm<|end|>")
    assert (parser.reasoning, parser.calling) == (True, False)
    parser.feed("<|start|>assistant<|channel|>commentary to=functions.ping <|constrain|>json<|message|>{")
    assert (parser.reasoning, parser.calling) == (False, True)
    parser.feed("}<|call|>")
    parser.feed("<|start|>assistant<|channel|>final<|message|>")
    assert (parser.reasoning, parser.calling) == (False, False)


def test_a_constraint_waits_for_the_final_channel() -> None:
    parser = AnswerParser(HARMONY)
    assert parser.reasoning
    parser.feed("<|channel|>analysis<|message|>hm")
    assert parser.reasoning
    parser.feed("<|end|><|start|>assistant<|channel|>final<|message|>")
    assert not parser.reasoning


def test_the_markers_that_an_engine_must_show() -> None:
    assert {"<think>", "</think>", "<tool_call>", "</tool_call>"} <= set(HERMES.markers)
    assert "<|python_tag|>" in LLAMA.markers
    assert "<|channel|>" in HARMONY.markers


@given(st.text(max_size=2000))
def test_nothing_is_lost_of_a_long_broken_call(junk: str) -> None:
    text = "<tool_call>" + junk
    said = parse(HERMES, text, tools=(PING,))
    assert [kind for kind, *_ in said] in (["text"], ["call"])


@pytest.mark.parametrize("text", ["<tool", "<tool_call>", '<tool_call>\n{"name": "get_w'])
def test_a_forced_call_that_the_limit_cut_is_no_text(text: str) -> None:
    assert parse(HERMES, text, tool_choice="required") == []
    assert parse(HERMES, text) == [("text", text)]
