"""Whispers as CTranslate2 and as transformers keep them: what the hooks ask, from where it is answered."""

from __future__ import annotations

from anyform.contract.facts import Finding, FormatMatch, MemoryEstimate, Metadata, ModelFiles, Settings


def detect(files: ModelFiles) -> list[FormatMatch]:
    """Empty for a stranger."""
    from anyform_audio.hearing import detection

    return detection.detect(files)


def validate(files: ModelFiles, match: FormatMatch) -> list[Finding]:
    """Empty: nothing is wrong with it."""
    from anyform_audio.hearing import validation

    return validation.validate(files, match)


def extract(files: ModelFiles, match: FormatMatch) -> Metadata:
    """What its files say of it."""
    from anyform_audio.hearing import metadata

    return metadata.extract(files, match)


def estimate(metadata: Metadata, settings: Settings) -> MemoryEstimate:
    """What it takes in faster-whisper."""
    from anyform_audio.hearing import memory

    return memory.estimate(metadata, settings)
