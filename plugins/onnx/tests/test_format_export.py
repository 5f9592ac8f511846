"""What an export to ONNX asks for: decided from metadata, without torch."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from anyform.contract.errors import Invalid, Unsupported
from anyform.contract.facts import Metadata
from anyform.testing.store import write_snapshot
from anyform_onnx import export
from anyform_onnx.exporting import backend


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
    heavy = "torch", "transformers", "onnx", "onnxruntime", "onnxruntime_genai", "numpy", "anyform_onnx.exporting"
    code = f"import sys, anyform_onnx.export; print(*sorted(sys.modules.keys() & {{*{heavy}}}))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "\n"


def snapshot(tmp_path: Path) -> Path:
    files = {
        "config.json": b"{}", "tokenizer.model": b"\1", "1_Pooling/config.json": b"{}", "chat_template.jinja": b"x",
        "LICENSE": b"free", "README.md": b"# Card", "vocab.txt": b"a", "model.safetensors": b"\0" * 9,
        "model.safetensors.index.json": b"{}", "code.py": b"", "notes.docx": b"", "id_rsa": b"", ".env": b"",
    }  # fmt: skip
    return write_snapshot(tmp_path / "hub", "owner/model", files)


def copied(source: Path, target: Path) -> set[str]:
    backend._copy(source, target)
    return {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}


COMPANIONS = {
    "config.json", "tokenizer.model", "1_Pooling/config.json", "chat_template.jinja", "LICENSE", "README.md",
    "vocab.txt",
}  # fmt: skip


def test_what_belongs_to_a_model_comes_along_and_nothing_else(tmp_path: Path) -> None:
    """The Hugging Face cache links each file to a blob outside of the folder."""
    assert copied(snapshot(tmp_path), tmp_path / "to") == COMPANIONS


def test_what_a_link_brings_from_elsewhere_stays_there(tmp_path: Path) -> None:
    source = tmp_path / "model"
    source.mkdir()
    (tmp_path / "secret.json").write_text("{}")
    (source / "config.json").write_text("{}")
    (source / "settings.json").symlink_to(tmp_path / "secret.json")
    (source / "vocab.txt").symlink_to(source / "config.json")
    assert copied(source, tmp_path / "to") == {"config.json", "vocab.txt"}
    cached = snapshot(tmp_path)
    (cached / "settings.json").symlink_to(tmp_path / "secret.json")
    assert copied(cached, tmp_path / "out") == COMPANIONS


def test_no_code_of_the_model_is_let_run(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[list[str]] = []
    monkeypatch.setattr(backend.runpy, "run_module", lambda *_, **__: told.append(sys.argv))
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setattr(backend, "MODULES", ("sys",))
    backend.main("decoder", "from", "to", "int4", "cpu")
    assert told[0][-2:] == ["--extra_options", "hf_remote=false"]


def test_what_a_python_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "MODULES", ("sys", "nothing_of_this_name", "nor_of_that"))
    with pytest.raises(SystemExit, match="lacks nothing_of_this_name, nor_of_that: install them there"):
        backend.main("decoder", "from", "to", "int4", "cpu")
