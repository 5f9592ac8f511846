"""LoRA files are add-ons: whose names they have, which family they fit, their rank, and how they are used."""

from __future__ import annotations

from pathlib import Path

import pytest

from anyform.contract.facts import Finding, Metadata, Severity
from anyform.kernel.files import FolderFiles
from anyform.testing import painting
from anyform_diffusers import info, plugin


def read(path: Path) -> tuple[Metadata, list[Finding]]:
    files = FolderFiles(path.parent)
    [match] = plugin.detect_format(files)
    assert match.format == info.LORA
    return plugin.extract_metadata(files, match), plugin.validate(files, match)


@pytest.mark.parametrize("family", painting.FAMILIES)
@pytest.mark.parametrize("kind", ["diffusers", "old", "kohya", "comfy"])
def test_of_each_family_and_trainer(tmp_path: Path, family: str, kind: str) -> None:
    metadata, [finding] = read(painting.write_lora(tmp_path / "style.safetensors", family, kind, rank=16))
    assert (metadata.extra["kind"], metadata.extra["family"], metadata.extra["rank"]) == ("addon", family, 16)
    assert metadata.architecture == f"lora-{family}"
    assert metadata.extra["targets"] == ["transformer" if family in ("sd3", "flux") else "unet"]
    assert (finding.code, finding.severity) == ("diffusers.addon", Severity.WARNING)
    assert "of rank 16" in finding.text
    assert f'loras = {{name = "{tmp_path / "style.safetensors"}"}}' in finding.text


def test_of_flux_as_xlabs_write_it(tmp_path: Path) -> None:
    metadata, _ = read(painting.write_lora(tmp_path / "style.safetensors", "flux", "xlabs"))
    assert (metadata.extra["family"], metadata.extra["writer"]) == ("flux", "XLabs")


def test_what_a_trainer_says_of_it(tmp_path: Path) -> None:
    texts = {
        "ss_network_alpha": "4.0",
        "modelspec.trigger_phrase": "in the style of ink",
        "ss_tag_frequency": "x" * 9000,
    }
    metadata, _ = read(painting.write_lora(tmp_path / "a.safetensors", "sd", "kohya", **texts))
    assert metadata.extra["alpha"] == 4.0
    assert metadata.extra["trigger"] == "in the style of ink"


@pytest.mark.parametrize(
    ("said", "family"),
    [
        ({"ss_base_model_version": "sdxl_base_v1-0"}, "sdxl"),
        ({"ss_base_model_version": "sd_v1"}, "sd"),
        ({"modelspec.architecture": "stable-diffusion-v2-768-v/lora"}, "sd2"),
        ({}, None),
    ],
)
def test_where_shapes_do_not_tell_words_do(tmp_path: Path, said: dict[str, str], family: str | None) -> None:
    shapes = {"lora_unet_mid_block_attentions_0_proj_in.lora_down.weight": (4, 64)}
    metadata, [finding] = read(painting.write_hollow(tmp_path / "a.safetensors", shapes, texts=said))
    assert metadata.extra.get("family") == family
    assert (family or "does not name") in finding.text


def test_shapes_count_more_than_words(tmp_path: Path) -> None:
    path = painting.write_lora(tmp_path / "a.safetensors", "sdxl", "kohya", ss_base_model_version="sd_v1")
    assert read(path)[0].extra["family"] == "sdxl"


def test_other_methods_of_adapting_are_named(tmp_path: Path) -> None:
    shapes = {f"lora_unet_mid_block_attentions_0_proj_in.{name}": (4, 4) for name in ("lokr_w1", "lokr_w2", "alpha")}
    metadata, [finding] = read(painting.write_hollow(tmp_path / "a.safetensors", shapes))
    assert metadata.extra["method"] == "LoKr"
    assert "LoKr" in finding.text


def test_one_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    path = painting.write_lora(tmp_path / "a.safetensors")
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)
    _, [finding] = read(path)
    assert (finding.code, finding.severity) == ("diffusers.truncated", Severity.CRITICAL)


def test_no_backend_reads_it(tmp_path: Path) -> None:
    assert info.LORA not in info.BACKEND.reads
    assert read(painting.write_lora(tmp_path / "a.safetensors"))[0].tasks == ()
