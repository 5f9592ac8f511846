"""What keeps a pipeline from being loaded is said before anything is: what lacks, what lies, what could harm."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.facts import Finding, Severity
from anyform.kernel.files import FolderFiles
from anyform.testing import painting
from anyform.testing.safetensors import write_json
from anyform_diffusers import family, plugin


def findings(folder: Path) -> list[Finding]:
    files = FolderFiles(folder)
    return [finding for match in plugin.detect_format(files) for finding in plugin.validate(files, match)]


def codes(folder: Path, least: Severity = Severity.WARNING) -> list[str]:
    return [one.code.removeprefix("diffusers.") for one in findings(folder) if one.severity >= least]


def change(path: Path, **fields: Any) -> None:
    write_json(path, {**json.loads(path.read_text()), **fields})


@pytest.mark.parametrize("family", painting.FAMILIES)
def test_sound_ones_have_no_findings(tmp_path: Path, family: str) -> None:
    assert findings(painting.write_pipeline(tmp_path, family, variants=("", "fp16"), shards=2)) == []


Damage = Callable[[Path], Any]


def gone(name: str) -> Damage:
    return lambda folder: (folder / name).unlink()


def folder_gone(name: str) -> Damage:
    def damage(folder: Path) -> None:
        for path in (folder / name).iterdir():
            path.unlink()

    return damage


def written(name: str, content: str | bytes) -> Damage:
    data = content if isinstance(content, bytes) else content.encode()
    return lambda folder: (folder / name).write_bytes(data)


UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (folder_gone("vae"), "missing_component"),
        (folder_gone("tokenizer"), "missing_component"),
        (gone(UNET), "missing_weights"),
        (gone("unet/config.json"), "missing_config"),
        (gone("scheduler/scheduler_config.json"), "missing_component"),
        (gone("tokenizer/tokenizer.json"), "missing_file"),
        (lambda folder: (folder / UNET).rename(folder / "unet/model.safetensors"), "missing_weights"),
        (
            lambda folder: (folder / "text_encoder/model.safetensors").rename(
                folder / "text_encoder/pytorch_model.safetensors"
            ),
            "missing_weights",
        ),
        (written(UNET, b""), "truncated"),
        (written(UNET, struct.pack("<Q", 1 << 40) + b"{}"), "header_too_large"),
        (written(UNET, struct.pack("<Q", 2) + b"{}"), "no_tensors"),
        (written(UNET, struct.pack("<Q", 4) + b"null"), "bad_header"),
        (written(UNET, b"version https://git-lfs.github.com/spec/v1\nsize 5\n"), "git_lfs"),
        (written(UNET, b"<!doctype html><html>"), "web_page"),
        (written("unet/config.json", "{"), "bad_json"),
        (written("unet/config.json", "[1]"), "bad_config"),
        (written("scheduler/scheduler_config.json", "7"), "bad_config"),
        (written("unet/config.json", '{"a": "' + "x" * (17 << 20) + '"}'), "too_big"),
        (written("model_index.json", "[" * 100_000), "bad_json"),
        (written("model_index.json", "[]"), "bad_index"),
        (written("model_index.json", "{}"), "bad_index"),
        (written("model_index.json", '{"a": "' + "x" * (17 << 20) + '"}'), "too_big"),
    ],
)
def test_what_lacks_or_is_broken(tmp_path: Path, damage: Damage, code: str) -> None:
    painting.write_pipeline(tmp_path)
    damage(tmp_path)
    assert code in codes(tmp_path, Severity.CRITICAL)


def test_names_that_are_not_looked_for_are_told(tmp_path: Path) -> None:
    painting.write_pipeline(tmp_path)
    (tmp_path / UNET).rename(tmp_path / "unet/weights.safetensors")
    assert "weights.safetensors" in findings(tmp_path)[0].text


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"_class_name": "FutureImagePipeline"}, "unknown_pipeline", "StableDiffusionXL"),
        ({"_class_name": ["pipeline", "MyPipeline"]}, "custom_code", "MyPipeline"),
        ({"_class_name": 7}, "bad_index", "names no pipeline"),
        ({"_class_name": "StableDiffusionControlNetPipeline"}, "unsupported_pipeline", "second picture"),
        ({"_class_name": "FluxControlPipeline"}, "unsupported_pipeline", "second picture"),
        ({"_class_name": "StableVideoDiffusionPipeline"}, "unsupported_pipeline", "videos"),
        ({"_class_name": "WanPipeline"}, "unsupported_pipeline", "videos"),
        ({"_class_name": "LTXPipeline"}, "unsupported_pipeline", "videos"),
        ({"_class_name": "CogVideoXPipeline"}, "unsupported_pipeline", "videos"),
        ({"_class_name": "HunyuanVideoPipeline"}, "unsupported_pipeline", "videos"),
        ({"_class_name": "TextToVideoSDPipeline"}, "unsupported_pipeline", "videos"),
        ({"_class_name": "AnimateDiffPipeline"}, "unsupported_pipeline", "videos"),
        ({"_class_name": "StableAudioPipeline"}, "unsupported_pipeline", "sound"),
        ({"_class_name": "StableDiffusionUpscalePipeline"}, "unsupported_pipeline", "enlarges"),
        ({"_class_name": "StableDiffusionInstructPix2PixPipeline"}, "unsupported_pipeline", "instruction"),
        ({"_class_name": "KandinskyV22PriorPipeline"}, "unsupported_pipeline", "first half"),
        ({"_class_name": "DDPMPipeline"}, "unsupported_pipeline", "without a prompt"),
        ({"_class_name": "OnnxStableDiffusionPipeline"}, "unsupported_pipeline", "ONNX"),
        ({"_class_name": "ORTStableDiffusionPipeline"}, "unsupported_pipeline", "ONNX"),
        ({"_class_name": "FlaxStableDiffusionPipeline"}, "unsupported_pipeline", "JAX"),
        ({"unet": ["diffusers", "OnnxRuntimeModel"]}, "onnx", "safetensors"),
        ({"unet": ["optimum.onnxruntime", "ORTModelUnet"]}, "onnx", "safetensors"),
        ({"unet": ["diffusers", "FlaxUNet2DConditionModel"]}, "flax", "JAX"),
        ({"unet": ["os", "system"]}, "custom_code", "is not run"),
        ({"unet": ["my_unet", "MyUNet"]}, "custom_code", "is not run"),
        ({"unet": ["..", "x"]}, "custom_code", "is not run"),
        ({"unet": ["diffusers", "DiffusionPipeline"]}, "nested_pipeline", "a model of its own"),
        ({"unet": "diffusers"}, "missing_part", "unet"),
        ({"unet": ["diffusers"]}, "bad_index", "no library and class"),
        ({"unet": ["diffusers", 3]}, "bad_index", "no library and class"),
        ({"unet": [None, None]}, "missing_part", "unet"),
        ({"../evil": ["diffusers", "UNet2DConditionModel"]}, "bad_index", "no folder of this one"),
        ({"a/b": ["diffusers", "UNet2DConditionModel"]}, "bad_index", "no folder of this one"),
        ({"/etc": ["transformers", "CLIPTokenizer"]}, "bad_index", "no folder of this one"),
    ],
)
def test_what_cannot_be_run_is_named(tmp_path: Path, changes: dict[str, Any], code: str, said: str) -> None:
    painting.write_pipeline(tmp_path)
    change(tmp_path / "model_index.json", **changes)
    found = [one for one in findings(tmp_path) if one.code == f"diffusers.{code}"]
    assert found
    assert all(one.severity is Severity.CRITICAL for one in found)
    assert said in found[0].text


@pytest.mark.parametrize("count", [10**10, 0, -5, "x", None, True])
def test_a_scheduler_of_more_levels_than_memory_holds(tmp_path: Path, count: Any) -> None:
    painting.write_pipeline(tmp_path)
    change(tmp_path / "scheduler/scheduler_config.json", num_train_timesteps=count)
    assert codes(tmp_path) == ["bad_config"]


def test_a_class_that_is_not_known_may_be_a_later_one(tmp_path: Path) -> None:
    painting.write_pipeline(tmp_path)
    change(
        tmp_path / "model_index.json", unet=["diffusers", "UNet5DModel"], text_encoder=["transformers", "NewTextModel"]
    )
    assert codes(tmp_path) == ["unknown_class", "unknown_class"]
    assert codes(tmp_path, Severity.CRITICAL) == []


def test_families_that_are_not_tested_here_say_so(tmp_path: Path) -> None:
    how = {"transformer": ["diffusers", "SanaTransformer2DModel"], "unet": [None, None]}
    painting.write_pipeline(tmp_path, "sd", _class_name="SanaPipeline", **how)
    [finding] = findings(tmp_path)
    assert (finding.code, finding.severity) == ("diffusers.untried", Severity.INFO)


def test_pickled_parts_are_refused_by_name(tmp_path: Path) -> None:
    painting.write_pipeline(tmp_path, pickled=("unet", "text_encoder"))
    [finding] = findings(tmp_path)
    assert (finding.code, finding.severity) == ("diffusers.pickled", Severity.CRITICAL)
    assert "unet/diffusion_pytorch_model.bin" in finding.text
    assert "text_encoder/pytorch_model.bin" in finding.text


def test_shards(tmp_path: Path) -> None:
    painting.write_pipeline(tmp_path, "flux", shards=3)
    place = tmp_path / "transformer"
    (place / "diffusion_pytorch_model-00002-of-00003.safetensors").unlink()
    assert codes(tmp_path) == ["missing_shard"]
    (place / "diffusion_pytorch_model.safetensors.index.json").unlink()
    assert codes(tmp_path) == ["missing_index", "missing_shard"]


@pytest.mark.parametrize(
    ("mapped", "code"),
    [
        ({"a": "../../../etc/passwd"}, "bad_index"),
        ({"a": "/etc/passwd"}, "bad_index"),
        ({"a": "diffusion_pytorch_model.bin"}, "bad_index"),
        ({"a": 3}, "bad_index"),
        ({}, "bad_index"),
        ({"lost": "diffusion_pytorch_model-00001-of-00002.safetensors"}, "missing_tensor"),
    ],
)
def test_indexes_that_lie(tmp_path: Path, mapped: dict[str, Any], code: str) -> None:
    painting.write_pipeline(tmp_path, "flux", shards=2)
    write_json(tmp_path / "transformer/diffusion_pytorch_model.safetensors.index.json", {"weight_map": mapped})
    [match] = plugin.detect_format(FolderFiles(tmp_path))
    assert not any(".." in name or name.startswith("/") for name in match.files)
    assert code in codes(tmp_path, Severity.CRITICAL)


def test_code_in_the_folder_is_told_and_never_needed(tmp_path: Path) -> None:
    painting.write_pipeline(tmp_path)
    (tmp_path / "pipeline.py").write_text("raise SystemExit")
    [finding] = findings(tmp_path)
    assert (finding.code, finding.severity) == ("diffusers.remote_code", Severity.WARNING)
    (tmp_path / "unet/diffusers.py").write_text("raise SystemExit")
    [finding] = findings(tmp_path)
    assert (finding.code, finding.severity) == ("diffusers.custom_code", Severity.CRITICAL)
    assert "unet/diffusers.py" in finding.text


def test_parts_that_want_code_of_their_own(tmp_path: Path) -> None:
    painting.write_pipeline(tmp_path)
    change(tmp_path / "text_encoder/config.json", auto_map={"AutoModel": "evil.Model"})
    assert codes(tmp_path) == ["remote_code"]


@pytest.mark.parametrize(
    "said",
    [
        {"attn_implementation": "evil/kernel"},
        {"_attn_implementation": "flash_attention_2"},
        {"attn_implementation": {"": "sdpa", "vision_config": "evil/kernel@main:run"}},
        {"text_config": {"attn_implementation": "evil/kernel"}},
    ],
)
def test_kernels_that_would_be_fetched_and_run(tmp_path: Path, said: dict[str, Any]) -> None:
    painting.write_pipeline(tmp_path)
    change(tmp_path / "text_encoder/config.json", **said)
    assert codes(tmp_path) == ["custom_code"]
    change(tmp_path / "text_encoder/config.json", **dict.fromkeys(said, "sdpa"))
    assert codes(tmp_path) == []


def test_every_pipeline_that_is_run_says_what_it_does() -> None:
    for name in family.runnable():
        assert family.family(name)
        assert family.tasks(name)
        assert family.instead(name), "a class of diffusers"
