"""The openai package against encoders that transformers runs, in this process and in workers."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import httpx
import openai
import pytest
from openai import OpenAI

from anyform.assembly import start
from anyform.contract.facts import Settings
from anyform.http.config import HttpConfig

np = pytest.importorskip("numpy")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("anyform_hf_transformers")
pytestmark = pytest.mark.engine

TEXTS = (
    "anyform list shows the models that are known",
    "the server answers on loopback only",
    "2 + 3 = 5",
    "A worker that dies while it loads is started again with the reduced settings that the plugin names.",
)
NLI = {0: "contradiction", 1: "neutral", 2: "entailment"}
MOODS = {0: "joy", 1: "anger", 2: "fear"}


def classifier(folder: Path, tokenizer_of: Path, named: dict[int, str]) -> None:
    """A small random one, with two outputs or more, or one that ranks."""
    torch.manual_seed(len(named))
    config = transformers.BertConfig(
        vocab_size=4376, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
        max_position_embeddings=64, initializer_range=0.4, id2label=named,
        label2id={label: place for place, label in named.items()},
    )  # fmt: skip
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        shutil.copy(tokenizer_of / name, folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    layout = pytest.importorskip("anyform_samples.embedding.layout", exc_type=ImportError)
    root = tmp_path_factory.mktemp("models")
    shutil.copytree(layout.DATA, root / "encoder", ignore=shutil.ignore_patterns("*.gguf"))
    classifier(root / "ranker", root / "encoder", {0: "LABEL_0"})
    classifier(root / "moods", root / "encoder", MOODS)
    classifier(root / "nli", root / "encoder", NLI)
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
def reference(folder: Path) -> Any:
    """Unit vectors by transformers itself: the mean of a text's tokens."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "encoder")
    plain = transformers.AutoModel.from_pretrained(folder / "encoder", dtype=torch.float32).eval()

    def vectors(texts: Any) -> Any:
        with torch.no_grad():
            rows = [plain(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0) for text in texts]
            return torch.nn.functional.normalize(torch.stack(rows), dim=1).numpy()

    return vectors


def rows(answer: Any) -> Any:
    assert [item.index for item in answer.data] == list(range(len(answer.data)))
    return np.array([item.embedding for item in answer.data], np.float32)


def test_vectors_are_transformers_own_as_base64_and_as_floats(ai: OpenAI, http: httpx.Client, reference: Any) -> None:
    expected = reference(TEXTS)
    plain = ai.embeddings.create(model="encoder", input=list(TEXTS))  # the package asks for base64 by itself
    floats = ai.embeddings.create(model="encoder", input=list(TEXTS), encoding_format="float")
    assert np.abs(rows(plain) - expected).max() < 1e-5
    assert np.abs(rows(floats) - rows(plain)).max() < 1e-6
    assert plain.usage.prompt_tokens == floats.usage.total_tokens > len(TEXTS)
    body = {"model": "encoder", "input": TEXTS[0], "encoding_format": "base64"}
    [item] = http.post("/v1/embeddings", json=body).json()["data"]
    assert np.frombuffer(base64.b64decode(item["embedding"]), "<f4").shape == (256,)


def test_dimensions_and_tokens_as_input(ai: OpenAI, folder: Path) -> None:
    whole = rows(ai.embeddings.create(model="encoder", input=list(TEXTS)))
    short = rows(ai.embeddings.create(model="encoder", input=list(TEXTS), dimensions=32))
    assert np.abs(short - whole[:, :32] / np.linalg.norm(whole[:, :32], axis=1, keepdims=True)).max() < 1e-5
    with pytest.raises(openai.BadRequestError, match="257"):
        ai.embeddings.create(model="encoder", input="a", dimensions=257)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "encoder")
    tokens = [tokenizer(text).input_ids for text in TEXTS]
    counted = ai.embeddings.create(model="encoder", input=tokens)
    assert np.abs(rows(counted) - whole).max() < 1e-6
    assert counted.usage.prompt_tokens == sum(map(len, tokens))
    assert np.abs(rows(ai.embeddings.create(model="encoder", input=tokens[2])) - whole[2]).max() < 1e-6
    with pytest.raises(openai.BadRequestError, match="99999"):
        ai.embeddings.create(model="encoder", input=[99999])


def test_two_hundred_and_fifty_six_texts_in_one_request(ai: OpenAI, reference: Any) -> None:
    texts = [f"{TEXTS[place % 4]} {place} {'more ' * (place % 17)}" for place in range(256)]
    found = rows(ai.embeddings.create(model="encoder", input=texts))
    some = [0, 1, 100, 255]
    assert np.abs(found[some] - reference([texts[place] for place in some])).max() < 1e-5
    assert len({tuple(row) for row in found.tolist()}) == 256


def test_thirty_two_clients_get_what_each_gets_alone(ai: OpenAI, reference: Any) -> None:
    texts = [f"{TEXTS[place % 4]} {place}" for place in range(96)]
    with ThreadPoolExecutor(32) as clients:
        found = list(clients.map(lambda text: rows(ai.embeddings.create(model="encoder", input=text))[0], texts))
    assert np.abs(np.stack(found) - reference(texts)).max() < 1e-5


def test_a_text_over_the_limit_is_refused_with_both_numbers_unless_it_may_be_cut(ai: OpenAI) -> None:
    long = "once " * 600
    with pytest.raises(openai.BadRequestError) as caught:
        ai.embeddings.create(model="encoder", input=["a", long])
    error: Any = caught.value.body
    assert caught.value.code == "context_length_exceeded"
    assert error["param"] == "input"
    assert "602" in error["message"]
    assert "512" in error["message"]
    cut = ai.embeddings.create(model="encoder", input=long, extra_body={"truncate": True})
    assert cut.usage.prompt_tokens == 512
    exact = ai.embeddings.create(model="encoder", input="once " * 510)
    assert np.abs(rows(cut) - rows(exact)).max() < 1e-6


def test_documents_are_ranked(http: httpx.Client, folder: Path) -> None:
    query = "Which models are there?"
    body = {"model": "ranker", "query": query, "documents": list(TEXTS), "top_n": 3, "return_documents": True}
    answer = http.post("/v1/rerank", json=body).json()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "ranker")
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(folder / "ranker", dtype=torch.float32)
    with torch.no_grad():
        expected = [float(plain(**tokenizer(query, text, return_tensors="pt")).logits.sigmoid()) for text in TEXTS]
    order = sorted(range(4), key=lambda place: -expected[place])[:3]
    assert [result["index"] for result in answer["results"]] == order
    for result in answer["results"]:
        assert result["relevance_score"] == pytest.approx(expected[result["index"]], abs=1e-5)
        assert result["document"] == {"text": TEXTS[result["index"]]}
    assert answer["usage"]["prompt_tokens"] == sum(len(tokenizer(query, text).input_ids) for text in TEXTS)
    refused = http.post("/v1/rerank", json=body | {"documents": ["once " * 100]})
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "context_length_exceeded"


def test_texts_are_classified(http: httpx.Client, folder: Path) -> None:
    answer = http.post("/v1/classify", json={"model": "moods", "input": list(TEXTS), "top_k": 2}).json()
    pipeline = transformers.pipeline("text-classification", model=str(folder / "moods"), device="cpu")
    for result, expected in zip(answer["data"], pipeline(list(TEXTS), top_k=2), strict=True):
        assert [one["label"] for one in result["scores"]] == [one["label"] for one in expected]
        assert [one["score"] for one in result["scores"]] == pytest.approx([e["score"] for e in expected], abs=1e-5)
    assert answer["usage"]["prompt_tokens"] > len(TEXTS)
    labels = ["models", "networks", "numbers"]
    answer = http.post("/v1/classify", json={"model": "nli", "input": list(TEXTS), "labels": labels}).json()
    pipeline = transformers.pipeline("zero-shot-classification", model=str(folder / "nli"), device="cpu")
    for result, expected in zip(answer["data"], pipeline(list(TEXTS), candidate_labels=labels), strict=True):
        assert [one["label"] for one in result["scores"]] == expected["labels"]
        assert [one["score"] for one in result["scores"]] == pytest.approx(expected["scores"], abs=1e-5)
    refused = http.post("/v1/classify", json={"model": "nli", "input": "once " * 100, "labels": labels})
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "context_length_exceeded"
