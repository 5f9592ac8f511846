"""Findings in short: one code with its format's name, one severity, one sentence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from anyform.contract.facts import Finding, Severity

AGAIN = "Copy or download the file again."
SHOWN = 3
"""Findings of one code that are told apart; the rest are counted."""


def critical(code: str, text: str) -> Finding:
    """What keeps a model from being loaded. *code*: FORMAT.what."""
    return _finding(code, Severity.CRITICAL, text)


def warning(code: str, text: str) -> Finding:
    """What may matter. *code*: FORMAT.what."""
    return _finding(code, Severity.WARNING, text)


def note(code: str, text: str) -> Finding:
    """What is good to know. *code*: FORMAT.what."""
    return _finding(code, Severity.INFO, text)


def _finding(code: str, severity: Severity, text: str) -> Finding:
    whole = text.encode("utf-8", "replace").decode("utf-8")  # JSON may hold halves of characters
    return Finding(code=code, severity=severity, text=whole)


def condensed(findings: Iterable[Finding]) -> Iterator[Finding]:
    """*findings* with no more than SHOWN of one code, and their number after them."""
    seen: dict[str, tuple[Finding, int]] = {}
    for finding in findings:
        first, count = seen.get(finding.code, (finding, 0))
        seen[finding.code] = (first, count + 1)
        if count < SHOWN:
            yield finding
    for first, count in seen.values():
        if count > SHOWN:
            text = f"and {count - SHOWN} more of this kind, {count} in all."
            yield Finding(code=first.code, severity=first.severity, text=text)
