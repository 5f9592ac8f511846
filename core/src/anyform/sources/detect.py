"""Which models lie in a folder: every plugin's matches, strongest evidence first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from anyform.contract.errors import UnknownFormat
from anyform.contract.facts import FormatMatch
from anyform.kernel.files import FolderFiles
from anyform.kernel.plugins import Plugins

SHOWN = 4
"""Names of files that are told."""
Found = tuple[str, FormatMatch]
"""(plugin, match)"""


def matches(plugins: Plugins, files: FolderFiles) -> list[Found]:
    """All matches, strongest evidence first, then by the plugin's own order; empty for a stranger.

    When one file was named, only the matches that it belongs to.
    """
    found = [(plugin, match) for plugin, answer in plugins.ask_all("detect_format", files=files) for match in answer]
    if files.target is not None:
        found = [(plugin, match) for plugin, match in found if _holds(match, files.target)]
        entries = [pair for pair in found if pair[1].entry == files.target]
        found = entries or found
    return sorted(found, key=lambda pair: (-pair[1].evidence, pair[1].order, pair[0], pair[1].name, pair[1].variant))


def _holds(match: FormatMatch, name: str) -> bool:
    return name == match.entry or name in match.files


def require(plugins: Plugins, files: FolderFiles) -> list[Found]:
    """`matches`, or UnknownFormat that says what was looked for."""
    return matches(plugins, files) or refuse(plugins, files)


def refuse(plugins: Plugins, files: FolderFiles) -> NoReturn:
    """Raise UnknownFormat, saying what was looked for."""
    formats = sorted(
        {name for _, backends in plugins.ask_all("list_backends") for b in backends for name in (*b.reads, *b.converts)}
    )
    broken = [record.name for record in plugins.records if not record.sound]
    hint = f"Formats looked for: {', '.join(formats) or 'none: no format plugin is installed'}."
    if broken:
        hint += f" Broken plugins were not asked: {', '.join(broken)} (see `anyform plugins`)."
    what = f"{files.path}/{files.target}" if files.target else f"{files.path} ({_told(list(files.files))})"
    lost = _dangling(files.path) if not files.target else []
    if lost:
        hint = f"{', '.join(lost[:SHOWN])} in it leads nowhere: what the link names is not there. Get that file. {hint}"
    raise UnknownFormat(f"no installed plugin recognises {what}.", hint)


def _told(names: Sequence[str]) -> str:
    """How many files, and the first of them."""
    count = f"{len(names)} file{'' if len(names) == 1 else 's'}"
    return f"{count}: {', '.join(names[:SHOWN])}{', …' if len(names) > SHOWN else ''}" if names else count


def _dangling(folder: Path) -> list[str]:
    """The links in *folder* that lead nowhere, which are not listed among its files."""
    try:
        return sorted(path.name for path in folder.iterdir() if path.is_symlink() and not path.exists())
    except OSError:
        return []
