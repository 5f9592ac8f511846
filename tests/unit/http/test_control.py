"""Settings that come over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from anyform.contract.errors import Fault, RefusedRequest
from anyform.contract.facts import Settings
from anyform.http.control import plain, settings, task
from anyform.http.fields import Fields


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4", 4),
        ("-1.5", -1.5),
        ("true", True),
        ("null", None),
        ("cuda:0", "cuda:0"),
        ("", ""),
        ("NaN", "NaN"),
        ("[1]", "[1]"),
        ('{"a":1}', '{"a":1}'),
        ("[" * 100_000, "[" * 100_000),
        ("9" * 5000, "9" * 5000),
    ],
    ids=lambda value: str(value)[:10],
)
def test_a_querys_value_is_what_it_looks_like(text: str, value: object) -> None:
    assert plain(text) == value


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ({}, None),
        ({"task": "chat"}, None),
        ({"n_ctx": 512}, Settings(context=512)),
        ({"context": 512, "parallel": 2, "device": "cpu"}, Settings(context=512, parallel=2, device="cpu")),
        ({"threads": 4, "mmap": False}, Settings(options={"threads": 4, "mmap": False})),
        ({"threads": 4, "options": {"threads": 8}}, Settings(options={"threads": 8})),
    ],
)
def test_settings(given: dict[str, Any], made: Settings | None) -> None:
    assert settings(given) == made


@pytest.mark.parametrize("value", ["/etc/passwd", "rm", ["a"], {"a": 1}, ""])
def test_only_numbers_and_booleans_are_options(value: object) -> None:
    with pytest.raises(RefusedRequest):
        settings({"lora": value})
    with pytest.raises(RefusedRequest):
        settings({"options": {"command": value}})


@pytest.mark.parametrize(
    ("value", "shown"), [("float16", '{ dtype = "float16" }'), ("x" * 99, "{ dtype = … }"), (["a"], "{ dtype = … }")]
)
def test_a_refused_option_says_where_it_is_set(value: object, shown: str) -> None:
    for local in ((), ("dtype",)):
        with pytest.raises(RefusedRequest) as caught:
            settings({"dtype": value}, local)
        assert f'`options = {shown}` under [model."NAME"] of its settings file' in caught.value.hint


@pytest.mark.parametrize(
    ("given", "param"), [({"context": 0}, "context"), ({"parallel": "x"}, "parallel"), ({"options": 1}, "options")]
)
def test_the_kernels_own_settings_are_checked(given: dict[str, Any], param: str) -> None:
    with pytest.raises(Fault) as caught:
        settings(given)
    assert caught.value.details["param"] == param


def test_a_task_is_one_that_there_is() -> None:
    assert [task(Fields(given)) for given in ({"task": "speak"}, {"task": ""}, {})] == ["speak", "", ""]
    with pytest.raises(Fault, match=r"'task'.*'paint'") as refused:
        task(Fields({"task": "paint"}))
    assert refused.value.code == "invalid_value"
    assert "'chat', 'complete'" in refused.value.hint
