"""Every request that cannot be done is refused before anything is computed, with the field and what would do."""

from __future__ import annotations

import io
import json
import shutil
import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("PIL.Image")
pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from PIL import Image as Pillow  # noqa: E402

from anyform.contract.errors import ContextExceeded, Fault, Invalid, OutOfMemory, Unsupported  # noqa: E402
from anyform.contract.jobs import EditImage, Image, Picture, VaryImage  # noqa: E402
from anyform_diffusers import canvas, loading, request  # noqa: E402
from anyform_diffusers.options import Options  # noqa: E402
from anyform_diffusers.painter import Painter  # noqa: E402

pytestmark = pytest.mark.engine

FOX = Image(prompt="a fox")


def encoded(image: Any, form: str = "PNG") -> Picture:
    file = io.BytesIO()
    image.save(file, form)
    return Picture(data=file.getvalue())


def plain(width: int, height: int, mode: str = "RGB", colour: Any = 0) -> Picture:
    return encoded(Pillow.new(mode, (width, height), colour))


def bomb() -> Picture:
    """A PNG of 60,000 x 60,000 pixels that says so in a few bytes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return Picture(data=b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)))


@pytest.fixture(scope="module")
def painter(gallery: Any) -> Any:
    return gallery.painter("sdxl")


@pytest.fixture(autouse=True)
def idle(painter: Any) -> Iterator[None]:
    """No part of the pipeline may be run by any test of this file."""

    def run(*_: Any) -> None:
        raise AssertionError("something was computed")

    parts = [part for part in painter.pipe.components.values() if hasattr(part, "register_forward_pre_hook")]
    hooks = [part.register_forward_pre_hook(run) for part in parts]
    assert len(hooks) >= 4
    yield
    for hook in hooks:
        hook.remove()


def refusal(job: Any, painter: Any, **options: Any) -> Fault:
    with pytest.raises(Fault) as refused:
        request.read(job, painter, Options(**options))
    assert refused.value.hint
    return refused.value


class TestFields:
    @pytest.mark.parametrize(
        ("param", "said", "fields"),
        [
            ("n", "n is 0", {"n": 0}),
            ("n", "n is 100", {"n": 100}),
            ("prompt", "empty", {"prompt": ""}),
            ("prompt", "empty", {"prompt": " \n\t"}),
            ("prompt", "U+D800", {"prompt": "a \ud800 fox"}),
            ("negative_prompt", "U+DFFF", {"negative_prompt": "\udfff"}),
            ("size", "17x9", {"width": 17, "height": 9}),
            ("size", "multiples of 8", {"width": 100, "height": 64}),
            ("size", "at least 64", {"width": 56, "height": 512}),
            ("size", "100000x100000", {"width": 100_000, "height": 100_000}),
            ("size", "16384 pixels", {"width": 100_000, "height": 100_000}),
            ("size", "100000x64", {"width": 100_000, "height": 64}),
            ("size", "8 times", {"width": 1024, "height": 120}),
            ("size", "0x0", {"width": 0, "height": 0}),
            ("size", "the size is 0x", {"width": 0}),
            ("size", "-64x64", {"width": -64, "height": 64}),
            ("num_inference_steps", "steps is 0", {"steps": 0}),
            ("num_inference_steps", "1 to 1000", {"steps": 10_000}),
            ("guidance_scale", "guidance is -1", {"guidance": -1.0}),
            ("guidance_scale", "guidance is nan", {"guidance": float("nan")}),
            ("guidance_scale", "guidance is inf", {"guidance": float("inf")}),
            ("guidance_scale", "0 to 100", {"guidance": 101}),
            ("seed", "seed is -1", {"seed": -1}),
            ("seed", f"0 to {2**63 - 1}", {"seed": 2**63}),
            ("quality", "low, medium, high", {"quality": "ultra"}),
            ("output_format", "image/gif", {"media_type": "image/gif"}),
            ("output_compression", "PNG loses nothing", {"compression": 50}),
            ("output_compression", "0 to 100", {"compression": 101, "media_type": "image/webp"}),
            (
                "output_format",
                "up to 16383",
                {"media_type": "image/webp", "width": 16_384, "height": 2048},
            ),
            ("partial_images", "0 to 3", {"partials": 4}),
            ("partial_images", "partials is -1", {"partials": -1}),
            ("scheduler", "EulerDiscreteScheduler", {"scheduler": "FastestScheduler"}),
            ("scheduler", "FlowMatchEulerDiscreteScheduler", {"scheduler": "FlowMatchEulerDiscreteScheduler"}),
            ("loras", "sketch", {"loras": {"sketch": 1.0}}),
        ],
    )
    def test_what_cannot_be_is_refused_by_its_field(
        self, param: str, said: str, fields: dict[str, Any], painter: Any
    ) -> None:
        options = {"max_pixels": 2**26} if fields.get("width") == 16_384 else {}
        fault = refusal(replace(FOX, **fields), painter, **options)
        assert type(fault) is Invalid
        assert fault.details["param"] == param
        assert said in str(fault)

    def test_a_prompt_is_never_cut(self, painter: Any) -> None:
        fault = refusal(Image(prompt="fox " * 1000), painter)
        assert isinstance(fault, ContextExceeded)
        assert fault.details["prompt_tokens"] > fault.details["context"] == 77

    def test_what_is_left_out_is_the_models_own(self, painter: Any) -> None:
        asked = request.read(FOX, painter, Options())
        facts = painter.facts
        assert (asked.wish.width, asked.wish.height, asked.wish.steps) == (facts.width, facts.height, facts.steps)
        assert (asked.wish.guidance, asked.wish.strength, asked.wish.scheduler) == (None, None, "")
        assert 0 <= asked.seeds[0] < 2**32
        assert asked.seeds != request.read(FOX, painter, Options()).seeds

    def test_a_distilled_model_is_not_guided_unless_told(
        self, painter: Any, gallery: Any, kit: Any, tmp_path: Path
    ) -> None:
        place = tmp_path / "turbo"
        shutil.copytree(gallery.folder("sdxl"), place)
        config = place / "scheduler/scheduler_config.json"
        config.write_text(json.dumps({**json.loads(config.read_text()), "timestep_spacing": "trailing"}))
        facts = loading.facts(kit.plan(place), painter.pipe, Options())
        turbo = Painter(painter.pipe, facts)
        asked = request.read(FOX, turbo, Options())
        assert (asked.wish.steps, asked.wish.guidance, asked.said["guidance"]) == (4, 0.0, 0.0)
        assert request.read(replace(FOX, guidance=2.0), turbo, Options()).wish.guidance == 2.0

    @pytest.mark.parametrize(("quality", "share"), [("low", 0.5), ("medium", 1), ("high", 1.5)])
    def test_quality_is_a_share_of_the_models_own_steps(self, quality: str, share: float, painter: Any) -> None:
        asked = request.read(replace(FOX, quality=quality), painter, Options())
        assert asked.wish.steps == round(painter.facts.steps * share)
        assert request.read(replace(FOX, quality=quality, steps=3), painter, Options()).wish.steps == 3
        assert request.read(replace(FOX, quality=quality), painter, Options(max_steps=5)).wish.steps == 5

    def test_seeds_follow_one_another_and_begin_again(self, painter: Any) -> None:
        asked = request.read(replace(FOX, n=3, seed=2**63 - 2), painter, Options())
        assert asked.seeds == (2**63 - 2, 2**63 - 1, 0)

    def test_limits_are_the_users(self, painter: Any) -> None:
        fault = refusal(replace(FOX, width=128, height=128), painter, max_pixels=64 * 64)
        assert "nearest that fits is 64x64" in str(fault)
        assert request.read(FOX, painter, Options(max_pixels=64 * 64)).wish.width == 64
        assert "1 to 9" in str(refusal(replace(FOX, steps=10), painter, max_steps=9))

    def test_four_times_what_the_model_was_trained_for_unless_told(self, painter: Any) -> None:
        for own, most in (((512, 512), (1024, 1024)), ((1024, 1024), (2048, 2048)), ((64, 128), (128, 256))):
            model = _with(painter, replace(painter.facts, width=own[0], height=own[1]))
            asked = replace(FOX, width=most[0], height=most[1])
            assert request.read(asked, model, Options()).wish.height == most[1]
            larger = replace(asked, width=most[0] + 8)
            fault = refusal(larger, model)
            assert fault.details["param"] == "size"
            told = (f"{most[0] * most[1]} pixels", f"trained for {own[0]}x{own[1]}", "max_pixels", "nearest that fits")
            assert [one for one in told if one not in str(fault)] == []
            assert request.read(larger, model, Options(max_pixels=2**24)).wish.width == most[0] + 8

    def test_steps_are_a_thousand_unless_told(self, painter: Any) -> None:
        assert request.read(replace(FOX, steps=1000), painter, Options()).wish.steps == 1000
        assert "max_steps" not in str(refusal(replace(FOX, steps=1001), painter))
        assert "max_steps" in str(refusal(replace(FOX, steps=10), painter, max_steps=9))

    def test_what_has_no_room_is_refused_with_what_has(self, painter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        room = next(value for value in vars(painter).values() if type(value).__name__ == "Room")
        monkeypatch.setattr(room, "_free", lambda device: 400 << 20)
        fault = refusal(replace(FOX, width=2048, height=2048), painter, max_pixels=2048 * 2048)
        assert isinstance(fault, OutOfMemory)
        assert "2048x2048" in fault.message
        assert "x" in fault.hint
        with room.taken():
            monkeypatch.setattr(room, "_free", lambda device: 1 << 20)
            request.read(replace(FOX, width=64, height=64), painter, Options())  # what is painted now is over by then


class TestPictures:
    @pytest.mark.parametrize(
        ("picture", "said"),
        [
            (Picture(data=b""), "empty"),
            (Picture(data=b"GIF, they said"), "no picture"),
            (Picture(data=plain(64, 64).data[:60]), "damaged"),
            (bomb(), "pixels"),
            (plain(100, 100), "up to 5000"),
        ],
        ids=["empty", "other", "cut", "bomb", "large"],
    )
    def test_what_is_none_is_refused(self, picture: Picture, said: str, painter: Any) -> None:
        most = 5000 if said == "up to 5000" else 50_000_000
        mask = EditImage(pictures=(plain(64, 64),), image=FOX, mask=picture)
        for param, job in (
            ("image", EditImage(pictures=(picture,), image=FOX)),
            ("image", VaryImage(picture=picture, image=FOX)),
            ("mask", mask),
        ):
            fault = refusal(job, painter, max_source_pixels=most)
            assert type(fault) is Invalid
            assert fault.details["param"] == param
            assert said in str(fault)
            assert fault.cause != fault.message

    @pytest.mark.parametrize("count", [0, 2])
    def test_one_is_edited_at_a_time(self, count: int, painter: Any) -> None:
        fault = refusal(EditImage(pictures=(plain(64, 64),) * count, image=FOX), painter)
        assert fault.details["param"] == "image"
        assert f"{count} pictures" in str(fault)

    def test_a_mask_of_another_size_is_refused(self, painter: Any) -> None:
        fault = refusal(EditImage(pictures=(plain(64, 64),), image=FOX, mask=plain(64, 72, "L", 255)), painter)
        assert fault.details["param"] == "mask"
        assert "the mask is 64x72, and the picture 64x64" in str(fault)

    def test_a_mask_that_leaves_nothing_to_do_is_refused(self, painter: Any) -> None:
        fault = refusal(EditImage(pictures=(plain(64, 64),), image=FOX, mask=plain(64, 64, "L", 0)), painter)
        assert fault.details["param"] == "mask"

    @pytest.mark.parametrize("strength", [0.0, -0.5, 1.01, float("nan")])
    def test_strength(self, strength: float, painter: Any) -> None:
        fault = refusal(VaryImage(picture=plain(64, 64), image=FOX, strength=strength), painter)
        assert fault.details["param"] == "strength"

    def test_a_strength_that_leaves_no_step(self, painter: Any) -> None:
        job = VaryImage(picture=plain(64, 64), image=replace(FOX, steps=4), strength=0.1)
        fault = refusal(job, painter)
        assert fault.details["param"] == "strength"
        assert "none of 4 steps" in str(fault)

    def test_only_a_variation_needs_no_prompt(self, painter: Any) -> None:
        nothing = replace(FOX, prompt="")
        assert request.read(VaryImage(picture=plain(64, 64), image=nothing), painter, Options()).wish.prompt == ""
        assert refusal(EditImage(pictures=(plain(64, 64),), image=nothing), painter).details["param"] == "prompt"

    def test_unfinished_states_that_cannot_be_shown_are_refused(
        self, painter: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(type(painter), "previews", False)
        fault = refusal(replace(FOX, partials=1), painter)
        assert isinstance(fault, Unsupported)
        assert fault.details["param"] == "partial_images"


class TestCanvas:
    def test_a_pictures_own_size_is_kept(self, painter: Any) -> None:
        source = Pillow.effect_noise((72, 64), 60).convert("RGB")
        facts = replace(painter.facts, width=128, height=128)
        wish = request.read(VaryImage(picture=encoded(source), image=FOX), _with(painter, facts), Options()).wish
        assert (wish.width, wish.height) == (72, 64)
        assert wish.picture.tobytes() == source.tobytes()

    @pytest.mark.parametrize(
        ("size", "expected"),
        [((512, 512), (128, 128)), ((1024, 512), (184, 88)), ((40, 20), (128, 64)), ((333, 500), (104, 152))],
    )
    def test_it_is_scaled_to_what_the_model_was_trained_for(
        self, size: tuple[int, int], expected: tuple[int, int], painter: Any
    ) -> None:
        facts = replace(painter.facts, width=128, height=128)
        wish = request.read(VaryImage(picture=plain(*size), image=FOX), _with(painter, facts), Options()).wish
        assert (wish.width, wish.height) == wish.picture.size == expected
        assert wish.width * wish.height <= 128 * 128

    @pytest.mark.parametrize(
        ("own", "size", "expected"),
        [
            (64, (192, 96), (128, 64)),
            (64, (96, 192), (64, 128)),
            (64, (20, 60), (64, 192)),
            (64, (100, 30), (216, 64)),
            (512, (1600, 200), (1408, 176)),
            (512, (8, 64), (64, 512)),
            (512, (192, 96), (192, 96)),
        ],
    )
    def test_its_proportion_is_kept(
        self, own: int, size: tuple[int, int], expected: tuple[int, int], painter: Any
    ) -> None:
        model = _with(painter, replace(painter.facts, width=own, height=own))
        for job in (
            VaryImage(picture=plain(*size), image=FOX),
            EditImage(pictures=(plain(*size),), mask=plain(*size, "L", 255), image=FOX),
        ):
            asked = request.read(job, model, Options())
            assert (asked.wish.width, asked.wish.height) == asked.wish.picture.size == expected
            assert asked.remarks == ()

    @pytest.mark.parametrize(("own", "size", "expected"), [(64, (640, 80), "256x64"), (512, (10, 1000), "64x512")])
    def test_where_it_cannot_be_kept_that_is_said(
        self, own: int, size: tuple[int, int], expected: str, painter: Any
    ) -> None:
        model = _with(painter, replace(painter.facts, width=own, height=own))
        asked = request.read(VaryImage(picture=plain(*size), image=FOX), model, Options())
        assert [one.partition(" is stretched to ")[2].partition(",")[0] for one in asked.remarks] == [expected]
        wanted = VaryImage(picture=plain(*size), image=replace(FOX, width=64, height=64))
        assert request.read(wanted, model, Options()).remarks == ()  # who says a size means it

    @pytest.mark.parametrize("unit", [8, 16, 64])
    def test_a_proportion_is_lost_by_rounding_alone(self, unit: int) -> None:
        for side in (64, 512, 1024):
            most = 4 * max(side, 8 * unit) ** 2
            for width, height in ((w, h) for w in range(7, 3000, 97) for h in range(7, 3000, 89)):
                if max(width, height) <= 4 * min(width, height):
                    found = canvas.nearest(width, height, unit, most, side * side)
                    canvas.check(*found, unit, most)
                    assert canvas.is_alike(found, (width, height), unit)

    def test_with_a_size_picture_and_mask_are_brought_to_it(self, painter: Any) -> None:
        stencil = Pillow.new("L", (100, 50))
        stencil.paste(255, (0, 0, 50, 50))
        job = EditImage(
            pictures=(plain(100, 50),), mask=encoded(stencil), image=replace(FOX, width=128, height=128), strength=0.5
        )
        wish = request.read(job, painter, Options()).wish
        assert wish.picture.size == wish.mask.size == (128, 128)
        assert wish.picture.mode == "RGB"
        assert {value for value, count in enumerate(wish.mask.histogram()) if count} == {0, 255}
        assert np.asarray(wish.mask)[:, :64].min() == 255
        assert np.asarray(wish.mask)[:, 64:].max() == 0

    def test_transparent_is_repainted(self, painter: Any) -> None:
        stencil = Pillow.new("RGBA", (64, 64), (255, 255, 255, 255))
        stencil.paste((0, 0, 0, 0), (8, 8, 16, 16))
        job = EditImage(pictures=(plain(64, 64),), mask=encoded(stencil), image=replace(FOX, width=64, height=64))
        mask = np.asarray(request.read(job, painter, Options()).wish.mask)
        assert mask[8:16, 8:16].min() == 255
        assert int((mask > 0).sum()) == 64

    @pytest.mark.parametrize("unit", [8, 16, 64])
    def test_the_nearest_size_is_one_that_fits(self, unit: int) -> None:
        sides = (-5, 0, 1, 17, 100, 511, 640, 1024, 4000, 100_000, 10**30)
        for width in sides:
            for height in sides:
                found = canvas.nearest(width, height, unit, 2048 * 2048)
                canvas.check(*found, unit, 2048 * 2048)
        assert canvas.nearest(640, 512, unit, 2048 * 2048) == (640, 512)


def _with(painter: Any, facts: Any) -> Any:
    return type(painter)(painter.pipe, facts)
