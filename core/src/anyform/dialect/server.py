"""What a dialect's routes share with the server that they hang in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from starlette.requests import Request
from starlette.responses import Response

from anyform.contract.errors import Fault, ModelNotFound, RefusedRequest, Unsupported
from anyform.contract.hooks import Routes
from anyform.contract.jobs import Job
from anyform.contract.model import Stop
from anyform.http import body, count
from anyform.http.dialect import Dialect
from anyform.http.service import is_name, route_of
from anyform.kernel.runtime import Use
from anyform.sources import derivation, hubname, quantization
from anyform.sources.hubpull import Wish
from anyform.sources.suggestion import gathered

if TYPE_CHECKING:
    from anyform.http.responsestore import Store
    from anyform.http.service import Body, Ruled, Service
    from anyform.kernel.entry import Entry
    from anyform.kernel.residence import Resident
    from anyform.kernel.runtime import Runtime
    from anyform.sources.derivation import Derivations
    from anyform.sources.hubmeter import PullState
    from anyform.sources.hubpulls import Pulls, Running

T = TypeVar("T")
NDJSON = "application/x-ndjson"


def server(routes: Routes) -> Server:
    """The server that *routes*, which `add_routes` was given, belong to."""
    return Server(cast(Any, routes).state)


class Server:
    """One listener's server. Its coroutines are for its event loop."""

    def __init__(self, state: Any) -> None:
        """*state*: the application's."""
        self._state = state
        self._service: Service = state.service

    @property
    def runtime(self) -> Runtime:
        """The kernel's: names, entries, metadata, what is loaded. Its calls block: see `quick` and `slow`."""
        return self._service.runtime

    @property
    def pulls(self) -> Pulls | None:
        """Fetches models; None: this server does not."""
        return self._service.pulls

    def speak(self, dialect: Dialect) -> None:
        """Have all refusals of the dialect's paths, the server's own included, be in its form."""
        self._state.dialects.add(dialect)

    async def body(self, request: Request) -> Body:
        """A request's JSON body, whatever its Content-Type says; an empty one where there is none. Raises Invalid,
        TooLarge.
        """
        with self._counting(request):
            return await self._service.parsed(request)

    @contextmanager
    def _counting(self, request: Request) -> Iterator[None]:
        """Have a refusal be counted, as those of the server's own resources are."""
        try:
            yield
        except Fault as refusal:
            self._service.metrics.refused(route_of(request), refusal)
            raise

    async def answer(self, request: Request, given: Body, read: Ruled, dialect: Dialect) -> Response:
        """The response to a request whose body is *given*: `read(values, media, rule)` understands it as an `Ask`.

        *rule* is what the model's settings say of requests that leave something out; see `begun` and `read_generation`.
        Raises what *read* raises; all that comes later is told in the dialect's form.
        """
        with self._counting(request):
            return await self._service.translate(request, given, read, dialect)

    async def find(self, model: str) -> Entry:
        """The library's entry for a name, pulled first where requests may do that. Raises ModelNotFound."""
        return await self._service.find(model)

    async def count(self, request: Request, given: Body, read: Ruled) -> int:
        """How many tokens the prompt of a request has whose body is *given*, as `answer` would read it. Its model is
        loaded for that; nothing is generated.
        """
        with self._counting(request):
            ask = await self._service.understand(given, read)
            return await self._service.attended(request, count.count(self._service, ask))

    async def load(self, model: str, use: Use | None = None, job: Job | None = None) -> Entry:
        """Load *model*, if it is not, or is loaded otherwise than *use* asks, or *job*: a task, with its context."""
        entry = await self.find(model)
        with self._service.gate.place(entry.name) as place:
            await place.open(partial(self.slow, self.runtime.open, entry.name, job, None, use))
        return entry

    def named(self, given: Body) -> Body:
        """*given* with the server's default model, where there is one and it names none."""
        default = self._service.config.default_model
        if not default or given.values.get("model") not in (None, ""):
            return given
        return given._replace(values={**given.values, "model": default})

    @property
    def responses(self) -> Store:
        """Answers that conversations may go on from: one bounded store for all dialects."""
        return self._service.responses

    async def known(self, model: str) -> Entry | None:
        """The library's entry for a name; None: there is none. Nothing is pulled for it."""
        return await self.quick(_known, self.runtime, model)

    async def resident(self, model: str) -> Resident | None:
        """The model of that name as it is loaded, or is being; None: it is not. Nothing is pulled for it."""
        return await self.quick(_resident, self.runtime, model)

    async def unload(self, model: str, now: bool = False) -> bool:
        """Unload *model* once its requests have ended, or *now*; False if it was not loaded."""
        return await self.slow(self.runtime.unload, model, now)

    async def quick(self, call: Callable[..., T], *args: Any) -> T:
        """A call that may touch the disk, in a thread."""
        return await self._service.threads.quick(call, *args)

    async def slow(self, call: Callable[..., T], *args: Any) -> T:
        """A call that may take minutes, in a thread that no other call waits for."""
        return await self._service.threads.slow(call, *args)

    @property
    def recipes(self) -> Derivations:
        """Makes models of other ones or of uploads, copies and deletes them; its calls block.

        Raises RefusedRequest where none can be made.
        """
        made = derivation.of(self.runtime)
        if made is None:
            raise RefusedRequest(
                "this server makes and deletes no models: anyform's own folder is not among its sources.",
                'Start it with "anyform" among the sources in [models] of the settings file.',
            )
        return made

    async def quantizer(self, form: str, is_now: str, kind: str) -> Callable[[Path], Awaitable[str]]:
        """What makes a file of the format *form* and the quantization *is_now* (empty: unknown) into a new upload that
        is *kind*: path -> digest. It takes minutes, and ends with who waits for it; raises QuantizingFailed, DiskFull.

        Raises Unsupported where nothing installed does that.
        """
        maker = await self.quick(quantization.quantizer, form)
        if maker is None or kind not in maker.MAKES:
            made = f"; but {', '.join(maker.MAKES)}" if maker else ""
            raise Unsupported(f"nothing here makes a model of the format {form or 'unknown'} {kind}{made}.")
        if is_now and is_now not in maker.READS:
            raise Unsupported(
                f"a model that is {is_now} is not made {kind}; one that is {' or '.join(maker.READS)} is."
            )

        async def quantized(source: Path) -> str:
            stop = Stop()
            try:
                return await self.slow(quantization.quantized, maker, source, kind, self.recipes.blobs, stop)
            finally:
                stop.set()

        return quantized

    async def pieces(self, request: Request) -> AsyncIterator[bytes]:
        """A body of any size, as it comes. Raises WrongEncoding, BodyLate."""
        body.require_plain(request)
        async for piece in request.stream():
            yield piece

    def reference(self, model: str) -> str:
        """How *model* is called where it is pulled from: `owner/repo:variant`; empty for what names none there."""
        found = hubname.parsed(model)
        return str(found) if found else ""

    def pull(self, model: str, lasting: bool = True) -> Running:
        """Fetch *model*, or join the pull that does. Not *lasting*: use `watching`.

        Raises Invalid for what is no name of a hub's, RefusedRequest where this server fetches none, Overloaded.
        """
        reference = hubname.require(model)
        if self.pulls is None:
            raise RefusedRequest("this server fetches no models.", "Use `anyform pull` where it runs.")
        return self.pulls.start(Wish(reference=reference), lasting)

    @asynccontextmanager
    async def watching(self, model: str) -> AsyncIterator[Running]:
        """The pull of *model*, which stops with the last who watches it so, unless someone else wants it too; what has
        come is kept for the next. Raises what `pull` does.
        """
        running = self.pull(model, False)
        try:
            yield running
        finally:
            assert self.pulls is not None
            self.pulls.leave(running)

    async def states(self, running: Running) -> AsyncIterator[PullState]:
        """How far a pull is, whenever that changes, until it has ended; `running.result()` says how."""
        states = running.states()
        while (state := await self.slow(partial(next, states, None))) is not None:
            yield state

    async def suggested(self, words: str) -> list[str]:
        """Names of models to pull that are spelt like *words*: `qwen3:0.6b` finds `Qwen/Qwen3-0.6B-GGUF:Q8_0`."""
        return await self.slow(self._suggested, words)

    def _suggested(self, words: str) -> list[str]:
        file = self._service.config.suggestions
        found, _ = gathered(self.runtime.capabilities(probe=False), Path(file) if file else None)
        names = [one.name for one in found]
        wanted = _letters(words)
        return [name for name in names if wanted and wanted in _letters(name.rpartition("/")[2])]


def _resident(runtime: Runtime, model: str) -> Resident | None:
    there = {at.name: at for at in runtime.pool.residents()}
    entry = None if model in there else _known(runtime, model)
    return there.get(entry.name if entry else model)


def _known(runtime: Runtime, model: str) -> Entry | None:
    with suppress(ModelNotFound):
        return runtime.find(model) if is_name(model) else None
    return None


def _letters(text: str) -> str:
    return "".join(letter for letter in text.casefold() if letter.isalnum())
