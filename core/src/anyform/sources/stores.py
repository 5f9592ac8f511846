"""Where the stores of this machine lie, and the sources that read them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from anyform.contract.errors import Invalid
from anyform.contract.facts import fact
from anyform.contract.hooks import ModelSource
from anyform.sources.folder import OwnFolder
from anyform.sources.hub_cache import HubCache
from anyform.sources.lmstudio_store import LmStudioStore
from anyform.sources.ollama_store import OllamaStore

PLUGINS = "plugins"
"""Among the names of sources: all that plugins bring."""
OWN = "anyform"
"""The source that is anyform's own folder, and of what was made in it."""
NAMES = (PLUGINS, OWN, "huggingface", "lmstudio", "ollama")
"""All sources, the one whose names go first first: what costs least to ask has the plainest names."""


@fact
class Stores:
    """Where the stores lie, none of which need exist, and which of them are asked."""

    home: Path
    """anyform's own folder, `models`; pulled models come here."""
    hub_cache: Path | None = None
    user: Path | None = None
    """The user's home folder, below which LM Studio keeps its own."""
    ollama: tuple[Path, ...] = ()
    names: tuple[str, ...] = NAMES
    """Of sources; a plugin's by its own name, or all of them as PLUGINS."""


def sources(stores: Stores, brought: Sequence[ModelSource] = ()) -> list[ModelSource]:
    """The sources that `stores.names` asks for, in its order. *brought*: those of plugins.

    Raises Invalid for a name that none has.
    """
    known = dict.fromkeys((*NAMES, *(source.name for source in brought)))
    for name in stores.names:
        if name not in known:
            raise Invalid(f"there is no source {name!r} of models.", f"Known: {', '.join(known)}.")
    own: list[ModelSource] = [OwnFolder(stores.home)]
    if stores.hub_cache:
        own.append(HubCache(stores.hub_cache))
    if stores.user:
        own.append(LmStudioStore(stores.user))
    own += [OllamaStore(folder) for folder in stores.ollama]
    ranked = [(_rank(source.name, PLUGINS, stores), source) for source in brought]
    ranked += [(_rank(source.name, source.name, stores), source) for source in own]
    return [source for rank, source in sorted(ranked, key=lambda pair: pair[0]) if rank < len(stores.names)]


def _rank(name: str, kind: str, stores: Stores) -> int:
    """The place of a source among those that are asked; past the last: it is not asked."""
    return next((at for at, wanted in enumerate(stores.names) if wanted in (name, kind)), len(stores.names))
