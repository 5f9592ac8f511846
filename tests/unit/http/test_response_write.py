"""Events -> responses, whole and streamed, against golden files. `ANYFORM_GOLDEN=1 pytest …` writes them anew."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from anyform import __version__
from anyform.contract.errors import Fault, Overloaded, WorkerDied
from anyform.contract.events import (
    Done,
    Event,
    Finish,
    Progress,
    Reasoning,
    Text,
    TokenLogprob,
    ToolCall,
    Usage,
)
from anyform.http import response
from anyform.http.media import Media
from anyform.http.reply import Ask, Course, Head
from anyform.http.responsestore import Store
from anyform.http.responsestream import Stream
from anyform.kernel.rule import Rule

GOLDEN = Path(__file__).parents[2] / "golden" / "responses"
KEY = "0123456789abcdef01234567"
BEST = TokenLogprob(token="Hä", id=1, bytes=(72, 195, 164), logprob=-0.25)
OTHER = TokenLogprob(token="No", id=2, bytes=(78, 111), logprob=-1.5)
NEVER = TokenLogprob(token="!", id=3, bytes=(33,), logprob=float("-inf"))
SCORED = TokenLogprob(token="Hä", id=1, bytes=(72, 195, 164), logprob=-0.25, top=(BEST, OTHER))
USED = Usage(prompt_tokens=7, completion_tokens=5, cached_tokens=3, reasoning_tokens=2)
START = Progress(stage="prompt", total=7)
LOOK: Any = {"type": "function", "name": "look", "parameters": {"type": "object"}}

SAID: Sequence[Event] = (
    START,
    Text(text='He said "hi"\n'),
    Text(text="日本 \u2028 \x85 😀"),
    Text(text=""),
    Done(finishes=(Finish(),), usage=USED),
)
THOUGHT = (
    START,
    Reasoning(text="Hm, "),
    Reasoning(text="well.", logprobs=(BEST,)),
    Text(text="Yes"),
    Done(finishes=(Finish(reason="stop", stop="END"),), usage=USED),
)
CALLED = (
    START,
    Text(text="I look."),
    ToolCall(call=0, id="call_a", name="look"),
    ToolCall(call=0, arguments='{"at"'),
    ToolCall(call=0, arguments=": 1}"),
    ToolCall(call=1, name="go", arguments="{}"),
    ToolCall(call=2, name="rest"),
    Done(finishes=(Finish(reason="tool_calls"),), usage=USED),
)
CUT = (START, Reasoning(text="Hm"), Text(text="Ye"), Done(finishes=(Finish(reason="length"),), usage=USED))
WEIGHED = (
    START,
    Text(text="Hä", logprobs=(SCORED,)),
    Text(text="", logprobs=(NEVER,)),
    Done(finishes=(Finish(),), usage=USED),
)
REMARKED = (START, Text(text="a"), Done(extra={"remarks": ("seed is ignored.",)}))
CASES: dict[str, Sequence[Event]] = {
    "said": SAID,
    "thought": THOUGHT,
    "called": CALLED,
    "cut": CUT,
    "weighed": WEIGHED,
    "nothing": (Done(),),
    "remarked": REMARKED,
}


def head(cut: int = 0) -> Head:
    return Head(key=KEY, created=1700000000, model="some/model:Q8_0", course=Course(cut=cut))


def ask(kept: Store | None = None, **fields: Any) -> Ask:
    body = {"model": "some/model:Q8_0", "input": "hi", "tools": [LOOK], **fields}
    return response.read(body, Media(1000), Rule(), Store(1 << 20, 60) if kept is None else kept)


def written(wanted: Ask, events: Sequence[Event], cut: int = 0) -> str:
    writer = wanted.writer(head(cut))
    return (b"".join(writer.write(event, 0) for event in events) + writer.end()).decode()


def events_of(body: str) -> list[Any]:
    """The events of a stream, each of which has one line with its type and one with its data."""
    *pieces, rest = body.split("\n\n")
    assert rest == ""
    events = []
    for piece in pieces:
        kind, data = piece.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert kind == f"event: {events[-1]['type']}"
    return events


@pytest.mark.parametrize("form", ["json", "sse"])
@pytest.mark.parametrize("name", CASES)
def test_the_body_is_the_golden_one(name: str, form: str) -> None:
    body = written(ask(stream=form == "sse"), CASES[name]).replace(f"anyform-{__version__}", "anyform-VERSION")
    file = GOLDEN / f"{name}.{form}"
    if os.environ.get("ANYFORM_GOLDEN"):
        file.write_text(body, encoding="utf-8", newline="")
    assert body == file.read_bytes().decode()


def test_every_golden_file_has_a_case() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == {f"{name}.{form}" for name in CASES for form in ("json", "sse")}


@pytest.mark.parametrize("name", CASES)
def test_openais_own_types_take_it(name: str) -> None:
    """Strictly: no field that they require is missing, none has another type."""
    Response.model_validate_json(written(ask(), CASES[name]))
    known: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
    for event in events_of(written(ask(stream=True), CASES[name])):
        known.validate_python(event)


@pytest.mark.parametrize("name", CASES)
def test_the_stream_ends_in_the_response_that_comes_whole(name: str) -> None:
    events = events_of(written(ask(stream=True), CASES[name]))
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[-1]["response"] == json.loads(written(ask(), CASES[name]))
    assert events[-1]["type"] == f"response.{events[-1]['response']['status']}"
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    assert all(event["response"]["output"] == [] for event in events[:2])


@pytest.mark.parametrize("name", CASES)
def test_every_item_begins_grows_and_ends_before_the_next(name: str) -> None:
    events = events_of(written(ask(stream=True), CASES[name]))
    output = events[-1]["response"]["output"]
    kinds: dict[int, list[str]] = {}
    for event in events[2:-1]:
        kinds.setdefault(event["output_index"], []).append(event["type"].removeprefix("response."))
    assert list(kinds) == list(range(len(output)))
    places = [event["output_index"] for event in events[2:-1]]
    assert places == sorted(places)
    for at, item in enumerate(output):
        mine = [event for event in events[2:-1] if event["output_index"] == at]
        word = {"message": "output_text", "reasoning": "reasoning_text", "function_call": "function_call_arguments"}
        grown = "".join(event["delta"] for event in mine if event["type"].endswith(".delta"))
        ended = [kind for kind in kinds[at] if not kind.endswith(".delta")]
        if item["type"] == "function_call":
            assert ended == ["output_item.added", f"{word[item['type']]}.done", "output_item.done"]
            assert item["arguments"] == (grown or "{}") == mine[-2]["arguments"]
        else:
            part = ["content_part.added", f"{word[item['type']]}.done", "content_part.done"]
            assert ended == ["output_item.added", *part, "output_item.done"]
            assert item["content"][0]["text"] == grown == mine[-3]["text"] == mine[-2]["part"]["text"]
        assert mine[-1]["item"] == item
        assert mine[0]["item"]["status"] == "in_progress"
        assert {event["item_id"] for event in mine if "item_id" in event} == {item["id"]}


def test_an_answer_at_its_limit_is_incomplete() -> None:
    made = json.loads(written(ask(), CUT))
    assert (made["status"], made["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert [item["status"] for item in made["output"]] == ["completed", "incomplete"]
    assert made["completed_at"] is None


def test_a_call_that_was_cut_keeps_what_it_has() -> None:
    events = (ToolCall(call=0, name="look", arguments='{"at'), Done(finishes=(Finish(reason="length"),)))
    (item,) = json.loads(written(ask(), events))["output"]
    assert (item["status"], item["arguments"]) == ("incomplete", '{"at')


def test_usage_says_what_was_reused_and_what_was_thought() -> None:
    assert json.loads(written(ask(), SAID))["usage"] == {
        "input_tokens": 7,
        "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 12,
    }


@pytest.mark.parametrize(("cut", "words"), [(1, "the oldest message was"), (3, "the oldest 3 messages were")])
def test_what_was_left_out_is_told(cut: int, words: str) -> None:
    (remark,) = json.loads(written(ask(truncation="auto"), SAID, cut))["remarks"]
    assert words in remark
    assert events_of(written(ask(stream=True), SAID, cut))[-1]["response"]["remarks"] == [remark]


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_kept_is_what_was_sent(stream: bool) -> None:
    kept = Store(1 << 20, 60)
    body = written(ask(kept, stream=stream), CALLED)
    sent = events_of(body)[-1]["response"] if stream else json.loads(body)
    link = kept.need(f"resp_{KEY}")
    assert json.loads(link.body) == sent
    assert link.brought() == [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize(
    ("error", "code"), [(WorkerDied("it died."), "server_error"), (Overloaded("too many."), "rate_limit_exceeded")]
)
def test_a_fault_in_the_middle_ends_the_stream_with_what_there_is(error: Fault, code: str) -> None:
    kept = Store(1 << 20, 60)
    writer = ask(kept, stream=True).writer(head())
    assert isinstance(writer, Stream)
    events = events_of((writer.write(START) + writer.write(Text(text="a")) + writer.failed(error)).decode())
    *_, told, last = events
    assert (told["type"], told["code"], told["message"]) == ("error", error.code, str(error))
    assert last["type"] == "response.failed"
    made = last["response"]
    assert (made["status"], made["error"]) == ("failed", {"code": code, "message": str(error)})
    assert [(item["status"], item["content"][0]["text"]) for item in made["output"]] == [("incomplete", "a")]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert json.loads(kept.need(made["id"]).body) == made
    known: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
    for event in events:
        known.validate_python(event)


def test_no_line_of_a_stream_is_split_by_pythons_line_ends() -> None:
    body = written(ask(stream=True), SAID)
    assert [line for line in body.splitlines() if line] == [line for line in body.split("\n") if line]
