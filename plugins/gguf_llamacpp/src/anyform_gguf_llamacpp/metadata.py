"""What a GGUF model says of itself: its header's keys and tensor descriptions as `Metadata`."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from anyform.contract.facts import FormatMatch, Metadata, ModelFiles
from anyform_gguf_llamacpp import gguf
from anyform_gguf_llamacpp.cache import ENCODERS
from anyform_gguf_llamacpp.detection import MODEL, PROJECTOR, kind_of
from anyform_gguf_llamacpp.gguf import Header
from anyform_gguf_llamacpp.quantization import TENSOR_TYPES, agrees, file_type_name

POOLINGS = ("none", "mean", "cls", "last", "rank")
"""`<arch>.pooling_type`, llama.h's llama_pooling_type."""

SILENT = frozenset({
    "t5", "dream", "llada", "llada-moe", "rnd1", "wavtokenizer-dec", "gemma4-assistant", "eagle3", "dflash", "qwen3tts",
    "pockettts", "clip",
})  # fmt: skip
"""Architectures that no left-to-right text comes from: diffusion, speech, drafts, encoder-decoders, projectors."""

SPECIAL_TOKENS: Mapping[str, str] = {
    "bos": "bos_token_id", "eos": "eos_token_id", "eot": "eot_token_id", "eom": "eom_token_id",
    "unknown": "unknown_token_id", "separator": "seperator_token_id", "padding": "padding_token_id",
    "mask": "mask_token_id", "fim_prefix": "fim_pre_token_id", "fim_suffix": "fim_suf_token_id",
    "fim_middle": "fim_mid_token_id",
}  # fmt: skip
"""Our name -> key below `tokenizer.ggml.`; the misspelt one is the format's."""
OLD_FIM: Mapping[str, str] = {
    "fim_prefix": "prefix_token_id", "fim_suffix": "suffix_token_id", "fim_middle": "middle_token_id",
}  # fmt: skip

SHAPE: Mapping[str, str] = {
    "embedding_length": "embedding_length", "layers": "block_count", "feed_forward_length": "feed_forward_length",
    "heads": "attention.head_count", "kv_heads": "attention.head_count_kv", "key_length": "attention.key_length",
    "value_length": "attention.value_length", "sliding_window": "attention.sliding_window",
    "rope_freq_base": "rope.freq_base", "rope_scaling": "rope.scaling.type",
    "rope_original_context": "rope.scaling.original_context_length", "experts": "expert_count",
    "experts_used": "expert_used_count", "kv_lora_rank": "attention.kv_lora_rank",
    "key_length_mla": "attention.key_length_mla", "value_length_mla": "attention.value_length_mla",
    "shared_kv_layers": "attention.shared_kv_layers", "state_size": "ssm.state_size", "inner_size": "ssm.inner_size",
    "conv_kernel": "ssm.conv_kernel", "group_count": "ssm.group_count", "labels": "classifier.output_labels",
    "nextn_layers": "nextn_predict_layers", "window_pattern": "attention.sliding_window_pattern",
    "expert_feed_forward_length": "expert_feed_forward_length",
}  # fmt: skip
"""Our name in `extra` -> key below the architecture's name."""

GENERAL: Mapping[str, str] = {
    "organization": "general.organization", "basename": "general.basename", "finetune": "general.finetune",
    "size_label": "general.size_label", "description": "general.description", "languages": "general.languages",
    "tags": "general.tags", "quantized_by": "general.quantized_by", "url": "general.url",
    "repo_url": "general.repo_url", "license_link": "general.license.link", "adapter_type": "adapter.type",
    "lora_alpha": "adapter.lora.alpha",
}  # fmt: skip

THINKING = re.compile(r"enable_thinking|reasoning_content|think>|\[THINK\]|_THINKING\||\bthinking\b|<\|channel\|>")
TOOLS = re.compile(r"\btools\b|\bavailable_tools\b|\bfunctions\b")


def extract(files: ModelFiles, match: FormatMatch) -> Metadata:
    """Metadata of a match; fields that the files do not tell are None or empty, also in a broken file.

    `extra` has, where the file tells them: embedding_length, layers, feed_forward_length, heads, kv_heads (a number,
    or one a layer), key_length, value_length, sliding_window, rope_freq_base, rope_scaling, experts, experts_used,
    pooling, labels, chat_template, chat_templates (name -> template), special_tokens (name -> id), file_type,
    tensor_types (type -> count), matrix_bytes (type -> bytes of what is multiplied by), quantization_note, sampling,
    mmproj (file name), mmproj_bytes, shards, kind, and the general keys of GENERAL.
    """
    headers = _headers(files, match.files)
    projectors = {name: header for name, header in headers.items() if kind_of(header, name) == PROJECTOR}
    shards = [header for name, header in headers.items() if name not in projectors or name == match.entry]
    if not shards:
        return Metadata(name=match.name)
    beside = {name: header for name, header in projectors.items() if name != match.entry}
    return _metadata(headers.get(match.entry, shards[0]), shards, beside, match)


def _headers(files: ModelFiles, names: Iterable[str]) -> dict[str, Header]:
    """The headers of those *names* that are there and can be read."""
    headers = {}
    for name in names:
        if name in files.files:
            with suppress(OSError):
                headers[name] = gguf.header(files, name)
    return headers


def _metadata(
    first: Header, shards: Sequence[Header], projectors: Mapping[str, Header], match: FormatMatch
) -> Metadata:
    tensors = [tensor for header in shards for tensor in header.tensors]
    types = tensor_types(shards)
    kind = kind_of(first, match.entry)
    quantization, note = _quantization(first, shards)
    template = chat_template(first)
    facts: dict[str, Any] = _shape(first) | {
        "kind": kind,
        "pooling": pooling(first),
        "chat_template": template,
        "chat_templates": {key: text for key, text in _templates(first).items() if text},
        "special_tokens": special_tokens(first),
        "file_type": file_type_name(first.keys.get("general.file_type")),
        "tensor_types": types,
        "matrix_bytes": matrix_bytes(shards),
        "quantization_note": note,
        "sampling": gguf.groups(first.keys, "general.sampling."),
        "mmproj": next(iter(projectors), None),
        "mmproj_bytes": sum(header.size for header in projectors.values()) or None,
        "shards": len(shards) if len(shards) > 1 else None,
        "pre_tokenizer": first.text("tokenizer.ggml.pre"),
        **{name: first.keys.get(key) for name, key in GENERAL.items()},
    }
    return Metadata(
        name=first.text("general.name") or match.name,
        version=str(first.version) if first.version else "",
        architecture=first.architecture,
        tasks=_tasks(first, kind),
        parameters=sum(tensor.elements for tensor in tensors) or None,
        context=first.integer(first.own("context_length")),
        quantization=quantization,
        vocab_size=first.count("tokenizer.ggml.tokens") or first.integer(first.own("vocab_size")),
        weight_bytes=sum(tensor.size or 0 for tensor in tensors) or _unseen_bytes(shards),
        features=_features(first, template, projectors.values()),
        tensors=len(tensors),
        tokenizer=first.text("tokenizer.ggml.model"),
        license=first.text("general.license") or first.text("general.license.name"),
        extra={name: value for name, value in ((name, _json(value)) for name, value in facts.items()) if _said(value)},
    )


def _unseen_bytes(shards: Iterable[Header]) -> int:
    """Files whose header was not read to its end: they are mostly weights."""
    return sum(header.size for header in shards if header.trouble is not None)


def tensor_types(shards: Iterable[Header]) -> dict[str, int]:
    """How many tensors have which type, the most frequent first."""
    kinds = Counter(tensor.kind for header in shards for tensor in header.tensors)
    return {TENSOR_TYPES[kind].name if kind in TENSOR_TYPES else f"type {kind}": n for kind, n in kinds.most_common()}


def matrix_bytes(shards: Sequence[Header]) -> dict[str, int]:
    """Bytes of the matrices that are multiplied by, by type; token embeddings are, where they serve as output too."""
    tensors = [tensor for header in shards for tensor in header.tensors]
    tied = all(tensor.name != "output.weight" for tensor in tensors)
    found: Counter[str] = Counter()
    for tensor in tensors:
        read_only = "_embd" in tensor.name and not (tied and tensor.name == "token_embd.weight")
        if tensor.kind in TENSOR_TYPES and len(tensor.shape) > 1 and not read_only:
            found[TENSOR_TYPES[tensor.kind].name] += tensor.size or 0
    return dict(found)


def pooling(header: Header) -> str:
    """none, mean, cls, last or rank; "" where the file does not say."""
    number = header.integer(header.own("pooling_type"))
    return POOLINGS[number] if number is not None and number < len(POOLINGS) else ""


def chat_template(header: Header) -> str:
    """The default chat template, as Jinja source; "" if there is none."""
    return header.text("tokenizer.chat_template")


def special_tokens(header: Header) -> dict[str, int]:
    """Ids by our names; those outside the vocabulary are left out, as llama.cpp leaves them."""
    found = {}
    for name, key in SPECIAL_TOKENS.items():
        number = header.integer(f"tokenizer.ggml.{key}")
        if number is None and name in OLD_FIM:
            number = header.integer(f"tokenizer.ggml.{OLD_FIM[name]}")
        if number is not None and 0 <= number < (header.count("tokenizer.ggml.tokens") or 0):
            found[name] = number
    return found


def _templates(header: Header) -> dict[str, str]:
    prefix = "tokenizer.chat_template."
    return {key: value for key, value in gguf.groups(header.keys, prefix).items() if isinstance(value, str)}


def _tasks(header: Header, kind: str) -> tuple[str, ...]:
    if kind != MODEL or not header.architecture or header.architecture in SILENT:
        return ()
    pooled = pooling(header)
    if pooled == "rank":
        return ("rerank",)
    if pooled not in ("", "none") or header.architecture in ENCODERS:
        return ("embed",)
    if header.keys.get(header.own("attention.causal")) is False:
        return ("embed",)
    return ("chat", "complete") if chat_template(header) else ("complete",)


def _features(header: Header, template: str, projectors: Iterable[Header]) -> tuple[str, ...]:
    tokens = special_tokens(header)
    senses = [_senses(projector) for projector in projectors]
    found = {
        "tools": bool(TOOLS.search(template)) or "tool_use" in _templates(header),
        "thinking": bool(THINKING.search(template)),
        "vision": any("vision" in sense for sense in senses),
        "audio": any("audio" in sense for sense in senses),
        "fim": {"fim_prefix", "fim_suffix", "fim_middle"} <= tokens.keys(),
    }
    return tuple(name for name, there in found.items() if there)


def _senses(projector: Header) -> set[str]:
    """What a projector lets a model perceive: vision, audio."""
    stated = {sense for sense in ("vision", "audio") if projector.keys.get(f"clip.has_{sense}_encoder") is True}
    return stated or {"vision"}


def _quantization(first: Header, shards: Sequence[Header]) -> tuple[str, str]:
    """(what it is quantized to, a note where the file type and the tensors disagree). The tensors are right."""
    said = file_type_name(first.keys.get("general.file_type"))
    found = _dominant(shards)
    if not found or agrees(said, found):
        return said or found, ""
    return found, f"general.file_type says {said}, but most weights are {found}"


def _dominant(shards: Iterable[Header]) -> str:
    """The type that holds most of the elements; vectors, which are never quantized, do not count beside matrices."""
    elements: Counter[str] = Counter()
    for tensor in (tensor for header in shards for tensor in header.tensors):
        if tensor.kind in TENSOR_TYPES and len(tensor.shape) > 1:
            elements[TENSOR_TYPES[tensor.kind].name] += tensor.elements
    return elements.most_common(1)[0][0] if elements else ""


def _shape(header: Header) -> dict[str, Any]:
    """The numbers that describe the network, with llama.cpp's defaults for heads' lengths and KV heads."""
    shape = {name: header.keys.get(header.own(key)) for name, key in SHAPE.items()}
    heads, width = shape["heads"], shape["embedding_length"]
    if shape["kv_heads"] is None:
        shape["kv_heads"] = heads
    most = max(heads, default=0) if isinstance(heads, tuple) else heads
    if isinstance(most, int) and isinstance(width, int) and most:
        for name in ("key_length", "value_length"):
            shape[name] = shape[name] if shape[name] is not None else width // most
    return shape


def _json(value: Any) -> Any:
    """JSON's form of a key's value; None for what has none (a long array, a number that is not finite)."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, tuple | list):
        return [_json(item) for item in value]
    if isinstance(value, dict):
        return {key: _json(item) for key, item in value.items()}
    return value if isinstance(value, str | int) else None


def _said(value: Any) -> bool:
    return value is not None and value != "" and value != {} and value != []
