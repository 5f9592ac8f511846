"""Lanes: torch itself computes a call with the threads that the call is given."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytestmark = pytest.mark.engine

PATIENCE_S = 30


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_torch_gets_all_threads_or_its_share() -> None:
    from anyform.text.lane import Lanes
    from anyform_hf_transformers.encoder import use_threads

    lanes, end = Lanes(2, 100, use_threads), threading.Event()
    begun, given = [threading.Event(), threading.Event()], [0, 0]

    def call(place: int) -> None:
        given[place] = torch.get_num_threads()
        begun[place].set()
        end.wait(PATIENCE_S)

    for place in (0, 1):
        lanes.wait()
        lanes.run(lambda place=place: call(place), 10, more=False)
        assert begun[place].wait(PATIENCE_S)
    end.set()
    lanes.close()
    assert given == [2, 1], "what nothing waits beside gets all, and who comes then its share"
