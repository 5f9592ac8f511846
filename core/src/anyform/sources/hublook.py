"""A model that is not here yet, as an entry of the library: what it is and what would run it, before it is fetched."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from anyform.contract.facts import ModelFiles, fact
from anyform.kernel.entry import Entry, Spot
from anyform.kernel.plugins import Plugins
from anyform.sources import hubchoice
from anyform.sources.hub import Hub, Listing
from anyform.sources.hubchoice import Choice
from anyform.sources.hubfiles import RemoteFiles
from anyform.sources.hubname import Reference

SOURCE = "hub"


@fact
class RemoteEntry(Entry):
    """One model on a hub. It can be described and decided about, not loaded."""

    remote: RemoteFiles
    variants: tuple[str, ...] = ()
    """All variants of the repository, the preferred one first."""

    @property
    def here(self) -> bool:
        return False

    def files(self) -> ModelFiles:
        """The listing, read by ranges."""
        return self.remote


def look(hub: Hub, plugins: Plugins, home: Path, reference: Reference, order: Sequence[str] = ()) -> RemoteEntry:
    """The model that *reference* names, or the preferred one there. At most 16 MiB are fetched, also by those who read
    the entry's files later. Raises what `Hub.listing` and `choose` do.
    """
    listing = hub.listing(reference)
    files = RemoteFiles(hub, listing, remote_path(home, listing))
    return _entry(hub, files, hubchoice.choose(plugins, files, reference, order), reference)


def remote_path(home: Path, listing: Listing) -> Path:
    """A path that stands for a repository that is not here; nothing ever lies there."""
    return home / ".remote" / Path(*listing.repository.split("/"))


def _entry(hub: Hub, files: RemoteFiles, choice: Choice, reference: Reference) -> RemoteEntry:
    match, listing = choice.match, files.listing
    assert match is not None
    place = f"{hub.endpoint}/{listing.repository}"
    several = len(choice.variants) > 1 and match.variant
    return RemoteEntry(
        name=f"{reference.repository}:{match.variant}" if several else reference.repository,
        path=str(files.path),
        plugin=choice.plugin,
        match=match,
        others=choice.others,
        groups=(reference.repository,),
        size_bytes=sum(files.files[name] for name in choice.files),
        source=SOURCE,
        places=(Spot(source=SOURCE, path=place, entry=match.entry, revision=listing.revision),),
        remote=files,
        variants=choice.variants,
    )
