"""What `anyform estimate` says in words."""

from __future__ import annotations

import pytest

from anyform.cli.estimate import _facts
from anyform.contract.facts import Evidence, FormatMatch, Metadata
from anyform.kernel.entry import Entry
from anyform.kernel.router import Decision, Memory


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
