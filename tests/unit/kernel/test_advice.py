"""What is advised for a model that does not fit: each with what it saves, and whether that is enough."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from anyform.contract.facts import Evidence, FormatMatch, MemoryEstimate, Saving, Settings
from anyform.kernel.advice import Advice, advise, sentence, smaller
from anyform.kernel.entry import Entry

MIB = 1 << 20
SMALL_CACHE = Saving(options={"cache": "q8", "kv": 1}, bytes=190 * MIB, why="hardly another answer")
HALF = Saving(options={"gpu_layers": 8}, bytes=250 * MIB, why="slower", moves=True)
SAID = MemoryEstimate(
    weights_bytes=100 * MIB, bytes_per_token=MIB // 10, overhead_bytes=20 * MIB, savings=(SMALL_CACHE, HALF)
)
WANTED = Settings(context=1000, parallel=4)
"""Four caches of 100 MiB: 520 MiB in all."""


def given(
    room: int,
    trained: int | None = None,
    settings: Settings = WANTED,
    alone: bool = False,
    needs: Callable[[Settings], int] = SAID.at,
    **variants: int,
) -> dict[str, tuple[int, bool]]:
    sizes = {name: size * MIB for name, size in variants.items()}
    told = advise(SAID.savings, settings, needs, room * MIB, trained, sizes, alone)
    return {one.text.split(" (")[0]: (round(one.saves_bytes / MIB), one.enough) for one in told}


def test_each_is_told_with_what_it_saves_and_what_is_enough_comes_first() -> None:
    said = given(320, tiny=90)
    assert said == {
        "--context 500": (200, True),
        "--parallel 2": (200, True),
        "--option cache=q8 --option kv=1": (190, False),
        "the smaller tiny": (90, False),
    }
    assert [enough for _, enough in said.values()] == [True, True, False, False]


def test_fewer_requests_are_as_many_as_fit() -> None:
    assert "--parallel 3" in given(420)
    assert "--parallel 1" in given(230)
    assert given(130)["--parallel 1"] == (300, False)
    assert not [text for text in given(120, settings=Settings(context=1000, parallel=1)) if "parallel" in text]


def test_a_context_is_advised_only_where_a_smaller_one_fits() -> None:
    assert "--context 500" in given(320)
    assert not [text for text in given(110) if "context" in text]
    assert not [text for text in given(90, settings=Settings(parallel=4)) if "context" in text]


def test_no_context_is_advised_over_what_the_model_was_trained_for() -> None:
    assert "--context 400" in given(320, trained=400)
    assert "--context 500" in given(320, trained=600)


def test_what_grows_beside_the_cache_is_judged_as_advised() -> None:
    """With buffers of 1 MiB a request and 0.1 MiB a token, none of which a smaller one needs."""

    def needs(settings: Settings) -> int:
        return SAID.at(settings) + (settings.parallel or 1) * MIB + (settings.context or 0) * (MIB // 10)

    many = Settings(context=1000, parallel=1_000_000)
    assert [text for text, (_, enough) in given(420, settings=many, needs=needs).items() if enough] == ["--parallel 1"]
    long = Settings(context=100_000_000, parallel=1)
    assert given(420, settings=long, needs=needs)["--context 1495"][1]
    said = given(420, trained=2000, settings=Settings(context=100_000_000, parallel=1_000_000), needs=needs)
    assert [text for text, (_, enough) in said.items() if enough] == ["--context 1495 --parallel 1"]


def test_what_saves_nothing_is_no_advice() -> None:
    assert not [text for text in given(90, needs=lambda _: 100 * MIB) if "parallel" in text]


@pytest.mark.parametrize(
    ("room", "chosen"), [(500, "a"), (400, "b"), (300, "c"), (10, "c")], ids=["mildest", "next", "most", "none enough"]
)
def test_of_smaller_variants_the_mildest_that_is_enough(room: int, chosen: str) -> None:
    said = given(room, c=230, a=60, b=150)
    assert [text for text in said if text.startswith("the smaller")] == [f"the smaller {chosen}"]
    assert said[f"the smaller {chosen}"][1] == (room != 10)


def test_moving_to_main_memory_helps_only_what_lies_on_an_accelerator_alone() -> None:
    assert "--option gpu_layers=8" in given(320, alone=True)
    assert "--option gpu_layers=8" not in given(320, alone=False)


def test_a_refusal_ends_with_what_is_enough_or_with_all() -> None:
    enough = Advice(text="--context 7", saves_bytes=3 * MIB, enough=True)
    little = Advice(text="--parallel 1", saves_bytes=MIB, enough=False)
    assert sentence((enough, little)) == "Try --context 7: 3.0 MiB less"
    assert sentence((little,)) == "Try --parallel 1: 1.0 MiB less, not enough alone"
    assert sentence(()) == "Try a smaller quantization"


def test_variants_are_the_smaller_ones_of_the_same_group() -> None:
    def entry(name: str, size: int, *groups: str) -> Entry:
        match = FormatMatch(format="x", entry=name, files=(name,), evidence=Evidence.NAME, why="")
        facts: dict[str, Any] = {"path": "/", "plugin": "p", "match": match}
        return Entry(name=name, groups=groups, size_bytes=size, **facts)

    big = entry("m:big", 100, "m")
    others = [big, entry("m:small", 30, "m", "n"), entry("m:huge", 200, "m"), entry("k:small", 10, "k")]
    assert smaller(big, others) == {"m:small": 70}
    assert smaller(entry("alone", 100), others) == {}
