"""A broken plugin costs itself alone. Real entry points, found on the path as pip would install them."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from anyform.contract.errors import ContextExceeded, Invalid, PluginFault
from anyform.contract.hooks import hookimpl
from anyform.kernel import plugins as plugins_module
from anyform.kernel.plugins import Plugins
from anyform.workers import trial
from anyform.workers.trial import discover

Install = Callable[[str, str], None]
SOUND = """
from anyform.contract.hooks import hookimpl
ANYFORM_CONTRACT = 1
@hookimpl
def find_devices():
    return []
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", str(site))

    def make(name: str, code: str) -> None:
        (site / f"{name}_module.py").write_text(code)
        info = site / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[anyform.plugins]\n{name} = {name}_module\n")

    return make


BROKEN = {
    "raises": ("raise RuntimeError('no licence')", "RuntimeError: no licence"),
    "quits": ("import sys; sys.exit(3)", "exit code 3"),
    "aborts": ("import os; os.abort()", "signal 6"),
    "leaves": ("import os; os._exit(7)", "exit code 7"),
    "absent": ("import a_module_that_is_not_there", "No module named 'a_module_that_is_not_there'"),
    "misspells": (SOUND.replace("find_devices", "find_device"), "no hook 'find_device'; did it mean 'find_devices'"),
    "asks_more": (SOUND.replace("find_devices()", "find_devices(weather)"), "weather"),
    "old": (
        SOUND.replace("ANYFORM_CONTRACT = 1", "ANYFORM_CONTRACT = 0"),
        "contract 0; this anyform has 1. Upgrade the plugin",
    ),
    "new": (SOUND.replace("ANYFORM_CONTRACT = 1", "ANYFORM_CONTRACT = 99"), "Upgrade anyform"),
    "says_nothing": (SOUND.replace("ANYFORM_CONTRACT = 1", ""), "ANYFORM_CONTRACT = 1"),
}


def test_each_broken_plugin_costs_itself_alone(install: Install, tmp_path: Path) -> None:
    for name, (code, _) in BROKEN.items():
        install(name, code)
    install("zz_sound", SOUND)
    found = discover(tmp_path / "state")
    assert "zz_sound" in found.names()
    assert "machine" in found.names()
    for name, (_, words) in BROKEN.items():
        record = found.record(name)
        assert record is not None
        assert not record.sound
        assert words in record.reason, (name, record.reason)
        assert "\n" not in record.reason


def test_a_plugin_that_hangs_at_import_is_given_up(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "TRIAL_S", 1.0)
    install("hangs", "import threading; threading.Event().wait()")
    install("zz_sound", SOUND)
    found = discover(tmp_path / "state")
    record = found.record("hangs")
    assert record is not None
    assert "took over" in record.reason
    assert "zz_sound" in found.names()


def test_an_import_that_starts_to_hang_later_is_given_up_too(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins_module, "TRIAL_S", 0.5)
    install("hangs_later", "import threading; threading.Event().wait()")
    record = Plugins.discover(only="hangs_later").record("hangs_later")
    assert record is not None
    assert "took over 0.5 s" in record.reason


def test_trials_are_run_once_for_a_plugin_that_stays_the_same(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("fine", SOUND)
    discover(tmp_path / "state")
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: pytest.fail("tried again"))
    assert "fine" in discover(tmp_path / "state").names()


def test_a_plugin_that_changes_is_tried_again(install: Install, tmp_path: Path) -> None:
    install("fine", SOUND)
    discover(tmp_path / "state")
    del sys.modules["fine_module"]
    (tmp_path / "site" / "fine_module.py").write_text("import os; os._exit(9)  # changed")
    record = discover(tmp_path / "state").record("fine")
    assert record is not None
    assert "exit code 9" in record.reason


class Good:
    ANYFORM_CONTRACT = 1

    @staticmethod
    @hookimpl
    def find_devices() -> list[str]:
        return ["device"]


class Bad:
    ANYFORM_CONTRACT = 1

    @staticmethod
    @hookimpl
    def find_devices() -> list[str]:
        raise ValueError("broken sensor")

    @staticmethod
    @hookimpl
    def load(plan: object) -> object:
        raise ContextExceeded("too long")


def test_collected_hooks_survive_one_that_raises_and_keep_its_fault() -> None:
    found = Plugins.of({"good": Good, "bad": Bad})
    assert found.ask_all("find_devices") == [("good", ["device"])]
    assert found.ask_all("find_devices") == [("good", ["device"])]
    assert [fault.message for fault in found.failures] == [
        "plugin bad failed in find_devices: ValueError: broken sensor."
    ]


class Told:
    ANYFORM_CONTRACT = 1

    @staticmethod
    @hookimpl
    def find_devices(tables: Mapping[str, object]) -> list[object]:
        if "wrong" in tables:
            raise Invalid("told.wrong is 1.", "It must be text.")
        return [dict(tables)]


def test_a_plugin_is_told_of_its_own_table_where_it_looks_for_devices() -> None:
    found = Plugins.of({"good": Good, "told": Told})
    found.tables = {"good": {"a": 1}, "told": {"root": "/x"}}
    assert found.ask_all("find_devices") == [("good", ["device"]), ("told", [{"root": "/x"}])]
    found.tables = {}
    assert found.ask_one("told", "find_devices") == [{}]


def test_what_a_collected_hook_refuses_is_no_bug_of_its_plugin() -> None:
    found = Plugins.of({"good": Good, "told": Told})
    found.tables = {"told": {"wrong": 1}}
    assert found.ask_all("find_devices") == [("good", ["device"])]
    [fault] = found.failures
    assert str(fault) == "plugin told failed in find_devices: told.wrong is 1. It must be text."


def test_addressed_hooks_ask_one_plugin_and_keep_its_own_faults() -> None:
    found = Plugins.of({"good": Good, "bad": Bad})
    assert found.ask_one("good", "find_devices") == ["device"]
    with pytest.raises(PluginFault, match="broken sensor"):
        found.ask_one("bad", "find_devices")
    with pytest.raises(ContextExceeded):
        found.ask_one("bad", "load", plan=None)
    with pytest.raises(PluginFault, match="absent"):
        found.ask_one("ugly", "load", plan=None)
    with pytest.raises(PluginFault, match="does not implement"):
        found.ask_one("good", "load", plan=None)


def write(site: Path, name: str, code: str, version: str) -> None:
    """Install or upgrade a plugin that is a package of one module."""
    remove(site, name)
    package = site / f"{name}_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "plugin.py").write_text(code)
    info = site / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[anyform.plugins]\n{name} = {name}_package.plugin\n")


def remove(site: Path, name: str) -> None:
    for path in (*site.glob(f"{name}_package"), *site.glob(f"{name}-*.dist-info")):
        shutil.rmtree(path)


def says(*devices: str) -> str:
    return SOUND.replace("return []", f"return {list(devices)}")


@pytest.fixture
def site(install: Install, tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "site"
    for name in [name for name in sys.modules if name.partition(".")[0].endswith("_package")]:
        del sys.modules[name]


def told(found: Plugins, name: str) -> list[str]:
    devices: list[str] = found.ask_one(name, "find_devices")
    return devices


def test_a_second_look_admits_upgrades_and_drops(site: Path, tmp_path: Path) -> None:
    write(site, "stays", says("s"), "1.0")
    found = discover(tmp_path / "state")
    stays, manager = sys.modules["stays_package.plugin"], found.record("machine")
    assert found.refresh() == {"added": [], "removed": [], "changed": []}

    write(site, "late", says("first"), "1.0")
    assert found.refresh() == {"added": ["late"], "removed": [], "changed": []}
    assert told(found, "late") == ["first"]

    write(site, "late", says("second", "of two"), "2.0")
    assert found.refresh() == {"added": [], "removed": [], "changed": ["late"]}
    assert told(found, "late") == ["second", "of two"]
    record = found.record("late")
    assert record is not None
    assert record.version == "2.0"

    remove(site, "late")
    assert found.refresh() == {"added": [], "removed": ["late"], "changed": []}
    assert "late" not in found.names()
    with pytest.raises(PluginFault, match="absent"):
        told(found, "late")

    write(site, "late", says("third"), "1.0")
    assert found.refresh()["added"] == ["late"]
    assert told(found, "late") == ["third"]
    assert sys.modules["stays_package.plugin"] is stays
    assert found.record("machine") == manager


def test_a_broken_plugin_that_was_mended_is_found_and_its_old_troubles_are_forgotten(
    site: Path, tmp_path: Path
) -> None:
    write(site, "late", "raise RuntimeError('not yet')", "1.0")
    write(site, "other", SOUND.replace("return []", "raise ValueError('dust')"), "1.0")
    found = discover(tmp_path / "state")
    found.ask_all("find_devices")
    assert len(found.failures) == 1
    write(site, "late", says("x"), "1.0")
    write(site, "other", says("y"), "1.1")
    assert found.refresh()["changed"] == ["late", "other"]
    assert (told(found, "late"), found.failures) == (["x"], [])


def test_what_is_installed_broken_costs_itself_alone(site: Path, tmp_path: Path) -> None:
    found = discover(tmp_path / "state")
    write(site, "late", "import os; os.abort()", "1.0")
    write(site, "later", says("x"), "1.0")
    assert found.refresh()["added"] == ["late", "later"]
    record = found.record("late")
    assert record is not None
    assert "signal 6" in record.reason
    assert told(found, "later") == ["x"]


def test_a_dependency_that_came_later_mends_a_plugin_that_did_not_change(site: Path, tmp_path: Path) -> None:
    write(site, "late", f"import dependency_of_late\n{says('x')}", "1.0")
    found = discover(tmp_path / "state")
    assert "late" not in found.names()
    (site / "dependency_of_late.py").write_text("")
    assert found.refresh()["changed"] == ["late"]
    assert told(found, "late") == ["x"]


def test_plugins_given_as_objects_stay() -> None:
    found = Plugins.of({"good": Good})
    assert found.refresh() == {"added": [], "removed": [], "changed": []}
    assert found.names() == ["good"]


def test_what_goes_while_it_is_asked_does_not_answer_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found, gone = Plugins.of({"good": Good}), Plugins.of({})

    def implements(name: str, hook: str) -> bool:
        found._manager = gone._manager
        return True

    monkeypatch.setattr(found, "implements", implements)
    with pytest.raises(PluginFault, match="good failed in list_backends: it is broken, absent"):
        found.ask_one("good", "list_backends")


def test_others_may_ask_while_it_looks_again(site: Path, tmp_path: Path) -> None:
    write(site, "stays", says("s"), "1.0")
    found = discover(tmp_path / "state")
    over, wrong, asked = threading.Event(), list[object](), list[int]()

    def ask() -> None:
        while not over.is_set():
            try:
                answers = dict(found.ask_all("find_devices"))
                if (
                    answers["stays"] != ["s"]
                    or told(found, "stays") != ["s"]
                    or answers.get("late") not in (None, ["l"])
                ):
                    wrong.append(answers)
            except Exception as error:
                wrong.append(error)
            asked.append(1)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        write(site, "late", says("l"), "1.0")
        assert found.refresh()["added"] == ["late"]
        remove(site, "late")
        assert found.refresh()["removed"] == ["late"]
    over.set()
    for thread in threads:
        thread.join()
    assert (wrong, [fault for fault in found.failures if "late" not in str(fault)]) == ([], [])
    assert asked
