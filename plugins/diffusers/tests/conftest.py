"""Tiny pipelines of each family, as painters and as diffusers itself loads them; and how models are asked."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.facts import FormatMatch, Plan, Settings
from anyform.testing import jobs
from anyform.testing.jobs import Engine

SIDE = 32


def plan(place: Path, *, model: str = "", devices: tuple[Any, ...] = (), **options: Any) -> Plan:
    """A plan as the kernel makes it, from what the format's side finds at *place*: a folder, or a file in one."""
    from anyform.kernel.files import FolderFiles
    from anyform_diffusers import detection, metadata

    files = FolderFiles(place if place.is_dir() else place.parent)
    found: list[FormatMatch] = detection.detect(files)
    match = next(one for one in found if place.is_dir() or one.entry == place.name)
    return Plan(
        plugin="diffusers",
        backend="diffusers",
        model=model or place.name,
        path=str(files.path),
        match=match,
        metadata=metadata.extract(files, match),
        settings=Settings(options=options),
        devices=devices,
    )


def painter(place: Path, **settings: Any) -> Any:
    """What paints with the model at *place*; *settings*: as plan's."""
    from anyform_diffusers import loading, options

    made = plan(place, **settings)
    return loading.painter(made, options.read(made.settings.options))


def loaded(place: Path, **settings: Any) -> Any:
    """The model at *place*; *settings*: as plan's."""
    from anyform_diffusers.backend import load

    return load(plan(place, **settings))


@cache
def picture(seed: int = 0, side: int = SIDE) -> Any:
    """Coloured squares, the same for the same *seed*."""
    import numpy
    from PIL import Image

    squares = numpy.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=numpy.uint8)
    return Image.fromarray(squares).resize((side, side), Image.Resampling.BILINEAR)


@cache
def mask(side: int = SIDE) -> Any:
    """The left half is repainted."""
    from PIL import Image

    made = Image.new("L", (side, side), 0)
    made.paste(255, (0, 0, side // 2, side))
    return made


def wish(**fields: Any) -> Any:
    """A small and quick one; *fields*: as Wish's."""
    from anyform_diffusers.wish import Wish

    return Wish(**{"prompt": "a red cat", "width": SIDE, "height": SIDE, "steps": 4, **fields})


def nothing(done: int, latents: Any) -> None:
    """A step that nobody waits for."""


class Kit(jobs.Kit):
    """What the tests call; a fixture, since test modules cannot import each other."""

    SIDE = SIDE
    plan = staticmethod(plan)
    painter = staticmethod(painter)
    loaded = staticmethod(loaded)
    picture = staticmethod(picture)
    mask = staticmethod(mask)
    wish = staticmethod(wish)
    nothing = staticmethod(nothing)

    @staticmethod
    def paint(painter: Any, seed: int = 7, **fields: Any) -> Any:
        """One picture of `wish(**fields)`."""
        return painter.paint(wish(**fields), [seed], nothing)[0]

    @staticmethod
    def pixels(picture: Any) -> Any:
        """As numpy has them."""
        import numpy

        return numpy.asarray(picture)

    @staticmethod
    def same(one: Any, other: Any) -> bool:
        """Whether two pictures are equal, pixel for pixel."""
        return one.size == other.size and one.mode == other.mode and one.tobytes() == other.tobytes()


@pytest.fixture(scope="session")
def kit() -> type[Kit]:
    for name in ("diffusers", "torch", "transformers", "PIL", "numpy"):
        pytest.importorskip(name)
    from anyform_diffusers import quiet

    quiet.hush()
    return Kit


@pytest.fixture
def engine(kit: type[Kit]) -> Iterator[Engine]:
    made = Engine(loaded)
    yield made
    made.close()


class Gallery:
    """Of each family one tiny random pipeline: its folder, a painter of it, and diffusers' own pipelines of it."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._painters: dict[str, Any] = {}
        self._direct: dict[tuple[str, str], Any] = {}

    def folder(self, family: str) -> Path:
        from anyform_samples import painting

        place = self._home / family
        return place if place.is_dir() else painting.write(family, place)

    def painter(self, family: str) -> Any:
        """Loaded once for all tests, which leave it as it is."""
        if family not in self._painters:
            self._painters[family] = painter(self.folder(family))
        return self._painters[family]

    def direct(self, family: str, kind: str = "Text2Image") -> Any:
        """As a user of diffusers loads it. *kind*: Text2Image, Image2Image or Inpainting."""
        import diffusers

        if (family, kind) not in self._direct:
            made = getattr(diffusers, f"AutoPipelineFor{kind}").from_pretrained(self.folder(family))
            made.set_progress_bar_config(disable=True)
            self._direct[family, kind] = made
        return self._direct[family, kind]

    def free(self) -> None:
        for one in self._painters.values():
            one.free()


@pytest.fixture(scope="session")
def gallery(kit: type[Kit], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gallery]:
    pytest.importorskip("anyform_samples.painting", exc_type=ImportError)
    made = Gallery(tmp_path_factory.mktemp("gallery"))
    yield made
    made.free()


@pytest.fixture(scope="session")
def tiny_pipe(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """A tiny random pipeline of a family, in memory; made once."""
    from anyform_samples import painting

    @functools.cache
    def made(family: str) -> Any:
        import torch

        torch.set_num_threads(1)
        return painting.made(family, tmp_path_factory.mktemp("tokenizers") / family)

    return made


@pytest.fixture
def painted_by(tiny_pipe: Callable[[str], Any]) -> Iterator[Callable[..., Any]]:
    """A loaded model of a family, by its pipeline; `held=True`: each step waits until `painter.go` is released."""
    models: list[Any] = []

    def made(family: str = "sd", *, held: bool = False, **options: Any) -> Any:
        from anyform_diffusers.imagemodel import ImageModel
        from anyform_diffusers.options import Options
        from anyform_diffusers.painter import Facts, Painter

        class Held(Painter):
            """Does nothing more after a step was told, until the test says so."""

            def __init__(self, *given: Any) -> None:
                super().__init__(*given)
                self.go = threading.Semaphore(0)
                self.together: list[int] = []
                """How many pictures were painted at once, each time."""

            def paint(
                self, wish: Any, seeds: Sequence[int], step: Callable[[int, Any], None], begun: Any = None
            ) -> list[Any]:
                def waiting(done: int, latents: Any) -> None:
                    step(done, latents)
                    if held and done:
                        assert self.go.acquire(timeout=60)

                self.together.append(len(seeds))
                return super().paint(wish, seeds, waiting, begun)

        pipe = tiny_pipe(family)
        name = type(pipe.scheduler).__name__
        known = (name, *(("DDIMScheduler", "EulerDiscreteScheduler") if family in ("sd", "sdxl") else ()))
        facts = Facts(
            name="tiny", family=family, width=64, height=64, unit=4, steps=4, scheduler=name, schedulers=known
        )
        model: Any = ImageModel(Held(pipe, facts), Options(**options))
        models.append(model)
        return model

    yield made
    for model in models:
        model.painter.go.release(10_000)  # whatever a failed test left
        model.close()


@pytest.fixture
def painting_model(gallery: Gallery) -> Iterator[Callable[..., Any]]:
    """Makes models that paint, of a family; with *held*, they wait after each step until `painter.go` is released."""
    made: list[Any] = []

    def model(family: str = "sdxl", *, held: bool = False, **options: Any) -> Any:
        from anyform_diffusers.imagemodel import ImageModel
        from anyform_diffusers.options import Options
        from anyform_diffusers.painter import Painter

        class Watched(Painter):
            """Tells how many pictures it was asked for at once, each time."""

            def __init__(self, *given: Any) -> None:
                super().__init__(*given)
                self.go = threading.Semaphore(0)
                self.together_each: list[int] = []

            def paint(
                self, wish: Any, seeds: Sequence[int], step: Callable[[int, Any], None], begun: Any = None
            ) -> list[Any]:
                def told(done: int, latents: Any) -> None:
                    step(done, latents)
                    if held and done:
                        assert self.go.acquire(timeout=60), "nobody released the next step"

                self.together_each.append(len(seeds))
                return super().paint(wish, seeds, told, begun)

        like = gallery.painter(family)
        facts = replace(like.facts, name="tiny", width=SIDE, height=SIDE)
        made.append(ImageModel(Watched(like.pipe, facts), Options(**options)))
        return made[-1]

    yield model
    for one in made:
        one.painter.go.release(10_000)  # what a failed test left waiting
        one.close()
