"""Embeddings and scores from models that pool."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from anyform.contract.errors import Closed, ContextExceeded, Invalid, Unsupported
from anyform.contract.events import Done, Progress, Scores, Vector
from anyform.contract.jobs import Complete, Embed, Rerank
from anyform.contract.model import LoadedModel, Stop
from anyform.testing import gguf

TEXTS = ("the little girl", "lily was outside", "once", "play play play")
PASSAGES = (
    "Loading: --context N sets how many tokens one request may use, prompt and answer together.",
    "A worker that dies while it loads is started again with the reduced settings that the plugin names.",
    "The server answers on loopback only: a web page that you visit cannot talk to it.",
    "anyform plugins shows what is installed, from which distribution, and what is broken and why.",
)
QUESTIONS = (
    "How many tokens may a request use?",
    "What happens when a worker dies while it loads?",
    "Can a web page talk to the server?",
    "How do I see which plugins are installed?",
)
"""Each asks for the passage at its place."""


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory, kit: Any) -> Iterator[LoadedModel]:
    from anyform_gguf_llamacpp import backend

    path = gguf.write_bert(tmp_path_factory.mktemp("bert") / "bert.gguf")
    model = backend.load(kit.plan(path, tasks=("embed",), context=None))
    yield model
    model.close()


@pytest.fixture(scope="module")
def ranker(tmp_path_factory: pytest.TempPathFactory, kit: Any) -> Iterator[LoadedModel]:
    from anyform_gguf_llamacpp import backend

    path = gguf.write_bert(tmp_path_factory.mktemp("rank") / "rank.gguf", pooling="rank")
    model = backend.load(kit.plan(path, tasks=("rerank",), context=None))
    yield model
    model.close()


@pytest.fixture(scope="module")
def encoder(sample_embed: Path, kit: Any) -> Iterator[LoadedModel]:
    from anyform_gguf_llamacpp import backend

    model = backend.load(kit.plan(sample_embed, tasks=("embed",), context=None))
    yield model
    model.close()


def vectors(answered: Any) -> dict[int, NDArray[np.float32]]:
    return {event.index: np.frombuffer(event.data, "<f4") for event in answered.events if isinstance(event, Vector)}


def test_each_input_gets_a_vector_of_length_one(bert: LoadedModel, kit: Any) -> None:
    answered = kit.ask(bert, Embed(inputs=TEXTS))
    found = vectors(answered)
    assert sorted(found) == [0, 1, 2, 3]
    for vector in found.values():
        assert vector.shape == (64,)
        assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5)
    assert answered.done.usage.prompt_tokens == answered.prompt_tokens > len(TEXTS) * 2


def test_a_question_is_nearest_to_the_passage_that_answers_it(encoder: LoadedModel, kit: Any) -> None:
    found = vectors(kit.ask(encoder, Embed(inputs=QUESTIONS + PASSAGES)))
    for place in range(len(QUESTIONS)):
        nearness = [float(found[place] @ found[len(QUESTIONS) + other]) for other in range(len(PASSAGES))]
        assert max(nearness) == nearness[place], QUESTIONS[place]


def test_an_input_has_the_same_vector_alone_and_among_others(encoder: LoadedModel, kit: Any) -> None:
    found = vectors(kit.ask(encoder, Embed(inputs=PASSAGES * 30)))
    assert len(found) == 120
    for place, text in enumerate(PASSAGES):
        alone = vectors(kit.ask(encoder, Embed(inputs=(text,))))[0]
        assert float(alone @ found[place]) == pytest.approx(1.0, abs=1e-4)
        assert float(alone @ found[place + 60]) == pytest.approx(1.0, abs=1e-4)
    assert float(found[0] @ found[1]) < 0.9


def test_requests_are_packed_together(encoder: LoadedModel, kit: Any) -> None:
    alone = [vectors(kit.ask(encoder, Embed(inputs=(text,))))[0] for text in PASSAGES]
    answers = kit.together([lambda t=t: kit.ask(encoder, Embed(inputs=(t, t))) for t in PASSAGES * 5])
    for place, answered in enumerate(answers):
        for vector in vectors(answered).values():
            assert float(vector @ alone[place % 4]) == pytest.approx(1.0, abs=1e-4)


def test_tokens_are_embedded_as_they_are(encoder: LoadedModel, kit: Any) -> None:
    tokens = tuple(encoder._inputs.text(PASSAGES[0]).tokens)  # type: ignore[attr-defined]
    found = vectors(kit.ask(encoder, Embed(inputs=(PASSAGES[0], tokens))))
    assert float(found[0] @ found[1]) == pytest.approx(1.0, abs=1e-5)
    with pytest.raises(Invalid, match="99999"):
        encoder.generate(Embed(inputs=((99999,),)), Stop())


def test_fewer_dimensions_are_the_first_ones_normalised_again(bert: LoadedModel, kit: Any) -> None:
    whole = vectors(kit.ask(bert, Embed(inputs=("once",))))[0]
    short = vectors(kit.ask(bert, Embed(inputs=("once",), dimensions=16)))[0]
    assert short == pytest.approx(whole[:16] / np.linalg.norm(whole[:16]), abs=1e-5)
    for wrong in (0, 65):
        with pytest.raises(Invalid, match="dimensions"):
            bert.generate(Embed(inputs=("once",), dimensions=wrong), Stop())


def test_an_input_over_the_context_is_refused_unless_it_may_be_cut(bert: LoadedModel, kit: Any) -> None:
    long = "once " * 100
    with pytest.raises(ContextExceeded) as caught:
        bert.generate(Embed(inputs=("once", long)), Stop())
    assert caught.value.details == {"prompt_tokens": 102, "context": 64}
    answered = kit.ask(bert, Embed(inputs=(long,), truncate=True))
    assert answered.done.usage.prompt_tokens == 64
    exact = vectors(kit.ask(bert, Embed(inputs=("once " * 62,))))[0]
    assert float(vectors(answered)[0] @ exact) == pytest.approx(1.0, abs=1e-5)


def test_a_stopped_request_ends(bert: LoadedModel) -> None:
    stop = Stop()
    events = bert.generate(Embed(inputs=TEXTS * 200), stop)
    assert isinstance(next(events), Progress)
    assert isinstance(next(events), Vector)
    stop.set()
    rest = list(events)
    assert isinstance(rest[-1], Done)
    assert rest[-1].finishes[0].reason == "cancelled"
    assert len(rest) < 700


@pytest.mark.parametrize("pooling", ["cls", "last"])
def test_other_poolings(tmp_path: Path, engine: Any, kit: Any, pooling: str, bert: LoadedModel) -> None:
    model = engine.load(gguf.write_bert(tmp_path / "b.gguf", pooling=pooling), tasks=("embed",))
    mean = vectors(kit.ask(bert, Embed(inputs=("the little girl",))))[0]
    assert abs(float(vectors(kit.ask(model, Embed(inputs=("the little girl",))))[0] @ mean)) < 0.999


def test_an_encoder_that_does_not_say_is_pooled_by_mean(
    tmp_path: Path, engine: Any, kit: Any, bert: LoadedModel
) -> None:
    silent = gguf.write_bert(tmp_path / "b.gguf", extra={"bert.pooling_type": None})
    model = engine.load(silent, tasks=("embed",))
    mean = vectors(kit.ask(bert, Embed(inputs=("once",))))[0]
    assert float(vectors(kit.ask(model, Embed(inputs=("once",))))[0] @ mean) == pytest.approx(1.0, abs=1e-4)


def test_a_decoder_embeds_if_its_file_pools(tmp_path: Path, engine: Any, kit: Any) -> None:
    path = gguf.write_llama(tmp_path / "l.gguf", extra={"llama.pooling_type": 3})
    model = engine.load(path, tasks=("embed",), context=128)
    found = vectors(kit.ask(model, Embed(inputs=TEXTS * 10)))
    again = vectors(kit.ask(model, Embed(inputs=(TEXTS[1],))))[0]
    assert float(found[1] @ again) == pytest.approx(1.0, abs=1e-3)
    assert float(found[0] @ found[1]) < 0.999


def test_a_decoder_that_does_not_say_needs_to_be_told(tmp_path: Path, engine: Any, kit: Any) -> None:
    path = gguf.write_llama(tmp_path / "l.gguf")
    with pytest.raises(Unsupported, match="pooled"):
        engine.load(path, tasks=("embed",))
    model = engine.load(path, tasks=("embed",), pooling="mean")
    assert len(vectors(kit.ask(model, Embed(inputs=("once",))))[0]) == 64


def test_documents_are_scored(ranker: LoadedModel, kit: Any) -> None:
    documents = ("the little girl", "lily", "play outside", "the little girl")
    answered = kit.ask(ranker, Rerank(query="the girl", documents=documents))
    scores = [event for event in answered.events if isinstance(event, Scores)]
    assert len(scores) == 1
    values = scores[0].values
    assert len(values) == 4
    assert all(0.0 <= value <= 1.0 for value in values)
    assert values[0] == pytest.approx(values[3], abs=1e-5)
    assert len({round(value, 5) for value in values}) == 3
    assert kit.ask(ranker, Rerank(query="x", documents=())).events[1].values == ()
    with pytest.raises(ContextExceeded):
        ranker.generate(Rerank(query="x", documents=("once " * 100,)), Stop())


def test_the_wrong_task_is_refused(bert: LoadedModel, ranker: LoadedModel) -> None:
    for model, job in (
        (bert, Complete(prompt="x")),
        (bert, Rerank(query="x", documents=("y",))),
        (ranker, Embed(inputs=("x",))),
    ):
        with pytest.raises(Unsupported, match=job.task):
            model.generate(job, Stop())
    with pytest.raises(Invalid, match="empty"):
        bert.generate(Embed(inputs=((),)), Stop())


def test_closing(tmp_path: Path, engine: Any) -> None:
    model = engine.load(gguf.write_bert(tmp_path / "b.gguf"), tasks=("embed",))
    events = model.generate(Embed(inputs=TEXTS * 500), Stop())
    next(events)
    next(events)
    model.close()
    model.close()
    with pytest.raises(Closed):
        list(events)
    with pytest.raises(Closed):
        model.generate(Embed(inputs=("x",)), Stop())
