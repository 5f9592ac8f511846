"""What no engine can run, said by the format's side: foreign code, later types, quantizations. And no false alarms."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.errors import EngineMissing, Unsupported
from anyform.contract.facts import Finding, MemoryEstimate, Settings, Severity
from anyform.kernel.files import FolderFiles
from anyform.pretrained import modules
from anyform.testing.safetensors import CHATML, write_bert, write_json, write_llama, write_vit
from anyform.testing.whisper import write_whisper
from anyform_hf_transformers import foreign, plugin, requirement
from anyform_hf_transformers.info import PICTURE_INSTALL, SOUND_INSTALL

CODE = {"AutoModelForCausalLM": "modeling_odd.OddForCausalLM"}


def estimated(folder: Path, **options: Any) -> MemoryEstimate:
    files = FolderFiles(folder)
    [match] = plugin.detect_format(files)
    return plugin.estimate_memory(plugin.extract_metadata(files, match), Settings(context=64, options=options))


def findings(folder: Path) -> list[Finding]:
    files = FolderFiles(folder)
    return [finding for match in plugin.detect_format(files) for finding in plugin.validate(files, match)]


def test_code_of_its_own_is_refused_unless_this_model_is_trusted(tmp_path: Path) -> None:
    write_llama(tmp_path, model_type="odd", auto_map=CODE)
    with pytest.raises(Unsupported, match=r"'odd'.*modeling_odd.OddForCausalLM") as refused:
        estimated(tmp_path)
    assert "trust_remote_code = true" in refused.value.hint
    with pytest.raises(Unsupported):
        estimated(tmp_path, trust_remote_code=False)
    assert estimated(tmp_path, trust_remote_code=True).weights_bytes > 0


def test_code_that_transformers_has_too_needs_no_trust(tmp_path: Path) -> None:
    write_llama(tmp_path, auto_map=CODE)
    assert estimated(tmp_path).weights_bytes > 0


@pytest.mark.parametrize("installed", ["5.0.1", "5.23.0", "4.57.6"])
def test_a_type_that_nobody_has_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: str) -> None:
    foreign._may_know_more.cache_clear()
    monkeypatch.setattr("importlib.metadata.version", lambda name: installed)
    write_llama(tmp_path, model_type="llama99")
    with pytest.raises(Unsupported, match="'llama99'"):
        estimated(tmp_path)
    foreign._may_know_more.cache_clear()


@pytest.mark.parametrize("installed", ["5.24.0", "5.100.0", "6.0.0.dev0"])
def test_a_later_transformers_may_have_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: str) -> None:
    foreign._may_know_more.cache_clear()
    monkeypatch.setattr("importlib.metadata.version", lambda name: installed)
    write_llama(tmp_path, model_type="llama99")
    assert estimated(tmp_path).weights_bytes > 0
    foreign._may_know_more.cache_clear()


@pytest.mark.parametrize(
    "said",
    [
        {"quant_method": "gptq", "bits": 4, "group_size": 128},
        {"quant_method": "awq", "bits": 4, "zero_point": True, "version": "gemm"},
        {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
        {"load_in_8bit": True, "llm_int8_threshold": 6.0},
        {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": {"num_bits": 8}}}},
        {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]},
        {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]},
        {"quant_method": "torchao", "quant_type": {"default": {}}},
        {"quant_method": "aqlm", "nbits_per_codebook": 16},
        {"quant_method": "auto-round", "bits": 4},
        None,
    ],
)
def test_quantizations_that_there_are_raise_no_alarm(tmp_path: Path, said: Any) -> None:
    write_llama(tmp_path, quantization_config=said)
    assert findings(tmp_path) == []


def test_a_quantization_that_is_not_known_is_a_warning(tmp_path: Path) -> None:
    write_llama(tmp_path, quantization_config={"quant_method": "banana", "bits": 4})
    [finding] = findings(tmp_path)
    assert (finding.code, finding.severity) == ("hf.unknown_quantization", Severity.WARNING)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """As if all packages were there but those named."""

    def look(*absent: str) -> None:
        def version(name: str) -> str:
            if name in absent:
                raise metadata.PackageNotFoundError(name)
            return "5.23.0"

        monkeypatch.setattr("importlib.metadata.version", version)

    yield look
    requirement._installed.cache_clear()


def test_a_model_that_sees_needs_pillow(tmp_path: Path, installed: Callable[..., None]) -> None:
    write_vit(tmp_path, ("cat", "dog"))
    installed("pillow", "pillow-simd")
    with pytest.raises(EngineMissing, match="a model that sees needs pillow") as refused:
        estimated(tmp_path)
    assert PICTURE_INSTALL in refused.value.hint
    installed("pillow", "pillow-simd", "torch")
    assert estimated(tmp_path).weights_bytes > 0, "the engine is to be told first"
    for absent in ("pillow", "av"):
        installed(absent)
        assert estimated(tmp_path).weights_bytes > 0


def test_a_model_that_hears_needs_av(tmp_path: Path, installed: Callable[..., None]) -> None:
    write_whisper(tmp_path)
    installed("av")
    with pytest.raises(EngineMissing, match="a model that hears needs av") as refused:
        estimated(tmp_path)
    assert SOUND_INSTALL in refused.value.hint
    installed("pillow", "pillow-simd")
    assert estimated(tmp_path).weights_bytes > 0


def test_a_chat_about_pictures_goes_without_pillow(tmp_path: Path, installed: Callable[..., None]) -> None:
    seeing = {"architectures": ["LlavaForConditionalGeneration"], "model_type": "llava", "vision_config": {}}
    write_llama(tmp_path, template=CHATML, **seeing)
    installed("pillow", "pillow-simd", "av")
    assert estimated(tmp_path).weights_bytes > 0


def test_what_mlx_writes_is_told_as_such(tmp_path: Path) -> None:
    write_llama(tmp_path, quantization={"bits": 4}, quantization_config={"group_size": 64, "bits": 4})
    [finding] = findings(tmp_path)
    assert (finding.code, finding.severity) == ("hf.bad_quantization", Severity.CRITICAL)
    assert "MLX" in finding.text


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ({"word_embedding_dimension": 16}, ""),
        ({"embedding_dimension": 16, "pooling_mode": "cls", "include_prompt": True}, "cls"),
        ({"embedding_dimension": 16, "pooling_mode": ["mean", "max"]}, "mean+max"),
        ({"word_embedding_dimension": 16, "pooling_mode_lasttoken": True, "pooling_mode_mean_tokens": False}, "last"),
    ],
)
def test_poolings_of_either_release_raise_no_alarm(tmp_path: Path, said: dict[str, Any], kind: str) -> None:
    write_bert(tmp_path, pooling="mean")
    write_json(tmp_path / "1_Pooling" / "config.json", said)
    assert findings(tmp_path) == []
    assert modules.pooling(FolderFiles(tmp_path), ".") == kind


def test_more_rows_than_tokens_are_fine_where_a_class_pads(tmp_path: Path) -> None:
    """Only classes that read text and nothing else have as many rows as config.json says there are tokens."""
    write_llama(tmp_path, vocab_size=32)
    content = json.loads((tmp_path / "config.json").read_text())
    write_json(
        tmp_path / "config.json", content | {"vocab_size": 31, "architectures": ["LlamaForConditionalGeneration"]}
    )
    assert findings(tmp_path) == []


@pytest.mark.parametrize("key", ["_class_name", "architecture", "model_config"])
def test_configs_of_others_are_left_alone(tmp_path: Path, key: str) -> None:
    write_llama(tmp_path)
    write_json(tmp_path / "config.json", {key: "resnet50"})
    assert plugin.detect_format(FolderFiles(tmp_path)) == []


def test_the_samples_raise_no_alarm(decoder_folder: Path, encoder_folder: Path) -> None:
    for folder in (decoder_folder, encoder_folder):
        assert findings(folder) == []
