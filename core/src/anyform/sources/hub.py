"""One hub over HTTP, through huggingface_hub: what a repository holds, and its bytes. Writes nothing.

huggingface_hub is imported when something is first asked: its import takes a quarter of a second. What it downloads by
itself cannot be cancelled and starts anew where a kill hit it, so bytes are streamed here, through its session.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import PurePosixPath
from typing import Any, TypeVar

from anyform.contract.errors import Fault
from anyform.contract.facts import fact
from anyform.contract.model import Stop
from anyform.sources import hubfault
from anyform.sources.hubfault import HubFault, RepositoryMissing
from anyform.sources.hubname import Reference

T = TypeVar("T")
TOLD_S = 2.0
"""Waits from this length on are told of."""

log = logging.getLogger("anyform.hub")


@fact
class Patience:
    """How long to try."""

    tries: int = 5
    """In a row without any progress."""
    wait_s: float = 0.5
    """Before the second try; doubled before each further one."""
    longest_s: float = 8.0
    silence_s: float | None = None
    """How long the hub may be silent; None: HF_HUB_DOWNLOAD_TIMEOUT, else 10."""

    def before(self, attempt: int, stated_s: float) -> float:
        """Seconds to wait before try *attempt* (2, 3, ...); *stated_s*: what the hub asked for, 0 for nothing."""
        return stated_s or min(self.longest_s, self.wait_s * 2.0 ** (attempt - 2))


@fact
class HubFile:
    """One file of a repository, as the hub describes it."""

    name: str
    size: int
    sha256: str = ""
    """Of large files; empty: `blob` identifies the content."""
    blob: str = ""
    """Git's id of the content."""

    @property
    def digest(self) -> str:
        """What names the content."""
        return self.sha256 or self.blob


@fact
class Listing:
    """A repository in one state."""

    repository: str
    revision: str
    """The commit."""
    files: Mapping[str, HubFile]


class Hub:
    """One hub. Safe between threads. Every method raises a `HubFault` where the hub fails, in words."""

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        offline: bool = False,
        token: str | bool | None = None,
        patience: Patience | None = None,
    ) -> None:
        """*endpoint*: None for HF_ENDPOINT. *token*: None for HF_TOKEN or the stored one, False for none."""
        self._endpoint, self._offline, self._token = endpoint, offline, token
        self.patience = patience or Patience()

    @property
    def endpoint(self) -> str:
        from huggingface_hub import constants

        return (self._endpoint or constants.ENDPOINT).rstrip("/")

    @property
    def silence_s(self) -> float:
        from huggingface_hub import constants

        return self.patience.silence_s or float(constants.HF_HUB_DOWNLOAD_TIMEOUT)

    def listing(self, reference: Reference, stop: Stop | None = None) -> Listing:
        """The files of a repository. Raises RepositoryMissing with the nearest names, Gated, HubOffline, ..."""
        repository = reference.repository

        def ask() -> tuple[str, list[HubFile]]:
            from huggingface_hub import HfApi

            api = HfApi(endpoint=self.endpoint, token=self._token)
            info = api.model_info(repository, revision=reference.revision, files_metadata=True, timeout=self.silence_s)
            return str(info.sha), _files(api, info)

        try:
            revision, files = self.persistently(ask, repository, stop=stop)
        except RepositoryMissing as fault:
            near = self._similar(repository) if "no model repository" in fault.message else ()
            raise (hubfault.missing(repository, self.endpoint, near) if near else fault) from None
        return Listing(
            repository=repository,
            revision=revision,
            files={file.name: file for file in sorted(files, key=lambda file: file.name) if is_inside(file.name)},
        )

    def read(self, listing: Listing, name: str, start: int, end: int, stop: Stop | None = None) -> bytes:
        """Bytes *start* to *end* (exclusive) of a file, in memory; fewer when the file is shorter."""

        def ask() -> bytes:
            data = bytearray()
            with self.opened(listing, name, start, end) as pieces:
                for piece in pieces:
                    data += piece
                    if len(data) >= end - start:  # a hub that ignores the range would go on to the file's end
                        break
            return bytes(data[: end - start])

        return self.persistently(ask, listing.repository, name, stop)

    @contextmanager
    def opened(
        self, listing: Listing, name: str, start: int = 0, end: int | None = None, stop: Stop | None = None
    ) -> Iterator[Iterator[bytes]]:
        """The bytes of a file from *start* on, in pieces. *stop* cuts the connection. One try; faults say `again`.

        A hub that ignores the range gives the bytes from 0 on: they are passed over here.
        """
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

        self.require_online(f"{name} of {listing.repository}")
        url = hf_hub_url(listing.repository, name, revision=listing.revision, endpoint=self.endpoint)
        headers = {**build_hf_headers(token=self._token), "Accept-Encoding": "identity"}
        if start or end is not None:
            headers["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        try:
            with get_session().stream("GET", url, headers=headers, timeout=self.silence_s) as response:
                if stop is not None:
                    stop.when_set(lambda: _cut(response))
                hf_raise_for_status(response)
                _check_size(response, listing, name)
                skipped = 0 if response.status_code == 206 else start
                yield _pieces(response, skipped)
        except Fault:
            raise
        except Exception as error:
            if stop is not None and stop.is_set():
                raise hubfault.stopped(listing.repository) from None
            raise hubfault.translated(error, listing.repository, self.endpoint, name) from None

    def persistently(self, ask: Callable[[], T], repository: str, name: str = "", stop: Stop | None = None) -> T:
        """The result of *ask*, tried again where that may help."""
        attempt = 1
        while True:
            self.require_online(f"{name} of {repository}" if name else repository)
            try:
                return ask()
            except Exception as error:
                fault = hubfault.translated(error, repository, self.endpoint, name)
                attempt += 1
                self.pause(fault, attempt, repository, stop)

    def pause(self, fault: Fault, attempt: int, repository: str, stop: Stop | None) -> None:
        """Wait before try *attempt*; raises *fault* where no further try is worth it, Cancelled when stopped."""
        if not isinstance(fault, HubFault) or not fault.again or attempt > self.patience.tries:
            raise fault from None
        wait_s = self.patience.before(attempt, float(fault.details.get("retry_after_s", 0)))
        if wait_s >= TOLD_S:
            log.warning("%s Trying again in %.0f s.", fault.message, wait_s)
        if (stop or Stop()).wait(wait_s):
            raise hubfault.stopped(repository)

    def require_online(self, what: str) -> None:
        """Raises HubOffline where the user said so."""
        from huggingface_hub import constants

        if self._offline or constants.HF_HUB_OFFLINE:
            raise hubfault.offline(what)

    def account(self, token: str | None = None) -> Mapping[str, Any]:
        """What the hub knows of the *token*'s owner (None: the token in use). Raises TokenRefused."""
        from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

        def ask() -> Any:
            headers = build_hf_headers(token=token or self._token or True)
            response = get_session().get(f"{self.endpoint}/api/whoami-v2", headers=headers, timeout=self.silence_s)
            hf_raise_for_status(response)
            return response.json()

        answer = self.persistently(ask, "the account")
        return answer if isinstance(answer, dict) else {}

    def _similar(self, repository: str) -> tuple[str, ...]:
        """Up to three repositories of such a name; empty where the hub does not say."""
        from huggingface_hub.utils import build_hf_headers, get_session

        with suppress(Exception):
            response = get_session().get(
                f"{self.endpoint}/api/models",
                params={"search": repository.partition("/")[2], "limit": 3},
                headers=build_hf_headers(token=self._token),
                timeout=self.silence_s,
            )
            return tuple(str(found["id"]) for found in response.json()[:3])
        return ()


def is_inside(name: str) -> bool:
    """Whether *name* is a plain relative path: a hub must not say where else on this machine a file goes."""
    parts = PurePosixPath(name).parts
    plain = name.isprintable() and not set(name) & set('\\:*?"<>|')
    return bool(parts) and plain and not name.startswith("/") and not {"..", "."} & set(parts)


def _files(api: Any, info: Any) -> list[HubFile]:
    """The files of a repository; by its tree, page by page, from a hub that states no sizes beside their names."""
    siblings = info.siblings or ()
    if all(sibling.size is not None for sibling in siblings):
        return [_file(sibling.rfilename, sibling) for sibling in siblings]
    tree = api.list_repo_tree(info.id, recursive=True, revision=info.sha)
    return [_file(item.path, item) for item in tree if hasattr(item, "blob_id")]


def _file(name: str, facts: Any) -> HubFile:
    return HubFile(
        name=name,
        size=int(facts.size),
        sha256=str(facts.lfs.sha256) if facts.lfs else "",
        blob=str(facts.blob_id or ""),
    )


def _check_size(response: Any, listing: Listing, name: str) -> None:
    """Raise Corrupt for an answer that cannot be the whole file, before its bytes are fetched."""
    told = response.headers.get("content-range", "").rpartition("/")[2]
    if response.status_code == 200:
        told = response.headers.get("content-length", "")
    expected = listing.files[name].size
    if told.isdecimal() and int(told) != expected:
        raise hubfault.Corrupt(
            f"{name} of {listing.repository} has {told} bytes where the hub lists {expected}.",
            "The repository may be changing: pull again later.",
        )


def _pieces(response: Any, skipped: int) -> Iterator[bytes]:
    for piece in response.iter_bytes():
        if skipped:
            piece, skipped = piece[skipped:], max(0, skipped - len(piece))
        if piece:
            yield piece


def _cut(response: Any) -> None:
    """End a transfer from another thread: closing the response itself is its reader's alone."""
    import socket

    with suppress(Exception):
        response.extensions["network_stream"].get_extra_info("socket").shutdown(socket.SHUT_RDWR)
