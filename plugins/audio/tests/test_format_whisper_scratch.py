"""The folder of a conversion: gone with its load, and after a process that was killed with the next one."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from anyform_audio.hearing.scratch import LOCK, PREFIX, folder

KILLED = """
import os
from anyform_audio.hearing.scratch import folder
with folder() as made:
    (made / "model.bin").write_bytes(bytes(1000))
    print(made, flush=True)
    os._exit(0)  # as a worker ends whose parent has gone
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def test_it_is_private_and_goes(place: Path) -> None:
    with folder() as made:
        assert made.parent == place
        assert sys.platform == "win32" or made.stat().st_mode & 0o777 == 0o700
        (made / "model.bin").write_bytes(b"weights")
    assert list(place.iterdir()) == []


def test_it_goes_after_an_error(place: Path) -> None:
    with pytest.raises(KeyError), folder():
        raise KeyError
    assert list(place.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="has no such locks")
def test_what_a_killed_process_left_goes_and_what_is_in_use_stays(place: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, text=True, check=True)
    left = Path(done.stdout.strip())
    assert left.parent == place
    assert (left / "model.bin").exists()
    with folder() as first:
        assert not left.exists()
        with folder() as second:
            assert sorted(place.iterdir()) == sorted([first, second])


@pytest.mark.skipif(sys.platform == "win32", reason="makes links")
def test_what_is_not_ours_stays(place: Path) -> None:
    """Folders that are not there yet, other programs', and links, which lead anywhere."""
    theirs = place / "elsewhere"
    theirs.mkdir()
    (theirs / LOCK).write_bytes(b"")
    (place / f"{PREFIX}link").symlink_to(theirs)
    (place / f"{PREFIX}begun").mkdir()
    with folder():
        pass
    assert sorted(path.name for path in place.iterdir()) == [f"{PREFIX}begun", f"{PREFIX}link", "elsewhere"]
    assert (theirs / LOCK).exists()
