"""RKLLM models, as anyform sees them: the hooks, each a call to its neighbour."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anyform.contract.facts import (
    BackendInfo,
    Capabilities,
    Device,
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
def list_backends(tables: Mapping[str, Any]) -> list[BackendInfo]:
    from anyform_rkllm import state

    return [state.backend(tables)]


@hookimpl
def find_devices(tables: Mapping[str, Any]) -> list[Device]:
    from anyform_rkllm import state

    return state.devices(tables)


@hookimpl
def detect_format(files: ModelFiles, tables: Mapping[str, Any]) -> list[FormatMatch]:
    if not any(name.lower().endswith(".rkllm") for name in files.files):
        return []  # nothing else is imported for folders of other kinds: listing is to be quick
    from anyform_rkllm import detection, here

    return detection.detect(files, here.chip(tables))


@hookimpl
def validate(files: ModelFiles, match: FormatMatch, tables: Mapping[str, Any]) -> list[Finding]:
    from anyform_rkllm import here, validation

    return validation.validate(files, match, here.look(tables))


@hookimpl
def extract_metadata(files: ModelFiles, match: FormatMatch) -> Metadata:
    from anyform_rkllm import metadata

    return metadata.extract(files, match)


@hookimpl
def estimate_memory(backend: BackendInfo, metadata: Metadata, settings: Settings) -> MemoryEstimate:
    from anyform_rkllm import fit, memory

    fit.check(backend, metadata)
    return memory.estimate(metadata, settings)


@hookimpl
def probe_backend(backend: BackendInfo) -> Capabilities:
    from anyform_rkllm import backend as engine

    return engine.probe(backend)


@hookimpl
def load(plan: Plan) -> LoadedModel:
    from anyform_rkllm import backend as engine

    return engine.load(plan)
