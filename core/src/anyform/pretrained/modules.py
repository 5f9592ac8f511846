"""What sentence-transformers keeps beside a model: modules.json, and the folders of the modules it names.

The layout: https://sbert.net/docs/sentence_transformer/usage/custom_models.html
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from anyform.contract.facts import ModelFiles
from anyform.pretrained.layout import CONFIG, MODULES, at, is_inside

MOST_BYTES = 1 << 20
MODES: Mapping[str, str] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "last",
}
"""The flags of a Pooling module's config.json, in the order in which it joins them, and what they are called here."""
NAMES = ("mean", "cls", "lasttoken", "max", "mean_sqrt_len_tokens", "weightedmean")
"""What newer releases write as `pooling_mode` instead (POOLING_MODES)."""
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
LIMITS = "sentence_bert_config.json"


@dataclass(frozen=True, slots=True)
class Module:
    """One step from a text to its vector."""

    kind: str
    """Transformer, Pooling, Normalize, Dense, ...: the last part of its class's name."""
    path: str
    """Its folder below the model's; empty: the model's own."""


def modules(files: ModelFiles, folder: str) -> list[Module] | None:
    """The modules in their order; None where modules.json is absent, or no list of modules."""
    found = [_module(one) for one in _listed(files, folder)]
    return [one for one in found if one is not None] if found and all(found) else None


def outside(files: ModelFiles, folder: str) -> str:
    """The first path in modules.json that leaves the model's folder; empty: none does."""
    paths = (one.get("path") for one in _listed(files, folder) if isinstance(one, dict))
    return next((path for path in paths if isinstance(path, str) and path and not is_inside(path)), "")


def _listed(files: ModelFiles, folder: str) -> list[Any]:
    """What modules.json lists; nothing where it is absent, or no list."""
    name = at(folder, MODULES)
    if not 0 < files.files.get(name, 0) <= MOST_BYTES:
        return []
    try:
        said = json.loads(files.head(name, MOST_BYTES))
    except (ValueError, RecursionError):
        return []
    return said if isinstance(said, list) else []


def _module(said: Any) -> Module | None:
    kind, path = (said.get("type"), said.get("path")) if isinstance(said, dict) else (None, None)
    if not isinstance(kind, str) or not isinstance(path, str) or (path and not is_inside(path)):
        return None
    return Module(kind.rpartition(".")[2], path.strip("/"))


def folders(files: ModelFiles, folder: str) -> list[str]:
    """The folders of the modules that have one of their own, as `ModelFiles` names them."""
    return [at(folder, one.path) for one in modules(files, folder) or () if one.path]


def first(files: ModelFiles, folder: str) -> str:
    """The folder of the module that reads the text."""
    found = modules(files, folder)
    return at(folder, found[0].path) if found and found[0].path else folder


def files(listing: ModelFiles, folder: str, weights: str) -> Iterator[str]:
    """What the modules need beside the folder of the *weights*: their configs and their own weights."""
    if at(folder, MODULES) not in listing.files:
        return
    beside = (LIMITS, "config_sentence_transformers.json")
    names = [at(folder, name) for name in (MODULES, *beside)]
    for own in folders(listing, folder):
        if own != weights:
            names.append(at(own, CONFIG))
            names += [name for name in (at(own, one) for one in WEIGHTS) if name in listing.files][:1]
    yield from (name for name in names if name in listing.files)


def pooling(listing: ModelFiles, folder: str) -> str:
    """mean, cls, last, max, ...; several joined by +; empty where nothing says it."""
    for one in modules(listing, folder) or ():
        if one.kind == "Pooling":
            said = listing.json(at(folder, f"{one.path}/{CONFIG}" if one.path else CONFIG))
            return "+".join("last" if kind == "lasttoken" else kind for kind in _poolings(said))
    return ""


def _poolings(said: Mapping[str, Any]) -> list[str]:
    """What a Pooling module's config asks for, in the words of either release."""
    flagged = [kind for flag, kind in MODES.items() if said.get(flag) is True]
    named = said.get("pooling_mode")
    return flagged or [kind for kind in (named if isinstance(named, list) else [named]) if isinstance(kind, str)]


def pooling_trouble(listing: ModelFiles, name: str) -> str:
    """What is wrong with the Pooling module's config *name*, in words; empty: nothing, or it cannot be read at all."""
    said = listing.json(name)
    strange = [kind for kind in _poolings(said) if kind not in (*NAMES, *MODES.values())]
    if strange:
        return f"it pools by {strange[0][:60]!r}"
    silent = not _poolings(said) and ("pooling_mode" in said or any(flag in said for flag in MODES))
    return "it names no way to pool" if not said or silent else ""


def limit(listing: ModelFiles, folder: str) -> int | None:
    """Tokens of one text that the model was made for (max_seq_length)."""
    stated = listing.json(at(folder, LIMITS)).get("max_seq_length")
    return stated if type(stated) is int and stated > 0 else None
