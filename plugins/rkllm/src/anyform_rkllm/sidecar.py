"""The files beside a .rkllm that belong to it: what the Hub keeps of the original, meta.json, encoders of pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from anyform.contract.facts import ModelFiles
from anyform.pretrained.layout import COMPANIONS, above, at, folder_of
from anyform_rkllm import name
from anyform_rkllm.info import SUFFIX
from anyform_rkllm.name import Name
from anyform_rkllm.vision import finding

META = "meta.json"
TOKENIZERS = frozenset({
    "tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt", "merges.txt", "tokenizer.model",
    "spiece.model", "sentencepiece.bpe.model", "special_tokens_map.json", "added_tokens.json", "qwen.tiktoken",
})  # fmt: skip
KNOWN = COMPANIONS | TOKENIZERS | {META, "1_Pooling/config.json"}
TEMPLATES = "additional_chat_templates/"
FACTS: Mapping[str, Sequence[str]] = {
    "platforms": ("target_platform", "platform", "target", "soc", "npu"),
    "quantization": ("quantized_dtype", "quantization", "model_dtype", "dtype", "quant"),
    "optimization": ("optimization_level", "optimization", "opt"),
    "hybrid_ratio": ("hybrid_rate", "hybrid_ratio", "hybrid"),
    "toolkit": ("rkllm_toolkit_version", "toolkit_version", "rkllm_version", "toolkit"),
    "context": ("max_context_limit", "max_context_len", "max_context_length", "max_context", "context_length"),
    "base_model": ("base_model", "original_model", "source_model", "model_id", "model_name"),
}
"""Our fact -> what meta.json may call it, the likelier first: the toolkit's own words, and what people write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Meta:
    """What meta.json says of the conversion; nobody states how it is written, so what is not understood is left."""

    platforms: tuple[str, ...] = ()
    quantization: str = ""
    optimization: int | None = None
    hybrid_ratio: float | None = None
    toolkit: str = ""
    context: int | None = None
    base_model: str = ""


def beside(files: ModelFiles, entry: str, said: Name) -> tuple[str, ...]:
    """The files that go with *entry*, sorted: those in its folder, else in the folders above it, and an encoder of
    pictures. *said*: what its name says.
    """
    home = folder_of(entry)
    places = tuple(above(home))
    found = list(filter(None, (nearest(files, places, wanted) for wanted in KNOWN)))
    found += [file for file in files.files if file.startswith(at(home, TEMPLATES)) and file.endswith(".jinja")]
    sight = vision(files, entry, said)
    return tuple(sorted({*found, *([sight, *finding.data(files.files, sight)] if sight else [])}))


def nearest(files: ModelFiles, places: Sequence[str], wanted: str) -> str:
    """The file called *wanted* in the first of the folders *places* that has one; empty: none has."""
    return next((file for place in places if (file := at(place, wanted)) in files.files), "")


def vision(files: ModelFiles, entry: str, said: Name) -> str:
    """The encoder of pictures beside *entry* that is its own; empty: there is none, or nobody could say which."""
    home = folder_of(entry)
    there = [PurePosixPath(file).name for file in files.files if folder_of(file) == home]
    found = finding.choose(there, PurePosixPath(entry).name, next(iter(said.platforms), "")).name
    return at(home, found) if found else ""


def meta(content: Mapping[str, Any]) -> Meta:
    """meta.json, read. Never raises."""
    parts = [content, *(part for part in content.values() if isinstance(part, dict))]

    def stated(fact: str, kinds: type | tuple[type, ...]) -> Any:
        values = (part.get(key) for key in FACTS[fact] for part in parts)
        return next((value for value in values if isinstance(value, kinds) and not isinstance(value, bool)), None)

    level, ratio, context = stated("optimization", int), stated("hybrid_ratio", (int, float)), stated("context", int)
    listed = stated("platforms", (str, list))
    texts = [one for one in (listed if isinstance(listed, list) else [listed]) if isinstance(one, str)]
    toolkit = name.TOOLKIT.search(f"toolkit-{stated('toolkit', str) or ''}"[: name.LONGEST])
    return Meta(
        platforms=tuple(dict.fromkeys(chip for text in texts[:16] for chip in name.platforms(text))),
        quantization=name.quantization(stated("quantization", str) or ""),
        optimization=level if level is not None and 0 <= level <= 9 else None,
        hybrid_ratio=float(ratio) if ratio is not None and 0 <= ratio <= 1 else None,
        toolkit=toolkit["version"].lower() if toolkit else "",
        context=context if context is not None and name.LEAST_CONTEXT <= context <= 1 << 20 else None,
        base_model=_printable(stated("base_model", str) or ""),
    )


def _printable(text: str) -> str:
    return "".join(letter for letter in text[: name.LONGEST] if letter.isprintable())


def models(files: ModelFiles) -> list[str]:
    """The .rkllm files."""
    return [file for file in files.files if file.lower().endswith(SUFFIX)]
