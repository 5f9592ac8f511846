"""PEFT adapters: which model one is for, where that lies on this machine, and what both are together.

Nothing is fetched, and no engine is imported.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from anyform.contract.errors import LoadFailed, Unsupported
from anyform.contract.facts import FormatMatch, Metadata
from anyform.pretrained.listing import Listing
from anyform_hf_transformers.layout import PEFT
from anyform_hf_transformers.requirement import require

ADDED_TO_PROMPTS = frozenset({"PROMPT_TUNING", "PREFIX_TUNING", "P_TUNING", "MULTITASK_PROMPT_TUNING", "CPT"})
"""Kinds that put tokens of their own before each prompt, and change no weight."""
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_PREFIX = "base_model.model."


def is_adapter(described: Metadata) -> bool:
    """Whether they describe an adapter of this plugin's format."""
    return described.extra.get("kind") == "adapter" and isinstance(described.extra.get("adapter"), Mapping)


def base_folder(said: Mapping[str, Any], beside: Path, asked: str = "") -> Path | None:
    """Where the base lies: as *asked*, else as adapter_config.json *said* (a folder, or a repository in the Hugging
    Face cache). None: not on this machine. *beside*: the adapter's folder, which a relative path begins at.
    """
    if asked:
        return Path(asked)
    named = said.get("base_model_name_or_path")
    if not isinstance(named, str) or not named or "\0" in named:
        return None
    places = [beside / Path(named).expanduser()]
    if _REPOSITORY.fullmatch(named):
        places += _cached(named, said.get("revision"))
    return next((place for place in places if (place / "config.json").is_file()), None)


def _cached(repository: str, revision: Any) -> list[Path]:
    """Snapshots in the Hugging Face cache: the one that the adapter names, else main's, else any."""
    from huggingface_hub import constants

    home = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
    wanted = revision if isinstance(revision, str) and revision else "main"
    with suppress(OSError):
        wanted = (home / "refs" / wanted).read_text(encoding="utf-8").strip()
    try:
        there = sorted((home / "snapshots").iterdir(), key=lambda place: (place.name != wanted, place.name))
    except OSError:
        return []
    return [place for place in there if place.name == wanted or not revision]


def described(folder: Path) -> tuple[FormatMatch, Metadata] | None:
    """The main model of *folder*; None: there is none."""
    from anyform_hf_transformers import detection, metadata  # estimates come by here, mostly without an adapter

    files = Listing(folder)
    found = [match for match in detection.detect(files) if match.format != PEFT]
    if not found:
        return None
    match = min(found, key=lambda one: one.order)
    return match, metadata.extract(files, match)


def completed(own: Metadata, base: Metadata) -> Metadata:
    """What adapter and base are together: the adapter's own facts, and the network's beneath them."""
    tasks = own.tasks
    if tasks == ("complete",) and ("chat" in base.tasks or own.extra.get("chat_template")):
        tasks = ("chat", "complete")
    return replace(
        own,
        tasks=tasks,
        context=base.context,
        vocab_size=base.vocab_size,
        tokenizer=own.tokenizer or base.tokenizer,
        features=base.features,
        extra={**base.extra, **own.extra},
    )


def needed(own: Metadata, beside: Path, asked: str) -> tuple[Path, FormatMatch, Metadata]:
    """The base's folder, match and metadata. Raises Unsupported, LoadFailed (it is not here), EngineMissing (peft)."""
    said: Mapping[str, Any] = own.extra["adapter"]
    kind = str(said.get("type", ""))
    if kind in ADDED_TO_PROMPTS:
        raise Unsupported(
            f"the adapter is of the type {kind}, which puts tokens of its own before each prompt.",
            "This backend runs adapters that change weights, such as LoRA.",
        )
    named = str(said.get("base") or "a model that it does not name")
    names = {"base_model_name_or_path": said.get("base"), "revision": said.get("revision")}
    folder = base_folder(names, Path(str(said.get("folder") or beside)), asked)
    found = described(folder) if folder else None
    if folder is None or found is None:
        fetch = f"Fetch it (`anyform pull {named}`), or name" if _REPOSITORY.fullmatch(named) else "Name"
        raise LoadFailed(
            f"the adapter is for {named}, which is not in {folder}."
            if folder
            else f"the adapter is for {named}, which is not on this machine.",
            f"{fetch} its folder by the option base=PATH.",
        )
    require("an adapter", "peft")
    return folder, *found


def whole_weights(names: list[str]) -> frozenset[str]:
    """Of an adapter's tensors those that take a weight's place, as the base calls them: a classifier's head."""
    return frozenset(name.removeprefix(_PREFIX) for name in names if ".lora_" not in name and name.startswith(_PREFIX))


def changed(names: list[str]) -> frozenset[str]:
    """The modules that an adapter's tensors change, as the base calls them: `q_proj`. Empty where it is no LoRA."""
    return frozenset(name.partition(".lora_")[0].rpartition(".")[2] for name in names if ".lora_" in name)


def label_count(shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    """How many labels the head has that the adapter brings; None: it brings none."""
    for name, shape in shapes.items():
        if re.search(r"\b(?:score|classifier|classifier\.out_proj)\.weight$", name) and len(shape) == 2:
            return shape[0]
    return None
