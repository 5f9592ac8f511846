"""What a request brings beside its text: pictures and sounds as data: URLs, base64 or files of a form.

What lies elsewhere is noted in `wanted` and stays empty: whoever may fetch it reads the request again with it.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn, Protocol

from anyform.contract.errors import TooLarge
from anyform.contract.jobs import Picture, Sound
from anyform.http.fields import Fields, Upload, Written, mistyped, wrong

PICTURES = 256
"""Pictures that one request may bring."""
SOUNDS = {"wav": "audio/wav", "mp3": "audio/mpeg"}
PATH = 160
"""Letters below which what begins as a path is one: base64 of a JPEG begins with a slash too, but is longer."""
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_URL_SAFE = str.maketrans("-_", "+/")
_KEYS = ("image", "image_url", "url", "b64_json")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What may be asked for."""

    noun: str
    types: tuple[str, ...]
    """What its media types begin with."""
    example: str
    """How a data: URL of one begins."""


PICTURE = Kind(noun="picture", types=("image/",), example="data:image/png;base64,...")
SOUND = Kind(noun="sound", types=("audio/", "video/", "application/ogg"), example="data:audio/mpeg;base64,...")


class Wanted(NamedTuple):
    """What is to be fetched, and for which field of the request."""

    param: str
    kind: Kind = PICTURE


class File(NamedTuple):
    """What came, whatever it holds."""

    data: bytes
    media_type: str = ""


class Judge(Protocol):
    """Who knows what may be fetched."""

    def judge(self, reference: str, wanted: Wanted) -> None:
        """Refuse a URL or a path that may not be fetched. Raises Invalid; touches neither network nor disk."""

    def is_path(self, text: str) -> bool:
        """Whether *text*, which is no URL, is the path of a file that may be read."""


class Nothing:
    """Fetches nothing."""

    def judge(self, reference: str, wanted: Wanted) -> NoReturn:
        refuse(reference, wanted.param)

    def is_path(self, text: str) -> bool:
        return False


def refuse(reference: str, param: str, hint: str = "") -> NoReturn:
    """Say that *reference* is not looked up."""
    told = "Send it as a data: URL." if not hint else f"Send it as a data: URL, or {hint}."
    wrong(param, f"'{reference[:60]}' is not a data: URL and nothing is fetched", told)


class Media:
    """The pictures and sounds of one request."""

    def __init__(self, limit_bytes: int, judge: Judge | None = None, found: Mapping[str, File] | None = None) -> None:
        """*limit_bytes*: of one, decoded. *judge*: None: nothing is fetched. *found*: what was, by its URL or path."""
        self.limit_bytes = limit_bytes
        self.wanted: dict[str, Wanted] = {}
        """What is to be fetched, by its URL or path; of several fields the first that named it."""
        self._judge = judge or Nothing()
        self._found = found or {}
        self._pictures = 0

    def picture(self, value: Any, param: str) -> Picture:
        """A picture in any form: text as `written` takes it, a file of a form, or an object that holds one of these."""
        if isinstance(value, Upload):
            kind = value.media_type if value.media_type.startswith("image/") else ""
            return self._counted(Picture(data=self._whole(value.data, param), media_type=kind), param)
        if isinstance(value, dict):
            return self._inner(Fields(value, f"{param}."))
        if not isinstance(value, str):
            mistyped(param, "a picture (a data: URL, base64, or an object with one)", value)
        return self.written(value, param)

    def _inner(self, fields: Fields) -> Picture:
        name, value = fields.find(*_KEYS)
        if value is None:
            fields.missing(name)
        return self.picture(value, fields.path(name))

    def written(self, text: str, param: str, bare: bool = True) -> Picture:
        """A data: URL, the URL or path of one that may be fetched, or, where it may be *bare*, base64."""
        data, media_type = self._file(text, Wanted(param, PICTURE), bare)
        return self._counted(Picture(data=data, media_type=media_type), param)

    def sound(self, value: Any, param: str) -> Sound:
        """A sound: a file of a form, or text as that of a picture. In a form, text is the place of one."""
        if isinstance(value, Upload):
            return Sound(data=self._whole(value.data, param), media_type=value.media_type)
        if isinstance(value, Written) and not (_SCHEME.match(value) or self._judge.is_path(value)):
            mistyped(param, "a file", value, _as_file(param))
        if not isinstance(value, str):
            mistyped(param, "base64 of a sound file", value)
        data, media_type = self._file(value, Wanted(param, SOUND))
        return Sound(data=data, media_type=media_type)

    def _file(self, text: str, wanted: Wanted, bare: bool = True) -> File:
        if text[:5].lower() == "data:":
            return data_url(text, wanted, self.limit_bytes)
        if not bare or _SCHEME.match(text) or self._judge.is_path(text) or _looks_like_path(text):
            return self._elsewhere(text, wanted)
        hint = _as_file(wanted.param) if isinstance(text, Written) else ""
        return File(decode(text, wanted.param, self.limit_bytes, hint))

    def input_audio(self, inner: Fields) -> Sound:
        """OpenAI's part of a message."""
        kind = inner.choice("format", *SOUNDS)
        data = decode(inner.need_text("data"), inner.path("data"), self.limit_bytes)
        return Sound(data=data, media_type=SOUNDS[kind] if kind else "")

    def _elsewhere(self, reference: str, wanted: Wanted) -> File:
        found = self._found.get(reference)
        if found is not None:
            return found
        self._judge.judge(reference, wanted)
        self.wanted.setdefault(reference, wanted)
        return File(b"")

    def _whole(self, data: bytes, param: str) -> bytes:
        if len(data) > self.limit_bytes:
            too_large(param, self.limit_bytes)
        return data or wrong(param, "it is empty")

    def _counted(self, picture: Picture, param: str) -> Picture:
        self._pictures += 1
        if self._pictures > PICTURES:
            wrong(param, f"the request has more than {PICTURES} pictures", "Send several requests.")
        return picture


def _as_file(param: str) -> str:
    return f"With curl, write -F {param.partition('[')[0]}=@NAME."


def _looks_like_path(text: str) -> bool:
    return text.startswith(("/", ".", "~", "\\")) and len(text) < PATH


def data_url(url: str, wanted: Wanted, limit: int) -> File:
    """What a base64 data: URL holds."""
    head, comma, text = url.partition(":")[2].partition(",")
    kind, _, coding = head.rpartition(";")
    if not comma or coding.strip().lower() != "base64":
        wrong(wanted.param, "the data: URL is not base64", f"Write {wanted.kind.example}")
    return File(decode(text, wanted.param, limit), kind.partition(";")[0].strip().lower())


def decode(text: str, param: str, limit: int, hint: str = "") -> bytes:
    """Base64, with or without padding, standard or URL-safe. *hint*: what to do where it is none."""
    text = "".join(text.split()).rstrip("=").translate(_URL_SAFE)
    if len(text) * 3 // 4 > limit:
        too_large(param, limit)
    try:
        data = b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        wrong(param, "it is not base64", hint)
    return data or wrong(param, "it is empty")


def too_large(param: str, limit: int) -> NoReturn:
    """Refuse what has more than *limit* bytes."""
    hint = f"Send one of at most {size(limit)}, or raise the server's media_bytes."
    raise TooLarge(f"'{param}' holds more than {limit} bytes.", hint, param=param, limit=limit)


def size(count: int) -> str:
    """So many bytes in words: 25 MiB."""
    return f"{count / 1024**2:.3g} MiB" if count >= 1024**2 else f"{count:,} bytes"
