"""GGUF models and llama.cpp, as anyform sees them: the hooks, each a call to its neighbour."""

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
    Reduction,
    Settings,
)
from anyform.contract.hooks import hookimpl
from anyform.contract.model import LoadedModel

ANYFORM_CONTRACT = 1

INSTALL = "pip install llama-cpp-python llguidance jinja2 numpy"
"""What the extra `engine` installs, by names that are on the registry already."""

NO_REPACKING = Reduction(
    options={"use_extra_bufts": False},
    why="no weight repacking: llama.cpp's AMX and repack kernels crash on some CPUs; prompts are read more slowly",
)
NO_ACCELERATOR = Reduction(
    options={"gpu_layers": 0}, why="no layers on an accelerator: its driver or memory may be the cause; slower"
)
HALF_CONTEXT = Reduction(context_factor=0.5, why="half the context, for half the KV cache")


@hookimpl
def list_backends() -> list[BackendInfo]:
    return [
        BackendInfo(
            name="llama.cpp",
            reads=("gguf",),
            tasks=("chat", "complete", "embed", "rerank"),
            devices=("cpu", "cuda", "metal", "vulkan", "rocm", "sycl"),
            engine=("llama-cpp-python", "llguidance", "jinja2", "numpy"),
            install=INSTALL,
            local_options=("lora", "mmproj"),
            features=("tools", "thinking", "vision", "fim", "grammar", "json_schema", "logprobs", "lora"),
            reductions=(NO_REPACKING, NO_ACCELERATOR, HALF_CONTEXT),
        )
    ]


@hookimpl
def detect_format(files: ModelFiles) -> list[FormatMatch]:
    from anyform_gguf_llamacpp import detection

    return detection.detect(files)


@hookimpl
def validate(files: ModelFiles, match: FormatMatch) -> list[Finding]:
    from anyform_gguf_llamacpp import validation

    return validation.validate(files, match)


@hookimpl
def extract_metadata(files: ModelFiles, match: FormatMatch) -> Metadata:
    from anyform_gguf_llamacpp import metadata

    return metadata.extract(files, match)


@hookimpl
def estimate_memory(metadata: Metadata, settings: Settings) -> MemoryEstimate:
    from anyform_gguf_llamacpp import memory

    return memory.estimate(metadata, settings)


@hookimpl
def probe_backend(backend: BackendInfo) -> Capabilities:
    from anyform_gguf_llamacpp.backend import probe

    return probe(backend)


@hookimpl
def load(plan: Plan) -> LoadedModel:
    from anyform_gguf_llamacpp import backend

    return backend.load(plan)
