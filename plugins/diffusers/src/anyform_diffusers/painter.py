"""A pipeline of diffusers as one that paints wishes: the pictures are those of a direct call, number for number."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from anyform.contract.errors import Area, Fault, Invalid, OutOfMemory, Unsupported
from anyform_diffusers import block, call, guidance, lora, mode, preview, prompt, schedule
from anyform_diffusers.backend import torch
from anyform_diffusers.mode import Mode
from anyform_diffusers.room import Room
from anyform_diffusers.wish import Wish

Step = Callable[[int, Any], None]
"""Called with how many are done, and the unfinished latents: after each step, and with 0 and None before the first,
when the prompts are encoded."""
Begun = Callable[[], None]
"""Called before each block of a network is computed: many times a step."""


class PaintFailed(Fault):
    """The engine could not finish a picture; the request is lost, the model goes on."""

    code = "diffusers.paint_failed"
    area = Area.BACKEND


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a model is like, as its folder says."""

    name: str = ""
    """What users call it by."""
    family: str = ""
    width: int
    """In pixels, as `height` and `unit`: the size that it was trained for."""
    height: int
    unit: int
    """Sides are multiples of it."""
    steps: int
    """The usual number."""
    guidance: float | None = None
    """Of requests that tell none; None: the pipeline's own."""
    scheduler: str
    """The class that the model came with."""
    schedulers: tuple[str, ...] = ()
    """Classes that requests may choose."""
    loras: tuple[str, ...] = ()
    """Add-ons that it was loaded with."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """All that the metadata say."""


class Painter:
    """One model, its weights in memory once. One thread at a time calls it."""

    def __init__(
        self,
        pipe: Any,
        facts: Facts,
        *,
        runs_on: str = "",
        notes: tuple[str, ...] = (),
        threads: int | None = None,
        room: Room | None = None,
    ) -> None:
        """*pipe*: where it is to lie; it is never run itself, so that its scheduler stays as it came.

        *threads*: of a CPU; None: as torch has it. Raises Unsupported for a pipeline that wishes are not enough for.
        """
        self.facts = facts
        self.runs_on = runs_on
        self._pipe = pipe
        self._threads = threads
        self._room = room
        self._views = mode.views(pipe)
        self._blocks = block.of(pipe)
        self._ending: BaseException | None = None
        self._schedule = {**pipe.scheduler.config, "_class_name": type(pipe.scheduler).__name__}
        self._vae_dtype = getattr(getattr(pipe, "vae", None), "dtype", None)
        if not self._views:
            raise Unsupported(
                f"{type(pipe).__name__} makes no pictures from a prompt alone, from a picture or from a mask.",
                "Load a pipeline that does, such as StableDiffusionPipeline or FluxPipeline.",
            )
        self.notes = (*notes, *self._own_notes())

    @property
    def pipe(self) -> Any:
        """The pipeline whose modules all modes share."""
        return self._pipe

    @property
    def modes(self) -> tuple[Mode, ...]:
        """What it can be asked for."""
        return tuple(self._views)

    @property
    def previews(self) -> bool:
        """Whether unfinished pictures can be shown."""
        return preview.able(self._pipe)

    def guidance(self, wish: Wish) -> float | None:
        """The one that counts for *wish*: its own, else the pipeline's; None: the pipeline does not say."""
        return guidance.default(self._base(wish)) if wish.guidance is None else wish.guidance

    def strength(self, wish: Wish) -> float | None:
        """The one that counts for *wish*; None: for this kind there is none."""
        return call.strength(self._base(wish), wish)

    def steps(self, wish: Wish) -> int:
        """How often `step` tells of one: fewer than wished with a strength below 1, more with some schedulers.

        Raises Invalid, Unsupported.
        """
        return call.steps(self._view(wish), wish)

    def check(self, wish: Wish) -> None:
        """Raises Invalid, ContextExceeded, Unsupported, OutOfMemory for what could not be painted. Computes nothing."""
        for name, side in (("width", wish.width), ("height", wish.height)):
            _check_side(name, side, self.facts.unit)
        schedule.check(self._schedule, wish.scheduler, self.facts.schedulers, wish.steps)
        call.check(self._view(wish), wish)
        if self._room:
            self._room.check(wish)

    def together(self, wish: Wish, most: int) -> int:
        """How many pictures of *wish*, up to *most*, have room at once; at least one."""
        return self._room.together(wish, most) if self._room else most

    def tokens(self, wish: Wish) -> int:
        """Of the prompt, as its text encoders read it."""
        return prompt.tokens(self._base(wish), wish)

    def remarks(self, wish: Wish) -> tuple[str, ...]:
        """What is to be known of how *wish* is read, though it can be painted: sentences without a full stop."""
        return prompt.remarks(self._base(wish), wish)

    def paint(
        self, wish: Wish | Sequence[Wish], seeds: Sequence[int], step: Step, begun: Begun | None = None
    ) -> list[Any]:
        """One PIL.Image for each of *seeds*, computed together. Raises what *step* raises, within that step, and what
        *begun* raises, before that block.

        *wish*: one for all, or one for each that differs in texts and pictures alone. A picture that the model's
        safety checker made black has `info["flagged"]`. Raises PaintFailed, OutOfMemory.
        """
        wishes = [wish] * len(seeds) if isinstance(wish, Wish) else list(wish)
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        self._ending = None

        def told(_: Any, place: int, __: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            self._tell(step, place + 1, tensors["latents"])
            return tensors

        if self._threads and torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)  # of this very thread, says OpenMP
        try:
            with self._taken(), self._kept(), self._loras(wishes[0]), self._announced(begun):
                view = self._view(wishes[0], generators)
                _announce(view.scheduler, lambda: self._tell(step, 0, None))
                return call.painted(view, wishes, generators, told)
        except Exception as error:
            if self._ending is not None:
                raise
            raise _fault(error, wishes[0], len(wishes)) from error
        finally:
            self._ending = None  # it holds all that was computed

    def preview(self, wish: Wish, latents: Any) -> list[Any]:
        """What *latents*, as `step` got them, look like: one PIL.Image for each picture. Raises Unsupported."""
        if not self.previews:
            raise Unsupported("Unfinished pictures of this model cannot be shown.", "Ask for none (partial_images 0).")
        try:
            return preview.decoded(self._base(wish), wish, latents)
        except Exception as error:
            if error is self._ending:
                raise
            raise _fault(error, wish, len(latents)) from error

    def free(self) -> None:
        """Give the weights back."""
        self._pipe = None
        self._views, self._blocks = {}, ()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _base(self, wish: Wish) -> Any:
        return mode.chosen(self._views, Mode.of(wish))

    def _view(self, wish: Wish, generators: Sequence[Any] = ()) -> Any:
        """A view of this wish's own, with a scheduler that nobody else has."""
        noise = generators[0] if len(generators) == 1 else list(generators) or None
        own = schedule.made(self._schedule, wish.scheduler, self.facts.schedulers, noise)
        return mode.for_request(self._base(wish), own)

    def _tell(self, told: Callable[..., None], *given: Any) -> None:
        """Call what ends the picture if it raises; that is no fault of the engine."""
        try:
            told(*given)
        except BaseException as error:
            self._ending = error
            raise

    def _announced(self, begun: Begun | None) -> Any:
        return block.announced(self._blocks, lambda: self._tell(begun)) if begun else nullcontext()

    def _taken(self) -> Any:
        return self._room.taken() if self._room else nullcontext()

    def _loras(self, wish: Wish) -> Any:
        return lora.chosen(self._pipe, wish.loras) if self.facts.loras else nullcontext()

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """Put back what a pipeline leaves changed when it is ended in the middle: parts moved, the VAE in float32."""
        try:
            yield
        finally:
            vae = getattr(self._pipe, "vae", None)
            if vae is not None and vae.dtype != self._vae_dtype:
                vae.to(dtype=self._vae_dtype)
            self._pipe.maybe_free_model_hooks()

    def _own_notes(self) -> Iterator[str]:
        for one in Mode:
            if one not in self._views:
                yield f"this model does no {one.value}"
        if getattr(self._pipe, "safety_checker", None) is not None:
            yield "the model's own safety checker is kept: what it objects to is black, and said to be flagged"
        if not all(map(call.tells, self._views.values())):
            yield f"{type(self._pipe).__name__} tells nothing of its steps: a picture that is begun is finished"


def _check_side(name: str, side: int, unit: int) -> None:
    if side < unit or side % unit:
        near = max(unit, round(side / unit) * unit)
        raise Invalid(f"{name} is {side}.", f"It must be a multiple of {unit}, such as {near}.", param=name, unit=unit)


def _announce(scheduler: Any, begun: Callable[[], None]) -> None:
    """Have *scheduler*, which is of one request, call *begun* when it is first told the number of steps."""
    told = scheduler.set_timesteps

    @functools.wraps(told)
    def set_timesteps(*given: Any, **named: Any) -> Any:
        scheduler.set_timesteps = told
        begun()
        return told(*given, **named)

    scheduler.set_timesteps = set_timesteps


_NO_MEMORY = ("can't allocate memory", "not enough memory")
"""How torch says it of main memory: by RuntimeErrors, in the words of alloc_cpu.cpp for each system."""


def _fault(error: Exception, wish: Wish, count: int) -> Fault:
    if isinstance(error, Fault):
        return error
    size = f"{wish.width}x{wish.height}"
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or any(told in str(error) for told in _NO_MEMORY):
        return OutOfMemory(
            f"there is no memory to paint {count} of {size}: {error}.",
            "Ask for smaller ones or fewer at once, or load the model with the options slicing and tiling.",
        )
    return PaintFailed(
        f"diffusers could not paint {size} in {wish.steps} steps: {type(error).__name__}: {error}.",
        "Try another size, scheduler or number of steps.",
    )
