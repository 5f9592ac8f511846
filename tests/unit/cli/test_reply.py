"""What is made of events: a reply, its timings, and a bench's numbers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator

import pytest

from anyform.cli import document
from anyform.cli.asking import Reply
from anyform.cli.background import Answer, waited
from anyform.cli.bench import Request, summary
from anyform.cli.run import printable
from anyform.contract.errors import Invalid
from anyform.contract.events import Done, Event, Finish, Progress, Reasoning, Text, Usage
from anyform.contract.facts import Evidence, FormatMatch
from anyform.contract.model import Stop


def test_a_reply_grows() -> None:
    reply = Reply()
    events: list[Event] = [
        Progress(stage="prompt"),
        Reasoning(text="hm"),
        Text(text="a"),
        Text(text="b"),
        Done(
            finishes=(Finish(reason="length"),),
            usage=Usage(prompt_tokens=3, completion_tokens=4, cached_tokens=2),
            generate_s=2.0,
        ),
    ]
    for event in events:
        reply.take(event)
    assert (reply.text, reply.reasoning, reply.finish) == ("ab", "hm", "length")
    assert reply.timings()["tokens_per_s"] == 2.0
    assert reply.first_s is not None
    assert "3 + 4 tokens" in reply.speed()
    assert "2 reused" in reply.speed()


def test_progress_is_no_first_token() -> None:
    reply = Reply()
    reply.take(Progress(stage="prompt"))
    assert reply.first_s is None
    assert reply.finish == ""


def test_leaving_early_stops_the_answer_and_waits_for_its_end() -> None:
    ended = threading.Event()

    def generate(stop: Stop) -> Iterator[Event]:
        try:
            yield Text(text="a")
            assert stop.wait(10)
            yield Done(finishes=(Finish(reason="cancelled"),))
        finally:
            ended.set()

    with Answer(generate) as events:
        assert next(iter(events)) == Text(text="a")
    assert ended.is_set()


def test_a_fault_in_the_thread_reaches_the_reader() -> None:
    def generate(stop: Stop) -> Iterator[Event]:
        yield Text(text="a")
        raise Invalid("no.")

    with pytest.raises(Invalid), Answer(generate) as events:
        list(events)


def test_waiting_gives_the_result_or_the_trouble() -> None:
    ticks: list[float] = []
    release = threading.Event()

    def tick(seconds: float) -> None:
        ticks.append(seconds)
        release.set()

    assert waited(lambda: release.wait(10), tick) is True
    assert ticks
    with pytest.raises(ZeroDivisionError):
        waited(lambda: 1 / 0, tick)


def test_a_bench_counts_tokens_and_sorts_times() -> None:
    now = time.perf_counter()
    requests = [
        Request(began=now, arrivals=[now + 0.1 * at, now + 0.1 * at + 0.01], prompt_tokens=5, tokens=2)
        for at in range(1, 5)
    ]
    result = summary(requests, 2.0, 2)
    assert (result["completion_tokens"], result["prompt_tokens"], result["tokens_per_s"]) == (8, 20, 4.0)
    assert result["first_token_ms_p50"] == pytest.approx(250, abs=0.01)
    assert result["first_token_ms_p95"] == pytest.approx(400, abs=0.01)
    assert result["between_tokens_ms_p50"] == pytest.approx(10, abs=0.01)


def test_tokens_that_come_in_one_piece_are_counted_each() -> None:
    result = summary([Request(began=0.0, arrivals=[1.0, 1.1], tokens=11), Request(began=0.0, tokens=1)], 2.0, 1)
    assert result["between_tokens_ms_p50"] == pytest.approx(10, abs=0.01)


def test_a_bench_of_nothing_has_no_times() -> None:
    assert summary([], 0.0, 1)["first_token_ms_p50"] is None


@pytest.mark.parametrize("text", ["plain", "line\nline\ttab", "žluť 狐 🦊"])
def test_words_are_printed_as_they_are(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize("text", ["\x1b[2J", "\x07", "\r", "\x9b2J", "\x7f", "\x00"])
def test_what_commands_a_terminal_is_not(text: str) -> None:
    assert not set(printable(text)) & set("\x1b\x07\r\x9b\x7f\x00")


def test_facts_become_json() -> None:
    match = FormatMatch(format="echo", entry="a", files=("a",), evidence=Evidence.MAGIC, why="w")
    assert json.loads(document.text({"match": match, 1: {"x"}}))["match"]["evidence"] == "magic"
    assert document.text(["狐"]) == '["狐"]'
