"""Writes tiny Hugging Face folders in pure Python: safetensors and pickled weights of random numbers, and configs.

Written for https://github.com/huggingface/safetensors#format and for what `torch.save` writes (a ZIP with a pickle of
protocol 2); nothing is imported for it.
"""

from __future__ import annotations

import json
import math
import random
import struct
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anyform.testing import bytelevel
from anyform.testing.gguf_vocabulary import CONTROL, byte_pairs

SIZES = {"F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "U8": 1, "I8": 1, "F8_E4M3": 1, "BOOL": 1}
"""Bytes of an element."""
STORAGES = {"F32": "FloatStorage", "F16": "HalfStorage", "BF16": "BFloat16Storage", "I64": "LongStorage"}
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "<s>", "</s>", "once", "upon", "a", "time", "boat", "sea", "small", "the")
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True)
class Tensor:
    """A named tensor."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    data: bytes


def tensor(name: str, *shape: int, dtype: str = "F32", seed: int = 0) -> Tensor:
    """Small random numbers (F32), or bytes that are small numbers in the other types of float."""
    chance, count = random.Random(f"{name} {seed}"), math.prod(shape)
    if dtype == "F32":
        data = struct.pack(f"<{count}f", *(chance.gauss(0, 0.05) for _ in range(count)))
    elif dtype == "F16":
        data = struct.pack(f"<{count}e", *(chance.gauss(0, 0.05) for _ in range(count)))
    else:
        data = bytes(count * SIZES[dtype])
    return Tensor(name, shape, dtype, data)


def described(tensors: Sequence[Tensor]) -> dict[str, Any]:
    """The header of a file with *tensors*, to be changed by tests before `assemble` writes it."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    place = 0
    for one in tensors:
        end = place + len(one.data)
        header[one.name] = {"dtype": one.dtype, "shape": list(one.shape), "data_offsets": [place, end]}
        place = end
    return header


def assemble(header: Mapping[str, Any] | bytes, data: bytes) -> bytes:
    """A whole file; *header* is padded to a multiple of eight bytes, as the library does it."""
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def write_safetensors(path: Path, tensors: Sequence[Tensor]) -> Path:
    """One sound file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(assemble(described(tensors), b"".join(one.data for one in tensors)))
    return path


def write_sharded(folder: Path, tensors: Sequence[Tensor], count: int, pickled: bool = False) -> Path:
    """*tensors* in *count* shards of about equal numbers, and their index, which is returned."""
    stem, suffix, write = (
        ("pytorch_model", ".bin", write_pickled) if pickled else ("model", ".safetensors", write_safetensors)
    )
    mapped: dict[str, str] = {}
    for number in range(count):
        name = f"{stem}-{number + 1:05}-of-{count:05}{suffix}"
        part = tensors[number::count]
        write(folder / name, part)
        mapped.update({one.name: name for one in part})
    index = folder / f"{stem}{suffix}.index.json"
    total = sum(len(one.data) for one in tensors)
    return write_json(index, {"metadata": {"total_size": total}, "weight_map": dict(sorted(mapped.items()))})


def write_pickled(path: Path, tensors: Sequence[Tensor], extra: bytes = b"") -> Path:
    """A `pytorch_model.bin`. *extra*: opcodes that run before the tensors are made, such as a damaging import."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", state_pickle(tensors, extra))
        archive.writestr("archive/byteorder", b"little")
        for number, one in enumerate(tensors):
            archive.writestr(f"archive/data/{number}", one.data)
        archive.writestr("archive/version", b"3\n")
    return path


def state_pickle(tensors: Sequence[Tensor], extra: bytes = b"") -> bytes:
    """The pickle of an OrderedDict of tensors, as torch writes it."""
    parts = [b"\x80\x02", extra, b"ccollections\nOrderedDict\n)R("]
    for number, one in enumerate(tensors):
        count = math.prod(one.shape)
        strides = [math.prod(one.shape[place + 1 :]) for place in range(len(one.shape))]
        storage = b"(" + _text("storage") + f"ctorch\n{STORAGES[one.dtype]}\n".encode()
        storage += _text(str(number)) + _text("cpu") + _number(count) + b"tQ"
        parts += [_text(one.name), b"ctorch._utils\n_rebuild_tensor_v2\n(", storage, _number(0)]
        parts += [_numbers(one.shape), _numbers(strides), b"\x89ccollections\nOrderedDict\n)RtR"]
    return b"".join([*parts, b"u."])


def _text(text: str) -> bytes:
    data = text.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def _number(number: int) -> bytes:
    return b"J" + struct.pack("<i", number)


def _numbers(numbers: Sequence[int]) -> bytes:
    return b"(" + b"".join(map(_number, numbers)) + b"t"


def write_json(path: Path, content: Any) -> Path:
    """*content* as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return path


def llama_config(**changes: Any) -> dict[str, Any]:
    """config.json of a tiny llama."""
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 16, "intermediate_size": 32,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 32, "head_dim": 4,
        "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": True,
        "bos_token_id": 4, "eos_token_id": 5, "hidden_act": "silu", "torch_dtype": "float32",
    }  # fmt: skip
    return config | changes


def llama_tensors(config: Mapping[str, Any], dtype: str = "F32") -> list[Tensor]:
    """The tensors of the llama, qwen2 or qwen3 that *config* describes."""
    width, wide, head = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    heads, keys = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config["vocab_size"], width)}
    for number in range(config["num_hidden_layers"]):
        layer = f"model.layers.{number}"
        shapes |= {
            f"{layer}.input_layernorm.weight": (width,),
            f"{layer}.self_attn.q_proj.weight": (heads, width),
            f"{layer}.self_attn.k_proj.weight": (keys, width),
            f"{layer}.self_attn.v_proj.weight": (keys, width),
            f"{layer}.self_attn.o_proj.weight": (width, heads),
            f"{layer}.post_attention_layernorm.weight": (width,),
            f"{layer}.mlp.gate_proj.weight": (wide, width),
            f"{layer}.mlp.up_proj.weight": (wide, width),
            f"{layer}.mlp.down_proj.weight": (width, wide),
        }
        if config["model_type"] == "qwen2":
            sides = {"q": heads, "k": keys, "v": keys}
            shapes |= {f"{layer}.self_attn.{part}_proj.bias": (side,) for part, side in sides.items()}
        if config["model_type"] == "qwen3":
            shapes |= {f"{layer}.self_attn.{part}_norm.weight": (head,) for part in "qk"}
    shapes["model.norm.weight"] = (width,)
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (config["vocab_size"], width)
    return [tensor(name, *shape, dtype=dtype) for name, shape in shapes.items()]


def bert_config(**changes: Any) -> dict[str, Any]:
    """config.json of a tiny BERT."""
    config = {
        "architectures": ["BertModel"], "model_type": "bert", "hidden_size": 16, "intermediate_size": 32,
        "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 32, "max_position_embeddings": 64,
        "type_vocab_size": 2, "hidden_act": "gelu", "layer_norm_eps": 1e-12, "pad_token_id": 0,
    }  # fmt: skip
    return config | changes


def bert_tensors(config: Mapping[str, Any], dtype: str = "F32", head: Sequence[Tensor] = ()) -> list[Tensor]:
    """The tensors of the BERT that *config* describes; with a *head* they lie below `bert.`."""
    width, wide, prefix = config["hidden_size"], config["intermediate_size"], "bert." if head else ""
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings": (config["vocab_size"], width),
        "embeddings.position_embeddings": (config["max_position_embeddings"], width),
        "embeddings.token_type_embeddings": (config["type_vocab_size"], width),
    }
    plain = [f"{prefix}{name}.weight" for name in shapes]
    made = [tensor(name, *shape, dtype=dtype) for name, shape in zip(plain, shapes.values(), strict=True)]
    linear: dict[str, tuple[int, ...]] = {"embeddings.LayerNorm": (width,)}
    for number in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{number}"
        linear |= {f"{layer}.attention.self.{name}": (width, width) for name in ("query", "key", "value")}
        linear |= {
            f"{layer}.attention.output.dense": (width, width),
            f"{layer}.attention.output.LayerNorm": (width,),
            f"{layer}.intermediate.dense": (wide, width),
            f"{layer}.output.dense": (width, wide),
            f"{layer}.output.LayerNorm": (width,),
        }
    linear["pooler.dense"] = (width, width)
    for name, shape in linear.items():
        made.append(tensor(f"{prefix}{name}.weight", *shape, dtype=dtype))
        made.append(tensor(f"{prefix}{name}.bias", shape[0], dtype=dtype))
    return [*made, *head]


def write_tokenizer(folder: Path, size: int = 32, template: str = "", **config: Any) -> None:
    """tokenizer.json of whole words, split at spaces, and tokenizer_config.json."""
    words = [*WORDS, *(f"word{number}" for number in range(size))][:size]
    content = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [
            {"id": id, "content": word, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
             "special": True} for id, word in enumerate(words[:6])
        ],
        "normalizer": {"type": "Lowercase"}, "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": {word: id for id, word in enumerate(words)}, "unk_token": "[UNK]"},
    }  # fmt: skip
    write_json(folder / "tokenizer.json", content)
    said = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]", "pad_token": "[PAD]", **config}
    write_json(folder / "tokenizer_config.json", said | ({"chat_template": template} if template else {}))


def byte_words() -> dict[str, Any]:
    """What config.json says of `write_byte_tokenizer`'s vocabulary: its size, and the ids of its ends."""
    said = byte_pairs()
    tokens = said["tokenizer.ggml.tokens"]
    ids = {"bos_token_id": tokens.index("<|endoftext|>"), "eos_token_id": tokens.index("<|im_end|>")}
    return {"vocab_size": len(tokens), **ids, "pad_token_id": ids["bos_token_id"]}


def write_byte_tokenizer(folder: Path, template: str = "", **config: Any) -> None:
    """tokenizer.json of `gguf_vocabulary.byte_pairs`, which takes any text, and tokenizer_config.json."""
    said = byte_pairs()
    tokens, kinds = said["tokenizer.ggml.tokens"], said["tokenizer.ggml.token_type"]
    added = [(id, tokens[id], True) for id, kind in enumerate(kinds) if kind == CONTROL]
    vocabulary = {token: id for id, (token, kind) in enumerate(zip(tokens, kinds, strict=True)) if kind != CONTROL}
    content = bytelevel.content(vocabulary, added, said["tokenizer.ggml.merges"])
    write_json(folder / "tokenizer.json", content)
    ends = {"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    told = {"tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": False, **ends, **config}
    write_json(folder / "tokenizer_config.json", told | ({"chat_template": template} if template else {}))


def write_llama(
    folder: Path, *, dtype: str = "F32", template: str = "", shards: int = 1, pickled: bool = False, **changes: Any
) -> Path:
    """A tiny llama that transformers loads, with random weights. *changes*: to config.json."""
    config = llama_config(**changes)
    write_json(folder / "config.json", config)
    write_json(folder / "generation_config.json", {"bos_token_id": 4, "eos_token_id": 5})
    write_tokenizer(folder, config["vocab_size"], template, bos_token="<s>", eos_token="</s>", model_max_length=128)
    _write(folder, llama_tensors(config, dtype), shards, pickled)
    return folder


def write_bert(
    folder: Path, *, labels: Sequence[str] = (), pooling: str = "", pickled: bool = False, **changes: Any
) -> Path:
    """A tiny BERT: an encoder with modules.json where it has a *pooling*, a classifier where it has *labels*."""
    config = bert_config(**changes)
    head: list[Tensor] = []
    if labels:
        config |= {"architectures": ["BertForSequenceClassification"]}
        config["id2label"] = {str(number): label for number, label in enumerate(labels)}
        config["label2id"] = {label: number for number, label in enumerate(labels)}
        head = [tensor("classifier.weight", len(labels), config["hidden_size"]), tensor("classifier.bias", len(labels))]
    write_json(folder / "config.json", config)
    write_tokenizer(folder, config["vocab_size"], cls_token="[CLS]", sep_token="[SEP]", model_max_length=64)
    _write(folder, bert_tensors(config, head=head), 1, pickled)
    if pooling:
        write_modules(folder, pooling)
    return folder


def write_vit(folder: Path, labels: Sequence[str]) -> Path:
    """A tiny ViT of one layer that classifies pictures, and what prepares them: 24 pixels a side, patches of 8."""
    width, forward, side, patch = 16, 24, 24, 8
    config = {
        "architectures": ["ViTForImageClassification"],
        "model_type": "vit",
        "hidden_size": width,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": forward,
        "image_size": side,
        "patch_size": patch,
        "num_channels": 3,
        "id2label": {str(number): label for number, label in enumerate(labels)},
        "label2id": {label: number for number, label in enumerate(labels)},
        "dtype": "float32",
    }
    write_json(folder / "config.json", config)
    prepared = {"image_processor_type": "ViTImageProcessor", "size": {"height": side, "width": side}}
    write_json(folder / "preprocessor_config.json", prepared | {"image_mean": [0.5] * 3, "image_std": [0.5] * 3})
    layer = "vit.encoder.layer.0"
    shapes: dict[str, tuple[int, ...]] = {
        "vit.embeddings.patch_embeddings.projection": (width, 3, patch, patch),
        **{f"{layer}.attention.attention.{name}": (width, width) for name in ("query", "key", "value")},
        f"{layer}.attention.output.dense": (width, width),
        f"{layer}.intermediate.dense": (forward, width),
        f"{layer}.output.dense": (width, forward),
        **dict.fromkeys((f"{layer}.layernorm_before", f"{layer}.layernorm_after", "vit.layernorm"), (width,)),
        "classifier": (len(labels), width),
    }
    tensors = [tensor("vit.embeddings.cls_token", 1, 1, width)]
    tensors += [tensor("vit.embeddings.position_embeddings", 1, (side // patch) ** 2 + 1, width)]
    for name, shape in shapes.items():
        tensors += [tensor(f"{name}.weight", *shape), tensor(f"{name}.bias", shape[0])]
    write_safetensors(folder / "model.safetensors", tensors)
    return folder


def write_modules(folder: Path, pooling: str, limit: int | None = None, width: int = 16) -> None:
    """sentence-transformers' files: pool by mean or cls, then normalise."""
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    listed = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (path, kind) in enumerate(kinds.items())
    ]
    write_json(folder / "modules.json", listed)
    modes = {f"pooling_mode_{name}": name.startswith(pooling) for name in ("cls_token", "mean_tokens")}
    write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": width, **modes})
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": limit or 64, "do_lower_case": False})


def write_adapter(folder: Path, base: str = "owner/model", kind: str = "CAUSAL_LM") -> Path:
    """A LoRA of two matrices."""
    prefix = "base_model.model.model.layers.0.self_attn.q_proj"
    parts = [tensor(f"{prefix}.lora_A.weight", 4, 16), tensor(f"{prefix}.lora_B.weight", 16, 4)]
    said = {"peft_type": "LORA", "task_type": kind, "r": 4, "lora_alpha": 8, "base_model_name_or_path": base}
    write_json(folder / "adapter_config.json", said | {"target_modules": ["q_proj"]})
    write_safetensors(folder / "adapter_model.safetensors", parts)
    return folder


def _write(folder: Path, tensors: Sequence[Tensor], shards: int, pickled: bool) -> None:
    if shards > 1:
        write_sharded(folder, tensors, shards, pickled)
    elif pickled:
        write_pickled(folder / "pytorch_model.bin", tensors)
    else:
        write_safetensors(folder / "model.safetensors", tensors)
