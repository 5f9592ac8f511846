"""How rows of logits become labels, best first."""

from __future__ import annotations

import pytest

np = pytest.importorskip("numpy")


def test_the_best_come_first_and_equal_ones_in_their_order() -> None:
    from anyform.text.labelmodel import best

    found = best(("a", "b", "c", "d"), np.array([0.1, 0.4, 0.1, 0.4], np.float32), 3, 3)
    assert (found.labels, found.index) == (("b", "d", "a"), 3)
    assert found.values == pytest.approx((0.4, 0.4, 0.1))


def test_shares_of_large_logits() -> None:
    from anyform.text.labelmodel import softmax

    assert softmax(np.array([1000.0, 999.0], np.float32)) == pytest.approx([0.731059, 0.268941], abs=1e-5)
    assert softmax(np.array([-1000.0, 0.0], np.float32)) == pytest.approx([0.0, 1.0])


def test_several_labels_share_the_entailment_and_one_is_weighed_against_its_contrary() -> None:
    from anyform.text.labelmodel import entailed, softmax

    logits = np.array([[5.0, 0.0, 1.0], [0.0, 0.0, 3.0]], np.float32)
    assert entailed(logits, 2) == pytest.approx(softmax(np.array([1.0, 3.0], np.float32)))
    assert entailed(logits[:1], 2) == pytest.approx([1 / (1 + np.exp(4.0))])
    assert entailed(logits[:1], 0) == pytest.approx([1 / (1 + np.exp(-4.0))]), "its contrary is then the last"
