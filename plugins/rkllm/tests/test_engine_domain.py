"""Memory domains of the NPU: each model of a user gets its own, whatever ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from anyform.contract.errors import LoadFailed
from anyform_rkllm import domain

pytestmark = pytest.mark.engine

HOLDER = "import sys; from pathlib import Path; from anyform_rkllm import domain\n" + (
    "taken = domain.take(Path(sys.argv[1])); print(taken.number, flush=True); sys.stdin.read()"
)


def test_each_gets_the_first_that_is_free(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    first, second, third = (domain.take(folder) for _ in range(3))
    assert (first.number, second.number, third.number) == (0, 1, 2)
    second.free()
    second.free()
    again = domain.take(folder)
    assert again.number == 1
    for taken in (first, third, again):
        taken.free()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert sorted(os.listdir(folder)) == ["domain-0.lock", "domain-1.lock", "domain-2.lock"]


def test_a_large_model_takes_several_beside_each_other(tmp_path: Path) -> None:
    assert [domain.wanted(size) for size in (0, (4 << 30) - 1, 4 << 30, 8 << 30)] == [1, 1, 2, 3]
    folder = tmp_path / "own"
    first, second, third = (domain.take(folder) for _ in range(3))
    second.free()
    large = domain.take(folder, count=2)
    assert large.number == 3
    with pytest.raises(LoadFailed, match="4 memory domains beside each other"):
        domain.take(folder, most=8, count=4)
    small = domain.take(folder)
    assert (small.number, domain.take(folder, count=3, most=8).number) == (1, 5)
    large.free()
    both = domain.take(folder, count=2)
    assert both.number == 3
    for taken in (first, third, small, both):
        taken.free()


def test_beside_an_encoder_on_the_npu_the_first_is_left_free(tmp_path: Path) -> None:
    assert domain.take(tmp_path / "own", first=1).number == 1


def test_a_process_that_is_killed_gives_its_own_back(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "own")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    with holder.stdout, holder.stdin:
        assert holder.stdout.readline() == b"0\n"
        other = domain.take(tmp_path / "own")
        assert other.number == 1
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    after = domain.take(tmp_path / "own")
    assert after.number == 0
    after.free()
    other.free()


def test_when_all_are_taken_it_says_what_to_do(tmp_path: Path) -> None:
    taken = [domain.take(tmp_path / "own", most=2) for _ in range(2)]
    with pytest.raises(LoadFailed, match=r"a memory domain is needed, and of the NPU's 2 .* base_domain_id=0"):
        domain.take(tmp_path / "own", most=2)
    for one in taken:
        one.free()


def test_a_folder_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    with pytest.raises(LoadFailed, match=r"mode 777; it must be of user \d+, with mode 700"):
        domain.take(open_to_all)


def test_a_link_in_place_of_the_folder_or_of_a_lock_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(LoadFailed, match="cannot be opened as a folder"):
        domain.take(tmp_path / "link")
    (target / "domain-0.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(LoadFailed, match=r"domain-0\.lock cannot be opened"):
        domain.take(target)
    assert not (tmp_path / "victim").exists()


def test_without_a_temporary_folder_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    with pytest.raises(LoadFailed, match=r"No usable temporary directory found\. .* base_domain_id"):
        domain.take()


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(LoadFailed, match="cannot be opened as a folder"):
        domain.take(tmp_path / "file")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir(mode=0o700)
    os.chown(theirs, 12345, 12345)
    with pytest.raises(LoadFailed, match="it is of user 12345"):
        domain.take(theirs)
