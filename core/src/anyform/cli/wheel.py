"""Which installed distributions overwrite each other's modules, and which have lost them. Metadata is read, nothing is
imported: an engine often has one wheel for each kind of accelerator, all with the same module.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import Distribution, distributions
from pathlib import Path

from anyform.contract.facts import fact

_STRAY = frozenset({"tests", "test", "docs", "doc", "examples", "example", "benchmarks", "scripts"})
"""What many wheels bring by mistake, each its own: nothing imports it."""
_FIRST = re.compile(r"^([^/,\"]+/__init__\.py),", re.M)


@fact
class Clash:
    """Modules that several distributions brought, all into the same folder: the last one's files lie there."""

    modules: tuple[str, ...]
    distributions: tuple[str, ...]

    @property
    def text(self) -> str:
        """What is wrong."""
        all_of = "both" if len(self.distributions) == 2 else "all"
        return (
            f"{' and '.join(self.distributions)} are {all_of} installed and bring the same module, "
            f"{', '.join(self.modules)}: each overwrote the other's files, and uninstalling one breaks the other."
        )

    @property
    def do(self) -> str:
        """The commands that mend it."""
        choice = " or ".join(f"`pip install {name}`" for name in self.distributions)
        return f"`pip uninstall -y {' '.join(self.distributions)}`, then one of them alone: {choice}."


@fact
class Loss:
    """A distribution that is installed, and whose modules are not there."""

    distribution: str
    version: str
    modules: tuple[str, ...]

    @property
    def text(self) -> str:
        """What is wrong."""
        return (
            f"{self.distribution} {self.version} is installed, and the files of its module "
            f"{', '.join(self.modules)} are gone, as when another distribution of that module was uninstalled."
        )

    @property
    def do(self) -> str:
        """The command that mends it."""
        return f"`pip install --force-reinstall --no-deps {self.distribution}=={self.version}`"


def troubles(names: Iterable[str], path: Sequence[str] | None = None) -> list[Clash | Loss]:
    """What is wrong with the distributions called *names*, those that are not installed left out.

    *path*: the folders to look in; None: where this Python does.
    """
    installed = _installed(path)
    engines = [installed[name] for name in dict.fromkeys(map(_plain, names)) if name in installed]
    return [*_losses(engines), *_clashes(engines, installed.values())]


def _losses(engines: Iterable[Distribution]) -> Iterator[Loss]:
    for one in engines:
        gone = tuple(file.parent.name for file in _packages(one) if not file.is_file())
        if gone:
            yield Loss(distribution=one.name, version=one.version, modules=gone)


def _clashes(engines: Iterable[Distribution], installed: Iterable[Distribution]) -> Iterator[Clash]:
    owners: dict[Path, list[str]] = {}
    for one in installed:
        for file in _packages(one):
            owners.setdefault(file, []).append(one.name)
    ours = {one.name for one in engines}
    found: dict[tuple[str, ...], list[str]] = {}
    for file, those in owners.items():
        if len(those) > 1 and ours & {*those}:
            found.setdefault(tuple(sorted(those)), []).append(file.parent.name)
    for names, modules in found.items():
        yield Clash(modules=tuple(modules), distributions=names)


def _installed(path: Sequence[str] | None) -> dict[str, Distribution]:
    """By plain name, the one that is imported: what lies first on the path."""
    found: dict[str, Distribution] = {}
    for one in distributions(path=list(path)) if path is not None else distributions():
        if one.metadata["Name"]:  # a broken installation has none
            found.setdefault(_plain(one.name), one)
    return found


def _packages(one: Distribution) -> list[Path]:
    """Where the `__init__.py` of each package that *one* brought is to lie, as its RECORD says."""
    names = _FIRST.findall(one.read_text("RECORD") or "")
    return [Path(str(one.locate_file(name))) for name in names if name.partition("/")[0] not in _STRAY]


def _plain(name: str) -> str:
    """As https://packaging.python.org/en/latest/specifications/name-normalization/ compares names."""
    return re.sub(r"[-_.]+", "-", name).lower()
