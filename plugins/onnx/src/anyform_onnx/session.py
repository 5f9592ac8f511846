"""One graph in onnxruntime: opened on the providers that were chosen, run by any thread, and what it really runs on."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from anyform.contract.errors import LoadFailed
from anyform.text.processor import cores
from anyform_onnx import provider
from anyform_onnx.backend import onnxruntime
from anyform_onnx.options import Options

DTYPES: Mapping[str, str] = {
    "float": "F32", "uint8": "U8", "int8": "I8", "uint16": "U16", "int16": "I16", "int32": "I32", "int64": "I64",
    "string": "TEXT", "bool": "BOOL", "float16": "F16", "double": "F64", "uint32": "U32", "uint64": "U64",
    "bfloat16": "BF16",
}  # fmt: skip
"""How onnxruntime calls types -> how the rest of anyform does."""
Array = NDArray[Any]
Value = tuple[str, tuple[int | str, ...]]
"""Type and shape; a side that differs from call to call has a name, or "" where it has none."""
_ERRORS_ONLY, _NOTHING = 3, 4
"""Of onnxruntime's log, which goes to stderr. While it runs nothing: each error is raised, too."""
LEVELS = {
    "none": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
_NO_MEMORY = ("allocate memory", "bad_alloc", "out of memory", "out_of_memory", "bad allocation")


_NOISE = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : \w+ : "
    r"|Load model from .+? failed: ?"
    r"|/\S+\.(?:cc|cu|h|cpp):\d+ [^()]*\([^()]*\)(?: const)? "
    r"|\b\w+\.(?:cc|cu|h|cpp):\d+ \w+ "
)


class Session:
    """A graph that is loaded. `run` may be called by several threads at once."""

    def __init__(self, raw: Any, asked: Sequence[str], model: str) -> None:
        """*raw*: an onnxruntime.InferenceSession. *asked*: the providers that it was to have, in order."""
        self.raw = raw
        self.model = model
        self.inputs: Mapping[str, Value] = {one.name: _value(one) for one in raw.get_inputs()}
        self.outputs: Mapping[str, Value] = {one.name: _value(one) for one in raw.get_outputs()}
        self.providers: tuple[str, ...] = tuple(raw.get_providers())
        """As onnxruntime tells them once the graph is loaded: what it has not, it did not start."""
        self.device_index = _index(raw, self.providers)
        """Of the devices of its first provider: the one that it runs on, and that what is bound to it must be on."""
        self.operators: Mapping[str, int] = _operators(raw)
        """Provider -> how many operators of the graph it runs."""
        self.notes: tuple[str, ...] = tuple(_fallen(self, asked))
        """What its user must know: a provider that was to run it and does not."""

    @property
    def runs_on(self) -> str:
        """The providers that really run operators: `CUDA (812 of 840 operators), CPU (28)`, or `CPU`."""
        counts = Counter(self.operators)
        names = [provider.short(name) for name, _ in counts.most_common()] or [provider.short(self.providers[0])]
        if len(names) == 1:
            return names[0]
        total = counts.total()
        told = [f"{provider.short(name)} ({count} of {total} operators)" for name, count in counts.most_common()]
        return ", ".join(told)

    def run(self, outputs: Sequence[str] | None, inputs: Mapping[str, Array]) -> list[Array]:
        """The values of *outputs*, in that order; None: of all. Blocks.

        Raises MemoryError, and LoadFailed where onnxruntime fails otherwise.
        """
        with self.running() as options:
            found: list[Array] = self.raw.run(outputs, inputs, options)
        return found

    def run_bound(self, binding: Any) -> None:
        """`run` with an IOBinding that `raw.io_binding()` made."""
        with self.running() as options:
            self.raw.run_with_iobinding(binding, options)

    @contextmanager
    def running(self) -> Iterator[Any]:
        """RunOptions for one run, whose errors become ours."""
        options = onnxruntime.RunOptions()
        options.log_severity_level = _NOTHING
        try:
            yield options
        except Exception as error:  # onnxruntime has one class for each of its codes, and no common one
            raise _failed(error, self.model) from error


def open_session(path: Path, options: Options, device: str, *, model: str) -> Session:
    """Load *path* on *device*, a `Device.id`. *model*: what its user calls it.

    Raises Invalid for a provider that is not there, LoadFailed, MemoryError.
    """
    available = onnxruntime.get_available_providers()
    providers = arranged(options, device, available)
    try:
        raw = onnxruntime.InferenceSession(
            str(path), sess_options=_session_options(options), providers=providers, enable_fallback=0
        )
    except Exception as error:
        raise _refused(error, path, model) from error
    raw.disable_fallback()  # in the middle of a run it would move the graph to another provider without a word
    session = Session(raw, [name for name, _ in providers], model)
    session.notes += provider.unmet(options.providers, available, device)
    return session


def _session_options(options: Options) -> Any:
    made = onnxruntime.SessionOptions()
    made.log_severity_level = _ERRORS_ONLY
    made.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, LEVELS[options.optimization])
    made.intra_op_num_threads = options.threads or cores()  # 0 would nail each to a core, beside another model's
    made.inter_op_num_threads = options.inter_threads or 1
    if (options.inter_threads or 1) > 1:
        made.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL
    made.enable_mem_pattern = False  # with a plan for each shape that comes encoders take a third more, at no gain
    made.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if not options.spinning:
        made.add_session_config_entry("session.intra_op.allow_spinning", "0")
        made.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return made


def arranged(options: Options, device: str, available: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    """The providers to try, in order, with what is passed to each. Raises Invalid."""
    names = provider.chosen(options.providers, available, device)
    provider.check_options(options.provider_options, names)
    return [(name, settings(name, options, device)) for name in names]


def settings(name: str, options: Options, device: str) -> dict[str, str]:
    """What onnxruntime passes to the provider called *name*: the user's words, over the device that was planned."""
    short = provider.short(name)
    kind, _, index = device.partition(":")
    planned = {"device_id": index} if index and short in provider.NUMBERED and kind in provider.DEVICES[short] else {}
    for key, said in options.provider_options.items():
        planned |= said if provider.word(key) == provider.word(name) else {}
    return planned


def _value(told: Any) -> Value:
    name = str(told.type).removeprefix("tensor(").removesuffix(")")
    return DTYPES.get(name, name), tuple(side if side is not None else "" for side in told.shape)


def _index(raw: Any, providers: Sequence[str]) -> int:
    """As the first of *providers* tells it once it has started."""
    said = raw.get_provider_options().get(providers[0], {}) if providers else {}
    return int(said.get("device_id", 0))


def _operators(raw: Any) -> dict[str, int]:
    """As the session was partitioned; empty where this onnxruntime does not tell."""
    counts: Counter[str] = Counter()
    if hasattr(raw, "get_provider_graph_assignment_info"):  # since 1.24
        for part in raw.get_provider_graph_assignment_info():
            counts[part.ep_name] += len(part.get_nodes())
    return dict(counts)


def _fallen(session: Session, asked: Sequence[str]) -> Iterator[str]:
    """A silent fall-back to the CPU, in words."""
    wanted = [name for name in asked if name != provider.CPU]
    for name in wanted:
        if name not in session.providers:
            yield (
                f"onnxruntime could not start its provider {provider.short(name)}; {session.runs_on} runs the model "
                "instead. What it lacks, such as a library of CUDA, is in the log."
            )
    there = [name for name in wanted if name in session.providers]
    if there and session.operators and not any(session.operators.get(name) for name in there):
        names = " and ".join(provider.short(name) for name in there)
        yield f"{names} was to run the model, and takes none of its operators; {session.runs_on} runs it instead."


def _failed(error: Exception, model: str) -> Exception:
    """What a run's *error* is to the rest of anyform."""
    said = str(error)
    if isinstance(error, MemoryError) or any(sign in said.lower() for sign in _NO_MEMORY):
        return MemoryError(f"onnxruntime got no memory to run {model}")
    return LoadFailed(
        f"onnxruntime failed running {model}: {_sentence(said)}", "Try another variant of it, or other providers."
    )


_HINTS: Mapping[str, str] = {
    "NoSuchFile": "Get the model again.",
    "InvalidProtobuf": "The file is damaged: get the model again.",
    "NoModel": "The file is damaged: get the model again.",
    "NotImplemented": "Its providers lack this operator for this type: take another variant, such as fp32.",
}
_SIGNS: Mapping[str, str] = {
    "is not a registered function/op": "It uses operators of its own, which no onnxruntime has.",
    "No Op registered": "A later onnxruntime may know this operator; or export the model with a lower opset.",
    "opset": "A later onnxruntime may know this opset; or export the model with a lower one.",
    "IR version": "A later onnxruntime may know this version; or export the model with an older exporter.",
    "External data": "Its weights lie in a file beside it: get the model again, with all its files.",
}


def _refused(error: Exception, path: Path, model: str) -> Exception:
    """What an *error* of loading is to the rest of anyform."""
    said = str(error)
    if isinstance(error, MemoryError) or any(sign in said.lower() for sign in _NO_MEMORY):
        return MemoryError(f"onnxruntime got no memory to load {path.name} of {model}")
    hint = _HINTS.get(type(error).__name__) or next((hint for sign, hint in _SIGNS.items() if sign in said), "")
    return LoadFailed(f"onnxruntime cannot load {path.name} of {model}: {_sentence(said)}", hint or "Get it again.")


def _sentence(said: str) -> str:
    """What onnxruntime *said*, on one line, without its codes and places in its source."""
    words = _NOISE.sub("", " ".join(said.split()))
    return words if words.endswith(".") else f"{words}."
