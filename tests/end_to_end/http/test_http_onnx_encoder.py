"""The openai package against encoders that onnxruntime runs, in this process and in workers; no torch."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, Literal

import httpx
import openai
import pytest
from openai import OpenAI

from anyform.assembly import start
from anyform.contract.facts import Settings
from anyform.http.config import HttpConfig
from anyform.testing.onnxencoder import write_encoder

np = pytest.importorskip("numpy")
onnxruntime = pytest.importorskip("onnxruntime")
tokenizers = pytest.importorskip("tokenizers")
pytest.importorskip("anyform_onnx")
pytestmark = pytest.mark.engine

TEXTS = (
    "anyform list shows the models that are known",
    "the server answers on loopback only",
    "2 + 3 = 5",
    "A worker that dies while it loads is started again with the reduced settings that the plugin names.",
)
QUERY = "text 3 and 7"
DOCUMENTS = ["text 1", "text 12 and 7", "9", "text 3"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    layout = pytest.importorskip("anyform_samples.embedding.layout", exc_type=ImportError)
    root = tmp_path_factory.mktemp("models")
    write_encoder(root / "encoder", Path(layout.DATA), entry="onnx/model.onnx")
    write_encoder(root / "ranker", labels=["LABEL_0"])
    write_encoder(root / "moods", labels=["joy", "anger", "fear"])
    return root


@pytest.fixture(scope="module", params=["worker", "here"])
def served(
    request: pytest.FixtureRequest, folder: Path, running: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    where: Literal["worker", "here"] = request.param
    state = tmp_path_factory.mktemp("state")
    runtime = start(folders=[folder], where=where, state=state, defaults=Settings(parallel=32))
    server = running(runtime, HttpConfig())
    server.http.timeout = 120
    server.openai = server.openai.with_options(timeout=120)
    yield server
    server.close()
    runtime.close()


@pytest.fixture
def ai(served: Any) -> OpenAI:
    client: OpenAI = served.openai
    return client


@pytest.fixture
def http(served: Any) -> httpx.Client:
    client: httpx.Client = served.http
    return client


@pytest.fixture(scope="module")
def by_hand(folder: Path) -> Any:
    """What a graph makes of one text, or of a pair."""

    @cache
    def opened(name: str, entry: str) -> Any:
        return onnxruntime.InferenceSession(folder / name / entry, providers=["CPUExecutionProvider"])

    def outputs(name: str, entry: str, *texts: str) -> Any:
        session = opened(name, entry)
        made = tokenizers.Tokenizer.from_file(str(folder / name / "tokenizer.json")).encode(*texts)
        given = {"input_ids": made.ids, "attention_mask": made.attention_mask, "token_type_ids": made.type_ids}
        return session.run(None, {name: np.array([value]) for name, value in given.items()})[0][0]

    return outputs


@pytest.fixture(scope="module")
def expected(by_hand: Any) -> Any:
    """Unit vectors."""

    def vectors(texts: Any) -> Any:
        rows = np.stack([by_hand("encoder", "onnx/model.onnx", text).mean(0) for text in texts])
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    return vectors


def rows(answer: Any) -> Any:
    assert [item.index for item in answer.data] == list(range(len(answer.data)))
    return np.array([item.embedding for item in answer.data], np.float32)


def test_vectors_are_those_of_the_graph_as_base64_and_as_floats(ai: OpenAI, http: httpx.Client, expected: Any) -> None:
    plain = ai.embeddings.create(model="encoder", input=list(TEXTS))  # the package asks for base64 by itself
    floats = ai.embeddings.create(model="encoder", input=list(TEXTS), encoding_format="float")
    assert np.abs(rows(plain) - expected(TEXTS)).max() < 1e-5
    assert np.abs(rows(floats) - rows(plain)).max() < 1e-6
    assert plain.usage.prompt_tokens == floats.usage.total_tokens > len(TEXTS)
    body = {"model": "encoder", "input": TEXTS[0], "encoding_format": "base64"}
    [item] = http.post("/v1/embeddings", json=body).json()["data"]
    assert np.frombuffer(base64.b64decode(item["embedding"]), "<f4").shape == (256,)


def test_eight_clients_get_what_each_gets_alone(ai: OpenAI, expected: Any) -> None:
    texts = [f"{TEXTS[place % 4]} {place}" for place in range(32)]
    with ThreadPoolExecutor(8) as clients:
        found = list(clients.map(lambda text: rows(ai.embeddings.create(model="encoder", input=text))[0], texts))
    assert np.abs(np.stack(found) - expected(texts)).max() < 1e-5


def test_a_text_over_the_limit_is_refused_with_both_numbers_unless_it_may_be_cut(ai: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ai.embeddings.create(model="encoder", input=["a", "once " * 600])
    assert caught.value.code == "context_length_exceeded"
    assert "602" in str(caught.value)
    cut = ai.embeddings.create(model="encoder", input="once " * 600, extra_body={"truncate": True})
    assert cut.usage.prompt_tokens == 512


def test_documents_are_ranked(http: httpx.Client, by_hand: Any) -> None:
    body = {"model": "ranker", "query": QUERY, "documents": DOCUMENTS, "top_n": 3, "return_documents": True}
    logits = [float(by_hand("ranker", "model.onnx", QUERY, document)[0]) for document in DOCUMENTS]
    order = sorted(range(4), key=lambda place: -logits[place])[:3]
    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda _: http.post("/v1/rerank", json=body).json(), range(8)))
    for answer in answers:
        assert [result["index"] for result in answer["results"]] == order
        for result in answer["results"]:
            assert result["relevance_score"] == pytest.approx(1 / (1 + np.exp(-logits[result["index"]])), abs=1e-5)
            assert result["document"] == {"text": DOCUMENTS[result["index"]]}


def test_texts_are_classified(http: httpx.Client, by_hand: Any) -> None:
    answer = http.post("/v1/classify", json={"model": "moods", "input": DOCUMENTS, "top_k": 2}).json()
    for result, text in zip(answer["data"], DOCUMENTS, strict=True):
        shares = np.exp(by_hand("moods", "model.onnx", text))
        best = np.sort(shares / shares.sum())[::-1][:2]
        assert [one["score"] for one in result["scores"]] == pytest.approx(best.tolist(), abs=1e-5)
    refused = http.post("/v1/classify", json={"model": "moods", "input": "text " * 100})
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "context_length_exceeded"
