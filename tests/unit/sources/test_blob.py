"""Uploaded files: verified before they count, bounded by the disk, swept when nothing uses them."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from anyform.contract.errors import Invalid
from anyform.sources import blob
from anyform.sources.blob import Blobs
from anyform.sources.hubfault import DiskFull

DATA = b"some bytes " * 1000
DIGEST = f"sha256:{hashlib.sha256(DATA).hexdigest()}"
OTHER = f"sha256:{hashlib.sha256(b'other').hexdigest()}"


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs")


def names(blobs: Blobs) -> list[str]:
    return sorted(path.name for path in blobs.folder.iterdir())


def test_a_blob_is_here_once_it_has_come_whole(blobs: Blobs) -> None:
    assert not blobs.has(DIGEST)
    path = blobs.store(DIGEST, [DATA[:100], b"", DATA[100:]])
    assert path.read_bytes() == DATA
    assert blobs.has(DIGEST)
    assert blobs.has(DIGEST.replace(":", "-"))
    assert names(blobs) == [DIGEST.replace(":", "-")]


def test_other_bytes_than_the_digests_are_refused_and_gone(blobs: Blobs) -> None:
    with pytest.raises(Invalid, match="digest mismatch"):
        blobs.store(OTHER, [DATA])
    assert not blobs.has(OTHER)
    assert names(blobs) == []


def test_an_upload_that_is_broken_off_leaves_nothing(blobs: Blobs) -> None:
    def broken() -> Iterator[bytes]:
        yield DATA[:10]
        raise ConnectionError

    with pytest.raises(ConnectionError):
        blobs.store(DIGEST, broken())
    assert names(blobs) == []


def test_two_uploads_of_one_blob_do_not_meet(blobs: Blobs) -> None:
    with blobs.begin(DIGEST) as one, blobs.begin(DIGEST) as two:
        for draft in (one, two):
            draft.write(DATA[:5])
        for draft in (one, two):
            draft.write(DATA[5:])
            draft.commit()
    assert blobs.path(DIGEST).read_bytes() == DATA
    assert len(names(blobs)) == 1


WRONG = ["", "sha256:", "sha256:0", "md5:" + "0" * 64, "sha256:" + "0" * 65, "sha256:" + "A" * 64, "../" + DIGEST,
         DIGEST + "/x", DIGEST + "\n"]  # fmt: skip


@pytest.mark.parametrize("digest", WRONG)
def test_what_is_no_digest_is_refused(digest: str, blobs: Blobs) -> None:
    for call in (blobs.has, blobs.begin, blobs.path):
        with pytest.raises(Invalid, match="is no digest"):
            call(digest)
    assert not blobs.folder.exists()


def test_the_disk_is_never_filled(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    free = blob.RESERVE + 100
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    with pytest.raises(DiskFull, match=r"an upload needs .* more"):
        blobs.begin(DIGEST, size_bytes=101)
    with blobs.begin(DIGEST) as draft:
        draft.write(b"x" * 100)
        free = blob.RESERVE
        with pytest.raises(DiskFull):  # looked at again from time to time
            draft.write(b"x" * (blob.STEP + 1))
    assert names(blobs) == []


@pytest.mark.parametrize(("number", "code", "hint"), [
    (errno.ENOSPC, "disk_full", "Make room"),
    (errno.ENOTDIR, "unwritable", "permissions"),
    (errno.EACCES, "unwritable", "permissions"),
])  # fmt: skip
def test_a_folder_that_takes_nothing_is_told_as_what_it_is(number: int, code: str, hint: str) -> None:
    fault = blob.unwritable(OSError(number, os.strerror(number)), Path("secret") / "name.json")
    assert (fault.code, "secret" in str(fault)) == (code, False)
    assert hint in fault.hint
    assert ("Make room" in fault.hint) == (code == "disk_full")


def test_a_folder_below_a_file_is_no_full_disk(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(blob.Unwritable, match="permissions"):
        Blobs(tmp_path / "file" / "blobs").begin(DIGEST)


def test_what_nothing_uses_goes_after_a_day(blobs: Blobs, tmp_path: Path) -> None:
    used, unused = blobs.store(DIGEST, [DATA]), blobs.store(OTHER, [b"other"])
    os.link(used, tmp_path / "model.gguf")
    blobs.sweep()
    assert len(names(blobs)) == 2
    old = time.time() - blob.UNUSED_S - 60
    part = blobs.folder / f"{used.name}.1{blob.PART}"
    part.write_bytes(b"begun by one who was killed")
    for path in (used, unused, part):
        os.utime(path, (old, old))
    with blobs.begin(DIGEST):
        assert unused.name not in names(blobs)
        assert part.name not in names(blobs)
    assert names(blobs) == [used.name]


def test_who_asks_whether_it_is_here_has_a_day_to_use_it(blobs: Blobs) -> None:
    path = blobs.store(DIGEST, [DATA])
    old = time.time() - blob.UNUSED_S - 60
    os.utime(path, (old, old))
    assert blobs.has(DIGEST)
    blobs.sweep()
    assert blobs.has(DIGEST)


def test_dropping_leaves_what_a_model_uses(blobs: Blobs, tmp_path: Path) -> None:
    os.link(blobs.store(DIGEST, [DATA]), tmp_path / "model.gguf")
    blobs.store(OTHER, [b"other"])
    for digest in (DIGEST, OTHER):
        blobs.drop(digest)
    assert names(blobs) == [DIGEST.replace(":", "-")]
