"""Bounds on what a schema leaves endless."""

from __future__ import annotations

from anyform.text.endless import bounded


def test_a_point_in_time_gets_an_end_wherever_it_stands() -> None:
    moment = {"type": "string", "format": "date-time"}
    schema = {"properties": {"at": moment, "times": {"items": {"anyOf": [{"format": "time"}, {"type": "null"}]}}}}
    made = bounded(schema)
    assert made["properties"]["at"] == {**moment, "maxLength": 35}
    assert made["properties"]["times"]["items"]["anyOf"] == [{"format": "time", "maxLength": 24}, {"type": "null"}]
    assert "maxLength" not in moment


def test_what_has_an_end_or_is_a_value_stays() -> None:
    for schema in (
        {"format": "date-time", "maxLength": 20},
        {"format": "date"},
        {"const": {"format": "date-time"}},
        {"enum": [{"format": "time"}], "default": {"format": "time"}},
        {"properties": {"format": {"type": "string"}}},
        True,
    ):
        assert bounded(schema) == schema
