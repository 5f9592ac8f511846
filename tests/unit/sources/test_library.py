"""Names and places, with the echo format."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from anyform.builtin import echo
from anyform.contract.errors import Invalid, ModelNotFound, UnknownFormat
from anyform.kernel.entry import Entry
from anyform.kernel.plugins import Plugins
from anyform.sources.library import Library
from anyform.sources.reader import Reader
from anyform.sources.shelf import Shelf


@pytest.fixture
def plugins() -> Plugins:
    return Plugins.of({"echo": echo})


def library_of(plugins: Plugins, *places: Any, aliases: Mapping[str, str] | None = None, **more: Any) -> Library:
    return Library(Shelf(plugins, *places, **more), aliases)


def write(place: Path, **fields: Any) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps({"format": "echo", **fields}))
    return place


def test_a_folder_of_models_names_them_by_their_path(plugins: Plugins, tmp_path: Path) -> None:
    write(tmp_path / "owner" / "repo" / "echo.json")
    write(tmp_path / "solo" / "echo.json")
    write(tmp_path / "loose.echo.json")
    (tmp_path / ".hidden").mkdir()
    write(tmp_path / ".hidden" / "echo.json")
    names = [entry.name for entry in library_of(plugins, folders=[tmp_path]).entries()]
    assert names == ["loose", "owner/repo", "solo"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are text")
def test_names_that_nothing_could_show_cost_no_other_model(plugins: Plugins, tmp_path: Path) -> None:
    write(tmp_path / "good.echo.json")
    write(tmp_path / "bad\udcff.echo.json")
    write(tmp_path / "red\x1b[31m\n.echo.json")
    write(tmp_path / "folder\udcfe" / "echo.json")
    assert [entry.name for entry in library_of(plugins, folders=[tmp_path]).entries()] == ["good"]


def test_variants_share_a_bare_name_that_means_the_preferred(plugins: Plugins, tmp_path: Path) -> None:
    write(tmp_path / "m" / "a.echo.json", name="m", variant="big", order=2)
    write(tmp_path / "m" / "b.echo.json", name="m", variant="small", order=1)
    library = library_of(plugins, folders=[tmp_path])
    assert [entry.name for entry in library.entries()] == ["m:big", "m:small"]
    assert library.find("m").name == "m:small"
    assert library.find("m:big").match.entry == "a.echo.json"
    assert library.find("M:BIG").name == "m:big"
    assert library.find("m:latest").name == "m:small"


def test_a_lone_variant_answers_to_both_names(plugins: Plugins, tmp_path: Path) -> None:
    write(tmp_path / "m" / "a.echo.json", name="m", variant="Q8_0")
    library = library_of(plugins, folders=[tmp_path])
    assert [entry.name for entry in library.entries()] == ["m"]
    assert library.find("m:Q8_0").name == "m"


def test_two_models_in_one_folder_keep_their_own_names(plugins: Plugins, tmp_path: Path) -> None:
    write(tmp_path / "f" / "a.echo.json")
    write(tmp_path / "f" / "b.echo.json")
    assert [entry.name for entry in library_of(plugins, folders=[tmp_path]).entries()] == ["f/a", "f/b"]


def test_a_file_is_called_by_its_stem_and_a_folder_by_its_name(plugins: Plugins, tmp_path: Path) -> None:
    file = write(tmp_path / "x" / "story.echo")
    write(tmp_path / "x" / "other.echo")
    write(tmp_path / "y" / "echo.json")
    assert [entry.name for entry in library_of(plugins, [file, tmp_path / "y"]).entries()] == ["story", "y"]


def test_a_file_name_leads_to_the_name_that_it_is_served_under(plugins: Plugins, tmp_path: Path) -> None:
    library = library_of(plugins, [write(tmp_path / f"{name}.echo") for name in ("a", "b.v1", "c")])
    for asked, name in (("a.gguf", "a"), ("A.echo", "a"), ("b.v1.gguf", "b.v1")):
        with pytest.raises(ModelNotFound, match=f"Did you mean {name}\\?"):
            library.find(asked)
    with pytest.raises(ModelNotFound, match=r"Nearest|There is"):
        library.find("b.v2")


def test_two_places_of_one_name_are_told_apart(plugins: Plugins, tmp_path: Path) -> None:
    paths = [write(tmp_path / side / "story.echo") for side in "ab"]
    library = library_of(plugins, paths)
    assert [entry.name for entry in library.entries()] == ["story", "story-2"]
    assert library.find("story").path != library.find("story-2").path


def test_one_place_named_twice_is_one_entry(plugins: Plugins, tmp_path: Path) -> None:
    write(tmp_path / "m" / "echo.json")
    assert len(library_of(plugins, [tmp_path / "m", tmp_path / "m"]).entries()) == 1


def test_an_unknown_name_is_refused_with_the_nearest(plugins: Plugins, tmp_path: Path) -> None:
    write(tmp_path / "storyteller" / "echo.json")
    library = library_of(plugins, folders=[tmp_path])
    with pytest.raises(ModelNotFound, match="storyteller"):
        library.find("storyteler")
    with pytest.raises(ModelNotFound, match="library is empty"):
        library_of(plugins).find("x")
    with pytest.raises(ModelNotFound):
        library.find(str(tmp_path / "storyteller"))
    with pytest.raises(ModelNotFound):
        library.find("../storyteller")


def test_a_model_that_appears_later_is_found(plugins: Plugins, tmp_path: Path) -> None:
    library = library_of(plugins, folders=[tmp_path])
    assert library.entries() == ()
    write(tmp_path / "late" / "echo.json")
    assert library.find("late").name == "late"


def test_what_is_no_model_is_refused_by_name_and_skipped_in_folders(plugins: Plugins, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UnknownFormat, match="Formats looked for: echo"):
        library_of(plugins, [tmp_path / "notes.txt"]).entries()
    assert library_of(plugins, folders=[tmp_path]).entries() == ()
    with pytest.raises(ModelNotFound, match="nothing lies at"):
        library_of(plugins, [tmp_path / "absent"])
    with pytest.raises(Invalid, match="is a file"):
        library_of(plugins, folders=[tmp_path / "notes.txt"])


def test_a_users_alias_means_the_model_until_a_model_has_that_name(plugins: Plugins, tmp_path: Path) -> None:
    write(tmp_path / "one" / "echo.json")
    write(tmp_path / "two" / "echo.json")
    library = library_of(plugins, folders=[tmp_path], aliases={"mine": "one", "two": "one", "gone": "absent"})
    assert library.find("mine").name == "one"
    assert library.find("two").name == "two"
    with pytest.raises(ModelNotFound):
        library.find("gone")


def test_a_model_answers_to_its_files_own_name_too(plugins: Plugins, tmp_path: Path) -> None:
    write(tmp_path / "m" / "story-Q4.echo", name="story", variant="Q4")
    write(tmp_path / "m" / "story-Q8.echo", name="story", variant="Q8")
    assert library_of(plugins, folders=[tmp_path]).find("story-Q8").name == "m:Q8"


class CountingShelf:
    """A shelf that counts how often it is looked at."""

    def __init__(self, reader: Reader) -> None:
        self.reader, self.looks = reader, 0
        self.troubles: list[str] = []

    def look(self) -> list[Entry]:
        self.looks += 1
        return []

    def bare(self, name: str) -> str:
        return name


def test_unknown_names_do_not_keep_the_disk_busy(plugins: Plugins) -> None:
    shelf = CountingShelf(Reader(plugins))
    library = Library(shelf)
    for number in range(50):
        with pytest.raises(ModelNotFound):
            library.find(f"unknown{number}")
    assert shelf.looks == 2
