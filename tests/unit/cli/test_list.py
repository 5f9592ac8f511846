"""What `anyform list` says in words."""

from __future__ import annotations

import pytest

from anyform.cli.list import _why_not
from anyform.contract.errors import EngineMissing, Fault, NoBackend
from anyform.contract.facts import Evidence, FormatMatch, Metadata
from anyform.kernel.entry import Entry
from anyform.kernel.runtime import Description


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (
            NoBackend("m:Q8 cannot run on npu: its engine: none was found (at /x).", "Try."),
            "its engine: none was found (at /x)",
        ),
        (NoBackend("m:Q8 cannot run on npu.", "Try."), "m:Q8 cannot run on npu"),
        (NoBackend("no installed backend reads m:Q8.", "Try."), "no installed backend reads m:Q8"),
        (EngineMissing("m:Q8 needs an engine.", "Install it with: pip install x"), "Install it with: pip install x"),
    ],
)
def test_why_nothing_runs_it_is_the_reason_alone(fault: Fault, said: str) -> None:
    match = FormatMatch(format="f", entry="m", files=("m",), evidence=Evidence.NAME, why="made up")
    entry = Entry(name="m:Q8", path="/x", plugin="p", match=match)
    known = Metadata(name="m", architecture="a", tasks=("chat",))
    assert _why_not(Description(entry=entry, metadata=known, fault=fault)) == said
