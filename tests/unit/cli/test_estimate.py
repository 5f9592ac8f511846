"""What `anyform estimate` says in words."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from typing import Any

import pytest

from anyform.cli.estimate import _facts, _print
from anyform.cli.terminal import Terminal
from anyform.contract.facts import Evidence, FormatMatch, Metadata
from anyform.kernel.entry import Entry
from anyform.kernel.router import Decision, Memory, Verdict


@pytest.mark.parametrize(
    ("context", "parallel", "task", "told"),
    [
        (8, 4, "chat", "4 requests, each with the whole context"),
        (8, 1, "chat", "1 request"),
        (None, 4, "speak", "4 requests"),
        (None, 4, "image", ""),
        (None, 1, "edit_image", ""),
    ],
)
def test_how_many_at_once_is_told_of_all_but_painters(context: int | None, parallel: int, task: str, told: str) -> None:
    match = FormatMatch(format="f", entry="m", files=("m",), evidence=Evidence.NAME, why="made up")
    memory = Memory(
        context=context, parallel=parallel, weights_bytes=1, cache_bytes=1, overhead_bytes=1, total_bytes=3,
        device="cpu", room_bytes=9, fits=True, why="",
    )  # fmt: skip
    entry, known = (
        Entry(name="m", path="/x", plugin="p", match=match),
        Metadata(name="m", architecture="a", tasks=(task,)),
    )
    facts = dict(_facts(entry, known, Decision(model="m", task=None, plan=None, verdicts=()), [], [memory]))
    assert facts["at once"] == told


@pytest.mark.parametrize(
    ("extra", "said", "over"),
    [
        ({}, "trained for 8 tokens", "16: over the 8 that the model was trained for"),
        ({"context_stated": True}, "trained for 8 tokens", "16: over the 8 that the model was trained for"),
        (
            {"context_stated": False},
            "8 tokens are assumed: the file does not say",
            "16: over the 8 that are assumed: the file does not say",
        ),
    ],
)
def test_a_context_that_the_file_does_not_state_is_told_as_assumed(extra: dict[str, Any], said: str, over: str) -> None:
    match = FormatMatch(format="f", entry="m", files=("m",), evidence=Evidence.NAME, why="made up")
    memory = Memory(
        context=16, parallel=1, weights_bytes=1, cache_bytes=1, overhead_bytes=1, total_bytes=3,
        device="cpu", room_bytes=9, fits=True, why="",
    )  # fmt: skip
    entry = Entry(name="m", path="/x", plugin="p", match=match)
    known = Metadata(name="m", architecture="a", tasks=("chat",), context=8, extra=extra)
    decision, verdict = (
        Decision(model="m", task=None, plan=None, verdicts=()),
        Verdict(plugin="p", backend="b", format="f"),
    )
    written = StringIO()
    _print(Terminal(written), entry, known, decision, [replace(verdict, memory=memory)], True)
    assert f", {said}\n" in written.getvalue()
    assert f"note: {over}\n" in written.getvalue()
