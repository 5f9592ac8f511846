"""Single files: all of a model, or its network alone, in one safetensors file as its maker published it.

diffusers turns the tensors' names into its own; what they are parts of is read from a folder of configurations.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from anyform.contract.errors import Fault, InvalidModel, LoadFailed, OutOfMemory
from anyform.contract.facts import Plan
from anyform.pretrained.layout import CONFIG
from anyform.pretrained.safetensors import Tensor
from anyform_diffusers import checkpoint, configfolder, layout
from anyform_diffusers.backend import diffusers, safetensors, torch, transformers
from anyform_diffusers.checkpoint import Checkpoint
from anyform_diffusers.configfolder import LEFT_OUT, Config
from anyform_diffusers.layout import Part
from anyform_diffusers.options import Options

_PUBLISHED: Mapping[str, tuple[str, ...]] = {
    "sd": ("stable-diffusion-v1-5/",),
    "sd2": ("stabilityai/stable-diffusion-2",),
    "sdxl": ("stabilityai/stable-diffusion-xl-base", "diffusers/stable-diffusion-xl", "playgroundai/"),
    "sdxl-refiner": ("stabilityai/stable-diffusion-xl-refiner",),
    "sd3": ("stabilityai/stable-diffusion-3",),
    "flux": ("black-forest-labs/FLUX.1-",),
}
"""What the repositories of a family begin with, of which diffusers knows one for each kind."""
_SPARED = {"sd3": ("text_encoder_3", "tokenizer_3")}
"""Parts that a family paints without, only with less of long prompts: its maker published files with and without."""


class Read(NamedTuple):
    """What a single file and its configurations gave."""

    pipe: Any
    notes: tuple[str, ...]


def read(plan: Plan, options: Options, dtype: str) -> Read:
    """The pipeline of *plan*'s file in main memory, equal to its folder form. *dtype*: as torch calls it.

    Raises Invalid for an option config that is none; InvalidModel, which says what to fetch, where there are no
    configurations, or where weights are neither in the file nor beside the configurations; OutOfMemory.
    """
    file, family = Path(plan.path) / plan.match.entry, str(plan.metadata.extra.get("family", ""))
    tensors = _tensors(plan.model, file)
    held = checkpoint.recognise(tensors) or Checkpoint(family=family)
    repository = _repository(family, held, tensors)
    found, several = configfolder.find(file, family, options.config, repository)
    if found is None:
        missing, remedy = configfolder.lacking(family, repository, several)
        raise InvalidModel(
            f"{plan.model} is a single file of a {family} model, and {missing}.",
            f"{remedy[0].upper()}{remedy[1:]}.",
            repository=repository,
        )
    _check_guidance(plan.model, held, found)
    lacking = [part for part in found.parts if part.has_weights and part.name not in held.parts]
    kept, spared = _lent(plan.model, family, found, lacking, repository, dtype)
    pipe = _made(plan.model, file, found, kept, dtype)
    _finished(plan.model, found, pipe)
    notes = [f"configurations of {found.folder}"]
    notes += [f"{part.name} read from there: the file has none" for part in lacking if part.name not in spared]
    notes += [f"without {name}, of which the file has none: it reads long prompts less well" for name in spared
              if not name.startswith("tokenizer")]  # fmt: skip
    return Read(pipe, tuple(notes))


def _tensors(model: str, file: Path) -> list[Tensor]:
    """What *file* holds, by names and shapes; where and in what type does not matter here."""
    try:
        with safetensors.safe_open(file, framework="pt") as opened:
            shapes = {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    except (OSError, safetensors.SafetensorError) as error:
        raise LoadFailed(f"{file}, the file of {model}, cannot be read: {error}.", "Pull it again.") from error
    return [Tensor(name, "", shape, 0, 0) for name, shape in shapes.items()]


def _repository(family: str, held: Checkpoint, tensors: Sequence[Tensor]) -> str:
    """Where the configurations are published: what diffusers would fetch them from for these tensors."""
    shapes = {tensor.name: tensor for tensor in tensors}
    try:
        said = diffusers.loaders.single_file_model.fetch_diffusers_config(shapes)["pretrained_model_name_or_path"]
    except (KeyError, IndexError, UnboundLocalError, ValueError):  # sizes that no published model has
        said = ""
    return str(said) if said.startswith(_PUBLISHED.get(family, ())) else held.repository


def _check_guidance(model: str, held: Checkpoint, config: Config) -> None:
    """Raise LoadFailed where Flux dev would be read as schnell: its guidance would be left out without a word."""
    if held.family != "flux":
        return
    with _told(model, f"transformer/{CONFIG} of {config.folder}"):
        said = json.loads((config.folder / "transformer" / CONFIG).read_bytes())
        embeds = bool(said.get("guidance_embeds"))
    if embeds == held.distilled:
        file, other = ("schnell", "dev") if held.distilled else ("dev", "schnell")
        raise LoadFailed(
            f"{model} is a Flux like {file}, and {config.folder} is of one like {other}: they differ in the guidance.",
            f"Name the configurations of {held.repository} by the option config.",
        )


def _lent(
    model: str, family: str, config: Config, lacking: Sequence[Part], repository: str, dtype: str
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Parts that do not come from the file: read beside the configurations, or None; and those that are left out."""
    there = {part.name: _weights(config.folder / part.name, part) for part in lacking}
    none = {name for name, variant in there.items() if variant is None}
    spared = tuple(name for name in _SPARED.get(family, ()) if name.replace("tokenizer", "text_encoder") in none)
    absent = [part for part in lacking if part.name in none and part.name not in spared]
    if absent:
        raise _weightless(model, config, absent, repository)
    kept = {
        part.name: _part(model, config, part, dtype, there[part.name]) for part in lacking if part.name not in spared
    }
    return kept | dict.fromkeys(spared), spared


def _weights(folder: Path, part: Part) -> str | None:
    """The variant of the weights in *folder* (empty: the main one); None: there are none."""
    try:
        there = sorted(place.name for place in folder.iterdir())
    except OSError:
        return None
    return min(layout.weights(there, part.stem), default=None)


def _part(model: str, config: Config, part: Part, dtype: str, variant: str | None) -> Any:
    kind = getattr(diffusers if part.library == "diffusers" else transformers, part.kind)
    with _told(model, f"{part.name} of {config.folder}"):
        return kind.from_pretrained(
            str(config.folder / part.name),
            torch_dtype=getattr(torch, dtype),
            variant=variant or None,
            local_files_only=True,
            use_safetensors=True,
        )


def _made(model: str, file: Path, config: Config, kept: Mapping[str, Any], dtype: str) -> Any:
    kind = getattr(diffusers, config.pipeline)
    without = {name: None for name in LEFT_OUT if name in kind._get_signature_keys(kind)[0]}
    with _told(model, f"{file.name} with the configurations of {config.folder}"):
        return kind.from_single_file(
            str(file),
            config=str(config.folder),
            torch_dtype=getattr(torch, dtype),
            local_files_only=True,
            **without,
            **kept,
        )


def _finished(model: str, config: Config, pipe: Any) -> None:
    """All parts as they compute pictures. Raises LoadFailed for tensors that the file did not have."""
    for name, part in pipe.components.items():
        if not isinstance(part, torch.nn.Module):
            continue
        absent = [tensor for tensor, value in part.state_dict().items() if value.is_meta]
        if absent:
            raise LoadFailed(
                f"{model} has no {absent[0]} of {name}, nor {len(absent) - 1} more that {config.folder} asks for.",
                "It is incomplete, or the configurations are of another model: name its own by the option config.",
            )
        part.eval()  # of some diffusers leaves them in training, where numbers are dropped at random


class _told:  # noqa: N801 - used as a statement
    """What goes wrong inside is told as a fault of the model."""

    def __init__(self, model: str, what: str) -> None:
        self.model, self.what = model, what

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is None or isinstance(error, Fault) or not isinstance(error, Exception):
            return
        if isinstance(error, MemoryError | torch.OutOfMemoryError):
            raise OutOfMemory(f"there is no memory to read {self.model}: {error}.", "Free some.") from error
        if "meta tensor" in str(error):  # what was not in the file has no numbers
            raise LoadFailed(
                f"{self.model} lacks tensors that the configurations ask for: {self.what}.",
                "It is incomplete, or they are of another model: name its own by the option config.",
            ) from error
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise LoadFailed(
            f"diffusers could not read {self.what}: {type(error).__name__}: {' '.join(lines[:2])[:400]}.",
            "If the configurations are of another model, name this one's with the option config; else pull it again.",
        ) from error


def _weightless(model: str, config: Config, absent: Sequence[Part], repository: str) -> InvalidModel:
    names = ", ".join(part.name for part in absent)
    wanted = [f"{part.name}/{part.stem}{end}" for part in absent for end in (".safetensors", "-*.safetensors")]
    where = "its maker's repository"
    if repository:
        where = f"`{configfolder.command(repository, wanted)}`{configfolder.licence(repository)}"
    return InvalidModel(
        f"{model} has its network alone: the weights of {names} are neither in the file nor in {config.folder}.",
        f"Fetch them from {where}; that folder then serves as its configurations too, by the option config if need be.",
        parts=[part.name for part in absent],
    )
