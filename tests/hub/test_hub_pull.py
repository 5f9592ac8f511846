"""Pulling from a hub on loopback: the right files, whole, once, and only then a model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from anyform.assembly import start
from anyform.contract.errors import ModelNotFound
from anyform.sources import derivation
from anyform.sources.hubpull import Pulled
from anyform.sources.stores import Stores
from anyform.testing.gguf import write_llama, write_split

from .conftest import Cli
from .server import LoopbackHub

Get = Callable[..., Pulled]


def test_the_preferred_variant_comes_alone_and_is_recorded(tiny: Path, hub: LoopbackHub, get: Get, home: Path) -> None:
    pulled = get("owner/tiny")
    assert pulled.name == "owner/tiny:Q8_0"
    assert pulled.files == ("tiny-Q8_0.gguf",)
    there = home / "owner" / "tiny"
    assert (there / "tiny-Q8_0.gguf").read_bytes() == (tiny / "tiny-Q8_0.gguf").read_bytes()
    assert sorted(path.name for path in there.iterdir()) == [".anyform.json", "tiny-Q8_0.gguf"]
    record = json.loads((there / ".anyform.json").read_text())
    assert (record["repository"], record["revision"]) == ("owner/tiny", hub.repositories["owner/tiny"].sha)
    assert record["files"]["tiny-Q8_0.gguf"]["sha256"] == hub.repositories["owner/tiny"].files["tiny-Q8_0.gguf"].sha256


def test_what_is_here_is_not_fetched_again(tiny: Path, hub: LoopbackHub, get: Get) -> None:
    first = get("owner/tiny:F16")
    before = hub.served["tiny-F16.gguf"]
    again = get("owner/tiny:F16")
    assert first.fetched_bytes == (tiny / "tiny-F16.gguf").stat().st_size
    assert again.fetched_bytes == 0
    assert hub.served["tiny-F16.gguf"] - before < 1 << 16  # the head, by which the plugin knows it


def test_a_variant_comes_alone(tiny: Path, hub: LoopbackHub, get: Get, home: Path) -> None:
    assert get("owner/tiny:f16").files == ("tiny-F16.gguf",)
    assert not (home / "owner" / "tiny" / "tiny-Q8_0.gguf").exists()
    with pytest.raises(ModelNotFound, match="Q8_0, F16"):
        get("owner/tiny:Q2_K")


def test_the_address_of_a_files_page_pulls_the_variant_that_the_file_is_of(tiny: Path, get: Get) -> None:
    pulled = get("https://huggingface.co/owner/tiny/blob/main/tiny-F16.gguf")
    assert (pulled.name, pulled.files) == ("owner/tiny:F16", ("tiny-F16.gguf",))
    assert get("https://huggingface.co/owner/tiny/tree/main").name == "owner/tiny:Q8_0"
    with pytest.raises(ModelNotFound, match="no variant 'tiny-Q2_K'"):
        get("https://huggingface.co/owner/tiny/blob/main/tiny-Q2_K.gguf")


def test_a_pulled_model_is_in_the_library_under_its_name(tiny: Path, get: Get, home: Path) -> None:
    name = get("hf.co/owner/tiny:Q8_0").name
    runtime = start(stores=Stores(home=home, names=("anyform",)))
    try:
        entry = runtime.find(name)
        assert runtime.metadata(entry).architecture == "llama"
        assert entry.places[0].revision == "0123456789abcdef0123456789abcdef01234567"
    finally:
        runtime.close()


def test_all_shards_and_the_projector_come(hub: LoopbackHub, get: Get, tmp_path: Path) -> None:
    from anyform.testing.gguf import write_mmproj

    folder = tmp_path / "origin"
    shards = write_split(folder, "big-Q8_0", 3, quantization="Q8_0")
    projector = write_mmproj(folder / "mmproj-F16.gguf")
    write_llama(folder / "big-F16.gguf", quantization="F16")
    hub.add("owner/big", {path.name: path for path in sorted(folder.iterdir())} | {"LICENSE": b"x"})
    wanted = tuple(sorted([*(path.name for path in shards), projector.name]))
    assert get("owner/big:Q8_0").files == wanted
    assert get(f"https://huggingface.co/owner/big/blob/main/{shards[-1].name}").files == wanted


def test_files_that_are_named_come_whatever_they_are(hub: LoopbackHub, get: Get, home: Path) -> None:
    hub.add("owner/odd", {"a.txt": b"a" * 10, "b.txt": b"b" * 5000, "deep/c.json": b"{}", "d.bin": b"d"})
    assert get("owner/odd", include=("*.txt", "deep/*")).files == ("a.txt", "b.txt", "deep/c.json")
    assert get("owner/odd", names=("d.bin",)).files == ("d.bin",)
    assert (home / "owner" / "odd" / "deep" / "c.json").read_bytes() == b"{}"
    with pytest.raises(ModelNotFound, match=r"no file 'e\.bin'"):
        get("owner/odd", names=("e.bin",))


def test_the_command_pulls_and_lists(tiny: Path, cli: Cli) -> None:
    done = cli("pull", "owner/tiny:F16")
    assert (done.returncode, done.stdout.splitlines()[0].split(":")[:2]) == (0, ["owner/tiny", "F16"]), done.stderr
    assert (cli.home / "owner" / "tiny" / "tiny-F16.gguf").exists()
    listed = json.loads(cli("list", "--json").stdout)
    assert [entry["name"] for entry in listed] == ["owner/tiny"]
    again = cli("pull", "owner/tiny:F16")
    assert "all here" in again.stdout


def test_a_hub_that_lists_names_only_is_asked_for_its_tree(tiny: Path, hub: LoopbackHub, get: Get, home: Path) -> None:
    hub.repositories["owner/tiny"].sized = False
    assert get("owner/tiny:F16").files == ("tiny-F16.gguf",)
    assert len(hub.asked("/tree/")) == 3
    record = json.loads((home / "owner" / "tiny" / ".anyform.json").read_text())
    assert record["files"]["tiny-F16.gguf"]["size"] == (tiny / "tiny-F16.gguf").stat().st_size


def test_files_that_were_moved_but_not_all_recorded_are_no_model_until_the_next_pull(
    tiny: Path, hub: LoopbackHub, get: Get, home: Path, cli: Cli
) -> None:
    get("owner/tiny:F16")
    path = home / "owner" / "tiny" / ".anyform.json"
    record = json.loads(path.read_text())
    record["files"]["tiny-F16.gguf"]["complete"] = False
    path.write_text(json.dumps(record))
    assert json.loads(cli("list", "--json").stdout) == []
    assert get("owner/tiny:F16").fetched_bytes == 0
    assert [entry["name"] for entry in json.loads(cli("list", "--json").stdout)] == ["owner/tiny"]


def test_a_new_revision_replaces_only_what_changed(tiny: Path, hub: LoopbackHub, get: Get, home: Path) -> None:
    get("owner/tiny:F16")
    get("owner/tiny:Q8_0")
    files = dict(hub.repositories["owner/tiny"].files)
    write_llama(tiny / "tiny-F16.gguf", quantization="F16", seed=7)
    hub.add("owner/tiny", {name: tiny / name for name in files}, sha="f" * 40)
    assert get("owner/tiny:Q8_0").fetched_bytes == 0
    assert get("owner/tiny:F16").fetched_bytes > 0
    assert (home / "owner" / "tiny" / "tiny-F16.gguf").read_bytes() == (tiny / "tiny-F16.gguf").read_bytes()
    record = json.loads((home / "owner" / "tiny" / ".anyform.json").read_text())
    assert record["revision"] == "f" * 40


def test_a_deleted_name_that_created_models_need_comes_back_when_it_is_pulled(tiny: Path, get: Get, home: Path) -> None:
    for variant in ("F16", "Q8_0"):
        get(f"owner/tiny:{variant}")
    runtime = start(stores=Stores(home=home, names=("anyform",)))
    derivation.copy(runtime, "owner/tiny:F16", "mine")
    derivation.delete(runtime, home, "owner/tiny:F16")
    assert runtime.names() == ["mine", "owner/tiny"]
    get("owner/tiny:Q8_0")
    assert runtime.names() == ["mine", "owner/tiny"]
    assert get("owner/tiny:F16").fetched_bytes == 0
    assert runtime.names() == ["mine", "owner/tiny:F16", "owner/tiny:Q8_0"]
    runtime.close()
