"""GGUF files in transformers: the text that safetensors of the same weights give, and what is refused beforehand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.errors import Unsupported
from anyform.contract.facts import Metadata, Plan, Settings
from anyform.testing import gguf as tiny

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
reader = pytest.importorskip("gguf")
pytestmark = pytest.mark.engine

FACTS = Metadata(
    architecture="qwen3",
    tasks=("chat", "complete"),
    parameters=1000,
    context=2048,
    extra={"kind": "model", "layers": 2},
)
QUESTIONS = ["How do I serve a folder of models?", "What is 3 + 4?", "How many days has May?", "My name is Tara."]


def plan_of(folder: Path, **settings: Any) -> Plan:
    """A plan for the GGUF of *folder*, as its format's plugin describes it."""
    detection = pytest.importorskip("anyform_gguf_llamacpp.detection")
    metadata = pytest.importorskip("anyform_gguf_llamacpp.metadata")
    from anyform.kernel.files import FolderFiles

    files = FolderFiles(folder)
    match = detection.detect(files)[0]
    return Plan(
        plugin="hf_transformers",
        backend="transformers",
        model=folder.name,
        path=str(folder),
        match=match,
        metadata=metadata.extract(files, match),
        settings=Settings(context=512, parallel=4, device="cpu", options=settings),
    )


@pytest.fixture(scope="module")
def sample(decoder_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample decoder's weights, unchanged, in a GGUF."""
    write = pytest.importorskip("anyform_samples.gguf").write
    folder = tmp_path_factory.mktemp("gguf")
    write(decoder_folder, folder / "sample-F16.gguf", "F16")
    return folder


def test_a_gguf_says_what_the_safetensors_say(sample: Path, decoder: Any, engine: Any, kit: Any) -> None:
    from anyform_hf_transformers import backend

    model = backend.load(plan_of(sample))
    engine.loaded.append(model)
    asked = [kit.chat(question) for question in QUESTIONS]
    found = [kit.ask(model, job) for job in asked]
    expected = [kit.ask(decoder, job) for job in asked]
    assert [one.text for one in found] == [one.text for one in expected]
    assert [one.done.finishes for one in found] == [one.done.finishes for one in expected]
    assert kit.COMMAND in found[0].text
    assert found[0].done.usage.prompt_tokens == expected[0].done.usage.prompt_tokens


@pytest.mark.parametrize("tokenizer", ["sentencepiece", "bpe"])
def test_a_llama_of_random_weights(tokenizer: str, tmp_path: Path, engine: Any, kit: Any) -> None:
    from anyform_hf_transformers import backend

    tiny.write_gguf(tmp_path / "m.gguf", *tiny.llama(tokenizer=tokenizer, quantization="F32"))
    model = backend.load(plan_of(tmp_path))
    engine.loaded.append(model)
    assert kit.complete(model, "once", max_tokens=8, ignore_eos=True).done.usage.completion_tokens == 8


def test_what_transformers_leaves_out_is_refused(tmp_path: Path, engine: Any) -> None:
    from anyform_hf_transformers import backend

    keys, tensors = tiny.llama(quantization="F32")
    factors = tiny.Tensor("rope_freqs.weight", (8,), tiny.F32, bytes(32))
    tiny.write_gguf(tmp_path / "m.gguf", keys, [*tensors, factors])
    with pytest.raises(Unsupported, match="rope_freqs"):
        backend.load(plan_of(tmp_path))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"architecture": "strange"}, "'strange'"),
        ({"tasks": ("embed",)}, "embed"),
        ({"extra": {"kind": "model", "shards": 3}}, "3 files"),
        ({"extra": {"kind": "model", "rope_scaling": "yarn"}}, "yarn"),
    ],
)
def test_other_files_are_refused_before_they_are_read(changes: dict[str, Any], said: str) -> None:
    from anyform_hf_transformers import memory

    with pytest.raises(Unsupported, match=said) as raised:
        memory.estimate(replace(FACTS, **changes), Settings())
    assert "gguf_llamacpp" in raised.value.hint


def test_it_is_not_quantized_again() -> None:
    from anyform_hf_transformers import memory

    with pytest.raises(Unsupported, match=r"already \(gguf\)"):
        memory.estimate(FACTS, Settings(options={"quantization": "4bit"}))


def test_all_that_it_is_converted_to_is_counted() -> None:
    from anyform_hf_transformers import memory

    assert memory.estimate(FACTS, Settings(device="cpu")).weights_bytes == 4000
    assert memory.estimate(FACTS, Settings(device="cuda:0")).weights_bytes == 2000
    assert memory.estimate(FACTS, Settings(device="cpu", options={"dtype": "bfloat16"})).weights_bytes == 2000


def test_architectures_are_those_that_transformers_converts() -> None:
    from transformers.integrations import GGUF_CONFIG_MAPPING

    from anyform_hf_transformers.gguf import ARCHITECTURES

    theirs = {"gpt_oss": "gpt-oss", "minimax_m2": "minimax-m2", "qwen2_moe": "qwen2moe", "qwen3_moe": "qwen3moe"}
    known = {theirs.get(name, name) for name in GGUF_CONFIG_MAPPING} - {"general", "tokenizer", "t5", "umt5"}
    assert known == ARCHITECTURES


def test_both_engines_are_explained_and_either_answers(sample: Path, decoder: Any, kit: Any) -> None:
    pytest.importorskip("llama_cpp")
    from anyform.assembly import start
    from anyform.contract.events import Text
    from anyform.kernel.rule import Rule

    job = kit.chat(QUESTIONS[0])
    expected = kit.ask(decoder, job).text
    settings = Settings(context=512, device="cpu")
    for backend, first in (("", "gguf_llamacpp"), ("hf_transformers", "hf_transformers")):

        def rules(_: Any, backend: str = backend) -> Rule:
            return Rule(settings=settings, backend=backend)

        runtime = start([sample / "sample-F16.gguf"], where="here", rules=rules)
        try:
            (name,) = runtime.names()
            decision = runtime.explain(name)
            assert next(verdict.plugin for verdict in decision.verdicts if verdict.points is not None) == first
            told = {verdict.plugin: verdict for verdict in decision.verdicts}
            if not backend:
                assert told["gguf_llamacpp"].points - told["hf_transformers"].points >= 25
                assert any("converts on load +15" in line for line in decision.lines())
            events = list(runtime.generate(name, job))
            assert "".join(event.text for event in events if isinstance(event, Text)) == expected
            assert runtime.loaded()[0].plugin == first
        finally:
            runtime.close()
