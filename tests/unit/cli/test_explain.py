"""What `anyform explain` says in words."""

from __future__ import annotations

from io import StringIO

from anyform.cli.explain import _print
from anyform.cli.terminal import Terminal
from anyform.contract.facts import Finding, Severity
from anyform.kernel.router import Decision, Verdict


def test_damage_is_told_where_a_refusal_hides_it() -> None:
    refusals = ("its engine cannot be used: there is no such NPU", "torn: the head is torn")
    verdicts = tuple(Verdict(plugin=p, backend=p, format="f", refusal=r) for p, r in zip("ab", refusals, strict=True))
    texts = ("the head is torn", "tensor 1 is lost", "tensor 1 is lost", "tensor 2 is lost", "no key", "no end")
    findings = [Finding(severity=Severity.CRITICAL, code="c", text=text) for text in texts]
    warned = Finding(severity=Severity.WARNING, code="w", text="old")
    written = StringIO()
    _print(Terminal(written), Decision(model="m", task=None, plan=None, verdicts=verdicts), [*findings, warned])
    assert written.getvalue().splitlines()[-4:] == [
        "broken: tensor 1 is lost",
        "broken: tensor 2 is lost",
        "broken: no key",
        "note: old",
    ]
    assert written.getvalue().count("the head is torn") == 1
