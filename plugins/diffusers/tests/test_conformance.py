"""diffusers passes the conformance kit; parts that need diffusers are skipped where it is not installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from anyform.contract.facts import Metadata, Settings
from anyform.contract.jobs import EditImage, Image, Job, Picture, VaryImage
from anyform.testing import painting
from anyform.testing.format_checks import FormatChecks
from anyform.testing.model_checks import ModelChecks
from anyform.testing.module_checks import ModuleChecks
from anyform.testing.picture import png

SIDE = 64


class TestFormats(ModuleChecks, FormatChecks):
    """What is found and what is refused, on hollow files that no engine could load."""

    plugin = "diffusers"
    module = "anyform_diffusers.plugin"

    def samples(self, folder: Path) -> list[Path]:
        painting.write_pipeline(folder / "flux", "flux", shards=2)
        small = painting.unet_shapes(painting.Unet((8, 16), (True, False), (1, 1), 16))
        shapes = {f"{painting.CORE}{name}": shape for name, shape in small.items()}
        painting.write_hollow(folder / "single" / "tiny.safetensors", shapes)
        return [folder / "flux", folder / "single"]


class TestPainting(ModelChecks):
    """A tiny pipeline of random weights."""

    plugin = "diffusers"
    module = "anyform_diffusers.plugin"
    settings = Settings()

    def samples(self, folder: Path) -> list[Path]:
        pytest.importorskip("diffusers")
        from anyform_samples import painting as tiny

        return [tiny.write("flux", folder / "flux")]

    def jobs(self, metadata: Metadata) -> list[Job]:
        few = Image(prompt="a red cat", width=SIDE, height=SIDE, steps=2, seed=1)
        picture = Picture(data=png(SIDE, SIDE), media_type="image/png")
        known: dict[str, Job] = {
            "image": few,
            "edit_image": EditImage(pictures=(picture,), image=few),
            "vary_image": VaryImage(picture=picture, image=few),
        }
        return [known[task] for task in metadata.tasks]

    def long_job(self, metadata: Metadata) -> Job:
        return Image(prompt="a red cat", width=SIDE, height=SIDE, steps=150, n=4)

    def too_long_job(self, metadata: Metadata, context: int) -> None:
        """A prompt that is too long is cut by the pipeline, and told."""
