"""How GGUF tensors are stored: the ggml types with their block sizes, file types, and quantizations in file names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple


class TensorType(NamedTuple):
    """A ggml type: *block* elements of a row are stored in *size* bytes."""

    name: str
    block: int
    size: int


TENSOR_TYPES: Mapping[int, TensorType] = {
    0: TensorType("F32", 1, 4),
    1: TensorType("F16", 1, 2),
    2: TensorType("Q4_0", 32, 18),
    3: TensorType("Q4_1", 32, 20),
    6: TensorType("Q5_0", 32, 22),
    7: TensorType("Q5_1", 32, 24),
    8: TensorType("Q8_0", 32, 34),
    9: TensorType("Q8_1", 32, 36),
    10: TensorType("Q2_K", 256, 84),
    11: TensorType("Q3_K", 256, 110),
    12: TensorType("Q4_K", 256, 144),
    13: TensorType("Q5_K", 256, 176),
    14: TensorType("Q6_K", 256, 210),
    15: TensorType("Q8_K", 256, 292),
    16: TensorType("IQ2_XXS", 256, 66),
    17: TensorType("IQ2_XS", 256, 74),
    18: TensorType("IQ3_XXS", 256, 98),
    19: TensorType("IQ1_S", 256, 50),
    20: TensorType("IQ4_NL", 32, 18),
    21: TensorType("IQ3_S", 256, 110),
    22: TensorType("IQ2_S", 256, 82),
    23: TensorType("IQ4_XS", 256, 136),
    24: TensorType("I8", 1, 1),
    25: TensorType("I16", 1, 2),
    26: TensorType("I32", 1, 4),
    27: TensorType("I64", 1, 8),
    28: TensorType("F64", 1, 8),
    29: TensorType("IQ1_M", 256, 56),
    30: TensorType("BF16", 1, 2),
    34: TensorType("TQ1_0", 256, 54),
    35: TensorType("TQ2_0", 256, 66),
    39: TensorType("MXFP4", 32, 17),
    40: TensorType("NVFP4", 64, 36),
    41: TensorType("Q1_0", 128, 18),
    42: TensorType("Q2_0", 64, 18),
}
"""By number, from ggml.h and ggml-common.h; the gaps are types that were removed."""

NOT_WEIGHTS = frozenset({"Q8_1", "Q8_K", "I8", "I16", "I32", "I64", "F64"})
"""Types that no matrix multiplication takes as a weight: ggml aborts on them (`vec_dot` of ggml-cpu.c is missing)."""

FILE_TYPES: Mapping[int, str] = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S",
    12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K",
    19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL",
    26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0",
    37: "TQ2_0", 38: "MXFP4", 39: "NVFP4", 40: "Q1_0", 41: "Q2_0",
}  # fmt: skip
"""`general.file_type`, llama.h's llama_ftype: what most of a file is quantized to."""

GUESSED = 1024
"""A bit of llama_ftype: the file did not say."""

PREFERENCE = (
    "Q4_K_M", "Q4_K", "Q5_K_M", "Q5_K", "Q8_0", "Q6_K", "Q4_K_S", "Q5_K_S", "Q3_K_M", "Q2_K", "F16", "BF16", "F32",
)  # fmt: skip
"""Which of several quantizations is taken when none is named: good for its size first."""

ALIASES: Mapping[str, str] = {"FP16": "F16", "FP32": "F32", "MXFP4_MOE": "MXFP4"}

# A quantization stands between separators or at an end, as in `qwen3-0.6b-Q4_K_M.gguf` or `model.q8_0.gguf`.
_IN_NAME = re.compile(
    r"(?:^|[-._ ])((?:UD-)?(?:I?Q[1-8]_(?:[01](?:_[48]_[48])?|K(?:_(?:XXS|XS|S|M|L|XL))?|XXS|XS|S|M|L|NL|XL)"
    r"|TQ[12]_0|MXFP4(?:_MOE)?|NVFP4|BF16|F16|F32|FP16|FP32))(?=$|[-._ ])",
    re.IGNORECASE,
)


def split_name(stem: str) -> tuple[str, str]:
    """(name without quantization, quantization in its usual spelling); the second is "" where none is named.

    >>> split_name("qwen2.5-0.5b-instruct-q4_k_m")
    ('qwen2.5-0.5b-instruct', 'Q4_K_M')
    """
    found = list(_IN_NAME.finditer(stem))
    if not found:
        return stem, ""
    last = found[-1]
    name = stem[: last.start()] + stem[last.end() :]
    quantization = last.group(1).upper()
    return name.strip("-._ "), ALIASES.get(quantization, quantization)


def rank(quantization: str) -> int:
    """Its place in PREFERENCE; unknown ones come last."""
    return PREFERENCE.index(quantization) if quantization in PREFERENCE else len(PREFERENCE)


def file_type_name(number: object) -> str:
    """The quantization that `general.file_type` means; "" if it is absent or unknown."""
    return FILE_TYPES.get(number & ~GUESSED, "") if isinstance(number, int) else ""


def agrees(file_type: str, tensor_type: str) -> bool:
    """Whether a file of this type may hold most of its weights in *tensor_type*.

    A mix such as Q3_K_L raises some tensors by a bit or two, and rows that are no multiple of 256 fall back to a
    wider legacy type (llama-quant.cpp); nothing is ever lowered, and 16 bits or more are never mixed.
    """
    if not file_type or file_type == tensor_type or file_type.startswith(f"{tensor_type}_"):
        return True
    said, found = _bits(file_type), _bits(tensor_type)
    return found <= 8 and 0 <= found - said <= 2


def _bits(name: str) -> int:
    digits = re.search(r"\d+", name)
    return int(digits.group()) if digits else 0
