"""What is wrong with a request about models is told in Ollama's form, by a status, and with what to do."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from anyform.assembly import start
from anyform.sources.stores import Stores
from anyform.testing.echo import write_echo

NONE = f"sha256:{'e' * 64}"


@pytest.fixture(scope="module")
def kept(serving: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server with a folder of its own, over one echo model."""
    root = tmp_path_factory.mktemp("models")
    write_echo(root / "parrot.echo.json")
    stores = Stores(home=tmp_path_factory.mktemp("home") / "models", names=("anyform",))
    here = serving(start(folders=[root], where="here", stores=stores))
    yield here
    here.close()


MAKE = {"model": "made", "from": "parrot"}
REFUSED: list[tuple[str, str, Any, int, str]] = [
    ("POST", "/api/show", {}, 400, "model is required"),
    ("POST", "/api/show", None, 400, "model is required"),
    ("POST", "/api/show", {"model": ""}, 400, "model is required"),
    ("POST", "/api/show", {"model": 3}, 400, "'model'"),
    ("POST", "/api/show", {"model": "nothing"}, 404, "model 'nothing' not found"),
    ("POST", "/api/show", {"model": "parrot:other"}, 404, "model 'parrot:other' not found"),
    ("POST", "/api/show", {"model": "../../etc/passwd"}, 404, "not found"),
    ("POST", "/api/show", {"model": "parrot", "verbose": "yes"}, 400, "'verbose'"),
    ("POST", "/api/show", {"model": "parrot", "system": 1}, 400, "'system'"),
    ("POST", "/api/show", {"model": "parrot", "options": {"nothing": 1}}, 400, "unknown parameter 'nothing'"),
    ("POST", "/api/create", {}, 400, "invalid model name"),
    ("POST", "/api/create", {"model": "made"}, 400, "neither 'from' or 'files' was specified"),
    ("POST", "/api/create", {"model": "../made", "from": "parrot"}, 400, "invalid model name"),
    ("POST", "/api/create", {"model": "a/b/c/d/e", "from": "parrot"}, 400, "a/b/c/d/e"),
    ("POST", "/api/create", {"model": "parrot", "from": "parrot", "system": "x"}, 400, "parrot"),
    ("POST", "/api/create", {"model": "made", "from": "nothing"}, 404, "model 'nothing' not found"),
    ("POST", "/api/create", {"model": "made", "from": "/etc/passwd"}, 403, "invalid model name"),
    ("POST", "/api/create", {"model": "made", "from": "./x.gguf"}, 403, "invalid model name"),
    ("POST", "/api/create", {"model": "made", "path": "/tmp/Modelfile"}, 403, "'path'"),
    ("POST", "/api/create", {"name": "made", "modelfile": "FROM ./x.gguf"}, 403, "x.gguf"),
    ("POST", "/api/create", {"name": "made", "modelfile": "FROM parrot\nADAPTER ./a.gguf"}, 403, "a.gguf"),
    ("POST", "/api/create", {"name": "made", "modelfile": "FROM parrot\nNOTHING x"}, 400, "NOTHING"),
    ("POST", "/api/create", {"name": "made", "modelfile": "SYSTEM x"}, 400, ""),
    ("POST", "/api/create", {**MAKE, "template": "{{ .Prompt"}, 400, "template error"),
    ("POST", "/api/create", {**MAKE, "template": 1}, 400, "'template'"),
    ("POST", "/api/create", {**MAKE, "parameters": {"nothing": 1}}, 400, "unknown parameter 'nothing'"),
    ("POST", "/api/create", {**MAKE, "parameters": {"temperature": "hot"}}, 400, "temperature"),
    ("POST", "/api/create", {**MAKE, "parameters": {"temperature": 99}}, 400, "temperature"),
    ("POST", "/api/create", {**MAKE, "parameters": {"num_ctx": 0}}, 400, "num_ctx"),
    ("POST", "/api/create", {**MAKE, "parameters": {"num_ctx": 10**6}}, 400, "Say 4096 at the most"),
    ("POST", "/api/create", {**MAKE, "parameters": {"stop": [1]}}, 400, "stop"),
    ("POST", "/api/create", {**MAKE, "parameters": []}, 400, "'parameters'"),
    ("POST", "/api/create", {**MAKE, "messages": [{"role": "x", "content": "y"}]}, 400, "messages[0].role"),
    ("POST", "/api/create", {**MAKE, "messages": [{"content": "y"}]}, 400, "messages[0].role"),
    ("POST", "/api/create", {**MAKE, "messages": [{"role": "user", "content": "y", "images": ["a"]}]}, 400, "images"),
    ("POST", "/api/create", {**MAKE, "license": 3}, 400, "'license'"),
    ("POST", "/api/create", {**MAKE, "quantize": "Q9_9"}, 400, "unsupported quantization type Q9_9"),
    ("POST", "/api/create", {**MAKE, "quantize": "q4_K_M"}, 400, "hf.co/owner/repo:Q4_K_M"),
    ("POST", "/api/create", {**MAKE, "adapters": {"a.gguf": NONE}}, 400, "adapter"),
    ("POST", "/api/create", {**MAKE, "adapters": {"../a.gguf": NONE}}, 400, "file path must be relative"),
    ("POST", "/api/create", {"model": "made", "files": {"a.gguf": NONE}}, 400, NONE),
    ("POST", "/api/create", {"model": "made", "files": {"a.gguf": "nothing"}}, 400, "invalid digest format"),
    ("POST", "/api/create", {"model": "made", "files": {"../a.gguf": NONE}}, 400, "file path must be relative"),
    ("POST", "/api/create", {"model": "made", "files": {"/a.gguf": NONE}}, 400, "file path must be relative"),
    ("POST", "/api/create", {"model": "made", "files": {"a.gguf": 1}}, 400, "files.a.gguf"),
    ("POST", "/api/create", {**MAKE, "stream": "yes"}, 400, "'stream'"),
    ("POST", "/api/copy", {}, 400, 'source "" is invalid'),
    ("POST", "/api/copy", {"source": "../a", "destination": "b"}, 400, 'source "../a" is invalid'),
    ("POST", "/api/copy", {"source": "parrot", "destination": "../b"}, 400, 'destination "../b" is invalid'),
    ("POST", "/api/copy", {"source": "parrot", "destination": "a/b/c/d/e"}, 400, "a/b/c/d/e"),
    ("POST", "/api/copy", {"source": "nothing", "destination": "b"}, 404, "model 'nothing' not found"),
    ("DELETE", "/api/delete", {}, 400, 'name "" is invalid'),
    ("DELETE", "/api/delete", {"model": "../a"}, 400, 'name "../a" is invalid'),
    ("DELETE", "/api/delete", {"model": "nothing"}, 404, "model 'nothing' not found"),
    ("DELETE", "/api/delete", {"model": "parrot"}, 403, "was not put here by anyform"),
    ("POST", "/api/pull", {}, 400, "invalid model name"),
    ("POST", "/api/pull", {"model": "../a"}, 400, "invalid model name"),
    ("POST", "/api/pull", {"model": "a/b/c/d/e"}, 400, "invalid model name"),
    ("POST", "/api/pull", {"model": "nothing"}, 404, "Ollama's own library"),
    ("POST", "/api/pull", {"model": "library/nothing:7b", "stream": False}, 404, "Ollama's own library"),
    ("POST", "/api/pull", {"model": "hf.co/owner/repo:Q4_K_M", "stream": False}, 403, "fetches no models"),
    ("POST", "/api/pull", {"model": "owner/repo"}, 403, "fetches no models"),
    ("POST", "/api/pull", {"model": "gemma3:4b"}, 404, "hf.co/ggml-org/gemma-3-4b-it-GGUF:Q4_K_M"),
    ("POST", "/api/pull", {"model": "qwen3:235b"}, 404, "hf.co/Qwen/Qwen3-0.6B-GGUF:Q8_0 or "),
    ("POST", "/api/push", {}, 400, "model is required"),
    ("POST", "/api/push", {"model": "nothing"}, 404, "model 'nothing' not found"),
    ("POST", "/api/push", {"model": "parrot", "stream": False}, 501, "publishes no models"),
    ("POST", "/api/blobs/nothing", "hello", 400, "invalid digest format"),
    ("POST", "/api/blobs/sha256:abc", "hello", 400, "invalid digest format"),
    ("POST", f"/api/blobs/{NONE}", "hello", 400, "digest mismatch"),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "part"), REFUSED)
def test_is_refused(kept: Any, method: str, path: str, body: Any, status: int, part: str) -> None:
    sent = {"content": body} if isinstance(body, str) else {} if body is None else {"json": body}
    refused = kept.http.request(method, path, **sent)
    assert (refused.status_code, list(refused.json())) == (status, ["error"]), refused.text
    assert part in refused.json()["error"]


@pytest.mark.parametrize("path", ["/api/show", "/api/create", "/api/copy", "/api/pull", "/api/push"])
@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff\xfe{", b'{"model": NaN}', b"[" * 100_000])
def test_what_is_no_json_is_refused(kept: Any, path: str, content: bytes) -> None:
    refused = kept.http.post(path, content=content)
    assert (refused.status_code, list(refused.json())) == (400, ["error"])


def test_what_others_keep_is_neither_deleted_nor_renamed(kept: Any) -> None:
    """Not even its name goes, as that of a pulled model would: who put it there would miss it."""
    assert kept.http.post("/api/copy", json={"source": "parrot", "destination": "renamed"}).status_code == 200
    refused = kept.http.request("DELETE", "/api/delete", json={"model": "parrot"})
    assert (refused.status_code, "was not put here by anyform" in refused.text) == (403, True)
    assert str(Path(kept.runtime.find("parrot").path)) not in refused.text
    assert kept.http.request("DELETE", "/api/delete", json={"model": "renamed"}).status_code == 200


def test_no_refusal_names_a_path_of_this_machine(kept: Any) -> None:
    data = b"no model"
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert kept.http.post(f"/api/blobs/{digest}", content=data).status_code == 201
    for files in ({"x.txt": digest}, {"x": digest, "x/y": digest}):
        refused = kept.http.post("/api/create", json={"model": "made", "files": files})
        assert (refused.status_code, str(kept.runtime.library.recipes.home) in refused.text) == (400, False)


def test_a_compressed_upload_is_refused(kept: Any) -> None:
    refused = kept.http.post(f"/api/blobs/{NONE}", content=b"x", headers={"content-encoding": "gzip"})
    assert refused.status_code == 415
    client: httpx.Client = kept.http
    assert client.head("/api/blobs/sha256:abc").status_code == 400


def test_nothing_is_made_without_a_folder_of_its_own(served: Any) -> None:
    for method, path, body in (
        ("POST", "/api/create", {"model": "made", "from": "parrot"}),
        ("POST", "/api/copy", {"source": "parrot", "destination": "made"}),
        ("DELETE", "/api/delete", {"model": "parrot"}),
        ("HEAD", f"/api/blobs/{NONE}", None),
    ):
        assert served.http.request(method, path, json=body).status_code == 403
