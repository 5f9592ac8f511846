"""The table of layouts by itself: sizes as the headers compile, and where the ABIs differ."""

from __future__ import annotations

import ctypes

import pytest

from anyform_rkllm.layout import ABIS, SIZES, Era

PLACES = {
    ("Param", "top_k"): (16, 16, 16, 16),
    ("Param", "top_p"): (20, 24, 24, 24),
    ("Param", "skip_special_token"): (52, 56, 56, 56),
    ("Param", "extend_param"): (80, 88, 88, 60),
    ("Input", "input_type"): (0, 0, 12, 12),
    ("Input", "data"): (8, 8, 16, 16),
    ("InferParam", "prompt_cache_params"): (16, 16, 16, 16),
    ("Result", "last_hidden_layer"): (16, 16, 16, 16),
}


@pytest.mark.parametrize("era", Era)
def test_sizes(era: Era) -> None:
    structures = ABIS[era].structures
    assert {name: ctypes.sizeof(structures[name]) for name in SIZES} == {name: of[era] for name, of in SIZES.items()}


@pytest.mark.parametrize("era", Era)
def test_places(era: Era) -> None:
    found = {(name, field): getattr(ABIS[era].structures[name], field).offset for name, field in PLACES}
    assert found == {key: places[era] for key, places in PLACES.items()}


def test_fields_that_not_all_have() -> None:
    def first(structure: str, field: str) -> list[Era]:
        return [era for era in Era if field in dict(ABIS[era].structures[structure]._fields_)]

    assert first("Param", "n_keep") == [Era.V120, Era.V121, Era.V13]
    assert first("Param", "img_start") == [Era.V11, Era.V120, Era.V121]
    assert first("ExtendParam", "n_batch") == [Era.V121, Era.V13]
    assert first("Input", "role") == [Era.V121, Era.V13]
    assert first("InferParam", "sampling_params") == [Era.V13]
    assert first("Result", "perf") == [Era.V121, Era.V13]


@pytest.mark.parametrize("era", Era)
def test_what_an_abi_can(era: Era) -> None:
    abi = ABIS[era]
    told = (abi.keeps_history, abi.has_roles, abi.measures, abi.samples_per_run)
    assert told == (era > Era.V11, era > Era.V120, era > Era.V120, era > Era.V121)
    assert abi.name == ("1.1", "1.2.0", "1.2.1", "1.3")[era]


def test_values_go_where_they_are_named() -> None:
    param = ABIS[Era.V13].new("Param", top_k=7, temperature=0.5)
    assert (param.top_k, param.temperature, param.model_path) == (7, 0.5, None)
