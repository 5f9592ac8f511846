"""Embeddings and scores, against transformers itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.errors import Closed, ContextExceeded, Invalid, Unsupported
from anyform.contract.events import Done, Progress, Scores, Vector
from anyform.contract.jobs import Complete, Embed, Rerank
from anyform.contract.model import LoadedModel, Stop

np = pytest.importorskip("numpy")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.engine

TEXTS = (
    "Loading: --context N sets how many tokens one request may use, prompt and answer together.",
    "A worker that dies while it loads is started again with the reduced settings that the plugin names.",
    "once",
    "Crème BRÛLÉE, naïve — 1,5 µs ≥ 3 °C…",
)


def random_classifier(tokenizer_of: Path, folder: Path, labels: int) -> Path:
    torch.manual_seed(labels)
    config = transformers.BertConfig(
        vocab_size=4376, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
        max_position_embeddings=64, num_labels=labels, initializer_range=0.5,
    )  # fmt: skip
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        shutil.copy(tokenizer_of / name, folder)
    return folder


def pooled_by(source: Path, folder: Path, pooling: str, *, normalize: bool = True) -> Path:
    """The sample encoder with another Pooling module."""
    shutil.copytree(source, folder)
    for path in folder.glob("*.gguf"):
        path.unlink()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({f"pooling_mode_{pooling}": True}))
    if not normalize:
        modules = json.loads((folder / "modules.json").read_text())
        (folder / "modules.json").write_text(json.dumps(modules[:2]))
    return folder


def test_vectors_are_transformers_own(encoder: LoadedModel, encoder_folder: Path, kit: Any) -> None:
    from anyform_samples.embedding import form

    expected = form.in_torch(encoder_folder)(TEXTS)
    assert np.abs(kit.ask(encoder, Embed(inputs=TEXTS)).vectors - expected).max() < 1e-5


def test_a_text_has_the_same_vector_alone_and_among_those_of_others(encoder: LoadedModel, kit: Any) -> None:
    alone = [kit.ask(encoder, Embed(inputs=(text,))).vectors[0] for text in TEXTS]
    answers = kit.together([lambda t=t: kit.ask(encoder, Embed(inputs=(t, *TEXTS))) for t in TEXTS * 8])
    for place, answered in enumerate(answers):
        expected = np.stack([alone[place % len(TEXTS)], *alone])
        assert np.abs(answered.vectors - expected).max() < 1e-5


@pytest.mark.parametrize("pooling", ["cls_token", "max_tokens", "lasttoken"])
def test_poolings_are_as_the_folder_says(
    pooling: str, encoder_folder: Path, tmp_path: Path, engine: Any, kit: Any
) -> None:
    model = engine.load(pooled_by(encoder_folder, tmp_path / "m", pooling, normalize=False), context=None)
    found = kit.ask(model, Embed(inputs=TEXTS)).vectors
    tokenizer = transformers.AutoTokenizer.from_pretrained(encoder_folder)
    plain = transformers.AutoModel.from_pretrained(encoder_folder, dtype=torch.float32)
    for text, vector in zip(TEXTS, found, strict=True):
        with torch.no_grad():
            hidden = plain(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        expected = {"cls_token": hidden[0], "max_tokens": hidden.amax(0), "lasttoken": hidden[-1]}[pooling]
        assert np.abs(vector - expected.numpy()).max() < 1e-4


def test_a_pooling_that_is_not_known_is_refused(encoder_folder: Path, tmp_path: Path, engine: Any) -> None:
    folder = pooled_by(encoder_folder, tmp_path / "m", "mean_tokens")
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": ["mean", "middle"]}))
    with pytest.raises(Unsupported, match="middle"):
        engine.load(folder, context=None)
    engine.load(folder, context=None, pooling="mean")


def test_a_module_that_is_not_known_is_refused(encoder_folder: Path, tmp_path: Path, engine: Any) -> None:
    folder = pooled_by(encoder_folder, tmp_path / "m", "mean_tokens")
    modules = json.loads((folder / "modules.json").read_text())
    modules.insert(2, {"idx": 2, "name": "2", "path": "2_Strange", "type": "sentence_transformers.models.Strange"})
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(Unsupported, match="Strange"):
        engine.load(folder, context=None)


def test_fewer_dimensions_are_the_first_ones_normalised_again(encoder: LoadedModel, kit: Any) -> None:
    whole = kit.ask(encoder, Embed(inputs=("once",))).vectors[0]
    short = kit.ask(encoder, Embed(inputs=("once",), dimensions=16)).vectors[0]
    assert short == pytest.approx(whole[:16] / np.linalg.norm(whole[:16]), abs=1e-5)
    for wrong in (0, 257):
        with pytest.raises(Invalid, match="dimensions"):
            encoder.generate(Embed(inputs=("once",), dimensions=wrong), Stop())


def test_a_text_over_the_context_is_refused_unless_it_may_be_cut(encoder_folder: Path, engine: Any, kit: Any) -> None:
    model = engine.load(encoder_folder, context=64)
    long = "once " * 100
    with pytest.raises(ContextExceeded) as caught:
        model.generate(Embed(inputs=("once", long)), Stop())
    assert caught.value.details == {"prompt_tokens": 102, "context": 64}
    answered = kit.ask(model, Embed(inputs=(long,), truncate=True))
    assert answered.done.usage.prompt_tokens == answered.prompt_tokens == 64
    exact = kit.ask(model, Embed(inputs=("once " * 62,))).vectors[0]
    assert np.abs(answered.vectors[0] - exact).max() < 1e-6


def test_the_models_own_limit_holds_where_none_is_asked_for(encoder: LoadedModel) -> None:
    with pytest.raises(ContextExceeded) as caught:
        encoder.generate(Embed(inputs=("once " * 600,)), Stop())
    assert caught.value.details["context"] == 512


def test_tokens_are_embedded_as_they_are(encoder: LoadedModel, encoder_folder: Path, kit: Any) -> None:
    tokens = tuple(transformers.AutoTokenizer.from_pretrained(encoder_folder)(TEXTS[0]).input_ids)
    found = kit.ask(encoder, Embed(inputs=(TEXTS[0], tokens))).vectors
    assert np.abs(found[0] - found[1]).max() < 1e-6
    with pytest.raises(Invalid, match="99999"):
        encoder.generate(Embed(inputs=((99999,),)), Stop())
    with pytest.raises(Invalid, match="empty"):
        encoder.generate(Embed(inputs=((),)), Stop())


@pytest.mark.parametrize("labels", [1, 2])
def test_documents_are_scored_as_transformers_does(
    labels: int, encoder_folder: Path, tmp_path: Path, engine: Any, kit: Any
) -> None:
    folder = random_classifier(encoder_folder, tmp_path / "r", labels)
    model = engine.load(folder, tasks=("rerank",), context=None)
    query, documents = "How many tokens?", (*TEXTS, TEXTS[0])
    answered = kit.ask(model, Rerank(query=query, documents=documents))
    (scores,) = [event for event in answered.events if isinstance(event, Scores)]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    for document, score in zip(documents, scores.values, strict=True):
        with torch.no_grad():
            logits = plain(**tokenizer(query, document, return_tensors="pt")).logits[0]
        expected = torch.sigmoid(logits[0]) if labels == 1 else torch.softmax(logits, 0)[1]
        assert score == pytest.approx(float(expected), abs=1e-5)
    assert len({round(value, 4) for value in scores.values}) == len(TEXTS)
    assert kit.ask(model, Rerank(query="x", documents=())).events[1] == Scores(values=())
    with pytest.raises(ContextExceeded):
        model.generate(Rerank(query="x", documents=("once " * 100,)), Stop())
    with pytest.raises(Unsupported, match="embed"):
        model.generate(Embed(inputs=("x",)), Stop())


def test_a_stopped_request_ends(encoder: LoadedModel) -> None:
    stop = Stop()
    events = encoder.generate(Embed(inputs=TEXTS * 200), stop)
    assert isinstance(next(events), Progress)
    assert isinstance(next(events), Vector)
    stop.set()
    rest = list(events)
    assert isinstance(rest[-1], Done)
    assert rest[-1].finishes[0].reason == "cancelled"
    assert len(rest) < 700


def test_other_tasks_are_refused(encoder: LoadedModel) -> None:
    with pytest.raises(Unsupported, match="complete"):
        encoder.generate(Complete(prompt="x"), Stop())
    with pytest.raises(Unsupported, match="rerank"):
        encoder.generate(Rerank(query="x", documents=("y",)), Stop())


def test_a_failed_text_fails_alone(encoder_folder: Path, engine: Any, kit: Any, monkeypatch: Any) -> None:
    """What torch says of a batch is found out for each of its texts."""
    from anyform_hf_transformers.encoder import EncodeFailed, Encoder

    model = engine.load(encoder_folder, context=None, threads=2)
    plain = Encoder.rows

    def rows(encoder: Encoder, inputs: Any) -> Any:
        if any(77 in one.tokens for one in inputs):
            raise RuntimeError("no memory for 77")
        made = plain(encoder, inputs)
        made[[80 in one.tokens for one in inputs]] = np.inf
        return made

    monkeypatch.setattr(Encoder, "rows", rows)
    bad = Embed(inputs=((1, 77, 2),))
    good = Embed(inputs=((1, 78, 2), (1, 79, 2)))
    answers = kit.together([lambda job=job: kit.ask(model, job) for job in (good, bad, good, bad, good)])
    for place, answered in enumerate(answers):
        if place % 2:
            assert isinstance(answered, EncodeFailed)
            assert "no memory for 77" in str(answered)
        else:
            assert answered.vectors.shape == (2, 256)
    endless = kit.together([lambda: kit.ask(model, Embed(inputs=((1, 80, 2),))), lambda: kit.ask(model, good)])
    assert "not all numbers are finite" in str(endless[0])
    assert endless[1].vectors.shape == (2, 256)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_many_clients_with_several_lanes(
    threads: int, encoder: LoadedModel, encoder_folder: Path, engine: Any, kit: Any
) -> None:
    model = engine.load(encoder_folder, context=None, threads=threads)
    texts = [" ".join(TEXTS[:1] * (1 + place % 5)) + str(place) for place in range(60)]
    expected = kit.ask(encoder, Embed(inputs=tuple(texts))).vectors
    answers = kit.together([lambda t=t: kit.ask(model, Embed(inputs=(t,))) for t in texts])
    assert np.abs(np.stack([answered.vectors[0] for answered in answers]) - expected).max() < 1e-5
    stop = Stop()
    events = model.generate(Embed(inputs=TEXTS * 300), stop)
    next(events)
    next(events)
    stop.set()
    last = list(events)[-1]
    assert isinstance(last, Done)
    assert last.finishes[0].reason == "cancelled"


@pytest.mark.parametrize("threads", [1, 2])
def test_closing(threads: int, encoder_folder: Path, engine: Any) -> None:
    model = engine.load(encoder_folder, context=None, threads=threads)
    events = model.generate(Embed(inputs=TEXTS * 500), Stop())
    next(events)
    next(events)
    model.close()
    model.close()
    with pytest.raises(Closed):
        list(events)
    with pytest.raises(Closed):
        model.generate(Embed(inputs=("x",)), Stop())


def test_packed_weights_give_the_same_vectors(
    encoder_folder: Path, engine: Any, kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from anyform_hf_transformers import vectorloading

    done: list[bool] = []
    pack = vectorloading.pack
    monkeypatch.setattr(vectorloading, "pack", lambda *given: done.append(pack(*given)))
    plain = kit.ask(engine.load(encoder_folder, context=None, exact=False, packed=False), Embed(inputs=TEXTS)).vectors
    assert done == []
    packed = kit.ask(engine.load(encoder_folder, context=None, exact=False), Embed(inputs=TEXTS)).vectors
    assert done == [True]
    assert np.abs(packed - plain).max() < 1e-5
