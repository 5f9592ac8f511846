"""What the two backends say of themselves; nothing here imports an engine."""

from __future__ import annotations

from anyform.contract.facts import BackendInfo, Reduction

GENAI, EXPORT, PLAIN = "onnx_genai", "onnx_export", "onnx"
"""Formats: onnxruntime-genai's folders (genai_config.json), transformers' own exporter's (export.json), and those of
optimum and transformers.js (config.json with model.onnx or onnx/model*.onnx)."""

INSTALL = "pip install onnxruntime tokenizers llguidance jinja2 numpy"
"""What the extra `engine` installs for plain onnxruntime, by names that are on the registry already."""
GENAI_INSTALL = "pip install onnxruntime-genai tokenizers llguidance jinja2 numpy"
PICTURE_INSTALL = "pip install pillow"
"""Part of the extra `engine`; models that see nothing do without it."""

DEVICES = ("cpu", "cuda")
_LOCAL = ("providers", "provider_options")
"""What may name libraries and files of this machine."""
_HALF_CONTEXT = Reduction(context_factor=0.5, why="half the context, for half the KV cache")

RUNTIME = BackendInfo(
    name="onnxruntime",
    reads=(PLAIN, EXPORT),
    converts=(GENAI,),
    tasks=("chat", "complete", "embed", "rerank", "classify", "zero_shot"),
    devices=DEVICES,
    engine=("onnxruntime", "tokenizers", "llguidance", "jinja2", "numpy"),
    install=INSTALL,
    features=("tools", "thinking", "vision", "fim", "grammar", "json_schema", "logprobs"),
    reductions=(_HALF_CONTEXT,),
    local_options=_LOCAL,
)
ENGINE = BackendInfo(
    name="onnxruntime_genai",
    reads=(GENAI,),
    tasks=("chat", "complete"),
    devices=DEVICES,
    engine=("onnxruntime-genai", "onnxruntime", "tokenizers", "llguidance", "jinja2", "numpy"),
    install=GENAI_INSTALL,
    features=("tools", "thinking", "fim", "grammar", "json_schema", "logprobs"),
    reductions=(_HALF_CONTEXT,),
    local_options=_LOCAL,
)
BACKENDS = (ENGINE, RUNTIME)
