"""Which models that paint are found in a folder, which variants they have, and what belongs to each."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from anyform.contract.facts import Evidence, FormatMatch
from anyform.kernel.files import FolderFiles
from anyform.testing import painting
from anyform.testing.safetensors import write_json, write_llama
from anyform_diffusers import plugin

ORDERED = ("order", "variant")


def found(folder: Path) -> list[FormatMatch]:
    matches = plugin.detect_format(FolderFiles(folder))
    return sorted(matches, key=lambda match: (match.order, match.variant, match.name))


def weights(match: FormatMatch) -> list[str]:
    return [name for name in match.files if name.endswith((".safetensors", ".bin"))]


@pytest.mark.parametrize("family", painting.FAMILIES)
def test_a_pipeline_of_each_family(tmp_path: Path, family: str) -> None:
    painting.write_pipeline(tmp_path, family)
    [match] = found(tmp_path)
    assert (match.format, match.entry, match.name, match.variant) == ("diffusers", "model_index.json", "", "F32")
    assert match.evidence is Evidence.LAYOUT
    assert painting.CLASSES[family] in match.why
    assert set(match.files) == set(FolderFiles(tmp_path).files)


def test_a_pipeline_one_level_below(tmp_path: Path) -> None:
    painting.write_pipeline(tmp_path / "inner")
    painting.write_pipeline(tmp_path / "a" / "deeper")
    [match] = found(tmp_path)
    assert (match.entry, match.name) == ("inner/model_index.json", "inner")
    assert all(name.startswith("inner/") for name in match.files)


def test_null_parts_need_no_folder(tmp_path: Path) -> None:
    painting.write_pipeline(tmp_path, "sdxl", text_encoder=[None, None], tokenizer=[None, None])
    assert not any(name.startswith(("text_encoder/", "tokenizer/")) for name in found(tmp_path)[0].files)


def test_halves_are_a_variant_and_come_first(tmp_path: Path) -> None:
    painting.write_pipeline(tmp_path, variants=("", "fp16"))
    half, main = found(tmp_path)
    assert [half.variant, main.variant] == ["F16", "F32"]
    assert all(".fp16." in name for name in weights(half))
    assert not any("fp16" in name for name in main.files)
    assert {name for name in half.files if name not in weights(half)} == {
        name for name in main.files if name not in weights(main)
    }


def test_where_the_main_weights_are_halves_too_they_are_called_main(tmp_path: Path) -> None:
    painting.write_pipeline(tmp_path, variants=("", "fp16"))
    shutil.copy(
        tmp_path / "unet/diffusion_pytorch_model.fp16.safetensors",
        tmp_path / "unet/diffusion_pytorch_model.safetensors",
    )
    assert [match.variant for match in found(tmp_path)] == ["F16", "main"]


def test_a_part_without_the_variant_has_its_main_weights_in_it(tmp_path: Path) -> None:
    painting.write_pipeline(tmp_path, variants=("", "fp16"))
    (tmp_path / "vae/diffusion_pytorch_model.fp16.safetensors").unlink()
    half, _ = found(tmp_path)
    assert "vae/diffusion_pytorch_model.safetensors" in half.files
    assert "unet/diffusion_pytorch_model.fp16.safetensors" in half.files


def test_where_a_part_has_only_halves_the_pipeline_has_no_other_variant(tmp_path: Path) -> None:
    painting.write_pipeline(tmp_path, variants=("", "fp16"))
    (tmp_path / "unet/diffusion_pytorch_model.safetensors").unlink()
    [match] = found(tmp_path)
    assert "unet/diffusion_pytorch_model.fp16.safetensors" in match.files


def test_weights_before_averaging_come_last(tmp_path: Path) -> None:
    painting.write_pipeline(tmp_path, variants=("", "fp16"))
    shutil.copy(
        tmp_path / "unet/diffusion_pytorch_model.safetensors",
        tmp_path / "unet/diffusion_pytorch_model.non_ema.safetensors",
    )
    assert [match.variant for match in found(tmp_path)] == ["F16", "F32", "non_ema"]


@pytest.mark.parametrize("variant", ["", "bf16"])
def test_shards_and_their_index(tmp_path: Path, variant: str) -> None:
    painting.write_pipeline(tmp_path, "flux", variants=(variant,), shards=3)
    [match] = found(tmp_path)
    infix = f".{variant}" if variant else ""
    assert [name for name in match.files if name.startswith("transformer/")] == [
        "transformer/config.json",
        f"transformer/diffusion_pytorch_model.safetensors.index{infix}.json",
        *(f"transformer/diffusion_pytorch_model{infix}-{number:05}-of-00003.safetensors" for number in (1, 2, 3)),
    ] or set(match.files) == set(FolderFiles(tmp_path).files)
    assert set(match.files) == set(FolderFiles(tmp_path).files)


def test_shards_as_they_were_once_called(tmp_path: Path) -> None:
    painting.write_pipeline(tmp_path, "flux", variants=("fp16",), shards=2)
    place = tmp_path / "transformer"
    for path in list(place.glob("*fp16*")):
        old = path.name.replace(".index.fp16.json", ".fp16.index.json")
        if "-of-" in old:
            old = old.replace(".fp16-", "-").replace(".safetensors", ".fp16.safetensors")
        path.rename(place / old)
    mapped = {
        f"transformer.{n}.weight": f"diffusion_pytorch_model-0000{n + 1}-of-00002.fp16.safetensors" for n in (0, 1)
    }
    write_json(place / "diffusion_pytorch_model.safetensors.fp16.index.json", {"weight_map": mapped})
    [match] = found(tmp_path)
    assert set(match.files) == set(FolderFiles(tmp_path).files)


def test_of_shards_and_a_single_file_the_shards_are_taken(tmp_path: Path) -> None:
    painting.write_pipeline(tmp_path, "flux", shards=2)
    painting.write_hollow(tmp_path / "transformer/diffusion_pytorch_model.safetensors", {"a": (2,)})
    [match] = found(tmp_path)
    assert "transformer/diffusion_pytorch_model.safetensors" not in match.files


def test_a_twin_makes_pickles_harmless(tmp_path: Path) -> None:
    painting.write_pipeline(tmp_path)
    for path in list(tmp_path.rglob("*.safetensors")):
        (path.with_suffix(".bin")).write_bytes(b"\x80\x02.")
    [match] = found(tmp_path)
    assert not any(name.endswith(".bin") for name in match.files)


def test_pickled_parts_are_named(tmp_path: Path) -> None:
    painting.write_pipeline(tmp_path, pickled=("unet",))
    [match] = found(tmp_path)
    assert "unet/diffusion_pytorch_model.bin" in match.files


def test_what_else_lies_there_is_no_part(tmp_path: Path) -> None:
    painting.write_pipeline(tmp_path)
    before = found(tmp_path)
    for name in ("flax_model.msgpack", "model.onnx", "model_fp16.safetensors", "openvino_model.bin", "README.md"):
        (tmp_path / "unet" / name).write_bytes(b"x" * 64)
    painting.write_hollow(tmp_path / "controlnet/diffusion_pytorch_model.safetensors", {"a": (2,)})
    write_json(tmp_path / "controlnet/config.json", {"_class_name": "ControlNetModel"})
    assert found(tmp_path) == before


def test_single_files_beside_a_pipeline_are_variants_of_it(tmp_path: Path) -> None:
    """As Stable Diffusion 1.5's repository has them."""
    painting.write_pipeline(tmp_path, variants=("", "fp16"))
    for name in ("v1-5-pruned", "v1-5-pruned-emaonly"):
        painting.write_checkpoint(tmp_path / f"{name}.safetensors", "sd")
        write_pickle(tmp_path / f"{name}.ckpt")
    painting.write_lora(tmp_path / "offset-lora.safetensors")
    matches = found(tmp_path)
    assert {match.name for match in matches} == {""}
    assert [(match.format, match.variant) for match in matches] == [
        ("diffusers", "F16"),
        ("diffusers", "F32"),
        ("diffusion_checkpoint", "v1-5-pruned"),
        ("diffusion_checkpoint", "v1-5-pruned-emaonly"),
        ("diffusion_lora", "offset-lora"),
    ]


def write_pickle(path: Path, words: bytes = b"model.diffusion_model.input_blocks") -> Path:
    path.write_bytes(
        b"PK\x03\x04" + bytes(40) + b"archive/data.pkl\x80\x02}q\x00(X\x05\x00\x00\x00" + words + bytes(99)
    )
    return path


def test_single_files_by_themselves_have_their_own_names(tmp_path: Path) -> None:
    painting.write_checkpoint(tmp_path / "one.safetensors", "sd")
    painting.write_checkpoint(tmp_path / "two.safetensors", "sdxl")
    write_pickle(tmp_path / "old.ckpt")
    matches = found(tmp_path)
    assert [(match.name, match.variant, match.files) for match in matches] == [
        ("one", "", ("one.safetensors",)),
        ("two", "", ("two.safetensors",)),
        ("old", "", ("old.ckpt",)),
    ]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("training.ckpt", b"PK\x03\x04" + b"optimizer_states" * 50),
        ("text.ckpt", b"model.diffusion_model."),
        ("empty.ckpt", b""),
    ],
)
def test_other_files_that_end_in_ckpt_are_strangers(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert found(tmp_path) == []


STRANGERS: Sequence[dict[str, tuple[int, ...]]] = (
    {"model.layers.0.self_attn.q_proj.weight": (4, 4), "lm_head.weight": (4, 4)},
    {"encoder.conv_in.weight": (4, 4), "decoder.conv_in.weight": (4, 4)},
    {"text_model.embeddings.token_embedding.weight": (4, 4)},
    {"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": (4, 4)},
    {"a": (1,)},
    {},
)


@pytest.mark.parametrize("shapes", STRANGERS, ids=lambda shapes: next(iter(shapes), "nothing"))
def test_safetensors_of_others_are_strangers(tmp_path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    painting.write_hollow(tmp_path / "other.safetensors", shapes)
    assert found(tmp_path) == []


def test_models_of_text_are_strangers(tmp_path: Path) -> None:
    write_llama(tmp_path, shards=2)
    assert found(tmp_path) == []


def test_folders_of_a_pipeline_are_its_own_though_it_does_not_use_them(tmp_path: Path) -> None:
    """Else another plugin would take them for models by themselves."""
    painting.write_pipeline(tmp_path)
    for name in ("safety_checker", "other"):
        write_json(tmp_path / name / "config.json", {"architectures": ["CLIPModel"], "model_type": "clip"})
        painting.write_hollow(tmp_path / name / "model.safetensors", {"a": (2,)})
    [match] = found(tmp_path)
    assert [name for name in match.files if name.startswith(("safety_checker/", "other/"))] == [
        "safety_checker/config.json"
    ]
    (tmp_path / "model_index.json").write_text("{")
    [broken] = found(tmp_path)
    assert {"text_encoder/config.json", "safety_checker/config.json", "other/config.json"} <= set(broken.files)


def test_a_part_by_itself_is_found_and_called_one(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", {"_class_name": "ControlNetModel"})
    painting.write_hollow(
        tmp_path / "diffusion_pytorch_model.safetensors", {"controlnet_cond_embedding.conv_in.weight": (4,)}
    )
    [match] = found(tmp_path)
    assert "ControlNetModel" in match.why
    [finding] = plugin.validate(FolderFiles(tmp_path), match)
    assert finding.code == "diffusers.part_alone"


def test_a_part_whose_weights_are_pickled_is_called_one_too(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", {"_class_name": "UNet2DConditionModel"})
    (tmp_path / "diffusion_pytorch_model.bin").write_bytes(b"PK\x03\x04")
    [match] = plugin.detect_format(FolderFiles(tmp_path))
    assert [finding.code for finding in plugin.validate(FolderFiles(tmp_path), match)] == ["diffusers.part_alone"]


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"_class_name": 1}', '{"_class_name": "\\ud800Pipeline"}'])
def test_an_index_that_is_none_is_found_for_its_name(tmp_path: Path, content: str) -> None:
    painting.write_pipeline(tmp_path)
    (tmp_path / "model_index.json").write_text(content)
    [match] = found(tmp_path)
    assert match.entry == "model_index.json"
    codes = {finding.code for finding in plugin.validate(FolderFiles(tmp_path), match)}
    assert codes


def test_no_more_than_a_few_headers_of_strangers_are_read(tmp_path: Path) -> None:
    for number in range(40):
        painting.write_hollow(tmp_path / f"a{number:02}.safetensors", {"a": (1,)})
    painting.write_checkpoint(tmp_path / "z.safetensors", "sd")
    assert found(tmp_path) == []
