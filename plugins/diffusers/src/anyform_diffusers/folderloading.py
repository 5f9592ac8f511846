"""Pipelines as diffusers writes them: a folder with a model_index.json and a folder for each part."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from anyform.contract.errors import InvalidModel, LoadFailed, OutOfMemory, Unsupported
from anyform.contract.facts import Plan
from anyform.pretrained import attention
from anyform_diffusers import configfolder, layout
from anyform_diffusers.backend import diffusers, torch
from anyform_diffusers.known import PARTS
from anyform_diffusers.layout import INDEX


def read(plan: Plan, dtype: str) -> Any:
    """The pipeline in main memory, of the class that its model_index.json names.

    Only safetensors are read, no code of the folder is run and nothing is fetched. Raises InvalidModel, LoadFailed,
    OutOfMemory, Unsupported.
    """
    folder = Path(plan.path) / PurePosixPath(plan.match.entry).parent
    check(folder)
    try:
        return diffusers.DiffusionPipeline.from_pretrained(
            str(folder),
            torch_dtype=getattr(torch, dtype),
            variant=variant(plan),
            local_files_only=True,
            use_safetensors=True,
            low_cpu_mem_usage=True,
            trust_remote_code=False,
        )
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise OutOfMemory(
            f"there is no memory to read {plan.model}: {error}.", "Free some, or load a smaller model."
        ) from error
    except ImportError as error:
        raise Unsupported(
            f"{plan.model} needs what is not installed here: {_first(error)}", "Install that, or use another model."
        ) from error
    except Exception as error:
        raise LoadFailed(
            f"diffusers could not read {plan.model}: {type(error).__name__}: {_first(error)}",
            "`anyform show` says what its files lack; pull it again.",
        ) from error


def check(folder: Path) -> None:
    """Raise InvalidModel or Unsupported for a folder that names anything but parts of diffusers and transformers.

    diffusers imports what an index names, so that it is looked at before.
    """
    try:
        index = json.loads((folder / INDEX).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidModel(f"{INDEX} of {folder.name} cannot be read: {error}.", "Pull the model again.") from error
    name = index.get("_class_name") if isinstance(index, dict) else None
    kind = getattr(diffusers, name, None) if isinstance(name, str) and name.isidentifier() else None
    if not (isinstance(kind, type) and issubclass(kind, diffusers.DiffusionPipeline)):
        raise Unsupported(
            f"{INDEX} names the pipeline {name!r}, which is none of diffusers {diffusers.__version__}.",
            "Code that comes with a model is not run; another version of diffusers may know it.",
        )
    if getattr(kind, "_load_connected_pipes", False):
        raise Unsupported(f"{name} is made of several models of the Hub.", "Load one that has all in one folder.")
    for part, said in index.items():
        if isinstance(said, list) and not part.startswith("_"):
            _check_part(folder, part, said)


def variant(plan: Plan) -> str | None:
    """The one of the files that detection chose, such as fp16; None: files without one."""
    return layout.file_variant(plan.match.files) or None


def _check_part(folder: Path, part: str, said: list[Any]) -> None:
    if len(said) != 2 or said[0] is None:
        return
    library, kind = said
    known = library in ("diffusers", "transformers") or (library, kind) in PARTS
    if not known or not isinstance(kind, str) or not kind.isidentifier():
        raise Unsupported(
            f"{INDEX} names {library}.{kind} for {part}, which is no part of diffusers or transformers.",
            "Code that comes with a model is not run.",
        )
    if library == "diffusers" and _is_pipeline(kind):
        raise Unsupported(
            f"{INDEX} names the pipeline {kind} for {part}: a model of its own, whose files nobody has looked at.",
            "Get a model whose parts are no pipelines.",
        )
    kernel = next((found for config in _configs(folder / part) if (found := attention.fetched(config))), "")
    if kernel:
        raise Unsupported(
            f"{part} wants to be computed by {kernel!r}, which transformers would fetch.",
            "Code that is fetched is not run. Delete attn_implementation from its config.json.",
        )
    if kind.startswith("Auto") and any("auto_map" in config for config in _configs(folder / part)):
        raise Unsupported(
            f"{part} is of a class that comes with the model.", "Code that comes with a model is not run."
        )


def _is_pipeline(kind: str) -> bool:
    """Whether it would read a folder as a whole model: by an index that was not checked, and pickles where they lie."""
    found = getattr(diffusers, kind, None)
    return isinstance(found, type) and issubclass(found, diffusers.DiffusionPipeline | diffusers.ModularPipeline)


def _configs(folder: Path) -> list[Mapping[str, Any]]:
    names = ("config.json", "tokenizer_config.json", "preprocessor_config.json", "processor_config.json")
    return [configfolder.said(folder / name) for name in names]


def _first(error: Exception) -> str:
    """Its first line, ended by a full stop."""
    return (str(error).strip().splitlines() or [""])[0].rstrip(".") + "."
