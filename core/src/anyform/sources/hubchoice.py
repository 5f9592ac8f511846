"""Which files of a repository belong to the model that was asked for: the format plugins say so, of the listing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from anyform.contract.errors import ModelNotFound, UnknownFormat
from anyform.contract.facts import FormatMatch, fact
from anyform.kernel.plugins import Plugins
from anyform.sources.hub import Listing
from anyform.sources.hubfiles import RemoteFiles
from anyform.sources.hubname import Reference
from anyform.sources.naming import beginnings

SHOWN = 12


class Use(IntEnum):
    """What can be done on this machine with a model of some format; the less, the better."""

    OWN = 0
    """A backend runs it on a device that is made for such models and that is here: its own plugin looks for that
    device, and it has no other, and no trouble.
    """
    HERE = 1
    LATER = 2
    """Its backend says that it cannot be used here."""
    NONE = 3
    """No installed backend reads it."""


@fact
class Choice:
    """What to fetch."""

    files: tuple[str, ...]
    """Names, sorted."""
    plugin: str = ""
    """Whose format it is; empty for files that were named by the user."""
    match: FormatMatch | None = None
    others: tuple[tuple[str, FormatMatch], ...] = ()
    """(plugin, match) of other forms of the same variant, whose files are not fetched."""
    variants: tuple[str, ...] = ()
    """All of the repository, preferred first."""


def choose(plugins: Plugins, files: RemoteFiles, reference: Reference, order: Sequence[str] = ()) -> Choice:
    """The files of the variant or format that *reference* names, else of the first by *order* (variants, best first).
    Forms that lack files come after all others, then those that cannot be used on this machine.

    Raises UnknownFormat, ModelNotFound for a variant that is not there, and what kept the listing from being read.
    """
    found = [(plugin, match) for plugin, answer in plugins.ask_all("detect_format", files=files) for match in answer]
    files.check()
    if not found:
        raise _unknown(plugins, files, reference)
    use = uses(plugins)
    found.sort(key=lambda pair: (not files.files.keys() >= {*pair[1].files}, *_preference(pair, use, order)))
    variants = tuple(dict.fromkeys(match.variant for _, match in found if match.variant))
    wanted = [pair for pair in found if _is(pair[1], reference.variant)] if reference.variant else found
    wanted = wanted or [pair for pair in found if pair[1].format == reference.variant.casefold()]
    wanted = wanted or [pair for pair in found if reference.variant.casefold() in beginnings(pair[1].variant)]
    if not wanted:
        below = (_folder(match) for _, match in found if match.entry.startswith(f"{match.name}/"))
        known = dict.fromkeys((*variants, *below))
        hint = f"It has {', '.join(known)}." if known else "It has only one variant: leave it out."
        raise ModelNotFound(f"{reference.repository} has no variant {reference.variant!r}.", hint)
    plugin, match = wanted[0]
    others = tuple(pair for pair in wanted[1:] if (pair[1].name, pair[1].variant) == (match.name, match.variant))
    names = tuple(sorted({match.entry, *match.files} & files.files.keys()))
    return Choice(files=names, plugin=plugin, match=match, others=others, variants=variants)


def named(listing: Listing, include: Iterable[str], names: Iterable[str]) -> Choice:
    """The files called *names*, and those that a pattern of *include* fits (`*.json`, `onnx/*`).

    Raises ModelNotFound for a name or pattern that fits none.
    """
    chosen: set[str] = set()
    for wanted in (*names, *include):
        fitting = {name for name in listing.files if name == wanted}
        fitting = fitting or {name for name in listing.files if wanted in include and fnmatchcase(name, wanted)}
        if not fitting:
            raise ModelNotFound(f"{listing.repository} has no file {wanted!r}.", f"It has {_some(listing.files)}.")
        chosen |= fitting
    return Choice(files=tuple(sorted(chosen)))


def _is(match: FormatMatch, variant: str) -> bool:
    asked = variant.casefold()
    names = (match.variant, f"{match.name}-{match.variant}", match.name, _folder(match))
    files = (PurePosixPath(name).stem for name in (match.entry, *match.files))
    return asked in {name.casefold() for name in (*names, *files)}


def _folder(match: FormatMatch) -> str:
    """The last part of a name that is a path, as that of a model in a folder below; else the name."""
    return PurePosixPath(match.name).name


def _preference(
    pair: tuple[str, FormatMatch], use: Mapping[str, Use], order: Sequence[str]
) -> tuple[int, int, int, int, str, str, str]:
    plugin, match = pair
    ranks = {variant.casefold(): rank for rank, variant in enumerate(order)}
    rank = ranks.get(match.variant.casefold(), len(ranks))
    here = use.get(match.format, Use.NONE)
    return here, -match.evidence, rank, match.order, plugin, match.name, match.variant


def formats(plugins: Plugins) -> frozenset[str]:
    """The formats that the installed backends read or convert."""
    return frozenset(uses(plugins))


def uses(plugins: Plugins) -> dict[str, Use]:
    """Of each format that a backend reads or converts, what the best of them can do with it here."""
    found: dict[str, Use] = {}
    for plugin, backends in plugins.ask_all("list_backends"):
        for info in backends:
            own = plugins.implements(plugin, "find_devices") and not info.engine and "cpu" not in info.devices
            use = Use.LATER if info.trouble else Use.OWN if own else Use.HERE
            for name in (*info.reads, *info.converts):
                found[name] = min(use, found.get(name, Use.NONE))
    return found


def _unknown(plugins: Plugins, files: RemoteFiles, reference: Reference) -> UnknownFormat:
    return UnknownFormat(
        f"no installed plugin recognises a model in {reference.repository}, which has {_some(files.files)}.",
        f"Formats looked for: {', '.join(sorted(formats(plugins))) or 'none'}. `anyform pull {reference.repository} "
        "--include PATTERN` or `--file NAME` fetches files all the same.",
    )


def _some(names: Iterable[str]) -> str:
    known = list(names)
    more = f" and {len(known) - SHOWN} more files" if len(known) > SHOWN else ""
    return (", ".join(known[:SHOWN]) or "no files") + more
