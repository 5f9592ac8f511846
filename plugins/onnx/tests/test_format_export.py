"""What an export to ONNX asks for: decided from metadata, without torch."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from anyform.contract.errors import Invalid, Unsupported
from anyform.contract.facts import Metadata
from anyform_onnx import export


def kind(*tasks: str, features: tuple[str, ...] = ()) -> str:
    told = export.command(Path("from"), Path("to"), Metadata(tasks=tasks, features=features), "fp32", "cpu")
    assert Path(told[0]).is_file()
    assert told[2:] == ("from", "to", "fp32", "cpu")
    return told[1]


@pytest.mark.parametrize(
    ("tasks", "features", "wanted"),
    [
        (("chat", "complete"), ("tools",), "decoder"),
        (("complete",), (), "decoder"),
        (("embed",), (), "embedding"),
        (("rerank", "classify"), (), "classifier"),
        (("classify", "zero_shot"), (), "classifier"),
        (("classify",), ("vision",), "image_classifier"),
        (("zero_shot", "embed"), ("vision",), "dual"),
    ],
)
def test_the_kind_follows_from_the_main_task(tasks: tuple[str, ...], features: tuple[str, ...], wanted: str) -> None:
    assert kind(*tasks, features=features) == wanted


@pytest.mark.parametrize(
    "metadata",
    [Metadata(architecture="llava", tasks=("chat",), features=("vision",)), Metadata(tasks=("caption",)), Metadata()],
)
def test_what_no_export_is_known_for_is_refused(metadata: Metadata) -> None:
    with pytest.raises(Unsupported, match="no export to onnx is known"):
        export.command(Path("from"), Path("to"), metadata, "fp32", "cpu")


def test_precisions_go_with_the_kind_and_the_device() -> None:
    decoder, encoder = Metadata(tasks=("chat",)), Metadata(tasks=("embed",))
    assert export.command(Path("a"), Path("b"), decoder, "fp16", "cuda")[-2:] == ("fp16", "cuda")
    with pytest.raises(Invalid, match="fp16") as caught:
        export.command(Path("a"), Path("b"), decoder, "fp16", "cpu")
    assert "fp32, int8, int4" in caught.value.hint
    with pytest.raises(Invalid, match="int4"):
        export.command(Path("a"), Path("b"), encoder, "int4", "cpu")


def test_the_size_is_that_of_the_weights() -> None:
    metadata = Metadata(parameters=1000, tasks=("chat",))
    assert export.size(metadata, "fp32") == 4000
    assert export.size(metadata, "int4") < export.size(metadata, "int8") < export.size(metadata, "fp16") == 2000
    assert export.size(Metadata(), "fp32") == 0


def test_it_is_found_by_its_form_and_imports_nothing_heavy() -> None:
    assert entry_points(group="anyform.exporters")["onnx"].load() is export
    assert "torch" not in export.__dict__
    assert not any(name.startswith("anyform_onnx.exporting") for name in sys.modules)
