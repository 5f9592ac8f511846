"""Pictures over HTTP, by graphs that onnxruntime runs in workers: labels, vectors, and what is no picture."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from anyform.assembly import start
from anyform.contract.facts import Settings
from anyform.http.config import HttpConfig
from anyform.testing import onnxpicture
from anyform.testing.picture import png

np = pytest.importorskip("numpy")
Image = pytest.importorskip("PIL.Image")
pytest.importorskip("onnxruntime")
pytest.importorskip("tokenizers")
pytest.importorskip("jinja2")
pytest.importorskip("llguidance")
pytest.importorskip("anyform_onnx")
pytestmark = pytest.mark.engine

CLIENTS = 4
PICTURES = [base64.b64encode(png(24 + seed, 30, seed)).decode() for seed in range(CLIENTS)]
LABELS = ["a photo", "red dog", "cat"]


@pytest.fixture(scope="module")
def http(running: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    root: Path = tmp_path_factory.mktemp("models")
    for name, write in (("labels", onnxpicture.write_classifier), ("both", onnxpicture.write_dual)):
        (root / name).mkdir()
        write(root / name)
    state = tmp_path_factory.mktemp("state")
    runtime = start(folders=[root], where="worker", state=state, defaults=Settings(parallel=CLIENTS))
    server = running(runtime, HttpConfig())
    server.http.timeout = 120
    yield server.http
    server.close()
    runtime.close()


def posted(http: Any, path: str, **body: Any) -> Any:
    found = http.post(path, json=body)
    assert found.status_code == 200, found.text
    return found.json()


def test_four_clients_get_labels_of_their_own_pictures(http: Any) -> None:
    alone = [
        (
            posted(http, "/v1/vision/classify", model="labels", image=one)["data"],
            posted(http, "/v1/vision/clip", model="both", image=one, labels=LABELS)["data"],
            posted(http, "/v1/embeddings", model="both", input=[{"image": one}, "red cat"])["data"],
        )
        for one in PICTURES
    ]
    assert len({str(one) for one, _, _ in alone}) == CLIENTS
    assert {score["label"] for score in alone[0][0][0]["scores"]} == set(onnxpicture.LABELS)

    def client(number: int) -> None:
        known, ranked, embedded = alone[number]
        for _ in range(5):
            found = posted(http, "/v1/vision/classify", model="labels", image=PICTURES[number])["data"]
            assert [one["label"] for one in found[0]["scores"]] == [one["label"] for one in known[0]["scores"]]
            found = posted(http, "/v1/vision/clip", model="both", image=PICTURES[number], labels=LABELS)["data"]
            scores = [(one["label"], one["score"]) for one in found[0]["scores"]]
            expected = [(one["label"], one["score"]) for one in ranked[0]["scores"]]
            assert [one for one, _ in scores] == [one for one, _ in expected]
            assert [one for _, one in scores] == pytest.approx([one for _, one in expected], abs=1e-5)
            found = posted(http, "/v1/embeddings", model="both", input=[{"image": PICTURES[number]}, "red cat"])["data"]
            for one, other in zip(found, embedded, strict=True):
                assert np.allclose(one["embedding"], other["embedding"], atol=1e-5)

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(client, range(CLIENTS)))


def test_what_is_no_picture_is_the_clients_fault_and_the_model_lives(http: Any) -> None:
    strip, bomb = io.BytesIO(), io.BytesIO()
    Image.new("L", (1, 100_000)).save(strip, "PNG")
    Image.new("1", (20_000, 20_000)).save(bomb, "PNG")
    whole = base64.b64decode(PICTURES[0])
    for data in (b"", b"no picture", whole[: len(whole) // 2], strip.getvalue(), bomb.getvalue()):
        given = base64.b64encode(data).decode()
        for path, model, more in (
            ("/v1/vision/classify", "labels", {}),
            ("/v1/vision/clip", "both", {"labels": LABELS}),
        ):
            refused = http.post(path, json={"model": model, "image": given, **more})
            assert 400 <= refused.status_code < 500, refused.text
            assert refused.json()["error"]["type"] == "invalid_request_error"
    assert posted(http, "/v1/vision/classify", model="labels", image=PICTURES[0])["data"]
    assert posted(http, "/v1/vision/clip", model="both", image=PICTURES[0], labels=LABELS)["data"]
