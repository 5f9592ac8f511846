"""Whisper, Kokoro and Piper, as anyform sees them: the hooks, each a call to its neighbour."""

from __future__ import annotations

from anyform.contract.facts import (
    BackendInfo,
    Capabilities,
    Finding,
    FormatMatch,
    MemoryEstimate,
    Metadata,
    ModelFiles,
    Plan,
    Settings,
)
from anyform.contract.hooks import hookimpl
from anyform.contract.model import LoadedModel

ANYFORM_CONTRACT = 1


@hookimpl
def list_backends() -> list[BackendInfo]:
    from anyform_audio.info import BACKENDS

    return list(BACKENDS)


@hookimpl
def detect_format(files: ModelFiles) -> list[FormatMatch]:
    from anyform_audio import form

    return form.detect(files)


@hookimpl
def validate(files: ModelFiles, match: FormatMatch) -> list[Finding]:
    from anyform_audio import form

    return form.of(match.format).validate(files, match)


@hookimpl
def extract_metadata(files: ModelFiles, match: FormatMatch) -> Metadata:
    from anyform_audio import form

    return form.of(match.format).extract(files, match)


@hookimpl
def estimate_memory(backend: BackendInfo, metadata: Metadata, settings: Settings) -> MemoryEstimate:
    from anyform_audio import form

    return form.read_by(backend.name).estimate(metadata, settings)


@hookimpl
def probe_backend(backend: BackendInfo) -> Capabilities:
    from anyform_audio.engine import of

    return of(backend.name).probe(backend)


@hookimpl
def load(plan: Plan) -> LoadedModel:
    from anyform_audio.engine import of

    return of(plan.backend).load(plan)
