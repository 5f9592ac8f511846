"""What the small files beside the weights tell: tokens, limits, sampling, license. Nothing raises on any JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from anyform.contract.facts import ModelFiles
from anyform.pretrained import modules
from anyform.pretrained.configuration import Configuration
from anyform.pretrained.layout import CONFIG, at

ENDLESS = 1_000_000_000
"""transformers writes 10^30 into model_max_length where a tokenizer has no limit (VERY_LARGE_INTEGER)."""
ENCODING = frozenset({"embed", "rerank", "classify", "zero_shot"})
SPECIAL: Mapping[str, str] = {"bos": "bos_token_id", "eos": "eos_token_id", "padding": "pad_token_id"}
SAMPLING: Mapping[str, str] = {
    "temp": "temperature", "top_k": "top_k", "top_p": "top_p", "min_p": "min_p", "typ_p": "typical_p",
    "penalty_repeat": "repetition_penalty",
}  # fmt: skip
"""A GGUF's name below general.sampling -> generation_config.json's."""
LICENSE = re.compile(rb"^license:\s*['\"]?([A-Za-z0-9.\-+_]{1,60})", re.MULTILINE)


def whole(value: Any) -> Any:
    """*value* without halves of characters, which JSON may hold and UTF-8 may not."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {whole(name): whole(one) for name, one in value.items()}
    return [whole(one) for one in value] if isinstance(value, list) else value


def context(
    files: ModelFiles, folder: str, top: str, config: Configuration, tokenizer: Mapping[str, Any], doing: Sequence[str]
) -> int | None:
    """Positions; an encoder's tokenizer, and sentence-transformers' max_seq_length, may allow fewer."""
    limits = [config.context]
    if doing and doing[0] in ENCODING:
        stated = tokenizer.get("model_max_length")
        limits.append(stated if type(stated) is int and 0 < stated < ENDLESS else None)
        limits += [modules.limit(files, where) for where in dict.fromkeys((top, folder))]
    return min((limit for limit in limits if limit), default=None)


def dimensions(
    files: ModelFiles, top: str, parts: Sequence[modules.Module] | None, config: Configuration
) -> int | None:
    """Numbers of a vector: of the last Dense module, else of the network."""
    for part in reversed(parts or ()):
        if part.kind == "Dense":
            width = files.json(at(top, f"{part.path}/{CONFIG}")).get("out_features")
            if type(width) is int:
                return width
    width = config.content.get("projection_dim")
    return width if type(width) is int else config.number("hidden_size", "d_model", "dim")


def special(config: Configuration, generation: Mapping[str, Any]) -> dict[str, int]:
    """Ids by our names; of several the first."""
    found = {}
    for name, key in SPECIAL.items():
        said = generation.get(key, config.get(key))
        first = said[0] if isinstance(said, list) and said else said
        if type(first) is int and 0 <= first < 1 << 31:
            found[name] = first
    return found


def sampling(generation: Mapping[str, Any]) -> dict[str, float]:
    """What generation_config.json asks for; `do_sample: false` is temperature 0."""
    found = {ours: generation.get(theirs) for ours, theirs in SAMPLING.items()}
    if generation.get("do_sample") is False:
        found["temp"] = 0.0
    numbers = {name: value for name, value in found.items() if isinstance(value, int | float)}
    return {name: value for name, value in numbers.items() if type(value) is not bool and abs(value) < ENDLESS}


def texts(said: Any) -> dict[str, str]:
    """A table of short texts, such as prompts by name; what is none is left out."""
    found = said if isinstance(said, dict) else {}
    return {name: text for name, text in found.items() if isinstance(text, str) and len(text) <= 2000}


def license(files: ModelFiles, folder: str) -> str:
    """From the front matter of README.md, as model cards have it."""
    head = files.head(at(folder, "README.md"), 4096) if at(folder, "README.md") in files.files else b""
    front = head.split(b"\n---", 1)[0] if head.startswith(b"---") else b""
    found = LICENSE.search(front)
    return found[1].decode() if found else ""


def said(value: Any) -> str:
    """A text as it stands; empty where it is none."""
    return str(whole(value)) if isinstance(value, str) else ""
