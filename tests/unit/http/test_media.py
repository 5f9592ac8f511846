"""Pictures of a request: sent with it in one of several forms, or looked up where the settings allow it."""

from __future__ import annotations

import asyncio
import os
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.errors import Fault, TooLarge
from anyform.contract.jobs import Picture, Sound
from anyform.http.bridge import Threads
from anyform.http.config import HttpConfig
from anyform.http.fetch import EACH, Fetcher
from anyform.http.fields import Missing, Upload, Written, WrongType, WrongValue
from anyform.http.media import PICTURE, PICTURES, SOUND, File, Kind, Media, Wanted
from anyform.http.web import Take, Web

LIMIT = 1000
DATA = b"\x89PNG...."
TEXT = b64encode(DATA).decode()
URL = f"data:image/png;base64,{TEXT}"
PNG = Picture(data=DATA, media_type="image/png")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (URL, PNG),
        (TEXT, Picture(data=DATA)),
        (TEXT.rstrip("="), Picture(data=DATA)),
        (f" {TEXT}\n", Picture(data=DATA)),
        ({"url": URL}, PNG),
        ({"image": TEXT}, Picture(data=DATA)),
        ({"b64_json": TEXT}, Picture(data=DATA)),
        ({"image_url": URL}, PNG),
        ({"type": "image_url", "image_url": {"url": URL, "detail": "low"}}, PNG),
        (Upload(data=DATA, filename="a.png", media_type="image/png"), PNG),
        (Upload(data=DATA, filename="a.png", media_type="text/html"), Picture(data=DATA)),
        ("\r\n".join(b64encode(bytes(1000)).decode()), Picture(data=bytes(1000))),
        ("/9j/" + "A" * 400, Picture(data=b"\xff\xd8\xff" + bytes(300))),
    ],
)
def test_pictures_come_in_several_forms(value: object, expected: Picture) -> None:
    media = Media(LIMIT)
    assert media.picture(value, "image") == expected
    assert media.wanted == {}


@pytest.mark.parametrize(
    ("value", "kind", "param", "words"),
    [
        (None, WrongType, "image", "expected a picture"),
        (3, WrongType, "image", "expected a picture"),
        ([TEXT], WrongType, "image", "expected a picture"),
        ({}, Missing, "image.image", "Missing"),
        ({"image": 3}, WrongType, "image.image", "expected a picture"),
        ({"image_url": {"detail": "low"}}, Missing, "image.image_url.image", "Missing"),
        ("", WrongValue, "image", "it is empty"),
        ("@@@@", WrongValue, "image", "it is not base64"),
        ("A", WrongValue, "image", "it is not base64"),
        ("äääää", WrongValue, "image", "it is not base64"),
        (Written("fox.png"), WrongValue, "image", "With curl, write -F image=@NAME"),
        ("data:image/png;base64,", WrongValue, "image", "it is empty"),
        ("data:image/png,x", WrongValue, "image", "the data: URL is not base64"),
        ("data:", WrongValue, "image", "the data: URL is not base64"),
        ("A" * 1400, TooLarge, "image", "more than 1000 bytes"),
        (b64encode(bytes(1001)).decode(), TooLarge, "image", "more than 1000 bytes"),
        (Upload(data=b""), WrongValue, "image", "it is empty"),
        (Upload(data=b"x" * 1001), TooLarge, "image", "more than 1000 bytes"),
        ("http://127.0.0.1/a.png", WrongValue, "image", "nothing is fetched"),
        ("https://example.com/a.png", WrongValue, "image", "nothing is fetched"),
        ("HTTP://example.com/a.png", WrongValue, "image", "nothing is fetched"),
        ("file:///etc/passwd", WrongValue, "image", "nothing is fetched"),
        ("/etc/passwd", WrongValue, "image", "nothing is fetched"),
        ("../../etc/passwd", WrongValue, "image", "nothing is fetched"),
        ("~/picture", WrongValue, "image", "nothing is fetched"),
        ("\\\\host\\share", WrongValue, "image", "nothing is fetched"),
        ("ftp://example.com/a", WrongValue, "image", "nothing is fetched"),
        ("blob:abc", WrongValue, "image", "nothing is fetched"),
        ({"url": "http://[::1]/"}, WrongValue, "image.url", "nothing is fetched"),
    ],
)
def test_what_is_no_picture_is_refused_under_its_name(value: object, kind: type[Fault], param: str, words: str) -> None:
    with pytest.raises(kind, match=words) as caught:
        Media(LIMIT).picture(value, "image")
    assert caught.value.details["param"] == param


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (f"data:audio/wav;base64,{TEXT}", Sound(data=DATA, media_type="audio/wav")),
        (Written(f"data:audio/wav;base64,{TEXT}"), Sound(data=DATA, media_type="audio/wav")),
        (TEXT, Sound(data=DATA)),
        ("//uQ" + "A" * 400, Sound(data=b"\xff\xfb\x90" + bytes(300))),
        (Upload(data=DATA, filename="a.mp3", media_type="audio/mpeg"), Sound(data=DATA, media_type="audio/mpeg")),
    ],
)
def test_sounds_come_in_several_forms(value: object, expected: Sound) -> None:
    media = Media(LIMIT)
    assert media.sound(value, "file") == expected
    assert media.wanted == {}


@pytest.mark.parametrize(
    ("value", "kind", "words"),
    [
        (None, WrongType, "expected base64 of a sound file"),
        ({"data": TEXT}, WrongType, "expected base64 of a sound file"),
        (Written("a.wav"), WrongType, "-F file=@NAME"),
        (Written(TEXT), WrongType, "-F file=@NAME"),
        (Written("/etc/passwd"), WrongType, "-F file=@NAME"),
        (Upload(data=b""), WrongValue, "it is empty"),
        (Upload(data=b"x" * 1001), TooLarge, "more than 1000 bytes"),
        (b64encode(bytes(1001)).decode(), TooLarge, "more than 1000 bytes"),
        ("data:audio/wav,raw", WrongValue, r"Write data:audio/mpeg;base64"),
        ("http://127.0.0.1/a.wav", WrongValue, "nothing is fetched"),
        (Written("http://127.0.0.1/a.wav"), WrongValue, "nothing is fetched"),
        (Written("file:///etc/passwd"), WrongValue, "nothing is fetched"),
        ("https://example.com/a.mp3", WrongValue, "nothing is fetched"),
        ("file:///etc/passwd", WrongValue, "nothing is fetched"),
        ("/etc/passwd", WrongValue, "nothing is fetched"),
        ("../../etc/passwd", WrongValue, "nothing is fetched"),
        ("concat:/etc/passwd", WrongValue, "nothing is fetched"),
    ],
)
def test_what_is_no_sound_is_refused_under_its_name(value: object, kind: type[Fault], words: str) -> None:
    with pytest.raises(kind, match=words) as caught:
        Media(LIMIT).sound(value, "file")
    assert caught.value.details["param"] == "file"


@pytest.mark.parametrize("written", [str, Written])
def test_a_sound_that_lies_elsewhere_is_noted_then_brought_then_found(written: type[str], folder: Path) -> None:
    web = Remembered({"http://a.example/1": b"one"})
    fetch = fetcher(web, media_folders=(folder,))
    for place, data in (("http://a.example/1", b"one"), (f"{folder}/a.png", DATA), (f"file://{folder}/a.png", DATA)):
        media = Media(LIMIT, fetch)
        assert media.sound(written(place), "file") == Sound(data=b"")
        assert media.wanted == {place: Wanted("file", SOUND)}
        found = Media(LIMIT, fetch, asyncio.run(fetch.bring(media.wanted)))
        assert found.sound(written(place), "file").data == data
        assert found.wanted == {}


@pytest.mark.parametrize("name", ["/etc/passwd", "ROOT/allowed/out", "ROOT/allowed/../secret", "ROOT/allowed/absent"])
def test_a_sound_that_is_in_no_allowed_folder(folder: Path, name: str) -> None:
    fetch = fetcher(media_folders=(folder,))
    media = Media(LIMIT, fetch)

    def bring() -> None:
        media.sound(name.replace("ROOT", str(folder.parent)), "file")
        asyncio.run(fetch.bring(media.wanted))

    with pytest.raises(WrongValue, match=r"there is no sound .* in the allowed folders") as caught:
        bring()
    assert caught.value.details["param"] == "file"


def test_too_many_pictures() -> None:
    media = Media(LIMIT)
    for at in range(PICTURES):
        media.picture(TEXT, f"images[{at}]")
    with pytest.raises(WrongValue, match=f"more than {PICTURES} pictures") as caught:
        media.picture(TEXT, "images[x]")
    assert caught.value.details["param"] == "images[x]"


class Remembered(Web):
    """A web that a test fills."""

    def __init__(self, found: Mapping[str, bytes], hosts: tuple[str, ...] = ()) -> None:
        super().__init__(hosts)
        self.found, self.asked = found, list[str]()

    async def get(self, url: str, param: str, limit: int, take: Take, kind: Kind = PICTURE) -> File:
        self.asked.append(url)
        take(len(self.found[url]))
        return File(self.found[url])


def fetcher(web: Web | None = None, **config: Any) -> Fetcher:
    return Fetcher(HttpConfig(media_bytes=LIMIT, **config), Threads(), web)


def test_what_lies_elsewhere_is_noted_then_brought_then_found() -> None:
    web = Remembered({"http://a.example/1": b"one", "https://a.example/2": b"two"})
    fetch = fetcher(web)
    media = Media(LIMIT, fetch)
    for at, url in enumerate([*web.found, URL, *web.found]):
        media.picture(url, f"images[{at}]")
    assert web.asked == []
    assert media.wanted == {
        "http://a.example/1": Wanted("images[0]", PICTURE),
        "https://a.example/2": Wanted("images[1]", PICTURE),
    }
    found = Media(LIMIT, fetch, asyncio.run(fetch.bring(media.wanted)))
    assert [found.picture(url, "image").data for url in web.found] == [b"one", b"two"]
    assert (found.wanted, sorted(web.asked)) == ({}, sorted(web.found))


def test_whom_a_picture_may_be_fetched_from_is_known_before() -> None:
    web = Remembered({}, ("a.example",))
    with pytest.raises(WrongValue, match="fetch_hosts"):
        Media(LIMIT, fetcher(web)).picture("http://b.example/", "image")
    with pytest.raises(WrongValue, match=r"have fetch set in \[server\]"):
        Media(LIMIT, fetcher()).picture("http://a.example/", "image")
    Media(LIMIT, fetcher(fetch=True)).picture("http://a.example/", "image")


def test_all_that_one_request_names_is_bounded() -> None:
    web = Remembered({f"http://a.example/{at}": b"x" * 400 for at in range(EACH + 1)})
    fetch = fetcher(web, body_bytes=1000)
    urls = dict.fromkeys(web.found, Wanted("input"))
    assert len(asyncio.run(fetch.bring(dict(list(urls.items())[:2])))) == 2
    with pytest.raises(TooLarge, match="more than 1000 bytes in all"):
        asyncio.run(fetch.bring(dict(list(urls.items())[:3])))
    for kind in (PICTURE, SOUND):
        with pytest.raises(WrongValue, match=f"more than {EACH} {kind.noun}s"):
            asyncio.run(fetch.bring(dict.fromkeys(urls, Wanted("input", kind))))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An allowed folder with pictures and links in it, beside a secret."""
    allowed = tmp_path / "allowed"
    (allowed / "deep").mkdir(parents=True)
    (allowed / "a.png").write_bytes(DATA)
    (allowed / "deep" / "ä b.png").write_bytes(DATA)
    (allowed / "large").write_bytes(b"x" * (LIMIT + 1))
    (allowed / "empty").write_bytes(b"")
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "allowed2").mkdir()
    (tmp_path / "allowed2" / "b.png").write_bytes(b"secret")
    (allowed / "inner").symlink_to(allowed / "a.png")
    (allowed / "out").symlink_to(tmp_path / "secret")
    (allowed / "up").symlink_to(tmp_path)
    (allowed / "circle").symlink_to(allowed / "circle")
    return allowed


def brought(fetch: Fetcher, reference: str, **how: Any) -> bytes:
    media = Media(LIMIT, fetch)
    media.written(reference, "image", **how)
    (found,) = asyncio.run(fetch.bring(media.wanted)).values()
    return found.data


def test_files_of_allowed_folders(folder: Path) -> None:
    fetch = fetcher(media_folders=(folder,))
    deep = (folder / "deep" / "ä b.png").as_uri()
    for name in (str(folder / "a.png"), (folder / "a.png").as_uri(), f"file://localhost{folder}/a.png", deep):
        assert brought(fetch, name) == DATA
        assert brought(fetch, name, bare=False) == DATA
    assert brought(fetch, str(folder / "inner")) == DATA
    assert brought(fetch, f"FILE:{folder}/a.png") == DATA


def test_an_allowed_folder_that_is_a_link_itself(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    fetch = fetcher(media_folders=(tmp_path / "link",))
    assert brought(fetch, f"{tmp_path}/link/a.png") == DATA
    with pytest.raises(WrongValue, match="no picture"):
        brought(fetch, (folder / "a.png").as_uri())


@pytest.mark.parametrize(
    "name",
    [
        "file:///etc/passwd",
        "/etc/passwd",
        "file://ROOT/secret",
        "file://ROOT/allowed2/b.png",
        "file://ROOT/allowed/../secret",
        "file://ROOT/allowed/%2e%2e/secret",
        "ROOT/allowed/../secret",
        "ROOT/allowed/deep/../a.png",
        "ROOT/allowed/out",
        "ROOT/allowed/up/secret",
        "ROOT/allowed/up/allowed2/b.png",
        "ROOT/allowed/circle",
        "ROOT/allowed/absent",
        "ROOT/allowed/deep",
        "ROOT/allowed/a.png/x",
        "ROOT/allowed",
        f"ROOT/allowed/{'x' * 400}",
        "file:allowed/a.png",
        "file:///",
        "file:",
    ],
)
def test_files_that_are_in_no_allowed_folder_or_not_there_at_all_look_alike(folder: Path, name: str) -> None:
    root = str(folder.parent)
    with pytest.raises(WrongValue, match=r"there is no picture .* in the allowed folders") as caught:
        brought(fetcher(media_folders=(folder,)), name.replace("ROOT", root))
    assert caught.value.details["param"] == "image"


def test_other_files_that_are_no_pictures(folder: Path) -> None:
    fetch = fetcher(media_folders=(folder,))
    with pytest.raises(WrongValue, match="names no file of this machine"):
        brought(fetch, "file://host/share/a.png")
    with pytest.raises(WrongValue, match="names no file of this machine"):
        brought(fetch, f"file://{folder}/a%00.png")
    with pytest.raises(TooLarge):
        brought(fetch, str(folder / "large"))
    with pytest.raises(WrongValue, match="the file is empty"):
        brought(fetch, str(folder / "empty"))
    with pytest.raises(WrongValue, match="is not a data: URL"):
        brought(fetch, TEXT, bare=False)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(WrongValue, match="no picture"):
        brought(fetcher(media_folders=(folder,)), str(folder / "pipe"))
