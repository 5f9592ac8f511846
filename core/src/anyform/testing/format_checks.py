"""Checks of what a plugin reads: detection, validation, metadata, the estimate; and that its facts are plain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anyform.contract.facts import (
    BackendInfo,
    Evidence,
    Finding,
    FormatMatch,
    MemoryEstimate,
    Metadata,
    ModelFiles,
    Plan,
    Settings,
    Severity,
)
from anyform.kernel.files import FolderFiles
from anyform.testing import damage
from anyform.testing.asking import Asked, read
from anyform.testing.subject import GENERATING_TASKS, Subject, check_wire


class FormatChecks(Subject):
    """Finds its own, leaves strangers alone, and never trusts a damaged file."""

    def test_samples_are_found(self, folders: list[Path], reader: Asked) -> None:
        assert folders, "samples() returned no folder."
        for folder in folders:
            found = read(reader, folder)
            assert found, f"detect_format found nothing in the sample {folder.name}."
            for files, match in found:
                _check_match(files, match)

    def test_samples_are_sound(self, folders: list[Path], reader: Asked) -> None:
        for files, match in self._matches(folders, reader):
            critical = _critical(reader, files, match)
            assert not critical, f"validate calls the sound sample {match.entry} broken: {critical[0].text}"

    def test_samples_tell_their_tasks(self, folders: list[Path], reader: Asked) -> None:
        for files, match in self._matches(folders, reader):
            metadata = reader.ask("extract_metadata", files=files, match=match)
            assert isinstance(metadata, Metadata), f"extract_metadata returned {type(metadata).__name__}, not Metadata."
            assert metadata.tasks, f"the metadata of {match.entry} names no task, so no backend can ever be chosen."

    def test_strangers_are_not_claimed(self, asked: Asked, tmp_path: Path) -> None:
        self._need(asked, "detect_format")
        damage.write_strangers(tmp_path)
        claimed = self._detect(asked, FolderFiles(tmp_path), "a folder of ordinary files")
        assert not claimed, (
            f"detect_format claims {claimed[0].entry} ({claimed[0].why}), which is no model. "
            f"Look at the bytes or at names that belong to your format alone."
        )

    def test_empty_files_are_not_trusted(self, folders: list[Path], asked: Asked, tmp_path: Path) -> None:
        self._check_damage(folders, asked, tmp_path, damage.emptied)

    def test_random_files_are_not_trusted(self, folders: list[Path], asked: Asked, tmp_path: Path) -> None:
        self._check_damage(folders, asked, tmp_path, damage.randomised)

    def test_truncated_files_are_critical(self, folders: list[Path], asked: Asked, tmp_path: Path) -> None:
        self._check_damage(folders, asked, tmp_path, damage.truncated)

    def test_detection_needs_no_folder(self, folders: list[Path], asked: Asked) -> None:
        self._need(asked, "detect_format")
        for folder in folders:
            found = asked.ask("detect_format", files=damage.Remote(folder))
            assert found, f"detect_format finds {folder.name} on disk but not in a remote listing of the same files."

    def test_estimate_grows_with_context(self, plans: list[Plan], asked: Asked) -> None:
        for plan in plans:
            backend = self._backend(asked, plan)
            for parallel in (1, 2):
                sizes = [
                    self._estimate(asked, backend, plan.metadata, Settings(context=context, parallel=parallel))
                    for context in (512, 4096)
                ]
                assert sizes[0] > 0, f"estimate_memory says {sizes[0]} bytes for {plan.match.entry}."
                if set(plan.metadata.tasks) & set(GENERATING_TASKS):
                    assert sizes[1] > sizes[0], (
                        f"estimate_memory says {sizes[0]} bytes at context 512 and {sizes[1]} at 4096. "
                        f"State bytes_per_token: a KV cache grows with the context."
                    )

    def test_facts_survive_the_wire(self, folders: list[Path], plans: list[Plan], asked: Asked, reader: Asked) -> None:
        facts: list[Any] = [*self._backends(asked), *plans]
        for files, match in self._matches(folders, reader):
            facts += [match, *reader.ask_if_there("validate", files=files, match=match)]
        for plan in plans:
            backend = self._backend(asked, plan)
            given = {"backend": backend, "metadata": plan.metadata, "settings": plan.settings}
            facts.append(asked.ask("estimate_memory", **given))
        for fact in facts:
            check_wire(fact)

    def _detect(self, asked: Asked, files: ModelFiles, what: str) -> list[FormatMatch]:
        try:
            found: list[FormatMatch] = asked.ask("detect_format", files=files)
        except Exception as error:
            raise AssertionError(
                f"detect_format raises {type(error).__name__}: {error} on {what}. It must return [] on any bytes."
            ) from error
        return found

    def _check_damage(self, folders: list[Path], asked: Asked, to: Path, kind: damage.Damage) -> None:
        """Each damaged copy is no longer recognised, or is recognised and called critical; and nothing raises."""
        self._need(asked, "detect_format")
        for folder in folders:
            needed = sorted({name for _, match in read(asked, folder) for name in match.files})
            for what, copy in damage.damaged(folder, needed, to / "copy", kind):
                files = FolderFiles(copy)
                name = what.partition(" ")[0]
                for match in self._detect(asked, files, what):
                    if name in match.files:
                        self._check_critical(asked, files, match, what)

    def _check_critical(self, asked: Asked, files: ModelFiles, match: FormatMatch, what: str) -> None:
        try:
            critical = _critical(asked, files, match)
        except Exception as error:
            raise AssertionError(
                f"validate raises {type(error).__name__}: {error} on {what}. Return a Finding."
            ) from error
        assert critical, (
            f"{what}: validate has no critical finding. Compare what the header promises with the size of the file; "
            f"native code must never see such a file."
        )

    def _estimate(self, asked: Asked, backend: BackendInfo, metadata: Metadata, settings: Settings) -> int:
        estimate = asked.ask("estimate_memory", backend=backend, metadata=metadata, settings=settings)
        assert isinstance(estimate, MemoryEstimate), f"estimate_memory returned {type(estimate).__name__}."
        assert 0 <= estimate.confidence <= 1, f"the estimate's confidence is {estimate.confidence}, not 0 to 1."
        return estimate.at(settings)


def _check_match(files: ModelFiles, match: FormatMatch) -> None:
    assert isinstance(match, FormatMatch), f"detect_format returned {type(match).__name__}, not FormatMatch."
    assert match.format == match.format.lower(), f"format {match.format!r} is not lower case."
    assert match.entry == "." or match.entry in match.files, f"entry {match.entry!r} is not among the match's files."
    absent = [name for name in match.files if name not in files.files]
    assert not absent, f"the match names {', '.join(absent)}, which is not in the folder."
    assert isinstance(match.evidence, Evidence), f"evidence is {match.evidence!r}, not an Evidence."
    assert match.why, f"the match of {match.entry} does not say why. It is shown to users."


def _critical(reader: Asked, files: ModelFiles, match: FormatMatch) -> list[Finding]:
    findings: list[Finding] = reader.ask_if_there("validate", files=files, match=match)
    return [finding for finding in findings if finding.severity is Severity.CRITICAL]
