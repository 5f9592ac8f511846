"""Refuses models whose code transformers does not have, before anything is loaded or imported."""

from __future__ import annotations

import importlib.metadata
from functools import cache

from anyform.contract.errors import Unsupported
from anyform.contract.facts import Metadata
from anyform_hf_transformers.family import KNOWN, VERSION
from anyform_hf_transformers.options import Options


def check(metadata: Metadata, options: Options) -> None:
    """Raises Unsupported for a type that needs code which is not trusted, or which nobody has."""
    facts, kind = metadata.extra, metadata.architecture
    if not facts.get("architectures") or kind in KNOWN:
        return
    said = f"config.json says model_type {kind!r}, for which transformers {VERSION} has no code"
    brought = facts.get("remote_code")
    if brought and not options.trust_remote_code:
        raise Unsupported(
            f"{said}; the model brings its own ({', '.join(brought[:3])}), which is not run.",
            "Read that code, and if you trust it set trust_remote_code = true in the options of this very model.",
        )
    if not brought and kind and not _may_know_more():
        raise Unsupported(
            f"{said}.", "Install a later transformers, if one knows it, or get the model in another form."
        )


@cache
def _may_know_more() -> bool:
    """Whether the transformers that is installed is a later one; also where none is, since a later one may come."""
    try:
        installed = importlib.metadata.version("transformers")
    except importlib.metadata.PackageNotFoundError:
        return True
    return _numbers(installed) > _numbers(VERSION)


def _numbers(version: str) -> tuple[int, ...]:
    """Major and minor."""
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
