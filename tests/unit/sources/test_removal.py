"""What deleting a model would delete, where it has several forms that share files."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from anyform.contract.facts import Evidence, FormatMatch
from anyform.kernel.entry import Entry, Spot
from anyform.sources.folder import write_record
from anyform.sources.recipe import Recipe, Recipes, Where
from anyform.sources.removal import UNTOUCHED_S, UPLOADS, NotOurs, clean, considered, forms, leftovers, needed, remove

SHARED = ("config.json", "tokenizer.json")


@pytest.fixture
def entry(tmp_path: Path) -> Entry:
    """A model as safetensors and as pickles, in anyform's own folder."""
    folder = tmp_path / "owner" / "repo"
    folder.mkdir(parents=True)
    matches = []
    for size, (kind, name) in enumerate((("safetensors", "model.safetensors"), ("pytorch", "pytorch_model.bin")), 1):
        files = (name, *SHARED)
        matches.append(FormatMatch(format=kind, entry=name, files=files, evidence=Evidence.LAYOUT, why="made up"))
        for file in files:
            (folder / file).write_bytes(b"x" * (100 * size if file == name else 10))
    spot = Spot(source="anyform", path=str(folder), entry=matches[0].entry)
    others = (("p", matches[1]),)
    name = "owner/repo"
    return Entry(name=name, path=str(folder), plugin="p", match=matches[0], others=others, places=(spot,))


def test_forms_are_told_with_their_files_and_sizes(entry: Entry) -> None:
    assert [(form.format, form.size_bytes) for form in forms(entry)] == [("safetensors", 120), ("pytorch", 220)]


def test_one_form_leaves_what_the_other_needs(entry: Entry, tmp_path: Path) -> None:
    found = considered(tmp_path, entry, [entry], form=forms(entry)[1])
    assert (found.files, found.shared, found.freed_bytes) == (("pytorch_model.bin",), SHARED, 200)
    remove(tmp_path, found)
    assert sorted(path.name for path in Path(entry.path).iterdir()) == sorted((*SHARED, "model.safetensors"))


def test_all_forms_go_together(entry: Entry, tmp_path: Path) -> None:
    found = considered(tmp_path, entry, [entry])
    assert set(found.files) == {"model.safetensors", "pytorch_model.bin", *SHARED}
    assert found.shared == ()


def test_a_form_elsewhere_is_not_deleted_either(entry: Entry, tmp_path: Path) -> None:
    with pytest.raises(NotOurs):
        considered(tmp_path / "home", entry, [entry], form=forms(entry)[0])


def test_all_that_was_pulled_goes_but_what_created_models_are_made_of(tmp_path: Path) -> None:
    for number in range(3):
        (folder := tmp_path / "owner" / f"repo-{number}").mkdir(parents=True)
        for name in ("m", "x.part"):
            (folder / name).write_text(name)
        write_record(folder, {"files": {"m": {}}})
    recipes = Recipes(tmp_path)
    by_place = Where(path=str(tmp_path / "owner" / "repo-0"), entry="m")
    recipes.create(Recipe(name="mario", base="elsewhere", where=by_place))
    recipes.create(Recipe(name="luigi", base="owner/repo-1:Q4", where=Where(path="/gone", entry="m")))
    kept = needed(tmp_path)
    assert (kept["owner/repo-0"], kept["owner/repo-1"]) == (["mario"], ["luigi"])
    for one in leftovers(tmp_path, True, kept):
        clean(tmp_path, one)
    left = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("owner/*/*"))
    assert [name for name in left if not name.startswith(".")] == [
        "owner/repo-0/.anyform.json", "owner/repo-0/m", "owner/repo-1/.anyform.json", "owner/repo-1/m",
    ]  # fmt: skip


def test_uploads_that_nothing_came_of_are_left_over(tmp_path: Path) -> None:
    blobs = Recipes(tmp_path).blobs
    for number in range(2):
        with blobs.begin(f"sha256:{number:064}"):  # another is being written
            pass
        (blobs.folder / f"{number}.part").write_bytes(b"12345")
    past = time.time() - UNTOUCHED_S - 60
    os.utime(blobs.folder / "0.part", (past, past))
    (found,) = leftovers(tmp_path)
    assert (found.repository, [path.name for path in found.files], found.size_bytes) == (UPLOADS, ["0.part"], 5)
    clean(tmp_path, found)
    assert [path.name for path in blobs.folder.iterdir()] == ["1.part"]
