"""Which fault is told when neither a load nor its reduced tries succeed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from anyform.contract.errors import Fault, LoadFailed, OutOfMemory
from anyform.contract.facts import BackendInfo, Capabilities, Evidence, FormatMatch, Metadata, Plan, Reduction, Settings
from anyform.contract.model import LoadedModel
from anyform.kernel.news import News
from anyform.kernel.residence import Order
from anyform.kernel.router import Decision
from anyform.kernel.rule import Rule
from anyform.workers.learned import Learned
from anyform.workers.loads import Loads

MATCH = FormatMatch(format="f", entry="m", files=("m",), evidence=Evidence.MAGIC, why="w")
PLAN = Plan(plugin="p", backend="b", model="m", path="/", match=MATCH, metadata=Metadata(), settings=Settings())
INFO = BackendInfo(
    name="b",
    reads=("f",),
    tasks=("chat",),
    reductions=(Reduction(options={"small": True}), Reduction(options={"smaller": True})),
)


class Failing:
    """A loader none of whose loads succeeds: each ends with the next of *faults*."""

    isolated = True

    def __init__(self, faults: Sequence[Fault]) -> None:
        self._faults = iter(faults)

    def load(self, plan: Plan, progress: object = None) -> LoadedModel:
        raise next(self._faults)

    def rehearse(self, plan: Plan) -> None:
        raise AssertionError("it is isolated")

    def probe(self, plugin: str, backend: BackendInfo) -> Capabilities:
        raise AssertionError("nothing is probed")


def told(*faults: Fault) -> Fault:
    order = Order(
        decision=Decision(model="m", task=None, plan=PLAN, verdicts=(), plans=(PLAN,), estimates=(None,)),
        known={("p", "b"): (INFO, "key")},
        rule=Rule(),
        wanted=Settings(),
    )
    with pytest.raises(Fault) as caught:
        Loads({"worker": Failing(faults)}, "worker", Learned(None), News()).run(order, _admitted)
    return caught.value


def _admitted(needs: Mapping[str, int]) -> Any:
    return None


def test_the_last_reduced_try_tells_what_is_wrong() -> None:
    assert told(LoadFailed("first"), LoadFailed("second"), LoadFailed("third")).message == "third"
    assert told(OutOfMemory("first"), OutOfMemory("second"), LoadFailed("third")).message == "third"
    assert told(OutOfMemory("first"), OutOfMemory("second"), OutOfMemory("third")).message == "third"


def test_memory_that_only_a_reduced_try_lacks_does_not_hide_why_the_model_does_not_load() -> None:
    fault = told(LoadFailed("its weights are torn"), OutOfMemory("no room"), OutOfMemory("no room"))
    assert (type(fault), fault.message) == (LoadFailed, "its weights are torn")
    assert len(fault.details["tried"]) == 3
