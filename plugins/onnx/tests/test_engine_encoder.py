"""Embeddings by onnxruntime: against the graph run by hand, in every shape that exporters give one."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.errors import Closed, ContextExceeded, Invalid, LoadFailed, Unsupported
from anyform.contract.events import Done, Progress, Vector
from anyform.contract.jobs import Complete, Embed, Rerank
from anyform.contract.model import LoadedModel, Stop
from anyform.testing.onnx import Graph, write_onnx
from anyform.testing.onnxencoder import write_encoder
from anyform.testing.safetensors import write_bert, write_json

np = pytest.importorskip("numpy")
onnxruntime = pytest.importorskip("onnxruntime")
tokenizers = pytest.importorskip("tokenizers")
pytestmark = pytest.mark.engine
log = logging.getLogger(__name__)

TEXTS = (
    "Loading: --context N sets how many tokens one request may use, prompt and answer together.",
    "A worker that dies while it loads is started again with the reduced settings that the plugin names.",
    "once",
    "Crème BRÛLÉE, naïve — 1,5 µs ≥ 3 °C…",
)
BROKEN = 11
"""The token whose numbers are not finite."""
WIDTH = 3


def unit(rows: Any) -> Any:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def by_hand(encoder_folder: Path) -> Any:
    """Each text alone through the graph, then the mean of its tokens."""
    session = onnxruntime.InferenceSession(encoder_folder / "onnx/model.onnx", providers=["CPUExecutionProvider"])
    tokenizer = tokenizers.Tokenizer.from_file(str(encoder_folder / "tokenizer.json"))

    def vectors(texts: Sequence[str]) -> Any:
        rows = []
        for text in texts:
            ids = np.array([tokenizer.encode(text).ids])
            given = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
            rows.append(session.run(["last_hidden_state"], given)[0][0].mean(0))
        return unit(np.stack(rows))

    return vectors


def test_vectors_are_those_of_the_graph(encoder: LoadedModel, by_hand: Any, kit: Any) -> None:
    assert np.abs(kit.ask(encoder, Embed(inputs=TEXTS)).vectors - by_hand(TEXTS)).max() < 1e-5


def test_a_text_has_the_same_vector_alone_and_among_those_of_others(
    encoder: LoadedModel, by_hand: Any, kit: Any
) -> None:
    answers = kit.together([lambda t=t: kit.ask(encoder, Embed(inputs=(t, *TEXTS))) for t in TEXTS * 8])
    for place, answered in enumerate(answers):
        expected = by_hand((TEXTS[place % len(TEXTS)], *TEXTS))
        assert np.abs(answered.vectors - expected).max() < 1e-5


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_many_clients_with_several_lanes(
    threads: int, encoder_folder: Path, by_hand: Any, engine: Any, kit: Any
) -> None:
    model = engine.load(encoder_folder, variant="fp32", threads=threads)
    texts = [" ".join(TEXTS[:1] * (1 + place % 5)) + str(place) for place in range(40)]
    answers = kit.together([lambda t=t: kit.ask(model, Embed(inputs=(t,))) for t in texts])
    assert np.abs(np.stack([answered.vectors[0] for answered in answers]) - by_hand(texts)).max() < 1e-5
    stop = Stop()
    events = model.generate(Embed(inputs=TEXTS * 300), stop)
    next(events)
    next(events)
    stop.set()
    last = list(events)[-1]
    assert isinstance(last, Done)
    assert last.finishes[0].reason == "cancelled"


@pytest.mark.parametrize(("variant", "nearest", "agreeing"), [("fp16", 0.99999, 0.999), ("quantized", 0.98, 0.95)])
def test_smaller_variants_lose_little(
    variant: str, nearest: float, agreeing: float, encoder: LoadedModel, encoder_folder: Path, engine: Any, kit: Any
) -> None:
    """Cosines to the vectors of F32, and how many pairs of pairs of texts keep their order."""
    texts = tuple(f"{text} {more}" for text in TEXTS for more in ("and so on", "2 + 3 = 5", "models", "the server"))
    exact = kit.ask(encoder, Embed(inputs=texts)).vectors
    found = kit.ask(engine.load(encoder_folder, variant=variant), Embed(inputs=texts)).vectors
    assert found.dtype == np.float32
    cosines = (exact * found).sum(1)
    upper = np.triu_indices(len(texts), 1)
    order, kept = ((rows @ rows.T)[upper] for rows in (exact, found))
    alike = np.sign(order[:, None] - order) == np.sign(kept[:, None] - kept)
    log.info("%s: least cosine to F32 %.6f, order kept %.2f%%", variant, cosines.min(), 100 * alike.mean())
    assert cosines.min() > nearest
    assert alike.mean() > agreeing


def test_quantized_numbers_hang_on_nobody_elses_texts(
    encoder: LoadedModel, encoder_folder: Path, engine: Any, kit: Any
) -> None:
    """Dynamic quantization scales a whole step by its largest number: so only a text alone is always the same."""
    model = engine.load(encoder_folder, variant="quantized")
    assert "computed by itself" in " ".join(model.notes)
    assert not encoder.notes  # type: ignore[attr-defined]
    alone = [kit.ask(model, Embed(inputs=(text,))).vectors[0] for text in TEXTS]
    answers = kit.together([lambda: kit.ask(model, Embed(inputs=TEXTS)).vectors for _ in range(8)])
    assert all(np.abs(vectors - np.stack(alone)).max() < 1e-6 for vectors in answers)


def test_who_asks_for_a_batch_gets_one_of_quantized_numbers_too(encoder_folder: Path, engine: Any, kit: Any) -> None:
    model = engine.load(encoder_folder, variant="quantized", batch=512)
    [note] = model.notes
    assert "its numbers for one request hang on those computed beside it" in note
    assert "Without the option batch each text is computed by itself." in note
    alone = [kit.ask(model, Embed(inputs=(text,))).vectors[0] for text in TEXTS]
    assert np.abs(kit.ask(model, Embed(inputs=TEXTS)).vectors - np.stack(alone)).max() > 1e-4


@pytest.mark.parametrize("positions", [3, 16, 24])
def test_a_model_of_a_few_positions_is_loaded(positions: int, tmp_path: Path, engine: Any, kit: Any) -> None:
    """What is tried at load is no longer than what the model may be given."""
    model = engine.load(write_encoder(tmp_path / "short", max_position_embeddings=positions))
    assert not model.notes
    answered = kit.ask(model, Embed(inputs=((5,) * 99,), truncate=True))
    assert answered.prompt_tokens == positions


def test_limits_are_told_and_hold(encoder: LoadedModel, encoder_folder: Path, engine: Any, kit: Any) -> None:
    with pytest.raises(ContextExceeded) as caught:
        encoder.generate(Embed(inputs=("once", "once " * 600)), Stop())
    assert caught.value.details == {"prompt_tokens": 602, "context": 512}
    model = engine.load(encoder_folder, variant="fp32", context=64)
    answered = kit.ask(model, Embed(inputs=("once " * 100,), truncate=True))
    assert answered.done.usage.prompt_tokens == answered.prompt_tokens == 64
    exact = kit.ask(model, Embed(inputs=("once " * 62,))).vectors
    assert np.abs(answered.vectors - exact).max() < 1e-5
    short = kit.ask(encoder, Embed(inputs=TEXTS, dimensions=16)).vectors
    assert np.abs(short - unit(kit.ask(encoder, Embed(inputs=TEXTS)).vectors[:, :16])).max() < 1e-5
    for job, fault, words in (
        (Embed(inputs=("x",), dimensions=257), Invalid, "257"),
        (Embed(inputs=((99999,),)), Invalid, "99999"),
        (Embed(inputs=((),)), Invalid, "empty"),
        (Complete(prompt="x"), Unsupported, "complete"),
        (Rerank(query="x", documents=("y",)), Unsupported, "rerank"),
    ):
        with pytest.raises(fault, match=words):
            encoder.generate(job, Stop())


def test_a_stopped_request_ends(encoder: LoadedModel) -> None:
    stop = Stop()
    events = encoder.generate(Embed(inputs=TEXTS * 200), stop)
    assert isinstance(next(events), Progress)
    assert isinstance(next(events), Vector)
    stop.set()
    rest = list(events)
    assert rest[-1].finishes[0].reason == "cancelled"
    assert len(rest) < 700


@pytest.mark.parametrize("threads", [1, 2])
def test_closing(threads: int, encoder_folder: Path, engine: Any) -> None:
    model = engine.load(encoder_folder, variant="fp32", threads=threads)
    events = model.generate(Embed(inputs=TEXTS * 500), Stop())
    next(events)
    next(events)
    model.close()
    model.close()
    with pytest.raises(Closed):
        list(events)
    with pytest.raises(Closed):
        model.generate(Embed(inputs=("x",)), Stop())


class Table:
    """A graph that gives each token a row of a table: what it makes of a text is known without running it."""

    def __init__(self, folder: Path) -> None:
        self.folder = write_bert(folder, pooling="mean")
        (folder / "model.safetensors").unlink()
        self.count = 24
        self.tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.rows = np.random.default_rng(5).normal(size=(self.count, WIDTH)).astype(np.float32)
        self.rows[BROKEN] = np.inf

    def write(
        self, dtype: str = "I64", mask: str = "I64", sides: Sequence[int | str] = ("batch", "sequence"), **said: Any
    ) -> Path:
        """*said*: output, its name; broken, whether each number is none; more, further inputs; pooled, its mean too."""
        graph, output = Graph(), said.get("output", "last_hidden_state")
        ids, seen = graph.input("input_ids", dtype, sides), graph.input("attention_mask", mask, sides)
        rows = self.rows * (np.nan if said.get("broken") else 1)
        table = graph.weights("table", "F32", rows.shape, rows.astype("<f4").tobytes())
        states = graph.node("Gather", table, ids)
        for name, kind, lengths in said.get("more", ()):
            graph.input(name, kind, lengths)
            added = graph.node("Cast", name, to=1)
            if len(lengths) == 2:
                added = graph.node("Unsqueeze", added, graph.constant([2], "I64"))
            else:
                added = graph.node("ReduceSum", added, keepdims=0)
            states = graph.node("Add", states, added)
        weight = graph.node("Unsqueeze", graph.node("Cast", seen, to=1), graph.constant([2], "I64"))
        masked = graph.node("Mul", states, weight)
        if said.get("pooled") != "alone":
            graph.node("Identity", states, called=output)
            graph.output(output, "F32", (*sides, WIDTH))
        if said.get("pooled"):
            name = said.get("pooled_name", "sentence_embedding")
            graph.node("ReduceSum", masked, graph.constant([1], "I64"), called=name, keepdims=0)
            graph.output(name, "F32", (sides[0], WIDTH))
        write_onnx(self.folder / "model.onnx", graph)
        return self.folder

    def expected(self, texts: Sequence[tuple[int, ...]], kind: str = "mean") -> Any:
        return np.stack([getattr(self.rows[list(text)], kind)(0) for text in texts])


@pytest.fixture
def table(tmp_path: Path) -> Table:
    made = Table(tmp_path / "table")
    write_json(made.folder / "modules.json", [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ])  # fmt: skip
    return made


TOKENS = ((1, 2, 3), (4, 5, 6, 7, 8), (9,), (3, 2, 1, 3), (2, 2))


def embedded(engine: Any, kit: Any, folder: Path, texts: Any = TOKENS, **options: Any) -> Any:
    return kit.ask(engine.load(folder, **options), Embed(inputs=texts)).vectors


@pytest.mark.parametrize("dtype", ["I64", "I32"])
@pytest.mark.parametrize("mask", ["I64", "I32", "BOOL", "F32"])
def test_inputs_have_the_types_that_the_graph_wants(dtype: str, mask: str, table: Table, engine: Any, kit: Any) -> None:
    found = embedded(engine, kit, table.write(dtype, mask))
    assert np.abs(found - table.expected(TOKENS)).max() < 1e-6


@pytest.mark.parametrize("sides", [(1, "sequence"), (4, "sequence"), ("batch", 6), (3, 8)])
def test_graphs_of_fixed_lengths(sides: tuple[Any, Any], table: Table, engine: Any, kit: Any) -> None:
    """Texts are padded to them, and so are batches, whose further rows nobody gets."""
    model = engine.load(table.write(sides=sides))
    answers = kit.together([lambda t=t: kit.ask(model, Embed(inputs=(t, *TOKENS))) for t in TOKENS * 3])
    for place, answered in enumerate(answers):
        assert np.abs(answered.vectors - table.expected((TOKENS[place % len(TOKENS)], *TOKENS))).max() < 1e-6
    if isinstance(sides[1], int):
        with pytest.raises(ContextExceeded) as caught:
            model.generate(Embed(inputs=((1,) * (sides[1] + 1),)), Stop())
        assert caught.value.details["context"] == sides[1]


@pytest.mark.parametrize("output", ["last_hidden_state", "token_embeddings", "hidden_states", "any_name"])
def test_states_of_tokens_go_by_several_names(output: str, table: Table, engine: Any, kit: Any) -> None:
    folder = table.write(output=output)
    plan = kit.plan(folder)
    found = kit.ask(engine.load(folder, tasks=plan.metadata.tasks or ("embed",)), Embed(inputs=TOKENS)).vectors
    assert np.abs(found - table.expected(TOKENS)).max() < 1e-6


def test_what_the_graph_pools_is_used_unless_its_user_wants_another_pooling(
    table: Table, engine: Any, kit: Any
) -> None:
    folder = table.write(output="token_embeddings", pooled="too")
    assert np.abs(embedded(engine, kit, folder) - table.expected(TOKENS, "sum")).max() < 1e-5
    assert np.abs(embedded(engine, kit, folder, pooling="max") - table.expected(TOKENS, "max")).max() < 1e-6


@pytest.mark.parametrize("name", ["sentence_embedding", "text_embeds", "pooler_output", "embeddings"])
def test_a_graph_that_gives_no_states_of_tokens(name: str, table: Table, engine: Any, kit: Any) -> None:
    folder = table.write(pooled="alone", pooled_name=name)
    assert np.abs(embedded(engine, kit, folder) - table.expected(TOKENS, "sum")).max() < 1e-5
    with pytest.raises(Invalid, match=rf"pooling=cls.*{name}"):
        engine.load(folder, pooling="cls")


def test_further_inputs(table: Table, engine: Any, kit: Any) -> None:
    """Types are 0, positions count up, caches of decoders that embed are empty."""
    sides = ("batch", "sequence")
    cache = ("past_key_values.0.key", "F32", ("batch", 2, "past", 4))
    folder = table.write(more=[("token_type_ids", "I64", sides), ("position_ids", "I64", sides), cache])
    expected = table.expected(TOKENS) + np.array([[(len(text) - 1) / 2] for text in TOKENS])
    assert np.abs(embedded(engine, kit, folder) - expected).max() < 1e-5
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"bert"', '"roberta"'))
    shifted = embedded(engine, kit, folder) - expected
    assert np.abs(shifted - shifted[0, 0]).max() < 1e-5, "positions begin after the padding token's"
    assert shifted[0, 0] == pytest.approx(1, abs=1e-5)
    folder = table.write(more=[("task_id", "I64", sides)])
    with pytest.raises(Unsupported, match="task_id"):
        engine.load(folder, tasks=("embed",))


def test_a_text_that_cannot_be_computed_does_not_spoil_others(table: Table, engine: Any, kit: Any) -> None:
    """Its numbers are not finite, or onnxruntime refuses it: here a token that the table does not have."""
    from anyform_onnx.encoder import EncodeFailed

    path = table.folder / "config.json"
    vocabulary = len(table.rows) + 5
    write_json(path, {"architectures": ["BertModel"], "model_type": "bert", "vocab_size": vocabulary})
    model = engine.load(table.write(), threads=2)
    endless, absent = Embed(inputs=((1, BROKEN, 2),)), Embed(inputs=((1, vocabulary - 1, 2),))
    good = Embed(inputs=((1, 2, 3), (4, 5, 6)))
    answers = kit.together([lambda job=job: kit.ask(model, job) for job in (good, endless, good, absent) * 3])
    for place, answered in enumerate(answers):
        if place % 2 == 0:
            assert np.abs(answered.vectors - table.expected(((1, 2, 3), (4, 5, 6)))).max() < 1e-6
        else:
            assert isinstance(answered, EncodeFailed)
            assert ("not all numbers are finite" if place % 4 == 1 else "input 0") in str(answered)


def test_what_computes_no_numbers_is_not_loaded(table: Table, engine: Any) -> None:
    with pytest.raises(LoadFailed, match="not finite"):
        engine.load(table.write(broken=True))
