"""What the transformers backend says of itself; nothing here imports an engine."""

from __future__ import annotations

from anyform.contract.facts import BackendInfo, Reduction

INSTALL = "pip install transformers torch llguidance jinja2 numpy"
"""What the extra `engine` installs, by names that are on the registry already."""

PICTURE_INSTALL = "pip install pillow"
"""Part of the extra `engine`; models that see nothing do without it."""

SOUND_INSTALL = "pip install av"
"""What the extra `audio` installs: only models that hear need it."""

PEFT_INSTALL = "pip install peft"
"""What the extra `adapters` installs: only adapters need it."""

HALF_CONTEXT = Reduction(context_factor=0.5, why="half the context, for half the KV cache")

BACKEND = BackendInfo(
    name="transformers",
    reads=("safetensors", "pytorch", "peft"),
    converts=("gguf",),
    tasks=(
        "chat",
        "complete",
        "embed",
        "rerank",
        "classify",
        "zero_shot",
        "caption",
        "answer",
        "transcribe",
        "translate",
    ),
    devices=("cpu", "cuda", "metal"),
    engine=("transformers", "torch", "llguidance", "jinja2", "numpy"),
    install=INSTALL,
    local_options=("trust_remote_code", "base"),
    features=("tools", "thinking", "vision", "fim", "grammar", "json_schema", "logprobs"),
    reductions=(HALF_CONTEXT,),
)
