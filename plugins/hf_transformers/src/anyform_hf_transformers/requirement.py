"""Packages that some models or options need beside the engine: whether they are installed, and how to get them."""

from __future__ import annotations

from functools import cache
from importlib import metadata

from anyform.contract.errors import EngineMissing

_SAME = {"pillow": ("pillow-simd",)}
"""Others that are imported by the same name, and do the same."""


def missing(*packages: str) -> list[str]:
    """Those that are not installed, by the names that pip knows. Nothing is imported."""
    return [package for package in packages if not _installed(package)]


def require(what: str, *packages: str, beside: str = "") -> None:
    """Raises EngineMissing, which says that *what* needs them and quotes the command, where one is not installed.

    *beside*: a package of the engine; nothing is said where that is not installed either, since it comes first.
    """
    _installed.cache_clear()
    if beside and missing(beside):
        return
    absent = missing(*packages)
    if absent:
        verb = "is" if len(absent) == 1 else "are"
        raise EngineMissing(
            f"{what} needs {' and '.join(absent)}, which {verb} not installed.",
            f"Install it: pip install {' '.join(absent)}",
        )


@cache  # a look takes a millisecond or two, and memory is estimated some times for each model of a listing
def _installed(package: str) -> bool:
    return any(_has(name) for name in (package, *_SAME.get(package, ())))


def _has(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
