"""POST /v1/rerank: documents by their relevance to a query, best first (the form that Jina and Cohere share)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anyform.contract.events import Done, Event, Scores, Usage
from anyform.contract.jobs import Rerank
from anyform.http.fields import Fields, mistyped, wrong
from anyform.http.reply import JSON, Ask, Head, Writer, dumps

DOCUMENTS = 2048


def read(body: Mapping[str, Any]) -> Ask:
    """The request as a Rerank job. Raises Invalid."""
    fields = Fields(body)
    model = fields.need_text("model")
    job = Rerank(query=fields.need_text("query"), documents=_documents(fields))
    top = fields.integer("top_n", low=1)
    shown = job.documents if fields.flag("return_documents") else ()

    def writer(head: Head) -> Writer:
        return Whole(head, top, shown)

    return Ask(model=model, jobs=(job,), writer=writer, prompt="documents")


def _documents(fields: Fields) -> tuple[str, ...]:
    values = fields.array("documents")
    param = fields.path("documents")
    if values is None:
        fields.missing("documents")
    if not values:
        wrong(param, "empty array", "Expected at least one document.")
    if len(values) > DOCUMENTS:
        wrong(param, f"{len(values)} documents", f"Expected at most {DOCUMENTS}.")
    return tuple(_document(f"{param}[{at}]", value) for at, value in enumerate(values))


def _document(param: str, value: Any) -> str:
    if isinstance(value, dict):
        return Fields(value, param + ".").need_text("text")
    if not isinstance(value, str):
        mistyped(param, "a string or an object with 'text'", value)
    return value


class Whole:
    """Sorts the scores, best first; equal ones keep the documents' order."""

    media_type = JSON

    def __init__(self, head: Head, top: int | None, shown: tuple[str, ...]) -> None:
        """*top*: how many results; None: all. *shown*: the documents, if they are to be returned."""
        self._model = head.model
        self._top = top
        self._shown = shown
        self._values: tuple[float, ...] = ()
        self._usage = Usage()

    def write(self, event: Event, job: int = 0) -> bytes:
        if isinstance(event, Scores):
            self._values = event.values
        elif isinstance(event, Done):
            self._usage = event.usage
        return b""

    def end(self) -> bytes:
        order = sorted(range(len(self._values)), key=lambda at: -self._values[at])[: self._top]
        count = self._usage.prompt_tokens
        return dumps(
            {
                "object": "list",
                "model": self._model,
                "results": [self._result(at) for at in order],
                "usage": {"prompt_tokens": count, "total_tokens": count},
            }
        ).encode("ascii")

    def _result(self, at: int) -> dict[str, Any]:
        result: dict[str, Any] = {"index": at, "relevance_score": self._values[at]}
        if self._shown:
            result["document"] = {"text": self._shown[at]}
        return result
