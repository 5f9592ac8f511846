"""Stores of other programs and anyform's own, written in their documented layouts and read where they lie."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from anyform.assembly import start
from anyform.builtin import echo
from anyform.contract.errors import Invalid, ModelAmbiguous, ModelNotFound
from anyform.contract.hooks import ModelSource, Place, hookimpl
from anyform.kernel.entry import Entry
from anyform.kernel.plugins import Plugins
from anyform.sources import folder as own
from anyform.sources.folder import OwnFolder
from anyform.sources.hub_cache import HubCache
from anyform.sources.library import Library
from anyform.sources.lmstudio_store import LmStudioStore
from anyform.sources.ollama_store import OllamaStore, shown_name
from anyform.sources.shelf import Shelf
from anyform.sources.stores import Stores
from anyform.sources.stores import sources as all_sources
from anyform.testing.gguf import write_llama, write_mmproj
from anyform.testing.store import write_ollama, write_snapshot
from anyform_gguf_llamacpp import plugin as gguf


@pytest.fixture
def plugins() -> Plugins:
    return Plugins.of({"echo": echo, "gguf_llamacpp": gguf})


def library_of(plugins: Plugins, sources: Sequence[ModelSource], order: Sequence[str] = ()) -> Library:
    return Library(Shelf(plugins, sources=sources), order=order)


def weights(folder: Path, **model: Any) -> bytes:
    return write_llama(folder / "written.gguf", **model).read_bytes()


def state_of(folder: Path) -> Mapping[str, tuple[int, int, bytes]]:
    """Every file with its time and content."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_mtime_ns, path.lstat().st_size, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        (("registry.ollama.ai", "library", "qwen3", "0.6b"), "qwen3:0.6b"),
        (("registry.ollama.ai", "someone", "tuned", "latest"), "someone/tuned:latest"),
        (("hf.co", "owner", "repo", "Q4_K_M"), "owner/repo:Q4_K_M"),
        (("models.example", "team", "m", "1"), "models.example/team/m:1"),
    ],
)
def test_ollamas_names_are_as_ollama_shows_them(parts: tuple[str, ...], name: str) -> None:
    assert shown_name(parts) == name


def test_tags_of_one_blob_are_one_model_with_several_names(plugins: Plugins, tmp_path: Path) -> None:
    store, data = tmp_path / "models", weights(tmp_path, seed=1)
    write_ollama(store, "story:latest", data, texts={"license": "MIT"})
    write_ollama(store, "story:0.1m", data)
    write_ollama(store, "hf.co/owner/other:Q8_0", weights(tmp_path, seed=2, quantization="Q8_0"))
    library = library_of(plugins, sources=[OllamaStore(store)])
    assert [entry.name for entry in library.entries()] == ["owner/other:Q8_0", "story:0.1m"]
    for name in ("story", "story:latest", "STORY:0.1m"):
        assert library.find(name).name == "story:0.1m"
    assert library.find("owner/other").name == "owner/other:Q8_0"


def test_a_tag_never_means_another_model(plugins: Plugins, tmp_path: Path) -> None:
    store, data = tmp_path / "models", weights(tmp_path, seed=1)
    write_ollama(store, "stories:260k", data)
    write_ollama(store, "hf.co/bartowski/repo-GGUF:Q8_0", data)
    write_ollama(store, "stories:f16", weights(tmp_path, seed=2))
    library = library_of(plugins, sources=[OllamaStore(store)])
    assert [entry.name for entry in library.entries()] == ["bartowski/repo-GGUF:Q8_0", "stories:f16"]
    with pytest.raises(ModelAmbiguous, match=r"could be stories:260k or stories:f16"):
        library.find("stories")
    with pytest.raises(ModelNotFound, match=r"Nearest: .*stories:f16"):
        library.find("stories:latest")
    for name in ("stories:260k", "stories:260k@ollama", "stories@ollama:260k"):
        assert library.find(name).name == "bartowski/repo-GGUF:Q8_0"


def test_every_model_of_one_name_is_found_by_its_place(plugins: Plugins, tmp_path: Path) -> None:
    cache, home = tmp_path / "hub", tmp_path / "home"
    write_snapshot(cache, "acme/tiny-GGUF", {"tiny-F16.gguf": weights(tmp_path, seed=1)}, revision="a" * 40)
    write_snapshot(cache, "acme/tiny-GGUF", {"tiny-F16.gguf": weights(tmp_path, seed=2)}, revision="b" * 40, ref="v2")
    studio = tmp_path / ".lmstudio/models/acme/tiny-GGUF"
    for folder, seed in ((studio, 3), (home / "acme/own", 4)):
        folder.mkdir(parents=True)
        (folder / "tiny-F16.gguf").write_bytes(weights(tmp_path, seed=seed))
    library = library_of(plugins, sources=[OwnFolder(home), HubCache(cache), LmStudioStore(tmp_path)])
    for name in ("", "@huggingface", "@aaaaaaaa", f"@{'a' * 40}", "@huggingface:F16", ":F16@huggingface"):
        assert library.find(f"acme/tiny-GGUF{name}").name == "acme/tiny-GGUF"
    for name in ("@bbbbbbbb", "@bbbbbbbb:F16"):
        assert library.find(f"acme/tiny-GGUF{name}").name == "acme/tiny-GGUF@bbbbbbbb"
    assert library.find("acme/tiny-GGUF:F16@lmstudio").name == "acme/tiny-GGUF@lmstudio"
    assert library.find("acme/own@anyform").name == "acme/own"
    with pytest.raises(ModelNotFound):
        library.find("acme/own@huggingface")


def test_what_a_store_says_of_a_model_is_kept(plugins: Plugins, tmp_path: Path) -> None:
    store = tmp_path / "models"
    params = {"temperature": 0.5, "stop": ["<|im_end|>"]}
    write_ollama(
        store, "one:1", weights(tmp_path), texts={"template": "{{ .Prompt }}", "license": "MIT"}, params=params
    )
    [entry] = library_of(plugins, sources=[OllamaStore(store)]).entries()
    assert entry.about == {"template": "{{ .Prompt }}", "license": "MIT", "params": params}
    assert entry.source == "ollama"
    assert list(entry.digests) == [entry.match.entry]


def test_a_projector_belongs_to_its_model(plugins: Plugins, tmp_path: Path) -> None:
    store = tmp_path / "models"
    projector = write_mmproj(tmp_path / "mmproj.gguf").read_bytes()
    write_ollama(store, "sees:1", weights(tmp_path, seed=1), projector=projector)
    write_ollama(store, "blind:1", weights(tmp_path, seed=2))
    entries = {entry.name: entry for entry in library_of(plugins, sources=[OllamaStore(store)]).entries()}
    assert len(entries["sees:1"].match.files) == 2
    assert len(entries["blind:1"].match.files) == 1
    assert entries["sees:1"].files().files.keys() == set(entries["sees:1"].match.files)


@pytest.mark.parametrize(
    "manifest",
    [
        "",
        "[]",
        "{}",
        '{"layers": 3}',
        '{"layers": [{"mediaType": 1}]}',
        '{"layers": [{"mediaType": "a", "digest": "../b"}]}',
    ],
)
def test_a_damaged_manifest_costs_only_itself(plugins: Plugins, tmp_path: Path, manifest: str) -> None:
    store = tmp_path / "models"
    write_ollama(store, "sound:1", weights(tmp_path))
    write_ollama(store, "damaged:1", weights(tmp_path, seed=3)).write_text(manifest)
    assert [entry.name for entry in library_of(plugins, sources=[OllamaStore(store)]).entries()] == ["sound:1"]


def test_a_model_with_an_adapter_is_not_taken_for_its_base(plugins: Plugins, tmp_path: Path) -> None:
    store, data = tmp_path / "models", weights(tmp_path)
    write_ollama(store, "base:1", data)
    write_ollama(store, "tuned:1", data, texts={"adapter": "GGUF of an adapter"})
    [entry] = library_of(plugins, sources=[OllamaStore(store)]).entries()
    assert (entry.name, entry.aliases) == ("base:1", ())


def test_a_manifest_without_its_blob_is_no_model(plugins: Plugins, tmp_path: Path) -> None:
    store = tmp_path / "models"
    write_ollama(store, "gone:1", weights(tmp_path))
    for blob in (store / "blobs").iterdir():
        blob.unlink()
    assert library_of(plugins, sources=[OllamaStore(store)]).entries() == ()


def test_the_hub_cache_is_read_by_repository_and_quantization(plugins: Plugins, tmp_path: Path) -> None:
    cache = tmp_path / "hub"
    files = {f"m-{q}.gguf": weights(tmp_path, quantization=q) for q in ("F16", "Q8_0")}
    snapshot = write_snapshot(cache, "owner/repo", {**files, "README.md": b"# m"})
    library = library_of(plugins, sources=[HubCache(cache)], order=("Q8_0", "F16"))
    assert [entry.name for entry in library.entries()] == ["owner/repo:F16", "owner/repo:Q8_0"]
    for name in ("owner/repo", "hf.co/owner/repo", "https://huggingface.co/owner/repo", "repo", "m-Q8_0", "repo:q8_0"):
        assert library.find(name).name == "owner/repo:Q8_0"
    entry = library.find("hf.co/owner/repo:F16")
    assert entry.path == str(snapshot)
    assert entry.digests["m-F16.gguf"] == (snapshot / "m-F16.gguf").resolve().name
    assert library.choice("owner/repo") == "no variant was named: Q8_0 is taken, of Q8_0, F16"
    assert library.choice("owner/repo:F16") == ""


def test_an_older_snapshot_adds_what_the_newer_has_not(plugins: Plugins, tmp_path: Path) -> None:
    cache, old, new = tmp_path / "hub", "a" * 40, "b" * 40
    first = {f"m-{q}.gguf": weights(tmp_path, seed=1, quantization=q) for q in ("F16", "Q8_0")}
    write_snapshot(cache, "owner/repo", first, revision=old, ref="")
    second = {"m-F16.gguf": weights(tmp_path, seed=2, quantization="F16")}
    write_snapshot(cache, "owner/repo", second, revision=new)
    names = [entry.name for entry in library_of(plugins, sources=[HubCache(cache)]).entries()]
    assert names == ["owner/repo:F16", "owner/repo:F16@aaaaaaaa", "owner/repo:Q8_0"]


def test_lm_studios_folders_are_searched(plugins: Plugins, tmp_path: Path) -> None:
    elsewhere = tmp_path / "disk" / "lms"
    home = tmp_path / "disk" / "home"
    home.mkdir(parents=True)
    (tmp_path / ".lmstudio-home-pointer").write_text(f"{home}\n")
    (home / "settings.json").write_text(json.dumps({"downloadsFolder": str(elsewhere)}))
    for root, repository in (
        (elsewhere, "new/a"),
        (home / "models", "mid/b"),
        (tmp_path / ".cache/lm-studio/models", "old/c"),
    ):
        (root / repository).mkdir(parents=True)
        write_llama(root / repository / "m.gguf", seed=len(repository) + ord(repository[-1]))
    names = [entry.name for entry in library_of(plugins, sources=[LmStudioStore(tmp_path)]).entries()]
    assert names == ["mid/b", "new/a", "old/c"]


def test_the_own_folder_hides_what_is_not_complete(plugins: Plugins, tmp_path: Path) -> None:
    folder = own.repository_folder(tmp_path, "owner/repo")
    folder.mkdir(parents=True)
    (tmp_path / "by" / "hand").mkdir(parents=True)
    write_llama(tmp_path / "by" / "hand" / "m.gguf", seed=9)
    for name in ("done-F16.gguf", "coming-Q8_0.gguf", "coming.gguf.part"):
        write_llama(folder / name)
    stat = (folder / "done-F16.gguf").stat()
    done = {"size": stat.st_size, "sha256": "f" * 64, "mtime_ns": stat.st_mtime_ns, "complete": True}
    files = {"done-F16.gguf": done, "coming-Q8_0.gguf": {"size": 1, "sha256": "e" * 64, "complete": False}}
    own.write_record(folder, {"repository": "owner/repo", "revision": "1" * 40, "time": 0, "files": files})
    library = library_of(plugins, sources=[own.OwnFolder(tmp_path)])
    assert [entry.name for entry in library.entries()] == ["by/hand", "owner/repo"]
    entry = library.find("owner/repo")
    assert entry.match.files == ("done-F16.gguf",)
    assert entry.digests == {"done-F16.gguf": "f" * 64}
    assert entry.places[0].revision == "1" * 40
    own.write_record(folder, {"files": {name: {"complete": False} for name in ("done-F16.gguf", "coming-Q8_0.gguf")}})
    assert [entry.name for entry in library_of(plugins, sources=[own.OwnFolder(tmp_path)]).entries()] == ["by/hand"]


@pytest.mark.parametrize("name", ["repo", "a/b/c", "../b", "a/..", "a/.hidden", "/b", "a\\b/c", "C:/x", ""])
def test_a_repositorys_folder_lies_below_the_own_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(Invalid):
        own.repository_folder(tmp_path, name)


def test_absent_stores_have_no_models(plugins: Plugins, tmp_path: Path) -> None:
    stores = Stores(home=tmp_path / "a", hub_cache=tmp_path / "b", user=tmp_path / "c", ollama=(tmp_path / "d",))
    sources = all_sources(stores)
    assert [source.name for source in sources] == ["anyform", "huggingface", "lmstudio", "ollama"]
    assert library_of(plugins, sources=sources).entries() == ()


def test_only_the_sources_that_are_wanted_are_asked_in_their_order(tmp_path: Path) -> None:
    names = ("ollama", "plugins", "anyform")
    stores = Stores(home=tmp_path, hub_cache=tmp_path, user=tmp_path, ollama=(tmp_path,), names=names)
    brought: list[ModelSource] = [Samples(tmp_path), Failing()]
    assert [source.name for source in all_sources(stores, brought)] == ["ollama", "samples", "failing", "anyform"]
    assert [s.name for s in all_sources(replace(stores, names=("failing",)), brought)] == ["failing"]
    with pytest.raises(Invalid, match=r"no source 'olama' of models\. Known: plugins, .*ollama, samples, failing"):
        all_sources(replace(stores, names=("olama",)), brought)


def test_the_same_bytes_in_all_stores_are_one_entry(plugins: Plugins, tmp_path: Path) -> None:
    data, other = weights(tmp_path, seed=1), weights(tmp_path, seed=2)
    write_snapshot(tmp_path / "hub", "owner/repo", {"m-F16.gguf": data})
    write_ollama(tmp_path / "ollama", "m:1", data)
    write_ollama(tmp_path / "ollama", "n:1", other)
    for root, name in ((tmp_path / "user/.lmstudio/models", "owner/repo"), (tmp_path / "own", "owner/mine")):
        (root / name).mkdir(parents=True)
        (root / name / "m-F16.gguf").write_bytes(data)
    stores = Stores(
        home=tmp_path / "own", hub_cache=tmp_path / "hub", user=tmp_path / "user", ollama=(tmp_path / "ollama",)
    )
    before = state_of(tmp_path)
    library = library_of(plugins, sources=all_sources(stores))
    assert [entry.name for entry in library.entries()] == ["n:1", "owner/mine"]
    entry = library.find("owner/mine")
    assert [spot.source for spot in entry.places] == ["anyform", "huggingface", "lmstudio", "ollama"]
    assert {library.find(name).name for name in ("m:1", "owner/repo", "owner/repo:F16", "m-F16")} == {"owner/mine"}
    assert state_of(tmp_path) == before


def test_models_of_one_size_with_other_bytes_stay_apart(plugins: Plugins, tmp_path: Path) -> None:
    """Two trainings of one architecture: same keys, same size, and here just one weight that differs."""
    data = bytearray(weights(tmp_path, layers=40))
    write_ollama(tmp_path / "ollama", "m:1", bytes(data))
    folder = tmp_path / "user/.lmstudio/models/owner/tuned"
    folder.mkdir(parents=True)
    data[-len(data) // 3 :: 700] = bytes(255 - byte for byte in data[-len(data) // 3 :: 700])
    (folder / "m.gguf").write_bytes(data)
    stores = Stores(home=tmp_path / "own", user=tmp_path / "user", ollama=(tmp_path / "ollama",))
    assert [e.name for e in library_of(plugins, sources=all_sources(stores)).entries()] == ["m:1", "owner/tuned"]


class Failing:
    """A source whose store is in a state that its author did not foresee."""

    name = "failing"

    def find(self) -> Iterator[Place]:
        yield Place(path=Path("nowhere"), name="x")
        raise ValueError("a bad store")


def test_a_source_that_fails_costs_only_its_own(plugins: Plugins, tmp_path: Path) -> None:
    write_ollama(tmp_path, "sound:1", weights(tmp_path))
    library = library_of(plugins, sources=[Failing(), OllamaStore(tmp_path)])
    assert [entry.name for entry in library.entries()] == ["sound:1"]
    [trouble] = library.shelf.troubles
    assert "failing" in trouble
    assert "a bad store" in trouble


class Confused:
    """A plugin whose author did not read the contract."""

    ANYFORM_CONTRACT = 1
    name = "confused"

    @hookimpl
    def list_sources(self) -> list[Any]:
        return ["~/models", self]

    def find(self) -> list[Any]:
        return [Path("m.gguf")]


def test_a_plugin_that_brings_something_else_is_told(tmp_path: Path) -> None:
    write_llama(tmp_path / "m" / "m.gguf")
    plugins = Plugins.of({"confused": Confused(), "gguf_llamacpp": gguf})
    with closing(start(plugins=plugins, stores=Stores(home=tmp_path))) as runtime:
        assert runtime.names() == ["m"]
        [trouble] = runtime.library.shelf.troubles
    assert "m.gguf') is no Place" in trouble
    assert "'~/models' is no source" in plugins.failures[0].message


def test_one_name_in_two_sources_is_told_apart(plugins: Plugins, tmp_path: Path) -> None:
    write_snapshot(tmp_path / "hub", "owner/repo", {"m-F16.gguf": weights(tmp_path, seed=1)})
    folder = tmp_path / "own/owner/repo"
    folder.mkdir(parents=True)
    (folder / "m-F16.gguf").write_bytes(weights(tmp_path, seed=2))
    stores = Stores(home=tmp_path / "own", hub_cache=tmp_path / "hub")
    entries: list[Entry] = list(library_of(plugins, sources=all_sources(stores)).entries())
    assert [(entry.name, entry.source) for entry in entries] == [
        ("owner/repo", "anyform"),
        ("owner/repo@huggingface", "huggingface"),
    ]


def test_a_later_store_may_decide_what_a_name_means(plugins: Plugins, tmp_path: Path) -> None:
    """So a name is looked up in all of them, also where the first one has it."""
    folder = tmp_path / "own/owner/repo"
    folder.mkdir(parents=True)
    (folder / "m-F16.gguf").write_bytes(weights(tmp_path, seed=1))
    write_snapshot(tmp_path / "hub", "owner/repo", {"m-Q8_0.gguf": weights(tmp_path, seed=2, quantization="Q8_0")})
    write_snapshot(tmp_path / "hub", "other/repo", {"n-F16.gguf": weights(tmp_path, seed=3)})
    mine, cache = own.OwnFolder(tmp_path / "own"), HubCache(tmp_path / "hub")
    alone = library_of(plugins, [mine], order=("Q8_0", "F16"))
    both = library_of(plugins, [mine, cache], order=("Q8_0", "F16"))
    assert (alone.find("owner/repo").source, both.find("owner/repo").source) == ("anyform", "huggingface")
    assert alone.find("repo").name == "owner/repo"
    with pytest.raises(ModelAmbiguous, match="other/repo"):
        both.find("repo")


class Samples:
    """A package that brings models along."""

    ANYFORM_CONTRACT = 1
    name = "samples"

    def __init__(self, data: Path) -> None:
        self.data = data

    @hookimpl
    def list_sources(self) -> list[ModelSource]:
        return [self]

    def find(self) -> Iterator[Place]:
        yield Place(path=self.data / "sample.gguf", name="sample")
        yield Place(path=self.data / "embed", name="sample-embed")


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        (("plugins",), ["sample", "sample-embed"]),
        (("samples", "ollama"), ["sample", "sample-embed"]),
        (("anyform",), ["sample"]),
        ((), []),
    ],
)
def test_a_plugin_brings_models_under_its_names(tmp_path: Path, sources: tuple[str, ...], expected: list[str]) -> None:
    for file in ("data/sample.gguf", "data/embed/model.gguf", "home/sample/m.gguf"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        write_llama(tmp_path / file, seed=len(file))
    plugins = Plugins.of({"gguf_llamacpp": gguf, "samples": Samples(tmp_path / "data")})
    with closing(start(plugins=plugins, stores=Stores(home=tmp_path / "home", names=sources))) as runtime:
        assert runtime.names() == expected
        for name in expected if "anyform" not in sources else ():
            assert runtime.find(f"{name}@samples").name == name
    with closing(start(plugins=plugins)) as runtime:
        assert runtime.names() == []
