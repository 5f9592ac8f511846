"""Every scheduler that a family may use really runs, and paints what diffusers itself paints with it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

pytest.importorskip("diffusers")
pytest.importorskip("torch")

from anyform.contract.errors import Invalid
from anyform_diffusers import schedule

pytestmark = pytest.mark.engine
OWN = {
    "sd": "PNDMScheduler",
    "sdxl": "EulerDiscreteScheduler",
    "sd3": "FlowMatchEulerDiscreteScheduler",
    "flux": "FlowMatchEulerDiscreteScheduler",
}
FEW = ("EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler", "LCMScheduler")
KINDS = {"Text2Image": {}, "Image2Image": {"strength": 0.7}, "Inpainting": {"strength": 0.7}}
NEEDED = {("sdxl", "PNDMScheduler"): {"skip_prk_steps": True}}
SEED, SIDE, STEPS = 11, 32, 3


def _all() -> Iterator[Any]:
    """Each scheduler of each family in each kind; of SDXL's pictures and masks a few, the others when there is time."""
    for kind in KINDS:
        for family, own in OWN.items():
            for one in schedule.allowed(own, family):
                slow = family == "sdxl" and kind != "Text2Image" and one not in FEW
                yield pytest.param(kind, family, one, marks=pytest.mark.full if slow else ())


class Direct:
    """diffusers called by hand: a scheduler made from the folder's own configuration each time."""

    def __init__(self, kit: Any, gallery: Any) -> None:
        self._kit, self._gallery = kit, gallery

    def paint(self, family: str, kind: str, scheduler: str, **changes: Any) -> Any:
        import diffusers
        import torch

        pipe = self._gallery.direct(family)
        linked = getattr(diffusers, f"AutoPipelineFor{kind}").from_pipe(pipe)
        linked.set_progress_bar_config(disable=True)
        generator = torch.Generator("cpu").manual_seed(SEED)
        config = getattr(diffusers, OWN[family]).load_config(self._gallery.folder(family), subfolder="scheduler")
        made = getattr(diffusers, scheduler).from_config(config, **NEEDED.get((family, scheduler), {}), **changes)
        if scheduler == "FlowMatchLCMScheduler":  # else its noise is torch's own, which no seed of a request sets
            made.step = partial(made.step, generator=generator)
        linked.scheduler = made
        given: dict[str, Any] = {"width": SIDE, "height": SIDE}
        if kind != "Text2Image":
            given["image"] = self._kit.picture(side=SIDE)
        if kind == "Inpainting":
            given["mask_image"] = self._kit.mask(side=SIDE)
        called = linked(
            prompt="a red cat",
            num_inference_steps=STEPS,
            generator=generator,
            **KINDS[kind],
            **given,
            output_type="pil",
        )
        linked.scheduler = getattr(diffusers, OWN[family]).from_config(config)
        return called.images[0]


@pytest.fixture(scope="module")
def direct(kit: Any, gallery: Any) -> Direct:
    return Direct(kit, gallery)


def _asked(kit: Any, kind: str) -> dict[str, Any]:
    fields: dict[str, Any] = {"width": SIDE, "height": SIDE, "steps": STEPS}
    if kind != "Text2Image":
        fields |= {"picture": kit.picture(side=SIDE), **KINDS[kind]}
    if kind == "Inpainting":
        fields["mask"] = kit.mask(side=SIDE)
    return fields


@pytest.mark.parametrize(("kind", "family", "scheduler"), _all())
def test_it_paints_what_diffusers_paints(
    kit: Any, gallery: Any, direct: Direct, kind: str, family: str, scheduler: str
) -> None:
    ours = kit.paint(gallery.painter(family), SEED, scheduler=scheduler, **_asked(kit, kind))
    assert kit.same(ours, direct.paint(family, kind, scheduler))


@pytest.mark.parametrize(
    ("family", "name", "scheduler", "changes"),
    [
        ("sd", "dpm++_2m_karras", "DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
        ("sd", "DPM++ 2M SDE", "DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
        ("sdxl", "dpmpp_sde", "DPMSolverSinglestepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
        ("sd", "ddim_trailing", "DDIMScheduler", {"timestep_spacing": "trailing"}),
        ("flux", "euler_karras", "FlowMatchEulerDiscreteScheduler", {"use_karras_sigmas": True}),
    ],
)
def test_a_short_name_paints_what_it_stands_for(
    kit: Any, gallery: Any, direct: Direct, family: str, name: str, scheduler: str, changes: dict[str, Any]
) -> None:
    ours = kit.paint(gallery.painter(family), SEED, scheduler=name, **_asked(kit, "Text2Image"))
    assert kit.same(ours, direct.paint(family, "Text2Image", scheduler, **changes))
    assert not kit.same(ours, direct.paint(family, "Text2Image", scheduler)), "the changes change something"


def test_the_table_is_diffusers_own(gallery: Any) -> None:
    """Less what needs a package of its own or a model trained otherwise, and three more that do the same."""
    compatible = {one.__name__ for one in gallery.direct("sd").scheduler.compatibles}
    offered = set(schedule.allowed("PNDMScheduler", "sd"))
    assert compatible - offered <= {"DPMSolverSDEScheduler", "EDMEulerScheduler"}
    assert offered - compatible == {"LCMScheduler", "SASolverScheduler", "TCDScheduler"}


def test_what_it_changes_stays_with_its_request(kit: Any, gallery: Any) -> None:
    """Another's scheduler is neither used nor seen afterwards, and each is made from the model's own configuration."""
    painter = gallery.painter("sd")
    small = _asked(kit, "Text2Image")
    before, config = kit.paint(painter, SEED, **small), dict(painter.pipe.scheduler.config)
    kit.paint(painter, SEED, scheduler="dpm++_2m_sde_karras", **small)
    kit.paint(painter, SEED, scheduler="lcm", **small)
    assert kit.same(kit.paint(painter, SEED, **small), before)
    assert type(painter.pipe.scheduler).__name__ == "PNDMScheduler"
    assert dict(painter.pipe.scheduler.config) == config


@pytest.mark.parametrize("own", ["use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas"])
@pytest.mark.parametrize("form", ["karras", "exponential"])
def test_a_form_takes_the_place_of_the_models_own(own: str, form: str) -> None:
    config = {"_class_name": "EulerDiscreteScheduler", own: True}
    made = schedule.made(config, f"dpm++_2m_{form}", schedule.DISCRETE).config
    told = {name for name in ("karras", "exponential", "beta") if made[f"use_{name}_sigmas"]}
    assert told == {form}


def test_a_configuration_that_a_class_refuses_is_told() -> None:
    config = {"_class_name": "PNDMScheduler", "beta_schedule": "unheard of"}
    with pytest.raises(Invalid, match=r"EulerDiscreteScheduler cannot be made .* unheard of"):
        schedule.made(config, "euler", schedule.DISCRETE)
    schedule.check({"_class_name": "LCMScheduler", "original_inference_steps": "many"}, "", ("LCMScheduler",), 4)


def test_flux_keeps_its_shift_by_size(gallery: Any) -> None:
    config = {**gallery.direct("flux").scheduler.config, "_class_name": OWN["flux"]}
    for name in ("", "lcm", "euler_karras"):
        assert schedule.made(config, name, schedule.allowed(OWN["flux"], "flux")).config.use_dynamic_shifting


@pytest.mark.parametrize("scheduler", ["EulerAncestralDiscreteScheduler", "LCMScheduler", "SASolverScheduler"])
def test_noise_of_each_step_is_of_the_pictures_own_seed(kit: Any, gallery: Any, scheduler: str) -> None:
    import torch

    painter, asked = gallery.painter("sd"), {"scheduler": scheduler, **_asked(kit, "Text2Image")}
    alone = kit.paint(painter, SEED, **asked)
    torch.manual_seed(5)
    assert kit.same(kit.paint(painter, SEED, **asked), alone), "torch's own generator does not matter"
    batch = painter.paint(kit.wish(**asked), [SEED, SEED + 1], kit.nothing)
    assert abs(kit.pixels(batch[0]).astype(int) - kit.pixels(alone)).max() <= 1


def test_flux_lcm_is_of_its_seed_too(kit: Any, gallery: Any) -> None:
    painter = gallery.painter("flux")
    pictures = [
        kit.paint(painter, seed, scheduler="lcm", **_asked(kit, "Text2Image")) for seed in (SEED, SEED, SEED + 1)
    ]
    assert kit.same(*pictures[:2])
    assert not kit.same(*pictures[1:])


@pytest.mark.parametrize("scheduler", schedule.DISCRETE)
def test_models_that_tell_v_can_be_run_with_all(gallery: Any, scheduler: str) -> None:
    """As those of SD 2.1 do, trained to zero signal."""
    import numpy
    import torch
    from diffusers import AutoPipelineForText2Image

    pipe = AutoPipelineForText2Image.from_pipe(gallery.direct("sd"))
    pipe.set_progress_bar_config(disable=True)
    told = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    config = {**pipe.scheduler.config, "_class_name": OWN["sd"], **told}
    pipe.scheduler = schedule.made(config, scheduler)
    assert pipe.scheduler.config.prediction_type == "v_prediction"
    seeded = torch.Generator("cpu").manual_seed(SEED)
    made = pipe("a red cat", num_inference_steps=2, width=SIDE, height=SIDE, generator=seeded, output_type="np").images
    assert numpy.isfinite(made).all()
