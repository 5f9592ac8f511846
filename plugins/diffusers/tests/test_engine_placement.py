"""Where parts are put, and what is split: the pictures stay those of the whole model on one device."""

from __future__ import annotations

from typing import Any

import pytest

from anyform.contract.errors import Invalid, OutOfMemory
from anyform.contract.facts import Device
from anyform_diffusers.memory import Way

pytestmark = pytest.mark.engine


def placed(kit: Any, gallery: Any, family: str, free: int = 0, **fields: Any) -> tuple[Any, str]:
    """A painter of its own, put as *fields* of Placement say, and what it runs on."""
    from anyform_diffusers import folderloading, loading, options, painter, placement
    from anyform_diffusers.placement import Placement
    from anyform_diffusers.room import Room

    place, plan = Placement(**fields), kit.plan(gallery.folder(family))
    pipe = folderloading.read(plan, place.dtype)
    runs_on = placement.apply(pipe, place)
    facts = loading.facts(plan, pipe, options.read({}))
    room = Room(plan.metadata.extra, place, lambda device: free)
    return painter.Painter(pipe, facts, runs_on=runs_on, room=room), runs_on


def furthest(kit: Any, one: Any, other: Any) -> int:
    """The greatest difference of two numbers of the pictures."""
    found: int = abs(kit.pixels(one).astype(int) - kit.pixels(other).astype(int)).max()
    return found


@pytest.mark.parametrize("family", ["sdxl", "sd3"])
def test_slices_change_no_pixel_by_more_than_one(kit: Any, gallery: Any, family: str) -> None:
    sliced, _ = placed(kit, gallery, family, way=Way(slicing=True, tiling=True), sliced_attention=True)
    assert sliced.pipe.vae.use_slicing
    assert sliced.pipe.vae.use_tiling
    assert furthest(kit, kit.paint(sliced), kit.paint(gallery.painter(family))) <= 1
    sliced.free()


def test_attention_is_really_computed_in_slices(kit: Any, gallery: Any) -> None:
    whole, sliced = gallery.painter("sd"), placed(kit, gallery, "sd", sliced_attention=True)[0]
    kinds = [{type(one).__name__ for one in made.pipe.unet.attn_processors.values()} for made in (whole, sliced)]
    assert kinds == [{"AttnProcessor2_0"}, {"SlicedAttnProcessor"}]
    assert furthest(kit, kit.paint(sliced), kit.paint(whole)) <= 1


def test_pictures_that_are_decoded_in_slices_are_those_that_are_decoded_together(kit: Any, gallery: Any) -> None:
    whole, sliced = gallery.painter("sd"), placed(kit, gallery, "sd", way=Way(slicing=True))[0]
    several = [made.paint(kit.wish(), [7, 8], kit.nothing) for made in (whole, sliced)]
    assert all(furthest(kit, one, other) <= 1 for one, other in zip(*several, strict=True))


@pytest.mark.parametrize("family", ["sdxl", "flux"])
def test_parts_that_are_moved_where_they_compute_paint_the_same(kit: Any, gallery: Any, family: str) -> None:
    """To a CPU, where nothing is gained by it: the hooks that move them are the same as on an accelerator."""
    moved, runs_on = placed(kit, gallery, family, way=Way(offload="model"))
    assert runs_on in ("cpu float32, model offload", "cpu:0 float32, model offload")
    assert furthest(kit, kit.paint(moved), kit.paint(gallery.painter(family))) <= 1
    assert kit.same(kit.paint(moved), kit.paint(moved))
    assert kit.paint(moved, picture=kit.picture(), strength=0.9).size == (kit.SIDE, kit.SIDE)
    moved.free()


def test_layers_that_are_moved_one_by_one_lie_nowhere_else(kit: Any, gallery: Any) -> None:
    """They cannot paint here: accelerate moves none from a CPU to a CPU."""
    moved, runs_on = placed(kit, gallery, "sd", way=Way(offload="sequential"))
    assert runs_on in ("cpu float32, sequential offload", "cpu:0 float32, sequential offload")
    assert {one.device.type for one in moved.pipe.unet.parameters()} == {"meta"}


def test_what_it_runs_on_is_read_from_its_modules(kit: Any, gallery: Any) -> None:
    assert gallery.painter("sd").runs_on == "cpu float32"
    brain = kit.painter(gallery.folder("sd"), dtype="bfloat16")
    assert brain.runs_on == "cpu bfloat16"
    assert kit.paint(brain).size == (kit.SIDE, kit.SIDE)
    with pytest.raises(Invalid, match="float16"):
        kit.painter(gallery.folder("sd"), dtype="float16")


def test_what_was_decided_is_noted(kit: Any, gallery: Any) -> None:
    tight = Device(kind="cpu", total_bytes=1 << 30, free_bytes=500 << 20)
    found = kit.painter(gallery.folder("sd"), devices=(tight,))
    assert any("0.5 GiB free" in note for note in found.notes)
    assert not found.pipe.vae.use_slicing  # one picture in one tile: nothing is saved by it


def test_a_picture_without_room_is_refused_before_anything_is_computed(kit: Any, gallery: Any) -> None:
    tight, _ = placed(kit, gallery, "sd", free=150 << 20)
    tight.check(kit.wish())
    with pytest.raises(OutOfMemory, match="512x512 needs"):
        tight.check(kit.wish(width=512, height=512))
    assert tight.together(kit.wish(), 4) == 4
    assert tight.together(kit.wish(width=128, height=128), 4) < 4


def test_what_is_free_is_asked_of_the_machine() -> None:
    pytest.importorskip("diffusers")
    from anyform import mainmemory
    from anyform_diffusers.room import free_bytes

    assert (free_bytes("cpu") > 0) == (mainmemory.free_bytes() > 0)


def test_ended_within_a_step_where_parts_are_moved(kit: Any, gallery: Any) -> None:
    moved, _ = placed(kit, gallery, "sd", way=Way(offload="model"))
    before, told = kit.paint(moved), iter(range(40))
    with pytest.raises(StopIteration):
        moved.paint(kit.wish(), [7], kit.nothing, lambda: next(told) and None)
    assert kit.same(kit.paint(moved), before)
