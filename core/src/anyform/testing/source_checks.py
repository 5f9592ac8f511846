"""Checks of the sources that a plugin brings: they list what is there, end, change nothing, and need no store."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from itertools import islice
from pathlib import Path, PurePosixPath

import pytest

from anyform.contract.hooks import ModelSource, Place
from anyform.sources.stores import NAMES
from anyform.testing import outside
from anyform.testing.asking import Asked
from anyform.testing.running import within
from anyform.testing.subject import Subject
from anyform.testing.watching import changes

MOST = 100_000
"""No store has so many models: a source that goes on beyond them does not end."""
NAME = re.compile(r"[a-z][a-z0-9_-]*")
SHA256 = re.compile(r"[0-9a-f]{64}")
HOMES = ("HOME", "USERPROFILE", "APPDATA", "LOCALAPPDATA", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")


class SourceChecks(Subject):
    """Each source is asked over a store that the author writes (`source`), else as `list_sources` gives it."""

    @pytest.fixture
    def sources(self, tmp_path: Path) -> list[ModelSource]:
        """The sources under test."""
        store = tmp_path / "store"
        store.mkdir()
        own = self.source(store)
        found: list[ModelSource] = [own] if own is not None else Asked(self.module).ask_if_there("list_sources")
        if not found:
            pytest.skip(f"{self.module} brings no source")
        return found

    def test_sources_are_stated(self, asked: Asked) -> None:
        self._need(asked, "list_sources")
        for source in asked.ask("list_sources"):
            name = getattr(source, "name", None)
            assert isinstance(name, str), f"{source!r} has no name. Say what settings and `anyform list` call it."
            assert NAME.fullmatch(name), f"a source is called {name!r}. Call it by one lower-case word."
            assert name not in NAMES, f"a source is called {name!r}, as one of anyform's own is. Choose another word."
            assert callable(getattr(source, "find", None)), f"the source {name} has no method find()."

    def test_a_source_lists_what_is_there(self, sources: list[ModelSource], tmp_path: Path) -> None:
        for source in sources:
            places = self._places(source)
            for place in places:
                _check(source.name, place)
            written = any((tmp_path / "store").iterdir())
            assert places or not written, f"{source.name} finds nothing in the store that source() wrote."

    def test_a_source_answers_alike(self, sources: list[ModelSource]) -> None:
        for source in sources:
            first, second = self._places(source), self._places(source)
            assert first == second, (
                f"{source.name} found {len(first)} places, and {len(second)} others when asked again at once. "
                f"find() is asked whenever the library is looked at: begin anew each time."
            )

    def test_a_source_changes_nothing(self, sources: list[ModelSource], tmp_path: Path) -> None:
        for source in sources:
            before = _state(tmp_path)
            seen = changes(lambda source=source: self._places(source))  # type: ignore[misc]
            assert not seen, (
                f"finding the models of {source.name} does this to the disk: {'; '.join(seen[:3])}. A source only "
                f"reads; what is read of models is remembered by the kernel."
            )
            assert _state(tmp_path) == before, (
                f"the store of {source.name} is not the same after its models were found."
            )

    def test_a_source_survives_a_missing_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        absent = tmp_path / "absent"
        source = self.source(absent)
        if source is not None:
            places = self._places(source, " where its folder does not exist")
            assert not places, f"{source.name} finds {places[0].path} in a folder that does not exist."
            assert not absent.exists(), f"{source.name} makes the folder that it looks for. A source only reads."
            return
        self._need(Asked(self.module), "list_sources")
        for name in HOMES:
            monkeypatch.setenv(name, str(absent))
        for told in outside.found_by_sources(self.module):
            assert not told["raised"], (
                f"{told['source']} raises {told['raised']} for a user without a home folder. "
                f"A store that does not exist has no models."
            )
            assert not told["missing"], f"{told['source']} names {told['missing'][0]}, where nothing lies."

    def _places(self, source: ModelSource, where: str = "") -> list[Place]:
        """All that *source* finds, in bounded time and number."""

        def find() -> list[Place]:
            try:
                return list(islice(source.find(), MOST + 1))
            except Exception as error:
                raise AssertionError(
                    f"find() of {source.name} raises {type(error).__name__}: {error}{where}. "
                    f"Leave out what cannot be read; a store that does not exist has no models."
                ) from error

        places = within(self.wait_s, find, f"find() of {source.name}")
        assert len(places) <= MOST, f"find() of {source.name} yields more than {MOST} places. It must end."
        return places


def _check(source: str, place: Place) -> None:
    assert isinstance(place, Place), f"{source} yields {place!r}. Yield a Place."
    assert isinstance(place.path, Path), f"{source} yields a Place whose path is {place.path!r}. Give a pathlib.Path."
    assert place.path.exists(), f"{source} names {place.path}, where nothing lies. Leave out what is not there."
    inside = [*place.files, *place.digests, *place.skip]
    for name in inside:
        relative = PurePosixPath(name)
        assert not relative.is_absolute() and ".." not in relative.parts, (  # noqa: PT018
            f"{source} names {name!r} in {place.path}. Name files and folders relative to the place."
        )
    missing = [name for name in place.files if not (place.path / name).is_file()]
    assert not missing, f"{source} names the file {missing[0]!r} in {place.path}, where it is not."
    for name, digest in place.digests.items():
        assert SHA256.fullmatch(digest), f"{source} says {digest!r} of {name}. Give SHA-256 in lower-case hexadecimal."
    try:
        json.dumps(dict(place.about))
    except (TypeError, ValueError) as error:
        raise AssertionError(f"{source} says about {place.path} what is no JSON: {error}.") from error


def _state(folder: Path) -> Mapping[str, tuple[int, int]]:
    """Every file's and folder's time and size."""
    stats = {str(path): path.lstat() for path in sorted(folder.rglob("*"))}
    return {path: (stat.st_mtime_ns, stat.st_size) for path, stat in stats.items()}
