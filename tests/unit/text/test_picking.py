"""The next token of each answer: the likeliest, and what is told where there is none."""

from __future__ import annotations

from typing import Any

import pytest

from anyform.contract.jobs import Sampling
from anyform.contract.model import Stop

np = pytest.importorskip("numpy")
NAN, LEAST = float("nan"), float("-inf")


def answer(**given: Any) -> Any:
    """Of a request for the likeliest tokens of four."""
    from anyform.text.sampling import recipe
    from anyform.text.ticket import Ticket

    more = {"top_logprobs": given.pop("top_logprobs", -1)}
    sampling = Sampling(**{"temperature": 0.0, **given})
    return Ticket([1], recipe(sampling, {}, 4), 5, Stop(), **more).answers[0]


def test_the_likeliest_token_comes_next() -> None:
    from anyform.text.picking import pick

    rows = np.array([[0, 3, 1, 2], [5, 3, 1, 2], [0, 3, 1, 2]], np.float32)
    found = pick(rows, [answer(), answer(), answer(logit_bias={2: 9.0})])
    assert found.tokens.tolist() == [1, 0, 2]
    assert not found.failures


@pytest.mark.parametrize("given", [{}, {"top_logprobs": 2}, {"seed": 3}, {"logit_bias": {2: 9.0}}])
@pytest.mark.parametrize("row", [[NAN] * 4, [1.0, NAN, 3.0, 2.0]])
def test_numbers_that_are_none_fail_their_request_alone(row: list[float], given: dict[str, Any]) -> None:
    """Of nan no token is the likeliest; the first, or where the nan stands, would be garbage."""
    from anyform.text.picking import PickFailed, pick

    found = pick(np.array([[0, 3, 1, 2], row, [0, 3, 1, 2]], np.float32), [answer(), answer(**given), answer()])
    assert [*found.failures] == [1]
    assert isinstance(found.failures[1], PickFailed)
    assert "nan" in found.failures[1].message
    assert found.tokens[[0, 2]].tolist() == [1, 1]


def test_rules_that_exclude_all_tokens_are_named() -> None:
    from anyform.text.picking import pick

    banned = dict.fromkeys(range(4), LEAST)
    for rows in (np.zeros((1, 4), np.float32), np.full((1, 4), LEAST, np.float32)):
        found = pick(rows, [answer(logit_bias=banned)])
        assert "logit_bias" in found.failures[0].message
    found = pick(np.full((1, 4), LEAST, np.float32), [answer()])
    assert [*found.failures] == [0]
