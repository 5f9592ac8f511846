"""Whether the numbers that describe a network make sense: what llama.cpp asserts or divides by."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from anyform.contract.facts import Finding
from anyform_gguf_llamacpp.finding import critical
from anyform_gguf_llamacpp.gguf import ARRAY, BOOL, STRING, Header, type_words

UINT32, INT32, FLOAT32 = 4, 5, 6
NUMBER, REAL, TEXT, TRUTH = (UINT32,), (FLOAT32,), (STRING,), (BOOL,)
NUMBERS = ((UINT32,), (ARRAY, UINT32), (ARRAY, INT32))
"""One number, or one a layer."""

TYPES: Mapping[str, tuple[tuple[int, ...], ...]] = {
    "context_length": (NUMBER,), "embedding_length": (NUMBER,), "block_count": (NUMBER,), "vocab_size": (NUMBER,),
    "pooling_type": (NUMBER,), "expert_count": (NUMBER,), "expert_used_count": NUMBERS,
    "expert_group_count": (NUMBER,), "expert_group_used_count": (NUMBER,), "feed_forward_length": NUMBERS,
    "nextn_predict_layers": (NUMBER,), "attention.head_count": NUMBERS, "attention.head_count_kv": NUMBERS,
    "attention.key_length": (NUMBER,), "attention.value_length": (NUMBER,), "attention.causal": (TRUTH,),
    "attention.layer_norm_epsilon": (REAL,), "attention.layer_norm_rms_epsilon": (REAL,),
    "embedding_length_out": (NUMBER,), "rope.dimension_count": (NUMBER,), "rope.freq_base": (REAL,),
    "rope.scaling.type": (TEXT,), "rope.scaling.factor": (REAL,), "rope.scaling.original_context_length": (NUMBER,),
    "rope.scaling.finetuned": (TRUTH,),
}  # fmt: skip
"""Value types by key below the architecture's name; llama.cpp takes no other."""

REQUIRED = ("context_length", "embedding_length", "block_count")
RANGES: Mapping[str, tuple[int, int]] = {
    "context_length": (1, 1 << 27),
    "embedding_length": (1, 1 << 20),
    "block_count": (1, 512),
    "pooling_type": (0, 4),
    "expert_count": (0, 1024),
    "attention.key_length": (1, 1 << 16),
    "attention.value_length": (1, 1 << 16),
    "attention.head_count": (0, 1 << 16),
    "attention.head_count_kv": (0, 1 << 16),
    "feed_forward_length": (0, 1 << 24),
    "rope.dimension_count": (0, 1 << 16),
    "embedding_length_out": (0, 1 << 20),
}
"""What llama.cpp takes (LLAMA_MAX_LAYERS, LLAMA_MAX_EXPERTS), or ten times what any model has."""

EPSILONS = ("attention.layer_norm_epsilon", "attention.layer_norm_rms_epsilon", "attention.group_norm_epsilon")
SCALINGS = frozenset({"none", "linear", "yarn", "longrope"})
HEADLESS = frozenset({"mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7", "wavtokenizer-dec"})
"""Architectures without attention heads."""
PLAIN = frozenset({
    "afmoe", "apertus", "arcee", "arctic", "baichuan", "bailingmoe2", "bert", "bitnet", "bloom", "chameleon",
    "chatglm", "codeshell", "cogvlm", "cohere2", "cohere2moe", "command-r", "dbrx", "deepseek", "dots1", "dream",
    "ernie4_5", "ernie4_5-moe", "eurobert", "exaone", "falcon", "glm4", "glm4moe", "gpt2", "gptneox", "granite",
    "granite_swa", "grok", "grovemoe", "hunyuan-moe", "hunyuan_vl", "hy_v3", "internlm2", "jais", "jais2",
    "jina-bert-v2", "jina-bert-v3", "laguna", "llada", "llada-moe", "llama", "llama4", "maincoder", "mellum",
    "minimax-m2", "mistral3", "modern-bert", "mpt", "nanbeige", "nemotron", "neo-bert", "nomic-bert",
    "nomic-bert-moe", "olmo", "olmo2", "olmoe", "openelm", "orion", "paddleocr", "phi2", "phi3", "plamo", "qwen",
    "qwen2", "qwen2moe", "qwen2vl", "qwen3", "qwen3moe", "qwen3vl", "qwen3vlmoe", "refact", "rnd1", "seed_oss",
    "smallthinker", "smollm3", "stablelm", "starcoder", "starcoder2", "xverse",
})  # fmt: skip
"""Architectures of plain attention: each layer attends, with keys as long as values (their graphs assert it)."""


def check(header: Header) -> Iterator[Finding]:
    """Findings on the architecture's keys."""
    if header.kinds.get("general.architecture") != TEXT or not header.architecture:
        yield critical("missing_key", "general.architecture is missing or no text. Convert the model again.")
        return
    yield from _types(header)
    for key in REQUIRED:
        if header.own(key) not in header.keys:
            text = f"{header.own(key)} is missing; llama.cpp does not load a model without it. Convert the model again."
            yield critical("missing_key", text)
    for key, (least, most) in RANGES.items():
        yield from _range(header, key, least, most)
    yield from _heads(header)
    if header.architecture in PLAIN:
        yield from _plain(header)
    yield from _rope(header)
    yield from _norms(header)
    yield from _experts(header)


def _types(header: Header) -> Iterator[Finding]:
    for key, kinds in TYPES.items():
        found = header.kinds.get(header.own(key))
        if found is not None and found not in kinds:
            text = f"{header.own(key)} is {type_words(found)}, not {type_words(kinds[0])}. Convert the model again."
            yield critical("wrong_type", text)


def numbers(header: Header, key: str) -> list[int]:
    """The values of a key that is one number or one a layer; empty if it is absent or something else."""
    value = header.keys.get(header.own(key))
    many = value if isinstance(value, tuple) else (value,)
    return [number for number in many if isinstance(number, int) and not isinstance(number, bool)]


def _range(header: Header, key: str, least: int, most: int) -> Iterator[Finding]:
    for number in numbers(header, key):
        if not least <= number <= most:
            yield _bad(header, key, number, f"it has to be {least} to {most}")
            return


def _bad(header: Header, key: str, value: object, why: str) -> Finding:
    return critical("bad_value", f"{header.own(key)} is {value}; {why}. The file is damaged or wrongly converted.")


def _heads(header: Header) -> Iterator[Finding]:
    layers = header.integer(header.own("block_count")) or 0
    for key in ("attention.head_count", "attention.head_count_kv", "feed_forward_length", "expert_used_count"):
        count = header.count(header.own(key))
        if count is not None and count != layers:
            yield _bad(header, key, f"{count} values", f"the model has {layers} layers")
    heads = numbers(header, "attention.head_count")
    kv_heads = numbers(header, "attention.head_count_kv") or heads
    if header.architecture not in HEADLESS and not any(heads):
        yield _bad(header, "attention.head_count", heads[0] if heads else "missing", "attention needs heads")
        return
    wide = max(len(heads), len(kv_heads))
    for head, kv_head in zip(_spread(heads, wide), _spread(kv_heads, wide), strict=False):
        if kv_head and head % kv_head:
            yield _bad(header, "attention.head_count_kv", kv_head, f"{head} heads cannot share them evenly")
            return


def _plain(header: Header) -> Iterator[Finding]:
    key, value = _head_length(header, "attention.key_length"), _head_length(header, "attention.value_length")
    if key != value:
        yield _bad(header, "attention.key_length", key, f"values have {value}, {header.architecture} needs as many")
    if 0 in numbers(header, "attention.head_count") or 0 in numbers(header, "attention.head_count_kv"):
        yield _bad(header, "attention.head_count_kv", 0, f"each layer of a {header.architecture} needs heads")
    out, width = header.integer(header.own("embedding_length_out")), header.integer(header.own("embedding_length"))
    if out and out != width:
        yield _bad(header, "embedding_length_out", out, f"a {header.architecture} gives out what it works on, {width}")


def _spread(values: list[int], count: int) -> list[int]:
    return values * count if len(values) == 1 else values


def _rope(header: Header) -> Iterator[Finding]:
    for number in numbers(header, "rope.dimension_count"):
        if number % 2:
            yield _bad(header, "rope.dimension_count", number, "it has to be even")
        length = _head_length(header, "attention.key_length")
        if length and number > length:
            yield _bad(header, "rope.dimension_count", number, f"a head has only {length} elements")
    key = header.own("rope.scaling.type")
    if header.kinds.get(key) == TEXT and header.text(key) not in SCALINGS:
        why = f"llama.cpp knows {', '.join(sorted(SCALINGS))}"
        yield _bad(header, "rope.scaling.type", repr(header.text(key)), why)


def _head_length(header: Header, key: str) -> int | None:
    """Elements of a head's key or value; None where it is not known."""
    stated = header.integer(header.own(key))
    heads, width = numbers(header, "attention.head_count"), header.integer(header.own("embedding_length"))
    return stated if stated else width // heads[0] if heads and heads[0] and width else None


def _norms(header: Header) -> Iterator[Finding]:
    for key in EPSILONS:
        value = header.keys.get(header.own(key))
        if isinstance(value, float) and not (math.isfinite(value) and value >= 0):
            yield _bad(header, key, value, "it has to be a small positive number")


def _experts(header: Header) -> Iterator[Finding]:
    """The assertions of llama-model.cpp on experts and prediction layers."""
    experts = header.integer(header.own("expert_count")) or 0
    used = max(numbers(header, "expert_used_count"), default=0)
    if used > experts or (experts and not used):
        yield _bad(header, "expert_used_count", used, f"the model has {experts} experts")
    groups = header.integer(header.own("expert_group_count")) or 0
    used_groups = header.integer(header.own("expert_group_used_count")) or 0
    if groups and (groups >= experts or experts % groups or (groups > 1 and not 0 < used_groups < groups)):
        yield _bad(header, "expert_group_count", groups, f"{experts} experts in groups, {used_groups} used, do not fit")
    ahead = header.integer(header.own("nextn_predict_layers")) or 0
    layers = header.integer(header.own("block_count")) or 0
    if ahead > layers:
        yield _bad(header, "nextn_predict_layers", ahead, f"the model has {layers} layers")
