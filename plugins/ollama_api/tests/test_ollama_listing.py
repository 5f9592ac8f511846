"""What is listed, shown and told to be loaded; as raw HTTP, and as the programs ask that read it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from anyform.assembly import start
from anyform.contract.facts import Settings
from anyform.sources.stores import Stores
from anyform.testing.echo import write_echo
from anyform_ollama_api import detail

DIGEST = re.compile(r"[0-9a-f]{64}")
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


@pytest.fixture(scope="module")
def kept(serving: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server with a folder of its own, over echo models of several kinds."""
    root = tmp_path_factory.mktemp("models")
    chat = ["chat", "complete"]
    write_echo(
        root / "parrot.echo.json", tasks=chat, parameters=1_540_000_000, features=["tools", "thinking", "vision", "fim"]
    )
    write_echo(root / "plain.echo.json", tasks=chat, features=[], context=512)
    write_echo(root / "embedder.echo.json", tasks=["embed"])
    write_echo(root / "hearer.echo.json", tasks=["transcribe"])
    write_echo(root / "owner" / "bird" / "a.echo.json", name="bird", variant="Q4", order=1)
    write_echo(root / "owner" / "bird" / "b.echo.json", name="bird", variant="Q8", order=0)
    stores = Stores(home=tmp_path_factory.mktemp("home") / "models", names=("anyform",))
    runtime = start(folders=[root], where="here", stores=stores, defaults=Settings(parallel=4))
    here = serving(runtime)
    here.root = root
    yield here
    here.close()


@pytest.fixture
def http(kept: Any) -> httpx.Client:
    client: httpx.Client = kept.http
    return client


def tags(http: httpx.Client) -> dict[str, dict[str, Any]]:
    return {model["name"]: model for model in http.get("/api/tags").json()["models"]}


def test_clients_know_the_server_by_its_root_and_a_bare_version(http: httpx.Client) -> None:
    assert http.get("/").text == "Ollama is running"
    assert http.head("/").status_code == 200
    assert re.fullmatch(r"\d+\.\d+\.\d+", http.get("/api/version").json()["version"])
    assert http.head("/api/version").status_code == 200


@pytest.mark.parametrize(
    ("number", "shown"),
    [(292_800, "293K"), (2_569_216, "2.57M"), (3_000_000, "3M"), (7_000_000_000, "7B"), (1_540_000_000, "1.5B")],
)
def test_amounts_are_rounded_as_ollama_rounds_them(number: int, shown: str) -> None:
    assert detail.amount(number) == shown


def test_all_models_are_listed_as_ollama_lists_them(http: httpx.Client) -> None:
    listed = tags(http)
    wanted = {"parrot:latest", "plain:latest", "embedder:latest", "hearer:latest", "owner/bird:Q4", "owner/bird:Q8"}
    assert wanted <= set(listed)
    parrot = listed["parrot:latest"]
    assert set(parrot) == {"name", "model", "modified_at", "size", "digest", "details"}
    assert (parrot["model"], DIGEST.fullmatch(parrot["digest"]) is not None) == ("parrot:latest", True)
    assert MOMENT.fullmatch(parrot["modified_at"])
    assert parrot["details"] == {
        "parent_model": "",
        "format": "echo",
        "family": "echo",
        "families": ["echo", "clip"],
        "parameter_size": "1.5B",
        "quantization_level": "unknown",
    }
    assert http.head("/api/tags").status_code == 200


def test_the_newest_model_comes_first(kept: Any, http: httpx.Client) -> None:
    http.post("/api/copy", json={"source": "plain", "destination": "newest"})
    times = [model["modified_at"] for model in http.get("/api/tags").json()["models"]]
    assert times == sorted(times, reverse=True)
    assert http.get("/api/tags").json()["models"][0]["name"] == "newest:latest"


def test_a_digest_changes_with_the_files_and_with_what_a_model_is_made_of(kept: Any, http: httpx.Client) -> None:
    write_echo(kept.root / "changing.echo.json")
    kept.runtime.library.refresh()
    before = tags(http)["changing:latest"]["digest"]
    assert tags(http)["changing:latest"]["digest"] == before
    write_echo(kept.root / "changing.echo.json", context=99)
    assert (after := tags(http)["changing:latest"]["digest"]) != before
    made = {}
    for system in ("Be kind.", "Be brief."):
        http.post("/api/create", json={"model": "made", "from": "changing", "system": system, "stream": False})
        made[system] = tags(http)["made:latest"]["digest"]
    assert len({after, *made.values()}) == 3
    http.post("/api/copy", json={"source": "made", "destination": "same"})
    assert tags(http)["same:latest"]["digest"] == made["Be brief."]
    http.post("/api/copy", json={"source": "changing", "destination": "plainly"})
    assert tags(http)["plainly:latest"]["digest"] == after


def test_a_model_that_cannot_be_read_is_listed_all_the_same(kept: Any, http: httpx.Client) -> None:
    write_echo(kept.root / "broken.echo.json")
    kept.runtime.library.refresh()
    (kept.root / "broken.echo.json").unlink()
    try:
        assert tags(http)["broken:latest"]["size"] > 0
    finally:
        kept.runtime.library.refresh()


def test_show_says_what_a_model_is_and_can(http: httpx.Client) -> None:
    shown = http.post("/api/show", json={"model": "parrot"}).json()
    assert shown["capabilities"] == ["completion", "tools", "insert", "vision", "thinking"]
    assert shown["details"] == tags(http)["parrot:latest"]["details"]
    assert shown["model_info"]["general.architecture"] == "echo"
    assert shown["model_info"]["general.parameter_count"] == 1_540_000_000
    assert shown["model_info"]["echo.context_length"] == 4096
    assert shown["projector_info"]["clip.has_vision_encoder"] is True
    assert shown["template"] == "{{ .Prompt }}"
    assert "FROM parrot:latest" in shown["modelfile"].splitlines()
    assert shown["modified_at"] == tags(http)["parrot:latest"]["modified_at"]


@pytest.mark.parametrize(
    ("model", "able"),
    [("plain", ["completion"]), ("embedder:latest", ["embedding"]), ("hearer", []), ("PARROT", None)],
)
def test_capabilities_are_those_of_the_model(http: httpx.Client, model: str, able: list[str] | None) -> None:
    shown = http.post("/api/show", json={"name": model}).json()
    assert shown["capabilities"] == (able if able is not None else shown["capabilities"])
    assert None not in shown["model_info"].values()


def test_a_model_may_be_named_as_clients_in_go_do(http: httpx.Client) -> None:
    """They send both fields, `model` and `name`, one of them empty."""
    for body in ({"model": "", "name": "parrot"}, {"model": "parrot", "name": ""}, {"name": "parrot"}):
        assert http.post("/api/show", json=body).json()["model_info"]["general.architecture"] == "echo"
    assert http.post("/api/show", json={"model": None, "name": 3}).status_code == 400


def test_show_never_names_a_path(kept: Any, http: httpx.Client) -> None:
    http.post("/api/create", json={"model": "shown", "from": "parrot", "system": "Hi.", "stream": False})
    for model in ("parrot", "shown", "owner/bird"):
        assert str(kept.root) not in http.post("/api/show", json={"model": model, "verbose": True}).text


def test_show_lays_what_a_request_says_over_the_models_own(http: httpx.Client) -> None:
    said = {"system": "Be kind.", "template": "{{ .Prompt }}!", "options": {"temperature": 0.5, "stop": ["a", "b"]}}
    shown = http.post("/api/show", json={"model": "parrot", **said}).json()
    assert (shown["system"], shown["template"]) == ("Be kind.", "{{ .Prompt }}!")
    assert shown["parameters"].splitlines() == [
        f'{"stop":<30} "a"', f'{"stop":<30} "b"', f"{'temperature':<30} 0.5",
    ]  # fmt: skip
    assert "system" not in http.post("/api/show", json={"model": "parrot"}).json()


def test_ps_tells_what_is_loaded_and_until_when(kept: Any, http: httpx.Client) -> None:
    def load(keep_alive: Any) -> dict[str, Any]:
        body = {"model": "plain", "messages": [], "keep_alive": keep_alive}
        assert http.post("/api/chat", json=body).status_code == 200
        found = [one for one in http.get("/api/ps").json()["models"] if one["name"] == "plain:latest"]
        return found[0] if found else {}

    there = load("10m")
    listed = tags(http)["plain:latest"]
    assert {name: there[name] for name in ("model", "digest", "details")} == {
        name: listed[name] for name in ("model", "digest", "details")
    }
    assert (there["size_vram"], there["context_length"], there["size"] > 0) == (0, 512, True)
    left = datetime.fromisoformat(there["expires_at"]) - datetime.now(UTC)
    assert timedelta(minutes=9) < left <= timedelta(minutes=10)
    assert datetime.fromisoformat(load(-1)["expires_at"]).year > 2300
    assert load(0) == {}
    assert http.head("/api/ps").status_code == 200


def test_a_model_that_is_being_unloaded_expires_now(
    kept: Any, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert http.post("/api/chat", json={"model": "plain", "messages": [], "keep_alive": -1}).status_code == 200
    there = [replace(at, state="leaving") for at in kept.runtime.pool.residents() if at.name == "plain"]
    monkeypatch.setattr(kept.runtime.pool, "residents", lambda: there)
    [going] = http.get("/api/ps").json()["models"]
    assert datetime.fromisoformat(going["expires_at"]) <= datetime.now(UTC), "it seemed to stay for ever"
    monkeypatch.undo()
    assert http.post("/api/chat", json={"model": "plain", "messages": [], "keep_alive": 0}).status_code == 200


def test_a_loaded_model_of_a_recipe_is_told_by_its_own_name(http: httpx.Client) -> None:
    http.post("/api/create", json={"model": "mine", "from": "plain", "system": "Hi.", "stream": False})
    http.post("/api/chat", json={"model": "mine", "messages": [], "keep_alive": 60})
    assert "mine:latest" in [one["name"] for one in http.get("/api/ps").json()["models"]]
    http.post("/api/chat", json={"model": "mine", "messages": [], "keep_alive": 0})


def test_as_copilot_asks(http: httpx.Client) -> None:
    """After the Ollama provider of microsoft/vscode-copilot-chat: version, tags, show for each, OpenAI's chat."""
    major, minor, patch = map(int, http.get("/api/version").json()["version"].split("."))
    assert (major, minor, patch) >= (0, 6, 4)
    for listed in http.get("/api/tags").json()["models"]:
        shown = http.post("/api/show", json={"model": listed["model"]}).json()
        family = shown["model_info"]["general.architecture"]
        if "completion" in shown["capabilities"]:
            assert shown["model_info"][f"{family}.context_length"] > 0
        assert isinstance(shown["capabilities"], list)
    said = [{"role": "user", "content": "Hello there"}]
    answered = http.post("/v1/chat/completions", json={"model": "parrot:latest", "messages": said})
    assert answered.json()["choices"][0]["message"]["content"] == "Hello there"


def test_as_open_webui_asks(http: httpx.Client) -> None:
    """After open_webui/routers/ollama.py: tags joined with ps by the field model; a chat as NDJSON."""
    http.post("/api/chat", json={"model": "parrot:latest", "messages": [], "keep_alive": "5m"})
    listed = {one["model"]: one for one in http.get("/api/tags").json()["models"]}
    loaded = {one["model"]: one for one in http.get("/api/ps").json()["models"]}
    assert set(loaded) <= set(listed)
    assert datetime.fromisoformat(loaded["parrot:latest"]["expires_at"]) > datetime.now(UTC)
    said = [{"role": "user", "content": "Hello there"}]
    with http.stream("POST", "/api/chat", json={"model": "parrot:latest", "messages": said}) as response:
        lines = [json.loads(line) for line in response.iter_lines()]
    assert "".join(line["message"]["content"] for line in lines) == "Hello there"
    assert lines[-1]["done"] is True
