"""LoRAs: as diffusers itself applies them while they are chosen, and as if they were not there while they are not."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("diffusers")
pytest.importorskip("torch")
pytest.importorskip("peft")

from anyform.contract.errors import Invalid, LoadFailed

pytestmark = pytest.mark.engine
FAMILIES = ("sd", "sdxl", "sd3", "flux")
SEED, SIDE, STEPS = 7, 32, 3
TARGETS = {"network": ["to_q", "to_k", "to_v", "to_out.0"], "text_encoder": ["q_proj", "k_proj", "v_proj", "out_proj"]}


def fresh(gallery: Any, family: str) -> Any:
    """A pipeline of diffusers that no other test sees."""
    import diffusers

    pipe = diffusers.AutoPipelineForText2Image.from_pretrained(gallery.folder(family), local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def add_on(gallery: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A LoRA for a family, as peft makes it and diffusers saves it; other *seed*, other one."""
    home = tmp_path_factory.mktemp("loras")

    def made(family: str, seed: int = 0, parts: tuple[str, ...] = ("network", "text_encoder")) -> Path:
        import torch
        from peft import LoraConfig, get_peft_model_state_dict

        file = home / f"{family}-{seed}-{'-'.join(parts)}.safetensors"
        if file.is_file():
            return file
        pipe, layers = fresh(gallery, family), {}
        network = "unet" if hasattr(pipe, "unet") else "transformer"
        torch.manual_seed(seed)
        for part in parts:
            name = network if part == "network" else part
            module = getattr(pipe, name)
            config = LoraConfig(r=4, lora_alpha=4, target_modules=TARGETS[part], init_lora_weights=False)
            module.add_adapter(config, adapter_name="made")
            layers[f"{name}_lora_layers"] = get_peft_model_state_dict(module, adapter_name="made")
        type(pipe).save_lora_weights(home, weight_name=file.name, **layers)
        return file

    return made


@pytest.fixture(scope="module")
def painters(kit: Any, gallery: Any, add_on: Any) -> Callable[[str], Any]:
    """A painter with two add-ons: `sketch` and `water.colour v1.1`."""

    @functools.cache
    def made(family: str) -> Any:
        loras = {"sketch": str(add_on(family)), "water.colour v1.1": str(add_on(family, 1))}
        return kit.painter(gallery.folder(family), loras=loras)

    return made


def painted(kit: Any, painter: Any, *loras: tuple[str, float], **fields: Any) -> Any:
    return kit.paint(painter, SEED, loras=loras, width=SIDE, height=SIDE, steps=STEPS, **fields)


def direct(kit: Any, pipe: Any, **fields: Any) -> Any:
    import torch

    seeded = torch.Generator("cpu").manual_seed(SEED)
    asked = {"prompt": "a red cat", "num_inference_steps": STEPS, "width": SIDE, "height": SIDE, "output_type": "pil"}
    return pipe(**{**asked, **fields}, generator=seeded).images[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_it_paints_what_diffusers_paints(kit: Any, gallery: Any, add_on: Any, painters: Any, family: str) -> None:
    painter, plain = painters(family), painted(kit, gallery.painter(family))
    assert painter.facts.loras == ("sketch", "water.colour v1.1")
    pipe = fresh(gallery, family)
    for name, seed in (("one", 0), ("two", 1)):
        file = add_on(family, seed)
        pipe.load_lora_weights(file.parent, weight_name=file.name, adapter_name=name)
    pipe.set_adapters(["one"], [0.8])
    alone = painted(kit, painter, ("sketch", 0.8))
    assert kit.same(alone, direct(kit, pipe))
    assert not kit.same(alone, plain)
    assert kit.same(painted(kit, painter), plain), "a picture without any is the model's own"
    pipe.set_adapters(["one", "two"], [0.8, -1.5])
    both = painted(kit, painter, ("sketch", 0.8), ("water.colour v1.1", -1.5))
    assert kit.same(both, direct(kit, pipe))
    assert kit.same(painted(kit, painter, ("sketch", 0.8)), alone), "the other is gone again"


def test_all_kinds_share_it(kit: Any, gallery: Any, add_on: Any, painters: Any) -> None:
    import diffusers

    pipe, file = fresh(gallery, "sd"), add_on("sd")
    pipe.load_lora_weights(file.parent, weight_name=file.name, adapter_name="one")
    picture, mask = kit.picture(side=SIDE), kit.mask(side=SIDE)
    linked = {
        diffusers.AutoPipelineForImage2Image: ({"picture": picture}, {"image": picture}),
        diffusers.AutoPipelineForInpainting: (
            {"picture": picture, "mask": mask},
            {"image": picture, "mask_image": mask},
        ),
    }
    for kind, (asked, given) in linked.items():
        view = kind.from_pipe(pipe)
        view.set_progress_bar_config(disable=True)
        ours = painted(kit, painters("sd"), ("sketch", 1.0), strength=0.9, **asked)
        assert kit.same(ours, direct(kit, view, strength=0.9, **given))
        without = painted(kit, painters("sd"), strength=0.9, **asked)
        assert not kit.same(ours, without)
        assert kit.same(without, painted(kit, gallery.painter("sd"), strength=0.9, **asked))


def test_a_weight_of_zero_is_as_if_not_chosen(kit: Any, painters: Any) -> None:
    painter = painters("sd")
    assert kit.same(painted(kit, painter, ("sketch", 0.0)), painted(kit, painter))
    other = ("water.colour v1.1", 1.0)
    assert kit.same(painted(kit, painter, ("sketch", 0.0), other), painted(kit, painter, other))


def test_the_words_are_read_otherwise_too(kit: Any, gallery: Any, add_on: Any) -> None:
    """An add-on for the text encoder alone changes the picture."""
    painter = kit.painter(gallery.folder("sd"), loras={"words": str(add_on("sd", 0, ("text_encoder",)))})
    assert not kit.same(painted(kit, painter, ("words", 1.0)), painted(kit, painter))
    painter.free()


def test_what_ends_in_the_middle_leaves_none_active(kit: Any, gallery: Any, painters: Any) -> None:
    painter = painters("sd")

    def ended(done: int, latents: Any) -> None:
        raise KeyboardInterrupt

    wish = kit.wish(loras=(("sketch", 1.0),), width=SIDE, height=SIDE)
    with pytest.raises(KeyboardInterrupt):
        painter.paint(wish, [SEED], ended)
    assert kit.same(painted(kit, painter), painted(kit, gallery.painter("sd")))


def test_none_computes_while_none_is_chosen(painters: Any) -> None:
    from peft.tuners.tuners_utils import BaseTunerLayer

    pipe = painters("sd").pipe
    layers = [layer for part in (pipe.unet, pipe.text_encoder) for layer in part.modules()]
    tuned = [layer for layer in layers if isinstance(layer, BaseTunerLayer)]
    assert tuned
    assert all(layer.disable_adapters for layer in tuned)


@pytest.mark.parametrize(
    ("name", "weight", "said"),
    [
        ("oil", 1.0, "sketch, water.colour v1.1"),
        ("sketch", 10.5, "-10 to 10"),
        ("sketch", -11, "-10 to 10"),
        ("sketch", math.nan, "-10 to 10"),
        ("sketch", math.inf, "-10 to 10"),
    ],
)
def test_what_cannot_be_chosen(painters: Any, name: str, weight: float, said: str) -> None:
    from anyform_diffusers import lora

    with pytest.raises(Invalid, match=said), lora.chosen(painters("sd").pipe, ((name, weight),)):
        pass


def _kohya(name: str) -> str:
    """As kohya's scripts call the layer of a tensor that diffusers calls *name*."""
    part, _, layer = name.partition(".")
    if part == "unet":
        return f"lora_unet_{layer.replace('.', '_')}"
    return f"lora_te_text_model_{layer.replace('.', '_')}"


def _forms() -> dict[str, Callable[[str, str], str]]:
    """Form -> the name of a tensor from its layer's in diffusers and which factor it is."""
    first = {"lora_A": "down", "lora_B": "up"}
    return {
        "kohya": lambda layer, factor: f"{_kohya(layer)}.lora_{first[factor]}.weight",
        "peft": lambda layer, factor: f"{layer}.{factor}.weight",
    }


@pytest.mark.parametrize("form", ["kohya", "peft"])
def test_forms_that_they_are_published_in(
    kit: Any, gallery: Any, add_on: Any, painters: Any, tmp_path: Path, form: str
) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    named, tensors = _forms()[form], {}
    for name, value in load_file(add_on("sd")).items():
        layer, factor = name.removesuffix(".weight").rsplit(".", 1)
        tensors[named(layer, factor)] = value
        if form == "kohya":
            tensors[f"{_kohya(layer)}.alpha"] = torch.tensor(4.0)
    save_file(tensors, tmp_path / "it.safetensors")
    painter = kit.painter(gallery.folder("sd"), loras={"it": str(tmp_path)})
    assert not any("left out" in note for note in painter.notes)
    assert kit.same(painted(kit, painter, ("it", 0.7)), painted(kit, painters("sd"), ("sketch", 0.7)))
    painter.free()


@pytest.mark.parametrize(
    ("family", "other"),
    [("sd", "sdxl"), ("sd", "flux"), ("sdxl", "sd"), ("sdxl", "sd3"), ("sd3", "flux"), ("flux", "sd")],
)
def test_one_of_another_family_is_refused(gallery: Any, add_on: Any, family: str, other: str) -> None:
    from anyform_diffusers import lora

    with pytest.raises(LoadFailed, match=r"LoRA 'sketch' .* does not fit") as failed:
        lora.load(fresh(gallery, family), {"sketch": add_on(other)})
    assert "addon_" not in str(failed.value)
    assert "\n" not in str(failed.value)


def test_layers_that_are_not_there_are_told(gallery: Any, add_on: Any, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from anyform_diffusers import lora

    tensors = load_file(add_on("sd"))
    odd = {
        name.replace("mid_block", "other_block"): value.clone()
        for name, value in tensors.items()
        if "mid_block" in name
    }
    save_file({**tensors, **odd}, tmp_path / "odd.safetensors")
    notes = lora.load(fresh(gallery, "sd"), {"odd": tmp_path / "odd.safetensors"})
    assert [note for note in notes if "8 of its" in note and "left out" in note]


def test_files_that_are_none(gallery: Any, add_on: Any, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    from anyform_diffusers import lora

    pipe = fresh(gallery, "sd")
    (tmp_path / "pickled.pt").write_bytes(b"cos\nsystem\n(S'touch owned'\ntR.")
    (tmp_path / "torn.safetensors").write_bytes(add_on("sd").read_bytes()[:5000])
    save_file({"encoder.conv_in.weight": torch.zeros(1)}, tmp_path / "vae.safetensors")
    for name, kind, said in (
        ("pickled.pt", Invalid, "not a safetensors file"),
        ("gone.safetensors", Invalid, "does not exist"),
        ("", Invalid, "torn.safetensors, vae.safetensors"),
        ("torn.safetensors", LoadFailed, "cannot be read"),
        ("vae.safetensors", LoadFailed, "holds no LoRA"),
    ):
        with pytest.raises(kind, match=said):
            lora.load(pipe, {"it": tmp_path / name})
    with pytest.raises(Invalid, match="empty name"):
        lora.load(pipe, {"": add_on("sd")})
