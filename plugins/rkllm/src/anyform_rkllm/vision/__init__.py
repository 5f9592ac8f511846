"""Pictures for models whose vision encoder lies beside them: encoded pictures to the embeddings that the library takes.

The encoder is a .rknn (which the NPU runs, through rknnlite: never tried on one) or a .onnx (onnxruntime, on the CPU).
Finding one needs no engine; engines are imported in this package's backend.py alone.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from anyform.pretrained.layout import above, folder_of
from anyform_rkllm.vision import marks
from anyform_rkllm.vision.finding import Choice, choose
from anyform_rkllm.vision.marks import Marks

if TYPE_CHECKING:
    from anyform.contract.facts import Plan
    from anyform_rkllm.options import Options
    from anyform_rkllm.vision.encoding import Encoder

__all__ = ["NONE", "absence", "encoder", "marked"]

NONE = "none"
"""What the load option `vision` is where pictures are not wanted."""


def encoder(plan: Plan, options: Options, platform: str = "") -> Encoder | None:
    """What encodes pictures for *plan*'s model; None where nothing does: `absence` says why.

    *options*: as `marked` made them. *platform*: the board's (RK3588); "": unknown.

    An encoder that the load option `vision` names is opened at once; one that was found beside the model opens with the
    first picture, so that text needs neither its engine nor its memory. Raises EngineMissing, Invalid, LoadFailed,
    Unsupported.
    """
    folder, named = _model(plan).parent, options.vision not in ("", NONE)
    name = options.vision if named else _choice(plan, options, platform).name
    if not name:
        return None
    from anyform_rkllm.vision.encoding import Encoder

    made = Encoder(
        Path(name).expanduser() if named else folder / name,
        folders=_folders(plan),
        platform=platform,
        size=options.vision_size,
        marks=Marks(options.image_start, options.image_end, options.image_content),
    )
    if named:
        made.open()
    return made


def absence(plan: Plan, options: Options, platform: str = "") -> str:
    """Why `encoder` finds none: a clause for who sends a picture; empty where there is one."""
    return "" if options.vision not in ("", NONE) else _choice(plan, options, platform).trouble


def marked(plan: Plan, options: Options) -> Options:
    """*options* with the words around a picture and in its place, as the model's files name them, where the user names
    none. Before ABI 1.3 the library is told them when the model is started. Raises LoadFailed for a damaged file.
    """
    if options.image_start and options.image_end and options.image_content:
        return options
    found = marks.read(_folders(plan))
    return replace(
        options,
        image_start=options.image_start or found.start,
        image_end=options.image_end or found.end,
        image_content=options.image_content or found.content,
    )


def _choice(plan: Plan, options: Options, platform: str) -> Choice:
    if options.vision == NONE:
        return Choice(trouble=f"the load option vision is {NONE}")
    model = _model(plan)
    there = sorted(file.name for file in model.parent.iterdir() if file.is_file())
    return choose(there, model.name, platform)


def _folders(plan: Plan) -> tuple[Path, ...]:
    """The model's, and those above it up to the plan's: where the files that go with it lie."""
    return tuple(Path(plan.path) / folder for folder in above(folder_of(plan.match.entry)))


def _model(plan: Plan) -> Path:
    return Path(plan.path) / plan.match.entry
