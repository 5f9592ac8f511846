"""The same requests to us and to a real Ollama; every difference is listed, and every listed one is there.

Texts that a model makes are not compared: the models here have random weights, whose letters rounding decides.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from anyform.assembly import start
from anyform.http.config import HttpConfig
from anyform.sources.stores import Stores
from anyform.testing import gguf
from anyform.testing.serving import Served

from . import ollama
from .differences import DIFFERENCES
from .exchanges import Exchange, every
from .shape import ask, differences

pytestmark = [pytest.mark.full, pytest.mark.engine]

CHAT, EMBEDDER = "chatter", "embedder"
Found = dict[tuple[str, str], tuple[object, object]]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models that both have, and one to be uploaded."""
    folder = tmp_path_factory.mktemp("models")
    return {
        CHAT: gguf.write_llama(folder / f"{CHAT}.gguf", context=512, chat_template=gguf.CHATML),
        EMBEDDER: gguf.write_bert(folder / f"{EMBEDDER}.gguf"),
        "made": gguf.write_llama(tmp_path_factory.mktemp("upload") / "made.gguf", context=256),
    }


@pytest.fixture(scope="module")
def theirs(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real Ollama that has the models."""
    with ExitStack() as stack:
        try:
            address = stack.enter_context(ollama.served(tmp_path_factory.mktemp("peer")))
        except ollama.Missing as missing:
            pytest.skip(str(missing))
        for name in (CHAT, EMBEDDER):
            data = files[name].read_bytes()
            digest = _digest(data)
            ask(address, Exchange(name="upload", path=f"/api/blobs/{digest}", body=data))
            wanted = {"model": name, "files": {f"{name}.gguf": digest}, "stream": False}
            made = ask(address, Exchange(name="create", path="/api/create", body=wanted))
            assert json.loads(made.body) == {"status": "success"}
        yield address


@pytest.fixture(scope="module")
def ours(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of our server with the same models, on a listener that is Ollama's alone."""
    pytest.importorskip("llama_cpp")
    home = tmp_path_factory.mktemp("home") / "models"
    runtime = start(
        folders=[files[CHAT].parent],
        where="here",
        state=tmp_path_factory.mktemp("state"),
        stores=Stores(home=home, names=("anyform",)),
    )
    here = Served(runtime, HttpConfig(dialects=("ollama_api",)))
    yield here.url.removeprefix("http://")
    here.close()


@pytest.fixture(scope="module")
def found(theirs: str, ours: str, files: dict[str, Path]) -> Found:
    """All differences, by exchange and part: (ours, theirs)."""
    data = files["made"].read_bytes()
    parts: Found = {}
    for exchange in every(CHAT, EMBEDDER, _digest(data), data):
        told = differences(ask(ours, exchange), ask(theirs, exchange))
        parts.update({(exchange.name, part): values for part, values in told.items()})
    return parts


def test_every_difference_is_meant(found: Found) -> None:
    unlisted = [
        f"{name}: {part}: ours {ours!r}, theirs {theirs!r}"
        for (name, part), (ours, theirs) in found.items()
        if not any(difference.covers(name, part) for difference in DIFFERENCES)
    ]
    assert not unlisted, "\n".join(unlisted)


def test_every_listed_difference_is_there(found: Found) -> None:
    gone = [difference for difference in DIFFERENCES if not any(difference.covers(name, part) for name, part in found)]
    assert not gone, "\n".join(map(str, gone))


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
