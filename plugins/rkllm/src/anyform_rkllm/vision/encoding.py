"""A vision encoder: pictures as a request has them to embeddings as the library takes them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anyform.contract.errors import ContextExceeded, Invalid, LoadFailed, Unsupported
from anyform.contract.jobs import Picture
from anyform.picture import reading
from anyform.picture.backend import library
from anyform.pretrained.configuration import Configuration
from anyform_rkllm.engine import Pictures
from anyform_rkllm.vision import preprocess
from anyform_rkllm.vision.backend import Graph, Side, open_graph
from anyform_rkllm.vision.file import nearest_json
from anyform_rkllm.vision.finding import GRAPH, NPU, runs_on
from anyform_rkllm.vision.marks import NO_MARKS, Marks
from anyform_rkllm.vision.preprocess import Recipe

_FLOATS = ("float32", "float16")
KEPT = 16
"""Pictures whose embeddings are remembered: a few MB each at the most."""
_OTHERWISE = "Name another encoder in the load option vision."


class Encoder:
    """One encoder file. Opened by `open`, or with its first use. For several threads, of which one runs."""

    def __init__(
        self, path: Path, *, folders: Sequence[Path], platform: str = "", size: str = "", marks: Marks = NO_MARKS
    ) -> None:
        """*folders*: the model's and those above it. *platform*: the board's. *size*: the load option vision_size.

        *marks*: what goes with its pictures.

        Raises Invalid: no such file, or one that is no encoder's.
        """
        self.path = path
        self._folders, self._platform, self._marks = tuple(dict.fromkeys((path.parent, *folders))), platform, marks
        self._asked = preprocess.asked_size(size)
        self._graph: Graph | None = None
        self._tokens: tuple[int, int] | None = None
        self._kept: OrderedDict[bytes, NDArray[np.float32]] = OrderedDict()
        self._lock = threading.RLock()
        _check_path(path, platform)

    def open(self) -> None:
        """Load it, if it is not. Raises EngineMissing, Invalid, LoadFailed, Unsupported."""
        with self._lock:
            if self._tokens is None:
                graph = open_graph(self.path, self._platform)
                try:
                    self._recipe = self._read(graph)
                    self._graph = graph
                    self._tokens = self._measured(graph)
                except BaseException:
                    self._graph = None
                    graph.close()
                    raise

    @property
    def tokens_per_picture(self) -> int:
        """How much of the context a picture takes. Opens the encoder."""
        self.open()
        assert self._tokens is not None
        return self._tokens[0]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height that pictures are scaled to. Opens the encoder."""
        self.open()
        return self._recipe.width, self._recipe.height

    def check(self, count: int, prompt_tokens: int, context: int) -> None:
        """Raise ContextExceeded where *count* pictures and the prompt's tokens are more than *context* less one."""
        needed = count * self.tokens_per_picture + prompt_tokens
        if needed >= context:
            raise ContextExceeded(
                f"{count} picture{'s' * (count != 1)} of {self.tokens_per_picture} tokens each and "
                f"{prompt_tokens} tokens of text are {needed} tokens; the context is {context}.",
                "Send fewer pictures, or load the model with a larger context, if it was made for one.",
                prompt_tokens=needed,
                context=context,
            )

    def encode(self, pictures: Sequence[bytes]) -> Pictures:
        """*pictures*, each an encoded file, in that order: float32, pictures x tokens x width of the model, contiguous.

        Raises Invalid for what is no picture; EngineMissing, LoadFailed, Unsupported.
        """
        if not pictures:
            raise Invalid("there is no picture to encode.", "Send one.")
        with self._lock:
            self.open()
            rows = [self._encoded(data, f"picture {number}") for number, data in enumerate(pictures, 1)]
        width, height = self.size
        return Pictures(
            embeddings=np.ascontiguousarray(np.stack(rows), np.float32),
            tokens=self.tokens_per_picture,
            count=len(rows),
            width=width,
            height=height,
            start=self._marks.start,
            end=self._marks.end,
            content=self._marks.content,
        )

    def close(self) -> None:
        """Free it. Idempotent."""
        with self._lock:
            graph, self._graph, self._tokens = self._graph, None, None
            self._kept.clear()
            if graph is not None:
                graph.close()

    def _encoded(self, data: bytes, place: str) -> NDArray[np.float32]:
        """Tokens x width of one picture; remembered, since a conversation shows its pictures at every turn."""
        key = sha256(data).digest()
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        rows = self._kept[key] = self._looked(data, place)
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return rows

    def _looked(self, data: bytes, place: str) -> NDArray[np.float32]:
        assert self._graph is not None
        rows = self._rows(self._graph.run(self._recipe.follow(reading.read(Picture(data=data), place))))
        if rows.shape != self._tokens:
            raise LoadFailed(
                f"the vision encoder {self.path.name} gave {rows.shape} for {place}, and {self._tokens} before.",
                _OTHERWISE,
            )
        if not np.isfinite(rows).all():
            raise LoadFailed(
                f"the vision encoder {self.path.name} gave numbers for {place} that are not finite.", _OTHERWISE
            )
        return rows

    @cached_property
    def _config(self) -> Mapping[str, Any]:
        return nearest_json(self._folders, "config.json")

    def _read(self, graph: Graph) -> Recipe:
        """What the encoder wants of a picture. Raises Invalid, LoadFailed, Unsupported."""
        if graph.inputs is None:
            return self._vendor_recipe()
        if graph.outputs is not None:
            self._check_count(len(graph.outputs))
        side = self._input(graph.inputs)
        channels_first = side.shape[1] == 3
        said = preprocess.processor(self._folders)
        height, width = side.shape[2:] if channels_first else side.shape[1:3]
        width, height = self._sized(width, height, said)
        normalized = preprocess.normalization(said) if side.dtype in _FLOATS else {}
        return Recipe(width=width, height=height, dtype=side.dtype, channels_first=channels_first, **normalized)

    def _vendor_recipe(self) -> Recipe:
        """As the vendor's demos feed a .rknn: whole numbers, red first, colours last; it normalizes them itself."""
        said = preprocess.processor(self._folders)
        width, height = self._sized(None, None, said)
        return Recipe(width=width, height=height)

    def _input(self, inputs: Sequence[Side]) -> Side:
        if len(inputs) != 1:
            names = ", ".join(side.name for side in inputs)
            raise Unsupported(
                f"the vision encoder {self.path.name} takes {len(inputs)} inputs ({names}) and not one picture.",
                "Export it for one size, so that a picture is all that it takes.",
            )
        side = inputs[0]
        is_picture = len(side.shape) == 4 and 3 in (side.shape[1], side.shape[3])
        if not is_picture or side.shape[0] not in (None, 1) or side.dtype not in (*_FLOATS, "uint8"):
            raise Unsupported(
                f"the vision encoder {self.path.name} takes {_shape(side)} and not one picture: "
                "1 x 3 x height x width or 1 x height x width x 3, of float32, float16 or uint8.",
                "Export it for one picture of one size.",
            )
        return side

    def _sized(self, width: int | None, height: int | None, said: Mapping[str, Any]) -> tuple[int, int]:
        """The graph's own size, else the user's, else that of the model's files. Raises Invalid, Unsupported."""
        own = (width, height)
        asked = self._asked
        if asked and any(side not in (None, wanted) for side, wanted in zip(own, asked, strict=True)):
            raise Invalid(
                f"load option vision_size is {asked[0]}x{asked[1]}; the vision encoder {self.path.name} takes "
                f"{width} x {height} pixels.",
                "Leave it out.",
                option="vision_size",
            )
        stated = asked or preprocess.stated_size(said, self._config)
        found = tuple(side or (stated[place] if stated else 0) for place, side in enumerate(own))
        if not all(0 < side <= preprocess.MOST_SIDE for side in found):
            raise Unsupported(
                f"the vision encoder {self.path.name} does not say which size its pictures have, nor do "
                "preprocessor_config.json and config.json beside the model.",
                "Set the load option vision_size, such as 448 or 448x336.",
            )
        return found[0], found[1]

    def _measured(self, graph: Graph) -> tuple[int, int]:
        """Tokens of a picture, and their width, as its output says, else as it answers to an empty picture."""
        shape = graph.outputs[0].shape if graph.outputs else ()
        shape = shape[1:] if len(shape) == 3 and shape[0] in (None, 1) else shape
        if len(shape) == 2 and shape[0] and shape[1]:
            found = (shape[0], shape[1])
        else:
            grey = (preprocess.GREY,) * 3
            blank = library().new("RGB", (self._recipe.width, self._recipe.height), grey)
            rows = self._rows(graph.run(self._recipe.follow(blank)))
            found = (rows.shape[0], rows.shape[1])
        wanted = Configuration(self._config).shape()["embedding_length"]
        if wanted and found[1] != wanted:
            raise LoadFailed(
                f"the vision encoder {self.path.name} gives embeddings of {found[1]} numbers; "
                f"the model's have {wanted} (hidden_size in config.json).",
                f"It is another model's. {_OTHERWISE}",
            )
        return found

    def _rows(self, outputs: Sequence[Any]) -> NDArray[np.float32]:
        """Tokens x width. Raises Unsupported."""
        self._check_count(len(outputs))
        found = np.asarray(outputs[0])
        rows = found[0] if found.ndim == 3 and found.shape[0] == 1 else found
        if rows.ndim != 2 or not rows.size or rows.dtype.kind != "f":
            raise Unsupported(
                f"the vision encoder {self.path.name} gives {'x'.join(map(str, found.shape))} of {found.dtype} and not "
                "tokens x width.",
                _OTHERWISE,
            )
        return rows.astype(np.float32)

    def _check_count(self, outputs: int) -> None:
        if outputs != 1:
            raise Unsupported(
                f"the vision encoder {self.path.name} has {outputs} outputs. Models that feed several layers of theirs "
                "(DeepStack, as Qwen3-VL) are not supported.",
                _OTHERWISE,
            )


def _check_path(path: Path, platform: str) -> None:
    if path.suffix.lower() not in (NPU, GRAPH) or not path.is_file():
        what = "is no file" if path.suffix.lower() in (NPU, GRAPH) else f"is neither a {NPU} nor a {GRAPH}"
        raise Invalid(f"the vision encoder {path} {what}.", "Correct the load option vision.", option="vision")
    if not runs_on(path.name, platform):
        raise Invalid(
            f"the vision encoder {path.name} is made for another platform, as its name says; this board is {platform}.",
            _OTHERWISE,
            option="vision",
        )


def _shape(side: Side) -> str:
    sides = " x ".join("any" if one is None else str(one) for one in side.shape)
    return f"{sides or 'one number'} of {side.dtype} ({side.name})"
