"""Everything that models are found in: paths and folders that the user named, and sources. Looks; decides no names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from anyform.contract.errors import Fault, Invalid, ModelNotFound, PluginFault
from anyform.contract.hooks import ModelSource, Place
from anyform.kernel.entry import Entry
from anyform.kernel.plugins import Plugins
from anyform.sources.hubname import bare
from anyform.sources.reader import Memory, Reader, stamp_of
from anyform.sources.sameness import Sample, merged, sampled, started
from anyform.sources.survey import Lead, survey


class Shelf:
    """The kernel's `Shelf`: the models of paths, folders and sources."""

    def __init__(
        self,
        plugins: Plugins,
        paths: Sequence[Path] = (),
        folders: Sequence[Path] = (),
        sources: Sequence[ModelSource] = (),
        memory: Memory | None = None,
    ) -> None:
        """*paths*: files or folders that are models. *folders*: searched for models. *sources*: asked for places;
        what one of them cannot say costs only its own. *memory*: keeps what was read beyond this process.

        Raises ModelNotFound for an absent path, Invalid for a file among the folders.
        """
        for place in (*paths, *folders):
            if not place.exists():
                raise ModelNotFound(f"nothing lies at {place}.", "Check the spelling of the path.")
        for folder in folders:
            if not folder.is_dir():
                raise Invalid(
                    f"{folder} is a file, not a folder of models.", "Name the file itself instead of --models."
                )
        self.reader = Reader(plugins, memory)
        self.troubles: list[str] = []
        self._paths, self._folders, self._sources = tuple(paths), tuple(folders), tuple(sources)

    def look(self) -> list[Entry]:
        """All models that are there now. Raises UnknownFormat for a path of the user's that is no model."""
        self.troubles = []
        self.reader.look_around()
        found = survey(self.reader, list(self._leads()))
        return merged(found, (partial(self._sample, "start", started), partial(self._sample, "sample", sampled)))

    def bare(self, name: str) -> str:
        """*name* without the address of a hub."""
        return bare(name)

    def _leads(self) -> Iterator[Lead]:
        for path in self._paths:
            yield Lead(source="", place=Place(path=path), required=True)
        for root in self._folders:
            yield Lead(source="", place=Place(path=root, search=True))
        for source in self._sources:
            for place in self._places(source):
                yield Lead(source=source.name, place=place)

    def _places(self, source: ModelSource) -> list[Place]:
        """What *source* says; a source is often a plugin's, so whatever it raises is told and costs only its own."""
        try:
            return [_checked(place) for place in source.find()]
        except Exception as error:
            fault = error if isinstance(error, Fault) else PluginFault(source.name, "find", error)
            self.troubles.append(f"the models of {source.name} are not listed: {fault.message}")
            return []

    def _sample(self, name: str, sample: Sample, path: Path) -> str:
        stamp = stamp_of(str(path.parent), (path.name,))
        return str(self.reader.remembered(name, "", str(path), stamp, lambda: sample(path)))


def _checked(place: Place) -> Place:
    if not isinstance(place, Place):
        raise TypeError(f"{place!r} is no Place")
    return place
