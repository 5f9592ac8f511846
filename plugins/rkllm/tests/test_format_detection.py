"""Which models a folder of .rkllm files holds, by what names, and what goes with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from anyform.contract.facts import Evidence, FormatMatch
from anyform.kernel.files import FolderFiles
from anyform.testing import rkllm, rockchip
from anyform.testing.asking import Asked
from anyform.testing.damage import Remote
from anyform_rkllm import detection

QWEN, ALL = "Qwen2.5-0.5B-Instruct", "W8A8-RK3588-opt0-hybrid0"
RATIO = f"{QWEN}-rk3588-w8a8-opt-0-hybrid-ratio-0.0"


def found(folder: Path, *names: str, chip: str = "", content: bytes = b"") -> dict[str, FormatMatch]:
    """The matches in a folder of such files, by `name:variant`, the preferred first."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content or rkllm.assemble() if name.endswith(".rkllm") else b"{}")
    matches = sorted(detection.detect(FolderFiles(folder), chip), key=lambda match: match.order)
    named = {f"{match.name}:{match.variant}": match for match in matches}
    assert len(named) == len(matches)
    return named


def test_one_model_with_its_sidecars(tmp_path: Path) -> None:
    rkllm.write_model(tmp_path, f"{RATIO}.rkllm", meta={})
    for name in ("chat_template.jinja", "vocab.json", "merges.txt", "special_tokens_map.json", "photo.png", "llm.rknn"):
        (tmp_path / name).write_text("{}")
    (match,) = found(tmp_path).values()
    assert (match.format, match.entry, match.name, match.variant) == ("rkllm", f"{RATIO}.rkllm", QWEN, ALL)
    assert match.evidence is Evidence.MAGIC
    assert match.why == "RKLLM file of version 3, 20 tensors; by its name RK3588, W8A8"
    assert match.files == (
        f"{RATIO}.rkllm", "chat_template.jinja", "config.json", "generation_config.json", "merges.txt", "meta.json",
        "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "vocab.json",
    )  # fmt: skip


def test_a_remote_listing_is_enough(tmp_path: Path) -> None:
    rkllm.write_model(tmp_path, f"{RATIO}.rkllm")
    assert detection.detect(Remote(tmp_path)) == detection.detect(FolderFiles(tmp_path))


@pytest.mark.parametrize(
    "content", [b"", b"x", b"\0" * 100, b"GGUF" + b"\x03\0\0\0" * 20, b"<html>not found</html>" * 9]
)
def test_a_name_is_weak_evidence(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "Tiny_W8A8_RK3576.rkllm").write_bytes(content)
    (match,) = detection.detect(FolderFiles(tmp_path))
    assert match.evidence is Evidence.NAME
    assert match.why == "the file's name ends in .rkllm; by its name RK3576, W8A8"


def test_other_folders_are_strange(tmp_path: Path) -> None:
    for name in ("model.safetensors", "rkllm", "a.rkllm.txt", "vision_rk3588.rknn"):
        (tmp_path / name).write_bytes(rkllm.assemble())
    assert Asked("anyform_rkllm.plugin").ask("detect_format", files=FolderFiles(tmp_path)) == []


@pytest.mark.parametrize(
    ("names", "variants"),
    [
        ((RATIO,), ("W8A8-RK3588-opt0-hybrid0",)),
        (
            (RATIO, f"{QWEN}-rk3588-w8a8_g128-opt-1-hybrid-ratio-0.5"),
            ("W8A8-RK3588-opt0-hybrid0", "W8A8_G128-RK3588-opt1-hybrid0.5"),
        ),
        (("A_W8A8_RK3588", "A_W8A8_RK3576"), ("W8A8-RK3588", "W8A8-RK3576")),
        (("A_W8A8_RK3588_v1.2.0", "A_W8A8_RK3588_v1.2.3"), ("W8A8-RK3588-1.2.0", "W8A8-RK3588-1.2.3")),
        (("A_W8A8_RK3588", "A_W8A8_RK3588_ctx16384"), ("W8A8-RK3588", "W8A8-RK3588-ctx16384")),
        (("A_W8A8_RK3588", "A_FP16_RK3588_v3", "A-rk3588"), ("W8A8-RK3588", "FP16-RK3588-v3", "RK3588")),
        (("A",), ("",)),
        (("A", "A_W8A8"), ("A", "A_W8A8")),
        (("x/A_W8A8_RK3588", "y/A_W8A8_RK3588"), ("x/A_W8A8_RK3588", "y/A_W8A8_RK3588")),
    ],
)
def test_what_tells_conversions_of_one_model_apart(
    names: Sequence[str], variants: Sequence[str], tmp_path: Path
) -> None:
    matches = found(tmp_path, *(f"{name}.rkllm" for name in names)).values()
    assert {match.entry: match.variant for match in matches} == {
        f"{name}.rkllm": variant for name, variant in zip(names, variants, strict=True)
    }
    assert len({match.name for match in matches}) == 1


def test_several_models_of_one_folder(tmp_path: Path) -> None:
    assert set(found(tmp_path, f"{RATIO}.rkllm", "gemma-3-1b-it-rk3576-w4a16.rkllm", "model.rkllm")) == {
        f"{QWEN}:{ALL}", "gemma-3-1b-it:W4A16-RK3576", ":",
    }  # fmt: skip


def test_which_conversion_is_preferred(tmp_path: Path) -> None:
    names = ["w8a8", "w8a8_g128", "w8a8_g256", "w8a8_g512", "w4a16", "w4a16_g128", "fp16"]
    matches = found(tmp_path, *(f"A-rk3588-{name}.rkllm" for name in reversed(names)))
    assert [match.variant for match in matches.values()] == [f"{name.upper()}-RK3588" for name in names]
    finer = [
        "A-rk3588-w8a8-opt-1-hybrid-ratio-0.0", "A-rk3588-w8a8-opt-0-hybrid-ratio-0.0",
        "A-rk3588-w8a8-opt-1-hybrid-ratio-0.5", "A-rk3588-w8a8_g128-opt-1-hybrid-ratio-0.0",
    ]  # fmt: skip
    matches = found(tmp_path / "finer", *(f"{name}.rkllm" for name in reversed(finer)))
    assert [match.entry.removesuffix(".rkllm") for match in matches.values()] == finer


def test_what_the_board_here_runs_is_preferred(tmp_path: Path) -> None:
    names = ("A_W4A16_RK3588", "A_W8A8_RK3588", "A_W8A8_RK3576", "A_W4A16_RK3576")

    def first(chip: str) -> str:
        return next(iter(found(tmp_path, *(f"{name}.rkllm" for name in names), chip=chip).values())).entry

    assert first("") == first("RK3588") == "A_W8A8_RK3588.rkllm"
    assert first("RK3576") == "A_W8A8_RK3576.rkllm"
    (tmp_path / "A_W8A8_RK3588.rkllm").unlink()
    names = ("A_W4A16_RK3588", "A_FP16_RK3588")
    assert first("RK3588") == "A_FP16_RK3588.rkllm"


def test_the_board_is_that_of_the_settings(tmp_path: Path) -> None:
    for name in ("A_W8A8_RK3588", "A_W8A8_RK3576"):
        rkllm.write(tmp_path / "models" / f"{name}.rkllm")
    board = rockchip.write(tmp_path / "board", rockchip.tree("rk3576"))
    for tables in ({"root": str(board)}, {"root": str(tmp_path / "none"), "platform": "RK3576"}):
        matches = Asked("anyform_rkllm.plugin", tables).ask("detect_format", files=FolderFiles(tmp_path / "models"))
        assert min(matches, key=lambda match: match.order).variant == "W8A8-RK3576"
    wrong = {"platform": 5}
    assert len(Asked("anyform_rkllm.plugin", wrong).ask("detect_format", files=FolderFiles(tmp_path / "models"))) == 2


def test_adapters_and_caches_are_no_models(tmp_path: Path) -> None:
    small = rkllm.assemble(keys={"general.architecture": "llama"}, tensors=rkllm.tiny_tensors(8), stand_in=None)
    (tmp_path / "A_lora_rk3588.rkllm").write_bytes(small)
    (tmp_path / "A_prompt_cache.rkllm").write_bytes(small)
    assert set(found(tmp_path, "A_W8A8_RK3588.rkllm", "qwen3_lora_sft_w8a8_rk3588.rkllm")) == {
        "A:W8A8-RK3588", "qwen3_lora_sft:W8A8-RK3588",
    }  # fmt: skip
    (tmp_path / "A_W8A8_RK3588.rkllm").unlink()
    (tmp_path / "qwen3_lora_sft_w8a8_rk3588.rkllm").unlink()
    alone = {match.entry: match for match in found(tmp_path).values()}
    assert list(alone) == ["A_lora_rk3588.rkllm"]
    (tmp_path / "A_lora_rk3588.rkllm").unlink()
    (cache,) = found(tmp_path).values()
    assert cache.why == "a prompt cache by its name, not a model"


def test_sidecars_of_a_folder_above(tmp_path: Path) -> None:
    rkllm.write_model(tmp_path, "rk3588/A_W8A8.rkllm")
    (tmp_path / "rk3588" / "meta.json").write_text("{}")
    (match,) = found(tmp_path).values()
    assert {"config.json", "tokenizer.json", "rk3588/meta.json"} < set(match.files)


@pytest.mark.parametrize(
    ("beside", "encoder"),
    [
        (("Qwen2-VL-2B_vision_rk3588.rknn",), "Qwen2-VL-2B_vision_rk3588.rknn"),
        (("vision_encoder.onnx",), "vision_encoder.onnx"),
        (("vision_rk3588.rknn", "vision.onnx"), "vision_rk3588.rknn"),
        (("vision_rk3576.rknn",), ""),
        (("moss_audio_encoder_fp16_rk3588.rknn", "resnet18_for_rk3588.rknn"), ""),
        (("b_vision.onnx", "B_W8A8_RK3588.rkllm"), ""),
    ],
)
def test_the_encoder_of_pictures_goes_with_its_model(beside: Sequence[str], encoder: str, tmp_path: Path) -> None:
    match = found(tmp_path, "Qwen2-VL-2B-Instruct_W8A8_RK3588.rkllm", *beside)["Qwen2-VL-2B-Instruct:W8A8-RK3588"]
    assert [name for name in match.files if name in beside] == [encoder] * bool(encoder)
