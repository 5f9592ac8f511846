"""Which of several models is taken, and what is said of why."""

from __future__ import annotations

from collections.abc import Mapping

from anyform.cli.chosen import _rank, _why
from anyform.contract.facts import Evidence, Finding, FormatMatch, Metadata, Severity
from anyform.kernel.entry import Entry
from anyform.kernel.runtime import Description


def described(name: str, size_bytes: int, *severities: Severity, fits: int = 0) -> Description:
    match = FormatMatch(format="f", entry=name, files=(name,), evidence=Evidence.NAME, why="made up")
    findings = tuple(Finding(code="f.x", severity=severity, text="It is odd.") for severity in severities)
    entry = Entry(name=name, path="/x", plugin="p", match=match, size_bytes=size_bytes)
    metadata = Metadata(name=name, architecture="a", extra={"fits": fits})
    return Description(entry=entry, metadata=metadata, findings=findings, plugin="p")


def taken(*models: Description) -> tuple[str, str]:
    def suits(known: Metadata) -> int:
        extra: Mapping[str, int] = known.extra
        return extra["fits"]

    best = max(models, key=lambda one: _rank(one, suits)).entry.name
    return best, _why(best, models)


def test_the_largest_is_taken() -> None:
    small, large = described("small", 5, Severity.INFO), described("large", 7, Severity.INFO)
    assert taken(small, large) == ("large", "the larger of 2")
    assert taken(small, large, described("least", 1)) == ("large", "the largest of 3")


def test_one_of_which_validation_warns_goes_after_others() -> None:
    small, large = described("small", 5), described("large", 7, Severity.WARNING)
    assert taken(small, large) == ("small", "the largest of 2 of which `anyform validate` warns of nothing")
    assert taken(large, described("small", 5, Severity.WARNING)) == ("large", "the larger of 2")


def test_what_suits_goes_before_both() -> None:
    asked = described("asked", 1, Severity.WARNING, fits=1)
    assert taken(asked, described("large", 7)) == ("asked", "which of 2 suits best what is asked for")
