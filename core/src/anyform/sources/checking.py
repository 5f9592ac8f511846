"""Whether a model's files are what they should be: checksums, and what its format's plugin finds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from anyform.contract.facts import Finding, Severity, fact
from anyform.kernel.entry import Entry
from anyform.sources import folder as own

BLOCK = 1 << 20


@fact
class Checked:
    """What a check of one model came to."""

    model: str
    wrong: tuple[str, ...] = ()
    """Sentences; empty: all is well."""
    proven: tuple[str, ...] = ()
    """Files whose checksum is right."""
    unproven: tuple[str, ...] = ()
    """Files for which no checksum is known."""
    findings: tuple[Finding, ...] = ()

    @property
    def sound(self) -> bool:
        return not self.wrong


def verify(entry: Entry, findings: Sequence[Finding], count: Callable[[int], None] = lambda size: None) -> Checked:
    """Read all files of *entry* that have a known checksum, and compare. *count*: told the bytes that were read."""
    wrong = [finding.text for finding in findings if finding.severity is Severity.CRITICAL]
    proven, unproven, known = [], [], {**entry.digests, **_recorded(Path(entry.path))}
    for name in entry.match.files:
        digest, path = known.get(name, ""), Path(entry.path) / name
        if not path.exists():
            wrong.append(f"{name} is missing. Pull it again.")
        elif not digest:
            unproven.append(name)
        elif (found := _sha256(path, count)) != digest:
            wrong.append(
                f"{name} has the SHA-256 {found} instead of {digest}: it was changed or damaged. Pull it again."
            )
        else:
            proven.append(name)
    return Checked(
        model=entry.name, wrong=tuple(wrong), proven=tuple(proven), unproven=tuple(unproven), findings=tuple(findings)
    )


def validity(entry: Entry, findings: Sequence[Finding], backend: str) -> dict[str, Any]:
    """The verdict of validation as JSON. *backend*: what would run the model, "" for nothing here."""
    critical = [finding for finding in findings if finding.severity is Severity.CRITICAL]
    found = f"{entry.match.format.upper()} format detected"
    suits = f"compatible with {backend}" if backend else "no installed backend can run it here"
    return {
        "model": entry.name,
        "format": entry.match.format,
        "valid": not critical,
        "files": list(entry.match.files),
        "message": critical[0].text if critical else f"{found} - {suits}",
        "why": entry.match.why,
        "findings": [
            {"code": finding.code, "severity": finding.severity.name.lower(), "text": finding.text}
            for finding in findings
        ],
    }


def _recorded(folder: Path) -> Mapping[str, str]:
    """What was recorded when files were pulled; unlike an entry's digests also of files that were changed since."""
    files = own.read_record(folder).get("files", {})
    facts = {name: said for name, said in files.items() if isinstance(said, Mapping)}
    return {name: str(said["sha256"]) for name, said in facts.items() if said.get("sha256")}


def _sha256(path: Path, count: Callable[[int], None]) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            count(len(block))
    return digest.hexdigest()
