"""Repositories of RKLLM models: one conversion comes with its technical files, and is found by its short name."""

from __future__ import annotations

import json
import struct
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from anyform.cli import main
from anyform.contract.errors import ModelAmbiguous, ModelNotFound, UnknownFormat
from anyform.kernel.plugins import Plugins
from anyform.sources.hub import Hub
from anyform.sources.hublook import look
from anyform.sources.hubname import require
from anyform.sources.hubpull import Pulled
from anyform.sources.library import Library
from anyform.sources.shelf import Shelf
from anyform.testing import rkllm, rockchip
from anyform.testing.gguf import Tensor, write_llama

from .conftest import Cli
from .server import LoopbackHub

pytest.importorskip("anyform_rkllm")

Get = Callable[..., Pulled]
Technical = Mapping[str, bytes]
SMALL = frozenset({
    "config.json", "generation_config.json", "meta.json", "special_tokens_map.json", "tokenizer.json",
    "tokenizer_config.json",
})  # fmt: skip
"""The technical files of a repository."""
QWEN = "Qwen2.5-0.5B-Instruct"
NAME = f"{QWEN}-rk3588-w8a8-opt-0-hybrid-ratio-0.0"
TWELVE = tuple(
    f"{QWEN}-rk3588-{kind}-opt-{level}-hybrid-ratio-{ratio}.rkllm"
    for kind in ("w8a8", "w8a8_g128")
    for level in (0, 1)
    for ratio in ("0.0", "0.5", "1.0")
)
"""As one public repository has them, each as large as the others."""
BOARDS = (
    f"RK3576/{QWEN}_w4a16_RK3576.rkllm", f"RK3576/{QWEN}_w8a8_RK3576.rkllm", f"RK3588/{QWEN}_w8a8_RK3588.rkllm",
)  # fmt: skip
"""As another has them: a folder a chip, and no technical files."""


@pytest.fixture(scope="module")
def technical(tmp_path_factory: pytest.TempPathFactory) -> Technical:
    """The technical files, and a README, as they are beside a model."""
    folder = rkllm.write_model(tmp_path_factory.mktemp("technical"), "model.rkllm", meta={"quant": "w8a8"})
    (folder / "special_tokens_map.json").write_text('{"eos_token": "<|im_end|>"}')
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".rkllm"}


def models(*names: str) -> dict[str, bytes]:
    """A repository's models, unlike each other, and what nobody needs."""
    found = {name: rkllm.assemble(seed=number) for number, name in enumerate(names)}
    return {**found, ".gitattributes": b"", "LICENSE": b"so"}


def board(folder: Path, chip: str) -> dict[str, Any]:
    """The table [plugin.rkllm] of a machine with that chip, as its kernel and a library look from outside; the library
    is none that could be loaded.
    """
    rockchip.write(folder, rockchip.tree(chip.lower()))
    rockchip.library(folder / "usr/lib/librkllmrt.so")
    return {"root": str(folder)}


@pytest.fixture
def machine(tmp_path: Path) -> Callable[[str], Plugins]:
    """Plugins on a machine with that chip; without one: with no NPU."""

    def made(chip: str = "") -> Plugins:
        root = tmp_path / "root" / (chip or "none")
        root.mkdir(parents=True, exist_ok=True)
        plugins = Plugins.discover()
        plugins.tables = {"rkllm": board(root, chip) if chip else {"root": str(root)}}
        return plugins

    return made


@pytest.fixture
def plugins(machine: Callable[[str], Plugins]) -> Plugins:
    return machine("")


@pytest.fixture
def shelf(plugins: Plugins, home: Path) -> Callable[..., Library]:
    """All that lies in anyform's own folder."""
    from anyform.sources.folder import OwnFolder

    def made(on: Plugins | None = None) -> Library:
        return Library(Shelf(on or plugins, sources=[OwnFolder(home)]))

    return made


@pytest.mark.parametrize(
    ("asked", "chosen"),
    [
        ("", f"{QWEN}-rk3588-w8a8-opt-1-hybrid-ratio-0.0"),
        (":rkllm", f"{QWEN}-rk3588-w8a8-opt-1-hybrid-ratio-0.0"),
        (f":{NAME}", NAME),
        (f":{QWEN.lower()}-rk3588-w8a8_g128-opt-1-hybrid-ratio-0.5", f"{QWEN}-rk3588-w8a8_g128-opt-1-hybrid-ratio-0.5"),
    ],
)
def test_one_conversion_comes_with_its_technical_files(
    hub: LoopbackHub, get: Get, shelf: Callable[..., Library], technical: Technical, asked: str, chosen: str
) -> None:
    weights = json.dumps({"weight_map": {"a": "model-00001-of-00001.safetensors"}}).encode()
    hub.add("owner/many", {**models(*TWELVE), **technical, "model.safetensors.index.json": weights})
    pulled = get(f"owner/many{asked}")
    assert set(pulled.files) == SMALL | {f"{chosen}.rkllm"}
    assert {name for name in hub.served if name.endswith(".rkllm") and hub.served[name] > 32 << 10} <= {
        f"{chosen}.rkllm"
    }
    assert shelf().find(pulled.name).match.entry == f"{chosen}.rkllm"
    for called in (QWEN, QWEN.lower(), f"{QWEN}:latest", chosen, "many", "owner/many", "hf.co/owner/many"):
        assert shelf().find(called).match.entry == f"{chosen}.rkllm", called


def test_a_conversion_is_named_by_what_tells_it_from_the_others(
    hub: LoopbackHub, get: Get, plugins: Plugins, home: Path
) -> None:
    hub.add("owner/many", models(*TWELVE))
    variants = look(Hub(hub.endpoint), plugins, home, require("owner/many")).variants
    assert len({variant.casefold() for variant in variants}) == len(TWELVE)
    assert [variant.startswith("W8A8_G128") for variant in variants] == [False] * 6 + [True] * 6
    for variant in (variants[0], variants[-1], variants[3].lower()):
        [fetched] = [name for name in get(f"owner/many:{variant}").files if name.endswith(".rkllm")]
        assert fetched in TWELVE


@pytest.mark.parametrize(
    ("chip", "default"),
    [
        ("", f"RK3588/{QWEN}_w8a8_RK3588.rkllm"),
        ("RK3588", f"RK3588/{QWEN}_w8a8_RK3588.rkllm"),
        ("RK3576", f"RK3576/{QWEN}_w8a8_RK3576.rkllm"),
    ],
)
def test_on_a_board_the_default_is_one_for_it(
    hub: LoopbackHub,
    get: Get,
    machine: Callable[[str], Plugins],
    shelf: Callable[..., Library],
    chip: str,
    default: str,
) -> None:
    hub.add("owner/boards", models(*BOARDS))
    on = machine(chip)
    pulled = get("owner/boards", plugins=on)
    assert pulled.files == (default,)
    assert shelf(on).find("owner/boards").match.entry == default
    for name in BOARDS:
        get("owner/boards", plugins=on, names=(name,))
    for called in ("owner/boards", "boards", QWEN):
        assert shelf(on).find(called).match.entry == default, called


PUBLIC: Mapping[str, tuple[str, Sequence[str], int]] = {
    "limcheekin/Qwen2.5-0.5B-Instruct-rk3588-1.1.4": (QWEN, [f"{NAME}.rkllm"], 6),
    "punchnox/Tinnyllama-1.1B-rk3588-rkllm-1.1.4": (
        "TinyLlama-1.1B-Chat-v1.0", ["TinyLlama-1.1B-Chat-v1.0-rk3588-w8a8-opt-0-hybrid-ratio-0.5.rkllm"], 6,
    ),
    "ahz-r3v/DeepSeek-R1-Distill-Qwen-7B-rk3588-rkllm-1.1.4": (
        "DeepSeek-R1-Distill-Qwen-7B", ["DeepSeek-R1-Distill-Qwen-7B_W8A8_RK3588_o1.rkllm"], 0,
    ),
    "GatekeeperZA/Qwen3-1.7B-RKLLM-v1.2.3": ("Qwen3-1.7B", ["Qwen3-1.7B-w8a8-rk3588.rkllm"], 6),
    "HanzoHuang/Qwen2.5-1.5B-Instruct-RKLLM": (
        "Qwen2.5-1.5B-Instruct", [name.replace(QWEN, "Qwen2.5-1.5B-Instruct") for name in BOARDS], 0,
    ),
    "HanzoHuang/Qwen3-VL-2B-Instruct-RKLLM": (
        "Qwen3-VL-2B-Instruct",
        ["RK3588/Qwen3-VL-2B-Instruct_RK3588_w8a8.rkllm", "RK3576/Qwen3-VL-2B-Instruct_RK3576_w4a16_g128.rkllm"], 0,
    ),
    "StationPC/Qwen3.5-0.8B-RKLLM-RK3588": ("qwen3.5-0.8b", ["qwen3.5-0.8b_w8a8_rk3588.rkllm"], 6),
    "kautism/DeepSeek-R1-Distill-Qwen-1.5B-RK3588S-RKLLM1.1.4": (
        "DeepSeek-R1-Distill-Qwen-1.5B", ["DeepSeek-R1-Distill-Qwen-1.5B_w8a8_g128_rk3588.rkllm"], 6,
    ),
    "oRKLLM/Qwen3-4B-Base-rk3576-w4a16-grq-v1.2.3-RKLLM": (
        "Qwen3-4B-Base", ["Qwen3-4B-Base-rk3576-w4a16-grq-v1.2.3-RKLLM.rkllm"], 0,
    ),
    "macrae/Llama-3-2-3B-rk3588": ("meta-llama_Llama-3.2-3B", ["meta-llama_Llama-3.2-3B-rk3588.rkllm"], 0),
    "vendor/qwen2.5-vl-3b": ("qwen2.5-vl-3b", ["qwen2.5-vl-3b-w8a8_level1_rk3588.rkllm"], 0),
    "FydeOS/Qwen1.5-0.5B_rkLLM": ("qwen1.5-0.5B", ["qwen1.5-0.5B.rkllm"], 0),
    "kamyarkazemi1373/Qwen3-4B-W8A8-RK3588": ("Qwen3-4B", ["Qwen3-4B-w8a8-npu.rkllm", "Qwen3-4B-w8a8-hybrid.rkllm"], 0),
}  # fmt: skip
"""Repository -> (its model's short name, its files, how many technical files come), in the forms that people use."""


def test_repositories_of_all_public_forms_are_pulled_and_called_by_their_models_names(
    hub: LoopbackHub, get: Get, shelf: Callable[..., Library], technical: Technical
) -> None:
    for repository, (_, names, small) in PUBLIC.items():
        hub.add(repository, {**models(*names), **(technical if small else {})})
        pulled = get(repository)
        assert len(pulled.files) == 1 + small, repository
    library = shelf()
    assert len(library.entries()) == len(PUBLIC) > 12
    for repository, (short, names, _) in PUBLIC.items():
        entry = library.find(short)
        assert entry is library.find(repository), repository
        assert entry is library.find(repository.rpartition("/")[2]), repository
        assert (entry.match.format, entry.match.name) == ("rkllm", short)
        assert entry.match.entry in names
        assert entry.name.startswith(repository)


def test_the_encoder_of_pictures_comes_along(hub: LoopbackHub, get: Get, technical: Technical) -> None:
    names = ("qwen3-vl-2b_w8a8_rk3588.rkllm", "qwen3-vl-2b_w8a8_rk3576.rkllm")
    encoders = {f"qwen3-vl-2b_vision_{chip}.rknn": b"RKNN" + bytes(64) for chip in ("rk3588", "rk3576")}
    hub.add(
        "owner/eyes", {**models(*names), **encoders, **technical, "demo_Linux_aarch64/lib/librkllmrt.so": b"\x7fELF"}
    )
    pulled = get("owner/eyes:qwen3-vl-2b_w8a8_rk3576")
    assert set(pulled.files) == SMALL | {names[1], "qwen3-vl-2b_vision_rk3576.rknn"}


@pytest.fixture
def mixed(hub: LoopbackHub, tmp_path: Path, technical: Technical) -> LoopbackHub:
    """owner/mixed: safetensors and a conversion; owner/quants: GGUFs and a conversion, of one model each."""
    tensor = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    weights = struct.pack("<Q", len(tensor)) + tensor + bytes(8)
    hub.add("owner/mixed", {**models(f"{NAME}.rkllm"), **technical, "model.safetensors": weights})
    ggufs = [write_llama(tmp_path / f"{QWEN}-{kind}.gguf", quantization=kind) for kind in ("Q8_0", "F16")]
    hub.add("owner/quants", models(f"{NAME}.rkllm") | {path.name: path.read_bytes() for path in ggufs})
    return hub


@pytest.mark.parametrize(
    ("asked", "chip", "weights"),
    [
        ("owner/quants", "", f"{QWEN}-Q8_0.gguf"),
        ("owner/quants", "RK3588", f"{NAME}.rkllm"),
        ("owner/quants:F16", "RK3588", f"{QWEN}-F16.gguf"),
        ("owner/quants:rkllm", "", f"{NAME}.rkllm"),
        ("owner/mixed", "", "model.safetensors"),
        ("owner/mixed", "RK3588", f"{NAME}.rkllm"),
        ("owner/mixed:rkllm", "", f"{NAME}.rkllm"),
    ],
)
def test_of_several_forms_the_one_comes_that_runs_here(
    mixed: LoopbackHub, get: Get, machine: Callable[[str], Plugins], asked: str, chip: str, weights: str
) -> None:
    pytest.importorskip("anyform_hf_transformers")
    pytest.importorskip("anyform_gguf_llamacpp")
    large = (".rkllm", ".gguf", ".safetensors")
    fetched = get(asked, plugins=machine(chip)).files
    assert [name for name in fetched if name.endswith(large)] == [weights]


def test_what_there_is_not_is_refused_with_what_there_is(hub: LoopbackHub, get: Get) -> None:
    hub.add("owner/many", models(*TWELVE))
    with pytest.raises(ModelNotFound, match="has no variant 'W4A16'") as caught:
        get("owner/many:W4A16")
    assert "W8A8_G128" in caught.value.hint
    hub.add("owner/cards", {"README.md": b"# later", "config.json": b"{}"})
    with pytest.raises(UnknownFormat, match=r"no installed plugin recognises a model in owner/cards") as unknown:
        get("owner/cards")
    assert "rkllm" in unknown.value.hint
    with pytest.raises(ModelNotFound, match=r"has no file 'other\.rkllm'") as absent:
        get("owner/many", names=("other.rkllm",))
    assert f"{NAME}.rkllm" in absent.value.hint


def test_two_repositories_of_one_model_are_told_apart(
    hub: LoopbackHub, get: Get, shelf: Callable[..., Library], home: Path
) -> None:
    for number, owner in enumerate(("first", "second")):
        hub.add(f"{owner}/{QWEN}-rk3588", {f"{NAME}.rkllm": rkllm.assemble(seed=number, trailer=f"1.2.{number}")})
        get(f"{owner}/{QWEN}-rk3588")
    with pytest.raises(ModelAmbiguous) as caught:
        shelf().find(QWEN)
    assert caught.value.details["candidates"] == [f"first/{QWEN}-rk3588", f"second/{QWEN}-rk3588"]
    assert shelf().find(f"second/{QWEN}-rk3588").path == str(home / "second" / f"{QWEN}-rk3588")


@pytest.mark.parametrize("name", [f"{NAME}.rkllm", f"RK3588/{NAME}.rkllm", "model.rkllm"])
def test_a_folder_that_was_filled_by_hand_is_found(shelf: Callable[..., Library], home: Path, name: str) -> None:
    rkllm.write(home / "me" / "mine" / name)
    [entry] = shelf().entries()
    assert entry.match.entry == Path(name).name
    assert shelf().find("mine" if name == "model.rkllm" else QWEN).name == entry.name
    assert entry.name.startswith("me/mine")
    assert shelf().find(entry.name) is not None


def test_the_whole_life_of_a_model_by_its_short_name(
    hub: LoopbackHub, cli: Cli, tmp_path: Path, technical: Technical,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    repository = f"owner/{QWEN}-rk3588-1.1.4"
    hub.add(repository, {**models(f"{NAME}.rkllm"), **technical})
    settings = tmp_path / "anyform.toml"
    (tmp_path / "root").mkdir()
    settings.write_text(f'[plugin.rkllm]\nroot = "{(tmp_path / "root").as_posix()}"\n')
    for name, value in cli.environment().items():
        monkeypatch.setenv(name, value)

    def told(*arguments: str) -> str:
        """In this process: each of its own would take longer than all else here."""
        assert main([*arguments, "--config", str(settings)]) == 0
        return capsys.readouterr().out

    def said(*arguments: str) -> Any:
        return json.loads(told(*arguments, "--json"))

    pulled = json.loads(cli("pull", repository, "--json", "--config", settings).stdout)
    assert set(pulled["files"]) == SMALL | {f"{NAME}.rkllm"}
    assert Path(pulled["folder"]) == cli.home / repository
    [listed] = said("list")
    assert (listed["name"], listed["format"], listed["runs_on"]) == (repository, "rkllm", None)
    assert (listed["metadata"]["quantization"], listed["size_bytes"]) == ("W8A8", pulled["size_bytes"])
    assert "no Rockchip NPU was found" in listed["fault"]["message"]
    row = told("list").splitlines()[1]
    assert row.startswith(f"{repository}  rkllm   W8A8  ")
    assert "no Rockchip NPU was found" in row
    shown = said("show", QWEN)
    assert shown["path"] == str(cli.home / repository)
    assert set(shown["match"]["files"]) == set(pulled["files"])
    assert said("du")["models"][0]["name"] == repository
    told("verify", QWEN)
    refused = cli("run", QWEN, "hello", "--config", settings)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "no Rockchip NPU was found" in refused.stderr
    told("rm", QWEN, "--yes")
    assert not (cli.home / repository).exists()


def grown(folder: Path, process: subprocess.Popen[str], least: int) -> int:
    """Bytes of the part of a model in *folder* when *process*, which pulls it, was killed: *least* of them or more."""
    while not any(part.stat().st_size >= least for part in folder.rglob(f"{NAME[:40]}*.part")):
        with suppress(subprocess.TimeoutExpired):
            pytest.fail(f"the pull ended with {process.wait(0.02)}")
    process.kill()
    process.wait()
    [part] = folder.rglob(f"{NAME[:40]}*.part")
    return part.stat().st_size


def test_a_pull_that_is_killed_goes_on_and_clean_takes_what_is_left(
    hub: LoopbackHub, cli: Cli, tmp_path: Path, technical: Technical
) -> None:
    mib = 1 << 20
    model = tmp_path / "origin" / f"{NAME}.rkllm"
    rkllm.write(model, tensors=[Tensor("weight", (4096, 1024), rkllm.PACKED, bytes(4 * mib))])
    hub.add("owner/slow", {**technical, model.name: model})
    hub.add("owner/left", {**technical, model.name: model})
    hub.rate, hub.unlimited = mib / 16, 2 * mib
    for repository in ("owner/slow", "owner/left"):
        process = cli.start("pull", repository)
        kept = grown(cli.home / repository, process, mib)
        hub.unlimited += hub.bytes_served
        assert not (cli.home / repository / model.name).exists()
    assert json.loads(cli("list", "--json").stdout) == []
    hub.rate, asked = 0, len(hub.asked(model.name))
    assert cli("pull", "owner/left").returncode == 0
    ranges = {headers.get("range", "") for headers in hub.asked(model.name)[asked:]}
    assert [one for one in ranges if one.endswith("-")] == [f"bytes={kept}-"]
    assert (cli.home / "owner/left" / model.name).read_bytes() == model.read_bytes()
    assert cli("clean", "--yes").returncode == 0
    assert not (cli.home / "owner/slow").exists()
    assert (cli.home / "owner/left" / model.name).exists()


@pytest.mark.parametrize(
    ("chip", "suggested"),
    [("RK3588", "limcheekin/Qwen2.5-0.5B-Instruct-rk3588-1.1.4"), ("RK3576", "HanzoHuang/Qwen2-0.5B-Instruct-RKLLM")],
)
def test_on_a_board_models_for_it_are_suggested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], chip: str, suggested: str
) -> None:
    monkeypatch.setenv("ANYFORM_STATE", str(tmp_path / "state"))
    root = board(tmp_path / "root", chip)["root"]
    settings = tmp_path / "board.toml"
    settings.write_text(f"[plugin.rkllm]\nroot = {json.dumps(root)}\n")
    assert main(["suggest", "--config", str(settings), "--json"]) == 0
    found = {one["name"]: one["backend"] for one in json.loads(capsys.readouterr().out)}
    assert found[suggested] == "rkllm"
    assert "" in found.values()
    (tmp_path / "root/usr/lib/librkllmrt.so").unlink()
    assert main(["suggest", "--config", str(settings)]) == 0
    without = capsys.readouterr()
    assert suggested not in without.out
    assert "more, but cannot be used here: librkllmrt.so is missing" in without.err


def test_every_suggestion_can_be_pulled_by_its_name() -> None:
    from anyform.sources.suggestion import suggestions
    from anyform_rkllm import state
    from anyform_rkllm.board import BOARDS as CHIPS

    counts = {}
    for chip in CHIPS:
        found = suggestions(Path(state.suggestions(chip)))
        counts[chip] = len(found)
        for one in found:
            assert require(one.name)
            assert one.size_bytes > 10**8
            assert one.tasks
            assert one.why
    assert counts["RK3588"] > counts["RK3576"] > 0
    assert state.suggestions("RK3399") == ""
