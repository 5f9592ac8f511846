"""Configurations that want code from the Hub are told apart from those that do not, wherever they say it."""

from __future__ import annotations

from typing import Any

import pytest

from anyform.pretrained import attention


@pytest.mark.parametrize(
    "said",
    [
        {"attn_implementation": "evil/kernel"},
        {"_attn_implementation": "evil/kernel"},
        {"_experts_implementation": "evil/kernel"},
        {"attn_implementation": {"": "sdpa", "vision_config": "evil/kernel"}},
        {"text_config": {"attn_implementation": "evil/kernel"}},
    ],
)
def test_kernels_of_the_hub(said: dict[str, Any]) -> None:
    assert attention.fetched(said) == attention.fetched(said, attention.INSTALLED) == "evil/kernel"


@pytest.mark.parametrize("said", [{}, {"attn_implementation": None}, {"attn_implementation": "sdpa"}, {"a": ["x/y"]}])
def test_ways_of_torch(said: dict[str, Any]) -> None:
    assert not attention.fetched(said)


def test_packages_count_where_they_may_be_used() -> None:
    said = {"_attn_implementation": "flash_attention_2"}
    assert attention.fetched(said) == "flash_attention_2"
    assert not attention.fetched(said, attention.INSTALLED)
