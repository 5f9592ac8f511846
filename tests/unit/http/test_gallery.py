"""Pictures to be fetched: names, room, age, what a folder of the user's has to fear, a disk that is full."""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anyform.http import fault, gallery
from anyform.http.config import HttpConfig
from anyform.http.gallery import Gallery, PictureGone, PictureNotKept, origin

PNG = (b"picture", "image/png")
posix = pytest.mark.skipif(sys.platform == "win32", reason="modes and links of POSIX")

Make = Callable[..., Gallery]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A gallery in a folder that is not there yet: *limit* bytes, *keep* seconds."""

    def made(limit: int = 1000, keep: int = 100, folder: Path = tmp_path / "some" / "images") -> Gallery:
        return Gallery(HttpConfig(images_folder=str(folder), images_bytes=limit, images_keep_s=keep))

    return made


def folder_of(tmp_path: Path) -> Path:
    return tmp_path / "some" / "images"


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


@pytest.mark.parametrize(("media_type", "suffix"), gallery.SUFFIXES.items())
def test_a_picture_is_there_as_it_was(make: Make, media_type: str, suffix: str) -> None:
    made = make()
    (name,) = made.keep([(b"\0any bytes", media_type)])
    assert re.fullmatch(rf"[A-Za-z0-9_-]{{32}}\{suffix}", name)
    found = made.get(name)
    assert (found.data, found.media_type) == (b"\0any bytes", media_type)
    assert 90 < found.left_s <= 100


def test_names_say_nothing_and_differ(make: Make) -> None:
    made = make()
    names = made.keep([PNG] * 50)
    assert len(set(names)) == 50
    assert len({name[:2] for name in names}) > 10


@posix
def test_only_the_user_may_read_them(make: Make, tmp_path: Path) -> None:
    (name,) = make().keep([PNG])
    folder = folder_of(tmp_path)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "name",
    [
        "",
        "x",
        "a" * 32 + ".png",
        "../" + "a" * 32 + ".png",
        "a" * 32 + ".gif",
        "..",
        "a" * 29 + "/..png",
        "a" * 32 + ".png\n",
    ],
)
def test_what_is_no_picture_is_not_found(make: Make, tmp_path: Path, name: str) -> None:
    made = make()
    made.keep([PNG])
    (tmp_path / "some" / ("a" * 32 + ".png")).write_bytes(b"outside")
    with pytest.raises(PictureGone) as caught:
        made.get(name)
    assert fault.status(caught.value) == 404
    assert "100 seconds" in str(caught.value)


def test_before_anything_was_kept_there_is_nothing(make: Make, tmp_path: Path) -> None:
    made = make()
    made.sweep()
    with pytest.raises(PictureGone):
        made.get("a" * 32 + ".png")
    assert not folder_of(tmp_path).exists()


@posix
def test_a_link_is_not_followed(make: Make, tmp_path: Path) -> None:
    made = make()
    made.keep([PNG])
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    (folder_of(tmp_path) / ("a" * 32 + ".png")).symlink_to(secret)
    with pytest.raises(PictureGone):
        made.get("a" * 32 + ".png")


def test_what_is_too_old_goes_when_it_is_asked_for(make: Make, tmp_path: Path) -> None:
    made = make()
    old, young = made.keep([PNG, PNG])
    age(folder_of(tmp_path) / old, 101)
    with pytest.raises(PictureGone):
        made.get(old)
    assert os.listdir(folder_of(tmp_path)) == [young]
    assert made.get(young).data == b"picture"


@pytest.mark.parametrize("when", ["write", "start", "close"])
def test_what_is_too_old_goes(make: Make, tmp_path: Path, when: str) -> None:
    (old,) = make().keep([PNG])
    age(folder_of(tmp_path) / old, 101)
    anew = make()
    {"write": lambda: anew.keep([PNG]), "start": anew.sweep, "close": anew.close}[when]()
    assert old not in os.listdir(folder_of(tmp_path))


def test_a_server_that_starts_anew_goes_on(make: Make, tmp_path: Path) -> None:
    (name,) = make().keep([PNG])
    age(folder_of(tmp_path) / name, 40)
    anew = make()
    anew.sweep()
    found = anew.get(name)
    assert found.data == b"picture"
    assert 50 < found.left_s <= 60
    anew.close()
    assert make().get(name).data == b"picture"


def test_the_oldest_make_room(make: Make, tmp_path: Path) -> None:
    made = make(limit=100)
    names = [made.keep([(bytes(30), "image/png")])[0] for _ in range(3)]
    for seconds, name in zip((10, 30, 20), names, strict=True):
        age(folder_of(tmp_path) / name, seconds)
    (fourth,) = made.keep([(bytes(30), "image/png")])
    assert set(os.listdir(folder_of(tmp_path))) == {names[0], names[2], fourth}
    fifth = made.keep([(bytes(25), "image/png"), (bytes(25), "image/webp")])
    assert set(os.listdir(folder_of(tmp_path))) == {fourth, *fifth}


def test_more_than_all_room_is_refused_and_costs_nobody_anything(make: Make, tmp_path: Path) -> None:
    made = make(limit=100)
    (name,) = made.keep([(bytes(30), "image/png")])
    with pytest.raises(PictureNotKept, match="101 bytes and the server keeps 100") as caught:
        made.keep([(bytes(51), "image/png"), (bytes(50), "image/png")])
    assert "b64_json" in str(caught.value)
    assert os.listdir(folder_of(tmp_path)) == [name]
    assert fault.headers(caught.value) == {"x-should-retry": "false"}


def test_other_files_of_a_folder_are_never_touched(make: Make, tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    folder.mkdir(parents=True)
    for name in ("holiday.png", "notes.txt", "a" * 31 + ".png", ".hidden.part"):
        (folder / name).write_bytes(bytes(500))
        age(folder / name, 10_000)
    made = make(limit=10)
    (kept,) = made.keep([PNG])
    made.sweep()
    assert set(os.listdir(folder)) == {"holiday.png", "notes.txt", "a" * 31 + ".png", ".hidden.part", kept}
    with pytest.raises(PictureGone):
        made.get("holiday.png")


def test_what_a_dead_server_left_unfinished_goes_too(make: Make, tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    folder.mkdir(parents=True)
    left = folder / ("a" * 32 + ".png" + gallery.UNFINISHED)
    left.write_bytes(b"half")
    made = make()
    made.sweep()
    assert left.exists()  # another server may be writing it
    age(left, 101)
    made.sweep()
    assert not left.exists()


def test_what_cannot_be_removed_is_in_nobodys_way(make: Make, tmp_path: Path) -> None:
    made = make(limit=100_000)
    (old,) = made.keep([PNG])
    stuck = folder_of(tmp_path) / f"{'x' * 32}.png"
    stuck.mkdir()  # as what Windows does not let go while it is read
    age(stuck, 500)
    age(folder_of(tmp_path) / old, 200)
    (new,) = made.keep([PNG])
    assert made.get(new).data == PNG[0]
    assert {path.name for path in folder_of(tmp_path).iterdir()} == {new, stuck.name}


@posix
def test_what_cannot_be_removed_and_takes_all_room_is_said(make: Make, tmp_path: Path) -> None:
    made = make(limit=len(PNG[0]))
    made.keep([PNG])
    stuck = folder_of(tmp_path) / f"{'x' * 32}.png"
    stuck.mkdir()
    (stuck / "any").touch()
    with pytest.raises(PictureNotKept, match="writing it failed"):
        made.keep([PNG])


def test_what_another_server_is_writing_makes_no_room(make: Make, tmp_path: Path) -> None:
    made = make(limit=30)
    (old,) = made.keep([PNG])
    written = folder_of(tmp_path) / f"{'a' * 32}.png{gallery.UNFINISHED}"
    written.write_bytes(bytes(20))
    age(written, 1)
    (new,) = made.keep([PNG])
    assert set(os.listdir(folder_of(tmp_path))) == {written.name, new}, old


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_said_and_leaves_nothing(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make()
    plain = os.open

    def full(path: Any, flags: int, mode: int = 0o777) -> int:
        os.close(plain(path, flags, mode))
        return plain("/dev/full", os.O_WRONLY)

    monkeypatch.setattr(gallery.os, "open", full)
    with pytest.raises(PictureNotKept, match=os.strerror(errno.ENOSPC)) as caught:
        made.keep([PNG])
    assert fault.status(caught.value) == 503
    assert caught.value.area == "storage"
    assert os.listdir(folder_of(tmp_path)) == []


def test_a_folder_that_cannot_be_is_said(make: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(PictureNotKept, match="images_folder"):
        make(folder=tmp_path / "file" / "images").keep([PNG])


def test_without_a_folder_there_is_one_for_as_long_as_the_server_runs() -> None:
    made = Gallery(HttpConfig())
    made.sweep()
    assert made._folder is None
    (name,) = made.keep([PNG])
    folder = made._folder
    assert folder is not None
    assert made.get(name).data == b"picture"
    made.close()
    assert not folder.exists()
    made.close()


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("localhost:11540", "http://localhost:11540"),
        ("box.local", "http://box.local"),
        ("[::1]:8080", "http://[::1]:8080"),
        ("", "http://127.0.0.1:8"),
        ("a/b", "http://127.0.0.1:8"),
        ("a@b", "http://127.0.0.1:8"),
        ("a b", "http://127.0.0.1:8"),
        ('x"><script>', "http://127.0.0.1:8"),
    ],
)
def test_where_the_client_reaches_the_server(host: str, said: str) -> None:
    headers = [(b"accept", b"*/*"), *([(b"host", host.encode())] if host else [])]
    assert origin({"scheme": "http", "headers": headers, "server": ("127.0.0.1", 8)}) == said


def test_its_scheme_and_its_address_are_kept() -> None:
    assert origin({"scheme": "https", "headers": [(b"host", b"a")]}) == "https://a"
    assert origin({"scheme": "http", "headers": [], "server": ("::1", 8)}) == "http://[::1]:8"
    assert origin({"scheme": "http", "headers": [], "server": None}) == "http://localhost"
