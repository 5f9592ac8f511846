"""Which execution providers are taken, and which wheels are installed: decided without any engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from anyform.contract.errors import Invalid
from anyform_onnx import provider, wheel
from anyform_onnx.info import BACKENDS, RUNTIME
from anyform_onnx.options import read
from anyform_onnx.plugin import list_backends

CPU_WHEEL = ("AzureExecutionProvider", "CPUExecutionProvider")
GPU_WHEEL = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")
MAC_WHEEL = ("CoreMLExecutionProvider", "AzureExecutionProvider", "CPUExecutionProvider")
OPENVINO_WHEEL = ("OpenVINOExecutionProvider", "CPUExecutionProvider")
DML_WHEEL = ("DmlExecutionProvider", "CPUExecutionProvider")


@pytest.mark.parametrize(
    ("available", "device", "taken"),
    [
        (CPU_WHEEL, "cpu", ["CPU"]),
        (CPU_WHEEL, "cuda:0", ["CPU"]),
        (GPU_WHEEL, "cuda:1", ["CUDA", "CPU"]),
        (GPU_WHEEL, "cpu", ["CPU"]),
        (MAC_WHEEL, "metal", ["CoreML", "CPU"]),
        (MAC_WHEEL, "cpu", ["CPU"]),
        (OPENVINO_WHEEL, "cpu", ["OpenVINO", "CPU"]),
        (DML_WHEEL, "cuda:0", ["Dml", "CPU"]),
        (("DmlExecutionProvider", *GPU_WHEEL), "cuda:0", ["CUDA", "Dml", "CPU"]),
    ],
)
def test_what_is_taken_where_nobody_says(available: tuple[str, ...], device: str, taken: list[str]) -> None:
    assert [provider.short(name) for name in provider.chosen((), available, device)] == taken


@pytest.mark.parametrize(
    ("asked", "taken"),
    [
        ("tensorrt,cuda,cpu", ["Tensorrt", "CUDA", "CPU"]),
        ("TensorrtExecutionProvider", ["Tensorrt", "CPU"]),
        ("cpu", ["CPU"]),
        (["CPU", "CUDAExecutionProvider"], ["CPU", "CUDA"]),
        ("cuda, cuda", ["CUDA", "CPU"]),
    ],
)
def test_a_users_own_list_is_taken_as_it_is_with_the_cpu_for_the_rest(asked: object, taken: list[str]) -> None:
    asked_for = read({"providers": asked}).providers
    assert [provider.short(name) for name in provider.chosen(asked_for, GPU_WHEEL, "cpu")] == taken


def test_one_that_is_not_there_is_refused_with_what_is_and_which_wheel_has_it() -> None:
    with pytest.raises(Invalid, match="'CUDA'") as caught:
        provider.chosen(("CUDA",), CPU_WHEEL, "cpu")
    assert "Azure, CPU" in caught.value.hint
    assert "`pip install onnxruntime-gpu`" in caught.value.hint
    with pytest.raises(Invalid, match="'abacus'") as caught:
        provider.chosen(("abacus",), CPU_WHEEL, "cpu")
    assert caught.value.hint == "It can be Azure, CPU."
    with pytest.raises(Invalid, match="'directml'") as caught:
        provider.chosen(("directml",), CPU_WHEEL, "cpu")
    assert "onnxruntime-directml" in caught.value.hint


@pytest.mark.parametrize(
    ("names", "runs_on", "said"),
    [
        (GPU_WHEEL[1:], "CPU", "CUDA was to run the model, and onnxruntime-genai runs it on the CPU instead."),
        (GPU_WHEEL[1:], "CUDA", ""),
        (DML_WHEEL, "DML", ""),
        (DML_WHEEL, "CPU", "Dml was to run the model, and onnxruntime-genai runs it on the CPU instead."),
        (CPU_WHEEL, "CPU", ""),
        (MAC_WHEEL, "CPU", ""),
    ],
)
def test_a_fall_back_that_only_the_model_tells_of(names: tuple[str, ...], runs_on: str, said: str) -> None:
    assert provider.fallen(names, runs_on) == ((said,) if said else ())


def test_the_devices_of_a_wheel() -> None:
    assert provider.devices(CPU_WHEEL) == ("cpu",)
    assert provider.devices(GPU_WHEEL) == ("cpu", "cuda")
    assert provider.devices(MAC_WHEEL) == ("cpu", "metal")


def _install(site: Path, name: str) -> None:
    info = site / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")


def test_an_accelerators_wheel_takes_the_usual_ones_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("onnxruntime-gpu", "onnxruntime-genai-cuda"):
        _install(tmp_path, name)
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    genai, plain = list_backends()
    assert genai.engine[:2] == ("onnxruntime-genai-cuda", "onnxruntime-gpu")
    assert plain.engine[0] == "onnxruntime-gpu"
    assert plain.install.startswith("pip install onnxruntime-gpu tokenizers")
    with pytest.raises(Invalid, match="dml") as caught:
        provider.chosen(("dml",), GPU_WHEEL, "cpu")
    assert "`pip uninstall -y onnxruntime-gpu`" in caught.value.hint


def test_without_any_wheel_the_usual_ones_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    assert tuple(map(wheel.settled, BACKENDS)) == BACKENDS


def test_of_two_wheels_both_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("onnxruntime", "onnxruntime-gpu"):
        _install(tmp_path, name)
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    assert wheel.settled(RUNTIME).engine[:2] == ("onnxruntime-gpu", "onnxruntime")
