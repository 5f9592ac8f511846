"""GGUF files in transformers: which of them it can make its own kind of model of. Decided from metadata, no engine."""

from __future__ import annotations

from anyform.contract.errors import Unsupported
from anyform.contract.facts import Metadata
from anyform_hf_transformers.requirement import require

GGUF = "gguf"
ARCHITECTURES = frozenset({
    "bloom", "deci", "falcon", "gemma2", "gemma3", "gemma4", "gpt-oss", "gpt2", "lfm2", "llama", "mamba", "minimax-m2",
    "mistral", "nemotron", "phi3", "qwen2", "qwen2moe", "qwen3", "qwen3moe", "stablelm", "starcoder2",
})  # fmt: skip
"""`general.architecture` of what transformers 5.23 converts (integrations/ggml.py), less encoder-decoders."""
TEXT = ("chat", "complete")
ENDS = ("eos", "eot", "eom")
"""Special tokens that end an answer, as the format's metadata call them."""
INSTEAD = "Use gguf_llamacpp, which reads GGUF as it is, or the safetensors of the same model."
FACTORS, SEARCHED_BYTES = b"rope_freqs.weight", 64 << 20
"""A tensor that stretches positions, which transformers leaves out; its name lies in the header."""


def is_gguf(metadata: Metadata) -> bool:
    """Whether they describe a GGUF: its format's plugin says which kind of file it is."""
    return metadata.extra.get("kind") == "model"


def check(metadata: Metadata) -> None:
    """Raises Unsupported where transformers cannot read it, EngineMissing where it lacks the package that reads it."""
    scaled = metadata.extra.get("rope_scaling")
    troubles = {
        f"transformers converts no GGUF of the architecture {metadata.architecture!r}": (
            metadata.architecture not in ARCHITECTURES
        ),
        f"transformers does not read a GGUF in {metadata.extra.get('shards')} files": bool(
            metadata.extra.get("shards")
        ),
        f"a GGUF that does {', '.join(metadata.tasks) or 'nothing'} is not converted": not {*metadata.tasks} & {*TEXT},
        f"transformers does not read how this GGUF scales positions ({scaled})": scaled not in (None, "", "none"),
    }
    for said, true in troubles.items():
        if true:
            raise Unsupported(f"{said}.", INSTEAD)
    require("reading GGUF with transformers", "gguf")
