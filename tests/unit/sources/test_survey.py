"""Models of a folder and their names, where several formats lie beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from anyform.contract.facts import Evidence, FormatMatch, ModelFiles
from anyform.contract.hooks import Place, hookimpl
from anyform.kernel.entry import Entry
from anyform.kernel.plugins import Plugins
from anyform.sources.reader import Reader
from anyform.sources.survey import Lead, survey


def plugin(name: str, *matches: tuple[str, ...]) -> ModuleType:
    """A plugin that finds models of these (name, variant), the preferred one first; each in a file of its own, or in
    the one that is named third.
    """
    module = ModuleType(name)

    @hookimpl
    def detect_format(files: ModelFiles) -> list[FormatMatch]:
        return [
            FormatMatch(
                format=name, entry=file, files=(file,), evidence=Evidence.LAYOUT, why="so",
                name=own, variant=variant, order=n,
            )
            for n, (own, variant, file) in enumerate((*match, f"{name}{n}")[:3] for n, match in enumerate(matches))
        ]  # fmt: skip

    module.ANYFORM_CONTRACT = 1  # type: ignore[attr-defined]
    module.detect_format = detect_format  # type: ignore[attr-defined]
    return module


def look(tmp_path: Path, **formats: Sequence[tuple[str, ...]]) -> list[Entry]:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").write_bytes(b"x")
    plugins = Plugins.of({name: plugin(name, *matches) for name, matches in formats.items()})
    return survey(Reader(plugins), [Lead(source="", place=Place(path=folder))])


def forms(entries: list[Entry]) -> list[tuple[str, ...]]:
    """Name, and all forms with the one that it is under first."""
    return [(entry.name, entry.match.entry, *(match.entry for _, match in entry.others)) for entry in entries]


def test_a_nameless_form_joins_the_only_named_model(tmp_path: Path) -> None:
    assert forms(look(tmp_path, a=[("m", "Q8")], b=[("", "")])) == [("folder", "a0", "b0")]


def test_whatever_comes_first(tmp_path: Path) -> None:
    assert forms(look(tmp_path, a=[("", "")], b=[("m", "Q8")])) == [("folder", "b0", "a0")]


def test_it_joins_the_preferred_of_several_variants(tmp_path: Path) -> None:
    assert forms(look(tmp_path, a=[("m", "Q4"), ("m", "Q8")], b=[("", "")])) == [
        ("folder", "a0", "b0"),
        ("folder", "a1"),
    ]


def test_nameless_variants_are_variants_of_the_same_name(tmp_path: Path) -> None:
    found = look(tmp_path, a=[("m", "Q8")], b=[("", "F32"), ("", "F16")])
    assert forms(found) == [("folder", "a0"), ("folder", "b0"), ("folder", "b1")]


def test_two_nameless_forms_are_one_model(tmp_path: Path) -> None:
    assert forms(look(tmp_path, a=[("", "")], b=[("", "")])) == [("folder", "a0", "b0")]


def test_of_several_named_models_none_is_joined(tmp_path: Path) -> None:
    found = look(tmp_path, a=[("m", ""), ("n", "")], b=[("", "")])
    assert forms(found) == [("folder/m", "a0"), ("folder", "b0"), ("folder/n", "a1")]


def test_within_one_format_the_nameless_stays_apart(tmp_path: Path) -> None:
    assert forms(look(tmp_path, a=[("", ""), ("m", "")])) == [("folder", "a0"), ("folder/m", "a1")]


def test_what_another_format_sees_in_a_file_is_one_more_form_of_it(tmp_path: Path) -> None:
    found = look(tmp_path, a=[("", "main", "weights"), ("", "F32", "larger")], b=[("", "", "weights")])
    assert forms(found) == [("folder", "weights", "weights"), ("folder", "larger")]
    assert [match.format for _, match in found[0].others] == ["b"]


def test_a_variant_of_another_format_stays_one_of_its_own(tmp_path: Path) -> None:
    found = look(tmp_path, a=[("", "main", "weights")], b=[("", "Q8", "weights")])
    assert forms(found) == [("folder", "weights"), ("folder", "weights")]


def test_two_names_for_one_file_stay_two(tmp_path: Path) -> None:
    found = look(tmp_path, a=[("m", "", "weights"), ("o", "", "x")], b=[("n", "", "weights")])
    assert len(found) == 3
