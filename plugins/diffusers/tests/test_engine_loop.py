"""Seeds, pictures together, unfinished states, and what each event and file says."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("PIL.Image")
pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from PIL import Image as Pillow  # noqa: E402

from anyform.contract.errors import Unsupported  # noqa: E402
from anyform.contract.events import Blob, Done, Event, Progress  # noqa: E402
from anyform.contract.jobs import EditImage, Embed, Image, Picture, VaryImage  # noqa: E402
from anyform.contract.model import Stop  # noqa: E402
from anyform.picture import writing  # noqa: E402
from anyform.testing.following import Followed  # noqa: E402
from anyform.testing.painted import check_painted  # noqa: E402
from anyform_samples import painting  # noqa: E402

pytestmark = pytest.mark.engine

Made = Callable[..., Any]


def run(model: Any, job: Any) -> list[Event]:
    return list(model.generate(job, Stop()))


def opened(events: Sequence[Event]) -> list[Any]:
    """The finished pictures' numbers, in order."""
    blobs = [event for event in events if isinstance(event, Blob) and "partial" not in event.extra]
    blobs.sort(key=lambda blob: blob.index)
    return [np.asarray(Pillow.open(io.BytesIO(blob.data)), dtype=int) for blob in blobs]


def encoded(image: Any) -> Picture:
    file = io.BytesIO()
    image.save(file, "PNG")
    return Picture(data=file.getvalue())


def noisy(seed: int) -> Any:
    grain = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return Pillow.fromarray(grain)


def edit(seed: int) -> EditImage:
    mask = Pillow.new("L", (64, 64))
    mask.paste(255, (16, 16, 48, 48))
    wanted = Image(prompt=f"fox {seed}", steps=1, seed=seed)
    return EditImage(pictures=(encoded(noisy(seed)),), mask=encoded(mask), image=wanted, strength=1.0)


class TestSeeds:
    @pytest.mark.parametrize("family", painting.FAMILIES)
    def test_a_picture_is_the_same_alone_and_among_others(self, family: str, painting_model: Made) -> None:
        model, joined = painting_model(family), painting_model(family, batch=4)
        apart, together = (opened(run(one, Image(prompt="a red fox", n=4, seed=7, steps=1))) for one in (model, joined))
        alone, third = (opened(run(model, Image(prompt="a red fox", seed=seed, steps=1)))[0] for seed in (7, 9))
        assert (model.painter.together_each, joined.painter.together_each) == ([1, 1, 1, 1, 1, 1], [4])
        assert np.array_equal(alone, apart[0])
        assert np.array_equal(third, apart[2])
        assert not np.array_equal(apart[0], apart[1])
        for one, other in zip(apart, together, strict=True):
            assert abs(one - other).max() <= 1

    @pytest.mark.parametrize("family", ["sdxl", "sd3", "flux"])
    def test_jobs_of_one_shape_are_painted_together(self, family: str, painting_model: Made) -> None:
        jobs = [
            Image(prompt="a fox", seed=1, steps=1),
            Image(prompt="an owl in the snow", seed=2, steps=1),
            Image(prompt="a boat", seed=3, steps=2),
            edit(4),
            edit(5),
        ]
        alone = painting_model(family)
        expected = [opened(run(alone, job))[0] for job in jobs]
        model = painting_model(family, held=True, batch=4)
        first = Followed(model, Image(prompt="a wall", steps=3))
        first.stage("step", 1)
        others = []
        for place, job in enumerate(jobs):
            others.append(Followed(model, job))
            others[-1].stage("queue", total=place + 1)
        model.painter.go.release(100)
        for one, wanted in zip(others, expected, strict=True):
            one.done()
            assert abs(opened(one.seen)[0] - wanted).max() <= 1
        assert model.painter.together_each == [1, 2, 1, 2]


class TestEvents:
    def test_steps_are_told_over_all_pictures(self, painting_model: Made) -> None:
        job = Image(prompt="a fox", n=2, steps=3, seed=5)
        events = run(painting_model("sdxl"), job)
        check_painted(job, events)
        assert events[0] == Progress(stage="queue", total=0)
        steps = [event for event in events if isinstance(event, Progress) and event.stage == "step"]
        assert steps == [Progress(stage="step", done=done, total=6) for done in range(1, 7)]
        kinds = [event.index if isinstance(event, Blob) else type(event).__name__ for event in events[1:]]
        assert kinds == ["Progress"] * 3 + [0] + ["Progress"] * 3 + [1, "Done"]
        done = events[-1]
        assert isinstance(done, Done)
        assert [finish.reason for finish in done.finishes] == ["stop", "stop"]
        assert done.extra["steps"] == 6
        assert done.generate_s > 0
        assert done.usage.prompt_tokens == len("afox") + 2  # each letter is one, and both ends

    def test_pictures_together_count_each_of_their_steps(self, painting_model: Made) -> None:
        events = run(painting_model("sdxl", batch=3), Image(prompt="a fox", n=4, steps=2))
        steps = [event.done for event in events if isinstance(event, Progress) and event.stage == "step"]
        assert steps == [3, 6, 7, 8]

    def test_a_strength_runs_fewer_steps(self, painting_model: Made) -> None:
        job = VaryImage(picture=encoded(noisy(1)), image=Image(prompt="", steps=4), strength=0.5)
        events = run(painting_model("sdxl"), job)
        assert events[1] == Progress(stage="step", done=1, total=2)
        assert [event.extra["steps"] for event in events if isinstance(event, Done)] == [2]

    @pytest.mark.parametrize(
        ("steps", "partials", "after"),
        [(4, 3, [1, 2, 3]), (6, 2, [2, 4]), (3, 1, [1]), (2, 3, [1]), (1, 3, []), (2, 0, [])],
    )
    def test_unfinished_states_are_evenly_spaced(
        self, steps: int, partials: int, after: list[int], painting_model: Made
    ) -> None:
        events = run(painting_model("sdxl"), Image(prompt="a fox", steps=steps, partials=partials, seed=3))
        seen, last = [], 0
        for event in events:
            if isinstance(event, Progress):
                last = event.done
            elif isinstance(event, Blob) and "partial" in event.extra:
                seen.append((event.extra["partial"], last))
        assert seen == list(enumerate(after))

    def test_unfinished_states_are_no_other_pictures(self, painting_model: Made) -> None:
        model = painting_model("flux", batch=2)
        plain, watched = (
            run(model, Image(prompt="a fox", n=2, steps=2, partials=partials, seed=3)) for partials in (0, 1)
        )
        assert all(np.array_equal(*two) for two in zip(opened(plain), opened(watched), strict=True))
        partial = [event for event in watched if isinstance(event, Blob) and "partial" in event.extra]
        assert [(blob.index, blob.extra["seed"]) for blob in partial] == [(0, 3), (1, 4)]
        assert Pillow.open(io.BytesIO(partial[0].data)).size == (64, 64)

    def test_a_seed_that_nobody_gave_is_told_and_makes_the_same_again(self, painting_model: Made) -> None:
        model = painting_model("flux")
        first = run(model, Image(prompt="a fox", n=2, steps=1))
        told = [event.extra["seed"] for event in first if isinstance(event, Blob)]
        assert told[1] == told[0] + 1
        again = run(model, Image(prompt="a fox", seed=told[1], steps=1))
        assert np.array_equal(opened(again)[0], opened(first)[1])
        other = run(model, Image(prompt="a fox", steps=1))
        assert [event.extra["seed"] for event in other if isinstance(event, Blob)] != told[:1]

    def test_after_the_greatest_seed_comes_0(self, painting_model: Made) -> None:
        events = run(painting_model("flux"), Image(prompt="a fox", n=2, steps=1, seed=2**63 - 1))
        assert [event.extra["seed"] for event in events if isinstance(event, Blob)] == [2**63 - 1, 0]


class TestFiles:
    @pytest.mark.parametrize("media_type", ["image/png", "image/jpeg", "image/webp"])
    def test_a_file_says_how_it_was_made(self, media_type: str, painting_model: Made) -> None:
        job = Image(
            prompt="a fox, in snow",
            negative_prompt="rain",
            steps=2,
            guidance=4.5,
            seed=11,
            scheduler="DDIMScheduler",
            height=72,
            media_type=media_type,
        )
        blob = next(event for event in run(painting_model("sdxl", max_pixels=64 * 72), job) if isinstance(event, Blob))
        assert blob.media_type == media_type
        assert Pillow.open(io.BytesIO(blob.data)).size == (64, 72)
        said = writing.about(blob.data)
        assert {name: said[name] for name in ("prompt", "negative_prompt", "seed", "steps", "size", "model")} == {
            "prompt": "a fox, in snow",
            "negative_prompt": "rain",
            "seed": "11",
            "steps": "2",
            "size": "64x72",
            "model": "tiny",
        }
        assert (said["scheduler"], said["guidance"]) == ("DDIMScheduler", "4.5")
        assert "Seed: 11" in said["parameters"]
        expected = {"seed": 11, "width": 64, "height": 72, "steps": 2, "scheduler": "DDIMScheduler", "guidance": 4.5}
        assert blob.extra == expected

    def test_it_says_how_many_steps_a_strength_leaves(self, painting_model: Made) -> None:
        job = VaryImage(picture=encoded(noisy(1)), image=Image(prompt="a fox", steps=4, seed=1), strength=0.5)
        events = run(painting_model("sdxl"), job)
        [blob] = [event for event in events if isinstance(event, Blob)]
        assert (blob.extra["steps"], blob.extra["steps_run"], events[-1].extra["steps"]) == (4, 2, 2)
        said = writing.about(blob.data)
        assert (said["steps"], said["steps_run"]) == ("4", "2")
        assert "Steps: 4" in said["parameters"]
        assert "Denoising strength: 0.5" in said["parameters"]

    def test_what_is_stretched_is_said(self, painting_model: Made) -> None:
        wide = encoded(Pillow.new("RGB", (640, 64)))
        events = run(
            painting_model("sdxl"), VaryImage(picture=wide, image=Image(prompt="a fox", steps=2), strength=1.0)
        )
        assert events[-1].extra["remarks"] == (
            "the picture of 640x64 is stretched to 64x64, the nearest that this model paints",
        )

    def test_a_lower_compression_makes_smaller_files(self, painting_model: Made) -> None:
        model = painting_model("flux")
        sizes = [
            next(len(event.data) for event in run(model, job) if isinstance(event, Blob))
            for job in (
                Image(prompt="a fox", steps=1, seed=1, media_type="image/webp", compression=compression)
                for compression in (10, 90)
            )
        ]
        assert sizes[0] < sizes[1]


def test_what_is_no_picture_is_refused(painting_model: Made) -> None:
    with pytest.raises(Unsupported, match="paints"):
        painting_model().generate(Embed(inputs=("a",)), Stop())
