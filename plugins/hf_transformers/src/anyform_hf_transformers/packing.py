"""Whether what config.json says of quantized weights can be true (`quantization_config`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from anyform.contract.facts import Finding
from anyform_hf_transformers.family import VERSION
from anyform_hf_transformers.finding import AGAIN, critical, warning

KEY = "quantization_config"
METHODS = frozenset({
    "aqlm", "auto-round", "awq", "bitnet", "bitsandbytes", "bitsandbytes_4bit", "bitsandbytes_8bit",
    "compressed-tensors", "eetq", "fbgemm_fp8", "fouroversix", "fp8", "fp_quant", "gemma", "gguf", "gptq", "higgs",
    "hqq", "metal", "mxfp4", "mxfp8", "nvfp4", "quanto", "quark", "sinq", "spqr", "torchao", "vptq",
})  # fmt: skip
"""Values of `quant_method` that transformers knows (quantizers/auto.py)."""
MOST_BITS = 16


def check(content: Mapping[str, Any], name: str) -> Iterator[Finding]:
    """*content*: of the config.json called *name*."""
    said = content.get(KEY)
    if said is None:
        return
    if not isinstance(said, dict):
        yield critical("bad_quantization", f"{name}: {KEY} is {said!r:.60}, where an object is needed. {AGAIN}")
        return
    method = said.get("quant_method")
    if method is None and (said.get("load_in_4bit") is True or said.get("load_in_8bit") is True):
        return
    if method is None and {"bits", "group_size"} <= said.keys():
        text = f"{name}: its {KEY} names no quant_method, as MLX writes it: transformers cannot read such weights."
        yield critical("bad_quantization", f"{text} Get another form of the model.")
        return
    if not isinstance(method, str):
        yield critical("bad_quantization", f"{name}: {KEY} names no quant_method. {AGAIN}")
    elif method not in METHODS:
        text = f"{name}: transformers {VERSION} does not know the quantization {method[:60]!r}: a later one may."
        yield warning("unknown_quantization", text)
    for key in ("bits", "w_bit"):
        bits = said.get(key)
        if bits is not None and (type(bits) is not int or not 1 <= bits <= MOST_BITS):
            text = f"{name}: {key} of its {KEY} is {bits!r:.60}; it has to be 1 to {MOST_BITS}. {AGAIN}"
            yield critical("bad_quantization", text)
