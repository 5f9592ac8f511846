"""The context rules by a table."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from anyform.contract.facts import MemoryEstimate, Settings
from anyform.kernel.context import FALLBACK, Context, Sizing, most
from anyform.kernel.context import size as sized

MIB = 1 << 20
E = MemoryEstimate(weights_bytes=100 * MIB, bytes_per_token=MIB // 16)


def size(
    asked: int | None,
    trained: int | None,
    said: MemoryEstimate,
    free_bytes: int,
    parallel: int,
    sizing: Sizing | None = None,
    names: Sequence[str] = (),
) -> Context:
    """Where nothing but the cache grows with the context."""
    return sized(Settings(context=asked, parallel=parallel), trained, said, said.at, free_bytes, sizing, names)


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


def test_what_grows_with_the_context_beside_the_cache_counts() -> None:
    def needs(settings: Settings) -> int:
        return E.at(settings) + (settings.context or 0) * (MIB // 16)

    wanted = Settings(parallel=1)
    assert sized(wanted, 8192, E, needs, 1000 * MIB).tokens == 4096  # (800 - 100) * 16 / 2 = 5600
    assert not sized(Settings(context=8192), 8192, E, needs, 1000 * MIB).fits
    assert sized(Settings(context=7200), 8192, E, needs, 1000 * MIB).fits


def test_what_fits_as_it_is_is_never_rounded_down() -> None:
    assert size(None, 10000, E, 1000 * MIB, 1).tokens == 10000  # 11200 would fit


@pytest.mark.parametrize(("holds", "found"), [(0, 0), (1, 1), (7, 7), (10, 10), (99, 10)])
def test_the_most_that_holds(holds: int, found: int) -> None:
    assert most(10, lambda number: number <= holds) == found


def test_a_model_without_tokens_has_no_context() -> None:
    assert size(None, None, MemoryEstimate(weights_bytes=MIB), 10 * MIB, 1).tokens is None


def test_what_nothing_is_known_of_is_capped_too() -> None:
    found = size(None, None, E, 200 * MIB, 4)
    assert (found.tokens, found.fits) == (256, True)  # (160 - 100) * 16 / 4 = 240: the least
    assert "2048: the model does not say" in found.why
    assert "does not fit" in found.warning


def test_not_even_the_weights_fit_whatever_the_rule() -> None:
    assert not size(None, 4096, E, 50 * MIB, 1).fits
    assert not size(None, 4096, MemoryEstimate(weights_bytes=100 * MIB), 50 * MIB, 1).fits
    assert not size(None, None, MemoryEstimate(weights_bytes=100 * MIB), 50 * MIB, 1).fits


NAMED = Sizing(patterns={"*long*": 8192, "*small-?b*": 512, "*small*": 1024})


@pytest.mark.parametrize(
    ("names", "trained", "tokens", "why"),
    [
        (("Owner/Very-LONG:Q4", ""), None, 8192, "by its name, *long*"),
        (("x", "A Small One"), None, 1024, "by its name, *small*"),
        (("small-7b", ""), None, 512, "by its name, *small-?b*"),
        (("long", ""), 4096, 4096, "trained for"),
        (("other", ""), None, FALLBACK, "the default"),
    ],
)
def test_a_name_tells_what_the_model_does_not(
    names: tuple[str, ...], trained: int | None, tokens: int, why: str
) -> None:
    found = size(None, trained, E, 0, 1, NAMED, names)
    assert (found.tokens, why in found.why) == (tokens, True)
    assert size(300, trained, E, 0, 1, NAMED, names).tokens == 300


def test_a_context_by_name_is_capped_as_any() -> None:
    found = size(None, None, E, 500 * MIB, 1, NAMED, ("long",))
    assert (found.tokens, "*long*" in found.why) == (4096, True)


def test_the_factors_can_be_changed() -> None:
    assert size(None, 40960, E, 1000 * MIB, 1, Sizing(share=0.5)).tokens == 4096
    assert size(None, None, E, 1000 * MIB, 1, Sizing(fallback=512)).tokens == 512
    assert size(None, 4096, E, 126 * MIB, 1, Sizing(least=64)).tokens == 64
    assert "50%" in size(None, 40960, E, 1000 * MIB, 1, Sizing(share=0.5)).why
