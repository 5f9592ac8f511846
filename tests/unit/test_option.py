"""What users write for a load option, as backends read it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from anyform.contract.errors import Invalid
from anyform.option import amount, one_of, read, truth, whole


@dataclass(frozen=True)
class Options:
    """What a backend takes."""

    threads: int = 4
    exact: bool = False


CHECKS = {"threads": whole(1), "exact": truth}


def test_what_is_given_goes_before_the_defaults() -> None:
    assert read({}, Options, CHECKS) == Options()
    assert read({"threads": "8", "exact": None}, Options, CHECKS) == Options(threads=8)


def test_an_unknown_option_names_the_known() -> None:
    with pytest.raises(Invalid, match="'thread'") as raised:
        read({"thread": 1}, Options, CHECKS)
    assert raised.value.hint == "Known are exact, threads."


@pytest.mark.parametrize(
    ("check", "value", "meant"),
    [
        (whole(-1), "-1", -1), (whole(0, 9), 9, 9), (truth, True, True), (truth, "OFF", False), (truth, 1, True),
        (amount, "0.5", 0.5), (amount, 0, 0.0), (one_of(["a", "b"]), "b", "b"),
    ],
)  # fmt: skip
def test_values_that_are_read(check: Callable[[str, Any], Any], value: Any, meant: Any) -> None:
    found = check("it", value)
    assert (found, type(found)) == (meant, type(meant))


@pytest.mark.parametrize(
    ("check", "value"),
    [
        (whole(1), 0), (whole(1), True), (whole(1), 1.0), (whole(1), "1.0"), (whole(1), "²"), (whole(0, 9), 10),
        (whole(1), "--1"), (whole(1), ""), (truth, 2), (truth, "yes"), (truth, []), (amount, -1), (amount, math.nan),
        (amount, math.inf), (amount, "much"), (amount, [1]), (one_of("ab"), "c"), (one_of("ab"), ["a"]),
    ],
)  # fmt: skip
def test_values_that_are_refused_by_name(check: Callable[[str, Any], Any], value: Any) -> None:
    with pytest.raises(Invalid, match="load option it is ") as raised:
        check("it", value)
    assert raised.value.hint.startswith("It must be ")
    assert raised.value.details["option"] == "it"
