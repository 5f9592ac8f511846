"""What is remembered of models between two runs, and when it is not believed."""

from __future__ import annotations

import logging
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from anyform.builtin import echo
from anyform.contract.facts import Evidence, Finding, FormatMatch, Metadata, Severity
from anyform.contract.hooks import hookimpl
from anyform.kernel.plugins import PluginRecord, Plugins
from anyform.sources.catalogue import FILE, SCHEMA, Catalogue
from anyform.sources.library import Library
from anyform.sources.shelf import Shelf

MATCH = FormatMatch(
    format="story",
    entry="a.story",
    files=("a.story", "b"),
    evidence=Evidence.MAGIC,
    why="a test",
    variant="Q8_0",
    order=3,
)
METADATA = Metadata(
    name="a",
    tasks=("chat", "complete"),
    context=512,
    extra={"kv_heads": [2, 4], "template": "{{ x }}", "nested": {"a": None}},
)
FINDINGS = [Finding(code="a.b", severity=Severity.CRITICAL, text="broken")]


@pytest.fixture
def plugins() -> Plugins:
    return Plugins.of({"echo": echo})


def test_paths_that_are_no_utf_8_are_kept_apart(plugins: Plugins, tmp_path: Path) -> None:
    first = Catalogue(tmp_path / FILE, plugins)
    for place, name in enumerate(("bad\udcff", "bad\udcfe", "bad")):
        first.remember("sample", "echo", name, "1", str(place))
    first.close()
    again = Catalogue(tmp_path / FILE, plugins)
    assert [again.recall("sample", "echo", name, "1") for name in ("bad\udcff", "bad\udcfe", "bad")] == ["0", "1", "2"]


def test_facts_come_back_as_they_were(plugins: Plugins, tmp_path: Path) -> None:
    answers: dict[str, Any] = {
        "detect_format": [["echo", MATCH]],
        "extract_metadata": METADATA,
        "validate": FINDINGS,
        "nothing": [],
        "sample": "ab",
    }
    first = Catalogue(tmp_path / FILE, plugins)
    for question, answer in answers.items():
        assert first.recall(question, "echo", "x", "1") is None
        first.remember(question, "echo", "x", "1", answer)
    first.close()
    again = Catalogue(tmp_path / FILE, plugins)
    assert {question: again.recall(question, "echo", "x", "1") for question in answers} == answers
    assert again.recall("extract_metadata", "echo", "x", "2") is None
    assert again.recall("extract_metadata", "echo", "y", "1") is None
    again.close()


def test_another_version_of_a_plugin_is_asked_anew(plugins: Plugins, tmp_path: Path) -> None:
    def with_version(version: str) -> Catalogue:
        plugins.records[:] = [
            PluginRecord(name=name, module="anyform.builtin.echo", version=version if name == "echo" else "1")
            for name in ("echo", "other")
        ]
        return Catalogue(tmp_path / FILE, plugins)

    first = with_version("1")
    for plugin in ("echo", "other", ""):
        first.remember("q", plugin, "x", "1", "known")
    first.close()
    same, newer = with_version("1"), with_version("2")
    assert [same.recall("q", plugin, "x", "1") for plugin in ("echo", "other", "")] == ["known"] * 3
    assert [newer.recall("q", plugin, "x", "1") for plugin in ("echo", "other", "")] == [None, "known", None]


def test_another_schema_is_begun_anew(plugins: Plugins, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / FILE) as old:
        old.execute("CREATE TABLE answer (whatever TEXT)")
        old.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    old.close()
    catalogue = Catalogue(tmp_path / FILE, plugins)
    assert catalogue.recall("q", "", "x", "1") is None
    catalogue.remember("q", "", "x", "1", "known")
    catalogue.close()
    assert Catalogue(tmp_path / FILE, plugins).recall("q", "", "x", "1") == "known"


def test_what_cannot_be_written_is_done_without_and_said_once(
    plugins: Plugins, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING, "anyform"):
        for _ in range(2):
            catalogue = Catalogue(tmp_path / "state" / FILE, plugins)
            catalogue.remember("q", "", "x", "1", "known")
            catalogue.close()
            assert catalogue.recall("q", "", "x", "1") is None
    assert len(caplog.records) == 2  # one for each catalogue


def test_an_answer_that_is_no_json_is_not_kept(plugins: Plugins, tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path / FILE, plugins)
    catalogue.remember("q", "", "x", "1", Metadata(extra={"set": {1, 2}}))
    catalogue.close()
    assert Catalogue(tmp_path / FILE, plugins).recall("q", "", "x", "1") is None


def test_many_threads_and_two_processes_worth_of_catalogues_agree(
    plugins: Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anyform.sources.catalogue.WAIT_S", 60)  # on a machine that is busy too
    shared = [Catalogue(tmp_path / FILE, plugins) for _ in range(2)]

    def work(number: int) -> None:
        for turn in range(200):
            shared[number % 2].remember("q", "", f"{number}.{turn}", "1", [number, turn])
            shared[number % 2].recall("q", "", f"{number}.{turn // 2}", "1")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for catalogue in shared:
        catalogue.close()
    after = Catalogue(tmp_path / FILE, plugins)
    assert all(after.recall("q", "", f"{n}.{t}", "1") == [n, t] for n in range(6) for t in range(200))


class Counting:
    """A format plugin that counts how often it is asked."""

    ANYFORM_CONTRACT = 1

    def __init__(self) -> None:
        self.asked: list[str] = []

    @hookimpl
    def detect_format(self, files: Any) -> list[FormatMatch]:
        self.asked.append("detect_format")
        return [
            FormatMatch(format="story", entry=name, files=(name,), evidence=Evidence.NAME, why="named so", name=name)
            for name in files.files
        ]

    @hookimpl
    def extract_metadata(self) -> Metadata:
        self.asked.append("extract_metadata")
        return METADATA

    @hookimpl
    def validate(self) -> list[Finding]:
        self.asked.append("validate")
        return FINDINGS


def test_files_that_did_not_change_are_not_read_again(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "a"
    folder.mkdir(parents=True)
    (folder / "a.story").write_text("once")
    plugin = Counting()
    plugins = Plugins.of({"counting": plugin})

    def ask() -> list[str]:
        plugin.asked.clear()
        shelf = Shelf(plugins, folders=[tmp_path / "models"], memory=Catalogue(tmp_path / FILE, plugins))
        for entry in Library(shelf).entries():
            assert shelf.reader.metadata(entry, entry.plugin, entry.match) == METADATA
            assert shelf.reader.findings(entry, entry.plugin, entry.match) == FINDINGS
        shelf.reader.close()
        return plugin.asked

    assert ask() == ["detect_format", "extract_metadata", "validate"]
    assert ask() == []
    (folder / "b.story").write_text("two")
    assert ask() == ["detect_format", "extract_metadata", "validate"]
    (folder / "a.story").write_text("once upon")
    assert ask() == ["detect_format", "extract_metadata", "validate"]
    (folder / "b.story").unlink()
    assert ask() == ["detect_format"]


def test_other_plugins_make_it_forget_what_they_had_a_say_in(tmp_path: Path) -> None:
    plugins = Plugins.of({"echo": echo})
    catalogue = Catalogue(tmp_path / FILE, plugins)
    catalogue.remember("detect_format", "", "x", "1", [])
    catalogue.remember("validate", "echo", "x", "1", [])
    catalogue.close()
    assert Catalogue(tmp_path / FILE, plugins).recall("detect_format", "", "x", "1") == []
    plugins.records.append(PluginRecord(name="late", module="anyform.builtin.machine"))
    catalogue.renew()
    assert catalogue.recall("detect_format", "", "x", "1") is None
    assert catalogue.recall("validate", "echo", "x", "1") == []
    catalogue.close()
