"""Which file beside a model is its vision encoder, and what stands around pictures: names and JSON, no engine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from anyform.contract.errors import LoadFailed
from anyform.contract.facts import Evidence, FormatMatch, Metadata, Plan, Settings
from anyform_rkllm import vision
from anyform_rkllm.options import Options
from anyform_rkllm.vision import finding, marks
from anyform_rkllm.vision.marks import Marks

QWEN = "qwen2.5-vl-3b-w8a8_level1_rk3588.rkllm"
SEES = "qwen2_5_vl_3b_vision_rk3588.rknn"


def test_encoders_are_known_by_their_names() -> None:
    names = (QWEN, SEES, "vision_encoder.onnx", "sub/Qwen3-VL_Vision_RK3576.RKNN", "model.onnx", "vision.txt", "a.rknn")
    assert finding.encoders(names) == (SEES, "vision_encoder.onnx", "sub/Qwen3-VL_Vision_RK3576.RKNN")


def test_weights_outside_an_encoder_go_with_it() -> None:
    names = ("vision.onnx", "vision.onnx.data", "vision.onnx_data", "vision2.onnx.data", "vision.rknn.data")
    assert finding.data(names, "vision.onnx") == ("vision.onnx.data", "vision.onnx_data")
    assert finding.data(names, "vision.rknn") == ()


@pytest.mark.parametrize(
    ("names", "model", "platform", "chosen"),
    [
        ([QWEN, SEES], QWEN, "RK3588", SEES),
        ([QWEN, SEES], QWEN, "RK3588S", SEES),
        ([QWEN, SEES], QWEN, "", SEES),
        ([QWEN, "vision_encoder.onnx"], QWEN, "RK3588", "vision_encoder.onnx"),
        ([QWEN, SEES, "vision_encoder.onnx"], QWEN, "RK3588", SEES),
        ([QWEN, SEES, "vision_encoder.onnx"], QWEN, "RK3576", "vision_encoder.onnx"),
        ([QWEN, SEES, SEES.replace("3588", "3576")], QWEN, "RK3576", SEES.replace("3588", "3576")),
        ([QWEN, "vision.rknn"], QWEN, "RK3562", "vision.rknn"),
        (["a.rkllm", "b.rkllm", "a_vision.rknn", "b_vision.rknn"], "b.rkllm", "RK3588", "b_vision.rknn"),
        (["a.rkllm", "vision.rknn", "a_vision.rknn"], "a.rkllm", "RK3588", "a_vision.rknn"),
        (["sub/a.rkllm", "sub/a_vision.onnx"], "sub/a.rkllm", "RK3588", "sub/a_vision.onnx"),
        (["InternVL3-1B-Instruct.rkllm", "sight_vision_rk3588.rknn"], "InternVL3-1B-Instruct.rkllm", "RK3588",
         "sight_vision_rk3588.rknn"),
    ],
)  # fmt: skip
def test_the_one_that_fits_is_chosen(names: list[str], model: str, platform: str, chosen: str) -> None:
    assert finding.choose(names, model, platform) == finding.Choice(chosen)


@pytest.mark.parametrize(
    ("names", "model", "platform", "trouble"),
    [
        ([QWEN, "model.onnx"], QWEN, "RK3588", "no vision encoder (a .rknn or .onnx with 'vision' in its name)"),
        ([QWEN, SEES], QWEN, "RK3576", f"{SEES} is made for another platform than RK3576"),
        ([QWEN, "x_vision.rknn", "y_vision.rknn"], QWEN, "RK3588", "several vision encoders lie beside it"),
        ([QWEN, SEES, "qwen2_5_vl_3b_vision_448_rk3588.rknn"], QWEN, "", "several vision encoders"),
        (["llama.rkllm", QWEN, SEES], "llama.rkllm", "RK3588", f"{SEES} is of another model"),
    ],
)
def test_none_is_a_reason_in_words(names: list[str], model: str, platform: str, trouble: str) -> None:
    choice = finding.choose(names, model, platform)
    assert choice.name == ""
    assert trouble in choice.trouble


def plan(folder: Path, *names: str, model: str = QWEN) -> Plan:
    """A plan for *model*; it and *names* are put into *folder*."""
    for name in (model, *names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    match = FormatMatch(format="rkllm", entry=model, files=(model,), evidence=Evidence.NAME, why="")
    return Plan(
        plugin="rkllm",
        backend="rkllm",
        model="m",
        path=str(folder),
        match=match,
        metadata=Metadata(),
        settings=Settings(),
    )


def test_the_reason_is_told_for_the_board(tmp_path: Path) -> None:
    there = plan(tmp_path, SEES)
    assert vision.absence(there, Options(), "RK3588") == ""
    assert "made for another platform" in vision.absence(there, Options(), "RK3576")
    assert vision.encoder(there, Options(), "RK3576") is None


def test_one_that_the_user_named_needs_no_choice(tmp_path: Path) -> None:
    several = plan(tmp_path, "x_vision.rknn", "y_vision.rknn")
    assert "several" in vision.absence(several, Options())
    assert vision.absence(several, Options(vision="x_vision.rknn")) == ""


def test_pictures_that_are_not_wanted_have_no_encoder(tmp_path: Path) -> None:
    there = plan(tmp_path, SEES)
    assert vision.encoder(there, Options(vision="none"), "RK3588") is None
    assert vision.absence(there, Options(vision="none"), "RK3588") == "the load option vision is none"


def wrote(folder: Path, **files: object) -> Path:
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content), "utf-8")
    return folder


def read(folder: Path) -> Marks:
    return marks.read((folder,))


IDS = {"vision_start_token_id": 3, "vision_end_token_id": 4, "image_token_id": 5}
ADDED = {"3": {"content": "<|vision_start|>"}, "4": {"content": "<|vision_end|>"}, "5": {"content": "<|image_pad|>"}}
QWENS = Marks("<|vision_start|>", "<|vision_end|>", "<|image_pad|>")


def test_marks_by_the_numbers_of_config_json(tmp_path: Path) -> None:
    assert read(wrote(tmp_path, config=IDS, tokenizer_config={"added_tokens_decoder": ADDED})) == QWENS


def test_marks_of_the_tokenizer_since_transformers_5(tmp_path: Path) -> None:
    added = [{"id": int(key), **one} for key, one in ADDED.items()]
    assert read(wrote(tmp_path, config=IDS, tokenizer={"added_tokens": added})) == QWENS


@pytest.mark.parametrize("nested", [False, True])
def test_marks_by_their_words(tmp_path: Path, nested: bool) -> None:
    words = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>"}
    said = {"extra_special_tokens": words} if nested else words
    assert read(wrote(tmp_path, tokenizer_config=said)) == Marks("<img>", "</img>", "<IMG_CONTEXT>")


def test_marks_that_nobody_names_are_empty(tmp_path: Path) -> None:
    assert read(tmp_path) == Marks()
    wrong = {"added_tokens_decoder": {"x": 1, "5": 7, "9" * 20: {}}, "image_token": ["x"], "extra_special_tokens": 3}
    odd = {"vision_start_token_id": "3", "vision_end_token_id": True, "image_token_id": 5}
    assert read(wrote(tmp_path, config=odd, tokenizer_config=wrong, tokenizer={"added_tokens": 1})) == Marks()


def test_what_the_user_names_comes_before_the_files(tmp_path: Path) -> None:
    wrote(tmp_path, config=IDS, tokenizer_config={"added_tokens_decoder": ADDED})
    found = vision.marked(plan(tmp_path, model="sub/" + QWEN), Options(image_start="<a>", log_level=1))
    assert found == Options(image_start="<a>", image_end="<|vision_end|>", image_content="<|image_pad|>", log_level=1)
    assert vision.marked(plan(tmp_path / "bare"), Options()) == Options()


@pytest.mark.parametrize("content", ["{", "[]", "[" * 5000, "\xff"])
def test_a_damaged_file_is_said(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(LoadFailed, match=r"config\.json"):
        read(tmp_path)
