"""Weights in fewer bits: what files have already, what is made of them on load, and what each takes. No engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from anyform.contract.errors import Unsupported
from anyform.contract.facts import Metadata
from anyform_hf_transformers import gguf
from anyform_hf_transformers.requirement import require


@dataclass(frozen=True, slots=True)
class Method:
    """One way to keep weights."""

    packages: tuple[str, ...] = ()
    """Beside transformers and torch, by pip's names."""
    devices: tuple[str, ...] = ("cpu", "cuda", "metal")
    bytes: float = 0.0
    """What a weight of a linear layer takes, its share of the scales included; 0: as it lies in the file."""
    unpacked: tuple[str, ...] = ()
    """Devices on which transformers makes 16-bit numbers of it while it loads."""


DTYPE_BYTES: Mapping[str, int] = {
    "float32": 4, "float16": 2, "bfloat16": 2, "F32": 4, "F16": 2, "BF16": 2, "F64": 8,
}  # fmt: skip
"""Of one number, by the names of options and of metadata."""
_BNB, _AO = ("bitsandbytes", "accelerate"), ("torchao", "accelerate")
CHOICES: Mapping[str, Method] = {
    "4bit": Method(_BNB, ("cpu", "cuda"), 0.5 + 4 / 64),
    "8bit": Method(_BNB, ("cpu", "cuda"), 1.01),
    "int8_weight_only": Method(_AO, bytes=1.01),
    "int8_dynamic": Method(_AO, ("cpu", "cuda"), bytes=1.01),
    "float8_weight_only": Method(_AO, ("cpu", "cuda"), bytes=1.01),
    "int4_weight_only": Method(_AO, ("cuda",), bytes=0.5 + 4 / 32),
}
"""Values of the option `quantization`. bitsandbytes: nf4 in blocks of 64, and LLM.int8(); the others are torchao's."""

_EVERYWHERE = ("cpu", "cuda", "metal")
STORED: Mapping[str, Method] = {
    "bitsandbytes": Method(_BNB, ("cpu", "cuda")),
    "gptq": Method(("optimum", "gptqmodel"), ("cpu", "cuda")),
    "awq": Method(("gptqmodel", "accelerate"), ("cpu", "cuda")),
    "compressed-tensors": Method(("compressed-tensors",), unpacked=_EVERYWHERE),
    "torchao": Method(_AO),
    "fp8": Method(("accelerate",), unpacked=("cpu", "metal")),
    "fbgemm_fp8": Method(("fbgemm-gpu", "accelerate"), ("cuda",)),
    "mxfp4": Method(("accelerate",), unpacked=_EVERYWHERE),
    "hqq": Method(("hqq", "accelerate"), ("cpu", "cuda")),
    "quanto": Method(("optimum-quanto", "accelerate")),
    "bitnet": Method(("accelerate",), ("cpu", "cuda")),
    "aqlm": Method(("aqlm", "accelerate"), ("cpu", "cuda")),
}
"""`quant_method` of config.json -> what transformers 5.23 asks for (its quantizers' `validate_environment`). Of others
transformers itself says what they need."""


def stored(metadata: Metadata) -> str:
    """How the file's weights are quantized, as `quant_method` calls it; empty: not at all."""
    said = metadata.extra.get("quantization_config")
    if not isinstance(said, Mapping) or not said:
        return ""
    named = said.get("quant_method")
    if isinstance(named, str) and named:
        return named
    return "bitsandbytes" if said.get("load_in_4bit") or said.get("load_in_8bit") else "an unnamed method"


def check(metadata: Metadata, wanted: str, device: str | None) -> None:
    """Whether this model can be had so on *device*, an id or a kind; None: any.

    *wanted*: the option `quantization`, or empty. Raises Unsupported (two methods, a device that cannot),
    EngineMissing (a package).
    """
    has = "gguf" if gguf.is_gguf(metadata) else stored(metadata)
    if wanted and has:
        raise Unsupported(
            f"the weights are quantized already ({has}), and cannot be quantized once more.",
            "Load the model without the option quantization.",
        )
    if wanted:
        _usable(CHOICES[wanted], f"the option quantization={wanted}", device, tuple(CHOICES))
    elif has in STORED:
        _usable(STORED[has], f"a model quantized by {has}", device, ())


def _usable(method: Method, what: str, device: str | None, others: Sequence[str]) -> None:
    kind = (device or "").partition(":")[0]
    if kind and kind not in method.devices:
        there = [name for name in others if kind in CHOICES[name].devices]
        hint = f"There {', '.join(there)} can be used." if there else "Get the model in another form."
        raise Unsupported(f"{what} runs on {', '.join(method.devices)}, not on {kind}.", hint)
    require(what, *method.packages)


def weight_bytes(metadata: Metadata, wanted: str, each: int, device: str | None) -> int:
    """Bytes of the weights; *each*: of a number that is not quantized."""
    parameters = metadata.parameters or 0
    if wanted and parameters:
        plain = min(embedding_parameters(metadata), parameters)
        return round(plain * each + (parameters - plain) * CHOICES[wanted].bytes)
    packed: int = metadata.weight_bytes or 0
    has = stored(metadata)
    if has:
        unpacked = (device or "cpu").partition(":")[0] in STORED.get(has, Method()).unpacked
        return max(parameters * 2, packed) if unpacked else packed
    if parameters:
        return parameters * each
    return packed * each // DTYPE_BYTES.get(str(metadata.extra.get("dtype", "")), each)


def embedding_parameters(metadata: Metadata) -> int:
    """Numbers of the token embeddings, and of the output where it has its own: neither is quantized on load."""
    width: Any = metadata.extra.get("embedding_length")
    one = (metadata.vocab_size or 0) * (width if isinstance(width, int) else 0)
    return 2 * one if metadata.extra.get("untied") else one
