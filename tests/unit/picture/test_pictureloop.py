"""Batches of pictures: each gets its own row or is told why not; by an engine of a few lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from anyform.contract.errors import Fault
from anyform.contract.model import Stop

np = pytest.importorskip("numpy")

from anyform.picture.pictureloop import PictureLoop  # noqa: E402 - numpy may be absent
from anyform.picture.seen import Seen  # noqa: E402
from anyform.text.vectormodel import VectorTicket  # noqa: E402

PATIENCE_S = 30


class First:
    """Gives the first number of each picture; *most* rows of a step, however many are asked for."""

    def __init__(self, most: int, deadly: bool = False) -> None:
        self.most, self.deadly = most, deadly

    def rows(self, inputs: Sequence[Seen]) -> Any:
        if self.deadly:
            raise SystemExit("the engine ends everything")
        return np.array([[one.arrays["x"][0]] for one in inputs][: self.most], np.float32)

    def free(self) -> None:
        """There is nothing."""


def submit(loop: PictureLoop, *numbers: float) -> VectorTicket:
    ticket = VectorTicket([Seen((), arrays={"x": np.array([number])}) for number in numbers], Stop())
    loop.submit(ticket)
    return ticket


def started(engine: First) -> PictureLoop:
    return PictureLoop(engine, 8, lambda index, error: Fault(f"input {index}: {error}"))


def test_a_model_that_gives_one_row_of_several_pictures_is_asked_for_each() -> None:
    loop = started(First(1))
    ticket = submit(loop, 3.0, 4.0, 5.0)
    found = dict(one for _ in range(3) if isinstance(one := ticket.results.get(timeout=PATIENCE_S), tuple))
    assert {place: row.tolist() for place, row in found.items()} == {0: [3.0], 1: [4.0], 2: [5.0]}
    loop.close()


def test_a_model_that_gives_none_fails_the_request_and_goes_on() -> None:
    loop = started(First(0))
    for _ in range(2):
        said = str(submit(loop, 3.0, 4.0).results.get(timeout=PATIENCE_S))
        assert said == "input 0: the model gives 0 rows for 1 inputs"
    loop.close()


def test_what_breaks_the_thread_is_told_those_who_were_computed() -> None:
    loop = started(First(8, deadly=True))
    assert "the engine ends everything" in str(submit(loop, 3.0).results.get(timeout=PATIENCE_S))
    loop.close()
