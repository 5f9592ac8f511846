"""Rerankers and classifiers of texts: against the graph run by hand, and against the libraries where they are."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.errors import ContextExceeded, Invalid, Unsupported
from anyform.contract.events import Scores
from anyform.contract.jobs import Classify, Embed, Picture, Rerank, ZeroShot
from anyform.contract.model import LoadedModel, Stop
from anyform.testing.onnxencoder import write_encoder
from anyform.testing.safetensors import write_bert

np = pytest.importorskip("numpy")
onnxruntime = pytest.importorskip("onnxruntime")
tokenizers = pytest.importorskip("tokenizers")
pytestmark = pytest.mark.engine
log = logging.getLogger(__name__)

TEXTS = (
    "How do I serve a folder of models?",
    "once",
    "A worker that dies while it loads is started again with the reduced settings.",
    "Crème BRÛLÉE, naïve — 1,5 µs ≥ 3 °C…",
)
WORDS = (
    "models", "of", "a", "folder", "serve", "the", "worker", "once", "settings", "reduced", "which", "loads", "again",
    "is", "how", "started", "that", "light", "story", "plane", "station", "letter", "picture", "colour", "sound",
    "2 + 3", "= 5", "context", "tokens", "request", "answer", "memory", "disk", "speed",
)  # fmt: skip
QUERY = "How many tokens?"
DOCUMENTS = tuple(
    " ".join(WORDS[(place * 7 + word * (place % 11 + 1)) % len(WORDS)] for word in range(1 + place % 23))
    for place in range(200)
)
LABELS = ("speed", "memory and disk", "cooking", "weather")
NLI = ("contradiction", "neutral", "ENTAILMENT")
TURNED = ("entailment", "not_entailment")
MOODS = ("joy", "anger", "fear", "surprise")
IDENTITY, TANH = "torch.nn.modules.linear.Identity", "torch.nn.modules.activation.Tanh"


def written(folder: Path, tokenizer_of: Path, labels: Sequence[str], seed: int = 0, **said: Any) -> Path:
    """A small random classifier, as weights and as a graph. *said*: to config.json."""
    rng = np.random.default_rng(seed)
    write_bert(folder, labels=labels, vocab_size=4376, hidden_size=32, intermediate_size=48)
    _spread(folder / "model.safetensors", rng)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        shutil.copy(tokenizer_of / name, folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"max_position_embeddings": 64} | said))
    return write_encoder(folder, folder)


def _spread(path: Path, rng: Any) -> None:
    """Numbers that are further from 0, so that scores differ."""
    content = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    for name, one in json.loads(content[8:start]).items():
        if name != "__metadata__" and not name.endswith(("LayerNorm.weight", "bias")):
            begin, end = (start + place for place in one["data_offsets"])
            content[begin:end] = rng.normal(0, 1.5, (end - begin) // 4).astype("<f4").tobytes()
    path.write_bytes(content)


@pytest.fixture(scope="module")
def folders(encoder_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """By kind; made once."""
    root = tmp_path_factory.mktemp("label")
    kinds = {"ranker": ["LABEL_0"], "pair": ["no", "yes"], "nli": NLI, "turned": TURNED, "moods": MOODS}
    return {kind: written(root / kind, encoder_source, labels, len(kind)) for kind, labels in kinds.items()}


def logits(folder: Path, *texts: str) -> Any:
    """Of one text, or of a pair."""
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    made = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json")).encode(*texts)
    given = {"input_ids": made.ids, "attention_mask": made.attention_mask, "token_type_ids": made.type_ids}
    return session.run(["logits"], {name: np.array([value]) for name, value in given.items()})[0][0].astype(np.float64)


def softmax(row: Any) -> Any:
    return np.exp(row) / np.exp(row).sum(-1, keepdims=True)


def ranked(model: LoadedModel, kit: Any, documents: Sequence[str] = DOCUMENTS) -> Any:
    (scores,) = kit.ask(model, Rerank(query=QUERY, documents=documents)).scores
    return np.array(scores.values)


@pytest.mark.parametrize(
    ("kind", "function"),
    [
        ("ranker", lambda row: 1 / (1 + np.exp(-row[0]))),
        ("pair", lambda row: softmax(row)[1]),
    ],
)
def test_scores_of_pairs_are_those_of_the_graph(kind: str, function: Any, folders: Any, engine: Any, kit: Any) -> None:
    model = engine.load(folders[kind], tasks=("rerank",))
    expected = [float(function(logits(folders[kind], QUERY, document))) for document in TEXTS]
    assert ranked(model, kit, TEXTS) == pytest.approx(expected, abs=1e-5)
    assert len({round(value, 5) for value in expected}) == len(TEXTS)
    assert kit.ask(model, Rerank(query="x", documents=())).events[1] == Scores(values=())
    with pytest.raises(ContextExceeded):
        model.generate(Rerank(query="x", documents=("once " * 100,)), Stop())
    with pytest.raises(Unsupported, match="embed"):
        model.generate(Embed(inputs=("x",)), Stop())


def test_a_model_with_one_label_ranks(folders: Any, kit: Any) -> None:
    assert kit.plan(folders["ranker"]).metadata.tasks == ("rerank",)
    assert kit.plan(folders["nli"]).metadata.tasks == ("zero_shot", "classify")
    assert kit.plan(folders["moods"]).metadata.tasks == ("classify",)


def test_three_labels_are_no_ranking(folders: Any, engine: Any) -> None:
    with pytest.raises(Unsupported, match="3 labels"):
        engine.load(folders["nli"], tasks=("rerank",))


@pytest.mark.parametrize(("name", "older"), [(IDENTITY, True), (IDENTITY, False), (TANH, False)])
def test_a_score_goes_through_the_function_that_the_folder_names(
    name: str, older: bool, encoder_source: Path, tmp_path: Path, engine: Any, kit: Any
) -> None:
    said = (
        {"sbert_ce_default_activation_function": name} if older else {"sentence_transformers": {"activation_fn": name}}
    )
    folder = written(tmp_path / "m", encoder_source, ["LABEL_0"], **said)
    expected = [float(logits(folder, QUERY, document)[0]) for document in TEXTS]
    found = ranked(engine.load(folder), kit, TEXTS)
    assert found == pytest.approx(np.tanh(expected) if name == TANH else expected, abs=1e-5)


def test_a_function_that_is_not_known_is_refused(encoder_source: Path, tmp_path: Path, engine: Any) -> None:
    said = {"sentence_transformers": {"activation_fn": "os.system"}}
    with pytest.raises(Unsupported, match=r"os\.system"):
        engine.load(written(tmp_path / "m", encoder_source, ["LABEL_0"], **said))


@pytest.mark.parametrize("kind", ["ranker", "pair"])
def test_two_hundred_pairs_in_the_order_of_a_cross_encoder(kind: str, folders: Any, engine: Any, kit: Any) -> None:
    library = pytest.importorskip("sentence_transformers")
    found = ranked(engine.load(folders[kind], tasks=("rerank",)), kit)
    peer = library.CrossEncoder(str(folders[kind]), device="cpu")
    expected = peer.predict([(QUERY, document) for document in DOCUMENTS], apply_softmax=kind == "pair")
    expected = expected[:, 1] if kind == "pair" else expected
    log.info("%s: max |d| %.1e of %d pairs", kind, np.abs(found - expected).max(), len(DOCUMENTS))
    assert np.abs(found - expected).max() < 1e-5
    apart = np.abs(expected[:, None] - expected) > 1e-5  # nearer ones are equal in single precision
    assert (np.sign(found[:, None] - found) == np.sign(expected[:, None] - expected))[apart].all()
    assert apart.mean() > 0.9


@pytest.mark.parametrize("problem", [None, "multi_label_classification", "regression"])
def test_labels_of_the_model(problem: str | None, encoder_source: Path, tmp_path: Path, engine: Any, kit: Any) -> None:
    folder = written(tmp_path / "m", encoder_source, MOODS, problem_type=problem)
    model = engine.load(folder)
    share = {None: softmax, "regression": lambda row: row}.get(problem, lambda row: 1 / (1 + np.exp(-row)))
    for top in (1, 3, 100):
        answered = kit.ask(model, Classify(inputs=TEXTS, top_k=top))
        for found, text in zip(answered.scores, TEXTS, strict=True):
            expected = share(logits(folder, text))
            order = np.argsort(-expected)[:top]
            assert found.labels == tuple(MOODS[place] for place in order)
            assert found.values == pytest.approx(expected[order].tolist(), abs=1e-5)
    with pytest.raises(Unsupported, match="zero_shot"):
        model.generate(ZeroShot(inputs=("x",), labels=LABELS), Stop())


@pytest.mark.parametrize(("kind", "entails"), [("nli", 2), ("turned", 0)])
@pytest.mark.parametrize("labels", [LABELS, LABELS[:1]])
def test_labels_of_the_request_are_judged_by_entailment(
    kind: str, entails: int, labels: tuple[str, ...], folders: Any, engine: Any, kit: Any
) -> None:
    folder, template = folders[kind], "They talk about {}, I think."
    model = engine.load(folder, hypothesis_template=template)
    answered = kit.ask(model, ZeroShot(inputs=TEXTS, labels=labels))
    for found, text in zip(answered.scores, TEXTS, strict=True):
        rows = np.stack([logits(folder, text, template.replace("{}", label)) for label in labels])
        against = -1 if entails == 0 else 0
        alone = softmax(rows[:, [against, entails]])[:, 1]
        expected = softmax(rows[:, entails]) if len(labels) > 1 else alone
        order = np.argsort(-expected)
        assert found.labels == tuple(labels[place] for place in order)
        assert found.values == pytest.approx(expected[order].tolist(), abs=1e-5)


def test_classes_are_those_of_the_pipelines(folders: Any, engine: Any, kit: Any) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    model, place = engine.load(folders["nli"]), str(folders["nli"])
    pipeline = transformers.pipeline("text-classification", model=place, device="cpu")
    for found, expected in zip(
        kit.ask(model, Classify(inputs=TEXTS, top_k=3)).scores, pipeline(list(TEXTS), top_k=3), strict=True
    ):
        assert found.labels == tuple(one["label"] for one in expected)
        assert found.values == pytest.approx([one["score"] for one in expected], abs=1e-5)
    pipeline = transformers.pipeline("zero-shot-classification", model=place, device="cpu")
    found = kit.ask(model, ZeroShot(inputs=TEXTS, labels=LABELS)).scores
    for one, expected in zip(found, pipeline(list(TEXTS), candidate_labels=list(LABELS)), strict=True):
        assert one.labels == tuple(expected["labels"])
        assert one.values == pytest.approx(expected["scores"], abs=1e-5)


def test_requests_of_many_clients_are_computed_together(folders: Any, engine: Any, kit: Any) -> None:
    model = engine.load(folders["nli"])
    alone = [kit.ask(model, ZeroShot(inputs=(text,), labels=LABELS)).scores[0] for text in TEXTS]
    answers = kit.together([lambda t=t: kit.ask(model, ZeroShot(inputs=(t, *TEXTS), labels=LABELS)) for t in TEXTS * 6])
    for place, answered in enumerate(answers):
        for found, expected in zip(answered.scores, [alone[place % len(TEXTS)], *alone], strict=True):
            assert found.labels == expected.labels
            assert found.values == pytest.approx(expected.values, abs=1e-5)


def test_what_is_not_done_is_refused(folders: Any, engine: Any) -> None:
    model, long = engine.load(folders["nli"]), "once " * 80
    picture = Picture(data=b"x", media_type="image/png")
    for job, fault, words in (
        (Classify(inputs=("x", long)), ContextExceeded, "input 1 has 82 tokens; the context has 64"),
        (ZeroShot(inputs=(long,), labels=LABELS), ContextExceeded, "input 0 with label 'speed'"),
        (Embed(inputs=("x",)), Unsupported, "embed"),
        (Classify(inputs=(picture,)), Unsupported, "picture"),
        (Classify(inputs=("x",), top_k=0), Invalid, "top_k"),
        (ZeroShot(inputs=("x",), labels=()), Invalid, "labels"),
    ):
        with pytest.raises(fault, match=words):
            model.generate(job, Stop())


@pytest.mark.parametrize(("variant", "precision", "agreeing"), [("fp16", "F16", 0.99), ("quantized", "I8", 0.8)])
def test_smaller_variants_keep_the_order(
    variant: str, precision: str, agreeing: float, folders: Any, engine: Any, kit: Any, tmp_path: Path
) -> None:
    """Of the pairs of documents whose scores are not nearly the same: by random weights none means much."""
    exact = ranked(engine.load(folders["ranker"]), kit)
    write_encoder(tmp_path, folders["ranker"], entry=f"onnx/model_{variant}.onnx", precision=precision)
    found = ranked(engine.load(tmp_path, variant=variant), kit)
    between = exact[:, None] - exact
    alike = np.sign(between) == np.sign(found[:, None] - found)
    apart = np.abs(between) > exact.std() / 2
    kept = alike[apart].mean()
    log.info("%s: order kept %.2f%%, if apart %.2f%%", variant, 100 * alike.mean(), 100 * kept)
    assert kept > agreeing
    assert apart.mean() > 0.5
