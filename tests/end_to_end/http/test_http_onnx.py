"""A server among broken ONNX models: each is refused in words, and the sound one beside them goes on as before."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from anyform.assembly import start
from anyform.contract.facts import Settings
from anyform.http.config import HttpConfig
from anyform.testing.damage import NUMBERS, scrambled
from anyform.testing.onnx import number
from anyform.testing.onnxbroken import BROKEN
from anyform.testing.onnxdecoder import write_decoder

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxruntime_genai")
pytest.importorskip("tokenizers")
pytest.importorskip("anyform_onnx")
pytestmark = pytest.mark.engine

SOUND = ("plain", "genai")
ROUTES = {"complete": "/v1/completions", "embed": "/v1/embeddings", "classify": "/v1/classify"}
SEEDS = range(8)


def slug(name: str) -> str:
    return name.replace(" ", "-").lower()


@pytest.fixture(scope="module")
def server(running: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """With the sound models loaded, each in a worker of its own."""
    root = tmp_path_factory.mktemp("models")
    for name, layout in zip(SOUND, ("onnx", "onnx_genai"), strict=True):
        write_decoder(root / name, layout=layout)
    for name, case in BROKEN.items():
        case.sound(root / slug(name))
        case.damage(root / slug(name))
    for seed in SEEDS:
        graph = write_decoder(root / f"scrambled-{seed}", layout=("onnx", "onnx_genai")[seed % 2]) / "model.onnx"
        pieces = [number(1, one) for one in NUMBERS]
        graph.write_bytes(scrambled(random.Random(seed), graph.read_bytes(), pieces))
    state = tmp_path_factory.mktemp("state")
    runtime = start(folders=[root], where="worker", state=state, defaults=Settings(context=64, parallel=2))
    served = running(runtime, HttpConfig())
    served.http.timeout = 120
    yield served
    served.close()
    runtime.close()


def ask(server: Any, model: str, task: str = "complete") -> httpx.Response:
    if not task:
        loaded: httpx.Response = server.http.post(f"/runtime/load/{model}")
        return loaded
    fields = {"prompt": "ab", "max_tokens": 6, "temperature": 0} if task == "complete" else {"input": "ab"}
    answered: httpx.Response = server.http.post(ROUTES[task], json={"model": model, **fields})
    return answered


def answers(server: Any) -> list[tuple[str, int]]:
    """What each sound model says, and the process that says it."""
    texts = []
    for model in SOUND:
        answer = ask(server, model)
        assert answer.status_code == 200, answer.text
        texts.append(answer.json()["choices"][0]["text"])
    said = {one["model"]: one["pid"] for one in server.http.get("/runtime/status").json()["models"]}
    return [(text, said[model]) for model, text in zip(SOUND, texts, strict=True)]


@pytest.fixture(scope="module")
def before(server: Any) -> list[tuple[str, int]]:
    return answers(server)


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_model_is_refused(server: Any, before: list[tuple[str, int]], name: str) -> None:
    case = BROKEN[name]
    answer = ask(server, slug(name), case.task)
    error = answer.json()["error"]
    expected = (400, "invalid_model") if case.code else (503, "load_failed")
    assert (answer.status_code, error["code"]) == expected, error
    assert all(word in error["message"] for word in case.said), error
    assert "Traceback" not in answer.text
    assert answers(server) == before


@pytest.mark.parametrize("seed", SEEDS)
def test_a_scrambled_graph(server: Any, before: list[tuple[str, int]], seed: int) -> None:
    """Whatever the engine makes of it: an answer or a refusal."""
    answer = ask(server, f"scrambled-{seed}")
    assert answer.status_code in (200, 400, 503), answer.text
    if answer.status_code != 200:
        assert answer.json()["error"]["message"]
    assert answers(server) == before
