"""Models that are made, copied and deleted; files that are uploaded; with the real client too."""

from __future__ import annotations

import hashlib
import json
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from anyform.assembly import start
from anyform.contract.facts import Settings
from anyform.sources.stores import Stores
from anyform.testing.echo import write_echo

MIB = 1 << 20
ECHO = json.dumps({"format": "echo", "context": 77}).encode()
WORDS = [{"role": "user", "content": "one two three four"}]


@pytest.fixture(scope="module")
def kept(serving: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server with a folder of its own, over one echo model."""
    root = tmp_path_factory.mktemp("models")
    write_echo(root / "parrot.echo.json", features=["tools", "thinking", "vision"])
    home = tmp_path_factory.mktemp("home") / "models"
    runtime = start(
        folders=[root], where="here", stores=Stores(home=home, names=("anyform",)), defaults=Settings(parallel=4)
    )
    here = serving(runtime)
    here.home = home
    yield here
    here.close()


@pytest.fixture
def http(kept: Any) -> httpx.Client:
    client: httpx.Client = kept.http
    return client


@pytest.fixture
def ollama(kept: Any) -> Any:
    """The real client."""
    module = pytest.importorskip("ollama")
    return module.Client(kept.url)


def create(http: httpx.Client, **body: Any) -> list[str]:
    """The statuses."""
    response = http.post("/api/create", json=body)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line)["status"] for line in response.text.splitlines()]


def said(http: httpx.Client, model: str, **more: Any) -> dict[str, Any]:
    body = {"model": model, "messages": WORDS, "stream": False, **more}
    answer: dict[str, Any] = http.post("/api/chat", json=body).json()
    return answer


def upload(http: httpx.Client, data: bytes) -> str:
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert http.post(f"/api/blobs/{digest}", content=data).status_code in (200, 201)
    return digest


def delete(http: httpx.Client, model: str) -> httpx.Response:
    return http.request("DELETE", "/api/delete", json={"model": model})


def test_a_model_is_made_of_another_and_what_was_said_of_it_holds_in_every_dialect(http: httpx.Client) -> None:
    parameters = {"num_predict": 2, "num_ctx": 64, "temperature": 0, "stop": ["five", "six"]}
    told = create(http, model="brief", **{"from": "parrot"}, system="Be brief.", parameters=parameters)
    assert [text.partition(" sha256:")[0] for text in told] == [
        "using existing layer", "creating new layer", "creating new layer", "writing manifest", "success",
    ]  # fmt: skip
    answer = said(http, "brief")
    assert (answer["message"]["content"], answer["done_reason"]) == ("one two", "length")
    assert (
        answer["prompt_eval_count"]
        == said(http, "parrot", messages=[{"role": "system", "content": "Be brief."}, *WORDS])["prompt_eval_count"]
    )
    other = http.post("/v1/chat/completions", json={"model": "brief", "messages": WORDS}).json()
    assert other["choices"][0]["message"]["content"] == "one two"
    loaded = {one["name"]: one for one in http.get("/api/ps").json()["models"]}
    assert loaded["brief:latest"]["context_length"] == 64
    assert "brief" in [one["id"] for one in http.get("/v1/models").json()["data"]]
    shown = http.post("/api/show", json={"model": "brief"}).json()
    assert (shown["system"], shown["details"]["parent_model"]) == ("Be brief.", "parrot:latest")
    assert dict(line.split(None, 1) for line in shown["parameters"].splitlines()) == {
        "num_ctx": "64", "num_predict": "2", "stop": '"six"', "temperature": "0",
    }  # fmt: skip


def test_a_model_that_is_made_anew_is_the_new_one_at_once(http: httpx.Client) -> None:
    for most in (1, 3):
        create(http, model="again", **{"from": "parrot"}, parameters={"num_predict": most})
        assert said(http, "again")["eval_count"] == most
    create(http, model="more", **{"from": "again"}, parameters={"num_predict": -1})
    assert said(http, "more")["eval_count"] == 4
    assert said(http, "again")["eval_count"] == 3


def test_a_model_may_be_made_anew_of_itself(http: httpx.Client) -> None:
    create(http, model="self", **{"from": "parrot"}, parameters={"num_predict": 2})
    create(http, model="self", **{"from": "self"}, system="Be kind.")
    shown = http.post("/api/show", json={"model": "self"}).json()
    assert (shown["system"], shown["parameters"].split()) == ("Be kind.", ["num_predict", "2"])
    assert said(http, "self")["eval_count"] == 2


def test_messages_and_licenses_are_kept(http: httpx.Client) -> None:
    begun = [{"role": "user", "content": "A"}, {"role": "assistant", "content": "B"}]
    body = {"from": "parrot", "messages": begun, "license": ["MIT", "Other"], "stream": False}
    answer = http.post("/api/create", json={"model": "begun", **body})
    assert (answer.status_code, answer.json()) == (200, {"status": "success"})
    shown = http.post("/api/show", json={"model": "begun"}).json()
    assert (shown["messages"], shown["license"]) == (begun, "MIT\nOther")
    assert said(http, "begun")["prompt_eval_count"] > said(http, "parrot")["prompt_eval_count"]


def test_a_modelfile_makes_a_model_and_show_gives_one_that_makes_it_again(http: httpx.Client) -> None:
    told = (
        'SYSTEM """Be\nbrief."""',
        "PARAMETER num_predict 2",
        'PARAMETER stop "a b"',
        "MESSAGE user Hi",
        "LICENSE MIT",
    )
    text = "\n".join(("FROM parrot", *told))
    create(http, name="filed", modelfile=text)
    first = http.post("/api/show", json={"model": "filed"}).json()
    assert (first["system"], first["license"]) == ("Be\nbrief.", "MIT")
    create(http, name="refiled", modelfile=first["modelfile"])
    second = http.post("/api/show", json={"model": "refiled"}).json()
    same = ("system", "parameters", "messages", "license", "template", "details", "model_info")
    assert {name: second[name] for name in same} == {name: first[name] for name in same}
    assert said(http, "refiled")["message"]["content"] == "one two"


def test_a_template_is_kept_as_it_was_given(http: httpx.Client) -> None:
    template = "{{ range .Messages }}{{ .Role }}: {{ .Content }}\n{{ end }}"
    create(http, model="templated", **{"from": "parrot"}, template=template)
    shown = http.post("/api/show", json={"model": "templated"}).json()
    assert shown["template"] == template
    assert "tools" not in shown["capabilities"]  # the template mentions none


def test_a_model_is_made_of_uploads(http: httpx.Client) -> None:
    digest = upload(http, ECHO)
    assert http.head(f"/api/blobs/{digest}").status_code == 200
    told = create(http, model="uploaded", files={"x.echo.json": digest}, system="Hi.")
    assert f"using existing layer {digest}" in told
    assert said(http, "uploaded")["message"]["content"] == "one two three four"
    shown = http.post("/api/show", json={"model": "uploaded"}).json()
    assert shown["model_info"]["echo.context_length"] == 77
    assert "parent_model" in shown["details"]
    create(http, model="child", **{"from": "uploaded"}, parameters={"num_predict": 1})
    assert delete(http, "uploaded").status_code == 200
    assert said(http, "child")["eval_count"] == 1


def test_copies_and_deletions(http: httpx.Client) -> None:
    create(http, model="source", **{"from": "parrot"}, parameters={"num_predict": 1})
    copied = http.post("/api/copy", json={"source": "source", "destination": "owner/copied:v1"})
    assert (copied.status_code, copied.content) == (200, b"")
    assert said(http, "owner/copied:v1")["eval_count"] == 1
    gone = delete(http, "source:latest")
    assert (gone.status_code, gone.content) == (200, b"")
    assert "source:latest" not in [one["name"] for one in http.get("/api/tags").json()["models"]]
    assert said(http, "owner/copied:v1")["eval_count"] == 1
    again = delete(http, "source")
    assert again.status_code == 404
    assert again.json()["error"].startswith("model 'source' not found")


def test_deleting_a_loaded_model_unloads_it(http: httpx.Client) -> None:
    create(http, model="busy", **{"from": "parrot"})
    said(http, "busy", keep_alive=-1)
    assert "busy:latest" in [one["name"] for one in http.get("/api/ps").json()["models"]]
    assert http.request("DELETE", "/api/delete", json={"name": "busy"}).status_code == 200
    assert "busy:latest" not in [one["name"] for one in http.get("/api/ps").json()["models"]]


def test_uploads_are_known_by_their_digest(http: httpx.Client) -> None:
    data = b"some bytes"
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert http.head(f"/api/blobs/{digest}").status_code == 404
    assert http.post(f"/api/blobs/{digest}", content=data).status_code == 201
    assert http.head(f"/api/blobs/{digest}").status_code == 200
    assert http.post(f"/api/blobs/{digest}", content=data).status_code == 200
    wrong = f"sha256:{'0' * 64}"
    refused = http.post(f"/api/blobs/{wrong}", content=data)
    assert refused.status_code == 400
    assert refused.json()["error"].startswith(f'digest mismatch, expected "{wrong}", got "{digest}"')
    assert http.head(f"/api/blobs/{wrong}").status_code == 404


def test_an_upload_goes_to_the_disk_and_not_to_memory(http: httpx.Client, kept: Any) -> None:
    pieces = 96
    one = bytes(MIB)
    whole = hashlib.sha256()
    for _ in range(pieces):
        whole.update(one)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    content = (one for _ in range(pieces))
    answered = http.post(f"/api/blobs/sha256:{whole.hexdigest()}", content=content)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert answered.status_code == 201, answered.text
    assert grown * 1024 < pieces * MIB / 2


def test_an_upload_that_breaks_off_leaves_nothing(kept: Any, http: httpx.Client) -> None:
    def content() -> Iterator[bytes]:
        yield bytes(MIB)
        raise ConnectionAbortedError

    folder = Path(kept.home) / ".recipes" / "blobs"
    there = set(folder.iterdir()) if folder.is_dir() else set()
    digest = f"sha256:{'1' * 64}"
    with pytest.raises(ConnectionAbortedError), httpx.Client(base_url=kept.url) as other:
        other.post(f"/api/blobs/{digest}", content=content())
    assert http.head(f"/api/blobs/{digest}").status_code == 404
    assert {path for path in folder.iterdir() if path.suffix != ".part"} == there


def test_push_is_refused_with_what_to_do(http: httpx.Client) -> None:
    refused = http.post("/api/push", json={"model": "parrot"})
    assert refused.status_code == 501
    assert "hf upload" in refused.json()["error"]


def test_the_real_client_makes_copies_and_deletes(ollama: Any, tmp_path: Path) -> None:
    file = tmp_path / "x.echo.json"
    file.write_bytes(ECHO)
    digest = ollama.create_blob(file)
    assert ollama.create("ours", files={"x.echo.json": digest}).status == "success"
    told = [one.status for one in ollama.create("ours2", from_="ours", system="Hi.", stream=True)]
    assert told[-1] == "success"
    shown = ollama.show("ours2")
    assert (shown.modelinfo["echo.context_length"], shown.capabilities) == (
        77,
        ["completion", "embedding", "tools", "thinking"],
    )
    assert shown.details.parent_model == "ours:latest"
    assert ollama.copy("ours2", "ours3").status == "success"
    names = [model.model for model in ollama.list().models]
    assert {"ours:latest", "ours2:latest", "ours3:latest"} <= set(names)
    ollama.chat("ours3", WORDS, keep_alive="5m")
    assert "ours3:latest" in [model.model for model in ollama.ps().models]
    for name in ("ours", "ours2", "ours3"):
        assert ollama.delete(name).status == "success"
    assert not {"ours:latest", "ours2:latest", "ours3:latest"} & {model.model for model in ollama.list().models}


def test_the_real_client_is_refused_in_its_own_errors(ollama: Any) -> None:
    import ollama as module

    for call in (
        lambda: ollama.show("nothing"),
        lambda: ollama.delete("nothing"),
        lambda: ollama.copy("nothing", "other"),
    ):
        with pytest.raises(module.ResponseError, match="not found") as refused:
            call()
        assert refused.value.status_code == 404
    with pytest.raises(module.ResponseError, match="publishes no models"):
        ollama.push("parrot")
    with pytest.raises(module.ResponseError, match=r"hf\.co/Qwen/Qwen3-0\.6B-GGUF"):
        list(ollama.pull("qwen3:0.6b", stream=True))


async def _all(url: str) -> None:
    from ollama import AsyncClient

    client = AsyncClient(url)
    assert (await client.create("soon", from_="parrot", parameters={"num_predict": 1})).status == "success"
    told = [part.status async for part in await client.create("soon", from_="parrot", system="Hi.", stream=True)]
    assert told[-1] == "success"
    assert (await client.show("soon")).details.parent_model == "parrot:latest"
    await client.copy("soon", "later")
    assert (await client.pull("soon")).status == "success"
    assert {"soon:latest", "later:latest"} <= {model.model for model in (await client.list()).models}
    await client.chat("soon", WORDS, keep_alive=60)
    assert "soon:latest" in {model.model for model in (await client.ps()).models}
    for name in ("soon", "later"):
        assert (await client.delete(name)).status == "success"


def test_the_real_client_without_blocking(kept: Any) -> None:
    import asyncio

    pytest.importorskip("ollama")
    asyncio.run(_all(kept.url))
