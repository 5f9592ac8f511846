"""Pipelines of every kind from folders: what they can be asked for, what is never run, and what they are told to do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("diffusers")
painting = pytest.importorskip("anyform_samples.painting", exc_type=ImportError)

from anyform.contract.errors import Fault, InvalidModel, LoadFailed, Unsupported  # noqa: E402

pytestmark = pytest.mark.engine


def rewritten(source: Path, home: Path, **changes: Any) -> Path:
    """A copy of the folder *source* whose index says something else."""
    made = home / "changed"
    shutil.copytree(source, made)
    index = json.loads((made / "model_index.json").read_text())
    (made / "model_index.json").write_text(json.dumps({**index, **changes}))
    return made


def saved(pipe: Any, folder: Path) -> Path:
    pipe.save_pretrained(folder)
    return folder


def direct(place: Path, kind: str = "Text2Image") -> Any:
    import diffusers

    made = getattr(diffusers, f"AutoPipelineFor{kind}").from_pretrained(place)
    made.set_progress_bar_config(disable=True)
    return made


def generator(seed: int = 7) -> Any:
    import torch

    return torch.Generator("cpu").manual_seed(seed)


def test_a_pipeline_of_another_task_does_all_three(kit: Any, gallery: Any, tmp_path: Path) -> None:
    place = rewritten(gallery.folder("sd"), tmp_path, _class_name="StableDiffusionImg2ImgPipeline")
    painter = kit.painter(place)
    assert len(painter.modes) == 3
    for fields in ({}, {"picture": kit.picture()}, {"picture": kit.picture(), "mask": kit.mask()}):
        assert kit.same(kit.paint(painter, **fields), kit.paint(gallery.painter("sd"), **fields))


def test_an_inpainting_model_repaints_and_nothing_else(kit: Any, tmp_path: Path) -> None:
    import diffusers
    import torch

    pipe = painting.made("sd", tmp_path / "tokenizers")
    config = {**pipe.unet.config, "in_channels": 9}
    torch.manual_seed(1)
    network = diffusers.UNet2DConditionModel.from_config(config).eval()
    parts = {**pipe.components, "unet": network}
    made = diffusers.StableDiffusionInpaintPipeline(**parts, requires_safety_checker=False)
    place = saved(made, tmp_path / "inpainting")
    painter = kit.painter(place)
    assert painter.notes[-2:] == (
        "this model does no pictures from text alone",
        "this model does no pictures from another picture",
    )
    fields = {"picture": kit.picture(), "mask": kit.mask()}
    asked = direct(place, "Inpainting")(
        prompt="a red cat",
        image=kit.picture(),
        mask_image=kit.mask(),
        width=kit.SIDE,
        height=kit.SIDE,
        num_inference_steps=4,
        generator=generator(),
    )
    assert kit.same(kit.paint(painter, **fields), asked.images[0])
    for wish in (kit.wish(), kit.wish(picture=kit.picture())):
        with pytest.raises(Unsupported, match="What it does: repainting what a mask shows"):
            painter.check(wish)


def test_a_safety_checker_stays_and_is_told(kit: Any, gallery: Any, tmp_path: Path) -> None:
    import torch
    from diffusers import StableDiffusionPipeline
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessor

    small = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = CLIPConfig(
        vision_config={**small, "image_size": 30, "patch_size": 15, "projection_dim": 32},
        text_config={**small, "vocab_size": 99, "projection_dim": 32},
        projection_dim=32,
    )
    checker = StableDiffusionSafetyChecker(config)
    parts = painting.made("sd", tmp_path / "tokenizers").components
    parts["feature_extractor"] = CLIPImageProcessor(crop_size={"height": 30, "width": 30}, size={"shortest_edge": 30})
    seen = {}
    for name, limit in (("calm", 2.0), ("strict", -2.0)):
        with torch.no_grad():
            checker.concept_embeds_weights.fill_(limit)
            checker.special_care_embeds_weights.fill_(2.0)
        place = saved(StableDiffusionPipeline(**{**parts, "safety_checker": checker}), tmp_path / name)
        painter = kit.painter(place)
        assert any("safety checker is kept" in note for note in painter.notes)
        seen[name] = kit.paint(painter)
    assert "flagged" not in seen["calm"].info
    assert kit.same(seen["calm"], kit.paint(gallery.painter("sd")))
    assert seen["strict"].info["flagged"]
    assert kit.pixels(seen["strict"]).max() == 0


STRANGE: dict[str, tuple[dict[str, Any], str]] = {
    "a pipeline of its own": ({"_class_name": "EvilPipeline"}, "none of diffusers"),
    "code beside it": ({"_class_name": ["pipeline", "EvilPipeline"]}, "none of diffusers"),
    "no pipeline": ({"_class_name": "UNet2DConditionModel"}, "none of diffusers"),
    "not a name": ({"_class_name": "os.system"}, "none of diffusers"),
    "none at all": ({"_class_name": None}, "none of diffusers"),
    "a part of the standard library": ({"unet": ["subprocess", "Popen"]}, "subprocess.Popen for unet"),
    "a part of its own": ({"unet": ["evil", "UNet"]}, "evil.UNet for unet"),
    "what a pipeline imports": ({"safety_checker": ["pipeline_utils", "DiffusionPipeline"]}, "no part of diffusers"),
    "a pipeline in a pipeline": ({"safety_checker": ["diffusers", "DiffusionPipeline"]}, "a model of its own"),
    "one of blocks": ({"safety_checker": ["diffusers", "ModularPipeline"]}, "a model of its own"),
    "several models": ({"_class_name": "KandinskyV22CombinedPipeline"}, "several models"),
}


@pytest.mark.parametrize("name", STRANGE)
def test_what_an_index_names_is_looked_at_before_it_is_imported(
    kit: Any, gallery: Any, tmp_path: Path, name: str
) -> None:
    from anyform_diffusers import folderloading

    changes, text = STRANGE[name]
    place = rewritten(gallery.folder("sd"), tmp_path, **changes)
    mark = tmp_path / "run"
    for code in ("pipeline.py", "evil.py", "unet/evil.py"):
        (place / code).write_text(f"open({str(mark)!r}, 'w')\n")
    with pytest.raises(Unsupported, match=text):
        folderloading.check(place)
    with pytest.raises(Fault):
        kit.painter(place)
    assert not mark.exists()


def test_kernels_are_neither_fetched_nor_run(kit: Any, gallery: Any, tmp_path: Path) -> None:
    place = rewritten(gallery.folder("sd"), tmp_path)
    config = place / "text_encoder/config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "attn_implementation": "evil/kernel"}))
    with pytest.raises(Unsupported, match="'evil/kernel', which transformers would fetch"):
        kit.painter(place)


@pytest.mark.parametrize("text", ["{", '{"a":' * 100_000])
def test_an_index_that_is_none_is_told(tmp_path: Path, kit: Any, text: str) -> None:
    from anyform_diffusers import folderloading

    (tmp_path / "model_index.json").write_text(text)
    with pytest.raises(InvalidModel, match="cannot be read"):
        folderloading.check(tmp_path)


def test_pickled_weights_are_never_read(kit: Any, gallery: Any, tmp_path: Path) -> None:
    import torch

    plan = kit.plan(gallery.folder("sd"))
    place = rewritten(gallery.folder("sd"), tmp_path)
    weights = place / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save({}, weights.with_suffix(".bin"))
    weights.unlink()
    from anyform_diffusers import folderloading

    with pytest.raises(LoadFailed, match="diffusers could not read sd"):
        folderloading.read(_at(plan, place), "float32")


def test_damaged_weights_are_told(kit: Any, gallery: Any, tmp_path: Path) -> None:
    from anyform_diffusers import folderloading

    plan = kit.plan(gallery.folder("sd"))
    place = rewritten(gallery.folder("sd"), tmp_path)
    (place / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"\x10" * 40)
    with pytest.raises(LoadFailed, match="diffusers could not read sd"):
        folderloading.read(_at(plan, place), "float32")


def _at(plan: Any, place: Path) -> Any:
    from dataclasses import replace

    return replace(plan, path=str(place))


def test_a_variant_is_read_and_widened(kit: Any, tmp_path: Path) -> None:
    import torch

    pipe = painting.made("sdxl", tmp_path / "tokenizers")
    place = tmp_path / "sdxl"
    pipe.to(torch.float16).save_pretrained(place, variant="fp16")
    painter = kit.painter(place)
    assert {part.dtype for part in (painter.pipe.unet, painter.pipe.vae, painter.pipe.text_encoder)} == {torch.float32}
    expected = pipe.to(torch.float32)
    expected.set_progress_bar_config(disable=True)
    asked = expected("a red cat", width=kit.SIDE, height=kit.SIDE, num_inference_steps=4, generator=generator())
    assert kit.same(kit.paint(painter), asked.images[0])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_that_of_diffusers_and_survives_an_end(
    kit: Any, gallery: Any, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SDXL's VAE is put into float32 to decode, also for unfinished pictures; and put back, whatever happens then."""
    import torch

    from anyform_diffusers.painter import Painter

    place = gallery.folder("sdxl")
    pipe, expected = (direct(place).to(getattr(torch, dtype)) for _ in range(2))
    painter = Painter(pipe, gallery.painter("sdxl").facts)
    sizes = {"width": kit.SIDE, "height": kit.SIDE, "num_inference_steps": 1, "guidance_scale": 1.0}
    asked = expected("a red cat", generator=generator(), **sizes)
    shown: list[Any] = []
    quick = {"steps": 1, "guidance": 1.0}  # a CPU is slow at such numbers
    wish = kit.wish(**quick)
    made = painter.paint(wish, [7], lambda done, latents: done and shown.extend(painter.preview(wish, latents)))
    assert kit.same(made[0], asked.images[0])
    assert kit.same(shown[-1], made[0])
    with monkeypatch.context() as patched:
        patched.setattr(painter.pipe.vae, "decode", _full)
        with pytest.raises(Fault, match="there is no memory to paint 1 of 32x32"):
            kit.paint(painter, **quick)
    assert kit.same(kit.paint(painter, **quick), made[0])


def _full(*given: Any, **how: Any) -> Any:
    raise MemoryError("none left")


def test_another_family_is_asked_by_what_its_call_takes(kit: Any, tmp_path: Path) -> None:
    """Of one that this plugin knows nothing of, and that tells of its steps in the old way."""
    import diffusers
    import torch

    torch.manual_seed(0)
    network = diffusers.PixArtTransformer2DModel(
        sample_size=32, num_layers=2, patch_size=2, attention_head_dim=8, num_attention_heads=4, caption_channels=32,
        in_channels=4, cross_attention_dim=32, out_channels=8,
    )  # fmt: skip
    pipe = diffusers.PixArtSigmaPipeline(
        tokenizer=painting._t5_tokenizer(), text_encoder=painting._t5(32), vae=painting._vae(1),
        transformer=network.eval(), scheduler=diffusers.DPMSolverMultistepScheduler(),
    )  # fmt: skip
    place = saved(pipe, tmp_path / "pixart")
    painter = kit.painter(place)
    painter.check(kit.wish())
    counted: list[int] = []
    made = painter.paint(kit.wish(), [7], lambda done, latents: counted.append(done))
    assert counted == [0, 1, 2, 3, 4]
    asked = direct(place)(
        prompt="a red cat", width=kit.SIDE, height=kit.SIDE, num_inference_steps=4, generator=generator()
    )
    assert kit.same(made[0], asked.images[0])
    with pytest.raises(Unsupported, match="What it does: pictures from text alone"):
        painter.check(kit.wish(picture=kit.picture()))


def test_a_guidance_that_a_distilled_model_would_ignore_is_refused(kit: Any, gallery: Any, tmp_path: Path) -> None:
    from anyform_diffusers.painter import Painter

    pipe = painting.made("flux", tmp_path / "tokenizers")
    pipe.transformer.register_to_config(guidance_embeds=False)  # as FLUX.1-schnell
    painter = Painter(pipe, gallery.painter("flux").facts)
    for guidance in (None, 0.0, 1.0):
        painter.check(kit.wish(guidance=guidance))
    with pytest.raises(Unsupported, match=r"guidance is 3\.5, and this model was distilled"):
        painter.check(kit.wish(guidance=3.5))


def test_a_pipeline_that_makes_no_pictures_from_prompts_is_refused(kit: Any) -> None:
    import diffusers

    from anyform_diffusers.painter import Facts, Painter

    network = diffusers.UNet2DModel(
        sample_size=8, block_out_channels=(32,), down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",)
    )
    pipe = diffusers.DDPMPipeline(unet=network, scheduler=diffusers.DDPMScheduler())
    with pytest.raises(Unsupported, match="DDPMPipeline makes no pictures from a prompt"):
        Painter(pipe, Facts(width=8, height=8, unit=8, steps=4, scheduler="DDPMScheduler"))


def test_threads_are_as_asked_in_the_thread_that_paints(kit: Any, gallery: Any) -> None:
    import torch

    painter, before = kit.painter(gallery.folder("flux"), threads=1), torch.get_num_threads()
    try:
        seen: list[int] = []
        torch.set_num_threads(2)
        painter.paint(kit.wish(), [7], lambda done, latents: seen.append(torch.get_num_threads()))
        assert set(seen) == {1}
    finally:
        torch.set_num_threads(before)


def test_offloaded_parts_go_back_when_a_picture_is_ended(kit: Any, gallery: Any) -> None:
    """With the CPU in the part of the accelerator, so that only the hooks are real."""
    from anyform_diffusers.painter import Painter

    pipe = direct(gallery.folder("sdxl"))
    pipe.enable_model_cpu_offload(device="cpu")
    painter = Painter(pipe, gallery.painter("sdxl").facts)
    wish, fields = kit.wish(), {"picture": kit.picture(), "mask": kit.mask()}
    expected = kit.paint(gallery.painter("sdxl"))
    shown: list[Any] = []
    made = painter.paint(wish, [7], lambda done, latents: done and shown.extend(painter.preview(wish, latents)))
    assert kit.same(made[0], expected)
    assert kit.same(shown[-1], expected)
    with pytest.raises(IndexError):
        painter.paint(kit.wish(**fields), [7], lambda done, latents: [0][done])
    assert len(pipe._all_hooks) == 4
    assert {type(part._hf_hook).__name__ for part in (pipe.unet, pipe.vae, pipe.text_encoder)} == {"CpuOffload"}
    assert kit.same(kit.paint(painter, **fields), kit.paint(gallery.painter("sdxl"), **fields))


def test_views_take_no_memory_of_their_own(kit: Any, tmp_path: Path) -> None:
    from anyform_diffusers.painter import Facts, Painter

    pipe = painting.made("sd", tmp_path / "tokenizers", 4)
    weights = sum(one.numel() * one.element_size() for one in pipe.unet.parameters())
    assert weights > 50 << 20
    before = resident_bytes()
    painter = Painter(pipe, Facts(width=64, height=64, unit=8, steps=4, scheduler="PNDMScheduler"))
    assert len(painter.modes) == 3
    assert resident_bytes() - before < weights / 4


def resident_bytes() -> int:
    """Of this process."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("only Linux tells it so")
    return int(statm.read_text().split()[1]) * 4096


@pytest.mark.full
def test_a_compiled_network_paints_the_same(kit: Any, gallery: Any) -> None:
    if not (shutil.which("c++") or shutil.which("g++")):
        pytest.skip("there is no compiler")
    painter = kit.painter(gallery.folder("flux"), compile=True)
    plain, made = (kit.pixels(kit.paint(one)).astype(int) for one in (gallery.painter("flux"), painter))
    assert abs(plain - made).max() <= 2
