"""Graphs that look at pictures, as the format's side tells and checks them without an engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.facts import Finding, Metadata, Settings, Severity
from anyform.kernel.files import FolderFiles
from anyform.testing import onnxpicture
from anyform_onnx import detection, memory, metadata, validation


def told(folder: Path) -> tuple[Metadata, list[Finding]]:
    files = FolderFiles(folder)
    (match,) = detection.detect(files)
    return metadata.extract(files, match), validation.validate(files, match)


def pair(folder: Path) -> Any:
    return onnxpicture.write_dual(folder, joint=False, pair=True)


@pytest.mark.parametrize(
    ("write", "tasks", "graphs"),
    [
        (onnxpicture.write_classifier, ("classify",), 1),
        (onnxpicture.write_image_encoder, ("embed",), 1),
        (onnxpicture.write_dual, ("zero_shot", "embed"), 1),
        (pair, ("zero_shot", "embed"), 2),
    ],
)
def test_what_they_do(tmp_path: Path, write: Callable[[Path], Any], tasks: tuple[str, ...], graphs: int) -> None:
    weights = write(tmp_path)
    found, findings = told(tmp_path)
    assert findings == []
    assert found.tasks == tasks
    assert "vision" in found.features
    assert len(found.extra.get("graphs", {"": ""})) == graphs
    held = sum(len(numbers) for _, numbers in weights.tensors.values())
    assert held <= (found.parameters or 0) <= held + 20
    few, many = (memory.estimate("onnxruntime", found, Settings(parallel=count)) for count in (1, 2))
    assert few.overhead_bytes <= many.overhead_bytes


@pytest.mark.parametrize(
    ("said", "trouble"),
    [
        ({"image_processor_type": "Siglip2ImageProcessor"}, "names the image processor Siglip2ImageProcessor; Beit, "),
        ({"image_processor_type": 7}, "does not say which image processor it is"),
        ({}, "does not say which image processor it is"),
    ],
)
def test_a_processor_that_is_not_followed_is_told_before_it_is_loaded(
    tmp_path: Path, said: dict[str, Any], trouble: str
) -> None:
    onnxpicture.write_classifier(tmp_path, processor=said, config={"model_type": "other"})
    (finding,) = told(tmp_path)[1]
    assert (finding.severity, finding.code) == (Severity.CRITICAL, "onnx.unsupported_processor")
    assert trouble in finding.text
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": dict(onnxpicture.PROCESSOR)}))
    assert told(tmp_path)[1] == []
    for name in ("processor_config.json", "preprocessor_config.json"):
        (tmp_path / name).unlink()
    assert [one.code for one in told(tmp_path)[1]] == ["onnx.missing_processor"]
