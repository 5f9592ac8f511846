"""What a pipeline's folder says of itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.facts import Metadata
from anyform.kernel.files import FolderFiles
from anyform.testing import painting
from anyform.testing.safetensors import write_json
from anyform_diffusers import plugin

TASKS = ("image", "edit_image", "vary_image")


def read(folder: Path, variant: str = "") -> Metadata:
    files = FolderFiles(folder)
    match = next(one for one in plugin.detect_format(files) if not variant or one.variant == variant)
    return plugin.extract_metadata(files, match)


def change(path: Path, **fields: Any) -> None:
    write_json(path, {**json.loads(path.read_text()), **fields})


@pytest.mark.parametrize(
    ("family", "side", "unit", "steps", "guidance", "latent"),
    [
        ("sd", 512, 8, 50, 7.5, 4),
        ("sd2", 768, 8, 50, 7.5, 4),
        ("sdxl", 1024, 8, 50, 5.0, 4),
        ("sd3", 1024, 16, 28, 7.0, 16),
        ("flux", 1024, 16, 28, 3.5, 16),
    ],
)
def test_each_family(
    tmp_path: Path, family: str, side: int, unit: int, steps: int, guidance: float, latent: int
) -> None:
    metadata = read(painting.write_pipeline(tmp_path, family))
    told = metadata.extra
    assert (metadata.architecture, told["family"], told["kind"]) == (family, family, "pipeline")
    assert (told["width"], told["height"], told["unit"]) == (side, side, unit)
    assert (told["steps"], told["guidance"], told["latent_channels"]) == (steps, guidance, latent)
    assert told["pipeline"] == painting.CLASSES[family]
    assert told["scheduler"] in told["schedulers"]
    assert metadata.tasks == TASKS
    assert metadata.version == "0.42.1"


def test_parts_have_their_sizes(tmp_path: Path) -> None:
    metadata = read(painting.write_pipeline(tmp_path, variants=("", "fp16")), "F16")
    parts = metadata.extra["components"]
    assert parts["unet"] == {"library": "diffusers", "class": "UNet2DConditionModel", "bytes": 40, "parameters": 20}
    assert parts["tokenizer"] == {"library": "transformers", "class": "CLIPTokenizer"}
    assert "safety_checker" not in parts
    assert (metadata.weight_bytes, metadata.parameters) == (120, 60)
    assert (metadata.quantization, metadata.extra["file_variant"]) == ("F16", "fp16")


def test_shards_are_counted_together(tmp_path: Path) -> None:
    whole = read(painting.write_pipeline(tmp_path, "flux", shards=3))
    assert whole.extra["components"]["transformer"]["parameters"] == 4 * (2 + 3 + 4)


def test_flux_without_guidance_is_schnell(tmp_path: Path) -> None:
    painting.write_pipeline(tmp_path, "flux")
    change(tmp_path / "transformer/config.json", guidance_embeds=False)
    assert (read(tmp_path).extra["steps"], read(tmp_path).extra["guidance"]) == (4, 0.0)


def test_turbo_models_take_few_steps_without_guidance(tmp_path: Path) -> None:
    painting.write_pipeline(tmp_path, "sdxl", scheduler=["diffusers", "EulerAncestralDiscreteScheduler"])
    change(tmp_path / "scheduler/scheduler_config.json", timestep_spacing="trailing")
    assert (read(tmp_path).extra["steps"], read(tmp_path).extra["guidance"]) == (4, 0.0)
    change(tmp_path / "scheduler/scheduler_config.json", prediction_type="v_prediction")
    assert (read(tmp_path).extra["steps"], read(tmp_path).extra["guidance"]) == (50, 5.0)
    change(tmp_path / "scheduler/scheduler_config.json", prediction_type="epsilon", rescale_betas_zero_snr=True)
    assert read(tmp_path).extra["steps"] == 50


def test_a_scheduler_of_consistency_models_takes_few_steps(tmp_path: Path) -> None:
    painting.write_pipeline(tmp_path, "sdxl", scheduler=["diffusers", "LCMScheduler"])
    assert read(tmp_path).extra["steps"] == 8


def test_inpainting_models_repaint(tmp_path: Path) -> None:
    painting.write_pipeline(tmp_path, _class_name="StableDiffusionInpaintPipeline")
    assert read(tmp_path).tasks == TASKS  # the same network can be asked in three ways
    change(tmp_path / "unet/config.json", in_channels=9)
    metadata = read(tmp_path)
    assert (metadata.tasks, metadata.extra["inpainting"]) == (("edit_image",), True)


def test_a_refiner_begins_with_a_picture(tmp_path: Path) -> None:
    how: dict[str, Any] = {"text_encoder": [None, None], "tokenizer": [None, None], "requires_aesthetics_score": True}
    metadata = read(painting.write_pipeline(tmp_path, "sdxl", _class_name="StableDiffusionXLImg2ImgPipeline", **how))
    assert (metadata.architecture, metadata.tasks) == ("sdxl-refiner", ("edit_image", "vary_image"))
    assert len(metadata.extra["schedulers"]) > 5


def test_the_sides_of_a_model_that_is_not_square(tmp_path: Path) -> None:
    painting.write_pipeline(tmp_path)
    change(tmp_path / "unet/config.json", sample_size=[48, 96])
    assert (read(tmp_path).extra["width"], read(tmp_path).extra["height"]) == (768, 384)


def test_the_license_is_the_cards(tmp_path: Path) -> None:
    painting.write_pipeline(tmp_path)
    (tmp_path / "README.md").write_text("---\nlicense: creativeml-openrail-m\n---\n# A model\n")
    assert read(tmp_path).license == "creativeml-openrail-m"
