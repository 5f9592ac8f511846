"""Sessions of the real onnxruntime: what they run on, their options, how runs end, and each way to fail."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("tokenizers")

from anyform.assembly import start  # noqa: E402
from anyform.contract.errors import Invalid, LoadFailed  # noqa: E402
from anyform.contract.facts import Settings  # noqa: E402
from anyform.testing.onnx import Graph, write_onnx  # noqa: E402
from anyform.testing.onnxencoder import write_encoder  # noqa: E402
from anyform_onnx.options import read  # noqa: E402
from anyform_onnx.session import Session, arranged, open_session  # noqa: E402

pytestmark = pytest.mark.engine


def opened(path: Path, device: str = "cpu", **options: Any) -> Session:
    return open_session(path, read(options), device, model="m")


def doubling(folder: Path, **said: Any) -> Path:
    """Doubles a row of numbers of any length."""
    graph = Graph()
    given = graph.input("x", "F32", ("n", 3))
    graph.output(graph.node("Add", given, given, called="y"), "F32", ("n", 3))
    graph.output(graph.node("Cast", given, called="whole", to=7), "I64", ("n", 3))
    return write_onnx(folder / "model.onnx", graph, **said)


def test_a_session_tells_its_inputs_and_runs(tmp_path: Path) -> None:
    session = opened(doubling(tmp_path))
    assert session.inputs == {"x": ("F32", ("n", 3))}
    assert session.outputs == {"y": ("F32", ("n", 3)), "whole": ("I64", ("n", 3))}
    rows = np.array([[1.0, 2.0, 3.5]], np.float32)
    [whole, doubled] = session.run(["whole", "y"], {"x": rows})
    assert doubled.tolist() == [[2.0, 4.0, 7.0]]
    assert whole.tolist() == [[1, 2, 3]]
    assert len(session.run(None, {"x": rows})) == 2


def test_many_threads_may_run_one_session(tmp_path: Path) -> None:
    session = opened(doubling(tmp_path))
    found: dict[int, list[float]] = {}

    def run(number: int) -> None:
        for _ in range(20):
            found[number] = session.run(["y"], {"x": np.full((1, 3), number, np.float32)})[0][0].tolist()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert found == {number: [2.0 * number] * 3 for number in range(8)}


def test_bindings_are_run_too(tmp_path: Path) -> None:
    session = opened(doubling(tmp_path))
    binding = session.raw.io_binding()
    binding.bind_cpu_input("x", np.ones((2, 3), np.float32))
    binding.bind_output("y")
    session.run_bound(binding)
    assert binding.copy_outputs_to_cpu()[0].tolist() == [[2.0] * 3] * 2


def test_what_really_runs_is_read_back(tmp_path: Path) -> None:
    session = opened(doubling(tmp_path))
    assert session.providers == ("CPUExecutionProvider",)
    assert dict(session.operators) == {"CPUExecutionProvider": 2}
    assert session.runs_on == "CPU"
    assert session.notes == ()


def test_the_device_is_read_back(tmp_path: Path) -> None:
    """No test has several of CUDA's devices: what it tells of itself there is given here."""

    class Second:
        def __init__(self, raw: Any) -> None:
            self._raw = raw

        def get_provider_options(self) -> dict[str, dict[str, str]]:
            return {"CPUExecutionProvider": {"device_id": "1"}}

        def __getattr__(self, name: str) -> Any:
            return getattr(self._raw, name)

    session = opened(doubling(tmp_path))
    assert session.device_index == 0
    assert Session(Second(session.raw), [], "m").device_index == 1


def test_a_provider_that_starts_and_takes_no_operator_is_warned_of(tmp_path: Path) -> None:
    """Azure's is in the wheel for the CPU: it starts, and takes operators of its own alone."""
    session = opened(doubling(tmp_path), providers="azure,cpu")
    assert session.providers == ("AzureExecutionProvider", "CPUExecutionProvider")
    assert session.runs_on == "CPU"
    assert session.notes == ("Azure was to run the model, and takes none of its operators; CPU runs it instead.",)


@pytest.mark.filterwarnings("ignore:Specified provider")
@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="CUDA may start here")
def test_a_provider_that_does_not_start_is_warned_of(tmp_path: Path) -> None:
    """Onnxruntime itself falls back to the CPU without an error, as it does where a library of CUDA is missing."""
    asked = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    session = Session(onnxruntime.InferenceSession(str(doubling(tmp_path)), options, providers=asked), asked, "m")
    [note] = session.notes
    assert note.startswith("onnxruntime could not start its provider CUDA; CPU runs the model instead.")


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="CUDA is there")
def test_a_provider_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="'cuda'") as caught:
        opened(doubling(tmp_path), providers="cuda")
    assert "onnxruntime-gpu" in caught.value.hint


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="CUDA is there")
def test_a_device_that_this_wheel_cannot_use_is_warned_of(tmp_path: Path) -> None:
    [note] = opened(doubling(tmp_path), "cuda:0").notes
    assert note.startswith("cuda:0 was planned, and the installed onnxruntime has Azure, CPU alone")
    assert "`pip install onnxruntime-gpu`" in note
    assert opened(doubling(tmp_path), "cuda:0", providers="cpu").notes == ()


def test_options_reach_onnxruntime(tmp_path: Path) -> None:
    session = opened(
        doubling(tmp_path), threads=1, inter_threads=2, optimization="basic", spinning="false",
        provider_options={"CPU": {}},
    )  # fmt: skip
    told = session.raw.get_session_options()
    assert told.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert (told.intra_op_num_threads, told.inter_op_num_threads) == (1, 2)
    assert told.execution_mode == onnxruntime.ExecutionMode.ORT_PARALLEL
    assert told.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC


@pytest.mark.parametrize("called", ["cuda", "CUDA", "CUDAExecutionProvider", "cudaexecutionprovider", " Cuda"])
def test_a_providers_options_are_its_own_whatever_it_is_called(called: str) -> None:
    options = read({"provider_options": {called: {"gpu_mem_limit": 5}}})
    there = ("CUDAExecutionProvider", "CPUExecutionProvider")
    [(name, said), last] = arranged(options, "cuda:1", there)
    assert (name, said) == ("CUDAExecutionProvider", {"device_id": "1", "gpu_mem_limit": "5"})
    assert last == ("CPUExecutionProvider", {})


@pytest.mark.parametrize(("called", "name"), [("directml", "Dml"), ("trt", "Tensorrt")])
def test_a_providers_options_may_have_its_other_name(called: str, name: str) -> None:
    options = read({"providers": called, "provider_options": {called: {"device_id": 1}}})
    found = arranged(options, "cpu", (f"{name}ExecutionProvider", "CPUExecutionProvider"))
    assert found[0] == (f"{name}ExecutionProvider", {"device_id": "1"})


@pytest.mark.parametrize(
    ("called", "hint"),
    [("cudda", "Name the provider in the option providers, too"), ("cuda", "providers, too"), ("CPU", "threads")],
)
def test_options_that_no_provider_takes_are_refused(called: str, hint: str, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=f"provider_options .*'{called}'") as caught:
        opened(doubling(tmp_path), providers="cpu", provider_options={called: {"a": "b"}})
    assert hint in caught.value.hint


def test_threads_may_be_told_to_sleep_between_operators(tmp_path: Path) -> None:
    told = opened(doubling(tmp_path), spinning="false").raw.get_session_options()
    assert told.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_no_memory_is_a_memory_error(tmp_path: Path) -> None:
    graph = Graph()
    graph.output(graph.node("ConstantOfShape", graph.input("n", "I64", (1,))), "F32", ("m",))
    session = opened(write_onnx(tmp_path / "model.onnx", graph))
    with pytest.raises(MemoryError, match="to run m"):
        session.run(None, {"n": np.array([1 << 44], np.int64)})


def test_a_run_that_fails_says_what_onnxruntime_says_without_its_codes(tmp_path: Path) -> None:
    session = opened(doubling(tmp_path))
    with pytest.raises(LoadFailed, match="onnxruntime failed running m: Got invalid dimensions for input: x") as caught:
        session.run(None, {"x": np.ones((1, 4), np.float32)})
    assert "ONNXRuntimeError" not in caught.value.message


def _operator(
    folder: Path, kind: str, dtype: str = "F32", domains: Mapping[str, int] | None = None, **said: Any
) -> Path:
    graph = Graph()
    given = graph.input("x", dtype, ("n",))
    graph.output(graph.node(kind, given, domain=next(iter(domains or {}), "")), dtype, ("n",))
    return write_onnx(folder / "model.onnx", graph, domains=domains, **said)


def _unread(folder: Path) -> Path:
    (folder / "model.onnx").write_bytes(b"\x08\x08 these are no fields")
    return folder / "model.onnx"


def _without_weights(folder: Path) -> Path:
    graph = Graph()
    weights = graph.constant([0.5] * 1024)
    graph.output(graph.node("Add", graph.input("x", "F32", (1024,)), weights), "F32", (1024,))
    path = write_onnx(folder / "model.onnx", graph, external="model.onnx_data")
    (folder / "model.onnx_data").unlink()
    return path


@pytest.mark.parametrize(
    ("written", "said", "hint"),
    [
        (lambda folder: folder / "model.onnx", "File doesn't exist", "Get the model again"),
        (_unread, "Protobuf parsing failed", "damaged"),
        (_without_weights, "External data path does not exist", "all its files"),
        (lambda folder: _operator(folder, "Abacus", domains={"own": 1}), "own:Abacus", "operators of its own"),
        (lambda folder: _operator(folder, "Abacus"), "No Op registered for Abacus", "later onnxruntime"),
        (lambda folder: _operator(folder, "Sin", opset=99), "Opset 99", "later onnxruntime"),
        (lambda folder: _operator(folder, "Sin", ir_version=99), "IR version: 99", "later onnxruntime"),
        (lambda folder: _operator(folder, "Gelu", "F64", opset=20), "Could not find an implementation", "fp32"),
    ],
)
def test_what_onnxruntime_refuses_is_a_load_that_failed(tmp_path: Path, written: Any, said: str, hint: str) -> None:
    with pytest.raises(LoadFailed) as caught:
        opened(written(tmp_path))
    assert said in caught.value.message
    assert hint in caught.value.hint
    assert "ONNXRuntimeError" not in caught.value.message
    assert "onnxruntime_src" not in caught.value.message


def test_nothing_is_printed_where_nothing_fails(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    session = opened(doubling(tmp_path))
    with pytest.raises(LoadFailed):
        session.run(None, {"x": np.ones((1, 4), np.float32)})
    assert capfd.readouterr() == ("", "")


def test_users_are_told_where_they_look_for_loaded_models(tmp_path: Path) -> None:
    """Through the whole of it: the router, a worker, and what `ps` and /runtime/status show."""
    write_encoder(tmp_path / "models" / "tiny", pooling="mean")
    runtime = start(folders=[tmp_path / "models"], state=tmp_path / "state", prefer=("onnx",))
    try:
        runtime.open("tiny", settings=Settings(options={"providers": "azure,cpu"}))
        [loaded] = runtime.loaded()
        assert (loaded.plugin, loaded.runs_on) == ("onnx", "CPU")
        assert loaded.warnings == ("Azure was to run the model, and takes none of its operators; CPU runs it instead.",)
        assert f"when it was loaded: {loaded.warnings[0]}" in runtime.explain("tiny").notes
    finally:
        runtime.close()


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="CUDA is there")
def test_a_load_with_a_provider_that_is_not_there_is_refused_with_what_to_do(tmp_path: Path) -> None:
    write_encoder(tmp_path / "models" / "tiny", pooling="mean")
    runtime = start(folders=[tmp_path / "models"], state=tmp_path / "state", where="here", prefer=("onnx",))
    try:
        with pytest.raises(Invalid, match="providers names 'cuda'") as caught:
            runtime.open("tiny", settings=Settings(options={"providers": "cuda"}))
        assert "`pip install onnxruntime-gpu`" in caught.value.hint
    finally:
        runtime.close()
