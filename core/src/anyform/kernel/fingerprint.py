"""What changes when a plugin changes, found without importing it."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from pathlib import Path


def fingerprint(module: str, version: str) -> str:
    """What changes when the plugin changes, found without importing it."""
    parts = [sys.version, module, version]
    for file in _files(module):
        try:
            stat = file.stat()
            parts.append(f"{file}:{stat.st_mtime_ns}:{stat.st_size}")
        except OSError:
            continue
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:24]


def _files(module: str) -> list[Path]:
    """The module's own file and its packages' `__init__`, located from the top-level package alone."""
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return []
    files = [Path(spec.origin)] if spec and spec.origin else []
    for place in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(place)
        for step in rest[:-1]:
            folder /= step
            files.append(folder / "__init__.py")
        if rest:
            files += [folder / f"{rest[-1]}.py", folder / rest[-1] / "__init__.py"]
    return files
