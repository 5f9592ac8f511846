"""Single files are told apart by the names and shapes of their tensors, and what shapes tell of configurations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from anyform.contract.facts import Finding, Metadata
from anyform.kernel.files import FolderFiles
from anyform.testing import painting
from anyform_diffusers import plugin


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
