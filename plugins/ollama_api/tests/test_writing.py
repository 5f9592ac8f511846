"""Events as lines and as one object: calls, thoughts, counts, and the speed of it."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from anyform.contract.events import Done, Event, Finish, Reasoning, Text, ToolCall, Usage, Vector
from anyform.dialect import Course, Head
from anyform_ollama_api import clock, embed, line

DONE = Done(
    finishes=(Finish(reason="tool_calls"),),
    usage=Usage(prompt_tokens=7, completion_tokens=5, cached_tokens=3),
    prompt_s=0.5,
    generate_s=0.25,
)


def head(cut: int = 0) -> Head:
    return Head(key="k", created=0, model='m "1"', course=Course(load_s=2.0, cut=cut))


def streamed(*events: Event, cut: int = 0) -> list[dict[str, Any]]:
    writer = line.Stream(head(cut), line.message)
    data = b"".join([*(writer.write(event) for event in events), writer.end()])
    assert data.isascii()
    return [json.loads(piece) for piece in data.split(b"\n") if piece]


def whole(*events: Event, cut: int = 0) -> dict[str, Any]:
    writer = line.Whole(head(cut), line.message)
    assert b"".join(writer.write(event) for event in events) == b""
    said: dict[str, Any] = json.loads(writer.end())
    return said


def test_calls_come_one_by_one_as_soon_as_they_are_whole() -> None:
    events = [
        Text(text="I call."),
        ToolCall(call=0, id="x", name="a"),
        ToolCall(call=0, arguments='{"k": '),
        ToolCall(call=0, arguments="[1]}"),
        ToolCall(call=1, name="b", arguments=""),
        Reasoning(text="Hm."),
        ToolCall(call=2, id="z", name="c", arguments="{}"),
        DONE,
    ]
    calls = [
        {"id": "x", "function": {"index": 0, "name": "a", "arguments": {"k": [1]}}},
        {"function": {"index": 1, "name": "b", "arguments": {}}},
        {"id": "z", "function": {"index": 2, "name": "c", "arguments": {}}},
    ]
    empty = {"role": "assistant", "content": ""}
    assert [piece["message"] for piece in streamed(*events)] == [
        {**empty, "content": "I call."},
        {**empty, "tool_calls": calls[:1]},
        {**empty, "tool_calls": calls[1:2]},
        {**empty, "thinking": "Hm."},
        {**empty, "tool_calls": calls[2:]},
        empty,
    ]
    said = whole(*events)
    assert said["message"] == {"role": "assistant", "content": "I call.", "thinking": "Hm.", "tool_calls": calls}
    assert said["done_reason"] == "stop"


@pytest.mark.parametrize("arguments", ['{"city": "Ro', "[1]", "3", '"a"', "[" * 100_000])
def test_a_call_that_broke_off_is_told_as_text(arguments: str) -> None:
    events = [ToolCall(call=0, name="a", arguments=arguments), Done(finishes=(Finish(reason="length"),))]
    said = whole(*events)
    assert said["message"] == {"role": "assistant", "content": '{"name": "a", "arguments": ' + arguments}
    assert said["done_reason"] == "length"
    assert streamed(*events)[0]["message"] == said["message"]


def test_the_end_tells_all_in_nanoseconds() -> None:
    said = whole(Text(text="a"), DONE)
    assert (said["prompt_eval_count"], said["prompt_eval_cached_count"], said["eval_count"]) == (7, 3, 5)
    assert (said["load_duration"], said["prompt_eval_duration"]) == (2_000_000_000, 500_000_000)
    assert said["eval_duration"] == 250_000_000
    assert type(said["total_duration"]) is int
    assert said["model"] == 'm "1"'
    bare = whole(Done())
    assert (bare["message"]["content"], bare["done_reason"], bare["prompt_eval_duration"]) == ("", "stop", 1)
    assert "prompt_eval_cached_count" not in bare


def test_what_was_cut_is_reported_before_other_remarks() -> None:
    done = Done(extra={"remarks": ("Careful.",)})
    for said in (whole(done, cut=3), streamed(done, cut=3)[-1]):
        assert said["truncated"] == 3
        assert said["remarks"] == [
            "Messages left out, the oldest first, since the whole is over the context: 3.",
            "Careful.",
        ]
    assert whole(done)["remarks"] == ["Careful."]


def test_line_ends_in_text_end_no_line() -> None:
    text = "a\r\n\x85\u2028\u2029\x0bé\U0001f600"
    writer = line.Stream(head(), line.message)
    data = writer.write(Text(text=text))
    assert len(data.decode("ascii").splitlines()) == 1
    assert json.loads(data)["message"]["content"] == text


def test_the_time_is_of_now_and_never_goes_back() -> None:
    told = [clock.now() for _ in range(1000)]
    assert told == sorted(told)
    assert {len(one) for one in told} == {30}
    moment = time.strptime(told[-1][:19], "%Y-%m-%dT%H:%M:%S")
    assert abs(time.mktime(moment) - time.mktime(time.gmtime())) < 60


def test_each_second_is_written_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "_latest", (0, "1970-01-01T00:00:00"))
    assert not clock.now().startswith("1970")


def test_vectors_come_in_the_order_of_their_texts() -> None:
    writer = embed.Whole(head())
    for event in (
        Vector(data=b"\0\0\0\x40", dimensions=1, index=1),
        Vector(data=b"\0\0\x80\x3f", dimensions=1, index=0),
        Done(usage=Usage(prompt_tokens=4)),
    ):
        assert writer.write(event) == b""
    said = json.loads(writer.end())
    assert said["embeddings"] == [[1.0], [2.0]]
    assert said["prompt_eval_count"] == 4
