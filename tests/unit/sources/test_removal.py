"""What deleting a model would delete, where it has several forms that share files."""

from __future__ import annotations

from pathlib import Path

import pytest

from anyform.contract.facts import Evidence, FormatMatch
from anyform.kernel.entry import Entry, Spot
from anyform.sources.removal import NotOurs, considered, forms, remove

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
