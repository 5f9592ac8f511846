"""What is known of diffusers without importing it is so: classes, names of files, families, defaults."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from anyform.kernel.files import FolderFiles
from anyform_diffusers import family, known, layout, metadata, plugin

pytest.importorskip("diffusers")
pytestmark = pytest.mark.engine


def test_classes_are_there() -> None:
    import diffusers

    if not diffusers.__version__.startswith(known.VERSION):
        pytest.skip(f"the tables are those of {known.VERSION}")
    named = {name for names in diffusers._import_structure.values() for name in names}
    for table in (known.PIPELINES, known.MODELS, known.SCHEDULERS):
        assert table <= named
    assert {name for name in named if name.endswith("Scheduler")} <= known.SCHEDULERS
    for library, name in known.PARTS:
        assert hasattr(diffusers.pipelines, library), name


def test_what_is_run_is_what_auto_pipelines_link() -> None:
    """Each can be told of its steps; what varies pictures has a strength."""
    from diffusers.pipelines import auto_pipeline as auto

    texts = {kind.__name__: name for name, kind in auto.AUTO_TEXT2IMAGE_PIPELINES_MAPPING.items()}
    pictures, masks = auto.AUTO_IMAGE2IMAGE_PIPELINES_MAPPING, auto.AUTO_INPAINT_PIPELINES_MAPPING
    for pipeline in family.runnable():
        if "Img2Img" in pipeline or "Inpaint" in pipeline or pipeline == "FluxFillPipeline":
            continue
        linked = texts[pipeline]
        takes = inspect.signature(auto.AUTO_TEXT2IMAGE_PIPELINES_MAPPING[linked].__call__).parameters
        assert {"prompt", "callback_on_step_end", "width"} <= set(takes), pipeline
        doing = family.tasks(pipeline)
        if "vary_image" in doing:
            assert "strength" in inspect.signature(pictures[linked].__call__).parameters, pipeline
        if "edit_image" in doing:
            assert linked in masks, pipeline


def test_steps_and_guidance_are_the_pipelines_own() -> None:
    import diffusers

    kinds = {"sd": "StableDiffusionPipeline", "sdxl": "StableDiffusionXLPipeline"}
    kinds |= {"sd3": "StableDiffusion3Pipeline", "flux": "FluxPipeline", "lcm": "LatentConsistencyModelPipeline"}
    for name, pipeline in kinds.items():
        takes = inspect.signature(getattr(diffusers, pipeline).__call__).parameters
        assert takes["num_inference_steps"].default == metadata.STEPS[name]
        assert takes["guidance_scale"].default == metadata.GUIDANCE.get(name, takes["guidance_scale"].default)


@pytest.mark.parametrize("name", ["sd", "sdxl", "sd3", "flux"])
def test_sizes_and_parts_are_what_the_pipeline_has(gallery: Any, name: str) -> None:
    folder = gallery.folder(name)
    files = FolderFiles(folder)
    [match] = plugin.detect_format(files)
    assert plugin.validate(files, match) == []
    told = plugin.extract_metadata(files, match)
    pipe = gallery.direct(name)
    parts = {part: one for part, one in pipe.components.items() if one is not None}
    assert set(told.extra["components"]) == set(parts)
    held = [tensor for one in parts.values() if hasattr(one, "state_dict") for tensor in one.state_dict().values()]
    assert told.parameters == sum({tensor.data_ptr(): tensor.numel() for tensor in held}.values())
    latent = pipe.default_sample_size if name != "sd" else pipe.unet.config.sample_size
    assert told.extra["width"] == latent * pipe.vae_scale_factor
    assert told.extra["scheduler"] == type(pipe.scheduler).__name__


@pytest.mark.parametrize(
    "how", [{"variant": "fp16"}, {"max_shard_size": "100KB"}, {"variant": "bf16", "max_shard_size": "100KB"}]
)
def test_files_are_found_as_diffusers_writes_them(tmp_path: Path, tiny_pipe: Any, how: dict[str, Any]) -> None:
    tiny_pipe("flux").save_pretrained(tmp_path, **how)
    files = FolderFiles(tmp_path)
    [match] = plugin.detect_format(files)
    assert set(match.files) == {
        name for name in files.files if name.rpartition("/")[2] in layout.BESIDE or "model" in name
    }
    assert plugin.validate(files, match) == []
    assert plugin.extract_metadata(files, match).extra.get("file_variant", "") == how.get("variant", "")
