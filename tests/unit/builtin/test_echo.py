"""Echo's own behaviour, beside what the conformance kit checks of every plugin."""

from __future__ import annotations

import json
import signal
import struct
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from anyform.builtin import echo
from anyform.builtin.echo_engine import EchoModel, held_back, words
from anyform.contract.errors import Closed, ContextExceeded, Invalid, Unsupported
from anyform.contract.events import Done, Event, Finish, Reasoning, Scores, Text, ToolCall, Usage, Vector
from anyform.contract.facts import Metadata, Settings
from anyform.contract.jobs import (
    Answer,
    Caption,
    Chat,
    Classify,
    Complete,
    Embed,
    Generation,
    Message,
    Picture,
    Rerank,
    Sampling,
    Sound,
    Tool,
    ZeroShot,
)
from anyform.contract.jobs import Text as Words
from anyform.contract.model import Stop
from anyform.kernel.files import FolderFiles


def model(context: int = 100, parallel: int = 2, **options: Any) -> EchoModel:
    return EchoModel("e", echo.TASKS, context, parallel, options)


def said(events: list[Event], index: int = 0) -> str:
    return "".join(event.text for event in events if isinstance(event, Text) and event.index == index)


def done(events: list[Event]) -> Done:
    assert isinstance(events[-1], Done)
    return events[-1]


def complete(prompt: str, *, of: EchoModel | None = None, **generation: Any) -> list[Event]:
    return list((of or model()).generate(Complete(prompt=prompt, generation=Generation(**generation)), Stop()))


@pytest.mark.parametrize(
    ("generation", "text", "finish"),
    [
        ({}, "one two  three\n", Finish(reason="stop")),
        ({"max_tokens": 2}, "one two", Finish(reason="length")),
        ({"max_tokens": 0}, "", Finish(reason="length")),
        ({"stop": ("o  t",)}, "one tw", Finish(reason="stop", stop="o  t")),
        ({"stop": ("two", "one")}, "", Finish(reason="stop", stop="one")),
        ({"stop": ("three four",)}, "one two  three\n", Finish(reason="stop")),
        ({"sampling": Sampling(seed=1)}, " two  three\none", Finish(reason="stop")),
        ({"ignore_eos": True, "max_tokens": 6}, "one two  three\none two", Finish(reason="length")),
    ],
)
def test_complete(generation: dict[str, Any], text: str, finish: Finish) -> None:
    events = complete("one two  three\n", **generation)
    assert said(events) == text
    assert done(events).finishes == (finish,)


def test_usage_counts_words_of_all_answers() -> None:
    events = complete("a b c", n=2, max_tokens=2)
    assert done(events).usage == Usage(prompt_tokens=3, completion_tokens=4)
    assert [said(events, 0), said(events, 1)] == ["a b", "a b"]


def test_the_context_ends_an_answer_and_refuses_a_prompt() -> None:
    assert done(complete("a b c", of=model(context=5))).finishes == (Finish(reason="length"),)
    with pytest.raises(ContextExceeded) as caught:
        complete("a b c", of=model(context=3))
    assert caught.value.details == {"prompt_tokens": 3, "context": 3}


def test_chat_repeats_the_last_user_message_and_thinks_when_asked() -> None:
    turns = [("system", "be kind"), ("user", "first"), ("assistant", "first"), ("user", "second try")]
    messages = tuple(Message(role=role, parts=(Words(text=text),)) for role, text in turns)
    events = list(model().generate(Chat(messages=messages, thinking=True), Stop()))
    assert said(events) == "second try"
    assert [event.text for event in events if isinstance(event, Reasoning)] == ["I", " shall", " repeat", " this."]
    assert done(events).usage == Usage(prompt_tokens=6, completion_tokens=6, reasoning_tokens=4)


def test_a_forced_tool_is_called_with_a_value_for_each_property() -> None:
    schema = {"properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "unit": {"enum": ["C", "F"]}}}
    message = Message(role="user", parts=(Words(text="Oslo"),))
    job = Chat(messages=(message,), tools=(Tool(name="weather", parameters=schema),), tool_choice="required")
    events = list(model().generate(job, Stop()))
    calls = [event for event in events if isinstance(event, ToolCall)]
    assert (calls[0].name, calls[0].id) == ("weather", "call_0")
    assert json.loads("".join(call.arguments for call in calls)) == {"city": "Oslo", "days": 1, "unit": "C"}
    assert done(events).finishes == (Finish(reason="tool_calls"),)
    wrong = replace(job, tools=(Tool(name="weather", parameters={"properties": {"city": 5}}),))
    with pytest.raises(Invalid, match="no JSON schema"):
        list(model().generate(wrong, Stop()))
    unknown = Chat(messages=(message,), tools=(Tool(name="weather"),), tool_choice="other")
    with pytest.raises(Invalid, match="other"):
        list(model().generate(unknown, Stop()))


def test_embeddings_have_length_one_and_depend_on_words_alone() -> None:
    events = list(model().generate(Embed(inputs=("a b", "b  A", "c"), dimensions=4), Stop()))
    vectors = [event for event in events if isinstance(event, Vector)]
    assert [vector.index for vector in vectors] == [0, 1, 2]
    numbers = [struct.unpack("<4f", vector.data) for vector in vectors]
    assert all(sum(number**2 for number in vector) == pytest.approx(1, abs=1e-5) for vector in numbers)
    assert numbers[0] == pytest.approx(numbers[1])


def test_rerank_scores_by_overlap() -> None:
    events = list(model().generate(Rerank(query="big cat", documents=("a dog", "a big dog", "the big cat")), Stop()))
    assert events[1] == Scores(values=(0.0, 0.5, 1.0))


CAT = Picture(data=b"a cat" + bytes(3000), media_type="image/png")


def test_texts_and_pictures_are_classified_by_their_bytes_alone() -> None:
    events = list(model().generate(Classify(inputs=("a b", "b  A", CAT), top_k=3), Stop()))
    first, same, other = [event for event in events if isinstance(event, Scores)]
    assert (first.values, first.labels) == (pytest.approx(same.values), same.labels)
    assert (other.index, len(other.labels)) == (2, 3)
    assert sorted(other.values, reverse=True) == list(other.values)
    assert done(events).usage == Usage(prompt_tokens=2 + 2 + 3)


def test_labels_are_looked_for_among_words_and_bytes() -> None:
    job = ZeroShot(inputs=("my cat", CAT, "neither"), labels=("dog", "cat"))
    events = list(model().generate(job, Stop()))
    scores = [event.values for event in events if isinstance(event, Scores)]
    assert scores[:2] == [pytest.approx((0.1 / 1.2, 1.1 / 1.2))] * 2
    assert scores[2] == (0.5, 0.5)


def test_a_picture_is_described_and_asked_about() -> None:
    events = list(model().generate(Caption(picture=CAT), Stop()))
    assert said(events) == "image/png of 3005 bytes"
    events = list(model().generate(Answer(picture=CAT, question="what is it?", max_tokens=4), Stop()))
    assert said(events) == "what is it? image/png"
    assert done(events).finishes == (Finish(reason="length"),)


def test_only_a_model_with_vision_takes_pictures_in_conversations() -> None:
    message = Message(role="user", parts=(Words(text="look"), CAT))
    with pytest.raises(Unsupported, match="no picture"):
        list(model().generate(Chat(messages=(message,)), Stop()))
    seeing = EchoModel("e", echo.TASKS, 100, 1, {}, sees=True)
    assert said(list(seeing.generate(Chat(messages=(message,)), Stop()))) == "look [image/png of 3005 bytes] "
    sound = Message(role="user", parts=(Sound(data=b"x"),))
    with pytest.raises(Unsupported, match="no sound"):
        list(seeing.generate(Chat(messages=(sound,)), Stop()))


@pytest.mark.parametrize("generation", [Generation(grammar='root ::= "x"'), Generation(schema={})])
def test_constraints_are_refused_not_ignored(generation: Generation) -> None:
    with pytest.raises(Unsupported):
        list(model().generate(Complete(prompt="a", generation=generation), Stop()))


def test_a_request_waits_for_a_slot_and_may_be_cancelled_there() -> None:
    one = model(parallel=1)
    first = one.generate(Complete(prompt="a b", generation=Generation(ignore_eos=True)), Stop())
    next(first), next(first)
    stop = Stop()
    waiting = one.generate(Complete(prompt="c"), stop)
    next(waiting)
    stop.set()
    assert list(waiting)[-1].finishes == (Finish(reason="cancelled"),)  # type: ignore[union-attr]
    first.close()  # type: ignore[attr-defined]
    assert said(complete("free again", of=one)) == "free again"


def test_close_ends_a_running_job() -> None:
    slow = model(delay_s=0.001)
    events = slow.generate(Complete(prompt="a", generation=Generation(ignore_eos=True)), Stop())
    next(events)
    threading.Thread(target=slow.close).start()
    with pytest.raises(Closed):
        list(events)


@pytest.mark.parametrize(
    ("content", "found", "codes"),
    [
        ({"format": "echo"}, 1, []),
        ({"context": 5, "format": "echo"}, 1, []),
        ({"format": "gguf"}, 0, []),
        ({"format": "echo", "context": "many"}, 1, ["echo.type"]),
        ({"format": "echo", "tasks": "chat"}, 1, ["echo.type"]),
    ],
)
def test_detect_and_validate(tmp_path: Path, content: dict[str, Any], found: int, codes: list[str]) -> None:
    (tmp_path / "echo.json").write_text(json.dumps(content))
    files = FolderFiles(tmp_path)
    matches = echo.detect_format(files)
    assert len(matches) == found
    for match in matches:
        assert [finding.code for finding in echo.validate(files, match)] == codes
        echo.extract_metadata(files, match)


def test_names_and_variants(tmp_path: Path) -> None:
    (tmp_path / "a.echo").write_text('{"format": "echo"}')
    (tmp_path / "b.echo.json").write_text('{"format": "echo", "name": "bee", "variant": "small", "order": 3}')
    first, second = echo.detect_format(FolderFiles(tmp_path))
    assert (first.name, first.variant, first.order) == ("a", "", 0)
    assert (second.name, second.variant, second.order) == ("bee", "small", 3)


def test_a_file_may_slow_echo_down_but_not_crash_it(tmp_path: Path) -> None:
    options = {"delay_s": 1, "crash": "load"}
    (tmp_path / "echo.json").write_text(json.dumps({"format": "echo", "options": options}))
    files = FolderFiles(tmp_path)
    metadata = echo.extract_metadata(files, echo.detect_format(files)[0])
    assert metadata.extra == {"options": {"delay_s": 1}}


def test_the_estimate_obeys_memory_bytes() -> None:
    settings = Settings(context=10, options={"memory_bytes": 1000})
    assert echo.estimate_memory(Metadata(), settings).at(settings) == 1000 + 10 * echo.BYTES_PER_TOKEN


CRASH = """
import sys
from anyform.builtin.echo_engine import EchoModel
from anyform.contract.jobs import Complete
from anyform.contract.model import Stop
model = EchoModel("e", ("complete",), 100, 1, {options})
model.crash_at("load")
for event in model.generate(Complete(prompt="a b c d"), Stop()):
    if hasattr(event, "text"):
        print(event.text, end="", flush=True)
"""


@pytest.mark.parametrize(
    ("options", "printed", "died"),
    [
        ({"crash": "load"}, "", True),
        ({"crash": "first"}, "", True),
        ({"crash": "after:2"}, "a b", True),
        ({"crash": "load", "crash_unless": "careful"}, "", True),
        ({"crash": "load", "crash_unless": "careful", "careful": True}, "a b c d", False),
    ],
)
def test_crashes_only_as_told(options: dict[str, Any], printed: str, died: bool) -> None:
    code = CRASH.replace("{options}", repr(options))
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.stdout == printed
    assert (ended.returncode != 0) is died
    if died and hasattr(signal, "SIGKILL"):
        assert ended.returncode == -signal.SIGKILL


def test_words_join_to_the_text() -> None:
    for text in ("", " ", "a", " a  b\n", "\n\n"):
        assert "".join(words(text)) == text


@pytest.mark.parametrize(
    ("text", "stops", "held"), [("abc", ("cd",), 1), ("abc", ("bcd", "cd"), 2), ("abc", ("x",), 0)]
)
def test_held_back(text: str, stops: tuple[str, ...], held: int) -> None:
    assert held_back(text, stops) == held
