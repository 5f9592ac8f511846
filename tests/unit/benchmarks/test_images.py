"""What measures pictures: its client against a server that says what it was asked, and how pictures are compared."""

from __future__ import annotations

import argparse
import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numpy")

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
OPTIONS = argparse.Namespace(side=64, steps=10)


@pytest.fixture
def images(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import images

    return images


class Answers(BaseHTTPRequestHandler):
    """Its pictures are what it was asked, in the answer or under a URL."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if asked["seed"] < 0:
            self._answer(b"no", 400)
            return
        form, told = asked.pop("response_format"), json.dumps(asked).encode()
        coded = base64.b64encode(told).decode()
        url = f"http://{self.headers['host']}/files/{base64.urlsafe_b64encode(told).decode()}"
        self._answer(json.dumps({"data": [{form: coded if form == "b64_json" else url}]}).encode())

    def do_GET(self) -> None:
        self._answer(b"fetched " + base64.urlsafe_b64decode(self.path.removeprefix("/files/")))

    def _answer(self, body: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_a_picture_comes_in_the_answer_or_is_fetched(images: Any, port: int) -> None:
    client = images.Client(port, "m", OPTIONS)
    asked = {"model": "m", "prompt": images.PROMPT, "size": "64x64", "num_inference_steps": 10, "seed": 3}
    assert json.loads(client.paint(3)) == asked
    fetched = client.paint(3, "url")
    assert fetched.startswith(b"fetched ")
    assert json.loads(fetched.removeprefix(b"fetched ")) == asked


def test_a_refusal_ends_the_run(images: Any, port: int) -> None:
    with pytest.raises(SystemExit, match="the server answered 400: no"):
        images.Client(port, "m", OPTIONS).paint(-1)


def test_pictures_are_compared_by_their_pixels(images: Any) -> None:
    image = pytest.importorskip("PIL.Image")
    one, other, file = image.new("RGB", (4, 2), "red"), image.new("RGB", (2, 4), "red"), BytesIO()
    one.save(file, "PNG")
    assert images.pixels(file.getvalue()) == images.pixels(one)
    assert len({images.pixels(one), images.pixels(other), images.pixels(one.convert("L"))}) == 3


def test_what_there_is_already_is_not_written_again(
    images: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(images, "FOLDER", tmp_path)
    (tmp_path / "painting-sd-3").mkdir()
    assert images.pipeline("sd", 3) == tmp_path / "painting-sd-3"
