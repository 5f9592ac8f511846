"""PEFT adapters: the text and the vectors that peft's own model gives, and what is said where the base is not here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.errors import Invalid, LoadFailed, Unsupported
from anyform.contract.facts import Settings
from anyform.contract.jobs import Embed, Rerank
from anyform.testing.safetensors import CHATML, write_adapter, write_bert, write_llama

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")
pytestmark = pytest.mark.engine

PROMPT = (6, 7, 8, 9, 10, 11)


def adapt(model: Any, folder: Path, **changes: Any) -> Any:
    """A LoRA of random numbers for *model*, saved in *folder*; the model with it."""
    torch.manual_seed(3)
    said = {"r": 4, "lora_alpha": 16, "init_lora_weights": False, **changes}
    made = peft.get_peft_model(model, peft.LoraConfig(**said)).eval()
    with torch.no_grad():
        for name, weights in made.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(weights, std=0.5)
    made.save_pretrained(folder)
    return made


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A tiny llama."""
    return write_llama(tmp_path / "base", template=CHATML)


@pytest.fixture
def adapted(base: Path, tmp_path: Path) -> tuple[Path, list[int]]:
    """A LoRA for it, and the ids that peft's own model writes after PROMPT."""
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    made = adapt(model, tmp_path / "lora", task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj", "down_proj"])
    given = torch.tensor([PROMPT])
    out = made.generate(
        input_ids=given, attention_mask=torch.ones_like(given), max_new_tokens=24, do_sample=False, eos_token_id=None
    )
    return tmp_path / "lora", out[0, len(PROMPT) :].tolist()


def words(folder: Path, ids: list[int]) -> str:
    """What the tiny llama's tokens read as."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return "".join(tokenizer.convert_ids_to_tokens(ids))


def test_an_adapter_says_what_peft_says(adapted: tuple[Path, list[int]], base: Path, engine: Any, kit: Any) -> None:
    folder, expected = adapted
    found = kit.complete(engine.load(folder, context=128), PROMPT, max_tokens=24, ignore_eos=True).text
    plain = kit.complete(engine.load(base, context=128), PROMPT, max_tokens=24, ignore_eos=True).text
    assert found.replace(" ", "") == words(base, [id for id in expected if id > 5])
    assert found != plain


def test_what_the_base_says_is_said_of_the_adapter(adapted: tuple[Path, list[int]], kit: Any) -> None:
    found = kit.plan(adapted[0]).metadata
    assert found.tasks == ("chat", "complete")
    assert (found.context, found.vocab_size, found.extra["layers"]) == (128, 32, 2)
    assert found.extra["adapter"]["rank"] == 4


def test_memory_is_that_of_both(adapted: tuple[Path, list[int]], base: Path, kit: Any) -> None:
    from anyform_hf_transformers import memory

    both, alone = kit.plan(adapted[0]).metadata, kit.plan(base).metadata
    settings = Settings(context=128, device="cpu")
    found, expected = memory.estimate(both, settings), memory.estimate(alone, settings)
    assert found.weights_bytes == expected.weights_bytes + both.weight_bytes
    assert found.bytes_per_token == expected.bytes_per_token > 0


def test_the_base_may_be_named(adapted: tuple[Path, list[int]], base: Path, engine: Any, kit: Any) -> None:
    folder, expected = adapted
    moved = base.rename(base.with_name("elsewhere"))
    with pytest.raises(LoadFailed, match="not on this machine") as raised:
        engine.load(folder)
    assert "base=PATH" in raised.value.hint
    model = engine.load(folder, context=128, base=str(moved))
    found = kit.complete(model, PROMPT, max_tokens=24, ignore_eos=True).text
    assert found.replace(" ", "") == words(moved, [id for id in expected if id > 5])
    with pytest.raises(Invalid, match="base"):
        engine.load(folder, base=str(folder))


def test_the_base_may_lie_in_the_cache(
    adapted: tuple[Path, list[int]], base: Path, tmp_path: Path, engine: Any, monkeypatch: pytest.MonkeyPatch, kit: Any
) -> None:
    from huggingface_hub import constants

    folder, expected = adapted
    said = json.loads((folder / "adapter_config.json").read_text())
    said["base_model_name_or_path"] = "owner/model"
    (folder / "adapter_config.json").write_text(json.dumps(said))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(LoadFailed, match="owner/model") as raised:
        engine.load(folder)
    assert "anyform pull owner/model" in raised.value.hint
    home = tmp_path / "hub" / "models--owner--model"
    shutil.move(base, home / "snapshots" / "abc")
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("abc")
    found = kit.complete(engine.load(folder, context=128), PROMPT, max_tokens=24, ignore_eos=True).text
    assert found.replace(" ", "") == words(home / "snapshots" / "abc", [id for id in expected if id > 5])


def test_tokens_that_came_with_the_adapter(base: Path, tmp_path: Path, engine: Any, kit: Any) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|new|>"]})
    tokenizer.save_pretrained(tmp_path / "lora")
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model.resize_token_embeddings(len(tokenizer))
    made = adapt(model, tmp_path / "lora", task_type="CAUSAL_LM", target_modules=["q_proj"],
                 modules_to_save=["embed_tokens"])  # fmt: skip
    given = torch.tensor([[6, 32, 8]])
    out = made.generate(
        input_ids=given, attention_mask=torch.ones_like(given), max_new_tokens=9, do_sample=False, eos_token_id=None
    )
    found = engine.load(tmp_path / "lora", context=128)
    text = kit.complete(found, (6, 32, 8), max_tokens=9, ignore_eos=True).text
    expected = [id for id in out[0, 3:].tolist() if 5 < id < 32]
    assert text.replace(" ", "") == words(base, expected)


def test_an_adapter_of_an_encoder(tmp_path: Path, engine: Any, kit: Any) -> None:
    write_bert(tmp_path / "base", pooling="mean")
    model = transformers.AutoModel.from_pretrained(tmp_path / "base", dtype=torch.float32)
    made = adapt(model, tmp_path / "lora", task_type="FEATURE_EXTRACTION", target_modules=["query", "value"])
    with torch.no_grad():
        expected = made(input_ids=torch.tensor([PROMPT])).last_hidden_state[0].mean(0)
    found = kit.ask(engine.load(tmp_path / "lora", context=None), Embed(inputs=(PROMPT,))).vectors[0]
    assert found == pytest.approx((expected / expected.norm()).numpy(), abs=1e-5)


def test_an_adapter_brings_the_head_of_a_ranker(tmp_path: Path, engine: Any, kit: Any) -> None:
    write_bert(tmp_path / "base", pooling="mean")
    shutil.rmtree(tmp_path / "base" / "1_Pooling")
    (tmp_path / "base" / "modules.json").unlink()
    torch.manual_seed(5)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "base", num_labels=1, dtype=torch.float32
    )
    made = adapt(model, tmp_path / "lora", task_type="SEQ_CLS", target_modules=["query", "value"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "base")
    pair = tokenizer.backend_tokenizer.encode("once upon", "a boat")
    with torch.no_grad():
        given = {"input_ids": torch.tensor([pair.ids]), "token_type_ids": torch.tensor([pair.type_ids])}
        expected = float(torch.sigmoid(made(**given).logits[0, 0]))
    model = engine.load(tmp_path / "lora", context=None)
    (scores,) = [event for event in kit.ask(model, Rerank(query="once upon", documents=("a boat",))).events
                 if hasattr(event, "values")]  # fmt: skip
    assert scores.values[0] == pytest.approx(expected, abs=1e-5)


def test_adapters_that_do_not_fit_are_refused(base: Path, tmp_path: Path, engine: Any) -> None:
    wrong = write_adapter(tmp_path / "wrong", base=str(base))  # it has one matrix of two layers' two
    with pytest.raises(LoadFailed, match=r"layers\.1"):
        engine.load(wrong, context=128)
    said = json.loads((wrong / "adapter_config.json").read_text())
    (wrong / "adapter_config.json").write_text(json.dumps({**said, "peft_type": "PREFIX_TUNING"}))
    with pytest.raises(Unsupported, match="PREFIX_TUNING"):
        engine.load(wrong, context=128)
    other = write_llama(tmp_path / "other", hidden_size=32)
    (wrong / "adapter_config.json").write_text(json.dumps(said))
    with pytest.raises(LoadFailed, match="peft does not apply"):
        engine.load(wrong, context=128, base=str(other))


def test_an_adapter_of_another_architecture_says_so(tmp_path: Path, engine: Any) -> None:
    """The base lacks the head that the adapter's task wants, which is not why it does not run."""
    bert = write_bert(tmp_path / "bert")
    wrong = write_adapter(tmp_path / "wrong", base=str(bert))
    said = json.loads((wrong / "adapter_config.json").read_text())
    mapped = {"base_model_class": "LlamaForCausalLM", "parent_library": "transformers"}
    (wrong / "adapter_config.json").write_text(json.dumps({**said, "auto_mapping": mapped}))
    with pytest.raises(
        Unsupported, match=r"not fit its base.*a LlamaForCausalLM.* q_proj; the base is a Bert"
    ) as raised:
        engine.load(wrong, context=64)
    assert "base=PATH" in raised.value.hint
    assert str(tmp_path) not in str(raised.value), "a client is not told where files lie"


def test_a_missing_library_is_named(adapted: tuple[Path, list[int]], kit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata

    from anyform.contract.errors import EngineMissing
    from anyform_hf_transformers import memory

    plan = kit.plan(adapted[0])
    installed = importlib.metadata.version

    def without(name: str) -> str:
        if name == "peft":
            raise importlib.metadata.PackageNotFoundError(name)
        return installed(name)

    monkeypatch.setattr(importlib.metadata, "version", without)
    with pytest.raises(EngineMissing, match="peft") as raised:
        memory.estimate(plan.metadata, plan.settings)
    assert "pip install peft" in raised.value.hint


def test_the_router_runs_it(adapted: tuple[Path, list[int]]) -> None:
    from anyform.assembly import start
    from anyform.contract.events import Text
    from anyform.contract.jobs import Complete, Generation, Sampling

    runtime = start([adapted[0]], where="here")
    try:
        (name,) = runtime.names()
        decision = runtime.explain(name)
        assert decision.plan is not None
        assert (decision.plan.plugin, decision.plan.match.format) == ("hf_transformers", "peft")
        job = Complete(prompt=PROMPT, generation=Generation(max_tokens=4, sampling=Sampling(temperature=0.0)))
        assert any(isinstance(event, Text) for event in runtime.generate(name, job))
    finally:
        runtime.close()
