"""onnxruntime, as the engines of speech use it: a session that several threads may run, and end from outside.

One of the files that may import an engine; the others take it from here.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnxruntime

from anyform.contract.errors import LoadFailed, OutOfMemory
from anyform_audio.speech import lane

PROVIDERS = ("CPUExecutionProvider",)
SEED = 0
"""Of networks that compute with chance: after each load the same requests in the same order sound the same."""
_ERRORS_ONLY = 3


class Running:
    """The inferences of one request."""

    def __init__(self) -> None:
        self.options: Any = onnxruntime.RunOptions()

    def end(self) -> None:
        """Let the inference that is under way fail at its next operator, and all later ones at once."""
        self.options.terminate = True


class Session:
    """A loaded graph. Has what piper-tts and kokoro-onnx ask of an InferenceSession."""

    def __init__(self, path: Path, model: str, threads: int | None) -> None:
        """*model*: what its user calls it. Raises LoadFailed, OutOfMemory."""
        self.threads = lane.threads(threads)
        self._inference: Any = _opened(path, model, self.threads)
        self._under = threading.local()

    @property
    def _model_path(self) -> str:
        return str(self._inference._model_path)

    @contextmanager
    def under(self, running: Running) -> Iterator[None]:
        """What this thread runs meanwhile, `running.end` ends."""
        self._under.options = running.options
        try:
            yield
        finally:
            self._under.options = None

    def run(self, names: Sequence[str] | None, feeds: Mapping[str, Any], options: Any = None) -> list[Any]:
        """The graph's outputs. Raises what onnxruntime raises."""
        made: list[Any] = self._inference.run(names, feeds, options or getattr(self._under, "options", None))
        return made

    def get_inputs(self) -> list[Any]:
        """As onnxruntime tells them: name, type, shape."""
        return list(self._inference.get_inputs())

    def get_outputs(self) -> list[Any]:
        """As `get_inputs`."""
        return list(self._inference.get_outputs())

    def get_modelmeta(self) -> Any:
        """What the file says of itself."""
        return self._inference.get_modelmeta()

    def close(self) -> None:
        """Free it. Nothing may run."""
        self._inference = None


def out_of_memory(error: Exception) -> bool:
    """Whether onnxruntime failed with *error* because it got no memory."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or "bad_alloc" in said or "allocate memory" in said


def _opened(path: Path, model: str, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.force_spinning_stop", "1")  # idle threads leave the processors to others
    onnxruntime.set_seed(SEED)
    try:
        return onnxruntime.InferenceSession(str(path), sess_options=options, providers=list(PROVIDERS))
    except Exception as error:  # onnxruntime has one class for each of its codes, and no common one
        if out_of_memory(error):
            raise OutOfMemory(f"there is no memory to load {model}.", "Use a quantized variant of it.") from error
        raise LoadFailed(f"onnxruntime cannot load {path.name} of {model}: {error}", "Get the model again.") from error
