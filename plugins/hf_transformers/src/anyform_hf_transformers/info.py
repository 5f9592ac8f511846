"""What the transformers backend says of itself; nothing here imports an engine."""

from __future__ import annotations

from anyform.contract.facts import BackendInfo, Reduction

INSTALL = "pip install transformers torch llguidance jinja2 numpy"
"""What the extra `engine` installs, by names that are on the registry already."""

HALF_CONTEXT = Reduction(context_factor=0.5, why="half the context, for half the KV cache")

BACKEND = BackendInfo(
    name="transformers",
    reads=("safetensors", "pytorch"),
    tasks=("chat", "complete", "embed", "rerank"),
    devices=("cpu", "cuda", "metal"),
    engine=("transformers", "torch", "llguidance", "jinja2", "numpy"),
    install=INSTALL,
    local_options=("trust_remote_code",),
    features=("tools", "thinking", "fim", "grammar", "json_schema", "logprobs"),
    reductions=(HALF_CONTEXT,),
)
