"""diffusers called directly, and the pictures that tests send and compare."""

from __future__ import annotations

import base64
import copy
import inspect
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

NEEDS = [
    pytest.mark.engine,
    pytest.mark.skipif(find_spec("diffusers") is None, reason="diffusers is not installed"),
]
"""Of every test here; whether the engine is there is found out without importing it, which takes seconds."""
SIDE = 64
STEPS = 3
PROMPT = "a red house by the sea"


class Direct:
    """One pipeline of diffusers; edits share its modules, as AutoPipeline has them share."""

    def __init__(self, pipeline: Any) -> None:
        self._made = pipeline

    @classmethod
    def of(cls, folder: Path) -> Direct:
        from diffusers import AutoPipelineForText2Image

        return cls(AutoPipelineForText2Image.from_pretrained(folder, local_files_only=True))

    def paint(self, seed: int = 7, prompt: str = PROMPT, **more: Any) -> Any:
        return self._run(None, seed, prompt=prompt, **more)

    def edit(self, image: Any, mask: Any = None, seed: int = 7, prompt: str = PROMPT, **more: Any) -> Any:
        if mask is None:
            return self._run("Image2Image", seed, prompt=prompt, image=image, **more)
        return self._run("Inpainting", seed, prompt=prompt, image=image, mask_image=mask, **more)

    def with_scheduler(self, name: str) -> Direct:
        import diffusers

        made = copy.copy(self._made)
        made.scheduler = getattr(diffusers, name).from_config(self._made.scheduler.config)
        return Direct(made)

    def with_lora(self, path: Path, weight: float) -> Direct:
        """The same pipeline from now on."""
        self._made.load_lora_weights(str(path.parent), weight_name=path.name, adapter_name="one", local_files_only=True)
        self._made.set_adapters(["one"], [weight])
        return self

    def _run(self, task: str | None, seed: int, **given: Any) -> Any:
        import diffusers
        import torch

        pipe = self._made if task is None else getattr(diffusers, f"AutoPipelineFor{task}").from_pipe(self._made)
        pipe.set_progress_bar_config(disable=True)
        sides = {"width": SIDE, "height": SIDE}
        taken = inspect.signature(pipe.__call__).parameters
        asked = {"num_inference_steps": STEPS, **{side: size for side, size in sides.items() if side in taken}, **given}
        return pipe(**asked, generator=torch.Generator("cpu").manual_seed(seed)).images[0]


def photo(side: int = SIDE) -> Any:
    """A picture in RGB that has something everywhere."""
    from PIL import Image

    made = Image.new("RGB", (side, side))
    made.putdata([(x * 4 % 256, y * 4 % 256, (x * y) % 256) for y in range(side) for x in range(side)])
    return made


def white(side: int = SIDE) -> Any:
    """A mask as diffusers has it: the left half is white, and so is repainted."""
    from PIL import Image

    made = Image.new("L", (side, side), 0)
    made.paste(255, (0, 0, side // 2, side))
    return made


def transparent(side: int = SIDE) -> Any:
    """The same mask as OpenAI has it: what is to be repainted is transparent."""
    from PIL import Image

    made = Image.new("RGBA", (side, side), (0, 0, 0, 255))
    made.paste((0, 0, 0, 0), (0, 0, side // 2, side))
    return made


def png(picture: Any) -> bytes:
    out = BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def file(picture: Any, name: str = "picture.png") -> tuple[str, bytes, str]:
    """A picture as the client of OpenAI uploads it."""
    return name, png(picture), "image/png"


def opened(data: bytes | str) -> Any:
    """A picture from a file's bytes, or from them in base64."""
    from PIL import Image

    made = Image.open(BytesIO(base64.b64decode(data) if isinstance(data, str) else data))
    made.load()
    return made


def same(one: Any, other: Any) -> bool:
    """Whether two pictures are equal, pixel for pixel."""
    return bool(one.mode == other.mode and one.size == other.size and one.tobytes() == other.tobytes())


def write_lora(folder: Path, path: Path, seed: int = 1, rank: int = 4) -> Path:
    """Random low-rank weights for the attention of the UNet of a pipeline in *folder*, named as PEFT names them."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    chance, made = torch.Generator().manual_seed(seed), {}
    with safe_open(folder / "unet" / "diffusion_pytorch_model.safetensors", "pt") as weights:
        for name in sorted(weights.keys()):
            if name.endswith((".to_q.weight", ".to_v.weight")):
                outer, inner = weights.get_slice(name).get_shape()
                stem = f"unet.{name.removesuffix('.weight')}"
                made[f"{stem}.lora_A.weight"] = torch.randn(rank, inner, generator=chance)
                made[f"{stem}.lora_B.weight"] = torch.randn(outer, rank, generator=chance)
    save_file(made, path)
    return path
