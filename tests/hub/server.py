"""A hub on loopback, as huggingface_hub sees one: listings, files behind a redirect, ranges, accounts, failures.

After https://huggingface.co/docs/hub/api and the answers that huggingface_hub reads: `X-Error-Code`, `X-Repo-Commit`,
`X-Linked-Etag`, `X-Linked-Size`, `Retry-After`.
"""

from __future__ import annotations

import hashlib
import json
import socket
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

PAGE = 2
"""Files on one page of a tree."""
LARGE = 1 << 10
"""From this size on a file has a SHA-256, as git-lfs and xet files have; smaller ones only git's id."""
BLOCK = 64 << 10
TOKEN = "hf_loopbackloopbackloopbackloopback"


@dataclass
class Content:
    """One file: bytes, or a file on disk."""

    data: bytes | Path
    claimed_size: int | None = None
    """What the listing says instead of the truth."""

    @cached_property
    def size(self) -> int:
        return len(self.data) if isinstance(self.data, bytes) else self.data.stat().st_size

    def read(self, start: int, count: int) -> bytes:
        if isinstance(self.data, bytes):
            return self.data[start : start + count]
        with self.data.open("rb") as file:
            file.seek(start)
            return file.read(count)

    @cached_property
    def sha256(self) -> str:
        return self._sum(hashlib.sha256())

    @cached_property
    def blob(self) -> str:
        return self._sum(hashlib.sha1(b"blob %d\0" % self.size))

    def _sum(self, digest: Any) -> str:
        for start in range(0, self.size, 1 << 20):
            digest.update(self.read(start, 1 << 20))
        return str(digest.hexdigest())


@dataclass
class Repository:
    """One model repository in one revision."""

    files: dict[str, Content]
    sha: str = "0123456789abcdef0123456789abcdef01234567"
    gated: bool = False
    readers: tuple[str, ...] = ()
    """Tokens that may read a gated one."""
    branches: tuple[str, ...] = ("main",)
    sized: bool = True
    """Whether the listing states sizes and checksums; mirrors of the hub leave them to the tree."""


@dataclass
class Trouble:
    """What goes wrong for requests whose path contains `path`, `times` times."""

    path: str
    times: int = 1
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    """Bytes after which the connection is cut."""
    stall_after: int | None = None
    """Bytes after which nothing comes any more."""
    spoil: bool = False
    """Other bytes than the file has."""
    ignore_range: bool = False
    body: bytes = b"{}"


class LoopbackHub:
    """The hub; `with` starts and stops it."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.accounts: dict[str, str] = {TOKEN: "tester"}
        self.troubles: list[Trouble] = []
        self.served: Counter[str] = Counter()
        """Bytes of content sent, by file name."""
        self.requests: list[tuple[str, str, Mapping[str, str]]] = []
        self.stall_listing = False
        self.rate: float = 0
        """Bytes a second of one transfer; 0: no limit."""
        self.most_at_once = self._sending = 0
        """Transfers of content that ran beside each other."""
        self.unlimited = 0
        """Bytes of content, of all that is sent, before the rate is kept."""
        self.sent = threading.Condition()
        """Notified after each block of content."""
        self.closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> LoopbackHub:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def add(self, name: str, files: Mapping[str, bytes | Path], **more: Any) -> Repository:
        repository = Repository({key: Content(data) for key, data in files.items()}, **more)
        self.repositories[name] = repository
        return repository

    def trouble(self, path: str, **more: Any) -> None:
        self.troubles.append(Trouble(path, **more))

    @property
    def bytes_served(self) -> int:
        return sum(self.served.values())

    def count(self, name: str, size: int) -> None:
        with self.sent:
            self.served[name] += size
            self.sent.notify_all()

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Around a transfer: counts how many there are at once."""
        with self.sent:
            self._sending += 1
            self.most_at_once = max(self.most_at_once, self._sending)
        try:
            yield
        finally:
            with self.sent:
                self._sending -= 1

    def wait_for_bytes(self, count: int, timeout_s: float = 30) -> None:
        """Until *count* bytes of content have been sent in all."""
        with self.sent:
            assert self.sent.wait_for(lambda: self.bytes_served >= count, timeout_s), self.bytes_served

    def asked(self, part: str) -> list[Mapping[str, str]]:
        """Headers of the requests whose path contains *part*."""
        return [headers for _, path, headers in self.requests if part in path]

    def take_trouble(self, path: str) -> Trouble | None:
        for trouble in self.troubles:
            if trouble.path in path and trouble.times > 0:
                trouble.times -= 1
                return trouble
        return None


def _handler(hub: LoopbackHub) -> type[BaseHTTPRequestHandler]:
    class Handler(_Handler):
        pass

    Handler.hub = hub
    return Handler


class _Handler(BaseHTTPRequestHandler):
    hub: LoopbackHub
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        # What lies in the kernel's buffers when a client is killed would count as sent.
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BLOCK)
        super().setup()

    def do_HEAD(self) -> None:
        self._serve()

    def do_GET(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        path = unquote(parts.path)
        self.hub.requests.append((self.command, path, {name.lower(): value for name, value in self.headers.items()}))
        trouble = self.hub.take_trouble(path)
        try:
            if trouble and trouble.status:
                self._answer(trouble.status, trouble.body, trouble.headers)
            elif path == "/api/whoami-v2":
                self._whoami()
            elif path == "/api/models":
                self._search(parse_qs(parts.query).get("search", [""])[0])
            elif path.startswith("/api/models/") and self.hub.stall_listing:
                self.hub.closing.wait(60)
                self.close_connection = True
            elif path.startswith("/api/models/") and "/tree/" in path:
                place = int(parse_qs(parts.query).get("cursor", ["0"])[0])
                self._tree(path.removeprefix("/api/models/").partition("/tree/")[0], place)
            elif path.startswith("/api/models/"):
                self._info(path.removeprefix("/api/models/"))
            elif path.startswith("/cdn/"):
                self._content(path.removeprefix("/cdn/"), trouble)
            elif "/resolve/" in path:
                self._resolve(path[1:], trouble)
            else:
                self._refuse(404, "EntryNotFound")
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    @property
    def token(self) -> str:
        return str(self.headers.get("Authorization", "")).removeprefix("Bearer ")

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, data: Any) -> None:
        self._answer(200, json.dumps(data).encode())

    def _refuse(self, status: int, code: str = "", message: str = "") -> None:
        headers = {name: value for name, value in (("X-Error-Code", code), ("X-Error-Message", message)) if value}
        self._answer(status, json.dumps({"error": message or code}).encode(), headers)

    def _whoami(self) -> None:
        name = self.hub.accounts.get(self.token)
        if name is None:
            self._refuse(401, "", "Invalid credentials in Authorization header")
            return
        access = {"accessToken": {"displayName": "laptop", "role": "read"}}
        self._json({"type": "user", "name": name, "auth": {"type": "access_token", **access}})

    def _search(self, text: str) -> None:
        near = [name for name in sorted(self.hub.repositories) if text.casefold()[:4] in name.casefold()]
        self._json([{"id": name, "modelId": name} for name in near])

    def _tree(self, name: str, place: int) -> None:
        found = self.hub.repositories[name]
        files: list[dict[str, Any]] = [{"type": "directory", "oid": found.sha, "size": 0, "path": "a-folder"}]
        files += [_leaf(name, content) for name, content in found.files.items()]
        more = place + PAGE < len(files)
        link = f'<{self.hub.endpoint}/api/models/{name}/tree/{found.sha}?cursor={place + PAGE}>; rel="next"'
        self._answer(200, json.dumps(files[place : place + PAGE]).encode(), {"Link": link} if more else {})

    def _info(self, path: str) -> None:
        name, _, revision = path.partition("/revision/")
        found = self.hub.repositories.get(name)
        if self.token and self.token not in self.hub.accounts:
            self._refuse(401, "", "Invalid credentials in Authorization header")
        elif found is None:
            self._refuse(401 if not self.token else 404, "RepoNotFound", "Repository not found")
        elif revision and revision not in (*found.branches, found.sha):
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        else:
            self._json({
                "_id": "1", "id": name, "modelId": name, "sha": found.sha, "private": False, "tags": [],
                "gated": "manual" if found.gated else False,
                "siblings": [
                    _sibling(name, content) if found.sized else {"rfilename": name}
                    for name, content in found.files.items()
                ],
            })  # fmt: skip

    def _resolve(self, path: str, trouble: Trouble | None) -> None:
        name, _, rest = path.partition("/resolve/")
        revision, _, file = rest.partition("/")
        found = self.hub.repositories.get(name)
        if found is None or revision not in (*found.branches, found.sha):
            self._refuse(404, "RepoNotFound" if found is None else "RevisionNotFound")
        elif found.gated and self.token not in found.readers:
            self._refuse(403 if self.token else 401, "GatedRepo", f"Access to model {name} is restricted.")
        elif file not in found.files:
            self._refuse(404, "EntryNotFound", f"Entry not found: {file}")
        elif found.files[file].size < LARGE:
            self._content(f"{name}//{file}", trouble)
        else:
            content = found.files[file]
            self._answer(302, b"", {
                "Location": f"http://localhost:{self.hub.port}/cdn/{name}//{file}", "X-Repo-Commit": found.sha,
                "X-Linked-Etag": f'"{content.sha256}"', "X-Linked-Size": str(content.size),
            })  # fmt: skip

    def _content(self, path: str, trouble: Trouble | None) -> None:
        name, _, file = path.partition("//")
        content = self.hub.repositories[name].files[file]
        trouble = trouble or Trouble("")
        start, end = _range(self.headers.get("Range", ""), content.size)
        if trouble.ignore_range:
            start, end = 0, content.size
        if start >= content.size > 0:
            self._answer(416, b"", {"Content-Range": f"bytes */{content.size}"})
            return
        partial = "Range" in self.headers and not trouble.ignore_range
        self.send_response(206 if partial else 200)
        if partial:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{content.size}")
        self.send_header("Content-Length", str(end - start))
        self.send_header("ETag", f'"{content.sha256}"')
        self.end_headers()
        if self.command != "HEAD":
            with self.hub.sending():
                self._send(file, content, start, end, trouble)

    def _send(self, file: str, content: Content, start: int, end: int, trouble: Trouble) -> None:
        place = start
        while place < end:
            room = min(end - place, BLOCK)
            for limit in (trouble.cut_after, trouble.stall_after):
                room = room if limit is None else min(room, start + limit - place)
            if room <= 0:
                self._end_early(trouble)
                return
            data = content.read(place, room)
            self.wfile.write(bytes(byte ^ 1 for byte in data) if trouble.spoil else data)
            self.hub.count(file, len(data))
            place += len(data)
            if self.hub.rate and self.hub.bytes_served > self.hub.unlimited:
                self.hub.closing.wait(len(data) / self.hub.rate)

    def _end_early(self, trouble: Trouble) -> None:
        self.wfile.flush()
        if trouble.stall_after is not None:
            self.hub.closing.wait(60)
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


def _sibling(name: str, content: Content) -> dict[str, Any]:
    size = content.size if content.claimed_size is None else content.claimed_size
    facts: dict[str, Any] = {"rfilename": name, "size": size, "blobId": content.blob}
    if content.size >= LARGE:
        facts["lfs"] = {"sha256": content.sha256, "size": size, "pointerSize": 134}
    return facts


def _leaf(name: str, content: Content) -> dict[str, Any]:
    facts: dict[str, Any] = {"type": "file", "oid": content.blob, "size": content.size, "path": name}
    if content.size >= LARGE:
        facts["lfs"] = {"oid": content.sha256, "size": content.size, "pointerSize": 134}
    return facts


def _range(header: str, size: int) -> tuple[int, int]:
    first, _, last = header.removeprefix("bytes=").partition("-")
    if not first:
        return 0, size
    return int(first), min(size, int(last) + 1) if last else size
