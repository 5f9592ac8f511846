"""What is said of ONNX files alike by all plugins that read them; no engine needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from anyform.contract.facts import Finding, Severity
from anyform.kernel.files import FolderFiles
from anyform.onnx import inspection
from anyform.testing.onnx import Graph, block, model, text


def graph(*operators: tuple[str, str]) -> Graph:
    """A graph of operators by domain and name."""
    made = Graph()
    value = made.input("x", "F32", (2,))
    for domain, name in operators:
        value = made.node(name, value, domain=domain)
    made.output(value, "F32", (2,))
    return made


def findings(folder: Path, data: bytes) -> list[Finding]:
    (folder / "m.onnx").write_bytes(data)
    return list(inspection.check(FolderFiles(folder), "m.onnx", "form"))


@pytest.mark.parametrize("domain", ["", "ai.onnx", "ai.onnx.ml", "com.microsoft"])
def test_operators_that_onnxruntime_brings(tmp_path: Path, domain: str) -> None:
    assert findings(tmp_path, model(graph((domain, "Relu")))) == []


def test_operators_of_strangers_keep_it_from_being_loaded(tmp_path: Path) -> None:
    (found,) = findings(tmp_path, model(graph(("b.example", "Two"), ("a.example", "One"), ("", "Relu"))))
    assert (found.code, found.severity) == ("form.unknown_operators", Severity.CRITICAL)
    assert "'a.example', 'b.example'" in found.text


@pytest.mark.parametrize(("brought", "missing"), [("One", False), ("Two", True)])
def test_what_the_model_brings_itself(tmp_path: Path, brought: str, missing: bool) -> None:
    function = text(1, brought) + block(7, text(4, "Relu")) + text(10, "a.example")
    found = findings(tmp_path, model(graph(("a.example", "One"))) + block(25, function))
    assert [one.code for one in found] == ["form.unknown_operators"] * missing


@pytest.mark.parametrize("said", [b"batch", b"xyz"])
def test_names_that_are_no_text(tmp_path: Path, said: bytes) -> None:
    """Such a model is loaded, and fails whenever it is asked for them."""
    made = Graph()
    made.output(made.node("Relu", made.input("xyz", "F32", ("batch",))), "F32", (2,))
    (found,) = findings(tmp_path, model(made).replace(said, b"\xff" + said[1:]))
    assert (found.code, found.severity) == ("form.damaged", Severity.CRITICAL)
    assert "UTF-8" in found.text
