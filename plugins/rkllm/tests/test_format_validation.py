"""What is wrong with an RKLLM model, by itself and on a machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.errors import Unsupported
from anyform.contract.facts import BackendInfo, Finding, MemoryEstimate, Metadata, Settings, Severity
from anyform.kernel.files import FolderFiles
from anyform.testing import rkllm, rockchip
from anyform.testing.asking import Asked
from anyform_rkllm import detection, metadata, validation
from anyform_rkllm.info import BACKEND, LIBRARY
from anyform_rkllm.library import Library
from anyform_rkllm.npu import Npu
from anyform_rkllm.setting import Setting
from anyform_rkllm.state import State

INFO, WARNING, CRITICAL = Severity.INFO, Severity.WARNING, Severity.CRITICAL
NAME = "A_W8A8_RK3588.rkllm"


def machine(chip: str = "RK3588", runtime: str = "1.3.0", driver: str = "rknpu") -> State:
    """A board with a library of that version; empty: none."""
    library = Library(path="/usr/lib/librkllmrt.so", version=runtime, machine="aarch64", bits=64) if runtime else None
    npu = Npu(platform=chip, driver=driver, version="0.9.8", node="/dev/dri/renderD129")
    return State(setting=Setting(), npu=npu, library=library, troubles=(), remarks=())


BARE = State(setting=Setting(), npu=None, library=None, troubles=("no NPU",), remarks=())


def findings(folder: Path, here: State | None = BARE) -> list[Finding]:
    files = FolderFiles(folder)
    (match,) = detection.detect(files)
    return validation.validate(files, match, here)


def codes(folder: Path, here: State | None = BARE, least: Severity = WARNING) -> list[tuple[str, Severity]]:
    return [(one.code, one.severity) for one in findings(folder, here) if one.severity >= least]


def refusals(folder: Path, chip: str = "RK3588", runtime: str = "1.3.0") -> list[str]:
    """By which findings' reason the kernel is told, before it loads the model, that it does not run there."""
    files = FolderFiles(folder)
    (match,) = detection.detect(files)
    said = metadata.extract(files, match)
    library = rockchip.library(folder.parent / f"{folder.name}-{LIBRARY}", runtime)
    ready = replace(BACKEND, options={"library": str(library), "platform": chip})
    for backend in (replace(ready, trouble="it is broken itself"), BACKEND):
        assert memory_of(backend, said).weights_bytes  # what the machine lacks is told first
    try:
        memory_of(ready, said)
    except Unsupported as fault:
        return [f"rkllm.{fault.details['reason']}"] if fault.hint else ["what to do is not said"]
    return []


def memory_of(backend: BackendInfo, said: Metadata) -> MemoryEstimate:
    asked = Asked("anyform_rkllm.plugin", {})
    found: MemoryEstimate = asked.ask("estimate_memory", backend=backend, metadata=said, settings=Settings())
    return found


def written(folder: Path, content: bytes, name: str = NAME) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    return folder


def test_a_sound_model(tmp_path: Path) -> None:
    rkllm.write_model(tmp_path, meta={})
    for here in (BARE, None, machine(), machine("RK3588", "1.2.3"), machine(runtime="")):
        assert codes(tmp_path, here) == []


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty_file"),
        (b"x", "truncated"),
        (rkllm.assemble()[:31], "truncated"),
        (rkllm.assemble()[:32], "truncated"),
        (rkllm.assemble()[:5000], "truncated"),
        (rkllm.assemble()[:-3000], "truncated"),
        (rkllm.assemble(trailer=None)[:-200], "truncated"),
        (b"\0" * 5000, "strange_header"),
        (b"any other file" * 100, "strange_header"),
        (b"GGUF" + rkllm.assemble()[4:], "gguf"),
        (rkllm.assemble(version=1), "unknown_version"),
        (rkllm.assemble(version=4), "unknown_version"),
        (rkllm.assemble(tensors=[], stand_in=None), "no_tensors"),
        (rkllm.assemble(trailer="1.0.1"), "old_toolkit"),
        (b"<!doctype html><html>404" + b" " * 100, "web_page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n", "git_lfs"),
    ],
)
def test_a_file_that_is_refused(content: bytes, code: str, tmp_path: Path) -> None:
    assert codes(written(tmp_path, content)) == [(f"rkllm.{code}", CRITICAL)]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (rkllm.assemble(trailer=None), "no_trailer"),
        (rkllm.assemble(trailer="1."), "strange_trailer"),
        (rkllm.assemble(keys={"general.name": "another first key"}), "strange_header"),
        (rkllm.assemble().replace(b"\x08\0\0\0", b"\x63\0\0\0", 1), "strange_directory"),
    ],
)
def test_a_file_that_may_be_sound(content: bytes, code: str, tmp_path: Path) -> None:
    assert codes(written(tmp_path, content)) == [(f"rkllm.{code}", WARNING)]


def test_a_first_key_longer_than_the_file_contradicts_itself(tmp_path: Path) -> None:
    content = bytearray(rkllm.assemble())
    content[24:32] = b"\xff" * 8
    assert codes(written(tmp_path, bytes(content))) == [("rkllm.strange_header", CRITICAL)]


def test_a_text_is_called_one(tmp_path: Path) -> None:
    one, *_ = findings(written(tmp_path, b"Entry not found, which a server answered.\n"))
    assert (one.code, one.severity) == ("rkllm.strange_header", CRITICAL)
    assert "it begins as a text" in one.text


def test_what_is_no_reason_to_refuse(tmp_path: Path) -> None:
    assert codes(written(tmp_path / "a", rkllm.assemble(trailer="unknown"))) == []
    written(tmp_path / "b", rkllm.assemble(magic=b"\1\2\3\4"))
    assert ("rkllm.magic", INFO) in codes(tmp_path / "b", least=INFO)
    assert codes(tmp_path / "b") == []


def test_a_damaged_directory_of_a_file_without_an_end(tmp_path: Path) -> None:
    content = rkllm.assemble(trailer=None).replace(b"\x08\0\0\0", b"\x63\0\0\0", 1)
    assert codes(written(tmp_path, content)) == [("rkllm.damaged", CRITICAL)]


@pytest.mark.parametrize(
    ("name", "chip", "refused"),
    [
        (NAME, "RK3588", []),
        ("A_W8A8_RK3588S.rkllm", "RK3588", []),
        (NAME, "RK3576", ["rkllm.other_board"]),
        ("A_W8A8_RK3576.rkllm", "RK3588", ["rkllm.other_board"]),
        ("A_W8A8.rkllm", "RK3588", []),
        ("A_W4A16_G32_RK3588.rkllm", "RK3588", ["rkllm.lacking_quantization"]),
        ("A_W4A16.rkllm", "RK3588", ["rkllm.lacking_quantization"]),
        ("A_W4A16.rkllm", "RK3576", []),
        ("A_W4A16_RK3576.rkllm", "RK3588", ["rkllm.other_board", "rkllm.lacking_quantization"]),
        ("A_W8A8_RK1828.rkllm", "RV1126B", ["rkllm.other_board"]),
        ("A_W8A8_RK3588.rkllm", "", []),
    ],
)
def test_what_is_made_for_another_board(name: str, chip: str, refused: list[str], tmp_path: Path) -> None:
    rkllm.write(tmp_path / name)
    assert codes(tmp_path, machine(chip)) == [(code, WARNING) for code in refused]
    assert refusals(tmp_path, chip=chip) == refused[:1]
    for elsewhere in (BARE, machine(chip, driver="rocket"), None):
        assert codes(tmp_path, elsewhere) == []


def test_the_end_says_where_a_name_may_be_wrong(tmp_path: Path) -> None:
    rkllm.write_model(tmp_path, "A_W8A8_RK3576.rkllm")
    (text,) = (one.text for one in findings(tmp_path, machine()))
    assert text == (
        "A_W8A8_RK3576.rkllm is made for RK3576, and this is RK3588: its library refuses it. "
        "Get it for RK3588, or rename it if its name is wrong."
    )
    rkllm.write_model(tmp_path, "A_W8A8_RK3576.rkllm", meta={"target_platform": "rk3562"})
    (text,) = (one.text for one in findings(tmp_path, machine()))
    assert "made for RK3562" in text
    assert "rename" not in text


def test_elsewhere_it_is_said_what_it_is_made_for(tmp_path: Path) -> None:
    rkllm.write(tmp_path / NAME, trailer="1.2.1")
    (one,) = findings(tmp_path)
    assert (one.code, one.severity) == ("rkllm.made_for", INFO)
    assert one.text == (
        f"{NAME} is made for RK3588 (W8A8, by toolkit 1.2.1); this machine has no NPU that would run it."
    )
    rkllm.write(tmp_path / "bare" / "A.rkllm", trailer="1.2.1")
    assert "made for an NPU of Rockchip (by toolkit 1.2.1); " in findings(tmp_path / "bare")[0].text


@pytest.mark.parametrize(
    ("toolkit", "runtime", "refused"),
    [
        ("1.2.3", "1.2.3", False),
        ("1.1.4", "1.3.0", False),
        ("1.2.1b1", "1.2.1", False),
        ("1.2.1", "1.2.1b1", False),
        ("1.1.10", "1.1.9", True),
        ("1.3.0", "1.0.1", False),
        ("1.3.0", "1.2.1b1", False),
        ("1.3.0", "1.2.3", True),
        ("1.3.1", "1.3.0", True),
        ("1.3.0", "", False),
    ],
)
def test_a_toolkit_that_is_newer_than_the_library(toolkit: str, runtime: str, refused: bool, tmp_path: Path) -> None:
    rkllm.write(tmp_path / NAME, trailer=toolkit)
    code = ["rkllm.toolkit_newer_elsewhere"] if refused else []
    assert codes(tmp_path, machine(runtime=runtime)) == [(one, WARNING) for one in code]
    if runtime:
        assert refusals(tmp_path, runtime=runtime) == code
    assert codes(tmp_path, BARE) == []


def test_the_end_of_a_file_outranks_its_name(tmp_path: Path) -> None:
    rkllm.write(tmp_path / "A_W8A8_RK3588_v1.3.0.rkllm", trailer="1.1.4")
    assert [one.code for one in findings(tmp_path, machine(runtime="1.2.0"))] == ["rkllm.misnamed"]


@pytest.mark.parametrize(
    ("file", "content", "code"),
    [
        ("config.json", b"", "empty_file"),
        ("config.json", b'{"a": ', "bad_json"),
        ("tokenizer_config.json", b"[]", "no_object"),
        ("tokenizer.json", b"{}", "bad_tokenizer"),
        ("chat_template.jinja", b"\xff\xfe", "bad_text"),
        ("meta.json", b"not json", "bad_json"),
        ("a_vision.onnx", b"", "empty_file"),
        ("a_vision.onnx", b"version https://git-lfs.github.com/spec/v1\n", "git_lfs"),
    ],
)
def test_a_sidecar_that_is_broken(file: str, content: bytes, code: str, tmp_path: Path) -> None:
    rkllm.write_model(tmp_path, NAME, meta={})
    (tmp_path / file).write_bytes(content)
    assert codes(tmp_path) == [(f"rkllm.{code}", CRITICAL)]


def test_a_configuration_that_is_no_object_costs_only_what_it_tells(tmp_path: Path) -> None:
    rkllm.write_model(tmp_path, NAME, meta={})
    (tmp_path / "config.json").write_bytes(b"[]")
    assert codes(tmp_path) == [("rkllm.no_object", WARNING)]


def test_adapters_and_caches_cannot_answer(tmp_path: Path) -> None:
    rkllm.write(tmp_path / "a" / "A_prompt_cache.rkllm")
    assert codes(tmp_path / "a") == [("rkllm.companion", CRITICAL)]
    rkllm.write(tmp_path / "b" / "A_lora.rkllm", keys={"general.architecture": "llama"})
    assert codes(tmp_path / "b") == [("rkllm.companion", CRITICAL)]
    rkllm.write(tmp_path / "c" / "A_lora_merged.rkllm")
    assert codes(tmp_path / "c") == []


def test_an_encoder_for_another_board_costs_only_pictures(tmp_path: Path) -> None:
    rkllm.write(tmp_path / "A_W8A8.rkllm")
    (tmp_path / "a_vision_rk3576.rknn").write_bytes(b"RKNN" * 9)
    assert codes(tmp_path, machine("RK3588")) == [("rkllm.encoder_of_other_board", WARNING)]
    assert codes(tmp_path, machine("RK3576")) == []


def test_files_that_are_gone_or_closed(tmp_path: Path) -> None:
    rkllm.write(tmp_path / NAME)
    files = FolderFiles(tmp_path)
    (match,) = detection.detect(files)
    (tmp_path / NAME).unlink()
    assert [one.code for one in validation.validate(FolderFiles(tmp_path), match)] == ["rkllm.missing"]


def test_the_hook_looks_at_the_machine_of_the_settings(tmp_path: Path) -> None:
    rkllm.write(tmp_path / "models" / "A_W8A8_RK3576.rkllm")
    files = FolderFiles(tmp_path / "models")
    (match,) = detection.detect(files)

    def said(**tables: Any) -> list[str]:
        return [one.code for one in Asked("anyform_rkllm.plugin", tables).ask("validate", files=files, match=match)]

    board = rockchip.write(tmp_path / "board", rockchip.tree("rk3588"))
    assert said(root=str(board)) == ["rkllm.other_board"]
    assert said(root=str(board), platform="RK3576") == []
    assert said(root=str(tmp_path / "none")) == ["rkllm.made_for"]
    assert said(platform=5) == ["rkllm.made_for"]
