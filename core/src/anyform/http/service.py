"""Carries a request from its Ask to bytes: queue, open, first event, then status, then the rest.

Nothing leaves before the model has accepted the prompt, and a client that hangs up cancels at once.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from anyform.contract.errors import (
    ContextExceeded,
    EngineMissing,
    Fault,
    ModelAmbiguous,
    ModelNotFound,
    Unsupported,
    WorkerDied,
)
from anyform.contract.events import Done, Event, Progress
from anyform.contract.facts import Plan
from anyform.contract.model import LoadedModel
from anyform.http import able, body, bridge, form, pull, reply, shorten
from anyform.http.arrival import Arrivals, stopping
from anyform.http.config import HttpConfig
from anyform.http.default import Defaults, usual
from anyform.http.dialect import OWN, TYPED, Dialect
from anyform.http.events import Events
from anyform.http.fetch import Fetcher
from anyform.http.fields import Fields, judged
from anyform.http.gallery import Gallery, origin
from anyform.http.gate import Gate
from anyform.http.media import Media
from anyform.http.metrics import Meter, Metrics
from anyform.http.responsestore import Store
from anyform.kernel.residence import Loaded, loaded
from anyform.kernel.rule import Rule
from anyform.kernel.runtime import Use
from anyform.sources import naming

if TYPE_CHECKING:
    from anyform.kernel.entry import Entry
    from anyform.kernel.news import Item
    from anyform.kernel.runtime import Runtime
    from anyform.sources.hubpulls import Pulls

T = TypeVar("T")
Read = Callable[[Mapping[str, Any], Media], reply.Ask]
Ruled = Callable[[Mapping[str, Any], Media, Rule], reply.Ask]
"""Reads a body of another dialect, in which the model's rule has no names: it heeds that itself."""
Less = Callable[[reply.Ask, ContextExceeded], Awaitable[reply.Ask]]
"""Makes a request whose prompt was over the context shorter."""
LARGE = 32 * 1024
"""Bytes from which on a body is parsed, and its job sent to a worker, outside of the event loop."""
LISTED = "Model names are listed under /v1/models."
CHANGED = "library"
"""The kind of news that names may mean other models."""
NAMES = 10_000
"""Spellings of model names that are remembered."""
_PATH = re.compile(r"[/\\~.]|[A-Za-z]:[/\\]")


class Body(NamedTuple):
    """The body of a request, parsed."""

    values: dict[str, Any]
    large: bool
    """Whether it is too large to be handled on the event loop."""
    course: reply.Course


class Service:
    """What all resources of one server share."""

    def __init__(self, runtime: Runtime, config: HttpConfig, pulls: Pulls | None = None) -> None:
        self.runtime = runtime
        self.pulls = pulls
        """Fetches models; None: this server does not."""
        self.awaiting: Counter[str] = Counter()
        """How many requests wait for a pull, by the model's name."""
        self.config = config
        self.threads = bridge.Threads()
        self.fetcher = Fetcher(config, self.threads)
        self.gate = Gate(config.queue)
        self.arrivals = Arrivals()
        self.watchers = Events(runtime.news)
        self.gallery = Gallery(config)
        self.responses = Store(config.responses_bytes, config.responses_keep_s)
        self.defaults = Defaults(runtime, self.threads, config.default_model)
        self._names: dict[str, str] = {}
        self._labels: dict[str, str] = {}
        """The same, of names that meant something else before too: requests for these may still run."""
        self.metrics = Metrics(runtime, self.gate, self._labels)
        self.running: set[asyncio.Task[Any]] = set()
        self.close = runtime.news.listen(self._hear)
        """To be called at the end."""

    def _hear(self, item: Item) -> None:
        """In the thread in which it happens."""
        if item.kind == CHANGED:
            self._names = {}  # and not cleared: who looks a name up just now still puts it into the old ones
            self.defaults.forget()

    def stop(self) -> None:
        """End all answers that are still being written and all bodies that still come; their clients are told."""
        self.arrivals.stop()
        for task in list(self.running):
            task.cancel()

    async def answer(self, request: Request, read: Read, task: str = "") -> Response:
        """The response to a request whose body *read* understands. *task*: who names no model means one that does it;
        empty: the default one, whatever it does.
        """
        course = reply.Course()
        data = await body.read(request, self.config.body_bytes)
        large, kind = len(data) > LARGE, request.headers.get("content-type", "")
        parse = partial(form.parse, content_type=kind) if form.is_form(kind) else body.parse
        values = await self.threads.quick(parse, data) if large else parse(data)
        nameless = (None, "") if self.config.default_model else (None,)
        if task and values.get("model") in nameless:
            named = await self.threads.slow(usual, self.runtime, self.config.default_model, task)
            values = {**values, "model": named}
        return await self._reply(request, await self.defaults.over(values), read, OWN, course, large)

    async def parsed(self, request: Request) -> Body:
        """A JSON body, whatever its Content-Type says; an empty object where there is none."""
        course = reply.Course()
        data = await body.read(request, self.config.body_bytes)
        large = len(data) > LARGE
        if not data.strip():
            return Body({}, large, course)
        return Body(await self.threads.quick(body.parse, data) if large else body.parse(data), large, course)

    async def translate(self, request: Request, given: Body, read: Ruled, dialect: Dialect) -> Response:
        """The response to the request of another dialect, in whose form it is refused too."""
        values, rule = await self.defaults.beside(given.values)

        def ruled(values: Mapping[str, Any], media: Media) -> reply.Ask:
            return read(values, media, rule)

        return await self._reply(request, values, ruled, dialect, given.course, given.large)

    async def understand(self, given: Body, read: Ruled) -> reply.Ask:
        """What the request of another dialect wants, with its media fetched, where it is not to be answered itself."""
        values, rule = await self.defaults.beside(given.values)
        ask, _ = await self._read(values, lambda values, media: read(values, media, rule), given.large)
        return ask

    async def attended(self, request: Request, work: Coroutine[Any, Any, T]) -> T:
        """The result of *work*, which ends early with its client, who hangs up, and with the server."""
        task = asyncio.create_task(work)
        self.running.add(task)
        task.add_done_callback(self.running.discard)
        await until_hangup(task, request.receive)
        return await task

    async def _read(self, values: Mapping[str, Any], read: Read, large: bool) -> tuple[reply.Ask, bool]:
        """The request, understood, and whether its job is too large for the event loop."""
        media = Media(self.config.media_bytes, self.fetcher)
        ask = await self.threads.quick(read, values, media) if large else read(values, media)
        if not media.wanted:
            return ask, large
        found = await self.fetcher.bring(media.wanted)  # only now, when all else is known to be sound
        media = Media(self.config.media_bytes, self.fetcher, found)
        return await self.threads.quick(read, values, media), True

    async def _reply(
        self,
        request: Request,
        values: Mapping[str, Any],
        read: Read,
        dialect: Dialect,
        course: reply.Course,
        large: bool,
    ) -> Response:
        ask, large = await self._read(values, read, large)
        use = ask.use or Use(keep_alive_s=Fields(values).duration("keep_alive"))
        head = reply.head(ask.model, origin(request.scope), course)
        meter = self.metrics.begin(route_of(request), ask.model)
        return Reply(self, ask, use, meter, head, large, TYPED if ask.typed else dialect)

    def pass_on(self, ask: reply.Ask, key: str, events: Sequence[Event]) -> None:
        """Tell the readers of /runtime/events how far the request *key* is."""
        model = self._labels.get(ask.model, "")
        for event in events:
            if isinstance(event, Progress) and event.stage == "queue":
                self.watchers.pass_on("queued", model, request=key, position=event.total)
            elif isinstance(event, Progress):
                self.watchers.pass_on(event.stage, model, request=key, done=event.done, total=event.total)

    async def find(self, model: str) -> Entry:
        """The library's entry for a name. What looks like a path is no name. Raises ModelNotFound."""
        if not is_name(model):
            raise ModelNotFound(f"there is no model {model[:200]!r}.", LISTED)
        try:
            return await self.threads.quick(self.runtime.find, model)
        except ModelAmbiguous:
            raise
        except ModelNotFound as absent:
            absent.hint = absent.hint.replace(naming.ALL, LISTED)
            await pull.bring(self, model, absent)
        return await self.threads.quick(self.runtime.find, model)

    async def _canonical(self, model: str) -> str:
        """The name of the line for *model*. One that was found before is not looked up: opening does that."""
        names = self._names
        known = names.get(model)
        if known is None:
            known = (await self.find(model)).name
            if len(self._labels) < NAMES or model in self._labels:
                names[model] = self._labels[model] = known
        return known

    async def _named(self, ask: reply.Ask) -> str:
        """The name of the line for the model that *ask* names."""
        try:
            return await self._canonical(ask.model)
        except ModelAmbiguous:
            raise
        except ModelNotFound as absent:
            raise await self.threads.slow(able.missed, self.runtime, absent, ask.jobs[0].task) from None

    async def _open(self, ask: reply.Ask, use: Use) -> LoadedModel:
        """The model, held until it is closed."""
        async with self._able(ask):
            return await self.threads.slow(self.runtime.open, ask.model, ask.jobs[0], None, use, True)

    async def require(self, ask: reply.Ask) -> None:
        """Raise what is to be told before all else: the model is not here, or does not do the task."""
        entry = await self.find(await self._named(ask))
        async with self._able(ask):
            await self.threads.slow(self.runtime.require_task, entry, ask.jobs[0].task)

    @asynccontextmanager
    async def _able(self, ask: reply.Ask) -> AsyncIterator[None]:
        """A refusal of a model that does not do the task of *ask* names those that do."""
        try:
            yield
        except Unsupported as refusal:
            if "tasks" not in refusal.details:
                raise
            raise await self.threads.quick(able.told, self.runtime, refusal, ask.jobs[0].task) from None

    async def _tell_course(self, course: reply.Course, ask: reply.Ask, name: str) -> None:
        course.load_s = course.elapsed_s()
        if ask.informed:
            course.loaded, course.plan = await self.threads.quick(_resident, self.runtime, name)

    @asynccontextmanager
    async def events(
        self, ask: reply.Ask, use: Use, large: bool, course: reply.Course | None = None, less: Less | None = None
    ) -> AsyncIterator[bridge.Source]:
        """The events of *ask*, once its turn has come. Leaving cancels what still runs. *course*: is told of it.
        *less*: shortens it where its prompt is over the context, without another turn in the line.
        """
        name = await self._named(ask)
        with self.gate.place(name) as place:
            holding = partial(self._open, ask, use)
            model = await place.open(holding, _let_go)
            if await place.turn(model.parallel, model.close):  # who waits in line keeps no other model out
                model = await place.open(holding, _let_go)
            if course is not None:
                await self._tell_course(course, ask, name)
            try:
                source: bridge.Source
                if len(ask.jobs) > 1:
                    source = bridge.Merged(model, ask.jobs, 1 + place.more(len(ask.jobs) - 1), self.threads)
                else:
                    try:
                        source = await self._begin(model, ask, large, less)
                    except WorkerDied:  # found dead before it accepted anything: a new one may try
                        model.close()
                        model = await place.open(holding, _let_go)
                        source = await self._begin(model, ask, large, less)
                try:
                    yield source
                finally:
                    source.close()
            finally:
                model.close()

    async def _begin(self, model: LoadedModel, ask: reply.Ask, large: bool, less: Less | None) -> bridge.Source:
        while True:
            try:
                return await bridge.begin(model, ask.jobs[0], self.threads, large)
            except ContextExceeded as over:
                if less is None:
                    raise
                ask = await less(ask, over)


def _resident(runtime: Runtime, name: str) -> tuple[Loaded | None, Plan | None]:
    at = next((one for one in runtime.pool.residents() if one.name == name), None)
    return (None, None) if at is None or at.held is None else (loaded(at), at.held.plan)


def route_of(request: Request) -> str:
    """Its path as it is served: names in it would make any number of labels."""
    return getattr(request.scope.get("route"), "path", request.url.path)


def _let_go(model: LoadedModel) -> None:
    model.close()


def is_name(model: str) -> bool:
    """Whether *model* can be a name at all: no absolute or relative path, no `..`, no control characters."""
    return bool(model) and not _PATH.match(model) and ".." not in model.split("/") and model.isprintable()


class Reply(Response):
    """The answer to an Ask, written as its events come."""

    def __init__(
        self,
        service: Service,
        ask: reply.Ask,
        use: Use,
        meter: Meter,
        head: reply.Head,
        large: bool = False,
        dialect: Dialect = OWN,
    ) -> None:
        self._service, self._meter = service, meter
        self._head, self._dialect = head, dialect
        self._ask, self._use = ask, use
        self._large = large
        self._begun = self._streams = False
        self._writer: reply.Writer | None = None
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        task = asyncio.create_task(self._run(send))
        self._service.running.add(task)
        task.add_done_callback(self._service.running.discard)
        await until_hangup(task, receive)

    async def _run(self, send: Send) -> None:
        try:
            await self._answer(send)
            self._meter.end("ok")
        except asyncio.CancelledError:  # by a client that has gone, or by the end of the server
            self._meter.end("cancelled")
            await self._tell(stopping(), send)
        except Exception as error:
            if isinstance(error, ContextExceeded):
                error.details.setdefault("param", self._ask.prompt)
            if isinstance(error, ModelNotFound):
                error.details.setdefault("param", "model")
            seen = self._meter.failed(judged(error, self._ask.judged, self._ask.spelt))
            await self._tell(seen, send)

    async def _tell(self, error: Fault, send: Send) -> None:
        """A fault as a response of its own, or as the last event of a stream."""
        if not self._begun:
            response = self._dialect.refusal(error)
            await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
            await _end(send, bytes(response.body))
        elif self._streams:
            await _end(send, getattr(self._writer, "failed", self._dialect.ending)(error))

    async def _answer(self, send: Send) -> None:
        self._writer = await self._made(self._ask)
        async with self._service.events(self._ask, self._use, self._large, self._head.course, self._less) as source:
            if self._ask.stream:
                await self._stream(source, self._writer, send)
            else:
                await self._whole(source, self._writer, send)

    async def _made(self, ask: reply.Ask) -> reply.Writer:
        make = partial(ask.writer, self._head)
        try:
            return await self._service.threads.quick(make) if ask.heavy else make()
        except EngineMissing:  # no matter to whom asks a model that could not do it anyway
            await self._service.require(ask)
            raise

    async def _less(self, ask: reply.Ask, over: ContextExceeded) -> reply.Ask:
        """*ask* with less of the conversation, where the client lets it be cut; raises *over* where nothing can go."""
        fit = partial(shorten.fitting, ask, over)
        less = await self._service.threads.quick(fit) if self._large else fit()
        if less is None:
            over.hint = f"{over.hint} {self._ask.uncut}".strip()
            raise over
        self._ask, self._head.course.cut = less, less.cut
        self._writer = await self._made(less)
        return less

    async def _read(self, source: bridge.Source) -> bridge.Batch:
        job, events = await source.read()
        self._meter.take(job, events)
        if self._ask.told:
            self._service.pass_on(self._ask, self._head.key, events)
        return job, events

    async def _stream(self, source: bridge.Source, writer: reply.Writer, send: Send) -> None:
        """Events begin at once. Any other body does with its first bytes, since it has no place for a fault."""
        left = len(self._ask.jobs)
        while left:
            job, events = await self._read(source)
            if not self._begun and writer.media_type in self._dialect.streams:
                await self._begin(writer, send)
            left -= isinstance(events[-1], Done)
            data = await self._written(writer, job, events, not left)
            if data:
                if not self._begun:
                    await self._begin(writer, send)
                await send({"type": "http.response.body", "body": data, "more_body": True})
        if not self._begun:
            await self._begin(writer, send)
        await _end(send)

    async def _begin(self, writer: reply.Writer, send: Send) -> None:
        self._begun, self._streams = True, writer.media_type in self._dialect.streams
        kind = (b"content-type", writer.media_type.encode("ascii"))
        await send({"type": "http.response.start", "status": 200, "headers": [kind, *_STREAM, *self._own()]})

    def _own(self) -> list[tuple[bytes, bytes]]:
        """The dialect's own headers."""
        told = self._dialect.headers(self._head)
        return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in told.items()]

    async def _written(self, writer: reply.Writer, job: int, events: Sequence[Event], last: bool) -> bytes:
        """What *events* add to the body; its end too, if they are the *last*."""
        if self._ask.heavy:
            return await self._service.threads.quick(_write, writer, job, events, last)
        return _write(writer, job, events, last)

    async def _whole(self, source: bridge.Source, writer: reply.Writer, send: Send) -> None:
        left, size = len(self._ask.jobs), 0
        while left:
            job, events = await self._read(source)
            await self._written(writer, job, events, False)
            size += len(events)
            left -= isinstance(events[-1], Done)
        heavy = self._ask.heavy or size > 64
        data = await self._service.threads.quick(writer.end) if heavy else writer.end()
        self._begun = True
        headers = [*_headers(writer.media_type, len(data)), *self._own()]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await _end(send, data)


def _write(writer: reply.Writer, job: int, events: Sequence[Event], last: bool) -> bytes:
    data = b"".join([writer.write(event, job) for event in events])
    return data + writer.end() if last else data


_STREAM = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]


def _headers(media_type: str, length: int) -> list[tuple[bytes, bytes]]:
    return [(b"content-type", media_type.encode("ascii")), (b"content-length", str(length).encode("ascii"))]


async def _end(send: Send, data: bytes = b"") -> None:
    await send({"type": "http.response.body", "body": data, "more_body": False})


async def until_hangup(task: asyncio.Task[Any], receive: Receive) -> None:
    """Wait for *task*, and cancel it as soon as the client hangs up."""
    watch = asyncio.create_task(_hangup(receive))
    watch.add_done_callback(lambda _: task.cancel())
    try:
        await task
    except asyncio.CancelledError:
        if not watch.done():
            raise
    finally:
        watch.cancel()


async def _hangup(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
