"""Files that commands make: whole or not at all, and never over others unasked."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from anyform.cli.writing import Occupied, whole
from anyform.contract.errors import Invalid


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    with whole(path, force=False) as file:
        file.write(b"sound")
        assert not path.exists()
    assert path.read_bytes() == b"sound"
    assert os.listdir(tmp_path) == ["a.mp3"]


@pytest.mark.parametrize("trouble", [KeyboardInterrupt, OSError, ValueError])
def test_of_a_file_that_was_not_ended_nothing_stays(tmp_path: Path, trouble: type[BaseException]) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(b"old")

    def write() -> None:
        with whole(path, force=True) as file:
            file.write(b"new")
            raise trouble

    with pytest.raises(trouble):
        write()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.mp3"]


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder in which nobody can write")
def test_a_file_that_cannot_be_made_is_told_by_its_own_name() -> None:
    with pytest.raises(Invalid, match=r"^/proc/x\.wav cannot be written: "), whole(Path("/proc/x.wav"), force=False):
        pass


def test_what_is_there_stays_unless_it_is_forced(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(b"old")
    with pytest.raises(Occupied, match="is there already"), whole(path, force=False):
        pass
    with whole(path, force=True) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"


@pytest.mark.skipif(sys.platform == "win32", reason="has no such modes")
def test_what_was_private_stays_so(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(b"old")
    path.chmod(0o600)
    with whole(path, force=True) as file:
        assert [other.stat().st_mode & 0o777 for other in tmp_path.iterdir()] == [0o600] * 2
        file.write(b"new")
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_came_meanwhile_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"

    def write() -> None:
        with whole(path, force=False) as file:
            file.write(b"mine")
            path.write_bytes(b"another's")

    with pytest.raises(Occupied):
        write()
    assert path.read_bytes() == b"another's"
    assert os.listdir(tmp_path) == ["a.mp3"]


def test_where_nothing_can_be_written_is_said(tmp_path: Path) -> None:
    for path, told in ((tmp_path, "is a folder"), (tmp_path / "none" / "a.mp3", "there is no folder")):
        with pytest.raises(Invalid, match=told), whole(path, force=True):
            pass
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="makes links")
def test_a_link_stays_one_and_a_device_is_written_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "a.mp3").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "far" / "a.mp3")
    with whole(tmp_path / "link", force=True) as file:
        file.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "far" / "a.mp3").read_bytes() == b"new"
    with whole(Path(os.devnull), force=False) as file:
        file.write(b"gone")
    assert Path(os.devnull).is_char_device()
