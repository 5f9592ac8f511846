"""Weights in fewer bits: which can be had where, what they take, and that the text stays the same."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.errors import EngineMissing, Unsupported
from anyform.contract.facts import Metadata, Settings
from anyform_hf_transformers import memory, quantization, requirement

FACTS = Metadata(
    tasks=("chat",), parameters=8_000_000_000, weight_bytes=16_000_000_000, vocab_size=128_256, context=131_072,
    extra={"layers": 32, "heads": 32, "kv_heads": 8, "key_length": 128, "value_length": 128, "embedding_length": 4096,
           "feed_forward_length": 14336, "dtype": "BF16"},
)  # fmt: skip
EMBEDDINGS = 128_256 * 4096


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """Names of packages that are taken for installed; no others are."""
    names = {"bitsandbytes", "torchao", "accelerate"}

    def version(name: str) -> str:
        if name not in names:
            raise importlib.metadata.PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr(importlib.metadata, "version", version)
    requirement._installed.cache_clear()
    yield names
    requirement._installed.cache_clear()


def stored(**config: Any) -> Metadata:
    return replace(FACTS, extra={**FACTS.extra, "quantization_config": config})


def test_a_missing_package_is_named_with_its_command(installed: set[str]) -> None:
    installed.discard("bitsandbytes")
    with pytest.raises(EngineMissing, match="quantization=4bit needs bitsandbytes") as raised:
        memory.estimate(FACTS, Settings(options={"quantization": "4bit"}))
    assert raised.value.hint == "Install it: pip install bitsandbytes"
    for method, package in (("gptq", "gptqmodel"), ("awq", "gptqmodel"), ("compressed-tensors", "compressed-tensors")):
        with pytest.raises(EngineMissing, match=f"quantized by {method} needs .*{package}"):
            memory.estimate(stored(quant_method=method, bits=4), Settings(device="cpu"))
    with pytest.raises(EngineMissing, match="bitsandbytes"):
        memory.estimate(stored(load_in_4bit=True), Settings(device="cpu"))


def test_a_device_that_cannot_is_named_with_what_can(installed: set[str]) -> None:
    with pytest.raises(Unsupported, match="int4_weight_only runs on cuda, not on cpu") as raised:
        memory.estimate(FACTS, Settings(device="cpu", options={"quantization": "int4_weight_only"}))
    assert "4bit, 8bit, int8_weight_only" in raised.value.hint
    memory.estimate(FACTS, Settings(device="cuda:1", options={"quantization": "int4_weight_only"}))
    with pytest.raises(Unsupported, match="not on metal"):
        memory.estimate(FACTS, Settings(device="metal:0", options={"quantization": "8bit"}))
    with pytest.raises(Unsupported, match="fbgemm_fp8 runs on cuda, not on cpu"):
        memory.estimate(stored(quant_method="fbgemm_fp8"), Settings(device="cpu"))


def test_nothing_is_quantized_twice(installed: set[str]) -> None:
    with pytest.raises(Unsupported, match=r"already \(gptq\)"):
        memory.estimate(stored(quant_method="gptq"), Settings(options={"quantization": "8bit"}))


@pytest.mark.parametrize(("name", "bits"), [("4bit", 4.5), ("8bit", 8.08), ("int8_weight_only", 8.08)])
def test_linear_layers_take_less_and_embeddings_stay(name: str, bits: float, installed: set[str]) -> None:
    found = memory.estimate(FACTS, Settings(device="cuda:0", options={"quantization": name}))
    assert found.weights_bytes == pytest.approx(2 * EMBEDDINGS + (8_000_000_000 - EMBEDDINGS) * bits / 8)
    plain = memory.estimate(FACTS, Settings(device="cuda:0"))
    assert found.bytes_per_token == plain.bytes_per_token
    untied = replace(FACTS, extra={**FACTS.extra, "untied": True})
    assert quantization.embedding_parameters(untied) == 2 * EMBEDDINGS


def test_what_is_unpacked_on_load_is_counted_so(installed: set[str]) -> None:
    packed = replace(stored(quant_method="fp8"), weight_bytes=8_100_000_000)
    assert memory.estimate(packed, Settings(device="cuda:0")).weights_bytes == 8_100_000_000
    assert memory.estimate(packed, Settings(device="cpu")).weights_bytes == 16_000_000_000


def test_advice_names_only_what_can_be_had(installed: set[str]) -> None:
    found = memory.estimate(FACTS, Settings(device="cuda:0"))
    assert [saving.options for saving in found.savings] == [{"quantization": "8bit"}, {"quantization": "4bit"}]
    quantized = memory.estimate(FACTS, Settings(device="cuda:0", options={"quantization": "4bit"}))
    assert found.savings[1].bytes == found.weights_bytes - quantized.weights_bytes
    assert quantized.savings == ()
    installed.discard("bitsandbytes")
    requirement._installed.cache_clear()
    assert memory.estimate(FACTS, Settings(device="cuda:0")).savings == ()
    assert [one.options for one in memory.estimate(FACTS, Settings()).savings] == [{"dtype": "bfloat16"}]


PACKAGES = {
    "4bit": "bitsandbytes", "8bit": "bitsandbytes", "int8_weight_only": "torchao", "int8_dynamic": "torchao",
    "float8_weight_only": "torchao",
}  # fmt: skip
"""Those that run on a CPU."""


@pytest.mark.engine
@pytest.mark.parametrize("name", PACKAGES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_text_is_that_of_the_model(name: str, dtype: str, decoder_folder: Path, engine: Any, kit: Any) -> None:
    pytest.importorskip(PACKAGES[name])
    model = engine.load(decoder_folder, quantization=name, dtype=dtype)
    assert kit.COMMAND in kit.ask(model, kit.chat(kit.FOLDER)).text
    jobs = [kit.chat(f"What is {n} + 4?") for n in range(6)]
    alone = [kit.ask(model, job).text for job in jobs]
    assert len(set(alone)) > 4
    if name != "8bit":  # whose outliers are found among all rows of a step
        assert kit.together([lambda job=job: kit.ask(model, job).text for job in jobs]) == alone


@pytest.mark.engine
def test_weights_that_were_saved_in_4_bits_are_read(
    decoder_folder: Path, tmp_path: Path, engine: Any, kit: Any
) -> None:
    pytest.importorskip("bitsandbytes")
    transformers = pytest.importorskip("transformers")
    folder = Path(shutil.copytree(decoder_folder, tmp_path / "m", ignore=shutil.ignore_patterns("*.gguf")))
    said = transformers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    transformers.AutoModelForCausalLM.from_pretrained(decoder_folder, quantization_config=said).save_pretrained(folder)
    found = kit.plan(folder).metadata
    assert found.quantization == "BNB-4bit"
    assert json.loads((folder / "config.json").read_text())["quantization_config"]["load_in_4bit"]
    assert kit.COMMAND in kit.ask(engine.load(folder), kit.chat(kit.FOLDER)).text


@pytest.mark.engine
def test_an_adapter_runs_on_a_quantized_base(decoder_folder: Path, tmp_path: Path, engine: Any, kit: Any) -> None:
    for package in ("bitsandbytes", "peft"):
        pytest.importorskip(package)
    import peft

    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(decoder_folder)
    peft.get_peft_model(model, peft.LoraConfig(r=2, task_type="CAUSAL_LM")).save_pretrained(tmp_path)  # changes nothing
    made = engine.load(tmp_path, quantization="4bit")
    assert kit.COMMAND in kit.ask(made, kit.chat(kit.FOLDER)).text
