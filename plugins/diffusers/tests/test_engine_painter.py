"""Painters against diffusers called directly: the same pictures, nothing left behind, nothing ignored or cut."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("diffusers")
painting = pytest.importorskip("anyform_samples.painting", exc_type=ImportError)

from anyform.contract.errors import ContextExceeded, Fault, Invalid, OutOfMemory, Unsupported  # noqa: E402

pytestmark = pytest.mark.engine

KINDS = {"Text2Image": (), "Image2Image": ("picture",), "Inpainting": ("picture", "mask")}
"""Of pipelines, and what a wish for each has."""
ALL = [(family, kind) for family in painting.FAMILIES for kind in KINDS]
SEEDS = (7, 8)


class Stopped(Exception):  # noqa: N818 - what a step raises is its own affair
    """Ends a picture."""


def given(kit: Any, kind: str) -> dict[str, Any]:
    """The pictures that a wish for *kind* has."""
    return {name: getattr(kit, name)() for name in KINDS[kind]}


def called(kit: Any, gallery: Any, family: str, kind: str, seeds: tuple[int, ...] = SEEDS[:1], **more: Any) -> Any:
    """What diffusers itself makes of `kit.wish()`, from a pipeline of its own."""
    import torch

    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    names = {"picture": "image", "mask": "mask_image"}
    sizes = {} if kind == "Image2Image" and family in ("sd", "sdxl") else {"width": kit.SIDE, "height": kit.SIDE}
    pictures = {names[name]: [picture] * len(seeds) for name, picture in given(kit, kind).items()}
    return gallery.direct(family, kind)(
        prompt="a red cat",
        num_inference_steps=4,
        num_images_per_prompt=len(seeds),
        generator=generators if len(seeds) > 1 else generators[0],
        **{**sizes, **pictures, **more},
    ).images


def alike(kit: Any, some: list[Any], others: list[Any]) -> bool:
    """Whether they are as many, and equal one by one."""
    return len(some) == len(others) and all(map(kit.same, some, others))


def farthest(kit: Any, one: Any, other: Any) -> int:
    """By how much the numbers of two pictures differ at most."""
    return int(abs(kit.pixels(one).astype(int) - kit.pixels(other)).max())


@pytest.mark.parametrize(("family", "kind"), ALL)
def test_pictures_are_those_of_diffusers(kit: Any, gallery: Any, family: str, kind: str) -> None:
    painter, wish = gallery.painter(family), kit.wish(**given(kit, kind))
    painter.check(wish)
    steps: list[int] = []
    one = painter.paint(wish, SEEDS[:1], lambda done, latents: steps.append(done))
    assert kit.same(one[0], called(kit, gallery, family, kind)[0])
    assert steps == list(range(painter.steps(wish) + 1))
    two = painter.paint(wish, SEEDS, kit.nothing)
    assert alike(kit, two, called(kit, gallery, family, kind, SEEDS))
    assert farthest(kit, two[0], one[0]) <= 1
    assert farthest(kit, two[1], one[0]) > 20


@pytest.mark.parametrize("family", painting.FAMILIES)
def test_modules_are_in_memory_once(gallery: Any, family: str) -> None:
    import torch

    painter = gallery.painter(family)
    parts = {name: part for name, part in painter.pipe.components.items() if isinstance(part, torch.nn.Module)}
    assert len(painter._views) == 3
    for view in painter._views.values():
        assert {name for name in view.components if view.components[name] is parts.get(name, view)} == set(parts)
        numbers = {
            one.data_ptr() for part in view.components.values() if part in parts.values() for one in part.parameters()
        }
        assert numbers == {one.data_ptr() for part in parts.values() for one in part.parameters()}


@pytest.mark.parametrize(("family", "kind"), ALL)
def test_what_a_step_raises_ends_the_picture_and_nothing_else(kit: Any, gallery: Any, family: str, kind: str) -> None:
    painter, wish = gallery.painter(family), kit.wish(steps=50, strength=None, **given(kit, kind))
    steps: list[int] = []

    def step(done: int, latents: Any) -> None:
        steps.append(done)
        if done == 3:
            raise Stopped

    with pytest.raises(Stopped):
        painter.paint(wish, SEEDS[:1], step)
    assert steps == [0, 1, 2, 3]
    assert kit.same(kit.paint(painter, **given(kit, kind)), called(kit, gallery, family, kind)[0])


def test_main_memory_that_is_too_small_is_told_as_that(kit: Any) -> None:
    import torch

    from anyform_diffusers import painter

    with pytest.raises(RuntimeError) as failed:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert isinstance(painter._fault(failed.value, kit.wish(), 1), OutOfMemory)


@pytest.mark.parametrize(("family", "kind"), ALL)
def test_unfinished_pictures_are_decoded_as_finished_ones_and_disturb_nothing(
    kit: Any, gallery: Any, family: str, kind: str
) -> None:
    painter, wish = gallery.painter(family), kit.wish(**given(kit, kind))
    shown: list[Any] = []
    made = painter.paint(wish, SEEDS, lambda done, latents: done and shown.append(painter.preview(wish, latents)))
    assert [len(pictures) for pictures in shown] == [2] * painter.steps(wish)
    assert alike(kit, shown[-1], made)
    assert alike(kit, made, painter.paint(wish, SEEDS, kit.nothing))


def test_pictures_of_several_wishes_together_are_those_alone(kit: Any, gallery: Any) -> None:
    for family in ("sdxl", "flux"):
        painter = gallery.painter(family)
        wishes = [kit.wish(prompt=text, picture=kit.picture(seed), mask=kit.mask()) for seed, text in enumerate("ab")]
        together = painter.paint(wishes, SEEDS, kit.nothing)
        for wish, seed, picture in zip(wishes, SEEDS, together, strict=True):
            assert farthest(kit, picture, painter.paint(wish, [seed], kit.nothing)[0]) <= 1


def test_negative_prompts_of_several_wishes_stay_with_them(kit: Any, gallery: Any) -> None:
    painter = gallery.painter("sdxl")
    wishes = [kit.wish(prompt=text, negative=other) for text, other in (("a", "a dog"), ("b", "cats"))]
    for wish, picture in zip(wishes, painter.paint(wishes, (7, 7), kit.nothing), strict=True):
        assert farthest(kit, picture, painter.paint(wish, [7], kit.nothing)[0]) <= 1


@pytest.mark.parametrize("family", ["sd", "sdxl", "sd3"])
def test_guidance_negative_prompt_and_strength_are_passed_on(kit: Any, gallery: Any, family: str) -> None:
    painter, fields = gallery.painter(family), given(kit, "Inpainting")
    plain = kit.paint(painter, **fields)
    more = {"negative_prompt": "a dog", "guidance_scale": 3.0, "strength": 0.7}
    asked = kit.paint(painter, negative="a dog", guidance=3.0, strength=0.7, **fields)
    assert kit.same(asked, called(kit, gallery, family, "Inpainting", **more)[0])
    assert not kit.same(asked, plain)


def test_flux_is_guided_by_its_embedding(kit: Any, gallery: Any) -> None:
    asked = kit.paint(gallery.painter("flux"), guidance=9.0)
    assert kit.same(asked, called(kit, gallery, "flux", "Text2Image", guidance_scale=9.0)[0])
    assert not kit.same(asked, kit.paint(gallery.painter("flux")))


@pytest.mark.parametrize(("family", "name"), [("sdxl", "DDIMScheduler"), ("sd", "EulerAncestralDiscreteScheduler")])
def test_a_scheduler_of_a_request_is_its_own(kit: Any, gallery: Any, family: str, name: str) -> None:
    import diffusers

    painter, direct = gallery.painter(family), gallery.direct(family)
    plain, kept = kit.paint(painter), direct.scheduler
    asked = kit.paint(painter, scheduler=name)
    try:
        direct.scheduler = getattr(diffusers, name).from_config(kept.config)
        assert kit.same(asked, called(kit, gallery, family, "Text2Image")[0])
    finally:
        direct.scheduler = kept
    assert kit.same(kit.paint(painter), plain)
    assert painter.pipe.scheduler.num_inference_steps is None  # it was never run


REFUSED = {
    "width": ("sd", {"width": 63}, "width is 63. It must be a multiple of 8, such as 64"),
    "height": ("flux", {"height": 4}, "height is 4. It must be a multiple of"),
    "none": ("sd", {"width": 0}, "width is 0"),
    "steps": ("sd", {"steps": 0}, "steps is 0"),
    "scheduler": (
        "sd",
        {"scheduler": "FlowMatchEulerDiscreteScheduler"},
        "scheduler 'FlowMatchEulerDiscreteScheduler'",
    ),
    "negative, flux": ("flux", {"negative": "a dog"}, "takes no negative prompt"),
    "negative, unguided": ("sd", {"negative": "a dog", "guidance": 1.0}, "only with a guidance above 1; this one is 1"),
    "strength without a picture": ("sd", {"strength": 0.5}, "takes no strength"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_fail_or_be_ignored_is_refused(kit: Any, gallery: Any, name: str) -> None:
    family, fields, text = REFUSED[name]
    with pytest.raises(Fault) as caught:
        gallery.painter(family).check(kit.wish(**fields))
    assert isinstance(caught.value, Invalid | Unsupported)
    assert text in str(caught.value)


@pytest.mark.parametrize("family", painting.FAMILIES)
@pytest.mark.parametrize("kind", ["Image2Image", "Inpainting"])
def test_a_strength_that_leaves_no_step_is_refused(kit: Any, gallery: Any, family: str, kind: str) -> None:
    painter, fields = gallery.painter(family), given(kit, kind)
    for strength in (0, 1.5, -1):
        with pytest.raises(Invalid, match="strength is"):
            painter.check(kit.wish(strength=strength, **fields))
    for steps, strength in ((3, 0.05), (3, 0.4), (10, 0.1)):
        wish, counted = kit.wish(steps=steps, strength=strength, **fields), []
        if family.startswith("sd") and family != "sd3" and steps * strength < 1:
            with pytest.raises(Invalid, match=r"0\.05 leaves none of 3 steps. Ask for a strength of 0\.334 or more"):
                painter.check(wish)
            continue
        painter.check(wish)
        painter.paint(wish, [1], lambda done, latents, counted=counted: counted.append(done))
        assert len(counted) - 1 == painter.steps(wish) > 0


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_a_prompt_that_would_be_cut_is_refused(kit: Any, gallery: Any, family: str) -> None:
    painter = gallery.painter(family)
    painter.check(kit.wish(prompt="a" * 75, negative="b" * 75))
    with pytest.raises(ContextExceeded, match="the prompt has 78 tokens; this model reads 77") as caught:
        painter.check(kit.wish(prompt="a" * 76))
    assert caught.value.details == {"prompt_tokens": 78, "context": 77, "param": "prompt"}
    with pytest.raises(ContextExceeded, match="the negative prompt has 102 tokens"):
        painter.check(kit.wish(negative="b" * 100))


@pytest.mark.parametrize(("family", "most", "shorter"), [("flux", 512, 1), ("sd3", 256, 2)])
def test_a_prompt_that_one_encoder_reads_whole_is_told(
    kit: Any, gallery: Any, family: str, most: int, shorter: int
) -> None:
    painter, long = gallery.painter(family), kit.wish(prompt="a" * 100)
    painter.check(long)
    assert [remark.split(" ")[:4] for remark in painter.remarks(long)] == [
        [type(getattr(painter.pipe, name)).__name__, "reads", "77", "of"]
        for name in ("text_encoder", "text_encoder_2")[:shorter]
    ]
    assert painter.remarks(kit.wish()) == ()
    with pytest.raises(ContextExceeded, match=f"this model reads {most} of one"):
        painter.check(kit.wish(prompt="a" * most))
