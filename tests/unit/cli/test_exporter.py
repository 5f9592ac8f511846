"""Environments of exporters, made by the real venv, and the programs that run in them."""

from __future__ import annotations

import sys
import threading
import zipfile
from pathlib import Path
from queue import SimpleQueue

import pytest

from anyform.cli import exporter
from anyform.cli.exporter import Environment, ExportFailed
from anyform.contract.errors import Invalid

PATIENCE_S = 60


def ignore(line: str) -> None:
    pass


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_each_line_is_told_and_each_state_of_a_bar_of_progress() -> None:
    told: list[str] = []
    exporter.run(
        python(r"print('one'); print('\r 1%\r\x1b[32m 2%\x1b[0m'); print(); print('end', end='')"), told.append, "-"
    )
    assert told == ["one", "1%", "2%", "end"]


def test_a_program_that_fails_says_how_and_what_it_said_last() -> None:
    with pytest.raises(ExportFailed) as caught:
        exporter.run(
            python("print('line ' * 3); import sys; sys.exit('no such layer')"), ignore, "m could not be exported"
        )
    assert caught.value.message == "m could not be exported (exit code 1)."
    assert caught.value.hint.endswith("no such layer")


def test_a_program_that_cannot_be_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(ExportFailed, match="cannot be run: No such file"):
        exporter.run([str(tmp_path / "python")], ignore, "m could not be exported")


def test_a_program_fetches_nothing_from_a_hub() -> None:
    told: list[str] = []
    exporter.run(python("import os; print(os.environ['HF_HUB_OFFLINE'])"), told.append, "-")
    assert told == ["1"]


def test_whoever_is_interrupted_takes_the_program_with_him(tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    def interrupt(line: str) -> None:
        raise KeyboardInterrupt

    code = f"import time, pathlib; print('began', flush=True); time.sleep(600); pathlib.Path({str(mark)!r}).touch()"
    with pytest.raises(KeyboardInterrupt):
        exporter.run(python(code), interrupt, "-")  # returns when the program has ended
    assert not mark.exists()


def wheel(folder: Path) -> Path:
    """A package `hut` with one module, as an installer wants it."""
    path, info = folder / "hut-1.0-py3-none-any.whl", "hut-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("hut.py", "ROOMS = 1\n")
        file.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: hut\nVersion: 1.0\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")
    return path


def test_an_environment_is_made_once_and_anew_for_other_packages(tmp_path: Path) -> None:
    limits, packages = tmp_path / "limits.txt", (str(wheel(tmp_path)),)
    limits.write_text("hut==1.0\n")
    there = Environment("form", tmp_path / "there")
    assert not there.has(packages, None)
    with there.used(packages, limits, ignore) as python_there:
        assert python_there == there.python
    assert there.has(packages, limits)
    assert not there.has(packages, None)
    assert not there.has((*packages, "more"), limits)
    told: list[str] = []
    exporter.run([str(there.python), "-c", "import sys, hut; print(sys.prefix, hut.ROOMS)"], told.append, "-")
    assert told == [f"{there.folder} 1"]
    limits.write_text("hut==2.0\n")
    assert not there.has(packages, limits)
    failed = pytest.raises(ExportFailed, match="pip could not install what the export needs")
    with failed as caught, there.used(packages, limits, ignore):
        pass
    assert "hut" in caught.value.hint
    assert not there.has(packages, limits)


def test_what_was_left_half_made_is_none(tmp_path: Path) -> None:
    there = Environment("form", tmp_path)
    there.python.parent.mkdir(parents=True)
    there.python.touch()
    assert not there.has((), None)


def test_two_that_need_it_at_once_make_it_once(tmp_path: Path) -> None:
    packages, told = (str(wheel(tmp_path)),), list[str]()
    made, waited = threading.Event(), threading.Event()

    def make_slowly(line: str) -> None:
        made.set()
        assert waited.wait(PATIENCE_S)

    def wait(line: str) -> None:
        told.append(line)
        waited.set()

    def first() -> None:
        with Environment("form", tmp_path / "there").used(packages, None, make_slowly):
            pass

    maker = threading.Thread(target=first)
    maker.start()
    assert made.wait(PATIENCE_S)
    with Environment("form", tmp_path / "there").used(packages, None, wait) as interpreter:
        exporter.run([str(interpreter), "-c", "import hut"], ignore, "-")
    maker.join(PATIENCE_S)
    assert {*told} == {"waiting for another anyform that makes it"}


def test_it_is_not_made_anew_while_it_is_used(tmp_path: Path) -> None:
    there, told, renewed = Environment("form", tmp_path / "there"), SimpleQueue[str](), threading.Event()

    def renew() -> None:
        with Environment("form", tmp_path / "there").used((), None, told.put, anew=True):
            renewed.set()

    renewing = threading.Thread(target=renew)
    with there.used((), None, ignore):
        (there.folder / "mine").touch()
        renewing.start()
        assert told.get(timeout=PATIENCE_S) == "waiting for an export that uses it"
        assert (there.folder / "mine").exists()
    assert renewed.wait(PATIENCE_S)
    renewing.join(PATIENCE_S)
    assert not (there.folder / "mine").exists()


def test_a_form_that_nobody_exports_to_is_refused() -> None:
    with pytest.raises(Invalid, match="'papyrus'") as caught:
        exporter.found("papyrus")
    assert "anyform-papyrus" in caught.value.hint
