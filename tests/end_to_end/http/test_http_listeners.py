"""Several ports of one server, each with the dialects that it is to speak, and refusals in the form of each."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from anyform.assembly import start
from anyform.builtin import echo, machine
from anyform.contract.errors import Invalid
from anyform.contract.hooks import hookimpl
from anyform.contract.jobs import Complete
from anyform.dialect import Ask, Dialect, Fields, Text, server, status_of
from anyform.http.config import HttpConfig, Listener
from anyform.http.server import CannotListen, listen, serve
from anyform.kernel.plugins import Plugins
from anyform.testing.echo import write_echo

PLAIN = "text/plain; charset=utf-8"
WEB = httpx.Client(timeout=20)


class Toy:
    """A dialect of plain text under /toy, whose word for unknown routes is its own."""

    ANYFORM_CONTRACT = 1

    def __init__(self, name: str = "toy", port: int | None = None, word: str = "sorry") -> None:
        self.dialect = Dialect(
            name=name,
            prefixes=(f"/{name}",),
            refusal=lambda fault: PlainTextResponse(f"{word}: {fault}", status_of(fault)),
            ending=lambda fault: f"\n{word}: {fault}\n".encode(),
            streams=(PLAIN,),
            unknown=lambda method, path: PlainTextResponse(f"nothing to {method} at {path}", 404),
            port=port,
        )
        self.faces = 0

    @hookimpl
    def add_routes(self, routes: Any, runtime: Any) -> None:
        here, at = server(routes), f"/{self.dialect.name}"
        self.faces += 1
        here.speak(self.dialect)

        async def ask(request: Request) -> Response:
            return await here.answer(request, await here.body(request), read, self.dialect)

        async def crash() -> Response:
            raise RuntimeError("nobody foresaw this")

        routes.add_api_route(f"{at}/ask", ask, methods=["POST"], response_model=None)
        routes.add_api_route(f"{at}/of/{{who}}", ask, methods=["POST"], response_model=None)
        routes.add_api_route(f"{at}/ask", crash, methods=["PUT"], response_model=None)
        routes.add_api_route(f"{at}/hello", lambda: PlainTextResponse("hello"), methods=["GET"], response_model=None)


class Words:
    media_type = PLAIN

    def write(self, event: Any, job: int) -> bytes:
        return event.text.encode() if isinstance(event, Text) else b""

    def end(self) -> bytes:
        return b"\n"


def read(values: Any, media: Any, rule: Any) -> Ask:
    fields = Fields(values)
    job = Complete(prompt=fields.need_text("say"))
    return Ask(model=fields.need_text("model"), jobs=(job,), writer=lambda head: Words(), stream=True, prompt="say")


class Failing:
    """Adds a route, speaks, and then raises."""

    ANYFORM_CONTRACT = 1

    @hookimpl
    def add_routes(self, routes: Any, runtime: Any) -> None:
        server(routes).speak(Toy("failing").dialect)
        routes.add_api_route("/failing", dict, methods=["GET"])
        raise ValueError("it changed its mind")


class Misnamed:
    """Has a dialect of another name than its own."""

    ANYFORM_CONTRACT = 1

    @hookimpl
    def add_routes(self, routes: Any, runtime: Any) -> None:
        server(routes).speak(Toy("other").dialect)


def plugins(**more: Any) -> Plugins:
    return Plugins.of({"echo": echo, "machine": machine, **more})


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("listeners")
    write_echo(folder / "parrot.echo.json")
    write_echo(folder / "small.echo.json", context=3)
    write_echo(folder / "slow.echo.json", options={"delay_s": 0.02})
    return folder


@pytest.fixture
def begin(running: Callable[..., Any], models: Path) -> Iterator[Callable[..., Any]]:
    """Starts a server with listeners (port 0) and plugins."""
    ends: list[Callable[[], None]] = []

    def made(found: Plugins, *listeners: Listener, **config: Any) -> Any:
        runtime = start(folders=[models], where="here", plugins=found)
        ends.append(runtime.close)
        one = running(runtime, HttpConfig(listeners=listeners, **config))
        ends.insert(0, one.close)
        return one

    yield made
    for end in ends:
        end()


def at(*dialects: str, host: str = "") -> Listener:
    return Listener(port=0, host=host, dialects=dialects)


def ask(url: str, **body: Any) -> httpx.Response:
    return WEB.post(f"{url}/toy/ask", json={"model": "parrot", "say": "one two", **body})


def test_one_port_speaks_all_and_others_what_they_are_to(begin: Callable[..., Any]) -> None:
    made = begin(plugins(toy=Toy()), at("toy"), at("openai", "toy"), at("anyform"))
    main, toy, both, about = (place.url for place in made.places)
    assert [place.speaks for place in made.places] == [
        ("openai", "anyform", "toy"), ("toy",), ("openai", "toy"), ("anyform",)
    ]  # fmt: skip
    for url, speaks in ((main, (1, 1, 1)), (toy, (0, 0, 1)), (both, (1, 0, 1)), (about, (0, 1, 0))):
        got = [WEB.get(f"{url}{path}").is_success for path in ("/v1/models", "/health", "/toy/hello")]
        assert got == list(map(bool, speaks)), url
        assert ask(url).is_success == bool(speaks[2])
        assert WEB.get(f"{url}/openapi.json").is_success == bool(speaks[1])
    assert ask(toy).text == "one two\n"
    assert WEB.head(f"{both}/v1/models").status_code == 200


def test_what_is_unknown_is_told_as_the_first_dialect_tells_it(begin: Callable[..., Any]) -> None:
    made = begin(plugins(toy=Toy()), at("toy"), at("toy", "openai", "anyform"), at("openai", "toy"))
    main, toy, first, second = (place.url for place in made.places)
    for url in (main, second):
        answer = WEB.get(f"{url}/nowhere")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_url")
    for url in (toy, first):
        answer = WEB.get(f"{url}/nowhere")
        assert (answer.status_code, answer.text) == (404, "nothing to GET at /nowhere")
    assert WEB.get(f"{first}/v1/models/none").json()["error"]["code"] == "model_not_found"
    refused = WEB.post(f"{first}/runtime/load/none")
    assert refused.json()["error"]["code"] == "model_not_found"


def test_what_is_unknown_below_a_dialects_paths_is_told_in_its_form(begin: Callable[..., Any]) -> None:
    made = begin(plugins(toy=Toy()), at("openai", "toy"), at("toy", "openai"), at("anyform"))
    main, second, first, about = (place.url for place in made.places)
    for url in (main, second):
        assert WEB.get(f"{url}/toy/nowhere").text == "sorry: Invalid URL (GET /toy/nowhere). toy has no such resource."
        assert WEB.get(f"{url}/toys").json()["error"]["code"] == "unknown_url"
    assert WEB.get(f"{first}/toy/nowhere").text == "nothing to GET at /toy/nowhere"
    wrong = WEB.get(f"{first}/v1/embeddings")
    assert (wrong.json()["error"]["code"], wrong.headers["allow"]) == ("method_not_supported", "POST")
    hints = [WEB.get(f"{url}/nowhere").json()["error"]["suggestions"] for url in (main, about)]
    assert hints == [["The OpenAI resources are under /v1."], ["Spoken at this port: anyform."]]


def test_every_refusal_of_its_paths_is_in_the_dialects_form(begin: Callable[..., Any]) -> None:
    made = begin(plugins(toy=Toy()), at("toy", "openai"), body_bytes=1000)
    for url in (made.places[0].url, made.places[1].url):
        foreign = WEB.get(f"{url}/toy/hello", headers={"host": "evil.example"})
        page = WEB.get(f"{url}/toy/hello", headers={"origin": "https://evil.example"})
        large = ask(url, say="x" * 2000)
        packed = WEB.post(f"{url}/toy/ask", content=b"{}", headers={"content-encoding": "gzip"})
        broken = WEB.post(f"{url}/toy/ask", content=b"{")
        typed = ask(url, say=5)
        absent = ask(url, model="none")
        long = ask(url, model="small", say="one two three four")
        crashed = WEB.put(f"{url}/toy/ask", headers={"connection": "close"})
        answers = [foreign, page, large, packed, broken, typed, absent, long, crashed]
        assert [answer.status_code for answer in answers] == [403, 403, 413, 415, 400, 400, 404, 400, 500]
        assert all(answer.text.startswith("sorry: ") for answer in answers), [answer.text for answer in answers]
        assert "say" in typed.text
        ours = WEB.get(f"{url}/v1/models", headers={"host": "evil.example"})
        assert ours.json()["error"]["code"] == "refused"


def test_requests_are_counted_by_their_route_whatever_is_in_its_path(begin: Callable[..., Any]) -> None:
    made = begin(plugins(toy=Toy()), at("toy"))
    for who, model in (("a", "parrot"), ("b", "parrot"), ("c", 5)):
        WEB.post(f"{made.places[1].url}/toy/of/{who}", json={"model": model, "say": "one"})
    told = made.http.get("/metrics").text
    counted = [line for line in told.splitlines() if line.startswith("anyform_requests_total")]
    assert [(line.split('outcome="')[1].split('"')[0], line[-3:]) for line in counted] == [
        ("ok", "2.0"),
        ("invalid_type", "1.0"),
    ]
    assert all('route="/toy/of/{who}"' in line for line in counted)


def test_a_wrong_method_says_which_there_are(begin: Callable[..., Any]) -> None:
    made = begin(plugins(toy=Toy()), at("toy"))
    shared = WEB.get(f"{made.url}/toy/ask")
    assert (shared.status_code, shared.headers["allow"]) == (405, "POST, PUT")
    assert shared.text.startswith("sorry: Not allowed to GET on /toy/ask.")
    own = WEB.post(f"{made.url}/v1/models")
    assert (own.status_code, own.headers["allow"]) == (405, "GET, HEAD")
    alone = WEB.get(f"{made.places[1].url}/toy/ask")
    assert (alone.text, alone.headers["allow"]) == ("nothing to GET at /toy/ask", "POST, PUT")


def test_a_request_that_the_stop_of_the_server_ends_is_told_in_the_dialects_form(begin: Callable[..., Any]) -> None:
    made = begin(plugins(toy=Toy()), at("toy"))
    place = made.places[1]
    with socket.create_connection(("127.0.0.1", place.port)) as half:
        head = "POST /toy/ask HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"
        half.sendall(head.encode())
        assert half.recv(1024).startswith(b"HTTP/1.1 100")  # now it waits for the body
        made.server.should_exit = True
        told = b"".join(iter(lambda: half.recv(4096), b""))
    assert b" 503 " in told.splitlines()[0]
    assert b"sorry: The server is stopping." in told
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", place.port), timeout=1).close()


def test_a_stream_that_the_stop_of_the_server_ends_is_told_so_in_the_dialects_form(begin: Callable[..., Any]) -> None:
    made = begin(plugins(toy=Toy()), at("toy"), grace_s=0)
    body = {"model": "slow", "say": " ".join(["word"] * 1000)}
    with WEB.stream("POST", f"{made.places[1].url}/toy/ask", json=body) as answer:
        pieces = answer.iter_text()
        first = next(pieces)
        made.server.should_exit = True
        rest = "".join(pieces)
    assert first.startswith("word")
    assert rest.endswith("\nsorry: The server is stopping. Ask again later.\n")


def test_each_listener_judges_hosts_by_its_own(begin: Callable[..., Any]) -> None:
    made = begin(plugins(toy=Toy()), at("toy", host="0.0.0.0"))
    open_, name = made.places[1], {"host": "somewhere.example"}
    assert open_.url == f"http://127.0.0.1:{open_.port}"
    assert WEB.get(f"{open_.url}/toy/hello", headers=name).status_code == 200
    assert WEB.get(f"{made.url}/toy/hello", headers=name).status_code == 403


def test_one_port_at_two_addresses_is_two_listeners(begin: Callable[..., Any]) -> None:
    try:
        listen("::1", 0).close()
    except CannotListen:
        pytest.skip("this machine has no IPv6")
    with listen("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    ones = (Listener(port=port, dialects=("toy",)), Listener(port=port, host="::1", dialects=("openai",)))
    made = begin(plugins(toy=Toy()), *ones)
    four, six = (place.url for place in made.places[1:])
    assert (four, six) == (f"http://127.0.0.1:{port}", f"http://[::1]:{port}")
    assert [WEB.get(f"{url}/toy/hello").status_code for url in (four, six)] == [200, 404]
    assert [WEB.get(f"{url}/v1/models").status_code for url in (four, six)] == [404, 200]


def test_a_dialects_customary_port_is_used_where_none_is_named(begin: Callable[..., Any]) -> None:
    with listen("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    made = begin(plugins(toy=Toy(port=port)), Listener(dialects=("openai", "toy")))
    assert made.places[1].port == port
    told = {one["name"]: one["dialects"] for one in made.http.get("/runtime/plugins").json()["plugins"]}
    assert told == {"echo": [], "machine": [], "toy": [{"paths": ["/toy"], "port": port}]}


def test_a_plugin_that_fails_loses_its_routes_and_its_form_only(begin: Callable[..., Any]) -> None:
    toy = Toy()
    made = begin(plugins(failing=Failing(), misnamed=Misnamed(), toy=toy), at("toy"), at("failing", "toy"))
    for place in made.places:
        assert WEB.get(f"{place.url}/failing").status_code == 404
        assert WEB.get(f"{place.url}/toy/hello").text == "hello"
        assert "other" not in WEB.get(f"{place.url}/other").headers.get("content-type", "")
    assert toy.faces == 3
    assert WEB.get(f"{made.places[2].url}/nowhere").text == "nothing to GET at /nowhere"
    failures = made.http.get("/runtime/plugins").json()["failures"]
    assert [failure["details"]["plugin"] for failure in failures] == ["failing", "misnamed"]
    assert "Call it 'misnamed'" in json.dumps(failures)


def test_plugins_come_and_go_on_every_listener_that_serves_them(
    begin: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = plugins(toy=Toy(), second=Toy("second"))
    made = begin(found, at("toy"), at("openai", "toy", "second"), at("openai"))
    urls = [place.url for place in made.places]

    def seen() -> list[str]:
        return [
            "".join(str(int(WEB.get(f"{url}/{one}/hello").is_success)) for one in ("toy", "second")) for url in urls
        ]

    def refresh(records: list[Any], **changes: list[str]) -> None:
        found.records = records
        told = {"added": [], "removed": [], "changed": [], **changes}
        monkeypatch.setattr(type(made.runtime), "refresh_plugins", lambda self: told)
        made.http.post("/runtime/plugins/refresh").raise_for_status()

    assert seen() == ["11", "10", "11", "00"]
    all_of_them = list(found.records)
    refresh([record for record in all_of_them if record.name != "toy"], removed=["toy"])
    assert seen() == ["01", "00", "01", "00"]
    assert WEB.get(f"{urls[0]}/toy/ask").json()["error"]["code"] == "unknown_url"
    assert WEB.get(f"{urls[1]}/nowhere").json()["error"]["code"] == "unknown_url"  # its form is gone too
    refresh(all_of_them, added=["toy"])
    assert seen() == ["11", "10", "11", "00"]
    assert WEB.get(f"{urls[1]}/nowhere").text == "nothing to GET at /nowhere"
    refresh(all_of_them, changed=["toy"])
    assert seen() == ["11", "10", "11", "00"]
    assert len([route for route in made.server.service.runtime.plugins.records if route.name == "toy"]) == 1
    assert WEB.get(f"{urls[0]}/toy/ask").headers["allow"] == "POST, PUT"


@pytest.mark.parametrize(
    ("listener", "said"),
    [
        (
            Listener(port=0, dialects=("tay",)),
            "there is no dialect 'tay'. Did you mean 'toy'? Known: openai, anyform, toy",
        ),
        (Listener(port=0, dialects=("echo",)), "the plugin 'echo' is no dialect: it adds no routes over HTTP."),
        (Listener(dialects=("toy", "openai")), "the listener toy,openai has no port, and none is customary for it."),
        (Listener(), "the listener without dialects has no port"),
    ],
)
def test_a_listener_that_cannot_be_is_said(models: Path, listener: Listener, said: str) -> None:
    runtime = start(folders=[models], where="here", plugins=plugins(toy=Toy()))
    with pytest.raises(Invalid) as raised:
        serve(runtime, port=0, config=HttpConfig(listeners=(listener,)))
    assert said in str(raised.value)
    runtime.close()


def test_a_port_that_is_taken_is_said_with_its_listener_and_nothing_stays_open(models: Path) -> None:
    runtime = start(folders=[models], where="here", plugins=plugins(toy=Toy()))
    with listen("127.0.0.1", 0) as taken, listen("127.0.0.1", 0) as free:
        port, main = taken.getsockname()[1], free.getsockname()[1]
        free.close()
        with pytest.raises(CannotListen) as raised:
            serve(runtime, port=main, config=HttpConfig(listeners=(Listener(port=port, dialects=("toy",)),)))
    assert f"cannot listen on 127.0.0.1 port {port}, the listener for toy: " in str(raised.value)
    assert "--listen" in raised.value.hint
    listen("127.0.0.1", main).close()
    with pytest.raises(Invalid, match=f"two listeners are to be at 127.0.0.1 port {main}."):
        serve(runtime, port=main, config=HttpConfig(listeners=(Listener(port=main),)))
    runtime.close()


def test_a_plugins_own_refusals_keep_their_words(begin: Callable[..., Any]) -> None:
    class Page:
        ANYFORM_CONTRACT = 1

        @hookimpl
        def add_routes(self, routes: Any, runtime: Any) -> None:
            routes.add_api_route("/gone", self.gone, methods=["GET"])
            routes.add_api_route("/absent", self.absent, methods=["GET"])

        def gone(self) -> None:
            raise HTTPException(410, "It is gone for good.")

        def absent(self) -> None:
            raise HTTPException(404)

    made = begin(plugins(page=Page()))
    answer = made.http.get("/gone")
    assert (answer.status_code, answer.json()["error"]["message"]) == (410, "It is gone for good.")
    assert made.http.get("/absent").json()["error"]["code"] == "unknown_url"


def test_sockets_and_pages_of_other_origins_are_each_listeners_own(begin: Callable[..., Any]) -> None:
    page = "https://chat.example"
    made = begin(plugins(toy=Toy()), at("toy"), at("openai"), cors_origins=(page,))
    upgrade = {
        "connection": "upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    opened = [_first_line(place.port, "/v1/audio/speech/stream?model=none", upgrade) for place in made.places]
    assert [line.split()[1] for line in opened] == ["101", "403", "101"]
    asks = {"origin": page, "access-control-request-method": "POST"}
    for place in made.places:
        assert WEB.options(f"{place.url}/anything", headers=asks).headers["access-control-allow-origin"] == page
        assert (
            WEB.get(f"{place.url}/toy/hello", headers={"origin": page}).headers["access-control-allow-origin"] == page
        )


def _first_line(port: int, path: str, headers: dict[str, str]) -> str:
    with socket.create_connection(("127.0.0.1", port)) as sock:
        lines = [
            f"GET {path} HTTP/1.1",
            f"host: 127.0.0.1:{port}",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        sock.sendall("\r\n".join([*lines, "", ""]).encode())
        return sock.recv(4096).decode("latin-1").splitlines()[0]


def test_all_dialects_of_this_repository_share_a_port_and_refuse_each_in_its_own_form(
    begin: Callable[..., Any],
) -> None:
    names = ("anthropic_api", "lmstudio_api", "ollama_api")
    found = plugins(**{name: import_module(f"anyform_{name}.plugin") for name in names})
    made = begin(found, *(at(name) for name in names))
    assert found.failures == []
    assert made.places[0].speaks == ("openai", "anyform", *names)
    paths = {
        "/api/chat": lambda said: isinstance(said["error"], str),
        "/v1/messages": lambda said: said["type"] == "error" and said["error"]["message"],
        "/v1/chat/completions": lambda said: said["error"]["param"] == "model",
        "/api/v0/chat/completions": lambda said: said["error"] and "type" not in said,
    }
    body = {"model": "none", "max_tokens": 5, "messages": [{"role": "user", "content": "a"}]}
    for path, is_its_form in paths.items():
        absent = WEB.post(f"{made.url}{path}", json=body)
        assert (absent.status_code, is_its_form(absent.json()) and True) == (404, True), absent.text
        foreign = WEB.post(f"{made.url}{path}", json=body, headers={"host": "evil.example"})
        assert foreign.status_code == 403
        assert foreign.json().keys() == absent.json().keys() or path == "/v1/messages"
    described = WEB.get(f"{made.url}/openapi.json").json()["paths"]
    assert set(paths) <= set(described)
    assert WEB.get(f"{made.url}/").text == "Ollama is running"
    assert WEB.head(f"{made.url}/").status_code == 200
    assert WEB.get(f"{made.url}/nowhere").json()["error"]["code"] == "unknown_url"
    anthropic, lmstudio, ollama = (place.url for place in made.places[1:])
    assert WEB.get(f"{anthropic}/nowhere").json()["type"] == "error"
    assert WEB.get(f"{lmstudio}/nowhere").status_code == 200
    assert WEB.get(f"{ollama}/nowhere").text == "404 page not found"
