"""Every dialect takes, ignores and refuses what its table says, and looks at nothing that is not in it.

A field costs a request to an echo, so all of them take seconds. `-k 'POST and chat'` walks one resource.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import struct
import wave
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import pytest

from anyform.assembly import start
from anyform.contract.facts import Settings
from anyform.dialect.table import Body, Field, Resource
from anyform.http import body as bodies
from anyform.http.config import HttpConfig, Listener
from anyform.http.fields import Fields
from anyform.sources.stores import Stores
from anyform.testing.echo import write_echo

TABLES = {
    "openai": "anyform.dialect.openai",
    "ollama_api": "anyform_ollama_api.table",
    "lmstudio_api": "anyform_lmstudio_api.table",
    "anthropic_api": "anyform_anthropic_api.table",
}
ALL: list[tuple[str, Resource]] = [
    (dialect, resource) for dialect, table in TABLES.items() for resource in import_module(table).RESOURCES
]
"""Each is asked at a listener for its dialect alone."""
MODELS = {
    "chat": {"tasks": ["chat", "complete"]},
    "complete": {"tasks": ["complete"]},
    "embedding": {"tasks": ["embed"]},
    "rerank": {"tasks": ["rerank"]},
    "see": {"tasks": ["chat"], "features": ["tools", "thinking", "vision"]},
    "hear": {"tasks": ["transcribe", "translate"]},
    "speak": {"tasks": ["speak"]},
    "paint": {"tasks": ["image", "edit_image", "vary_image"]},
    "classify": {"tasks": ["classify", "zero_shot"]},
    "caption": {"tasks": ["caption"]},
    "answer": {"tasks": ["answer"]},
}
"""What stands for them -> what the echo of that name does."""
SPOILT = [[7]]
"""Of no type that a field has."""


def picture() -> str:
    """A PNG of 8 x 8 grey pixels, in base64."""
    rows = b"".join(b"\0" + b"\x80" * 8 for _ in range(8))
    head = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    packed = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(packed)).decode()


def sound() -> str:
    """A tenth of a second of silence as WAV, in base64."""
    made = io.BytesIO()
    with wave.open(made, "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(bytes(3200))
    return base64.b64encode(made.getvalue()).decode()


def level(where: str, name: str) -> str:
    """A field as tables write it: `messages[].images` for the one of any message."""
    return re.sub(r"\[\d+\]", "[]", where) + name


class Watched(dict[str, Any]):
    """An object of a request that notes which of its fields are looked up."""

    def __init__(self, data: Mapping[str, Any], where: str, seen: Counter[str]) -> None:
        super().__init__(data)
        self.where, self.seen = where, seen

    def __getitem__(self, name: str) -> Any:
        self.seen[level(self.where, name)] += 1
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.seen[level(self.where, name)] += 1
        return super().get(name, default)

    def __contains__(self, name: object) -> bool:
        self.seen[level(self.where, str(name))] += 1
        return super().__contains__(name)


def watch(value: Any, where: str, seen: Counter[str]) -> Any:
    """*value* with all objects in it watched."""
    if isinstance(value, dict):
        inner = {name: watch(one, f"{where}{name}", seen) for name, one in value.items()}
        return Watched(inner, where and f"{where}.", seen)
    if isinstance(value, list):
        return [watch(one, f"{where}[{at}]", seen) for at, one in enumerate(value)]
    return value


@pytest.fixture(scope="module")
def seen() -> Iterator[Counter[str]]:
    """How often each field was looked up."""
    counted: Counter[str] = Counter()
    begin, parse = Fields.__init__, bodies.parse

    def watched(self: Fields, data: Mapping[str, Any], where: str = "") -> None:
        begin(self, data if isinstance(data, Watched) else watch(data, where, counted), where)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Fields, "__init__", watched)
        patch.setattr(bodies, "parse", lambda data: watch(parse(data), "", counted))
        yield counted


class Walk:
    """Sends what a table says to a server over echoes."""

    def __init__(self, urls: Mapping[str, str], seen: Counter[str]) -> None:
        """*urls*: by dialect. *seen*: how often each field was looked up, what is sent before a test's own request left
        out.
        """
        self.http, self.urls, self.seen = httpx.Client(timeout=20), urls, seen
        self.url = ""
        """Where requests go."""
        self.names = {what: what for what in MODELS} | {"picture": picture(), "sound": sound()}

    def filled(self, value: Any) -> Any:
        """*value* with what the words in braces stand for."""
        if isinstance(value, str):
            return re.sub(r"\{(\w+)\}", lambda found: self.names.get(found[1], found[0]), value)
        if isinstance(value, dict):
            return {key: self.filled(one) for key, one in value.items()}
        return [self.filled(one) for one in value] if isinstance(value, list | tuple) else value

    def send(self, resource: Resource, more: Body = (), field: str = "", value: Any = None) -> httpx.Response:
        """The answer to the least body with *more* over it, and *field* in it."""
        if resource.raw:
            self.names["digest"] = hashlib.sha256(resource.raw).hexdigest()
        own = Counter(self.seen)
        for method, path, body in resource.before:
            made = self.http.request(method, self.url + self.filled(path), json=self.filled(dict(body)))
            assert made.is_success, f"before: {method} {path} answered {made.status_code}: {made.text[:500]}"
            said = made.json() if "json" in made.headers.get("content-type", "") and made.text.count("\n") < 2 else {}
            self.names["id"] = str(said.get("id", self.names.get("id", "")))
        self.seen.clear()
        self.seen.update(own)
        body, query = self.filled(dict((*resource.body, *more))), {}
        if field.startswith("?"):
            query = {field[1:]: self.filled(value)}
        elif field:
            put(body, field, self.filled(value))
        path = quote(self.filled(resource.at or resource.path)) + (f"?{urlencode(query)}" if query else "")
        content: dict[str, Any] = {"headers": dict(resource.headers)}
        if resource.raw:
            content["content"] = resource.raw
        elif resource.form:
            content |= form(body)
        elif resource.method not in ("GET", "HEAD"):
            content["json"] = body
        return self.http.request(resource.method, self.url + path, **content)


def put(body: dict[str, Any], name: str, value: Any) -> None:
    """Have *body* hold *value* at *name*, such as `options.seed` or `messages[].images`."""
    *outer, last = name.split(".")
    for part in outer:
        plain = part.removesuffix("[]")
        if part == plain:
            body = body.setdefault(plain, {})
        else:
            body[plain] = [dict(one) for one in body[plain]]
            body = body[plain][-1]
    if last.endswith("[]"):
        body[last[:-2]] = [value]
    else:
        body[last] = value


def form(body: Mapping[str, Any]) -> dict[str, Any]:
    """*body* as a form, for httpx."""
    files = {
        name: base64.b64decode(one["file"]) for name, one in body.items() if isinstance(one, dict) and "file" in one
    }
    data = {name: one if isinstance(one, str) else json.dumps(one) for name, one in body.items() if name not in files}
    return {"files": [(name, (f"{name}.bin", data)) for name, data in files.items()], "data": data}


def ended(answer: httpx.Response) -> str:
    """The fault in which a stream that had begun well ended; empty: none."""
    kind = answer.headers.get("content-type", "")
    text = answer.text if "json" in kind or "event-stream" in kind else ""  # sound has lines that begin so too
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith(("{", "data: {"))]
    said = [json.loads(line) for line in lines[-3:]]
    return next((str(one["error"]) for one in said if isinstance(one, dict) and one.get("error")), "")


def as_told(answer: httpx.Response, resource: Resource) -> str:
    """What is wrong with the answer to a sound request; empty: nothing."""
    if resource.status and answer.status_code != resource.status:
        return f"answered {answer.status_code} and not {resource.status}: {answer.text[:600]}"
    if not resource.status and not answer.is_success:
        return f"answered {answer.status_code}: {answer.text[:600]}"
    return "" if resource.status else ended(answer)


def refused(answer: httpx.Response, field: str) -> str:
    """What is wrong with the refusal of *field*; empty: nothing."""
    name = re.split(r"[.\[?]", field.removesuffix("[]"))[-1]
    if not 400 <= answer.status_code < 500:
        return f"was not refused: {answer.status_code}: {answer.text[:600]}"
    said = rf"\b{re.escape(name)}" + (r"\b" if len(name) < 4 else "")  # "quantized" says quantize
    return "" if re.search(said, answer.text) else f"was refused without its name: {answer.text[:600]}"


@pytest.fixture(scope="module")
def walk(seen: Counter[str], running: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    folder: Path = tmp_path_factory.mktemp("models")
    for name, said in MODELS.items():
        write_echo(folder / f"{name}.echo.json", **said)
    state = tmp_path_factory.mktemp("state")
    stores = Stores(home=tmp_path_factory.mktemp("home") / "models", names=("anyform",))
    runtime = start(folders=[folder], where="here", state=state, stores=stores, defaults=Settings(parallel=2))
    listeners = tuple(Listener(port=0, dialects=(dialect,)) for dialect in TABLES)
    server = running(runtime, HttpConfig(listeners=listeners))
    made = Walk({place.speaks[0]: place.url for place in server.places[1:]}, seen)
    yield made
    made.http.close()
    server.close()
    runtime.close()


@pytest.mark.parametrize(
    ("dialect", "resource"), [pytest.param(*one, id=f"{one[0]} {one[1].method} {one[1].path}") for one in ALL]
)
def test_each_field_is_treated_as_its_table_says(
    dialect: str, resource: Resource, walk: Walk, seen: Counter[str]
) -> None:
    if resource.path == "/v1/audio/speech":
        pytest.importorskip("av", reason="what sound is written with")
    walk.url = walk.urls[dialect]
    seen.clear()
    wrong = [f"the least body {said}"] if (said := as_told(walk.send(resource), resource)) else []
    for field in resource.fields:
        wrong += [f"{field.name} {said}" for said in trouble(field, resource, walk)]
    wrong += unlisted(resource, walk, seen)
    assert not wrong, f"{resource.method} {resource.path}:\n" + "\n".join(wrong)


def trouble(field: Field, resource: Resource, walk: Walk) -> Iterator[str]:
    """What a field's entry says that is not so."""
    if field.example is not None:
        answer = walk.send(resource, field.beside, field.name, field.example)
        said = refused(answer, field.name) if field.treatment == "refused" else as_told(answer, resource)
        if said:
            yield f"= {json.dumps(field.example)[:80]} ({field.treatment}) {said}"
    if field.wrong is not None:
        said = refused(walk.send(resource, field.beside, field.name, field.wrong), field.name)
        if said:
            yield f"= {json.dumps(field.wrong)[:80]} (wrong) {said}"


def unlisted(resource: Resource, walk: Walk, seen: Mapping[str, int]) -> Iterator[str]:
    """Fields that the code looks at and the table does not have, at each level of which it has any; and those that it
    has as heeded, that have no wrong value, and that the code never looks at.

    A dialect that translates has fields of its own making looked at too: what a client cannot spoil is none of its.
    """
    alike = [field for _, one in ALL for field in one.fields if resource.like and one.path == resource.like]
    listed = {field.name.removeprefix("?") for field in (*resource.fields, *alike)}
    parts = {
        ".".join(name.split(".")[:at]).removesuffix("[]") for name in listed for at in range(1, name.count(".") + 1)
    }
    levels = {name.rpartition(".")[0] for name in listed} | {""}
    looked = {name for name in seen if name.rpartition(".")[0] in levels and f"{name}[]" not in listed}
    for field in resource.fields:
        proven = field.wrong is not None or field.name.startswith("?") or seen.get(field.name.removesuffix("[]"))
        if field.treatment == "heeded" and not proven:
            yield f"{field.name} is heeded, but never looked at"
    for name in sorted(looked - listed - parts):
        answer = walk.send(resource, (), name, SPOILT)
        if answer.is_client_error and answer.status_code != resource.status:  # some refuse whatever is sent
            yield f"{name} is looked at, but is not in the table"
