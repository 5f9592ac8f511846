"""onnxruntime and rknnlite, which run vision encoders. The only file that imports them.

The NPU's part was written from the interface of rknn-toolkit-lite2 2.5.0 and has never run on one.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from anyform.contract.errors import EngineMissing, LoadFailed
from anyform.text.processor import cores
from anyform_rkllm.board import chip

ONNX_INSTALL = 'pip install "anyform-rkllm[vision]"'
"""What brings onnxruntime."""
NPU_INSTALL = "pip install rknn-toolkit-lite2 (there are wheels for aarch64 Linux and Python 3.12 at the most)"
"""It wants Rockchip's librknnrt.so in /usr/lib, too. Seen on the package index: 2.5.0, for Python 3.9 to 3.12."""
_CORES = {"RK3588": "NPU_CORE_0_1_2", "RK3576": "NPU_CORE_0_1"}
"""The mask of all cores; on the other platforms, which have one, there is nothing to choose."""
_ERRORS_ONLY = 3


@dataclass(frozen=True, slots=True)
class Side:
    """What a graph takes or gives: numpy's name of its numbers, and its shape; None: differs from call to call."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


class Graph(Protocol):
    """An encoder that is loaded."""

    @property
    def inputs(self) -> tuple[Side, ...] | None:
        """None: it does not tell."""

    @property
    def outputs(self) -> tuple[Side, ...] | None:
        """None: it does not tell before it runs."""

    def run(self, array: Any) -> list[Any]:
        """All outputs for the one input. Blocks. Raises LoadFailed, MemoryError."""

    def close(self) -> None:
        """Free it. Idempotent."""


class OnnxGraph:
    """A .onnx, on the CPU."""

    def __init__(self, path: Path) -> None:
        """Raises EngineMissing, LoadFailed."""
        engine = _engine("onnxruntime", f"{path.name} is run by onnxruntime", ONNX_INSTALL)
        options = engine.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        options.intra_op_num_threads = cores()
        self._path = path
        try:
            self._session: Any = engine.InferenceSession(
                str(path), sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime has one class for each of its codes, and no common one
            raise _failed(f"onnxruntime cannot load the vision encoder {path.name}", error) from error
        self.inputs = tuple(_side(one) for one in self._session.get_inputs())
        self.outputs = tuple(_side(one) for one in self._session.get_outputs())

    def run(self, array: Any) -> list[Any]:
        try:
            found: list[Any] = self._session.run(None, {self.inputs[0].name: array})
        except Exception as error:
            raise _failed(f"onnxruntime failed in the vision encoder {self._path.name}", error) from error
        return found

    def close(self) -> None:
        self._session = None


class NpuGraph:
    """A .rknn, on all cores of the NPU."""

    inputs = None
    """The interface has no question for them."""
    outputs = None

    def __init__(self, path: Path, platform: str) -> None:
        """*platform*: RK3588. Raises EngineMissing, LoadFailed."""
        engine = _engine("rknnlite.api", f"{path.name} is run by the NPU through rknn-toolkit-lite2", NPU_INSTALL)
        self._path = path
        self._lite: Any = engine.RKNNLite(verbose=False)
        self._check("load_rknn", self._lite.load_rknn(str(path)))
        mask = _CORES.get(chip(platform))
        chosen = {"core_mask": getattr(engine.RKNNLite, mask)} if mask else {}
        self._check("init_runtime", self._lite.init_runtime(**chosen))

    def run(self, array: Any) -> list[Any]:
        found = self._lite.inference(inputs=[array])
        if found is None:
            raise LoadFailed(
                f"the NPU did not run the vision encoder {self._path.name} on a picture of "
                f"{array.shape[2]} x {array.shape[1]} pixels.",
                "Its own words are in the log; where the encoder wants another size, set the load option vision_size.",
            )
        return list(found)

    def close(self) -> None:
        lite, self._lite = self._lite, None
        if lite is not None:
            lite.release()

    def _check(self, call: str, code: Any) -> None:
        if code != 0:
            self.close()
            raise LoadFailed(
                f"rknnlite's {call} answered {code} for the vision encoder {self._path.name}.",
                "Its own words are in the log; the file must be made for this board's platform, and /usr/lib must hold "
                "a librknnrt.so that is no older than the toolkit that made it.",
            )


def open_graph(path: Path, platform: str) -> Graph:
    """*path* loaded: a .rknn on the NPU, else a .onnx on the CPU. Raises EngineMissing, LoadFailed."""
    return NpuGraph(path, platform) if path.suffix.lower() == ".rknn" else OnnxGraph(path)


def _engine(module: str, why: str, install: str) -> Any:
    try:
        return import_module(module)
    except (ImportError, OSError, RuntimeError) as error:  # its libraries may be missing, or of another machine
        raise EngineMissing(f"{why}, which cannot be imported: {error}.", f"Install it: {install}") from error


def _failed(what: str, error: Exception) -> Exception:
    said = " ".join(str(error).split())[:300].rstrip(".")
    return LoadFailed(f"{what}: {said}.", "Get the file again, or one that was exported otherwise.")


def _side(one: Any) -> Side:
    names = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}
    shape = tuple(side if type(side) is int else None for side in one.shape)
    return Side(one.name, names.get(one.type, str(one.type)), shape)
