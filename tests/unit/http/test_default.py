"""What a rule fills in where a request says nothing, also where it says it in another way."""

from __future__ import annotations

from typing import Any

import pytest

from anyform.http.default import completed
from anyform.kernel.rule import Rule

RULE = {
    "size": "64x64",
    "steps": 20,
    "guidance_scale": 3.5,
    "output_format": "jpeg",
    "output_compression": 80,
    "negative_prompt": "dogs",
}


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ({}, set(RULE)),
        ({"size": None, "steps": None}, set(RULE)),
        ({"width": 32, "height": 32}, set(RULE) - {"size"}),
        ({"num_inference_steps": 5}, set(RULE) - {"steps"}),
        ({"quality": "high"}, set(RULE) - {"steps"}),
        ({"quality": "auto"}, set(RULE)),
        ({"quality": "standard", "size": "auto"}, set(RULE)),
        ({"guidance": 1}, set(RULE) - {"guidance_scale"}),
        ({"output_format": "png"}, set(RULE) - {"output_format", "output_compression"}),
        ({"negative_prompt": ""}, set(RULE) - {"negative_prompt"}),
    ],
)
def test_who_says_a_thing_in_another_way_means_none_of_the_rule(given: dict[str, Any], left: set[str]) -> None:
    full = completed({"model": "m", **given}, Rule(request=RULE))
    assert {name for name, value in RULE.items() if full.get(name) == value} == left
    said = {name: value for name, value in given.items() if value is not None and name not in left}
    assert said.items() <= full.items()
