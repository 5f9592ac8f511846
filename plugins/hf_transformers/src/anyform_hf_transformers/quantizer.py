"""The configurations with which transformers quantizes weights while it loads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from anyform_hf_transformers.backend import torch, transformers

_AO: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "int8_weight_only": ("Int8WeightOnlyConfig", {}),
    "int8_dynamic": ("Int8DynamicActivationInt8WeightConfig", {}),
    "float8_weight_only": ("Float8WeightOnlyConfig", {}),
    "int4_weight_only": ("Int4WeightOnlyConfig", {"group_size": 32, "int4_packing_format": "tile_packed_to_4d"}),
}
"""Classes of torchao.quantization and their arguments."""


def config(name: str, dtype: Any) -> Any:
    """For a value of the option `quantization`; *dtype*: what is computed in."""
    if name == "4bit":
        return transformers.BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
        )
    if name == "8bit":
        return transformers.BitsAndBytesConfig(load_in_8bit=True)
    kind, arguments = _AO[name]
    make: Callable[..., Any] = getattr(import_module("torchao.quantization"), kind)
    return transformers.TorchAoConfig(make(**arguments))


def quantized(model: Any) -> bool:
    """Whether its weights are in fewer bits than what is computed in."""
    return getattr(model, "hf_quantizer", None) is not None


def precision(model: Any) -> Any:
    """The type of number that its results are as exact as: some methods round what they multiply to 8 bits, too."""
    return torch.bfloat16 if quantized(model) else model.dtype
