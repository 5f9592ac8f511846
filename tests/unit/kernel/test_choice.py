"""What is said where nothing runs a model."""

from __future__ import annotations

from anyform.contract.facts import Finding, Severity
from anyform.kernel.choice import refusal
from anyform.kernel.router import Decision


def test_a_broken_file_is_told_of_once_for_each_kind_of_fault() -> None:
    cut = [Finding(code="truncated", severity=Severity.CRITICAL, text=f"tensor {at} is cut.") for at in range(200)]
    other = Finding(code="key", severity=Severity.CRITICAL, text="a key is missing.")
    remark = Finding(code="old", severity=Severity.WARNING, text="it is old.")
    fault = refusal(Decision(model="m", task=None, plan=None, verdicts=()), [*cut, remark, other], {})
    assert fault.message == "m is not a sound model: tensor 0 is cut. a key is missing."
    assert len(fault.details["findings"]) == 201
