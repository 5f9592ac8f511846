"""Of a repository with a pipeline in several precisions, beside single files and exports, one variant comes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from anyform.kernel.plugins import Plugins
from anyform.sources.hub import Hub
from anyform.sources.hublook import look
from anyform.sources.hubname import require
from anyform.sources.hubpull import Pulled
from anyform.sources.library import Library
from anyform.sources.shelf import Shelf
from anyform.testing import painting
from anyform.testing.onnxform import write_graph
from anyform.testing.safetensors import write_json

from .server import LoopbackHub

pytest.importorskip("anyform_diffusers")

Get = Callable[..., Pulled]
SMALL = {
    "model_index.json", "safety_checker/config.json", "scheduler/scheduler_config.json", "text_encoder/config.json",
    "tokenizer/tokenizer.json",
    "tokenizer/tokenizer_config.json", "unet/config.json", "vae/config.json",
}  # fmt: skip


@pytest.fixture(scope="module")
def stable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As Stable Diffusion 1.5's repository is laid out."""
    folder = painting.write_pipeline(tmp_path_factory.mktemp("repositories") / "stable", variants=("", "fp16"))
    for part in ("unet", "vae", "text_encoder"):
        for path in list((folder / part).glob("*.safetensors")):
            path.with_suffix(".bin").write_bytes(b"\x80\x02.")
        (folder / part / "flax_model.msgpack").write_bytes(bytes(64))
        write_graph(folder / part / "model.onnx", "unknown")
    small = painting.unet_shapes(painting.Unet((8, 16), (True, False), (1, 1), 768))
    single = {f"{painting.CORE}{name}": shape for name, shape in small.items()}
    shutil.copy(
        folder / "unet/diffusion_pytorch_model.safetensors", folder / "unet/diffusion_pytorch_model.non_ema.safetensors"
    )
    write_json(folder / "safety_checker/config.json", {"architectures": ["CLIPModel"], "model_type": "clip"})
    painting.write_hollow(folder / "safety_checker/model.safetensors", {"a": (2,)})
    for name in ("v1-5-pruned", "v1-5-pruned-emaonly"):
        painting.write_hollow(folder / f"{name}.safetensors", single)
        (folder / f"{name}.ckpt").write_bytes(b"PK\x03\x04" + bytes(60) + b"model.diffusion_model.")
    (folder / "README.md").write_text("---\nlicense: openrail\n---\n# A model\n")
    (folder / "v1-inference.yaml").write_text("model: {}\n")
    return folder


@pytest.fixture
def stocked(hub: LoopbackHub, stable: Path) -> LoopbackHub:
    return added(hub, "owner/stable", stable)


def added(hub: LoopbackHub, name: str, folder: Path) -> LoopbackHub:
    hub.add(name, {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()})
    return hub


def weights(infix: str = "", other: str = "") -> set[str]:
    """*infix*: of the parts' weights; *other*: of the network's, where that differs."""
    return SMALL | {
        f"text_encoder/model{infix}.safetensors",
        f"unet/diffusion_pytorch_model{other or infix}.safetensors",
        f"vae/diffusion_pytorch_model{infix}.safetensors",
    }


@pytest.mark.parametrize(
    ("asked", "files"),
    [
        ("", weights(".fp16")),
        (":F16", weights(".fp16")),
        (":f32", weights()),
        (":non_ema", weights(other=".non_ema")),
        (":diffusers", weights(".fp16")),
        (":v1-5-pruned-emaonly", {"v1-5-pruned-emaonly.safetensors"}),
        (":diffusion_checkpoint", {"v1-5-pruned.safetensors"}),
    ],
)
def test_one_variant_with_what_it_needs(stocked: LoopbackHub, get: Get, asked: str, files: set[str]) -> None:
    assert set(get(f"owner/stable{asked}").files) == files


def test_what_is_pulled_is_called_what_was_asked_for(
    stocked: LoopbackHub, get: Get, plugins: Plugins, home: Path
) -> None:
    for variant in ("F32", "F16"):
        name = get(f"owner/stable:{variant}").name
        assert name == f"owner/stable:{variant}"
        for called in (name, "owner/stable"):
            entry = Library(Shelf(plugins, folders=[home])).find(called)
            assert (entry.match.format, entry.match.variant) == ("diffusers", variant)


def test_all_of_a_repository_is_one_model_in_variants(stable: Path, plugins: Plugins) -> None:
    """Parts, exports to ONNX and pickles are no models of their own."""
    entries = Library(Shelf(plugins, folders=[stable.parent])).entries()
    assert {entry.path for entry in entries} == {str(stable)}
    assert [entry.name.partition(":")[2] for entry in entries] == [
        "F16",
        "F32",
        "non_ema",
        "v1-5-pruned",
        "v1-5-pruned-emaonly",
    ]
    assert {entry.match.format for entry in entries} == {"diffusers", "diffusion_checkpoint"}
    assert Library(Shelf(plugins, folders=[stable.parent])).find(stable.name).match.variant == "F16"


def test_a_look_at_one_that_is_not_here(stocked: LoopbackHub, plugins: Plugins, home: Path) -> None:
    seen = look(Hub(stocked.endpoint), plugins, home, require("owner/stable"))
    assert seen.name == "owner/stable:F16"
    assert seen.variants == ("F16", "F32", "non_ema", "v1-5-pruned", "v1-5-pruned-emaonly")
    metadata = plugins.ask_one(seen.plugin, "extract_metadata", files=seen.files(), match=seen.match)
    assert (metadata.architecture, metadata.license) == ("sd", "openrail")


def test_shards_of_one_variant(hub: LoopbackHub, get: Get, tmp_path: Path) -> None:
    painting.write_pipeline(tmp_path, "flux", variants=("", "bf16"), shards=2)
    added(hub, "owner/flux", tmp_path)
    fetched = {name for name in get("owner/flux:f32").files if name.startswith("transformer/")}
    assert fetched == {
        "transformer/config.json",
        "transformer/diffusion_pytorch_model.safetensors.index.json",
        "transformer/diffusion_pytorch_model-00001-of-00002.safetensors",
        "transformer/diffusion_pytorch_model-00002-of-00002.safetensors",
    }


def test_an_export_to_onnx_is_fetched_for_nobody_without_a_word(hub: LoopbackHub, get: Get, tmp_path: Path) -> None:
    painting.write_pipeline(tmp_path, _class_name="OnnxStableDiffusionPipeline", unet=["diffusers", "OnnxRuntimeModel"])
    added(hub, "owner/exported", tmp_path)
    assert {"diffusers.unsupported_pipeline", "diffusers.onnx"} <= {one.code for one in get("owner/exported").findings}


def test_an_add_on_is_fetched_and_said_to_be_one(hub: LoopbackHub, get: Get, tmp_path: Path) -> None:
    painting.write_lora(tmp_path / "ink.safetensors", "sdxl", "kohya")
    added(hub, "owner/ink", tmp_path)
    pulled = get("owner/ink")
    assert pulled.files == ("ink.safetensors",)
    [finding] = pulled.findings
    assert "LoRA of rank 8" in finding.text
    assert str(pulled.folder / "ink.safetensors") in finding.text
