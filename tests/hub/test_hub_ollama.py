"""Pulling as Ollama's clients do: progress as lines, ended with the last who watches, and before a model is made."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from anyform.assembly import start
from anyform.http.config import HttpConfig
from anyform.http.server import Server, listen
from anyform.kernel.plugins import Plugins
from anyform.sources.hub import Hub
from anyform.sources.hubpulls import Pulls
from anyform.sources.stores import Stores

from .server import LoopbackHub

pytest.importorskip("anyform_ollama_api")
MIB = 1 << 20
ECHO = json.dumps({"format": "echo"}).encode()
BROUGHT = ["verifying sha256 digest", "writing manifest", "success"]


class Here:
    """A server that may pull."""

    def __init__(self, client: Hub, plugins: Plugins, home: Path) -> None:
        self.runtime = start(where="here", plugins=plugins, stores=Stores(home=home, names=("anyform",)))
        self.pulls = Pulls(client, plugins, home, arrived=self.runtime.library.refresh)
        sock, listening = listen("127.0.0.1", 0), threading.Event()
        config = HttpConfig(port=sock.getsockname()[1])
        self.server = Server(self.runtime, config, lambda url: listening.set(), self.pulls)
        self._thread = threading.Thread(target=self.server.run, args=([sock],), daemon=True)
        self._thread.start()
        assert listening.wait(10)
        self.url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        self.http = httpx.Client(base_url=self.url, timeout=30)

    def close(self) -> None:
        self.http.close()
        self.pulls.close()
        self.server.should_exit = True
        self._thread.join(10)
        self.runtime.close()


@pytest.fixture
def here(client: Hub, plugins: Plugins, home: Path) -> Iterator[Here]:
    made = Here(client, plugins, home)
    yield made
    made.close()


def pulled(here: Here, path: str = "/api/pull", **body: Any) -> list[dict[str, Any]]:
    """The lines of a stream."""
    response = here.http.post(path, json=body)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in response.text.splitlines()]


def names(here: Here) -> list[str]:
    return [model["name"] for model in here.http.get("/api/tags").json()["models"]]


@pytest.mark.parametrize("name", ["hf.co/owner/parrot", "huggingface.co/owner/parrot", "owner/parrot:latest"])
def test_a_pull_tells_how_far_it_is_and_then_the_model_is_there(hub: LoopbackHub, here: Here, name: str) -> None:
    hub.add("owner/parrot", {"parrot.echo": ECHO + b" " * MIB})
    hub.rate, hub.unlimited = 4 * MIB, MIB
    told = pulled(here, model=name)
    assert told[0] == {"status": "pulling manifest"}
    assert [one["status"] for one in told[-3:]] == BROUGHT
    moving = told[1:-3]
    assert {one["total"] for one in moving} == {len(ECHO) + MIB}
    assert [one["completed"] for one in moving] == sorted(one["completed"] for one in moving)
    assert moving[-1]["completed"] == len(ECHO) + MIB
    for one in moving:
        assert one["digest"].startswith("sha256:")
        assert one["status"] == f"pulling {one['digest'][7:19]}"
    assert names(here) == ["owner/parrot:latest"]


def test_what_is_here_already_is_a_quick_success(hub: LoopbackHub, here: Here) -> None:
    hub.add("owner/parrot", {"parrot.echo": ECHO})
    assert here.http.post("/api/pull", json={"name": "owner/parrot", "stream": False}).json() == {"status": "success"}
    served = hub.bytes_served
    assert [one["status"] for one in pulled(here, model="hf.co/owner/parrot")][-3:] == BROUGHT
    assert hub.bytes_served == served + len(ECHO)  # what it is, is looked at again; nothing is fetched
    here.http.post("/api/copy", json={"source": "owner/parrot", "destination": "mine"})
    assert [one["status"] for one in pulled(here, model="mine")] == ["pulling manifest", *BROUGHT]


def test_a_variant_is_pulled_by_its_name(hub: LoopbackHub, tiny: Path, here: Here) -> None:
    assert here.http.post("/api/pull", json={"model": "hf.co/owner/tiny:Q8_0", "stream": False}).status_code == 200
    listed = here.http.get("/api/tags").json()["models"]
    assert [one["details"]["quantization_level"] for one in listed] == ["Q8_0"]
    assert len(listed[0]["digest"]) == 64
    shown = here.http.post("/api/show", json={"model": "hf.co/owner/tiny:Q8_0"}).json()
    family = shown["model_info"]["general.architecture"]
    assert shown["model_info"][f"{family}.context_length"] > 0
    assert shown["model_info"][f"{family}.block_count"] > 0


def test_what_ends_a_pull_is_the_last_line_or_the_status(hub: LoopbackHub, here: Here) -> None:
    assert list(pulled(here, model="owner/absent")[-1]) == ["error"]
    whole = here.http.post("/api/pull", json={"model": "owner/absent", "stream": False})
    assert (whole.status_code, list(whole.json())) == (404, ["error"])
    hub.add("owner/readme", {"README.md": b"# nothing\n"})
    assert "error" in pulled(here, model="owner/readme")[-1]
    assert names(here) == []


def test_the_last_who_hangs_up_ends_it_and_what_came_is_kept(hub: LoopbackHub, here: Here) -> None:
    data = ECHO + b" " * (4 * MIB)
    hub.add("owner/parrot", {"parrot.echo": data})
    hub.rate, hub.unlimited = MIB / 4, len(data)  # what it is, is read to its end first
    body = {"model": "owner/parrot"}
    with here.http.stream("POST", "/api/pull", json=body), here.http.stream("POST", "/api/pull", json=body) as second:
        hub.wait_for_bytes(len(data) + MIB // 4)
        (running,) = here.pulls.all()
        assert running.watchers == 2
        second.close()
    with pytest.raises(Exception, match="stopped"):
        running.result()
    hub.rate, before = 0, hub.bytes_served
    assert pulled(here, **body)[-1] == {"status": "success"}
    assert hub.bytes_served - before < 2 * len(data)


def test_who_wants_it_to_last_keeps_it_from_ending(hub: LoopbackHub, here: Here) -> None:
    data = ECHO + b" " * MIB
    hub.add("owner/parrot", {"parrot.echo": data})
    hub.rate, hub.unlimited = 2 * MIB, len(data)
    with here.http.stream("POST", "/api/pull", json={"model": "owner/parrot"}):
        hub.wait_for_bytes(len(data) + MIB // 8)
        joined = here.http.post("/registry/pull", json={"model": "owner/parrot", "stream": False})
        assert joined.status_code == 202
    (running,) = here.pulls.all()
    assert running.result().name == "owner/parrot"


def test_a_model_is_made_of_one_that_is_pulled_first(hub: LoopbackHub, here: Here) -> None:
    hub.add("owner/parrot", {"parrot.echo": ECHO})
    told = pulled(here, "/api/create", model="mine", system="Be brief.", **{"from": "hf.co/owner/parrot"})
    assert told[0] == {"status": "pulling manifest"}
    assert told[-1] == {"status": "success"}
    assert set(names(here)) == {"mine:latest", "owner/parrot:latest"}


def test_what_was_pulled_can_be_deleted(hub: LoopbackHub, here: Here, home: Path) -> None:
    hub.add("owner/parrot", {"parrot.echo": ECHO})
    here.http.post("/api/pull", json={"model": "owner/parrot", "stream": False})
    assert here.http.request("DELETE", "/api/delete", json={"model": "hf.co/owner/parrot:latest"}).status_code == 200
    assert names(here) == []
    assert not (home / "owner").exists()


def test_the_real_client_pulls(hub: LoopbackHub, here: Here) -> None:
    ollama = pytest.importorskip("ollama")
    hub.add("owner/parrot", {"parrot.echo": ECHO + b" " * MIB})
    hub.rate, hub.unlimited = 8 * MIB, MIB
    client = ollama.Client(here.url)
    told = list(client.pull("hf.co/owner/parrot", stream=True))
    assert (told[0].status, told[-1].status) == ("pulling manifest", "success")
    assert max(one.completed or 0 for one in told) == len(ECHO) + MIB
    assert client.pull("owner/parrot").status == "success"
    with pytest.raises(ollama.ResponseError):
        client.pull("owner/absent")
    with pytest.raises(ollama.ResponseError):
        list(client.pull("owner/absent", stream=True))
    assert client.delete("owner/parrot").status == "success"
