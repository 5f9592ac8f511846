"""What the events of /api/v1/chat tell of faults, of calls of tools that there are not, of prompts read in steps."""

from __future__ import annotations

import json
from typing import Any

from anyform.contract.errors import OutOfMemory
from anyform.contract.jobs import Generation
from anyform.dialect import Done, Event, Head, Progress, Reasoning, Store, Text, ToolCall, Usage, Wish
from anyform_lmstudio_api.chatreply import Stream, Whole
from anyform_lmstudio_api.pace import Pace


def begun(store: Store | None = None) -> Stream:
    return Stream(Head(key="k", created=0, model="m"), Wish(told={}, store=store), Generation())


def read(data: bytes) -> list[tuple[str, Any]]:
    pieces = [piece.split("\n") for piece in data.decode("ascii").split("\n\n") if piece]
    return [(name.removeprefix("event: "), json.loads(told.removeprefix("data: "))) for name, told in pieces]


def names(writer: Stream, *events: Event) -> list[str]:
    return [name for event in events for name, _ in read(writer.write(event, 0))]


def test_a_fault_comes_after_what_was_said_and_the_end_has_that() -> None:
    store = Store(1_000_000, 60)
    writer = begun(store)
    names(writer, Progress(stage="prompt", done=1, total=1), Text(text="on"))
    got = read(writer.failed(OutOfMemory("there is no room.", "Make some.")))
    assert [name for name, _ in got] == ["message.end", "error", "chat.end"]
    assert got[1][1]["error"] == {
        "message": "there is no room. Make some.",
        "type": "internal_error",
        "code": "out_of_memory",
    }
    result = got[2][1]["result"]
    assert result["output"] == [{"type": "message", "content": "on"}]
    assert "response_id" not in result
    assert store.count == 0


def test_a_prompt_that_is_read_in_steps() -> None:
    writer = begun()
    steps = [Progress(stage="prompt", done=done, total=4) for done in (0, 2, 4)]
    got = [one for step in steps for one in read(writer.write(step, 0))]
    assert [name for name, _ in got] == ["chat.start", "prompt_processing.start", *["prompt_processing.progress"] * 3]
    assert [data["progress"] for name, data in got if name.endswith("progress")] == [0, 0.5, 1]
    assert names(writer, Text(text="a")) == ["prompt_processing.end", "message.start", "message.delta"]


def test_thoughts_between_messages_are_items_of_their_own() -> None:
    writer = begun()
    events = [Text(text="a"), Reasoning(text="b"), Reasoning(text=""), Text(text="c"), Done()]
    got = names(writer, *events)
    expected = ["chat.start"]
    for kind in ("message", "reasoning", "message"):
        expected += [f"{kind}.start", f"{kind}.delta", f"{kind}.end"]
    assert got == expected
    ((name, data),) = read(writer.end())
    assert name == "chat.end"
    assert [item["type"] for item in data["result"]["output"]] == ["message", "reasoning", "message"]


def test_a_call_of_a_tool_that_there_is_not_is_told() -> None:
    writer = begun()
    calls = [ToolCall(call=0, name="look", id="1"), ToolCall(call=0, arguments="{}"), Done()]
    got = [one for call in calls for one in read(writer.write(call, 0))]
    metadata = {"type": "invalid_name", "tool_name": "look"}
    told = {"reason": "Cannot find tool with name look.", "metadata": metadata}
    assert got[1] == ("tool_call.failure", {"type": "tool_call.failure", **told})
    assert read(writer.end())[0][1]["result"]["output"] == [{"type": "invalid_tool_call", **told}]


def test_nothing_that_is_said_makes_an_answer() -> None:
    whole = Whole(Head(key="k", created=0, model="m"), Wish(told={}), Generation())
    whole.write(Done(usage=Usage(prompt_tokens=3)), 0)
    answer = json.loads(whole.end())
    assert answer["output"] == []
    assert answer["stats"]["input_tokens"] == 3
    assert answer["stats"]["tokens_per_second"] == 0


def test_letters_that_would_end_a_line_do_not() -> None:
    writer = begun()
    text = "\u2028\x85\n\u00e9\U0001f600"
    got = read(writer.write(Text(text=text), 0))
    assert got[-1][1]["content"] == text


def test_a_rate_without_the_engines_own_time_is_as_tokens_came() -> None:
    head = Head(key="k", created=0, model="m")
    pace = Pace(head.course)
    pace.take(Text(text="a"))
    pace.take(Done(usage=Usage(completion_tokens=5)))
    assert pace.rate > 5
    measured = Pace(head.course)
    measured.take(Text(text="a"))
    measured.take(Done(usage=Usage(completion_tokens=5), generate_s=2.5))
    assert (measured.rate, measured.generate_s) == (2, 2.5)
