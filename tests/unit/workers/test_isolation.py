"""What a worker says of the model that it loaded; its version may be another than that of who started it."""

from __future__ import annotations

from typing import Any

import pytest

from anyform.contract.errors import LoadFailed
from anyform.contract.facts import Evidence, FormatMatch, Metadata, Plan, Settings
from anyform.workers import remote
from anyform.workers.isolation import Workers

MATCH = FormatMatch(format="echo", entry="echo.json", files=("echo.json",), evidence=Evidence.MAGIC, why="w")


class Other(remote.Process):
    """A real worker that says other things."""

    said: dict[str, Any]
    last: Other

    def ask(self, order: dict[str, Any], timeout_s: float | None = None) -> Any:
        type(self).last = self
        return {"ready": {**super().ask(order, timeout_s)["ready"], **self.said}}


@pytest.fixture
def plan(tmp_path: Any) -> Plan:
    (tmp_path / "echo.json").write_text('{"format": "echo"}')
    where = {"model": "m", "path": str(tmp_path), "match": MATCH, "metadata": Metadata(), "settings": Settings()}
    return Plan(plugin="echo", backend="echo", **where)


def test_what_it_says_beyond_is_ignored(monkeypatch: pytest.MonkeyPatch, plan: Plan) -> None:
    monkeypatch.setattr(Other, "said", {"mood": "fine"}, raising=False)
    monkeypatch.setattr(remote, "Process", Other)
    model = Workers().load(plan)
    assert model.alive()
    model.close()


def test_one_that_does_not_say_where_it_answers_is_a_fault_and_is_ended(
    monkeypatch: pytest.MonkeyPatch, plan: Plan
) -> None:
    monkeypatch.setattr(Other, "said", {"port": None}, raising=False)
    monkeypatch.setattr(remote, "Process", Other)
    with pytest.raises(LoadFailed, match="does not say where it answers"):
        Workers().load(plan)
    assert not Other.last.alive()
