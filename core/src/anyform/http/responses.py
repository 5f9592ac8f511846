"""/v1/responses: makes responses, and shows, lists and forgets those that are kept."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from anyform.contract.errors import Invalid
from anyform.http import count, response
from anyform.http.dialect import OWN
from anyform.http.fields import Fields, NotSupported, Written, wrong
from anyform.http.media import Media
from anyform.http.reply import JSON, Ask
from anyform.http.responsestore import Link, item_id, item_ids, item_kind
from anyform.kernel.rule import Rule

if TYPE_CHECKING:
    from anyform.http.service import Body, Service

PAGE, LONGEST = 20, 100
"""Items of a list: usual and most."""


class NotCancellable(Invalid):
    """A response that is made while its client waits ends when the client hangs up."""

    code = "response_not_cancellable"


class Responses:
    """The resources."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._read = partial(response.read, store=service.responses)

    async def create(self, request: Request) -> Response:
        return await self._service.translate(request, await self._given(request), self._read, OWN)

    async def count(self, request: Request) -> Response:
        """How many tokens the input has. What only shapes the answer does not matter here."""
        service = self._service
        ask = await service.understand(await self._given(request), self._brief)
        tokens = await service.attended(request, count.count(service, ask))
        return JSONResponse({"object": "response.input_tokens", "input_tokens": tokens})

    def _brief(self, values: Mapping[str, Any], media: Media, rule: Rule) -> Ask:
        return self._read({**values, "stream": None, "stream_options": None, "store": False}, media, rule)

    async def _given(self, request: Request) -> Body:
        """The body, which is large where the conversation is that it goes on from."""
        given = await self._service.parsed(request)
        before, items = given.values.get("previous_response_id"), given.values.get("input")
        named = isinstance(items, list) and any(isinstance(item, dict) and "id" in item for item in items)
        return given._replace(large=given.large or named or self._service.responses.large(before))

    async def one(self, request: Request) -> Response:
        link = self._link(request)
        query = Fields({name: Written(value) for name, value in request.query_params.items()})
        if query.flag("stream"):
            told = "A response that is kept is not streamed again."
            raise NotSupported(told, "Ask for it without stream.", param="stream")
        return Response(link.body, media_type=JSON)

    async def delete(self, request: Request) -> Response:
        response_id = str(request.path_params["id"])
        self._service.responses.delete(response_id)
        return JSONResponse({"id": response_id, "object": "response", "deleted": True})

    async def cancel(self, request: Request) -> Response:
        self._link(request)
        told = "Only a response that was created with 'background': true can be cancelled, and there are none here."
        raise NotCancellable(told, "To stop one that is being made, hang up.", param="response_id")

    async def inputs(self, request: Request) -> Response:
        """What the model was given, the items of earlier responses that it went on from included."""
        link = self._link(request)
        query = Fields({name: Written(value) for name, value in request.query_params.items()})
        limit = query.integer("limit", low=1, high=LONGEST) or PAGE
        newest = (query.choice("order", "asc", "desc") or "desc") == "desc"
        return JSONResponse(await self._service.threads.quick(page, link, limit, newest, query.text("after")))

    def _link(self, request: Request) -> Link:
        return self._service.responses.need(str(request.path_params["id"]))


def page(link: Link, limit: int, newest: bool, after: str | None) -> dict[str, Any]:
    """A part of the list of the items before the answer *link*. *after*: the id of the item before the first."""
    items = everything(link)
    if newest:
        items.reverse()
    first = 0
    if after:
        ids = [item["id"] for item in items]
        if after not in ids:
            wrong("after", f"there is no item '{after[:100]}'")
        first = ids.index(after) + 1
    shown = items[first : first + limit]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": first + limit < len(items),
    }


def everything(link: Link) -> list[dict[str, Any]]:
    """All items that the answer *link* goes on from, in their whole form, with ids; no two have the same, or who lists
    them page by page would go round in circles.
    """
    items: dict[str, dict[str, Any]] = {}
    for one in link.chain():
        brought = one.brought()
        for at, (item, own) in enumerate(zip(brought, item_ids(one.key, "i", brought), strict=True)):
            free = item_id(item_kind(item), one.key, "i", at) if own in items else own
            items[free] = full(item, free)
        if one is not link:
            items |= {item["id"]: item for item in one.output()}
    return list(items.values())


def full(item: Mapping[str, Any], own: str) -> dict[str, Any]:
    """An item as lists show it: with id, type and status; what may be said as text, as parts."""
    whole = {**item, "id": own, "type": item_kind(dict(item)), "status": item.get("status") or "completed"}
    content = whole.get("content")
    if isinstance(content, str):
        said = {"type": "output_text", "text": content, "annotations": [], "logprobs": []}
        whole["content"] = [said if item.get("role") == "assistant" else {"type": "input_text", "text": content}]
    return whole
