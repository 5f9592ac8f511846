"""Libraries for tests: compiled once by whoever comes first, anew when something changes."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from anyform.testing import compiling

FLAGS = ("-shared", "-fPIC")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    if not compiling.compiler():
        pytest.skip("there is no C++ compiler")
    path = tmp_path / "source" / "one.cpp"
    path.parent.mkdir()
    path.write_text('#include "one.h"\nextern "C" int one() { return ONE + MORE; }\n')
    path.with_name("one.h").write_text("#define ONE 1\n")
    return path


def one(path: Path) -> int:
    return int(ctypes.CDLL(str(path)).one())


def test_it_is_made_once_and_anew_when_its_parts_change(source: Path, tmp_path: Path) -> None:
    def made(more: int = 0) -> Path:
        return compiling.shared_library(source, "libone.so", {"MORE": more}, flags=FLAGS, cache=tmp_path / "cache")

    first = made()
    before = first.stat()
    assert (one(first), first.name) == (1, "libone.so")
    assert (made(), made().stat()) == (first, before)
    assert one(made(more=4)) == 5
    source.with_name("one.h").write_text("#define ONE 2\n")
    assert one(made()) == 2
    assert first.stat() == before  # who has it open keeps it


def test_what_the_compiler_says_is_told(source: Path, tmp_path: Path) -> None:
    source.write_text("no program")
    with pytest.raises(RuntimeError, match=r"(?s)failed \(1\):.*one\.cpp:1"):
        compiling.shared_library(source, "libone.so", flags=FLAGS, cache=tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").glob("*/*")] == ["lock"]


def test_many_processes_make_it_once(source: Path, tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom anyform.testing import compiling\n"
        "made = compiling.shared_library(Path(sys.argv[1]), 'libone.so', {'MORE': 0}, flags=('-shared', '-fPIC'), "
        "cache=Path(sys.argv[2]))\nprint(made.stat().st_ino)\n"
    )
    command = [sys.executable, "-c", script, str(source), str(tmp_path / "cache")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert len({process.communicate(timeout=60)[0] for process in running}) == 1
    assert all(process.returncode == 0 for process in running)


def test_nothing_is_loaded_from_where_others_write(source: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o777)
    with pytest.raises(PermissionError, match="can be written by others"):
        compiling.shared_library(source, "libone.so", flags=FLAGS, cache=tmp_path / "cache")


def test_a_machine_without_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert compiling.compiler() == ""
    with pytest.raises(LookupError, match=r"g\+\+"):
        compiling.shared_library(tmp_path / "one.cpp", "libone.so", cache=tmp_path / "cache")
