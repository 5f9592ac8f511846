"""The context rules by a table."""

from __future__ import annotations

import pytest

from anyform.contract.facts import MemoryEstimate
from anyform.kernel.context import FALLBACK, size

MIB = 1 << 20
E = MemoryEstimate(weights_bytes=100 * MIB, bytes_per_token=MIB // 16)


@pytest.mark.parametrize(
    ("asked", "trained", "free", "parallel", "tokens", "fits"),
    [
        (512, 4096, 1000 * MIB, 1, 512, True),
        (None, 4096, 1000 * MIB, 1, 4096, True),
        (None, 40960, 1000 * MIB, 1, 8192, True),  # (800 - 100) * 16 = 11200
        (None, 40960, 1000 * MIB, 4, 2048, True),
        (None, None, 1000 * MIB, 1, FALLBACK, True),
        (16000, 40960, 1000 * MIB, 1, 16000, False),  # 14400 fit
        (14400, 40960, 1000 * MIB, 1, 14400, True),
        (512, 4096, 50 * MIB, 1, 512, False),  # not even the weights
        (None, 4096, 0, 1, 4096, True),  # unknown memory
    ],
)
def test_which_context(
    asked: int | None, trained: int | None, free: int, parallel: int, tokens: int, fits: bool
) -> None:
    found = size(asked, trained, E, free, parallel)
    assert (found.tokens, found.fits) == (tokens, fits)
    assert found.why


def test_only_a_computed_context_is_capped_and_says_so() -> None:
    assert "does not fit" in size(None, 40960, E, 1000 * MIB, 1).warning
    assert size(512, 4096, E, 1000 * MIB, 1).warning == ""
    assert "over the 4096" in size(5000, 4096, E, 1000 * MIB, 1).warning


def test_a_refusal_names_the_largest_that_fits() -> None:
    assert size(16000, 40960, E, 1000 * MIB, 1).largest == 14400


def test_a_model_without_tokens_has_no_context() -> None:
    assert size(None, None, MemoryEstimate(weights_bytes=MIB), 10 * MIB, 1).tokens is None
