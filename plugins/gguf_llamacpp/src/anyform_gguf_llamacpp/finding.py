"""Findings in short: one code, one severity, one sentence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from anyform.contract.facts import Finding, Severity

SHOWN = 3
"""Findings of one code that are told apart; the rest are counted."""


def critical(code: str, text: str) -> Finding:
    return Finding(code=f"gguf.{code}", severity=Severity.CRITICAL, text=text)


def warning(code: str, text: str) -> Finding:
    return Finding(code=f"gguf.{code}", severity=Severity.WARNING, text=text)


def condensed(findings: Iterable[Finding]) -> Iterator[Finding]:
    """*findings* with no more than SHOWN of one code, and their number after them."""
    seen: dict[str, list[Finding]] = {}
    for finding in findings:
        alike = seen.setdefault(finding.code, [])
        alike.append(finding)
        if len(alike) <= SHOWN:
            yield finding
    for alike in seen.values():
        if len(alike) > SHOWN:
            text = f"and {len(alike) - SHOWN} more of this kind, {len(alike)} in all."
            yield Finding(code=alike[0].code, severity=alike[0].severity, text=text)
