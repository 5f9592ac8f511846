"""ONNX models, as anyform sees them: the hooks, each a call to its neighbour."""

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
    from anyform_onnx.info import BACKENDS
    from anyform_onnx.wheel import settled

    return [settled(info) for info in BACKENDS]


@hookimpl
def detect_format(files: ModelFiles) -> list[FormatMatch]:
    if not any(name.lower().endswith((".onnx", "genai_config.json", "export.json")) for name in files.files):
        return []  # nothing else is imported for folders of other kinds: listing is to be quick
    from anyform_onnx import detection

    return detection.detect(files)


@hookimpl
def validate(files: ModelFiles, match: FormatMatch) -> list[Finding]:
    from anyform_onnx import validation

    return validation.validate(files, match)


@hookimpl
def extract_metadata(files: ModelFiles, match: FormatMatch) -> Metadata:
    from anyform_onnx import metadata

    return metadata.extract(files, match)


@hookimpl
def estimate_memory(backend: BackendInfo, metadata: Metadata, settings: Settings) -> MemoryEstimate:
    from anyform_onnx import memory

    return memory.estimate(backend.name, metadata, settings)


@hookimpl
def probe_backend(backend: BackendInfo) -> Capabilities:
    from anyform_onnx.engine import of

    return of(backend.name).probe(backend)


@hookimpl
def load(plan: Plan) -> LoadedModel:
    from anyform_onnx.engine import of

    return of(plan.backend).load(plan)
