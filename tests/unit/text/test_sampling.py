"""Drawing tokens in numpy, against llama.cpp's own samplers and against brute force."""

from __future__ import annotations

import ctypes
import math
import random
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from anyform.contract.errors import Invalid
from anyform.contract.jobs import Sampling
from anyform.text import sampling
from anyform.text.sampling import Recipe, draw, gap, leading, log_softmax_sum, recipe, uniform, weigh

FREE: dict[str, Any] = {
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "typical_p": 1.0,
    "repeat_penalty": 1.0,
    "repeat_last_n": 64,
}


def row_of(size: int, seed: int, spread: float = 4.0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0.0, spread, size).astype(np.float32)


def made(size: int = 1000, **values: Any) -> Recipe:
    return recipe(Sampling(**{**FREE, **values}), {}, size)


def test_defaults_are_the_models_then_llama_cpps() -> None:
    filled = recipe(Sampling(min_p=0.2), {"top_k": 7}, 100)
    assert (filled.min_p, filled.top_k, filled.top_p, filled.temperature) == (0.2, 7, 0.95, 0.8)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -1.0),
        ("temperature", math.nan),
        ("top_p", 1.5),
        ("min_p", -0.1),
        ("typical_p", 2.0),
        ("repeat_penalty", 0.0),
        ("logit_bias", {100: 1.0}),
        ("logit_bias", {-1: 1.0}),
    ],
)
def test_values_out_of_range_are_refused(field: str, value: Any) -> None:
    with pytest.raises(Invalid, match=field):
        recipe(Sampling(**{field: value}), {}, 100)


def test_uniform_depends_on_its_arguments_only_and_fills_the_interval() -> None:
    numbers = [uniform(seed, index, position) for seed in range(10) for index in range(10) for position in range(100)]
    assert numbers[:5] == [uniform(0, 0, position) for position in range(5)]
    assert len(set(numbers)) == len(numbers)
    assert min(numbers) < 0.001
    assert max(numbers) > 0.999
    assert 0.49 < sum(numbers) / len(numbers) < 0.51
    assert uniform(-1, 0, 0) == uniform(2**64 - 1, 0, 0)


@pytest.mark.parametrize("size", [7, 100, 32_000, 151_936])
@pytest.mark.parametrize("count", [1, 5, 40, 500])
def test_leading_is_what_sorting_gives(size: int, count: int) -> None:
    row = np.round(row_of(size, size + count), 1)
    expected = sorted(range(size), key=lambda id: (-row[id], id))[:count]
    assert leading(row, count).tolist() == expected


def test_leading_leaves_out_what_is_forbidden() -> None:
    row = np.full(50_000, -np.inf, np.float32)
    row[[7, 49_999, 123]] = [1.0, 3.0, 2.0]
    assert leading(row, 40).tolist() == [49_999, 123, 7]


SETTINGS = [
    {"top_k": 40},
    {"top_k": 1},
    {"top_p": 0.9},
    {"top_p": 0.999},
    {"top_p": 0.0},
    {"min_p": 0.1},
    {"typical_p": 0.5},
    {"top_k": 40, "top_p": 0.95, "min_p": 0.05},
    {"top_p": 0.8, "min_p": 0.02},
    {"top_k": 20, "typical_p": 0.7, "top_p": 0.9},
    {"typical_p": 0.9, "min_p": 0.01},
]


@pytest.mark.parametrize("values", SETTINGS)
@pytest.mark.parametrize("spread", [0.5, 3.0, 8.0])
def test_the_candidates_are_llama_cpps(values: dict[str, Any], spread: float) -> None:
    for seed in range(5):
        row = row_of(5000, seed, spread)
        ids, _ = sampling._candidates(row.copy(), made(5000, **values))
        theirs = set(llama_candidates(row, values))
        # llama.cpp adds thousands of probabilities in single precision, so a border may lie a few tokens off
        assert len(theirs.symmetric_difference(ids.tolist())) <= len(theirs) // 500


def llama_candidates(row: NDArray[np.float32], values: dict[str, Any]) -> list[int]:
    llama = pytest.importorskip("llama_cpp").llama_cpp
    data = (llama.llama_token_data * len(row))(*[llama.llama_token_data(i, float(x), 0.0) for i, x in enumerate(row)])
    array = llama.llama_token_data_array(data, len(row), -1, False)
    steps = [
        llama.llama_sampler_init_top_k(values.get("top_k", 0)),
        llama.llama_sampler_init_typical(values.get("typical_p", 1.0), 0),
        llama.llama_sampler_init_top_p(values.get("top_p", 1.0), 0),
        llama.llama_sampler_init_min_p(values.get("min_p", 0.0), 0),
    ]
    for step in steps:
        llama.llama_sampler_apply(step, ctypes.byref(array))
        llama.llama_sampler_free(step)
    return [array.data[place].id for place in range(array.size)]


@pytest.mark.parametrize("values", [{}, {"top_k": 5}, {"temperature": 0.3, "top_k": 40}, {"top_p": 0.7}])
def test_tokens_come_as_often_as_they_are_likely(values: dict[str, Any]) -> None:
    row = row_of(300, 3, 2.0)
    filled = made(300, **values)
    ids, logits = sampling._candidates(row.copy(), filled)
    likely = np.exp(logits.astype(np.float64) / filled.temperature)
    likely /= likely.sum()
    drawn = [draw(row.copy(), filled, uniform(1, 0, place))[0] for place in range(4000)]
    for id, expected in zip(ids[:10], likely[:10], strict=True):
        assert drawn.count(id) / len(drawn) == pytest.approx(expected, abs=0.03)
    assert set(drawn) <= set(ids.tolist())


def test_a_draw_tells_how_near_another_token_was() -> None:
    row = np.log(np.array([0.25, 0.5, 0.25], np.float32))
    for chance, token, distance in ((0.3, 1, 0.05), (0.0, 0, 0.25), (0.999, 2, 0.249)):
        drawn, near = draw(row.copy(), made(3), chance)
        assert drawn == token
        assert near == pytest.approx(distance, abs=1e-6)


@pytest.mark.parametrize("values", [{}, {"top_k": 5}, {"top_p": 0.5}, {"min_p": 0.5}, {"typical_p": 0.5}])
def test_where_nothing_may_come_nothing_is_drawn(values: dict[str, Any]) -> None:
    row = np.full(1000, -np.inf, np.float32)
    assert draw(row, made(1000, **values), 0.5) == (-1, 0.0)
    row[77] = -3.0
    assert draw(row, made(1000, **values), 0.5)[0] == 77


def test_last_bits_do_not_change_a_draw() -> None:
    chance = random.Random(5)
    row = row_of(20_000, 9)
    for values in ({}, {"top_k": 40, "top_p": 0.95, "min_p": 0.05}, {"min_p": 0.05}):
        filled = made(20_000, **values)
        same = 0
        for place in range(200):
            noise = np.array([chance.uniform(-1e-5, 1e-5) for _ in range(64)], np.float32)
            other = row + np.resize(noise, row.size)
            at = uniform(3, 0, place)
            same += draw(row.copy(), filled, at)[0] == draw(other, filled, at)[0]
        assert same >= 199


def test_repeat_penalty_looks_at_the_last_tokens_of_prompt_and_answer() -> None:
    row = np.array([2.0, -2.0, 2.0, 2.0], np.float32)
    weigh(row, made(4, repeat_penalty=2.0, repeat_last_n=3), [3, 0, 0, 1], 2)
    assert row.tolist() == [1.0, -4.0, 2.0, 2.0]


def test_presence_and_frequency_count_the_answer_only() -> None:
    row = np.zeros(4, np.float32)
    weigh(row, made(4, presence_penalty=0.5, frequency_penalty=0.25), [0, 0, 1, 2, 2], 2)
    assert row.tolist() == [0.0, -0.75, -1.0, 0.0]


def test_bias_is_added_and_bans_are_final() -> None:
    filled = recipe(Sampling(logit_bias={1: 3.0}), {}, 4, banned=[2])
    row = np.zeros(4, np.float32)
    weigh(row, filled, [], 0)
    assert row.tolist() == [0.0, 3.0, -math.inf, 0.0]


def test_gap_is_to_the_second_and_leaves_the_row_as_it_was() -> None:
    row = np.array([1.0, 5.0, 4.5], np.float32)
    assert gap(row, 1) == 0.5
    assert row.tolist() == [1.0, 5.0, 4.5]


def test_log_softmax_sum() -> None:
    row = row_of(1000, 1)
    assert np.exp(row - log_softmax_sum(row)).sum() == pytest.approx(1.0, abs=1e-4)
