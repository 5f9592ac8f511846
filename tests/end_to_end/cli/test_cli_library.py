"""The library of a person with models everywhere: listed, explained and served where they lie, and left as they are."""

from __future__ import annotations

import json
import re
import sqlite3
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from anyform.testing.gguf import CHATML, write_llama
from anyform.testing.store import write_ollama, write_snapshot

from .conftest import Cli

Echo = Callable[..., Path]


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """The command in a home of its own: what it keeps and finds there is what is tested, and no models of packages."""
    (tmp_path / "work").mkdir()
    stores = '["anyform", "huggingface", "lmstudio", "ollama"]'
    (tmp_path / "work" / "anyform.toml").write_text(f"[models]\nsources = {stores}\n")
    return Cli(tmp_path, tmp_path / "work")


def weights(folder: Path, seed: int, quantization: str = "F16") -> bytes:
    path = folder / "written"
    return write_llama(path, seed=seed, quantization=quantization, chat_template=CHATML).read_bytes()


@pytest.fixture
def stores(tmp_path: Path) -> list[Path]:
    """Ollama's, LM Studio's and the Hugging Face cache, and anyform's own folder, as their programs write them."""
    shared = weights(tmp_path, 1)
    write_ollama(tmp_path / "ollama", "story:latest", shared, texts={"license": "MIT"})
    write_ollama(tmp_path / "ollama", "story:0.1m", shared)
    write_ollama(tmp_path / "ollama", "hf.co/owner/blobs:Q8_0", weights(tmp_path, 2, "Q8_0"))
    (studio := tmp_path / ".lmstudio/models/owner/studio").mkdir(parents=True)
    (studio / "studio-F16.gguf").write_bytes(weights(tmp_path, 3))
    (older := tmp_path / ".cache/lm-studio/models/owner/older").mkdir(parents=True)
    (older / "older.gguf").write_bytes(weights(tmp_path, 4))
    hub = tmp_path / "huggingface/hub"
    write_snapshot(hub, "owner/cached", {f"cached-{q}.gguf": weights(tmp_path, 5, q) for q in ("F16", "Q8_0")})
    write_snapshot(hub, "other/studio", {"studio-Q8_0.gguf": weights(tmp_path, 6, "Q8_0")})
    write_snapshot(hub, "owner/twice", {"twice-F16.gguf": shared})
    (own := tmp_path / "anyform/models/owner/pulled").mkdir(parents=True)
    (own / "pulled-F16.gguf").write_bytes(weights(tmp_path, 7))
    (tmp_path / "written").unlink()
    return [tmp_path / name for name in ("ollama", ".lmstudio", ".cache/lm-studio", "huggingface", "anyform/models")]


NAMES = {
    "other/studio": "huggingface",
    "owner/blobs:Q8_0": "ollama",
    "owner/cached:F16": "huggingface",
    "owner/cached:Q8_0": "huggingface",
    "owner/older": "lmstudio",
    "owner/pulled": "anyform",
    "owner/studio": "lmstudio",
    "owner/twice": "huggingface",
}
"""Every model of `stores`, by the name that it is listed under -> its source."""


def state_of(folders: list[Path]) -> Mapping[str, tuple[int, int, bytes]]:
    """Every file and link with its time and content, and every folder with its time."""
    seen = {}
    for path in sorted(path for folder in folders for path in (folder, *folder.rglob("*"))):
        stat = path.lstat()
        seen[str(path)] = (stat.st_mtime_ns, stat.st_blocks, path.read_bytes() if path.is_file() else b"")
    return seen


def listed_by(cli: Cli) -> dict[str, Any]:
    """What `list` says of each model in a store; packages that are installed may bring more."""
    return {one["name"]: one for one in cli.json("list") if one["source"] in NAMES.values()}


def test_all_stores_are_listed_and_left_as_they_are(cli: Cli, stores: list[Path]) -> None:
    before = state_of(stores)
    for _ in ("cold", "warm"):
        listed = listed_by(cli)
        assert {name: one["source"] for name, one in listed.items()} == NAMES
        assert {one["runs_on"] for one in listed.values()} <= {"gguf_llamacpp", None}
    twice = listed["owner/twice"]
    assert [spot["source"] for spot in twice["places"]] == ["huggingface", "ollama"]
    assert {"story:0.1m", "story:latest"} <= set(twice["aliases"])
    assert listed["owner/blobs:Q8_0"]["metadata"]["quantization"] == "Q8_0"
    assert state_of(stores) == before


def test_the_table_says_where_a_model_is_and_what_is_broken(cli: Cli, stores: list[Path]) -> None:
    path = stores[1] / "models/owner/studio/studio-F16.gguf"
    path.write_bytes(path.read_bytes()[:-5000])
    done = cli("list")
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert re.search(r"gguf +F16 .* huggingface ollama ", rows["owner/twice"])
    assert "broken: " in rows["owner/studio"]
    assert "broken" not in rows["owner/older"]


def test_names_find_their_model_or_say_what_is_near(cli: Cli, stores: list[Path]) -> None:
    for name, meant in {
        "story": "owner/twice",
        "story:0.1m": "owner/twice",
        "hf.co/owner/twice": "owner/twice",
        "https://huggingface.co/owner/cached:Q8_0": "owner/cached:Q8_0",
        "owner/cached:q8_0": "owner/cached:Q8_0",
        "pulled": "owner/pulled",
        "owner/blobs": "owner/blobs:Q8_0",
    }.items():
        assert cli.json("show", name)["name"] == meant
    unclear = cli("show", "studio")
    assert unclear.returncode == 1
    assert "'studio' could be other/studio or owner/studio. Name one of them in full." in unclear.stderr
    unknown = cli("show", "storie")
    assert unknown.returncode == 1
    assert "story" in unknown.stderr


def test_show_tells_the_places_and_what_the_store_says(cli: Cli, stores: list[Path]) -> None:
    shown = cli("show", "story")
    assert re.search(r"also lies in +\S+blobs \(ollama\)", shown.stdout)
    only = cli("show", "blobs:Q8_0", env={"HF_HOME": str(cli.home / "elsewhere")})
    assert "also lies in" not in only.stdout
    (cli.home / "huggingface").rename(cli.home / "gone")
    assert cli.json("show", "story")["about"] == {"license": "MIT"}
    assert re.search(r"its store says\n +license +MIT", cli("show", "story:0.1m").stdout)


def test_run_says_which_quantization_it_took(cli: Cli, echo: Echo) -> None:
    shelf = cli.home / "anyform/models/owner/parrot"
    shelf.mkdir(parents=True)
    for variant in ("Q8_0", "Q4_K_M"):
        said = {"format": "echo", "name": "parrot", "variant": variant}
        (shelf / f"parrot-{variant}.echo").write_text(json.dumps(said))
    done = cli("run", "owner/parrot", "hello")
    assert done.returncode == 0, done.stderr
    assert "owner/parrot:Q4_K_M: no variant was named: Q4_K_M is taken, of Q4_K_M, Q8_0" in done.stderr
    assert cli("run", "owner/parrot:Q8_0", "hello").stderr == ""


def test_what_was_chosen_for_a_name_without_a_quantization_is_said(cli: Cli, stores: list[Path]) -> None:
    def notes(model: str | Path) -> list[str]:
        explained: dict[str, Any] = json.loads(cli("explain", model, "--json").stdout)  # fails without an engine
        return list(explained["notes"])

    said = "no variant was named: Q8_0 is taken, of Q8_0, F16"
    assert said in notes("owner/cached")
    assert said not in notes("owner/cached:Q8_0")
    folder = next((cli.home / "huggingface/hub/models--owner--cached/snapshots").iterdir())
    assert said in notes(folder)
    assert said not in notes(f"{folder}:Q8_0")
    (cli.folder / "anyform.toml").write_text('[models]\nquantizations = ["F16"]\naliases = { mine = "cached" }')
    assert cli.json("show", "mine")["name"] == "owner/cached:F16"


def test_sources_can_be_turned_off_and_the_own_folder_moved(cli: Cli, stores: list[Path], tmp_path: Path) -> None:
    file = cli.folder / "anyform.toml"
    file.write_text('[models]\nsources = ["ollama"]')
    assert [one["name"] for one in cli.json("list")] == ["owner/blobs:Q8_0", "story:0.1m"]
    file.write_text("[models]\nsources = []")
    assert cli.json("list") == []
    (tmp_path / "anyform/models").rename(tmp_path / "moved")
    file.write_text('[models]\nsources = ["anyform"]\nhome = "../moved"')
    assert [one["name"] for one in cli.json("list")] == ["owner/pulled"]


def test_a_path_asks_no_store_and_a_name_asks_all(cli: Cli, stores: list[Path], tmp_path: Path) -> None:
    [file] = tmp_path.glob("huggingface/hub/models--owner--twice/snapshots/*/*.gguf")
    assert [spot["source"] for spot in cli.json("show", file)["places"]] == [""]
    assert [spot["source"] for spot in cli.json("show", "owner/twice")["places"]] == ["huggingface", "ollama"]


def test_what_is_named_is_all_there_is(cli: Cli, stores: list[Path], echo: Echo) -> None:
    (cli.folder / "shelf").mkdir()
    (cli.folder / "shelf" / "parrot.echo").write_text('{"format": "echo"}')
    assert [one["name"] for one in cli.json("list", "--models", "shelf")] == ["parrot"]


@pytest.mark.parametrize("damage", [b"", b"not a database at all, but longer than its header " * 40])
def test_a_damaged_catalogue_costs_nothing_but_time(
    cli: Cli, stores: list[Path], tmp_path: Path, damage: bytes
) -> None:
    assert listed_by(cli).keys() == NAMES.keys()
    [catalogue] = tmp_path.rglob("catalogue.sqlite")
    catalogue.write_bytes(damage)
    done = cli("list", "--json")
    assert NAMES.keys() <= {one["name"] for one in json.loads(done.stdout)}
    assert done.stderr.count("catalogue.sqlite") == bool(damage)
    again = cli("list", "--json")
    assert (again.stdout, again.stderr) == (done.stdout, "")


def test_a_locked_catalogue_is_done_without(cli: Cli, stores: list[Path], tmp_path: Path) -> None:
    before = cli.json("list")
    [catalogue] = tmp_path.rglob("catalogue.sqlite")
    other = sqlite3.connect(catalogue)
    other.execute("BEGIN EXCLUSIVE")
    try:
        done = cli("list", "--json")
    finally:
        other.close()
    assert json.loads(done.stdout) == before
    assert done.stderr.count("models are read anew") == 1


@pytest.fixture
def served(cli: Cli) -> Iterator[str]:
    """The address of `anyform serve`, with nothing named."""
    process = cli.start("serve", "--port", "0")
    assert process.stdout is not None
    try:
        for line in process.stdout:
            found = re.search(r"http://[\d.]+:\d+", line)
            if found:
                yield found[0]
                break
    finally:
        process.terminate()
        process.communicate()


def ask(url: str, body: Mapping[str, Any] | None = None) -> Any:
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


@pytest.mark.engine
def test_every_model_of_every_store_is_served_where_it_lies(stores: list[Path], served: str) -> None:
    before = state_of(stores)
    assert {one["id"] for one in ask(f"{served}/v1/models")["data"]} >= set(NAMES)
    for name in (*NAMES, "story"):
        body = {"model": name, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 2, "ignore_eos": True}
        assert ask(f"{served}/v1/chat/completions", body)["usage"]["completion_tokens"] == 2
    assert state_of(stores) == before


def test_a_whole_library_is_not_loaded_beforehand(cli: Cli, stores: list[Path]) -> None:
    done = cli("serve", "--preload", "--port", "0")
    assert done.returncode == 1
    assert "--preload has nothing to load. Name the models" in done.stderr
