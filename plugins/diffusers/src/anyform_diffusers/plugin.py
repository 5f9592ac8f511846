"""Models that paint, as anyform sees them: the hooks, each a call to its neighbour."""

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
    from anyform_diffusers.info import BACKEND

    return [BACKEND]


@hookimpl
def detect_format(files: ModelFiles) -> list[FormatMatch]:
    if not any(
        name.endswith(("model_index.json", ".safetensors", ".ckpt")) or name.startswith("diffusion_pytorch_model.")
        for name in files.files
    ):
        return []  # nothing else is imported for folders of other kinds: listing is to be quick
    from anyform_diffusers import detection

    return detection.detect(files)


@hookimpl
def validate(files: ModelFiles, match: FormatMatch) -> list[Finding]:
    from anyform_diffusers import validation

    return validation.validate(files, match)


@hookimpl
def extract_metadata(files: ModelFiles, match: FormatMatch) -> Metadata:
    from anyform_diffusers import metadata

    return metadata.extract(files, match)


@hookimpl
def estimate_memory(backend: BackendInfo, metadata: Metadata, settings: Settings) -> MemoryEstimate:
    from anyform_diffusers import memory

    return memory.estimate(metadata, settings)


@hookimpl
def probe_backend(backend: BackendInfo) -> Capabilities:
    from anyform_diffusers.backend import probe

    return probe(backend)


@hookimpl
def load(plan: Plan) -> LoadedModel:
    from anyform_diffusers.backend import load

    return load(plan)
