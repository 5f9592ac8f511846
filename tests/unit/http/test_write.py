"""Events -> bytes, against golden files. `ANYFORM_GOLDEN=1 pytest …` writes them anew."""

from __future__ import annotations

import json
import os
import struct
from base64 import b64decode
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from anyform import __version__
from anyform.contract.events import (
    Done,
    Event,
    Finish,
    Progress,
    Reasoning,
    Scores,
    Text,
    TokenLogprob,
    ToolCall,
    Usage,
    Vector,
)
from anyform.http import chat, classification, completion, embedding, multimodal, rerank
from anyform.http.media import Media
from anyform.http.reply import Ask, Head

GOLDEN = Path(__file__).parents[2] / "golden" / "http"
HEAD = Head(key="k", created=1700000000, model="some/model:Q8_0")
USER = [{"role": "user", "content": "hi"}]

BEST = TokenLogprob(token="Hä", id=1, bytes=(72, 195, 164), logprob=-0.25)
OTHER = TokenLogprob(token="No", id=2, bytes=(78, 111), logprob=-1.5)
NEVER = TokenLogprob(token="!", id=3, bytes=(33,), logprob=float("-inf"))
SCORED = TokenLogprob(token="Hä", id=1, bytes=(72, 195, 164), logprob=-0.25, top=(BEST, OTHER))
USED = Usage(prompt_tokens=7, completion_tokens=5, cached_tokens=3, reasoning_tokens=2)
START = Progress(stage="prompt", total=7)


def _chat(**fields: Any) -> Ask:
    return chat.read({"model": HEAD.model, "messages": USER, **fields}, Media(1000))


def _complete(**fields: Any) -> Ask:
    return completion.read({"model": HEAD.model, "prompt": "p", **fields})


def _caption(**fields: Any) -> Ask:
    return multimodal.read_caption({"model": HEAD.model, "image": "AAAA", **fields}, Media(1000))


def _answer(**fields: Any) -> Ask:
    return multimodal.read_answer({"model": HEAD.model, "image": "AAAA", "question": "q", **fields}, Media(1000))


SAID: Sequence[Event] = (
    START,
    Text(text='He said "hi"\n'),
    Text(text="日本 \u2028 \x85 😀"),
    Text(text=""),
    Done(finishes=(Finish(reason="length"),), usage=USED),
)
THOUGHT = (
    START,
    Reasoning(text="Hm, "),
    Reasoning(text="well."),
    Text(text="Yes"),
    Done(finishes=(Finish(reason="stop", stop="END"),), usage=USED),
)
CALLED = (
    START,
    ToolCall(call=0, id="call_a", name="look"),
    ToolCall(call=0, arguments='{"at"'),
    ToolCall(call=0, arguments=": 1}"),
    ToolCall(call=1, name="go", arguments="{}"),
    Done(finishes=(Finish(reason="tool_calls"),), usage=USED),
)
TWICE = (
    START,
    Text(text="a", index=1),
    Text(text="b", index=0),
    Text(text="c", index=1),
    Done(finishes=(Finish(reason="stop"), Finish(reason="length")), usage=USED),
)
WEIGHED = (
    START,
    Text(text="Hä", logprobs=(SCORED,)),
    Text(text="", logprobs=(NEVER,)),
    Done(finishes=(Finish(reason="cancelled"),), usage=USED),
)
TWO_JOBS = tuple((0, event) for event in SAID) + tuple((1, event) for event in SAID)
STREAM = {"stream": True}
COUNTED = {"stream": True, "stream_options": {"include_usage": True}}
SCORING = {"logprobs": True, "top_logprobs": 2}

CASES: dict[str, tuple[Ask, Sequence[Any]]] = {
    "chat.json": (_chat(), SAID),
    "chat.sse": (_chat(**STREAM), SAID),
    "chat-usage.sse": (_chat(**COUNTED), SAID),
    "chat-reasoning.json": (_chat(), THOUGHT),
    "chat-reasoning.sse": (_chat(**STREAM), THOUGHT),
    "chat-tools.json": (_chat(), CALLED),
    "chat-tools.sse": (_chat(**STREAM), CALLED),
    "chat-n.json": (_chat(n=2), TWICE),
    "chat-n.sse": (_chat(n=2, **STREAM), TWICE),
    "chat-logprobs.json": (_chat(**SCORING), WEIGHED),
    "chat-logprobs.sse": (_chat(**SCORING, **STREAM), WEIGHED),
    "chat-nothing.json": (_chat(), (Done(),)),
    "chat-nothing.sse": (_chat(**STREAM), (Done(),)),
    "completion.json": (_complete(), SAID),
    "completion.sse": (_complete(**STREAM), SAID),
    "completion-usage.sse": (_complete(**COUNTED), SAID),
    "completion-prompts.json": (_complete(prompt=["a", "b"]), TWO_JOBS),
    "completion-prompts.sse": (_complete(prompt=["a", "b"], **COUNTED), TWO_JOBS),
    "completion-logprobs.json": (_complete(logprobs=2), WEIGHED),
    "completion-logprobs.sse": (_complete(logprobs=2, **STREAM), WEIGHED),
    "embedding.json": (
        embedding.read({"model": HEAD.model, "input": ["a", "b"]}, Media(1000)),
        (
            Vector(data=struct.pack("<3f", 0.1, -1e-7, 1.0), dimensions=3, index=1),
            Vector(data=struct.pack("<3f", 0.5, 0.25, 0), dimensions=3, index=0),
            Done(usage=Usage(prompt_tokens=4)),
        ),
    ),
    "embedding-base64.json": (
        embedding.read({"model": HEAD.model, "input": "a", "encoding_format": "base64"}, Media(1000)),
        (Vector(data=struct.pack("<2f", 0.5, -0.5), dimensions=2), Done(usage=Usage(prompt_tokens=4))),
    ),
    "rerank.json": (
        rerank.read({"model": HEAD.model, "query": "q", "documents": ["a", "b", "c"], "return_documents": True}),
        (Scores(values=(0.5, 0.75, 0.5)), Done(usage=Usage(prompt_tokens=4))),
    ),
    "rerank-top.json": (
        rerank.read({"model": HEAD.model, "query": "q", "documents": ["a", "b", "c"], "top_n": 2}),
        (Scores(values=(0.5, -0.75, 0.6)), Done(usage=Usage(prompt_tokens=4))),
    ),
    "classification.json": (
        classification.read({"model": HEAD.model, "input": ["a", "b"]}, Media(1000)),
        (
            START,
            Scores(values=(0.25, 0.75), labels=("bad", "fine"), index=1),
            Scores(values=(0.9, 0.1), labels=("bad", "schön"), index=0),
            Done(usage=Usage(prompt_tokens=4)),
        ),
    ),
    "classification-labels.json": (
        classification.read({"model": HEAD.model, "input": "a", "labels": ["x", "y", "z"], "top_k": 2}, Media(1000)),
        (Scores(values=(0.25, 0.5, 0.25), labels=("x", "y", "z")), Done(usage=Usage(prompt_tokens=4))),
    ),
    "caption.json": (_caption(), SAID),
    "caption.sse": (_caption(**STREAM), SAID),
    "caption-usage.sse": (_caption(**COUNTED), SAID),
    "caption-nothing.json": (_caption(), (Done(),)),
    "answer.json": (_answer(), SAID),
    "answer.sse": (_answer(**STREAM), SAID),
}


def written(ask: Ask, events: Sequence[Any]) -> str:
    writer = ask.writer(HEAD)
    pairs = [event if isinstance(event, tuple) else (0, event) for event in events]
    body = b"".join(writer.write(event, job) for job, event in pairs) + writer.end()
    return body.decode().replace(f"anyform-{__version__}", "anyform-VERSION")


@pytest.mark.parametrize("name", CASES)
def test_the_body_is_the_golden_one(name: str) -> None:
    body = written(*CASES[name])
    if os.environ.get("ANYFORM_GOLDEN"):
        (GOLDEN / name).write_text(body, encoding="utf-8", newline="")
    assert body == (GOLDEN / name).read_bytes().decode()


def test_every_golden_file_has_a_case() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == set(CASES)


@pytest.mark.parametrize("name", [name for name in CASES if name.endswith(".sse")])
def test_every_stream_is_well_formed(name: str) -> None:
    *events, done, rest = written(*CASES[name]).split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    assert len({(chunk["id"], chunk["object"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
    counted = "stream_options" in name or "usage" in name or name == "completion-prompts.sse"
    assert [chunk.get("usage", "absent") for chunk in chunks[:-1]] == ([None] if counted else ["absent"]) * len(
        chunks[:-1]
    )
    if counted:
        assert chunks[-1]["choices"] == []
        assert chunks.pop()["usage"]["total_tokens"] > 0
    _check_finishes(chunks)
    if name.startswith("chat"):
        _check_roles(chunks)


def _check_finishes(chunks: list[dict[str, Any]]) -> None:
    """Nothing until the last chunk of each choice, which has a reason."""
    reasons: dict[int, list[str | None]] = {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            reasons.setdefault(choice["index"], []).append(choice["finish_reason"])
    for given in reasons.values():
        assert set(given[:-1]) <= {None}
        assert given[-1] in ("stop", "length", "tool_calls")


def _check_roles(chunks: list[dict[str, Any]]) -> None:
    seen: set[int] = set()
    for choice in (choice for chunk in chunks for choice in chunk["choices"]):
        assert ("role" in choice["delta"]) is (choice["index"] not in seen)
        seen.add(choice["index"])


def test_no_line_of_a_stream_is_split_by_pythons_line_ends() -> None:
    body = written(_chat(stream=True), SAID)
    assert [line for line in body.splitlines() if line] == [line for line in body.split("\n") if line]


@pytest.mark.parametrize("read", [_chat, _complete])
def test_what_the_model_remarks_is_told_once(read: Callable[..., Ask]) -> None:
    done = Done(finishes=(Finish(), Finish()), extra={"remarks": ("seed is ignored.",), "seed": 1})
    assert json.loads(written(read(n=2), (Text(text="a"), done)))["remarks"] == ["seed is ignored."]
    assert "remarks" not in json.loads(written(read(), (Text(text="a"), Done())))
    for more in (STREAM, COUNTED):
        events = written(read(n=2, **more), (Text(text="a"), done)).split("\n\n")[:-2]
        chunks = [json.loads(event[6:]) for event in events]
        ends = [chunk for chunk in chunks if chunk["choices"] and chunk["choices"][0]["finish_reason"]]
        assert [chunk.get("remarks") for chunk in ends] == [None, ["seed is ignored."]]
        assert [chunk for chunk in chunks if "remarks" in chunk] == ends[-1:]


def test_what_is_remarked_on_several_prompts_is_told_together() -> None:
    said = [Done(extra={"remarks": remarks}) for remarks in (("a.", "b."), ("b.", "c."))]
    body = json.loads(written(_complete(prompt=["x", "y"]), [(0, said[0]), (1, said[1])]))
    assert body["remarks"] == ["a.", "b.", "c."]


def test_streamed_arguments_join_to_the_whole() -> None:
    chunks = [json.loads(event[6:]) for event in written(_chat(stream=True), CALLED).split("\n\n")[:-2]]
    pieces = [piece for chunk in chunks for piece in chunk["choices"][0]["delta"].get("tool_calls", ())]
    assert "".join(p["function"]["arguments"] for p in pieces if p["index"] == 0) == '{"at": 1}'
    assert [p["id"] for p in pieces if "id" in p] == ["call_a", "call_k_0_1"]


@pytest.mark.parametrize("stream", [False, True])
def test_offsets_count_the_text_before_a_token_also_without_logprobs_of_its_own(stream: bool) -> None:
    events = (Text(text="prompt"), Text(text="Hä", logprobs=(SCORED,)), Text(text="Hä", logprobs=(SCORED,)), Done())
    body = written(_complete(logprobs=1, echo=True, stream=stream), events)
    parts = [json.loads(event[6:]) for event in body.split("\n\n")[:-2]] if stream else [json.loads(body)]
    offsets = [part["choices"][0]["logprobs"]["text_offset"] for part in parts if part["choices"][0]["logprobs"]]
    assert [offset for part in offsets for offset in part] == [6, 8]


@pytest.mark.parametrize("stream", [False, True])
def test_the_first_token_of_an_echoed_prompt_has_no_logprob(stream: bool) -> None:
    first = TokenLogprob(token="p", id=4, bytes=(112,))
    events = (Text(text="pHä", logprobs=(first, SCORED)), Done())
    body = written(_complete(logprobs=2, echo=True, stream=stream), events)
    part = json.loads(body.split("\n\n")[0][6:]) if stream else json.loads(body)
    logprobs = part["choices"][0]["logprobs"]
    assert logprobs["token_logprobs"] == [None, -0.25]
    assert logprobs["top_logprobs"] == [None, {"Hä": -0.25, "No": -1.5}]


def test_floats_and_base64_say_the_same() -> None:
    numbers = struct.unpack("<5f", struct.pack("<5f", 0.1, -3.3333333, 1e-30, 1 / 3, 0.0))
    data = struct.pack("<5f", *numbers)
    events = (Vector(data=data, dimensions=5), Done())
    plain = json.loads(written(embedding.read({"model": "m", "input": "a"}, Media(1000)), events))
    packed = json.loads(
        written(embedding.read({"model": "m", "input": "a", "encoding_format": "base64"}, Media(1000)), events)
    )
    assert b64decode(packed["data"][0]["embedding"]) == data
    assert struct.pack("<5f", *plain["data"][0]["embedding"]) == data
