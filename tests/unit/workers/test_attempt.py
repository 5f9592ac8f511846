"""The order of tries at one load."""

from __future__ import annotations

from anyform.contract.facts import Evidence, FormatMatch, Metadata, Plan, Reduction, Settings
from anyform.workers.attempt import attempts

MATCH = FormatMatch(format="f", entry="m", files=("m",), evidence=Evidence.MAGIC, why="w")
PLAN = Plan(
    plugin="p", backend="b", model="m", path="/", match=MATCH, metadata=Metadata(), settings=Settings(context=4096)
)
STEPS = (
    Reduction(options={"repack": False}, why="no repacking"),
    Reduction(options={"layers": 0}, why="no GPU"),
    Reduction(context_factor=0.5, why="half the context"),
)


def tries(
    plan: Plan = PLAN, learned: dict[str, object] | None = None, asked: bool = False
) -> list[tuple[object, object]]:
    return [(dict(a.options), a.plan.settings.context) for a in attempts(plan, STEPS, learned or {}, "known", asked)]


def test_reductions_come_in_order_and_add_up() -> None:
    assert tries() == [
        ({}, 4096),
        ({"repack": False}, 4096),
        ({"repack": False, "layers": 0}, 4096),
        ({"repack": False, "layers": 0}, 2048),
    ]


def test_what_was_learnt_comes_first_and_is_not_tried_twice() -> None:
    assert tries(learned={"repack": False})[:2] == [({"repack": False}, 4096), ({"repack": False, "layers": 0}, 4096)]


def test_nothing_that_the_user_set_is_reduced() -> None:
    plan = Plan(
        plugin="p",
        backend="b",
        model="m",
        path="/",
        match=MATCH,
        metadata=Metadata(),
        settings=Settings(context=4096, options={"repack": True, "layers": 20}),
    )
    assert tries(plan, {"repack": False}, asked=True) == [({}, 4096)]
    assert all(a.plan.settings.options["repack"] is True for a in attempts(plan, STEPS, {"repack": False}, "", False))
