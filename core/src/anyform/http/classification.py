"""POST /v1/classify, /v1/vision/classify and /v1/vision/clip: labels with their scores for each input, best first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anyform.contract.events import Done, Event, Scores, Usage
from anyform.contract.jobs import Classify, Picture, ZeroShot
from anyform.http.fields import Fields, mistyped, wrong
from anyform.http.input import item, many
from anyform.http.media import Media
from anyform.http.reply import JSON, Ask, Head, Writer, dumps

LABELS = 1000
LABEL_NAMES = ("labels", "candidate_labels", "texts")
IMAGE_NAMES = ("images", "image", "input")


def read(body: Mapping[str, Any], media: Media) -> Ask:
    """Texts or pictures: a Classify job, or with labels a ZeroShot one. Raises Invalid, Unsupported, TooLarge."""
    fields = Fields(body)
    model = fields.need_text("model")
    inputs = many(fields, "input", one=lambda param, value: item(param, value, media))
    labelled = fields.find(*LABEL_NAMES)[1] is not None
    return _ask(fields, model, inputs, _labels(fields) if labelled else None, "input")


def read_pictures(body: Mapping[str, Any], media: Media) -> Ask:
    """Pictures by the labels that the model knows: a Classify job. Raises Invalid, TooLarge."""
    fields = Fields(body)
    return _ask(fields, fields.need_text("model"), _pictures(fields, media), None, fields.find(*IMAGE_NAMES)[0])


def read_clip(body: Mapping[str, Any], media: Media) -> Ask:
    """Pictures by the labels of the request: a ZeroShot job. Raises Invalid, Unsupported, TooLarge."""
    fields = Fields(body)
    model = fields.need_text("model")
    return _ask(fields, model, _pictures(fields, media), _labels(fields), fields.find(*LABEL_NAMES)[0])


def _pictures(fields: Fields, media: Media) -> tuple[Picture, ...]:
    return many(fields, *IMAGE_NAMES, one=lambda param, value: media.picture(value, param), what="picture")


def _ask(
    fields: Fields, model: str, inputs: tuple[str | Picture, ...], labels: tuple[str, ...] | None, prompt: str
) -> Ask:
    top = fields.integer("top_k", low=1)
    job: Classify | ZeroShot
    if labels is None:
        job = Classify(inputs=inputs) if top is None else Classify(inputs=inputs, top_k=top)
    else:
        fields.refuse("multi_label", "Each input's scores are shared among all labels.")
        fields.refuse("hypothesis_template", "The model's own sentence is used.")
        job = ZeroShot(inputs=inputs, labels=labels)

    def writer(head: Head) -> Writer:
        return Whole(head, top)

    return Ask(model=model, jobs=(job,), writer=writer, prompt=prompt)


def _labels(fields: Fields) -> tuple[str, ...]:
    name = fields.find(*LABEL_NAMES)[0]
    values, param = fields.array(name), fields.path(name)
    if values is None:
        fields.missing(name)
    if not values:
        wrong(param, "empty array", "Expected at least one label.")
    if len(values) > LABELS:
        wrong(param, f"{len(values)} labels", f"Expected at most {LABELS}.")
    seen: dict[str, int] = {}
    for at, label in enumerate(values):
        if not isinstance(label, str):
            mistyped(f"{param}[{at}]", "a string", label)
        if not label.strip():
            wrong(f"{param}[{at}]", "empty string", "Expected some text.")
        if seen.setdefault(label, at) != at:
            wrong(f"{param}[{at}]", f"'{label[:60]}' is {param}[{seen[label]}] too", "Name each label once.")
    return tuple(values)


class Whole:
    """Sorts each input's scores, best first; equal ones keep the engine's order."""

    media_type = JSON

    def __init__(self, head: Head, top: int | None) -> None:
        """*top*: how many labels of each input; None: all that the engine gave."""
        self._model, self._top = head.model, top
        self._scores: dict[int, Scores] = {}
        self._usage = Usage()

    def write(self, event: Event, job: int = 0) -> bytes:
        if isinstance(event, Scores):
            self._scores[event.index] = event
        elif isinstance(event, Done):
            self._usage = event.usage
        return b""

    def end(self) -> bytes:
        count = self._usage.prompt_tokens
        return dumps(
            {
                "object": "list",
                "model": self._model,
                "data": [self._result(index) for index in sorted(self._scores)],
                "usage": {"prompt_tokens": count, "total_tokens": count},
            }
        ).encode("ascii")

    def _result(self, index: int) -> dict[str, Any]:
        scores = self._scores[index]
        pairs = sorted(zip(scores.labels, scores.values, strict=True), key=lambda pair: -pair[1])
        best = [{"label": label, "score": value} for label, value in pairs[: self._top]]
        return {"object": "classification", "index": index, **(best[0] if best else {}), "scores": best}
