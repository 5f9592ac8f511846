"""Downloading as LM Studio's clients do: a job that is asked how far it is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from anyform.assembly import start
from anyform.contract.errors import Fault
from anyform.kernel.plugins import Plugins
from anyform.sources.hub import Hub
from anyform.sources.hubpulls import Pulls
from anyform.sources.stores import Stores
from anyform.testing.serving import Served

from .server import LoopbackHub

pytest.importorskip("anyform_lmstudio_api")
MIB = 1 << 20
ECHO = json.dumps({"format": "echo"}).encode()
WHEN = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
DOWNLOAD = "/api/v1/models/download"


class Here:
    """A server that may pull."""

    def __init__(self, client: Hub, plugins: Plugins, home: Path) -> None:
        runtime = start(where="here", plugins=plugins, stores=Stores(home=home, names=("anyform",)))
        self.pulls = Pulls(client, plugins, home, arrived=runtime.library.refresh)
        self.served = Served(runtime, pulls=self.pulls)
        self.http = httpx.Client(base_url=self.served.url, timeout=30)

    def ask(self, **body: Any) -> dict[str, Any]:
        """What a download is answered."""
        answer = self.http.post(DOWNLOAD, json=body)
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        return told

    def status(self, job_id: str = "") -> Any:
        return self.http.get(f"{DOWNLOAD}/status{'/' if job_id else ''}{job_id}").json()

    def close(self) -> None:
        self.http.close()
        self.pulls.close()
        self.served.close()


@pytest.fixture
def here(client: Hub, plugins: Plugins, home: Path) -> Iterator[Here]:
    made = Here(client, plugins, home)
    yield made
    made.close()


def test_a_download_tells_how_far_it_is_until_it_is_there(hub: LoopbackHub, here: Here) -> None:
    size = len(ECHO) + MIB
    hub.add("owner/parrot", {"parrot.echo": ECHO + b" " * MIB})
    hub.rate, hub.unlimited = 4 * MIB, MIB
    job = here.ask(model="https://huggingface.co/owner/parrot")
    assert job["status"] == "downloading"
    assert job["job_id"].startswith("job_")
    assert job["bytes_per_second"] >= 0
    assert WHEN.fullmatch(job["started_at"])
    assert here.ask(model="owner/parrot")["job_id"] == job["job_id"]
    here.pulls.all()[0].result()
    ended = here.status(job["job_id"])
    assert WHEN.fullmatch(ended.pop("completed_at"))
    assert ended == {
        "job_id": job["job_id"],
        "status": "completed",
        "total_size_bytes": size,
        "downloaded_bytes": size,
        "started_at": job["started_at"],
    }
    assert [one["key"] for one in here.http.get("/api/v1/models").json()["models"]] == ["owner/parrot"]
    assert here.ask(model="owner/parrot") == {"status": "already_downloaded"}
    assert here.ask(model="https://huggingface.co/owner/parrot/") == {"status": "already_downloaded"}
    told = here.status()
    assert [one["job_id"] for one in told.pop("completed")] == [job["job_id"]]
    assert told == {"downloading": [], "failed": [], "paused": []}


def test_a_quantization_is_a_variant(hub: LoopbackHub, tiny: Path, here: Here) -> None:
    here.ask(model="https://huggingface.co/owner/tiny", quantization="Q8_0")
    assert here.pulls.all()[0].result().files == ("tiny-Q8_0.gguf",)
    (model,) = here.http.get("/api/v1/models").json()["models"]
    assert model["quantization"] == {"name": "Q8_0", "bits_per_weight": 8}


def test_one_that_was_stopped_is_paused_and_goes_on(hub: LoopbackHub, here: Here) -> None:
    data = ECHO + b" " * (2 * MIB)
    hub.add("owner/parrot", {"parrot.echo": data})
    hub.rate, hub.unlimited = MIB / 4, len(data)
    job = here.ask(model="owner/parrot")
    hub.wait_for_bytes(len(data) + MIB // 8)
    (running,) = here.pulls.cancel("owner/parrot")
    with pytest.raises(Fault):
        running.result()
    assert here.status(job["job_id"])["status"] == "paused"
    assert [one["job_id"] for one in here.status()["paused"]] == [job["job_id"]]
    hub.rate = 0
    again = here.ask(model="owner/parrot")
    assert again["job_id"] != job["job_id"]
    here.pulls.all()[-1].result()
    assert here.status(again["job_id"])["status"] == "completed"


def test_one_that_fails_says_why(hub: LoopbackHub, here: Here) -> None:
    job = here.ask(model="owner/absent")
    (running,) = here.pulls.all()
    with pytest.raises(Fault):
        running.result()
    told = here.status(job["job_id"])
    assert told["status"] == "failed"
    assert "owner/absent" in told["error"]["message"]


@pytest.mark.parametrize("name", ["/etc/passwd", "../a/b", "https://example.com/a/b", "a"])
def test_what_names_no_repository_is_refused(name: str, here: Here) -> None:
    answer = here.http.post(DOWNLOAD, json={"model": name})
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request"
    assert here.pulls.all() == []
