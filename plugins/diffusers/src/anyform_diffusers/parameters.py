"""How a picture was made: what its event and its file say, so that it can be made again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anyform_diffusers.painter import Painter
    from anyform_diffusers.wish import Wish


def of(wish: Wish, painter: Painter) -> dict[str, Any]:
    """JSON values, all but the seed; what nobody said, and the model has no own of, is left out."""
    share = painter.strength(wish)
    said = {
        "width": wish.width,
        "height": wish.height,
        "steps": wish.steps,
        "steps_run": painter.steps(wish) if share is not None and share < 1 else None,
        "scheduler": wish.scheduler or painter.facts.scheduler,
        "guidance": painter.guidance(wish),
        "strength": share,
        "loras": dict(wish.loras) or None,
    }
    return {name: value for name, value in said.items() if value is not None}


def texts(wish: Wish, said: Mapping[str, Any], model: str) -> Mapping[str, str]:
    """The words of *wish*, and *said* of it and its seed, for `anyform.picture.writing.encode`."""
    told = {
        "prompt": wish.prompt,
        "negative_prompt": wish.negative,
        **{name: str(value) for name, value in said.items() if name not in ("width", "height", "loras")},
        "size": f"{wish.width}x{wish.height}",
        "loras": ", ".join(f"{name}: {weight:g}" for name, weight in wish.loras),
        "model": model,
    }
    return {name: text for name, text in told.items() if text}
