"""A loaded model that paints: jobs to pictures, one after the other, each a file that says how it was made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from anyform.contract.errors import Fault, Unsupported
from anyform.contract.events import Blob, Done, Event, Finish, Progress, Usage
from anyform.contract.jobs import EditImage, Image, Job, VaryImage
from anyform.contract.model import Stop
from anyform.picture import writing
from anyform_diffusers import parameters, request
from anyform_diffusers.imageloop import ImageLoop
from anyform_diffusers.request import Request
from anyform_diffusers.work import End, Painted, Work

if TYPE_CHECKING:
    from anyform_diffusers.options import Options
    from anyform_diffusers.painter import Painter


class ImageModel:
    """What `load` gives. Made in the thread that loaded, it paints there (`anyform.text.enginethread.Host`)."""

    def __init__(self, painter: Painter, options: Options) -> None:
        self.parallel = 1 + options.queue
        self.runs_on = painter.runs_on
        self.notes = painter.notes
        self.painter = painter
        self._options = options
        self._loop = ImageLoop(painter, options.batch, self.parallel)

    def generate(self, job: Job, stop: Stop) -> Iterator[Event]:
        """Do *job*. Raises, before any event, Unsupported, Invalid, OutOfMemory, Overloaded and Closed."""
        self._loop.check()
        if not isinstance(job, Image | EditImage | VaryImage):
            raise Unsupported(
                f"this model paints; it does not do the task {job.task}.",
                "Use a model that lists the task (`anyform list`).",
            )
        try:
            asked = request.read(job, self.painter, self._options)
        except Exception:
            self._loop.check()  # a model that was closed meanwhile refuses whatever it is asked
            raise
        return self._events(asked, stop)

    def close(self) -> None:
        """End running jobs with Closed, free everything. Idempotent."""
        self._loop.close()

    def _events(self, asked: Request, stop: Stop) -> Iterator[Event]:
        work = Work(asked.wish, asked.seeds, asked.steps, asked.partials, stop)
        given: set[int] = set()
        self._loop.enter(work)
        try:
            while not isinstance(message := work.messages.get(), End):
                if isinstance(message, Fault):
                    raise message
                if isinstance(message, Progress):
                    yield message
                elif not stop.is_set():  # nobody waits for its file
                    yield self._blob(message, asked)
                    if message.partial is None:
                        given.add(message.place)
        finally:
            self._loop.drop(work)
        yield Done(
            finishes=tuple(
                Finish(reason="stop" if place in given else "cancelled") for place in range(len(asked.seeds))
            ),
            usage=Usage(prompt_tokens=asked.tokens),
            generate_s=work.paint_s,
            extra={"steps": work.steps_run} | ({"remarks": asked.remarks} if asked.remarks else {}),
        )

    def _blob(self, painted: Painted, asked: Request) -> Blob:
        extra = {"seed": asked.seeds[painted.place], **asked.said}
        data = writing.encode(
            painted.picture,
            asked.media_type,
            compression=asked.compression,
            about=parameters.texts(asked.wish, extra, self.painter.facts.name),
        )
        if painted.partial is not None:
            extra["partial"] = painted.partial
        if painted.picture.info.get("flagged"):
            extra["flagged"] = True
        return Blob(data=data, media_type=asked.media_type, index=painted.place, extra=extra)
