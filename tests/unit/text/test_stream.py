"""Tokens to events, with stop strings and logprobs."""

from __future__ import annotations

from collections.abc import Iterable

from anyform.contract.events import Event, Reasoning, Text, TokenLogprob, ToolCall
from anyform.contract.jobs import Tool
from anyform.text.answer import AnswerParser
from anyform.text.dialect import dialect_of
from anyform.text.stream import AnswerStream

HERMES = dialect_of("<tool_call>")


def logprob(number: int) -> TokenLogprob:
    return TokenLogprob(token=str(number), id=number, bytes=(), logprob=-1.0)


def run(stream: AnswerStream, tokens: Iterable[bytes]) -> list[Event]:
    events: list[Event] = []
    for number, token in enumerate(tokens):
        events += stream.token(token, logprob(number))
        if stream.over:
            break
    return events + stream.finish()


def ids(events: Iterable[Event]) -> list[list[int]]:
    return [[entry.id for entry in event.logprobs] for event in events if isinstance(event, Text | Reasoning)]


def text(events: Iterable[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Text))


def test_each_token_travels_with_its_text() -> None:
    events = run(AnswerStream(None), [b"a", b"b", b"c"])
    assert (text(events), ids(events)) == ("abc", [[0], [1], [2]])


def test_half_a_character_waits_for_its_rest() -> None:
    events = run(AnswerStream(None, index=3), ["é".encode()[:1], "é".encode()[1:] + b"!"])
    assert events == [Text(text="é!", index=3, logprobs=(logprob(0), logprob(1)))]


def test_a_stop_string_takes_its_tokens_with_it() -> None:
    stream = AnswerStream(None, ["\n\nUser:"])
    events = run(stream, [b"Hi", b"\n", b"\n", b"User", b":", b"never"])
    assert (text(events), ids(events)) == ("Hi", [[0]])
    assert stream.stop == "\n\nUser:"
    assert stream.finish_reason("stop") == "stop"


def test_a_false_alarm_gives_text_and_logprobs_back() -> None:
    events = run(AnswerStream(None, ["STOP"]), [b"a", b"ST", b"O", b"x"])
    assert text(events) == "aSTOx"
    assert ids(events) == [[0], [1, 2, 3]]


def test_what_is_held_back_comes_at_the_end() -> None:
    events = run(AnswerStream(None, ["STOP"]), [b"a", b"STO"])
    assert (text(events), ids(events)) == ("aSTO", [[0], [1]])


def test_control_tokens_keep_their_logprobs() -> None:
    events = run(AnswerStream(None), [b"a", b""])
    assert (text(events), ids(events)) == ("a", [[0], [1]])


def test_reasoning_and_content_have_their_own() -> None:
    stream = AnswerStream(AnswerParser(HERMES))
    events = run(stream, [b"<think>", b"hm", b"</think>", b"Yes"])
    assert [type(event) for event in events] == [Reasoning, Text]
    assert ids(events) == [[0, 1], [2, 3]]


def test_calls_carry_no_logprobs_and_end_the_answer_where_only_one_is_allowed() -> None:
    stream = AnswerStream(AnswerParser(HERMES, tools=[Tool(name="f")], parallel_calls=False))
    events = run(stream, [b"ok ", b"<tool_call>", b'{"name": "f", ', b'"arguments": {}}', b"</tool_call>"])
    assert stream.over
    assert [type(event) for event in events] == [Text, ToolCall]
    assert ids(events) == [[0]]
    assert stream.finish_reason("stop") == "tool_calls"
