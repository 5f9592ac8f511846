"""Pictures by URL: from public addresses only, bounded, over real sockets to a server of this machine."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from anyform.contract.errors import Fault, TooLarge
from anyform.http.fields import WrongValue
from anyform.http.media import PICTURE, SOUND, File, Kind
from anyform.http.web import REDIRECTS, Unreachable, Web, is_public

PNG = b"\x89PNG\r\n\x1a\n" + b"x" * 100
LIMIT = 1000
CERTIFICATE = Path(__file__).with_name("pictures.pem")
"""Of pictures.test, signed by itself, until 2126."""


PUBLIC = """
1.1.1.1 8.8.8.8 172.15.255.255 172.32.0.1 100.63.255.255 100.128.0.1 192.0.1.1 223.255.255.255
2606:4700:4700::1111 2a00:1450:4001:80e::200e 2001:4860:4860::8888
"""
OTHERS = """
127.0.0.1 127.255.255.254 0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 172.16.0.1 172.31.255.255 192.168.1.1 169.254.169.254
100.64.0.1 100.127.255.255 192.0.0.1 192.0.0.170 192.0.2.1 192.88.99.1 198.18.0.1 198.19.255.255 198.51.100.1
203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255
:: ::1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:8.8.8.8 ::ffff:0:8.8.8.8 64:ff9b::8.8.8.8 64:ff9b::127.0.0.1 64:ff9b:1::1
100::1 2001::1 2001:2::1 2001:10::1 2001:20::1 2001:db8::1 2002:7f00:1:: 2002:808:808::1 3fff::1 5f00::1 fc00::1
fd12:3456::1 fe80::1 fe80::1%eth0 2606:4700::1%1 fec0::1 ff02::1
localhost 1.1.1.1.1 0x7f.1 2130706433 127.1 01.1.1.1
"""


@pytest.mark.parametrize("address", PUBLIC.split())
def test_public_addresses(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", ["", *OTHERS.split()])
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    ("url", "authority", "path"),
    [
        ("http://Example.COM/a/b.png?x=1&y=%20#part", "example.com", "/a/b.png?x=1&y=%20"),
        ("HTTPS://example.com", "example.com", "/"),
        ("https://example.com:443/ä b".replace(" ", "%20"), "example.com", "/%C3%A4%20b"),
        ("http://bücher.example/x", "xn--bcher-kva.example", "/x"),
        ("http://1.1.1.1/x", "1.1.1.1", "/x"),
        ("http://[2606:4700::1]/x", "[2606:4700::1]", "/x"),
    ],
)
def test_urls_that_may_be_asked(url: str, authority: str, path: str) -> None:
    target = Web().judge(url, "image")
    assert (target.authority, target.path) == (authority, path)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://", "is no http or https URL"),
        ("http:///x", "is no http or https URL"),
        ("ftp://example.com/x", "is no http or https URL"),
        ("http://user:secret@example.com/", "names a user"),
        ("http://@example.com/", "names a user"),
        ("http://example.com:22/", "nothing is fetched from 'example.com:22'"),
        ("http://example.com:0/", "nothing is fetched from 'example.com:0'"),
        ("https://example.com:80/", "nothing is fetched from 'example.com:80'"),
        ("http://example.com:99999/", "is none"),
        ("http://example.com:x/", "is none"),
        ("http://[::1/", "is none"),
        ("http://example.com/a b", "is none"),
        ("http://example.com/a\r\nHost: x", "is none"),
        ("http://exa\tmple.com/", "is none"),
        (f"http://{'a' * 64}.example/", "is none"),
        ("http://a..b/", "is none"),
        (f"http://example.com/{'a' * 5000}", "is none"),
    ],
)
def test_urls_that_may_not(url: str, words: str) -> None:
    with pytest.raises(WrongValue, match=words) as caught:
        Web().judge(url, "image")
    assert caught.value.details["param"] == "image"


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("http://example.com/", True),
        ("https://EXAMPLE.com/", True),
        ("https://example.com:8443/", True),
        ("http://example.com:8080/", False),
        ("http://a.b.example.org/", True),
        ("http://example.org/", False),
        ("http://badexample.org/", False),
        ("http://evil.example.com/", False),
        ("http://example.com.evil/", False),
        ("http://example.com./", False),
        ("http://1.1.1.1/", False),
    ],
)
def test_hosts_that_are_named_are_the_only_ones(url: str, allowed: bool) -> None:
    web = Web(("example.com", "example.com:8443", "*.Example.org"))
    if allowed:
        web.judge(url, "image")
    else:
        with pytest.raises(WrongValue, match="fetch_hosts"):
            web.judge(url, "image")


class Answers:
    """Answers every connection of a port with the same bytes, after its request has come, and keeps the requests."""

    def __init__(self, answer: bytes | Callable[[bytes], bytes], secure: bool = False, hold: bool = False) -> None:
        """*hold*: keep the connection open after the answer."""
        self.requests: list[bytes] = []
        self._answer, self._hold = answer, hold
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if secure else None
        if self._context:
            self._context.load_cert_chain(CERTIFICATE)
        self._kept: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                taken, _ = self._socket.accept()
                self._one(self._context.wrap_socket(taken, server_side=True) if self._context else taken)
            except ssl.SSLError:  # of a client that does not trust it
                continue
            except OSError:
                return

    def _one(self, sock: socket.socket) -> None:
        got = b""
        while not got.endswith(b"\r\n\r\n"):
            piece = sock.recv(1000)
            if not piece:
                return
            got += piece
        self.requests.append(got)
        try:
            sock.sendall(self._answer if isinstance(self._answer, bytes) else self._answer(got))
        except OSError:  # the client had enough
            return
        if self._hold:
            self._kept.append(sock)
        else:
            sock.close()

    def close(self) -> None:
        for sock in (self._socket, *self._kept):
            sock.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., Answers]]:
    started: list[Answers] = []

    def begin(answer: bytes | Callable[[bytes], bytes], **how: bool) -> Answers:
        started.append(Answers(answer, **how))
        return started[-1]

    yield begin
    for one in started:
        one.close()


def answer(body: bytes = PNG, status: str = "200 OK", **headers: str) -> bytes:
    told = {"content-type": "image/png", "content-length": str(len(body))}
    told |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in told.items() if value)
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


def moved(to: str, status: str = "302 Found") -> bytes:
    return answer(b"", status, location=to, content_type="")


NAMES = {"pictures.test": ["127.0.0.1"], "inside.test": ["10.0.0.1", "::1", "169.254.169.254"]}


async def _resolve(host: str, port: int) -> list[str]:
    if host not in NAMES:
        raise socket.gaierror(-2, "Name or service not known")
    return NAMES[host]


def web(port: int, limit_s: float = 20, context: ssl.SSLContext | None = None) -> Web:
    """One that may ask any host at *port*, and for which this machine alone is public."""
    hosts = tuple(f"{name}:{port}" for name in (*NAMES, "nobody.test"))
    return Web(hosts, limit_s, _resolve, lambda address: address == "127.0.0.1", context)


def get(server: Answers, path: str = "/a.png", host: str = "pictures.test", kind: Kind = PICTURE, **how: float) -> File:
    url = f"http://{host}:{server.port}{path}"
    return asyncio.run(web(server.port, **how).get(url, "image", LIMIT, lambda size: None, kind))


def test_a_picture_comes_with_its_type(serve: Callable[..., Answers]) -> None:
    server = serve(answer(content_type="Image/PNG; x=y"))
    assert get(server, "/a.png?x=1") == File(data=PNG, media_type="image/png")
    (request,) = server.requests
    head = request.decode().lower().split("\r\n")
    assert head[0] == "get /a.png?x=1 http/1.1"
    assert f"host: pictures.test:{server.port}" in head
    assert "accept-encoding: identity" in head
    assert not any(line.startswith(("cookie", "authorization", "referer")) for line in head)


def test_what_has_no_length_is_read_to_its_end(serve: Callable[..., Answers]) -> None:
    chunked = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (PNG[:5], PNG[5:])) + b"0\r\n\r\n"
    assert get(serve(answer(chunked, content_length="", transfer_encoding="chunked"))).data == PNG
    assert get(serve(answer(content_length="", connection="close"))).data == PNG
    assert get(serve(answer(content_type="application/octet-stream"))) == File(data=PNG)
    assert get(serve(b"HTTP/1.1 103 Early Hints\r\n\r\n" + answer())).data == PNG


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (answer(status="404 Not Found"), "the server answered 404"),
        (answer(status="500 Oh"), "the server answered 500"),
        (answer(status="206 Partial Content"), "the server answered 206"),
        (answer(b""), "it is empty"),
        (answer(content_type="text/html"), "it is 'text/html', no picture"),
        (answer(content_type=""), "it is '', no picture"),
        (answer(gzip.compress(PNG), content_encoding="gzip"), "it is compressed"),
        (answer(content_length="200"), "could not be fetched"),
        (answer(b"zz\r\n", content_length="", transfer_encoding="chunked"), "could not be fetched"),
        (b"", "could not be fetched"),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "could not be fetched"),
        (b"HTTP/1.1 200 OK\r\n" + b"x: " + b"y" * 200_000, "could not be fetched"),
        (answer(content_length="5, 6"), "could not be fetched"),
    ],
)
def test_what_is_no_picture(serve: Callable[..., Answers], sent: bytes, words: str) -> None:
    with pytest.raises(Unreachable, match=words) as caught:
        get(serve(sent))
    assert (caught.value.code, caught.value.details["param"]) == ("invalid_image_url", "image")


@pytest.mark.parametrize("kind", ["audio/mpeg", "video/mp4", "application/ogg", "application/octet-stream"])
def test_a_sound_comes_with_its_type(serve: Callable[..., Answers], kind: str) -> None:
    server = serve(answer(content_type=kind))
    assert get(server, kind=SOUND) == File(PNG, "" if "octet" in kind else kind)
    assert b"accept: audio/*, video/*, application/ogg\r\n" in server.requests[0].lower()


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (answer(), "it is 'image/png', no sound"),
        (answer(content_type="text/html"), "it is 'text/html', no sound"),
        (answer(content_type="application/vnd.apple.mpegurl"), "no sound"),
        (answer(status="404 Not Found"), "the server answered 404"),
        (answer(b"", content_type="audio/wav"), "it is empty"),
        (moved("file:///etc/passwd"), "is no http or https URL"),
    ],
)
def test_what_is_no_sound(serve: Callable[..., Answers], sent: bytes, words: str) -> None:
    with pytest.raises(Fault, match=words) as caught:
        get(serve(sent), kind=SOUND)
    assert caught.value.details["param"] == "image"
    if isinstance(caught.value, Unreachable):
        assert caught.value.code == "invalid_audio_url"
        assert "Send the sound as a data: URL." in str(caught.value)


def test_more_than_the_limit_is_refused_as_soon_as_it_is_known(serve: Callable[..., Answers]) -> None:
    for server in (
        serve(answer(b"", content_length=str(LIMIT + 1)), hold=True),
        serve(answer(b"x" * 200_000, content_length="", connection="close"), hold=True),
    ):
        with pytest.raises(TooLarge, match=f"more than {LIMIT} bytes"):
            get(server)
    assert len(get(serve(answer(b"x" * LIMIT))).data) == LIMIT


def test_what_has_come_is_told_as_it_comes(serve: Callable[..., Answers]) -> None:
    server, told = serve(answer()), list[int]()
    url = f"http://pictures.test:{server.port}/"
    asyncio.run(web(server.port).get(url, "image", LIMIT, told.append))
    assert sum(told) == len(PNG)


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\ncontent-ty", answer(b"", content_length="100")])
def test_one_that_stays_away_is_given_up(serve: Callable[..., Answers], sent: bytes) -> None:
    with pytest.raises(Unreachable, match=r"did not come within 0\.05 seconds"):
        get(serve(sent, hold=True), limit_s=0.05)


def test_nobody_there(serve: Callable[..., Answers]) -> None:
    server = serve(b"")
    server.close()
    with pytest.raises(Unreachable, match="could not be fetched"):
        get(server)
    with pytest.raises(Unreachable, match="not known"):
        get(server, host="nobody.test")


def test_a_private_address_is_never_connected_to(serve: Callable[..., Answers]) -> None:
    with pytest.raises(WrongValue, match=r"'inside\.test' has no public address"):
        get(serve(answer()), host="inside.test")


def test_this_machine_is_no_public_address(serve: Callable[..., Answers]) -> None:
    server = serve(answer())
    for host in ("127.0.0.1", "localhost", "0.0.0.0", "2130706433", "0x7f.1", "127.1"):
        web = Web((f"{host}:{server.port}",))
        asked = web.get(f"http://{host}:{server.port}/", "image", LIMIT, lambda size: None)
        with pytest.raises((WrongValue, Unreachable)):  # the latter where the system cannot read it
            asyncio.run(asked)
    assert server.requests == []


def test_a_name_is_looked_up_once_and_what_was_checked_is_connected_to(serve: Callable[..., Answers]) -> None:
    server, asked = serve(answer()), list[str]()

    async def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["10.0.0.1", "127.0.0.1"] if len(asked) == 1 else ["10.0.0.1"]

    web = Web((f"moves.test:{server.port}",), 20, rebinding, lambda address: address == "127.0.0.1")
    url = f"http://moves.test:{server.port}/"
    assert asyncio.run(web.get(url, "image", LIMIT, lambda size: None)).data == PNG
    assert asked == ["moves.test"]
    with pytest.raises(WrongValue, match="no public address"):
        asyncio.run(web.get(url, "image", LIMIT, lambda size: None))
    assert len(server.requests) == 1


def test_the_next_address_is_tried(serve: Callable[..., Answers]) -> None:
    server = serve(answer())

    async def two(host: str, port: int) -> list[str]:
        return ["127.0.0.2", "127.0.0.1"]

    web = Web((f"two.test:{server.port}",), 20, two, lambda address: address.startswith("127."))
    url = f"http://two.test:{server.port}/"
    assert asyncio.run(web.get(url, "image", LIMIT, lambda size: None)).data == PNG


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
def test_redirects_are_followed(serve: Callable[..., Answers], status: str) -> None:
    def route(request: bytes) -> bytes:
        return answer() if request.startswith(b"GET /b/c.png") else moved("../b/c.png", status)

    assert get(serve(route), "/a/a.png").data == PNG


def test_a_redirect_for_ever(serve: Callable[..., Answers]) -> None:
    server = serve(moved("/a.png"))
    with pytest.raises(Unreachable, match=f"redirected more than {REDIRECTS} times"):
        get(server)
    assert len(server.requests) == REDIRECTS + 1


@pytest.mark.parametrize(
    ("to", "words"),
    [
        ("http://inside.test:PORT/", "'inside.test' has no public address"),
        ("http://other.test:PORT/", "nothing is fetched from 'other.test:PORT'"),
        ("http://pictures.test:22/", "nothing is fetched from 'pictures.test:22'"),
        ("http://a:b@pictures.test:PORT/", "names a user"),
        ("file:///etc/passwd", "is no http or https URL"),
        ("gopher://pictures.test:PORT/", "is no http or https URL"),
        ("//[::1]:PORT/", "nothing is fetched from '::1:PORT'"),
        ("http://[", "it was redirected to 'http://[', which is no URL"),
        ("http://a..b/", "is none"),
        ("http://pictures.test:PORT/a b", "is none"),
    ],
)
def test_a_redirect_is_checked_as_the_first_url_was(serve: Callable[..., Answers], to: str, words: str) -> None:
    port: list[str] = []
    server = serve(lambda request: moved(to.replace("PORT", port[0])))
    port.append(str(server.port))
    with pytest.raises(Fault) as caught:
        get(server)
    assert words.replace("PORT", port[0]) in caught.value.message
    assert caught.value.details["param"] == "image"
    assert len(server.requests) == 1


def test_a_certificate_is_checked_for_the_name_that_was_asked(serve: Callable[..., Answers]) -> None:
    server = serve(answer(), secure=True)
    trusting = ssl.create_default_context(cafile=str(CERTIFICATE))
    url = f"https://pictures.test:{server.port}/"

    async def ask(context: ssl.SSLContext | None, name: str = "pictures.test") -> File:
        hosts = (f"{name}:{server.port}",)
        found = Web(hosts, 20, lambda host, port: _resolve("pictures.test", port), lambda at: True, context)
        return await found.get(url.replace("pictures.test", name), "image", LIMIT, lambda size: None)

    assert asyncio.run(ask(trusting)).data == PNG
    for wrong in (ask(None), ask(trusting, "other.test")):
        with pytest.raises(Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
            asyncio.run(wrong)
    assert len(server.requests) == 1
