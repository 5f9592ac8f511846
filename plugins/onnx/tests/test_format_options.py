"""The load options: what is refused, and that what a refusal suggests is taken."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from anyform.contract.errors import Invalid
from anyform_onnx import options


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("threads", 0), ("threads", 9999), ("threads", "x"), ("inter_threads", 100_000), ("batch", -1),
        ("optimization", "most"), ("pooling", "median"), ("providers", ""), ("providers", [1]),
        ("provider_options", "cuda"), ("hypothesis_template", "no place for a label"), ("max_pixels", 0),
    ],
)  # fmt: skip
def test_what_is_none_is_refused_with_its_name_and_value(name: str, value: Any) -> None:
    with pytest.raises(Invalid, match=re.escape(repr(value))) as caught:
        options.read({name: value})
    assert name in caught.value.message


def test_the_table_that_a_refusal_suggests_is_one() -> None:
    with pytest.raises(Invalid) as caught:
        options.read({"provider_options": "device_id=0"})
    suggested = json.loads(re.findall(r"such as (\{.*\})", caught.value.hint)[0])
    assert options.read({"provider_options": suggested}).provider_options == {"cuda": {"device_id": "0"}}
