"""Findings of plugins in short: one code, one severity, one sentence. Imports the contract alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from anyform.contract.facts import Finding, Severity

SHOWN = 3
"""Findings of one code that are told apart; the rest are counted."""


class Family:
    """Makes findings whose codes are NAME.what."""

    def __init__(self, name: str) -> None:
        """*name*: of the format; empty: the codes that are given are whole."""
        self._before = f"{name}." if name else ""

    def critical(self, code: str, text: str) -> Finding:
        """What keeps a model from being loaded."""
        return self._made(code, Severity.CRITICAL, text)

    def warning(self, code: str, text: str) -> Finding:
        """What may matter."""
        return self._made(code, Severity.WARNING, text)

    def note(self, code: str, text: str) -> Finding:
        """What is good to know."""
        return self._made(code, Severity.INFO, text)

    def adopted(self, finding: Finding) -> Finding:
        """*finding*, whose code has no name of a family, as one of this."""
        return self._made(finding.code, finding.severity, finding.text)

    def _made(self, code: str, severity: Severity, text: str) -> Finding:
        whole = text.encode("utf-8", "replace").decode("utf-8")  # names in files may hold halves of characters
        return Finding(code=f"{self._before}{code}", severity=severity, text=whole)


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
