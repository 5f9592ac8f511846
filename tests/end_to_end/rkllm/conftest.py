"""Houses: a board as its files show it, the stand-in library in one of the four ABIs, tiny models, and their server."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from anyform.testing import compiling, rkllm, rockchip
from anyform.testing.onnx import Graph, write_onnx
from anyform_rkllm.info import LIBRARY
from anyform_rkllm.layout import Era

from .house import House, Served

SOURCE = Path(__file__).parents[3] / "plugins/rkllm/tests/stand_in/stand_in.cpp"
TOOLKIT = "1.1.4"
"""The oldest: what it made every library loads."""
SETTINGS = """
[models]
folders = ["{models}"]
sources = []
[lifecycle]
idle_s = -1
check_s = 0.1
stuck_s = {stuck_s}
[log]
level = "debug"
[plugin.rkllm]
library = "{library}"
root = "{board}"
{stand_in}
"""


def library(era: Era) -> Path:
    """The library of that ABI, built once."""
    if not compiling.compiler():
        pytest.skip("there is no C++ compiler (such as g++) to build the stand-in library with")
    return compiling.shared_library(SOURCE, LIBRARY, {"ERA": int(era), "AUDIO": 0})


def write_encoder(path: Path) -> None:
    """What makes pictures of 8 x 8 into 4 rows of 8 numbers, as wide as the models are."""
    graph, numbers = Graph(), array("f", (float(number % 7 - 3) for number in range(8 * 3 * 4 * 4)))
    pixels = graph.node("Cast", graph.input("pixels", "U8", (1, 8, 8, 3)), to=1)
    kernel = graph.weights("kernel", "F32", (8, 3, 4, 4), numbers.tobytes())
    first = graph.node("Transpose", pixels, perm=[0, 3, 1, 2])
    found = graph.node("Conv", first, kernel, kernel_shape=[4, 4], strides=[4, 4])
    flat = graph.node("Reshape", found, graph.constant([0, 8, -1], "I64"))
    graph.node("Transpose", flat, called="rows", perm=[0, 2, 1])
    graph.output("rows", "F32", (1, 4, 8))
    write_onnx(path, graph)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`chat` and `other` with all their files, `sees` with a vision encoder, `bare` with nothing beside it, `far` for
    another chip.
    """
    folder = tmp_path_factory.mktemp("shelf")
    made: dict[str, Any] = {"trailer": TOOLKIT, "stand_in": {"toolkit": TOOLKIT}}
    for name in ("chat", "other", "sees"):
        rkllm.write_model(folder / name, **made)
    write_encoder(folder / "sees" / "vision_encoder.onnx")
    rkllm.write(folder / "bare" / "bare.rkllm", **made)
    rkllm.write_model(folder / "far", rkllm.NAME.replace("3588", "3576"), **made)
    return folder


@pytest.fixture(scope="session")
def house(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., House]:
    """Makes one."""

    def make(era: Era = Era.V13, *, stand_in: bool = True, stuck_s: float = 600, models: Path = models) -> House:
        folder = tmp_path_factory.mktemp("house")
        said: dict[str, Any] = {
            "models": models,
            "stuck_s": stuck_s,
            "library": library(era),
            "board": rockchip.write(folder / "board", rockchip.tree("rk3588")),
            "stand_in": "stand_in = true" if stand_in else "",
        }
        return House(folder, SETTINGS.format(**said))

    return make


@pytest.fixture(scope="module")
def serve(house: Callable[..., House]) -> Iterator[Callable[..., Served]]:
    """Starts the server of a new house; it ends with the module."""
    with ExitStack() as stack:
        yield lambda *era, **how: stack.enter_context(house(*era, **how).serve())


@pytest.fixture(scope="module")
def served(serve: Callable[..., Served]) -> Served:
    """With the latest ABI, 1.3."""
    return serve()
