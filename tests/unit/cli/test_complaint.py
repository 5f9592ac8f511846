"""A fault on standard error: a line and what else may help, or one JSON object."""

from __future__ import annotations

import json

import pytest

from anyform.cli.complaint import MORE, complain
from anyform.contract.errors import LoadFailed, OutOfMemory

FAULT = OutOfMemory("m needs 9 GiB.", "Ask for less.", suggestions=["Unload\nn.", "Take Q4_K_M."], cause="2", model="m")


def test_people_get_a_line_and_a_line_for_each_further_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    complain(FAULT.message, FAULT.hint, code=FAULT.code, known=FAULT.as_dict())
    assert capsys.readouterr().err == "anyform: m needs 9 GiB. Ask for less.\n  or: Unload n.\n  or: Take Q4_K_M.\n"


def test_what_a_program_printed_is_told_below_and_sentences_end(capsys: pytest.CaptureFixture[str]) -> None:
    fault = LoadFailed("it ended", "Run it.", output="a\nb")
    complain(fault.message, fault.hint, code=fault.code, known=fault.as_dict())
    assert capsys.readouterr().err == "anyform: it ended. Run it.\n  it printed: a\n  it printed: b\n"


def test_programs_get_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    complain(FAULT.message, FAULT.hint, code=FAULT.code, as_json=True, known=FAULT.as_dict())
    error = json.loads(capsys.readouterr().err)["error"]
    assert error.keys() == {"message", "code", "hint", *MORE}
    assert (error["area"], error["part"], error["cause"]) == ("memory", "m", "2")
    assert error["suggestions"] == ["Ask for less.", "Unload\nn.", "Take Q4_K_M."]
