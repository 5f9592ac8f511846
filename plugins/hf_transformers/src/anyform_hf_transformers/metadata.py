"""What a Hugging Face folder says of itself, as `Metadata`: config, tokenizer and headers; no weights, no engine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from anyform.contract.facts import FormatMatch, Metadata, ModelFiles
from anyform.pretrained import architecture, facts, modules, safetensors
from anyform.pretrained.configuration import Configuration
from anyform.pretrained.layout import CONFIG, MODULES, at, folder_of
from anyform.pretrained.safetensors import DTYPE_BITS, Tensor
from anyform.pretrained.template import templates
from anyform_hf_transformers import layout, vision
from anyform_hf_transformers.detection import declared
from anyform_hf_transformers.family import KNOWN
from anyform_hf_transformers.layout import PEFT

CODES: Mapping[str, str] = {"bitsandbytes": "BNB", "compressed-tensors": "CT", "fbgemm_fp8": "FP8"}
NOT_PARAMETERS = (
    ".qzeros", ".scales", ".g_idx", ".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map", ".SCB",
    ".weight_scale", ".weight_scale_inv", ".input_scale", ".weight_shape", ".weight_zero_point", ".weight_g_idx",
    ".weight_format", "_scales",
)  # fmt: skip
"""Endings of tensors that a quantization keeps beside the weights."""
ADAPTER_TASKS: Mapping[str, tuple[str, ...]] = {
    "CAUSAL_LM": ("complete",), "SEQ_CLS": ("classify",), "FEATURE_EXTRACTION": ("embed",),
}  # fmt: skip
"""PEFT's task_type -> what the model does with the adapter."""


def extract(files: ModelFiles, match: FormatMatch) -> Metadata:
    """Metadata of a match; fields that the files do not tell are None or empty, also in a broken folder.

    `extra` has, where the files tell them, what a GGUF has under the same names: embedding_length, layers,
    feed_forward_length, heads, kv_heads, key_length, value_length, sliding_window, window_pattern, rope_freq_base,
    rope_scaling, rope_original_context, experts, experts_used, kv_lora_rank, pooling, labels, chat_template,
    chat_templates, special_tokens, sampling, tensor_types, shards. And of its own: architectures, layer_types,
    normalize, dimensions, prompts, quantization_config, remote_code (classes that its code would be imported for),
    dtype, languages (codes that a Whisper hears), picture (what one costs: see vision.py), untied (the output has a
    matrix of its own), sight (what a picture's encoder is like), mel_bands (of a spectrogram), file_variant (`fp16`),
    adapter (PEFT's facts), transformers_version.
    """
    weights = [name for name in match.files if name.endswith(".safetensors") and _is_weight(match, name)]
    tensors = [tensor for name in weights for tensor in safetensors.header(files, name).tensors]
    folder = folder_of(match.entry)
    if match.format == PEFT:
        return _adapter(files, match, folder, tensors)
    return _model(files, match, folder, tensors)


def _is_weight(match: FormatMatch, name: str) -> bool:
    """Whether it is the model's own, and not a Dense module's."""
    return folder_of(name) == folder_of(match.entry)


def home(match: FormatMatch) -> str:
    """The model's folder, which holds modules.json where there is one."""
    found = [name for name in match.files if name.rpartition("/")[2] == MODULES]
    return folder_of(found[0]) if found else folder_of(match.entry)


def _model(files: ModelFiles, match: FormatMatch, folder: str, tensors: Sequence[Tensor]) -> Metadata:
    config = Configuration(files.json(at(folder, CONFIG)))
    tokenizer = files.json(at(folder, "tokenizer_config.json"))
    generation = files.json(at(folder, "generation_config.json"))
    top = home(match)
    parts = modules.modules(files, top)
    chats = templates(files, folder, tokenizer)
    template = chats.get("default", "")
    doing = architecture.tasks(config, parts, template)
    if generation.get("is_multilingual") is False:  # a Whisper of English only
        doing = tuple(task for task in doing if task != "translate")
    quantizing = config.content.get("quantization_config")
    quantizing = quantizing if isinstance(quantizing, dict) else {}
    told: dict[str, Any] = config.shape() | {
        "architectures": list(config.architectures),
        "pooling": modules.pooling(files, top) or ("rank" if doing[:1] == ("rerank",) else ""),
        "normalize": any(part.kind == "Normalize" for part in parts) if parts else None,
        "dimensions": facts.dimensions(files, top, parts, config) if "embed" in doing else None,
        "prompts": facts.texts(files.json(at(top, "config_sentence_transformers.json")).get("prompts")),
        "labels": list(config.labels) if {"classify", "zero_shot", "rerank"} & {*doing} else None,
        "chat_template": template,
        "chat_templates": {name: text for name, text in chats.items() if name != "default"},
        "special_tokens": facts.special(config, generation),
        "sampling": facts.sampling(generation),
        "tensor_types": dict(Counter(tensor.dtype for tensor in tensors).most_common()),
        "dtype": declared(config.content),
        "quantization_config": _plain(quantizing),
        "remote_code": list(config.remote_code) if config.model_type not in KNOWN else None,
        "languages": _languages(generation) if "transcribe" in doing else None,
        "mel_bands": config.number("num_mel_bins"),
        "file_variant": _file_variant(match),
        "shards": _shard_count(match),
        "picture": vision.picture(config.content, _image_processor(files, folder)) if "chat" in doing else None,
        "sight": config.sight(),
        "untied": any(one.name.endswith("lm_head.weight") for one in tensors) or None,
        "transformers_version": facts.said(config.content.get("transformers_version")),
    }
    return Metadata(
        name=match.name,
        architecture=facts.said(config.model_type),
        tasks=doing,
        parameters=_parameters(tensors, quantizing),
        context=facts.context(files, folder, top, config, tokenizer, doing),
        quantization=_quantization(tensors, quantizing) or ("" if tensors else declared(config.content)),
        vocab_size=config.number("vocab_size"),
        weight_bytes=sum(tensor.size for tensor in tensors) or _file_bytes(files, match),
        features=architecture.features(config, doing, template, _senses(files, folder)),
        tensors=len(tensors) or None,
        tokenizer=facts.said(tokenizer.get("tokenizer_class")),
        license=facts.license(files, top),
        extra={name: facts.whole(value) for name, value in told.items() if value not in (None, "", {}, [])},
    )


def _adapter(files: ModelFiles, match: FormatMatch, folder: str, tensors: Sequence[Tensor]) -> Metadata:
    """Of the adapter, and of its base where that is on this machine."""
    from anyform_hf_transformers import adapter

    said = files.json(at(folder, layout.ADAPTER_CONFIG))
    beside = files.path if folder == "." else files.path / folder
    place = adapter.base_folder(said, beside)
    labels = adapter.label_count({tensor.name: tensor.shape for tensor in tensors})
    told = {
        "base": said.get("base_model_name_or_path"),
        "revision": said.get("revision"),
        "folder": str(beside) if beside.is_dir() else "",
        "type": said.get("peft_type"),
        "rank": said.get("r"),
        "alpha": said.get("lora_alpha"),
        "task": said.get("task_type"),
        "labels": labels,
    }
    plain = {name: value for name, value in _plain(told).items() if value != ""}
    template = templates(files, folder, files.json(at(folder, "tokenizer_config.json"))).get("default", "")
    tasks = ADAPTER_TASKS.get(facts.said(said.get("task_type")), ())
    if tasks == ("classify",) and labels == 1:
        tasks = ("rerank",)
    found = Metadata(
        name=match.name,
        architecture=facts.said(said.get("peft_type")).lower(),
        tasks=("chat", *tasks) if template and tasks == ("complete",) else tasks,
        parameters=sum(tensor.elements for tensor in tensors) or None,
        quantization=_dominant(tensors),
        weight_bytes=sum(tensor.size for tensor in tensors) or files.files.get(match.entry),
        tensors=len(tensors) or None,
        license=facts.license(files, folder),
        extra={"kind": "adapter", "adapter": facts.whole(plain)} | ({"chat_template": template} if template else {}),
    )
    base = adapter.described(place) if place else None
    return adapter.completed(found, base[1]) if base else found


def _image_processor(files: ModelFiles, folder: str) -> Mapping[str, Any]:
    """What is said of how pictures are prepared; since transformers 5 it is a part of the processor's file."""
    said = files.json(at(folder, "processor_config.json")).get("image_processor")
    return said if isinstance(said, dict) else files.json(at(folder, "preprocessor_config.json"))


def _senses(files: ModelFiles, folder: str) -> list[str]:
    """What the preprocessor's files prepare."""
    said = files.json(at(folder, "preprocessor_config.json"))
    found = ["vision"] if "image_processor_type" in said or "image_mean" in said else []
    return found + (["audio"] if "sampling_rate" in said else [])


def _parameters(tensors: Iterable[Tensor], quantizing: Mapping[str, Any]) -> int | None:
    """Numbers that were learnt; several of them share an element where they are packed."""
    total = 0
    for tensor in tensors:
        if not quantizing or (not tensor.name.endswith(NOT_PARAMETERS) and ".quant_state." not in tensor.name):
            total += tensor.elements * _packed(tensor, quantizing)
    return total or None


def _packed(tensor: Tensor, quantizing: Mapping[str, Any]) -> int:
    bits = _bits(quantizing)
    if bits and tensor.dtype == "I32" and tensor.name.endswith((".qweight", ".weight_packed")):
        return max(1, 32 // bits)
    halves = tensor.dtype == "U8" and (bits == 4 or facts.said(quantizing.get("quant_method")) == "mxfp4")
    return 2 if halves and not tensor.name.endswith(".bias") else 1


def _bits(quantizing: Mapping[str, Any]) -> int | None:
    if quantizing.get("load_in_4bit") is True or quantizing.get("_load_in_4bit") is True:
        return 4
    bits = quantizing.get("bits", quantizing.get("w_bit"))
    groups = quantizing.get("config_groups")
    if bits is None and isinstance(groups, dict):
        weights = [group.get("weights") for group in groups.values() if isinstance(group, dict)]
        bits = next((one.get("num_bits") for one in weights if isinstance(one, dict)), None)
    return bits if type(bits) is int and 1 <= bits <= 16 else None


def _quantization(tensors: Sequence[Tensor], quantizing: Mapping[str, Any]) -> str:
    """Such as BF16, FP8, AWQ-4bit, BNB-4bit."""
    method = facts.said(quantizing.get("quant_method")) or ("bitsandbytes" if _bits(quantizing) else "")
    if not method:
        return _dominant(tensors)
    name, bits = CODES.get(method, method.upper()), _bits(quantizing)
    if method == "bitsandbytes" and bits is None:
        bits = 8
    return f"{name}-{bits}bit" if bits else name


def _dominant(tensors: Iterable[Tensor]) -> str:
    """The type that holds most of the elements; vectors do not count beside matrices."""
    elements: Counter[str] = Counter()
    for tensor in tensors:
        if tensor.dtype in DTYPE_BITS and len(tensor.shape) > 1:
            elements[tensor.dtype] += tensor.elements
    found = elements.most_common(1)[0][0] if elements else ""
    return "FP8" if found.startswith("F8_") else found


def _languages(generation: Mapping[str, Any]) -> list[str]:
    """Codes, in the order of their tokens (`<|en|>`)."""
    if generation.get("is_multilingual") is False:
        return ["en"]
    said = generation.get("lang_to_id")
    known = {name: id for name, id in said.items() if type(id) is int} if isinstance(said, dict) else {}
    return [name.strip("<|>") for name in sorted(known, key=lambda name: known[name])]


def _plain(said: Mapping[str, Any]) -> dict[str, Any]:
    """What is one word or number; lists of modules and the like are left out."""
    return {name: value for name, value in said.items() if isinstance(value, str) or _is_small(value)}


def _is_small(value: Any) -> bool:
    return isinstance(value, int) and abs(value) < 1 << 63


def _file_variant(match: FormatMatch) -> str:
    name = match.entry.rpartition("/")[2]
    found = layout.weights([name])
    return found[0].variant if found else ""


def _shard_count(match: FormatMatch) -> int | None:
    count = sum(name.endswith((".safetensors", ".bin")) and _is_weight(match, name) for name in match.files)
    return count if count > 1 else None


def _file_bytes(files: ModelFiles, match: FormatMatch) -> int | None:
    """Sizes of weights whose headers were not read: they are mostly weights."""
    names = (name for name in match.files if name.endswith((".safetensors", ".bin")) and _is_weight(match, name))
    return sum(files.files.get(name, 0) for name in names) or None
