"""Findings: codes, severities, texts that any file may have given, and how many of one kind are told."""

from __future__ import annotations

from anyform.contract.facts import Severity
from anyform.finding import Family, condensed


def test_a_family_gives_its_name_to_codes() -> None:
    made = Family("gguf")
    assert made.critical("short", "a").code == "gguf.short"
    assert Family("").warning("piper.short", "a").code == "piper.short"
    severities = [one("x", "a").severity for one in (made.critical, made.warning, made.note)]
    assert severities == [Severity.CRITICAL, Severity.WARNING, Severity.INFO]


def test_a_finding_without_a_family_is_adopted() -> None:
    made = Family("gguf").adopted(Family("").warning("short", "a"))
    assert (made.code, made.severity, made.text) == ("gguf.short", Severity.WARNING, "a")


def test_halves_of_characters_are_replaced() -> None:
    assert Family("m").note("x", "name \ud800").text == "name ?"


def test_what_repeats_is_counted() -> None:
    made = Family("m")
    few = [made.warning("few", str(number)) for number in range(3)]
    many = [made.critical("many", str(number)) for number in range(5)]
    assert list(condensed(few)) == few
    *told, last = condensed([*few, *many])
    assert told == [*few, *many[:3]]
    assert (last.code, last.severity) == ("m.many", Severity.CRITICAL)
    assert last.text == "and 2 more of this kind, 5 in all."
