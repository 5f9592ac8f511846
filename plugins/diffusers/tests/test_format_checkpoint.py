"""Single files are told apart by the names and shapes of their tensors, and what shapes tell of configurations."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.facts import Finding, Metadata, Severity
from anyform.kernel.files import FolderFiles
from anyform.pretrained import safetensors
from anyform.testing import painting
from anyform_diffusers import checkpoint, plugin


def read(path: Path) -> tuple[Metadata, list[Finding]]:
    files = FolderFiles(path.parent)
    match = next(one for one in plugin.detect_format(files) if one.entry == path.name)
    assert match.format == "diffusion_checkpoint"
    return plugin.extract_metadata(files, match), plugin.validate(files, match)


@pytest.mark.parametrize(
    ("family", "how", "pipeline", "side", "steps"),
    [
        ("sd", {}, "StableDiffusionPipeline", 512, 50),
        ("sd2", {}, "StableDiffusionPipeline", 768, 50),
        ("sdxl", {}, "StableDiffusionXLPipeline", 1024, 50),
        ("sdxl-refiner", {}, "StableDiffusionXLImg2ImgPipeline", 1024, 50),
        ("sd3", {}, "StableDiffusion3Pipeline", 1024, 28),
        ("flux", {}, "FluxPipeline", 1024, 28),
        ("flux", {"guided": False}, "FluxPipeline", 1024, 4),
        ("sd", {"channels": 9}, "StableDiffusionInpaintPipeline", 512, 50),
    ],
)
@pytest.mark.parametrize("whole", [True, False])
def test_families(
    tmp_path: Path, family: str, how: dict[str, Any], pipeline: str, side: int, steps: int, whole: bool
) -> None:
    """Also where a file holds nothing but the network that is run at each step."""
    path = painting.write_checkpoint(tmp_path / "m.safetensors", family, vae=whole, texts=whole, **how)
    metadata, findings = read(path)
    told = metadata.extra
    assert (metadata.architecture, told["family"], told["pipeline"]) == (family, family, pipeline)
    assert (told["width"], told["height"], told["steps"], told["dtype"]) == (side, side, steps, "F16")
    assert ("missing" in told) is not whole
    assert ("diffusers.missing_parts" in {finding.code for finding in findings}) is not whole
    assert told["repository"] in " ".join(finding.text for finding in findings)
    assert metadata.weight_bytes == sum(part["bytes"] for part in told["components"].values())


def test_networks_without_the_name_that_stands_before_them(tmp_path: Path) -> None:
    """As Black Forest Labs publish Flux."""
    metadata, _ = read(painting.write_hollow(tmp_path / "flux1-dev.safetensors", painting.flux_shapes(), "BF16"))
    assert metadata.architecture == "flux"
    assert metadata.extra["missing"] == ["vae", "text_encoder", "text_encoder_2"]


def test_what_repaints_says_so(tmp_path: Path) -> None:
    metadata, _ = read(painting.write_checkpoint(tmp_path / "m.safetensors", "sd", channels=9))
    assert metadata.tasks == ("edit_image",)
    assert metadata.extra["inpainting"] is True
    assert "inpainting" in metadata.extra["repository"]
    fill = painting.write_hollow(tmp_path / "fill.safetensors", painting.flux_shapes(channels=384))
    assert read(fill)[0].extra["pipeline"] == "FluxFillPipeline"
    refiner = read(painting.write_checkpoint(tmp_path / "r.safetensors", "sdxl-refiner"))[0]
    assert refiner.tasks == ("edit_image", "vary_image")


@pytest.mark.parametrize("family", painting.FAMILIES)
def test_shapes_tell_what_configurations_would(tmp_path: Path, family: str) -> None:
    """The numbers that memory is estimated from are those of the folder form, as far as one file has them."""
    metadata, _ = read(painting.write_checkpoint(tmp_path / "m.safetensors", family))
    folder = FolderFiles(painting.write_pipeline(tmp_path / "folder", family))
    [match] = plugin.detect_format(folder)
    there = plugin.extract_metadata(folder, match).extra["shape"]
    here = metadata.extra["shape"]
    assert here["vae"] == there["vae"]
    unlike = {"depth"} if family.startswith("sd") and family != "sd3" else {"tokens"}
    assert {key: value for key, value in here["denoiser"].items() if key not in unlike} == {
        key: value for key, value in there["denoiser"].items() if key not in unlike
    }
    assert len(here["texts"]) == len(there["texts"])


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        ({"control_model.time_embed.0.weight": (4,)}, "ControlNet"),
        ({"patchify_proj.weight": (4,)}, "videos"),
        ({"model.diffusion_model.head.modulation": (4,)}, "videos"),
        ({"distilled_guidance_layer.in_proj.bias": (4,), **painting.flux_shapes()}, "Chroma"),
        (painting.flux_shapes(channels=128), "edges or depth"),
        (painting.unet_shapes(painting.UNETS["sd"], 8), "InstructPix2Pix"),
        (painting.unet_shapes(painting.UNETS["sd2"], 7), "enlarges"),
        ({**painting.flux_shapes(), "txt_in.weight.quant_state.bitsandbytes__nf4": (4,)}, "bitsandbytes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_others_are_named_and_refused(tmp_path: Path, shapes: dict[str, tuple[int, ...]], said: str) -> None:
    metadata, [finding] = read(painting.write_hollow(tmp_path / "m.safetensors", shapes))
    assert finding.code == "diffusers.unsupported_checkpoint"
    assert said in finding.text
    assert metadata.tasks == ()


def test_a_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    path = painting.write_checkpoint(tmp_path / "m.safetensors", "sd")
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)
    _, [finding] = read(path)
    assert finding.code == "diffusers.truncated"


def test_pickles_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "old.ckpt"
    path.write_bytes(b"PK\x03\x04" + bytes(60) + b"model.diffusion_model.out")
    metadata, [finding] = read(path)
    assert finding.code == "diffusers.pickled"
    assert "never opened" in finding.text
    assert metadata.weight_bytes == path.stat().st_size


def config(folder: Path) -> Path:
    """The small files of a pipeline of Stable Diffusion, without weights."""
    painting.write_pipeline(folder, "sd")
    for file in folder.rglob("*.safetensors"):
        file.unlink()
    return folder


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A Hugging Face cache of this test's own, whoever tells where it is."""
    place = tmp_path / ".cache" / "huggingface" / "hub"
    monkeypatch.setenv("HOME", str(tmp_path))
    with suppress(ImportError):
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(place))
    return place


@pytest.mark.parametrize("installed", [True, False])
def test_a_file_without_configurations_says_so_before_it_is_loaded(
    tmp_path: Path, hub: Path, monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    """Also where nothing of Hugging Face is installed."""
    if not installed:
        monkeypatch.delitem(sys.modules, "huggingface_hub.constants", raising=False)
    path = painting.write_checkpoint(tmp_path / "models" / "m.safetensors", "sd")
    _, (told,) = read(path)
    assert (told.code, told.severity) == ("diffusers.config_elsewhere", Severity.WARNING)
    assert "`hf download stable-diffusion-v1-5/stable-diffusion-v1-5 --include" in told.text
    assert told.text.endswith("`--option config=DIR`.")
    assert len(told.text) < 500
    snapshot = hub / "models--stable-diffusion-v1-5--stable-diffusion-v1-5" / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    config(snapshot)
    assert [finding.severity for finding in read(path)[1]] == [Severity.INFO]


def test_folders_that_would_do_are_named_and_no_others(tmp_path: Path, hub: Path) -> None:
    path = painting.write_checkpoint(tmp_path / "models" / "m.safetensors", "sd")
    for name in ("a", "b", "c", "d", "broken"):
        (path.parent / name).mkdir()
        config(path.parent / name)
    (path.parent / "broken" / "unet" / "config.json").write_text("{")
    _, (told,) = read(path)
    assert "4 folders beside it have configurations that would do" in told.text
    assert f"{path.parent / 'c'} and 1 more: name one of them: `--option config=DIR`." in told.text
    assert "broken" not in told.text
    for name in ("b", "c", "d"):
        (path.parent / name / "model_index.json").unlink()
    assert [finding.severity for finding in read(path)[1]] == [Severity.INFO], "one alone is taken"


@pytest.mark.parametrize(
    ("family", "name", "shape", "repository"),
    [
        ("sdxl", "edm_mean", (1, 4, 1, 1), "playgroundai/playground-v2.5-1024px-aesthetic"),
        ("sd3", "model.diffusion_model.joint_blocks.37.x_block.mlp.fc1.weight", (9728, 2432), "-3.5-large"),
        ("sd3", "model.diffusion_model.pos_embed", (1, 147_456, 1536), "-3.5-medium"),
    ],
)
def test_editions_of_a_family_have_configurations_of_their_own(
    tmp_path: Path, family: str, name: str, shape: tuple[int, ...], repository: str
) -> None:
    """Those that diffusers would fetch: a load looks for them alone."""
    path = painting.write_checkpoint(tmp_path / "m.safetensors", family)
    tensors = [one for one in safetensors.header(FolderFiles(tmp_path), path.name).tensors if one.name != name]
    found = checkpoint.recognise([*tensors, safetensors.Tensor(name, "F16", shape, 0, 0)])
    assert found is not None
    assert found.repository.endswith(repository)
