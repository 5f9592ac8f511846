"""Asking plugins about files: remembered while they stay, many at once, in order."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.errors import PluginFault
from anyform.contract.facts import BackendInfo, Evidence, Finding, FormatMatch, Metadata, ModelFiles, Severity
from anyform.contract.hooks import hookimpl
from anyform.kernel.entry import Entry
from anyform.kernel.files import FolderFiles
from anyform.kernel.plugins import Plugins
from anyform.sources.catalogue import Catalogue
from anyform.sources.reader import FEW, THREADS, Reader, stamp_of, together


@pytest.mark.parametrize("count", [0, 1, FEW, FEW + 1, 200])
def test_answers_come_in_the_order_of_the_questions(count: int) -> None:
    assert list(together(lambda number: number * 2, range(count))) == [number * 2 for number in range(count)]


def test_much_work_is_done_by_several_threads_at_once() -> None:
    meeting = threading.Barrier(THREADS, timeout=30)

    def work(number: int) -> int:
        if number < THREADS:
            meeting.wait()  # passes only if as many are here at the same time
        return threading.get_ident()

    assert len(set(together(work, range(FEW + THREADS)))) > 1


def test_a_fault_comes_through() -> None:
    def work(number: int) -> int:
        if number == 30:
            raise PluginFault("p", "h", "30")
        return number

    answers = together(work, range(50))
    with pytest.raises(PluginFault):
        list(answers)


def test_an_answer_holds_as_long_as_its_stamp() -> None:
    reader, asked = Reader(Plugins.of({})), []

    def ask() -> str:
        asked.append(1)
        return f"answer {len(asked)}"

    said = [reader.remembered("q", "p", "about", stamp, ask) for stamp in ("1", "1", "2", "2", "1", "", "")]
    assert said == ["answer 1"] * 2 + ["answer 2"] * 2 + ["answer 3"] + ["answer 4"] * 2


class Listening:
    """A plugin that keeps what it is asked about."""

    ANYFORM_CONTRACT = 1

    def __init__(self) -> None:
        self.files: list[ModelFiles] = []

    @hookimpl
    def detect_format(self, files: ModelFiles) -> list[FormatMatch]:
        return [
            FormatMatch(format="f", entry=name, files=(name,), evidence=Evidence.NAME, why="") for name in files.files
        ]

    @hookimpl
    def extract_metadata(self, files: ModelFiles) -> Metadata:
        self.files.append(files)
        return Metadata(name="m")

    @hookimpl
    def validate(self, files: ModelFiles) -> list[Finding]:
        self.files.append(files)
        return []


def test_metadata_and_findings_are_asked_of_the_same_files(tmp_path: Path) -> None:
    (tmp_path / "m").write_text("one")
    plugin = Listening()
    reader = Reader(Plugins.of({"listening": plugin}))
    [(name, match)] = reader.matches(FolderFiles(tmp_path))
    entry = Entry(name="m", path=str(tmp_path), plugin=name, match=match)
    assert reader.model(entry, name, match) == (match, Metadata(name="m"), [])
    first, second = plugin.files
    assert first is second
    assert (reader.metadata(entry, name, match), reader.findings(entry, name, match)) == (Metadata(name="m"), [])
    assert len(plugin.files) == 2


def test_a_stamp_changes_with_size_and_time_and_is_empty_for_what_is_gone(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one")
    first = stamp_of(str(tmp_path), ("a",))
    (tmp_path / "a").write_text("three")
    assert "" != stamp_of(str(tmp_path), ("a",)) != first
    assert stamp_of(str(tmp_path), ("a", "b")) == ""


class Kept:
    """A memory that only counts."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def recall(self, question: str, plugin: str, about: str, stamp: str) -> None:
        return None

    def remember(self, question: str, plugin: str, about: str, stamp: str, answer: object) -> None:
        self.told.append(str(answer))

    def renew(self) -> None:
        self.told.append("renewed")

    def close(self) -> None: ...


def test_what_hangs_on_files_elsewhere_is_asked_again() -> None:
    """The model's own files do not change when they come."""
    memory = Kept()
    reader = Reader(Plugins.of({}), memory)
    lacking = [Finding(code="p.config_elsewhere", severity=Severity.WARNING, text="there is none")]
    answers = iter((lacking, []))
    said = [reader.remembered("validate", "p", "about", "stamp", lambda: next(answers)) for _ in range(3)]
    assert said == [lacking, [], []]
    assert memory.told == ["[]"]


def test_it_forgets_when_plugins_change_also_what_is_being_asked_just_then() -> None:
    memory = Kept()
    reader = Reader(Plugins.of({}), memory)

    def asked(answer: str, meanwhile: bool = False) -> str:
        def ask() -> str:
            if meanwhile:
                reader.forget()
            return answer

        return str(reader.remembered("q", "p", "a", "1", ask))

    assert [asked("first"), asked("second")] == ["first", "first"]
    reader.forget()
    assert asked("by the old plugin", meanwhile=True) == "by the old plugin"
    assert asked("by the new one") == "by the new one"
    assert memory.told == ["first", "renewed", "renewed", "by the new one"]


class Settled:
    """A plugin that prefers what is for the chip of the settings, and validates by it."""

    ANYFORM_CONTRACT = 1

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.trouble = ""

    @hookimpl
    def list_backends(self, tables: Mapping[str, Any]) -> list[BackendInfo]:
        options = {"library": tables["library"]} if "library" in tables else {}
        return [BackendInfo(name="b", reads=("f",), tasks=("chat",), options=options, trouble=self.trouble)]

    @hookimpl
    def detect_format(self, files: ModelFiles, tables: Mapping[str, Any]) -> list[FormatMatch]:
        self.asked.append("detect_format")
        here = str(tables.get("library", ""))
        return [FormatMatch(format="f", entry="m", files=("m",), evidence=Evidence.NAME, why=here)]

    @hookimpl
    def extract_metadata(self, files: ModelFiles) -> Metadata:
        self.asked.append("extract_metadata")
        return Metadata()

    @hookimpl
    def validate(self, files: ModelFiles, tables: Mapping[str, Any]) -> list[Finding]:
        self.asked.append("validate")
        return []


def test_what_hangs_on_this_machine_is_asked_anew_once_that_is_another(tmp_path: Path) -> None:
    model, library = tmp_path / "model", tmp_path / "library"
    model.mkdir()
    (model / "m").write_text("one")
    library.write_text("1.2.1")
    plugin = Settled()
    plugins = Plugins.of({"settled": plugin})
    memory = Catalogue(tmp_path / "catalogue.sqlite", plugins)
    reader = Reader(plugins, memory)

    def look(reader: Reader) -> tuple[str, list[str]]:
        plugin.asked = []
        reader.look_around()
        [(name, match)] = reader.matches(FolderFiles(model))
        reader.model(Entry(name="m", path=str(model), plugin=name, match=match), name, match)
        return match.why, plugin.asked

    assert look(reader) == ("", ["detect_format", "extract_metadata", "validate"])
    assert look(reader) == ("", [])
    plugins.tables = {"settled": {"library": str(library)}}
    assert look(reader) == (str(library), ["detect_format", "validate"])
    assert look(reader) == (str(library), [])
    os.utime(library, ns=(1, 1))
    assert look(reader) == (str(library), ["detect_format", "validate"])
    plugin.trouble = "the driver is gone"
    assert look(reader)[1] == ["detect_format", "validate"]
    reader.close()
    assert look(Reader(plugins, Catalogue(tmp_path / "catalogue.sqlite", plugins)))[1] == []


class Ignored(Settled):
    """A plugin that states nothing of its settings, and has no `validate`."""

    @hookimpl
    def list_backends(self) -> list[BackendInfo]:  # type: ignore[override]
        return [BackendInfo(name="b", reads=("f",), tasks=("chat",))]

    validate = None  # type: ignore[assignment]


def test_settings_count_also_where_no_backend_states_them(tmp_path: Path) -> None:
    (tmp_path / "m").write_text("one")
    plugins = Plugins.of({"ignored": (plugin := Ignored())})
    reader = Reader(plugins)

    def look() -> str:
        reader.look_around()
        [(_, match)] = reader.matches(FolderFiles(tmp_path))
        return match.why

    assert [look(), look()] == ["", ""]
    plugins.tables = {"ignored": {"library": "one"}}
    assert [look(), look()] == ["one", "one"]
    assert len(plugin.asked) == 2


def test_looking_around_may_come_at_any_moment(tmp_path: Path) -> None:
    (tmp_path / "m").write_text("one")

    class Restless(Settled):
        @hookimpl
        def list_backends(self) -> list[BackendInfo]:  # type: ignore[override]
            return [BackendInfo(name="b", reads=("f",), tasks=("chat",), trouble="none")]

    class Forgetful(Reader):
        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, None if name == "_marks" else value)

    reader = Forgetful(Plugins.of({"restless": Restless()}))
    assert [plugin for plugin, _ in reader.matches(FolderFiles(tmp_path))] == ["restless"]


@pytest.mark.parametrize("wrong", [5, "text", ["x"], [{"name": "x"}], ValueError("no")])
def test_a_plugin_that_states_no_backends_costs_itself_alone(tmp_path: Path, wrong: object) -> None:
    (tmp_path / "m").write_text("one")

    class Wrong(Settled):
        @hookimpl
        def list_backends(self) -> Any:  # type: ignore[override]
            if isinstance(wrong, ValueError):
                raise wrong
            return wrong

    plugins = Plugins.of({"settled": Settled(), "wrong": Wrong()})
    assert [plugin for plugin, _ in Reader(plugins).matches(FolderFiles(tmp_path))] == ["settled", "wrong"]
    assert ["wrong failed in list_backends" in fault.message for fault in plugins.failures] == (
        [True] if isinstance(wrong, ValueError) else []
    )
