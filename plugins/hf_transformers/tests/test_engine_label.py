"""Texts classified by a model's own labels and by those of the request, against transformers' pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from anyform.contract.errors import ContextExceeded, Invalid, Unsupported
from anyform.contract.events import Done, Scores
from anyform.contract.jobs import Classify, Embed, Picture, ZeroShot
from anyform.contract.model import Stop

np = pytest.importorskip("numpy")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.engine

TEXTS = (
    "How do I serve a folder of models?",
    "once",
    "A worker that dies while it loads is started again with the reduced settings.",
    "Crème BRÛLÉE, naïve — 1,5 µs ≥ 3 °C…",
)
LABELS = ("speed", "memory and disk", "cooking", "weather")
NLI = {0: "contradiction", 1: "neutral", 2: "ENTAILMENT"}
TURNED = {0: "entailment", 1: "not_entailment"}


def bert(folder: Path, tokenizer_of: Path, named: dict[int, str], **changes: Any) -> Path:
    """A small random classifier."""
    torch.manual_seed(len(named))
    config = transformers.BertConfig(
        vocab_size=4376, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
        max_position_embeddings=64, initializer_range=0.4, id2label=named,
        label2id={label: place for place, label in named.items()}, **changes,
    )  # fmt: skip
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(tokenizer_of).save_pretrained(folder)
    return folder


def bart(folder: Path, decoder_folder: Path, named: dict[int, str]) -> Path:
    """An encoder-decoder that judges entailment from the last end-of-text token, as bart-large-mnli does."""
    processors = pytest.importorskip("tokenizers").processors
    tokenizer = transformers.AutoTokenizer.from_pretrained(decoder_folder)
    end = (tokenizer.eos_token, tokenizer.eos_token_id)
    tokenizer._tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {end[0]}", pair=f"$A {end[0]} $B {end[0]}", special_tokens=[end]
    )
    torch.manual_seed(5)
    config = transformers.BartConfig(
        vocab_size=len(tokenizer), d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=48, decoder_ffn_dim=48, max_position_embeddings=128, init_std=0.3,
        pad_token_id=tokenizer.pad_token_id, eos_token_id=end[1], bos_token_id=end[1], decoder_start_token_id=end[1],
        forced_eos_token_id=None, id2label=named, label2id={label: place for place, label in named.items()},
    )  # fmt: skip
    transformers.BartForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def scores(answered: Any) -> list[Scores]:
    found = [event for event in answered.events if isinstance(event, Scores)]
    return sorted(found, key=lambda event: event.index)


def check(found: Scores, expected: list[dict[str, Any]]) -> None:
    assert found.labels == tuple(one["label"] for one in expected)
    assert found.values == pytest.approx([one["score"] for one in expected], abs=1e-5)


@pytest.mark.parametrize("problem", [None, "single_label_classification", "multi_label_classification", "regression"])
def test_classes_are_those_of_the_pipeline(
    problem: str | None, encoder_folder: Path, tmp_path: Path, engine: Any, kit: Any
) -> None:
    named = {0: "joy", 1: "anger", 2: "fear", 3: "surprise", 4: "love", 5: "sadness"}
    folder = bert(tmp_path / "m", encoder_folder, named, problem_type=problem)
    assert kit.plan(folder).metadata.tasks == ("classify",)
    model = engine.load(folder, context=None)
    pipeline = transformers.pipeline("text-classification", model=str(folder), device="cpu")
    for top in (1, 5, 6, 100):
        answered = kit.ask(model, Classify(inputs=TEXTS, top_k=top))
        for found, expected in zip(scores(answered), pipeline(list(TEXTS), top_k=top), strict=True):
            check(found, expected)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert answered.done.usage.prompt_tokens == sum(len(tokenizer(text).input_ids) for text in TEXTS)
    assert answered.prompt_tokens == answered.done.usage.prompt_tokens


@pytest.mark.parametrize("named", [NLI, TURNED])
@pytest.mark.parametrize("labels", [LABELS, LABELS[:1]])
def test_labels_of_the_request_are_judged_as_the_pipeline_does(
    named: dict[int, str], labels: tuple[str, ...], encoder_folder: Path, tmp_path: Path, engine: Any, kit: Any
) -> None:
    folder = bert(tmp_path / "m", encoder_folder, named)
    assert kit.plan(folder).metadata.tasks == ("zero_shot", "classify")
    model = engine.load(folder, context=None)
    pipeline = transformers.pipeline("zero-shot-classification", model=str(folder), device="cpu")
    answered = kit.ask(model, ZeroShot(inputs=TEXTS, labels=labels))
    for found, expected in zip(scores(answered), pipeline(list(TEXTS), candidate_labels=list(labels)), strict=True):
        assert found.labels == tuple(expected["labels"])
        assert found.values == pytest.approx(expected["scores"], abs=1e-5)
    own = transformers.pipeline("text-classification", model=str(folder), device="cpu")(TEXTS[0], top_k=None)
    check(scores(kit.ask(model, Classify(inputs=TEXTS[:1])))[0], own)


def test_the_sentence_around_a_label_is_a_load_option(
    encoder_folder: Path, tmp_path: Path, engine: Any, kit: Any
) -> None:
    folder, template = bert(tmp_path / "m", encoder_folder, NLI), "They talk about {}, I think."
    model = engine.load(folder, context=None, hypothesis_template=template)
    pipeline = transformers.pipeline("zero-shot-classification", model=str(folder), device="cpu")
    expected = pipeline(TEXTS[0], candidate_labels=list(LABELS), hypothesis_template=template)
    (found,) = scores(kit.ask(model, ZeroShot(inputs=TEXTS[:1], labels=LABELS)))
    assert found.labels == tuple(expected["labels"])
    assert found.values == pytest.approx(expected["scores"], abs=1e-5)


def test_an_encoder_decoder_and_a_text_that_it_cannot_take_beside_those_of_others(
    decoder_folder: Path, tmp_path: Path, engine: Any, kit: Any
) -> None:
    """BART wants as many ends of text in each row of a batch: one text that has more must not fail the others."""
    folder = bart(tmp_path / "m", decoder_folder, NLI)
    model = engine.load(folder, context=None)
    pipeline = transformers.pipeline("zero-shot-classification", model=str(folder), device="cpu")
    end = transformers.AutoTokenizer.from_pretrained(folder).eos_token
    odd = f"once {end} more"
    texts = [*TEXTS, odd] * 3
    answers = kit.together([lambda t=t: kit.ask(model, ZeroShot(inputs=(t,), labels=LABELS)) for t in texts])
    for text, answered in zip(texts, answers, strict=True):
        expected = pipeline(text, candidate_labels=list(LABELS))
        (found,) = scores(answered)
        assert found.labels == tuple(expected["labels"])
        assert found.values == pytest.approx(expected["scores"], abs=1e-5)


@pytest.mark.parametrize("padded", [True, False])
def test_a_decoder_that_classifies(padded: bool, decoder_folder: Path, tmp_path: Path, engine: Any, kit: Any) -> None:
    """It judges by the last token that is no padding; without a padding token only texts of one length go together."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(decoder_folder)
    if not padded:
        tokenizer.pad_token = None
    torch.manual_seed(4)
    config = transformers.Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        intermediate_size=48, max_position_embeddings=128, initializer_range=0.3, num_labels=3,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    folder = tmp_path / "m"
    transformers.Qwen2ForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    model = engine.load(folder, context=None)
    pipeline = transformers.pipeline("text-classification", model=str(folder), device="cpu")
    texts = [f"{text}{' and so on' * more}" for text in TEXTS for more in range(4)]
    answered = kit.ask(model, Classify(inputs=tuple(texts), top_k=3))
    for found, text in zip(scores(answered), texts, strict=True):
        check(found, pipeline(text, top_k=3))


def test_requests_of_many_clients_are_computed_together(
    encoder_folder: Path, tmp_path: Path, engine: Any, kit: Any
) -> None:
    model = engine.load(bert(tmp_path / "m", encoder_folder, NLI), context=None)
    alone = [scores(kit.ask(model, ZeroShot(inputs=(text,), labels=LABELS)))[0] for text in TEXTS]
    answers = kit.together([lambda t=t: kit.ask(model, ZeroShot(inputs=(t, *TEXTS), labels=LABELS)) for t in TEXTS * 6])
    for place, answered in enumerate(answers):
        for found, expected in zip(scores(answered), [alone[place % len(TEXTS)], *alone], strict=True):
            assert found.labels == expected.labels
            assert found.values == pytest.approx(expected.values, abs=1e-5)


def test_what_is_too_long_is_refused_with_both_numbers(
    encoder_folder: Path, tmp_path: Path, engine: Any, kit: Any
) -> None:
    model, long = engine.load(bert(tmp_path / "m", encoder_folder, NLI), context=None), "once " * 80
    with pytest.raises(ContextExceeded, match="input 1 has 82 tokens; the context has 64") as caught:
        model.generate(Classify(inputs=("x", long)), Stop())
    assert caught.value.details == {"prompt_tokens": 82, "context": 64}
    with pytest.raises(ContextExceeded, match="input 0 with label 'speed'"):
        model.generate(ZeroShot(inputs=(long,), labels=LABELS), Stop())
    fits = "once " * 61
    assert len(scores(kit.ask(model, Classify(inputs=(fits,))))) == 1
    with pytest.raises(ContextExceeded, match="with label"):
        model.generate(ZeroShot(inputs=(fits,), labels=LABELS), Stop())


def test_what_is_not_done_is_refused(encoder_folder: Path, tmp_path: Path, engine: Any) -> None:
    model = engine.load(bert(tmp_path / "m", encoder_folder, {0: "good", 1: "bad"}), context=None)
    picture = Picture(data=b"x", media_type="image/png")
    for job, fault, words in (
        (ZeroShot(inputs=("x",), labels=LABELS), Unsupported, "zero_shot"),
        (Embed(inputs=("x",)), Unsupported, "embed"),
        (Classify(inputs=(picture,)), Unsupported, "picture"),
        (Classify(inputs=("x",), top_k=0), Invalid, "top_k"),
    ):
        with pytest.raises(fault, match=words):
            model.generate(job, Stop())
    entailing = engine.load(bert(tmp_path / "n", encoder_folder, NLI), context=None)
    with pytest.raises(Invalid, match="labels"):
        entailing.generate(ZeroShot(inputs=("x",), labels=()), Stop())


def test_a_stopped_request_ends(encoder_folder: Path, tmp_path: Path, engine: Any) -> None:
    model, stop = engine.load(bert(tmp_path / "m", encoder_folder, NLI), context=None), Stop()
    events = model.generate(ZeroShot(inputs=TEXTS * 300, labels=LABELS), stop)
    next(events)
    assert isinstance(next(events), Scores)
    stop.set()
    rest = list(events)
    assert isinstance(rest[-1], Done)
    assert rest[-1].finishes[0].reason == "cancelled"
    assert len(rest) < 1000
