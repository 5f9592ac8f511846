"""Pictures with the openai package and bare HTTP against a real server over the echo engine, which paints chequers."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import zlib
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from anyform.assembly import start
from anyform.builtin.echo_picture import FACTS, png
from anyform.contract.events import Blob, Done, Event, Progress
from anyform.contract.facts import Settings
from anyform.contract.jobs import Job
from anyform.contract.model import Stop
from anyform.http.config import HttpConfig

GENERATIONS, EDITS, VARIATIONS = "/v1/images/generations", "/v1/images/edits", "/v1/images/variations"
PROMPT = "a red fox"
Serve = Callable[..., Any]


def picture(width: int = 64, height: int = 32, shade: int = 5) -> bytes:
    return png(width, height, (b"\0" + bytes([shade]) * 3 * width) * height, {})


PICTURE, MASK = picture(), picture(shade=255)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("painters")
    models: dict[str, dict[str, Any]] = {
        "painter": {"tasks": ["image", "edit_image", "vary_image"]},
        "slow-painter": {"tasks": ["image", "edit_image", "vary_image"], "options": {"delay_s": 0.02}},
        "generator": {"tasks": ["image"]},
        "chatter": {"tasks": ["chat"]},
    }
    for name, model in models.items():
        (root / f"{name}.echo.json").write_text(json.dumps({"format": "echo", **model}))
    return root


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "painter", "prompt": PROMPT, "seed": 7, **fields}


def facts(data: bytes) -> dict[str, str]:
    """Width, height and the text chunks of a PNG, whose checksums must hold."""
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    found, at = {"size": "x".join(map(str, struct.unpack(">2I", data[16:24])))}, 8
    while at < len(data):
        (length,), kind = struct.unpack(">I", data[at : at + 4]), data[at + 4 : at + 8]
        inner = data[at + 8 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length]) == (zlib.crc32(kind + inner),)
        if kind == b"tEXt":
            name, _, text = inner.partition(b"\0")
            found[name.decode()] = text.decode("latin-1")
        at += 12 + length
    return found


def decoded(made: Any) -> list[bytes]:
    return [b64decode(one.b64_json) for one in made.data]


def refused(answer: httpx.Response, param: str | None, status: int = 400) -> dict[str, Any]:
    error: dict[str, Any] = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (status, param), error
    return error


class Lines:
    """A stream that is read event by event."""

    def __init__(self, running: Any, path: str = GENERATIONS, **fields: Any) -> None:
        self._client = httpx.Client(base_url=running.url, timeout=20)
        self._context = self._client.stream("POST", path, json=body(stream=True, **fields))
        self.response = self._context.__enter__()
        self._lines = self.response.iter_lines()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for line in self._lines:
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))

    def next(self) -> dict[str, Any]:
        return next(iter(self))

    def close(self) -> None:
        self._context.__exit__(None, None, None)
        self._client.close()


@pytest.fixture
def stream(server: Any) -> Iterator[Callable[..., Lines]]:
    made: list[Lines] = []

    def begin(**fields: Any) -> Lines:
        made.append(Lines(server, **fields))
        return made[-1]

    yield begin
    for one in made:
        one.close()


def test_pictures_from_words(client: OpenAI) -> None:
    made = client.images.generate(
        model="painter", prompt=PROMPT, n=3, size="72x40", quality="high", extra_body={"seed": 7}
    )
    (first, *others) = decoded(made)
    assert (facts(first)["size"], facts(first)["seed"], facts(first)["prompt"]) == ("72x40", "7", PROMPT)
    assert [facts(one)["seed"] for one in others] == ["8", "9"]
    assert (made.size, made.quality, made.output_format, made.background) == ("72x40", "high", "png", "opaque")
    assert made.usage
    assert made.created > 1_700_000_000
    assert made.data
    told = [one.model_dump(exclude_unset=True, exclude={"b64_json"}) for one in made.data]
    assert told[0] == {"seed": 7, "width": 72, "height": 40, "steps": 8, "scheduler": FACTS["scheduler"]}
    again = client.images.generate(model="painter", prompt=PROMPT, size="72x40", quality="high", extra_body={"seed": 8})
    assert decoded(again) == [others[0]]


def test_a_picture_changed_and_varied(client: OpenAI) -> None:
    given = {"model": "painter", "prompt": PROMPT, "extra_body": {"seed": 7}}
    plain = client.images.edit(image=PICTURE, **given)  # type: ignore[call-overload]
    masked = client.images.edit(image=("a.png", PICTURE, "image/png"), mask=MASK, **given)  # type: ignore[call-overload]
    several = client.images.edit(image=[PICTURE, MASK], **given)  # type: ignore[call-overload]
    with pytest.deprecated_call():
        varied = client.images.create_variation(
            model="painter", image=PICTURE, n=2, extra_body={"seed": 7, "strength": 0.5}
        )
    pictures = [*decoded(plain), *decoded(masked), *decoded(several), *decoded(varied)]
    assert len(set(pictures)) == 5
    assert {facts(one)["size"] for one in pictures} == {"64x32"}


def test_the_same_as_json_and_as_a_form(http: httpx.Client) -> None:
    text, mask = b64encode(PICTURE).decode(), b64encode(MASK).decode()
    files = {"image": ("a.png", PICTURE, "image/png"), "mask": ("m.png", MASK, "image/png")}
    fields = {"steps": 3, "guidance_scale": 2.5, "strength": 0.5, "n": 2}
    form = http.post(EDITS, data={name: str(value) for name, value in body(**fields).items()}, files=files)
    bare = http.post(EDITS, json=body(image=text, mask=mask, **fields))
    urls = [{"image_url": f"data:image/png;base64,{one}"} for one in (text, mask)]
    data = http.post(EDITS, json=body(images=urls[:1], mask=urls[1], **fields))
    assert form.json()["data"] == bare.json()["data"] == data.json()["data"]
    assert len(form.json()["data"]) == 2
    as_form = http.post(GENERATIONS, files={name: (None, str(value)) for name, value in body(size="16x8").items()})
    assert as_form.json()["data"] == http.post(GENERATIONS, json=body(size="16x8")).json()["data"]


KINDS = ("image_generation", "image_edit", "image_variation")


@pytest.mark.parametrize("noun", KINDS)
def test_a_stream(client: OpenAI, http: httpx.Client, noun: str) -> None:
    shared: dict[str, Any] = {"model": "painter", "prompt": PROMPT, "n": 2, "stream": True, "partial_images": 2}
    own = {"extra_body": {"seed": 7, "num_inference_steps": 5}}
    if noun == "image_generation":
        events = [event.model_dump(exclude_unset=True) for event in client.images.generate(**shared, **own)]
        whole = decoded(client.images.generate(**{**shared, "stream": False, "partial_images": 0}, **own))
    elif noun == "image_edit":
        events = [event.model_dump(exclude_unset=True) for event in client.images.edit(image=PICTURE, **shared, **own)]
        whole = decoded(client.images.edit(image=PICTURE, **{**shared, "stream": False, "partial_images": 0}, **own))
    else:
        fields = {name: (None, str(value)) for name, value in {**shared, **own["extra_body"]}.items()}
        text = http.post(VARIATIONS, files={**fields, "image": PICTURE}).text
        events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]
        del fields["stream"], fields["partial_images"]
        data = http.post(VARIATIONS, files={**fields, "image": PICTURE}).json()["data"]
        whole = [b64decode(one["b64_json"]) for one in data]
    assert {event["type"].partition(".")[0] for event in events} == {noun}
    kinds = [event["type"].partition(".")[2] for event in events]
    assert events[0] == {"type": f"{noun}.queued", "position": 0}
    steps = [(event["step"], event["steps"]) for event in events if event["type"] == f"{noun}.progress"]
    assert steps == [(step, 10) for step in range(1, 11)]
    partly = [event for event in events if event["type"] == f"{noun}.partial_image"]
    assert [(event["index"], event["partial_image_index"]) for event in partly] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert len({event["b64_json"] for event in partly}) == 4
    finished = [event for event in events if event["type"] == f"{noun}.completed"]
    assert [b64decode(event["b64_json"]) for event in finished] == whole
    assert [event["seed"] for event in finished] == [7, 8]
    assert kinds.index("completed") < kinds.index("progress", kinds.index("completed"))  # the first did not wait
    for event in (*partly, *finished):
        assert (event["output_format"], event["background"], event["quality"]) == ("png", "opaque", "auto")
        assert event["size"] == ("64x32" if noun != "image_generation" else "64x64")


def test_a_stream_with_the_async_client(server: Any) -> None:
    async def read() -> list[Any]:
        async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=20) as client:
            asked = client.images.generate(
                model="painter", prompt=PROMPT, stream=True, partial_images=1, extra_body={"seed": 7}
            )
            return [event async for event in await asked]

    events = asyncio.run(read())
    assert [event.type for event in events if "progress" not in event.type] == [
        "image_generation.queued",
        "image_generation.partial_image",
        "image_generation.completed",
    ]
    assert facts(b64decode(events[-1].b64_json))["seed"] == "7"


def test_one_line_holds_a_whole_picture(stream: Callable[..., Lines]) -> None:
    """As OpenAI sends it; one of 2048x2048 pixels, which is beyond what is read from a socket at once."""
    *_, last = stream(size="2048x2048", steps=1)
    assert facts(b64decode(last["b64_json"]))["size"] == "2048x2048"


def test_pictures_by_url(server: Any, client: OpenAI, http: httpx.Client) -> None:
    given: dict[str, Any] = {"model": "painter", "prompt": PROMPT, "n": 2, "extra_body": {"seed": 7}}
    whole = decoded(client.images.generate(**given))
    made = client.images.generate(response_format="url", **given)
    assert made.data
    for one, expected in zip(made.data, whole, strict=True):
        assert one.b64_json is None
        assert one.url is not None
        assert one.url.startswith(f"{server.url}/v1/images/files/")
        got = http.get(one.url)
        assert (got.status_code, got.content) == (200, expected)
        assert got.headers["content-type"] == "image/png"
        assert got.headers["x-content-type-options"] == "nosniff"
        assert got.headers["cache-control"].startswith("private, max-age=3")
        head = http.head(one.url)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == str(len(expected))
    assert facts(whole[1])["seed"] == "8"


def test_a_url_begins_with_the_name_that_was_asked(server: Any, http: httpx.Client) -> None:
    port = server.url.rpartition(":")[2]
    answer = http.post(GENERATIONS, json=body(response_format="url"), headers={"Host": f"here.localhost:{port}"}).json()
    url = answer["data"][0]["url"]
    assert url.startswith(f"http://here.localhost:{port}/v1/images/files/")
    got = http.get(url.replace("here.localhost", "127.0.0.1"), headers={"Host": f"here.localhost:{port}"})
    assert facts(got.content)["seed"] == "7"


def test_a_streamed_picture_by_url(stream: Callable[..., Lines], http: httpx.Client) -> None:
    events = list(stream(response_format="url", partial_images=1))
    (partly,) = [event for event in events if event["type"] == "image_generation.partial_image"]
    assert b64decode(partly["b64_json"])
    assert "b64_json" not in events[-1]
    assert facts(http.get(events[-1]["url"]).content)["seed"] == "7"


@pytest.mark.parametrize(
    "name", ["x.png", "a" * 32 + ".png", "..%2f..%2fetc%2fpasswd", "%2e%2e/x", "..", "a" * 32 + ".png%00", "", "a/b"]
)
def test_a_picture_that_is_not_there(http: httpx.Client, name: str) -> None:
    for method in ("GET", "HEAD"):
        answer = http.request(method, f"/v1/images/files/{name}")
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/json"
        assert method == "HEAD" or answer.json()["error"]["type"] == "invalid_request_error"
    assert http.post("/v1/images/files/x.png").status_code == 405


def test_no_page_from_elsewhere_fetches_one(http: httpx.Client) -> None:
    url = http.post(GENERATIONS, json=body(response_format="url")).json()["data"][0]["url"]
    assert http.get(url, headers={"Origin": "https://evil.example"}).status_code == 403
    assert http.get(url, headers={"Host": "evil.example"}).status_code == 403


def test_no_model_named(http: httpx.Client, serve: Serve, tmp_path: Path) -> None:
    nameless = {"prompt": PROMPT, "image": b64encode(PICTURE).decode()}
    error = refused(http.post(GENERATIONS, json={"prompt": PROMPT}), "model")
    assert "Models here that make pictures: generator, painter, slow-painter." in error["message"]
    assert "Models here that edit pictures: painter, slow-painter." in http.post(EDITS, json=nameless).text
    assert "Models here that vary pictures: painter, slow-painter." in http.post(VARIATIONS, json=nameless).text
    (tmp_path / "only.echo.json").write_text(json.dumps({"format": "echo", "tasks": ["image"]}))
    runtime = start(folders=[tmp_path], where="here")
    alone = serve(runtime)
    assert alone.http.post(GENERATIONS, json={"prompt": PROMPT}).status_code == 200
    assert "No model here edits pictures." in refused(alone.http.post(EDITS, json=nameless), "model")["message"]
    runtime.close()


def test_a_model_that_does_not_paint(http: httpx.Client) -> None:
    answer = http.post(GENERATIONS, json=body(model="chatter"))
    assert answer.status_code == 400
    assert "Models here that do: generator, painter, slow-painter." in answer.json()["error"]["message"]
    edits = http.post(EDITS, json=body(model="generator", image=b64encode(PICTURE).decode()))
    assert edits.status_code == 400
    assert "painter" in edits.json()["error"]["message"]


@pytest.mark.parametrize("name", ["nobody", "painter/", "../painter"])
def test_a_model_that_is_not_there(http: httpx.Client, name: str) -> None:
    error = refused(http.post(GENERATIONS, json=body(model=name)), "model", 404)
    assert error["code"] == "model_not_found"
    assert "Models here that make pictures: generator, painter, slow-painter." in error["message"]
    chat = {"model": name, "messages": [{"role": "user", "content": "Hello"}]}
    assert "pictures" not in refused(http.post("/v1/chat/completions", json=chat), "model", 404)["message"]


def test_of_many_models_the_list_is_named_as_clients_reach_it(serve: Serve, tmp_path: Path) -> None:
    for number in range(9):
        (tmp_path / f"story-{number}.echo.json").write_text('{"format": "echo", "tasks": ["chat"]}')
    runtime = start(folders=[tmp_path], where="here")
    many = serve(runtime)
    message = refused(many.http.post(GENERATIONS, json=body(model="What")), "model", 404)["message"]
    assert "Model names are listed under /v1/models. None here can make pictures." in message
    assert "anyform list" not in message
    runtime.close()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": " "}, "prompt"), ({"prompt": None}, "prompt"), ({"n": 0}, "n"), ({"n": 100}, "n"),
        ({"size": "0x0"}, "size"), ({"size": "axb"}, "size"), ({"size": "100000x100000"}, "size"),
        ({"steps": 0}, "steps"), ({"num_inference_steps": 10_000}, "num_inference_steps"),
        ({"partial_images": 1}, "partial_images"), ({"background": "transparent"}, "background"),
        ({"cfg_scale": 7}, "cfg_scale"), ({"sampler_name": "Euler a"}, "sampler_name"),
        ({"batch_size": 2}, "batch_size"),
        ({"style": "vivid"}, "style"), ({"quality": "best"}, "quality"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_before_a_model_is_looked_for(
    http: httpx.Client, fields: dict[str, Any], param: str
) -> None:
    refused(http.post(GENERATIONS, json=body(**{"model": "no-such-model", **fields})), param)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"size": "17x9"}, "size"), ({"width": 17, "height": 9}, "width"), ({"scheduler": "NoScheduler"}, "scheduler"),
        ({"loras": {"ink": 1}}, "loras"), ({"output_format": "webp"}, "output_format"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("streamed", [False, True])
def test_what_the_model_alone_can_judge(http: httpx.Client, fields: dict[str, Any], param: str, streamed: bool) -> None:
    refused(http.post(GENERATIONS, json=body(stream=streamed, **fields)), param)


def test_pictures_that_are_none(http: httpx.Client) -> None:
    def post(**files: bytes) -> httpx.Response:
        return http.post(EDITS, data={"model": "painter", "prompt": PROMPT}, files=files)

    refused(post(image=b"no picture at all"), "image")
    refused(post(image=PICTURE, mask=b"no picture at all"), "mask")
    refused(post(image=PICTURE, mask=picture(8, 8)), "mask")
    refused(post(image=picture(8, 8)[:20]), "image")
    refused(http.post(EDITS, files={"model": (None, "painter"), "prompt": (None, PROMPT)}), "image")
    named = http.post(EDITS, json=body(images=[{"b64_json": b64encode(b"no picture at all").decode()}]))
    refused(named, "images")
    elsewhere = http.post(VARIATIONS, json=body(image={"image_url": "http://169.254.169.254/"}))
    assert "nothing is fetched" in refused(elsewhere, "image.image_url")["message"]
    path = http.post(VARIATIONS, json=body(image="/etc/passwd"))
    assert "nothing is fetched" in refused(path, "image")["message"]


def test_bodies_and_pictures_have_a_limit(serve: Serve, folder: Path) -> None:
    runtime = start(folders=[folder], where="here")
    small = serve(runtime, body_bytes=20_000, media_bytes=1000)
    files = {"image": bytes(1001)}
    refused(small.http.post(EDITS, data={"model": "painter", "prompt": PROMPT}, files=files), "image", 413)
    refused(small.http.post(EDITS, json=body(image=b64encode(bytes(1001)).decode())), "image", 413)
    refused(small.http.post(EDITS, json=body(image="A" * 20_000)), None, 413)
    runtime.close()


def test_the_queue_tells_its_positions(server: Any, stream: Callable[..., Lines]) -> None:
    """Three at one model that paints one after the other: positions go down as those ahead end or hang up."""
    first = stream(model="slow-painter", steps=1000)
    while first.next()["type"] != "image_generation.progress":
        pass
    second = stream(model="slow-painter", steps=1000)
    assert second.next() == {"type": "image_generation.queued", "position": 1}
    third = stream(model="slow-painter", steps=2)
    assert third.next() == {"type": "image_generation.queued", "position": 2}
    second.close()
    assert third.next() == {"type": "image_generation.queued", "position": 1}
    first.close()  # 20 seconds before its end
    rest = list(third)
    assert rest[0] == {"type": "image_generation.queued", "position": 0}
    assert rest[-1]["type"] == "image_generation.completed"
    assert (rest[-1]["seed"], rest[-1]["steps"]) == (7, 2)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_client_that_hangs_up_ends_the_work(server: Any, http: httpx.Client, streamed: bool) -> None:
    """It does when 3 of 1000 steps are done; the worker is the same afterwards, and paints the same."""
    expected = http.post(GENERATIONS, json=body(model="slow-painter", steps=2)).json()["data"]
    asked = json.dumps(body(model="slow-painter", steps=1000, stream=streamed)).encode()
    with httpx.Client(base_url=server.url, timeout=20) as watch, watch.stream("GET", "/runtime/events") as events:
        lines = events.iter_lines()
        assert next(lines).startswith("retry")
        with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as gone:
            gone.sendall(b"POST %s HTTP/1.1\r\nHost: localhost\r\n" % GENERATIONS.encode())
            gone.sendall(b"Content-Length: %d\r\n\r\n%s" % (len(asked), asked))
            told = list(_until(lines, '"done":3,"total":1000}'))
        again = http.post(GENERATIONS, json=body(model="slow-painter", steps=2))
        told += _until(lines, '"done":2,"total":2}')
    assert again.json()["data"] == expected
    steps = [one["done"] for one in told if one.get("total") == 1000]
    assert steps == list(range(1, len(steps) + 1))
    assert 3 <= len(steps) < 100
    assert len({one["request"] for one in told}) == 2
    assert {one["model"] for one in told} == {"slow-painter"}
    assert http.get("/runtime/status").json()["requests"] == {}


def _until(lines: Iterator[str], end: str) -> Iterator[dict[str, Any]]:
    """The data of steps and positions up to those that end so."""
    for line in lines:
        if line.startswith("data: ") and '"request"' in line:
            yield json.loads(line.removeprefix("data: "))
            if line.endswith(end):
                return


def test_the_watchers_of_a_server_see_steps_and_positions(server: Any, http: httpx.Client) -> None:
    with httpx.Client(base_url=server.url, timeout=20) as watch, watch.stream("GET", "/runtime/events") as events:
        lines = events.iter_lines()
        next(lines)
        http.post(GENERATIONS, json=body(steps=2))
        block: list[str] = []
        while not (block and '"done":2' in block[-1]):
            block.append(next(lines))
    told = "\n".join(block)
    assert 'event: queued\ndata: {"model":"painter"' in told
    assert told.count("event: step\n") == 2
    assert "\nid: " not in told[told.index("event: queued") :]


def test_metrics(server: Any, http: httpx.Client) -> None:
    def count() -> float:
        sample = 'anyform_pictures_total{backend="echo",model="painter"} '
        return sum(
            float(line.removeprefix(sample)) for line in http.get("/metrics").text.splitlines() if sample in line
        )

    http.post(GENERATIONS, json=body())
    before = count()
    http.post(GENERATIONS, json=body(n=3))
    assert count() == before + 3


def test_what_fails_in_the_middle_ends_the_stream(scripted: Serve) -> None:
    def script(job: Job, stop: Stop) -> Iterator[Event]:
        yield Progress(stage="queue")
        yield Progress(stage="step", done=1, total=2)
        raise MemoryError("no more")

    running = scripted(script)
    with pytest.raises(openai.APIError, match="no more"):
        list(running.openai.images.generate(model="m", prompt=PROMPT, stream=True))
    with pytest.raises(openai.InternalServerError, match="no more"):
        running.openai.images.generate(model="m", prompt=PROMPT)


def test_a_picture_that_cannot_be_kept_is_said(scripted: Serve) -> None:
    def script(job: Job, stop: Stop) -> Iterator[Event]:
        yield Progress(stage="queue")
        yield Blob(data=bytes(100), media_type="image/png")
        yield Done()

    running = scripted(script, images_bytes=99)
    with pytest.raises(openai.APIStatusError) as caught:
        running.openai.images.generate(model="m", prompt=PROMPT, response_format="url")
    assert (caught.value.status_code, caught.value.code) == (503, "picture_not_kept")
    assert caught.value.response.headers["x-should-retry"] == "false"
    with pytest.raises(openai.APIError, match="b64_json"):
        list(running.openai.images.generate(model="m", prompt=PROMPT, response_format="url", stream=True))
    off = scripted(script, images_bytes=0)
    with pytest.raises(openai.BadRequestError, match="images_bytes"):
        off.openai.images.generate(model="m", prompt=PROMPT, response_format="url")


def test_a_servers_folder_outlives_it(running: Any, folder: Path, tmp_path: Path) -> None:
    runtime = start(folders=[folder], where="here", defaults=Settings(parallel=4))
    config = HttpConfig(images_folder=str(tmp_path / "images"))
    first = running(runtime, config)
    url = first.http.post(GENERATIONS, json=body(response_format="url")).json()["data"][0]["url"]
    data = first.http.get(url).content
    first.close()
    second = running(runtime, config)
    try:
        assert second.http.get(url.removeprefix(first.url)).content == data
    finally:
        second.close()
        runtime.close()


def test_a_rule_fills_in_what_a_request_leaves_out(running: Any, folder: Path, tmp_path: Path) -> None:
    from anyform.kernel.rule import Rule

    request = {"size": "24x16", "steps": 3, "response_format": "url"}
    runtime = start(folders=[folder], where="here", rules=lambda entry: Rule(request=request))
    server = running(runtime, HttpConfig())
    try:
        answer = server.http.post(GENERATIONS, json=body()).json()
        assert (answer["size"], answer["data"][0]["steps"], "url" in answer["data"][0]) == ("24x16", 3, True)
        other = server.http.post(
            GENERATIONS, json=body(width=8, height=8, num_inference_steps=2, response_format="b64_json")
        ).json()
        assert (other["size"], other["data"][0]["steps"], "url" in other["data"][0]) == ("8x8", 2, False)
    finally:
        server.close()
        runtime.close()
