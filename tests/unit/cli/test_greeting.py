"""What `serve` says of each model when it is ready."""

from __future__ import annotations

from anyform.cli.greeting import _runs_on
from anyform.contract.facts import Evidence, FormatMatch, Metadata, Plan, Settings
from anyform.kernel.router import Decision, Verdict

MATCH = FormatMatch(format="x", entry="m", files=("m",), evidence=Evidence.MAGIC, why="so")
PLAN = Plan(
    plugin="command", backend="recent", model="m", path="/", match=MATCH, metadata=Metadata(), settings=Settings()
)


def test_one_of_several_backends_of_a_plugin_is_told_by_its_own_name() -> None:
    recent, old = (Verdict(plugin="command", backend=name, format="x", points=9) for name in ("recent", "old"))
    decision = Decision(model="m", task=None, plan=PLAN, verdicts=(recent, old))
    assert _runs_on(decision) == ("recent", "green")
    assert _runs_on(Decision(model="m", task=None, plan=PLAN, verdicts=(recent,))) == ("command", "green")
