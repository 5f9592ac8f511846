"""Fetches a file by its URL, from public addresses only: the one that is connected to is the one that was checked.

It goes neither through proxies nor through caches, and bounds time, size, type and redirects. Clients such as httpx
look names up by themselves, after anything that could be checked.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from socket import SOCK_STREAM
from typing import NoReturn
from urllib.parse import quote, urljoin, urlsplit

import h11

from anyform import __version__
from anyform.contract.errors import Invalid
from anyform.http.fields import wrong
from anyform.http.media import PICTURE, SOUND, File, Kind, too_large

REDIRECTS = 3
URL = 4096
"""Letters of a URL."""
PIECE = 64 * 1024
PORTS = {"http": 80, "https": 443}
MOVED = (301, 302, 303, 307, 308)
UNTYPED = ("application/octet-stream", "binary/octet-stream")
"""What some stores say of any file."""
SAFE = "/%:@!$&'()*+,;=~-._?"

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""The addresses of a host, for a port."""
Take = Callable[[int], None]
"""Told of bytes as they come; raises when they are too many."""

_PUBLIC_6 = IPv6Network("2000::/3")
_NOT_PUBLIC = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
            "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24",
            "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
        ),
    )
)  # fmt: skip


def is_public(address: str) -> bool:
    """Whether *address* is one of the public internet, by IANA's registries of special-purpose addresses.

    https://www.iana.org/assignments/iana-ipv4-special-registry, iana-ipv6-special-registry. Of IPv6 only what is global
    unicast (2000::/3) is, less what carries an IPv4 address (6to4, Teredo); NAT64, mapped and scoped ones are outside.
    """
    try:
        at = ip_address(address)
    except ValueError:
        return False
    if at.version == 6 and (at not in _PUBLIC_6 or "%" in address):
        return False
    same = (IPv4Network if at.version == 4 else IPv6Network,)
    return not any(at in network for network in _NOT_PUBLIC if isinstance(network, same))


async def resolve(host: str, port: int) -> list[str]:
    """What the system says; each address once. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=SOCK_STREAM)
    return list(dict.fromkeys(str(item[4][0]) for item in found))


class Unreachable(Invalid):
    """A picture that could not be fetched."""

    code = "invalid_image_url"


class UnreachableSound(Unreachable):
    """A sound that could not be fetched."""

    code = "invalid_audio_url"


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where one request goes."""

    url: str
    secure: bool
    host: str
    port: int
    path: str
    """With its query."""

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS["https" if self.secure else "http"] else f"{host}:{self.port}"


@dataclass(frozen=True)
class _Wish:
    """What one field of a request wants."""

    param: str
    limit: int
    take: Take
    kind: Kind

    def failed(self, url: str, why: str) -> NoReturn:
        """Say that it cannot be had."""
        fault = UnreachableSound if self.kind is SOUND else Unreachable
        told = f"'{url[:200]}' could not be fetched: {why}."
        raise fault(told, f"Send the {self.kind.noun} as a data: URL.", param=self.param)


@dataclass(frozen=True, kw_only=True)
class _Answer:
    status: int
    location: str = ""
    media_type: str = ""
    data: bytes = b""


class Web:
    """Fetches files from the hosts that it may ask."""

    def __init__(
        self,
        hosts: tuple[str, ...] = (),
        limit_s: float = 10,
        resolve: Resolve = resolve,
        permits: Callable[[str], bool] = is_public,
        context: ssl.SSLContext | None = None,
    ) -> None:
        """*hosts*: names, `*.name`, each maybe with a `:port`; empty: every one that is public, at the usual ports.

        *limit_s*: for one file in all. *permits*: whether an address may be connected to. *context*: for https.
        """
        self._hosts = {host.lower() for host in hosts}
        self._limit_s = limit_s
        self._resolve, self._permits, self._context = resolve, permits, context

    def judge(self, url: str, param: str) -> Target:
        """Where *url* leads, if it may be asked at all. Raises Invalid."""
        if len(url) > URL or not url.isprintable() or " " in url:
            wrong(
                param, f"the URL '{url[:60]}' is none", f"It has at most {URL} letters, and none that are not printed."
            )
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").encode("idna").decode("ascii"), parts.port
        except ValueError:  # UnicodeError is one
            wrong(param, f"the URL '{url[:60]}' is none")
        scheme = parts.scheme.lower()
        if scheme not in PORTS or not host:
            wrong(param, f"'{url[:60]}' is no http or https URL")
        if "@" in parts.netloc:
            wrong(param, "the URL names a user", "Leave name and password out.")
        port = PORTS[scheme] if port is None else port
        if not self._allows(host, port, port == PORTS[scheme]):
            wrong(param, f"nothing is fetched from '{host}:{port}'", "fetch_hosts in [server] says what is allowed.")
        path = quote(parts.path or "/", SAFE) + (f"?{quote(parts.query, SAFE)}" if parts.query else "")
        return Target(url=url, secure=scheme == "https", host=host, port=port, path=path)

    def _allows(self, host: str, port: int, usual: bool) -> bool:
        if not self._hosts:
            return usual
        names = [host, *(f"*{host[at:]}" for at, letter in enumerate(host) if letter == ".")]
        return any((usual and name in self._hosts) or f"{name}:{port}" in self._hosts for name in names)

    async def get(self, url: str, param: str, limit: int, take: Take, kind: Kind = PICTURE) -> File:
        """The file at *url*, of at most *limit* bytes. Raises Invalid, TooLarge."""
        wish = _Wish(param, limit, take, kind)
        try:
            async with asyncio.timeout(self._limit_s):
                return await self._follow(url, wish)
        except TimeoutError:
            wish.failed(url, f"it did not come within {self._limit_s:g} seconds")
        except (OSError, h11.ProtocolError) as error:
            wish.failed(url, str(error) or type(error).__name__)

    async def _follow(self, url: str, wish: _Wish) -> File:
        answer = await self._ask(target := self.judge(url, wish.param), wish)
        for _ in range(REDIRECTS):
            if answer.status not in MOVED:
                break
            target = self.judge(_joined(target.url, answer.location, wish), wish.param)
            answer = await self._ask(target, wish)
        return self._file(answer, target, wish)

    def _file(self, answer: _Answer, target: Target, wish: _Wish) -> File:
        if answer.status in MOVED:
            wish.failed(target.url, f"it was redirected more than {REDIRECTS} times")
        if answer.status != 200:
            wish.failed(target.url, f"the server answered {answer.status}")
        if not answer.data:
            wish.failed(target.url, "it is empty")
        typed = answer.media_type.startswith(wish.kind.types)
        return File(answer.data, answer.media_type if typed else "")

    async def _ask(self, target: Target, wish: _Wish) -> _Answer:
        reader, writer = await self._connect(target, wish.param)
        try:
            exchange = _Exchange(target, wish)
            writer.write(exchange.request())
            await writer.drain()
            return await exchange.answer(reader)
        finally:
            writer.transport.abort()

    async def _connect(self, target: Target, param: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        addresses = [one for one in await self._resolve(target.host, target.port) if self._permits(one)]
        if not addresses:
            wrong(param, f"'{target.host}' has no public address", "Nothing is fetched from private ones.")
        secure = await self._certificates() if target.secure else None
        name = target.host if target.secure else None
        for address in addresses[:-1]:
            try:
                return await asyncio.open_connection(address, target.port, ssl=secure, server_hostname=name)
            except OSError:
                continue
        return await asyncio.open_connection(addresses[-1], target.port, ssl=secure, server_hostname=name)

    async def _certificates(self) -> ssl.SSLContext:
        """What the system trusts; read once, which takes a while."""
        if self._context is None:
            self._context = await asyncio.to_thread(ssl.create_default_context)
        return self._context


class _Exchange:
    """One request and its answer, on a connection of its own."""

    def __init__(self, target: Target, wish: _Wish) -> None:
        self._target, self._wish = target, wish
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=PIECE)

    def request(self) -> bytes:
        headers = {
            "Host": self._target.authority,
            "User-Agent": f"anyform/{__version__}",
            "Accept": ", ".join(f"{one}*" if one.endswith("/") else one for one in self._wish.kind.types),
            "Accept-Encoding": "identity",
            "Connection": "close",
        }
        sent = self._http.send(h11.Request(method="GET", target=self._target.path, headers=list(headers.items())))
        self._http.send(h11.EndOfMessage())
        return sent or b""

    async def answer(self, reader: asyncio.StreamReader) -> _Answer:
        """The whole of it; of one that is not what is wanted only the head."""
        head, data = None, bytearray()
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                self._http.receive_data(await reader.read(PIECE))
            elif isinstance(event, h11.Response):
                head = self._head(event)
                if head.status != 200:
                    return head
            elif isinstance(event, h11.Data):
                data += event.data
                self._wish.take(len(event.data))
                if len(data) > self._wish.limit:
                    self._too_large()
            elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed) and head is not None:
                return _Answer(status=head.status, media_type=head.media_type, data=bytes(data))

    def _head(self, response: h11.Response) -> _Answer:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in response.headers}
        media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        if response.status_code == 200:
            kind = self._wish.kind
            if not media_type.startswith(kind.types) and media_type not in UNTYPED:
                self._wish.failed(self._target.url, f"it is '{media_type[:60]}', no {kind.noun}")
            if headers.get("content-encoding", "identity").strip().lower() != "identity":
                self._wish.failed(self._target.url, "it is compressed, which was not asked for")
            length = headers.get("content-length", "")
            if length.isdigit() and int(length[:20]) > self._wish.limit:
                self._too_large()
        return _Answer(status=response.status_code, location=headers.get("location", ""), media_type=media_type)

    def _too_large(self) -> NoReturn:
        too_large(self._wish.param, self._wish.limit)


def _joined(url: str, location: str, wish: _Wish) -> str:
    try:
        return urljoin(url, location)
    except ValueError:
        wish.failed(url, f"it was redirected to '{location[:60]}', which is no URL")
