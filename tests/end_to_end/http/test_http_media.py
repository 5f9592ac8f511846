"""Classification, captions, answers about pictures, pictures in embeddings and conversations, over a real server."""

from __future__ import annotations

import json
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import OpenAI
from prometheus_client.parser import text_string_to_metric_families

from anyform.assembly import start
from anyform.builtin.echo_engine import LABELS
from anyform.contract.events import Done, Event, Finish, Text, Usage
from anyform.contract.jobs import Caption, Job
from anyform.contract.model import Stop
from anyform.http import fault
from anyform.http.config import HttpConfig
from anyform.http.fetch import Fetcher
from anyform.http.web import Web
from anyform.testing.echo import write_echo

DATA = b"\x89PNG\r\n\x1a\n a cat on a mat"
TEXT = b64encode(DATA).decode()
URL = f"data:image/png;base64,{TEXT}"
SEEN = f"image/png of {len(DATA)} bytes"
SEER = ["chat", "embed", "classify", "zero_shot", "caption", "answer"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Echo models that see, that only sort, that have little room, and that only talk."""
    root = tmp_path_factory.mktemp("models")
    write_echo(root / "seer.echo.json", tasks=SEER, features=["vision"])
    write_echo(root / "sorter.echo.json", tasks=["classify"])
    write_echo(root / "small.echo.json", tasks=SEER, context=4)
    write_echo(root / "slow.echo.json", tasks=SEER, options={"delay_s": 0.01})
    write_echo(root / "talker.echo.json", tasks=["chat"])
    return root


def error(response: httpx.Response, status: int) -> dict[str, Any]:
    """The error of a response that is of OpenAI's form and has *status*."""
    assert response.status_code == status, response.text
    found: dict[str, Any] = response.json()["error"]
    assert set(found) == {"message", "type", "param", "code", *fault.MORE}
    return found


def posted(http: httpx.Client, path: str, **body: Any) -> dict[str, Any]:
    response = http.post(path, json={"model": "seer", **body})
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def sent(http: httpx.Client, path: str, files: list[Any], **fields: Any) -> httpx.Response:
    return http.post(path, data={"model": "seer", **fields}, files=files)


def events(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.headers["content-type"].startswith("text/event-stream")
    *parts, done, rest = response.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(part.removeprefix("data: ")) for part in parts]


def test_texts_are_classified(http: httpx.Client) -> None:
    found = posted(http, "/v1/classify", model="sorter", input=["one two", "three"], top_k=3)
    assert [item["index"] for item in found["data"]] == [0, 1]
    for item in found["data"]:
        scores = [one["score"] for one in item["scores"]]
        assert (len(scores), scores) == (3, sorted(scores, reverse=True))
        assert {one["label"] for one in item["scores"]} <= set(LABELS)
        assert (item["label"], item["score"]) == tuple(item["scores"][0].values())
    assert found["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    again = posted(http, "/v1/classify", model="sorter", input="three", top_k=3)
    assert again["data"][0]["scores"] == found["data"][1]["scores"]
    assert len(posted(http, "/v1/classify", model="sorter", input="three")["data"][0]["scores"]) == 5


def test_texts_and_pictures_are_classified_by_labels_of_the_request(http: httpx.Client) -> None:
    body = {"labels": ["dog", "cat"], "input": ["my cat", {"image": TEXT}, "a dog and a cat"]}
    first, second, third = posted(http, "/v1/classify", **body)["data"]
    assert [item["label"] for item in (first, second)] == ["cat", "cat"]
    assert sum(one["score"] for one in first["scores"]) == pytest.approx(1)
    assert [one["score"] for one in third["scores"]] == [0.5, 0.5]


@pytest.mark.parametrize("images", [[TEXT], [URL], URL, [{"url": URL}], [TEXT, URL]])
def test_pictures_are_classified(http: httpx.Client, images: Any) -> None:
    known = posted(http, "/v1/vision/classify", images=images, top_k=2)
    labelled = posted(http, "/v1/vision/clip", images=images, candidate_labels=["dog", "cat"])
    count = len(images) if isinstance(images, list) else 1
    assert [len(item["scores"]) for item in known["data"]] == [2] * count
    assert [item["label"] for item in labelled["data"]] == ["cat"] * count


def test_pictures_come_as_files_of_a_form(http: httpx.Client) -> None:
    file = ("a.png", DATA, "image/png")
    found = sent(
        http, "/v1/vision/clip", [("images", file), ("images", file)], **{"labels[]": ["dog", "cat"], "top_k": 1}
    )
    assert found.json() == posted(http, "/v1/vision/clip", images=[TEXT, TEXT], labels=["dog", "cat"], top_k=1)
    found = sent(http, "/v1/vision/classify", [("image", file)], top_k="2")
    assert found.json() == posted(http, "/v1/vision/classify", image=TEXT, top_k=2)
    found = sent(http, "/v1/classify", [("input", file)], labels=["dog", "cat"])
    assert found.json() == posted(http, "/v1/classify", input={"image": TEXT}, labels=["dog", "cat"])
    found = sent(http, "/v1/embeddings", [("input[]", file)])
    assert found.json() == posted(http, "/v1/embeddings", input=[{"image": TEXT}])
    found = sent(http, "/v1/multimodal/vqa", [("image", file)], question="what?", max_tokens="2")
    assert found.json()["choices"][0] == {"index": 0, "text": "what? image/png", "finish_reason": "length"}
    found = sent(http, "/v1/multimodal/caption", [("image", file)], stream="true")
    assert "".join(one["choices"][0]["text"] for one in events(found)) == SEEN


def test_a_form_without_files_is_read_everywhere(http: httpx.Client) -> None:
    fields = {name: (None, value) for name, value in {"model": "talker", "messages": "x"}.items()}
    refused = error(http.post("/v1/chat/completions", files=fields), 400)
    assert (refused["param"], "expected an object, but got a string" in refused["message"]) == ("messages[0]", True)
    fields = {name: (None, value) for name, value in {"model": "seer", "input": "a b"}.items()}
    assert http.post("/v1/embeddings", files=fields).json() == posted(http, "/v1/embeddings", input="a b")


def test_a_caption(http: httpx.Client) -> None:
    found = posted(http, "/v1/multimodal/caption", image=URL)
    assert (found["object"], found["model"]) == ("caption", "seer")
    assert found["choices"] == [{"index": 0, "text": SEEN, "finish_reason": "stop"}]
    assert (found["usage"]["prompt_tokens"], found["usage"]["completion_tokens"]) == (4, 4)
    cut = posted(http, "/v1/multimodal/caption", image=URL, max_length=2)["choices"][0]
    assert cut == {"index": 0, "text": "image/png of", "finish_reason": "length"}


def test_a_large_picture(http: httpx.Client) -> None:
    data = bytes(range(256)) * 12_000
    found = posted(http, "/v1/multimodal/caption", image=b64encode(data).decode())
    assert found["choices"][0]["text"] == f"picture of {len(data)} bytes"
    found = sent(http, "/v1/multimodal/caption", [("image", ("a.jpg", data, "image/jpeg"))]).json()
    assert found["choices"][0]["text"] == f"image/jpeg of {len(data)} bytes"


def test_an_answer_whole_and_streamed(http: httpx.Client) -> None:
    body = {"model": "slow", "image": URL, "question": "what is this?"}
    whole = posted(http, "/v1/multimodal/vqa", **body)["choices"][0]
    assert whole == {"index": 0, "text": f"what is this? {SEEN}", "finish_reason": "stop"}
    streamed = {**body, "stream": True, "stream_options": {"include_usage": True}}
    *pieces, last = events(http.post("/v1/multimodal/vqa", json=streamed))
    assert len(pieces) > 3
    assert {one["object"] for one in pieces} == {"answer.chunk"}
    assert "".join(one["choices"][0]["text"] for one in pieces) == whole["text"]
    assert [one["choices"][0]["finish_reason"] for one in pieces] == [None] * (len(pieces) - 1) + ["stop"]
    assert (last["choices"], last["usage"]["completion_tokens"]) == ([], len(pieces) - 1)


def test_pictures_are_embedded_through_the_client(client: OpenAI) -> None:
    inputs: Any = [{"image": TEXT}, "a b", {"type": "image_url", "image_url": {"url": URL}}, {"text": "a b"}]
    first, text, second, same = client.embeddings.create(model="seer", input=inputs).data
    assert first.embedding == second.embedding != text.embedding == same.embedding


@pytest.mark.parametrize("stream", [False, True])
def test_a_conversation_with_a_picture(client: OpenAI, stream: bool) -> None:
    content: Any = [{"type": "text", "text": "look:"}, {"type": "image_url", "image_url": {"url": URL}}]
    asked: Any = {"model": "seer", "messages": [{"role": "user", "content": content}]}
    if stream:
        said = "".join(
            chunk.choices[0].delta.content or "" for chunk in client.chat.completions.create(**asked, stream=True)
        )
    else:
        said = client.chat.completions.create(**asked).choices[0].message.content or ""
    assert said == f"look: [{SEEN}] "


def test_many_at_once_answer_as_each_alone(http: httpx.Client) -> None:
    def ask(at: int) -> Any:
        with httpx.Client(base_url=http.base_url, timeout=20) as own:
            caption = posted(own, "/v1/multimodal/vqa", image=URL, question=f"number {at}?")["choices"]
            return caption, posted(own, "/v1/classify", input=f"word {at}", labels=["word", str(at)])["data"]

    alone = [ask(at) for at in range(16)]
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(ask, range(16))) == alone


ROUTES: dict[str, dict[str, Any]] = {
    "/v1/classify": {"input": "a"},
    "/v1/vision/classify": {"images": [TEXT]},
    "/v1/vision/clip": {"images": [TEXT], "labels": ["a", "b"]},
    "/v1/multimodal/caption": {"image": TEXT},
    "/v1/multimodal/vqa": {"image": TEXT, "question": "what?"},
    "/v1/embeddings": {"input": {"image": TEXT}},
}


@pytest.mark.parametrize(
    ("path", "task"),
    list(zip(ROUTES, ["classify", "classify", "zero_shot", "caption", "answer", "embed"], strict=True)),
)
def test_a_model_that_does_something_else_names_those_that_do(http: httpx.Client, path: str, task: str) -> None:
    refused = error(http.post(path, json={"model": "talker", **ROUTES[path]}), 400)
    able = "seer, slow, small, sorter" if task == "classify" else "seer, slow, small"
    assert refused["message"] == f"talker does chat, not {task}. Models here that do: {able}."
    assert refused["code"] == "unsupported"


def test_what_no_model_does(http: httpx.Client) -> None:
    refused = error(http.post("/v1/rerank", json={"model": "seer", "query": "a", "documents": ["b"]}), 400)
    assert refused["message"].endswith("not rerank. No model here does rerank.")
    assert any("anyform show" in one for one in refused["suggestions"])


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/classify", {"input": "one two three four five"}, "input"),
        ("/v1/vision/clip", {"images": [TEXT], "labels": ["a b c", "d e"]}, "labels"),
        ("/v1/multimodal/caption", {"image": URL}, "image"),
        ("/v1/multimodal/vqa", {"image": URL, "question": "what is this?"}, "question"),
        ("/v1/multimodal/vqa", {"image": URL, "question": "what is this?", "stream": True}, "question"),
        ("/v1/embeddings", {"input": [{"image": b64encode(bytes(9000)).decode()}]}, "input"),
    ],
)
def test_more_than_the_context_is_refused(http: httpx.Client, path: str, body: dict[str, Any], param: str) -> None:
    refused = error(http.post(path, json={"model": "small", **body}), 400)
    assert (refused["code"], refused["param"]) == ("context_length_exceeded", param)


@pytest.mark.parametrize("path", ROUTES)
def test_bodies_that_are_nothing(http: httpx.Client, path: str) -> None:
    for body in (b"", b"{", b"[]", b'{"model":"seer","input":NaN}', b'{"a":' * 100_000, b'{"model":"\\ud800"}'):
        assert error(http.post(path, content=body), 400)["type"] == "invalid_request_error"
    for kind in ("image/png", "application/octet-stream", "multipart/mixed; boundary=B", "nonsense"):
        assert error(http.post(path, content=DATA, headers={"content-type": kind}), 400)["code"] == "invalid_json"
    for kind in ("multipart/form-data", "multipart/form-data; boundary=B"):
        assert error(http.post(path, content=DATA, headers={"content-type": kind}), 400)["code"] == "invalid_form"
    assert error(http.post(path, json={}), 400)["param"] == "model"
    assert error(http.post(path, json={"model": "nobody", **ROUTES[path]}), 404)["code"] == "model_not_found"
    assert error(http.get(path), 405)["code"] == "method_not_supported"


@pytest.mark.parametrize("path", ROUTES)
def test_bodies_and_pictures_that_are_too_large(serve: Callable[..., Any], path: str) -> None:
    runtime = start()
    try:
        running = serve(runtime, body_bytes=10_000, media_bytes=1000)
        large = b64encode(bytes(1001)).decode()
        body = json.loads(json.dumps({"model": "m", **ROUTES[path]}).replace(TEXT, large))
        if path != "/v1/classify":
            refused = error(running.http.post(path, json=body), 413)
            assert (refused["code"], refused["param"]) == ("too_large", error_param(path))
        file = ("a.png", bytes(20_000), "image/png")
        assert error(sent(running.http, path, [("image", file)]), 413)["code"] == "too_large"
        assert error(running.http.post(path, json={**body, "more": "x" * 10_000}), 413)["code"] == "too_large"
    finally:
        runtime.close()


def error_param(path: str) -> str:
    return {"/v1/embeddings": "input.image"}.get(path, "images[0]" if "vision" in path else "image")


def test_the_routes_are_counted(http: httpx.Client) -> None:
    def counted() -> dict[Any, float]:
        families = text_string_to_metric_families(http.get("/metrics").text)
        return {
            (sample.labels["route"], sample.labels["outcome"]): sample.value
            for family in families
            for sample in family.samples
            if sample.name == "anyform_requests_total" and sample.labels["model"] in ("slow", "")
        }

    before = counted()
    for path, body in ROUTES.items():
        assert http.post(path, json={"model": "slow", **body}).status_code == 200
        assert http.post(path, json={"model": "slow"}).status_code == 400
    after = counted()
    for path in ROUTES:
        for outcome in ("ok", "missing_required_parameter"):
            assert after[path, outcome] == before.get((path, outcome), 0) + 1
    assert 'anyform_tokens_total{backend="echo",kind="completion",model="slow"}' in http.get("/metrics").text


class Pictures(BaseHTTPRequestHandler):
    """Answers with a picture; under /slow once it is let."""

    let = threading.Event()
    waits = threading.Event()

    def do_GET(self) -> None:
        if self.path == "/slow":
            self.waits.set()
            self.let.wait(20)
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("location", "http://inside.test/")
            self.end_headers()
            return
        self.send_response(404 if self.path == "/absent" else 200)
        self.send_header("content-type", "image/png")
        with suppress(BrokenPipeError, ConnectionResetError):  # the server stopped meanwhile
            self.end_headers()
            self.wfile.write(DATA)

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """Where pictures are, in the web of `fetching`."""
    Pictures.let.clear()
    Pictures.waits.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Pictures) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://pictures.test:{server.server_port}"
        Pictures.let.set()
        server.shutdown()


async def _resolve(host: str, port: int) -> list[str]:
    return ["127.0.0.1"] if host == "pictures.test" else ["10.0.0.1"]


@pytest.fixture
def fetching(server: Any, elsewhere: str) -> Iterator[httpx.Client]:
    """A server that may fetch from there, as if it were a public place."""
    service = server.service
    hosts = (elsewhere.removeprefix("http://"), "inside.test")
    web = Web(hosts, 20, _resolve, lambda address: address == "127.0.0.1")
    before, service.fetcher = service.fetcher, Fetcher(service.config, service.threads, web)
    yield server.http
    service.fetcher = before


def test_a_picture_is_fetched_for_every_route_that_takes_one(
    fetching: httpx.Client, client: OpenAI, elsewhere: str
) -> None:
    url = f"{elsewhere}/a.png"
    for path, body in ROUTES.items():
        there = json.loads(json.dumps({"model": "seer", **body}).replace(TEXT, url))
        assert fetching.post(path, json=there).json().get("data") == posted(fetching, path, **body).get("data")
    content: Any = [{"type": "image_url", "image_url": {"url": url}}]
    said = client.chat.completions.create(model="seer", messages=[{"role": "user", "content": content}])
    assert said.choices[0].message.content == f" [{SEEN}] "


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/absent", "the server answered 404"),
        ("/moved", "'inside.test' has no public address"),
    ],
)
def test_a_picture_that_cannot_be_fetched(fetching: httpx.Client, elsewhere: str, path: str, words: str) -> None:
    body = {"model": "seer", "images": [TEXT, elsewhere + path]}
    refused = error(fetching.post("/v1/vision/classify", json=body), 400)
    assert words in refused["message"]
    assert refused["param"] == "images[1]"


def test_nothing_is_fetched_for_a_request_that_is_wrong(fetching: httpx.Client, elsewhere: str) -> None:
    body = {"model": "seer", "image": f"{elsewhere}/slow", "question": 3}
    assert error(fetching.post("/v1/multimodal/vqa", json=body), 400)["param"] == "question"
    assert not Pictures.waits.is_set()


def test_the_server_goes_on_while_a_picture_is_awaited(fetching: httpx.Client, elsewhere: str) -> None:
    with ThreadPoolExecutor(1) as pool, httpx.Client(base_url=fetching.base_url, timeout=20) as other:
        body = {"model": "seer", "image": f"{elsewhere}/slow"}
        asked = pool.submit(other.post, "/v1/multimodal/caption", json=body)
        assert Pictures.waits.wait(10)
        assert fetching.get("/health").status_code == 200
        assert posted(fetching, "/v1/classify", input="a")["data"]
        assert not asked.done()
        Pictures.let.set()
        assert asked.result().status_code == 200


def test_a_server_stops_while_a_picture_is_awaited(folder: Path, running: Callable[..., Any], elsewhere: str) -> None:
    runtime = start(folders=[folder], where="here")
    server = running(runtime, HttpConfig(grace_s=0))
    web = Web((elsewhere.removeprefix("http://"),), 600, _resolve, lambda address: address == "127.0.0.1")
    server.service.fetcher = Fetcher(server.service.config, server.service.threads, web)
    body = {"model": "seer", "image": f"{elsewhere}/slow"}
    with ThreadPoolExecutor(1) as pool, httpx.Client(base_url=server.url, timeout=20) as own:
        asked = pool.submit(own.post, "/v1/multimodal/caption", json=body)
        assert Pictures.waits.wait(10)
        server.close()
        assert error(asked.result(), 503)["code"] == "closed"
    runtime.close()


def test_a_server_that_may_fetch_still_goes_to_no_private_address(serve: Callable[..., Any], folder: Path) -> None:
    runtime = start(folders=[folder], where="here")
    try:
        running = serve(runtime, fetch=True)
        hosts = "127.0.0.1 localhost [::1] 169.254.169.254 10.0.0.1 2130706433 [::ffff:127.0.0.1] 0.0.0.0"
        for url in (f"http://{host}/latest/meta-data" for host in hosts.split()):
            body = {"model": "seer", "image": url}
            refused = error(running.http.post("/v1/multimodal/caption", json=body), 400)
            assert refused["param"] == "image"
            assert "no public address" in refused["message"] or refused["code"] == "invalid_image_url"
        own = {"model": "seer", "image": f"{running.url}/health"}
        assert "nothing is fetched from" in error(running.http.post("/v1/multimodal/caption", json=own), 400)["message"]
    finally:
        runtime.close()


def test_files_of_a_folder_that_is_allowed(serve: Callable[..., Any], folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(DATA)
    (tmp_path.parent / "secret.png").write_bytes(DATA)
    (tmp_path / "link").symlink_to(tmp_path.parent / "secret.png")
    runtime = start(folders=[folder], where="here")
    try:
        http = serve(runtime, media_folders=(tmp_path,)).http
        for name in (f"{tmp_path}/a.png", (tmp_path / "a.png").as_uri()):
            assert posted(http, "/v1/vision/clip", image=name, labels=["dog", "cat"])["data"][0]["label"] == "cat"
        for name in (f"{tmp_path}/link", f"{tmp_path}/../secret.png", "/etc/passwd", "file:///etc/passwd"):
            assert (
                error(http.post("/v1/multimodal/caption", json={"model": "seer", "image": name}), 400)["param"]
                == "image"
            )
    finally:
        runtime.close()


def test_a_picture_reaches_the_engine_as_it_was_sent(scripted: Callable[..., Any]) -> None:
    asked: list[Job] = []

    def script(job: Job, stop: Stop) -> Iterator[Event]:
        asked.append(job)
        yield Text(text="a cat")
        yield Done(finishes=(Finish(),), usage=Usage(prompt_tokens=1, completion_tokens=2))

    running = scripted(script)
    found = running.http.post("/v1/multimodal/caption", json={"model": "m", "image": URL}).json()
    assert found["choices"][0]["text"] == "a cat"
    assert isinstance(asked[0], Caption)
    assert asked[0].picture.data == DATA


def test_the_loop_is_never_blocked_by_names(scripted: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver that hangs holds nobody up, since it is asked in a thread."""
    hangs, asked = threading.Event(), threading.Event()

    def getaddrinfo(*given: Any, **more: Any) -> Any:
        asked.set()
        hangs.wait(20)
        raise OSError("no such name")

    running = scripted(lambda job, stop: iter(()), fetch=True)
    body = {"model": "m", "image": "http://nobody.test/"}
    with ThreadPoolExecutor(1) as pool, httpx.Client(base_url=running.url, timeout=20) as other:
        running.http.get("/health")
        monkeypatch.setattr("socket.getaddrinfo", lambda host, *given, **more: getaddrinfo())
        answer = pool.submit(running.http.post, "/v1/multimodal/caption", json=body)
        assert asked.wait(10)
        monkeypatch.undo()
        assert other.get("/health").status_code == 200
        hangs.set()
        assert error(answer.result(), 400)["code"] == "invalid_image_url"
