"""Responses that may be asked for again or gone on from: in memory, bounded in bytes, number and time.

Each holds its own items and refers to the response before it, so a conversation costs every turn once.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from anyform.contract.errors import Area, Category, Fault
from anyform.contract.facts import Severity
from anyform.http.fields import WrongValue
from anyform.http.media import size

MOST = 10_000
"""Responses that are kept at the most, however small."""
LARGE = 32 * 1024
"""Bytes of a conversation from which on it is not read on the event loop."""
OVERHEAD_BYTES = 1024
"""What one takes beside its text, about."""
PREFIX = "resp_"
_ITEM = re.compile(r"[a-z]+_([0-9a-f]+)(i|o)(\d+)")


class ResponseNotFound(Fault):
    """No response, or no item of one, is kept under that id."""

    code = "not_found"
    category, area, severity = Category.NOT_FOUND, Area.REQUEST, Severity.INFO


class PreviousNotFound(WrongValue):
    """The response that a request goes on from is not kept."""

    code = "previous_response_not_found"


@dataclass(slots=True, eq=False)
class Link:
    """One response of a conversation."""

    key: str
    """Its id without the prefix."""
    inputs: bytes
    """The items that its own request brought, as JSON."""
    body: bytes
    """The response, as JSON."""
    before: Link | None = None
    """The response that it goes on from."""
    used: float = 0.0
    """When it was last asked for, on the store's clock."""
    listed: bool = False
    """Whether it can be asked for."""
    after: int = field(default=0, repr=False)
    """How many go on from it that are alive."""

    @property
    def bytes(self) -> int:
        return len(self.inputs) + len(self.body) + OVERHEAD_BYTES

    def brought(self) -> list[dict[str, Any]]:
        """The items of its own request."""
        items: list[dict[str, Any]] = json.loads(self.inputs)
        return items

    def output(self) -> list[dict[str, Any]]:
        """The items of its answer."""
        items: list[dict[str, Any]] = json.loads(self.body)["output"]
        return items

    def chain(self) -> list[Link]:
        """The conversation up to this one, its beginning first."""
        links: list[Link] = []
        at: Link | None = self
        while at is not None:
            links.append(at)
            at = at.before
        return links[::-1]


class Store:
    """Keeps responses; those that nobody asked for longest go first. May be used from any thread."""

    def __init__(
        self, limit_bytes: int, keep_s: float, most: int = MOST, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """*limit_bytes*: of all that are kept, with what they go on from; *keep_s*: after they were last asked for."""
        self.limit_bytes, self.keep_s = limit_bytes, keep_s
        self._most, self._clock = most, clock
        self._links: OrderedDict[str, Link] = OrderedDict()
        self._lock = threading.Lock()
        self.bytes = 0
        """Of all that is alive: kept, or gone on from by what is."""

    @property
    def count(self) -> int:
        """How many can be asked for."""
        return len(self._links)

    def keep(self, link: Link) -> None:
        """Keep *link*, and let go what is over the limits for it; but one that is over them alone is not kept."""
        if sum(at.bytes for at in link.chain()) > self.limit_bytes:
            return
        with self._lock:
            link.used, link.listed = self._clock(), True
            self._links[link.key] = link
            self.bytes += link.bytes
            if link.before is not None:
                link.before.after += 1
                self._revive(link.before)
            self._trim()

    def _revive(self, link: Link | None) -> None:
        """Count again what was let go of while its next response was being made."""
        while link is not None and not link.listed and link.after == 1:
            self.bytes += link.bytes
            link = link.before
            if link is not None:
                link.after += 1

    def get(self, response_id: str) -> Link | None:
        """The response of that id, which counts as a use; None: it is not kept."""
        with self._lock:
            self._trim()
            link = self._links.get(response_id.removeprefix(PREFIX)) if response_id.startswith(PREFIX) else None
            if link is not None:
                link.used = self._clock()
                self._links.move_to_end(link.key)
            return link

    def large(self, response_id: object) -> bool:
        """Whether the conversation up to that response takes so long to read that a thread has to."""
        link = self.get(response_id) if isinstance(response_id, str) else None
        return link is not None and sum(at.bytes for at in link.chain()) > LARGE

    def need(self, response_id: str) -> Link:
        """`get`, or ResponseNotFound."""
        found = self.get(response_id)
        if found is None:
            raise ResponseNotFound(f"Response with id '{response_id[:100]}' not found.", self.hint, param="response_id")
        return found

    def previous(self, response_id: str) -> Link:
        """The response that a request goes on from. Raises PreviousNotFound."""
        found = self.get(response_id)
        if found is None:
            said = f"Previous response with id '{response_id[:100]}' not found."
            hint = f"{self.hint} Send the whole conversation as 'input'."
            raise PreviousNotFound(said, hint, param="previous_response_id")
        return found

    def item(self, item_id: str) -> dict[str, Any] | None:
        """The item of that id, of a response that is kept; None: there is none."""
        found = _ITEM.fullmatch(item_id)
        link = self.get(PREFIX + found[1]) if found else None
        if found is None or link is None:
            return None
        items, at = link.brought() if found[2] == "i" else link.output(), int(found[3])
        return items[at] if at < len(items) else None

    def delete(self, response_id: str) -> None:
        """Forget the response; what goes on from it still has its items. Raises ResponseNotFound."""
        self.need(response_id)
        with self._lock:
            link = self._links.get(response_id.removeprefix(PREFIX))
            if link is not None:
                self._drop(link)

    @property
    def hint(self) -> str:
        """Why one may not be here."""
        if not self.limit_bytes:
            return "This server keeps no responses (responses_bytes is 0)."
        return (
            f"Responses are kept in memory, {size(self.limit_bytes)} of them, for {self.keep_s:g} s after their last "
            "use (responses_bytes, responses_keep_s), not over a restart, and not with 'store': false."
        )

    def _trim(self) -> None:
        oldest = self._clock() - self.keep_s
        while self._links:
            link = next(iter(self._links.values()))
            if self.bytes <= self.limit_bytes and len(self._links) <= self._most and link.used >= oldest:
                return
            self._drop(link)

    def _drop(self, link: Link) -> None:
        """What nothing goes on from is gone, and so is all before it that only it went on from."""
        del self._links[link.key]
        link.listed = False
        at: Link | None = link
        while at is not None and not at.listed and not at.after:
            self.bytes -= at.bytes
            at = at.before
            if at is not None:
                at.after -= 1


def item_ids(key: str, side: str, items: list[dict[str, Any]]) -> Iterator[str]:
    """The id of each item of the response *key*: its own, or one made of its place; *side*: `i` input, `o` output."""
    for at, item in enumerate(items):
        own = item.get("id")
        yield own if isinstance(own, str) and own else item_id(item_kind(item), key, side, at)


def item_id(kind: str, key: str, side: str, at: int) -> str:
    """An id that tells where its item lies."""
    return f"{PREFIXES.get(kind, 'item')}_{key}{side}{at}"


def item_kind(item: dict[str, Any]) -> str:
    """The type of an item; one that only has a role is a message."""
    return str(item.get("type") or "message")


PREFIXES = {"message": "msg", "reasoning": "rs", "function_call": "fc", "function_call_output": "fco"}
