"""WebSocket /v1/audio/speech/stream: text comes in pieces, and goes back as sound, sentence by sentence.

A message is JSON: `text`, `speed`, `final`. Sound comes as binary messages; a `final` is answered with
`{"type": "done", "duration": seconds}`, after which new text makes a new file. Whatever is wrong is said as
`{"type": "error", "error": {...}}`, and ends the socket. To close it cancels.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeGuard

from starlette.websockets import WebSocket, WebSocketDisconnect

from anyform.contract.errors import Area, Category, Closed, Fault, Invalid, ModelNotFound
from anyform.contract.events import Blob, Done, Event
from anyform.contract.jobs import Speak
from anyform.http import body, fault, speech
from anyform.http.arrival import stopping
from anyform.http.fields import Fields, Missing, Written
from anyform.http.reply import dumps
from anyform.http.voice import speaking
from anyform.kernel.runtime import Use
from anyform.sound.encode import SAMPLE_BYTES, prepare
from anyform.sound.sentence import Break, split

if TYPE_CHECKING:
    from anyform.http.service import Service
    from anyform.kernel.runtime import Runtime

PATH = "/v1/audio/speech/stream"
IDLE_S = 300
STALLED_S = 60
"""A client that takes nothing of its sound for so long keeps the model from others."""
LAST_S = 5
"""For the last words."""
MESSAGE_BYTES = 1024**2
"""A larger message ends the socket, with 1009."""
PIECE = 32 * 1024
"""Bytes of sound in one message; clients take no more than 1 MiB, unless they are told to."""
LARGE = 32 * 1024
LONGEST = 1000
"""Letters of a sentence that are waited for; of a longer one the part before a clause or a word goes ahead."""
_SEPARATORS = {Break.WORD: " ", Break.CLAUSE: " ", Break.SENTENCE: "\n", Break.PARAGRAPH: "\n\n"}
"""What makes sentences that were joined come apart again."""
PROBE = "A"
"""What may come next: whether a sentence ends, the letter after it decides."""
SHOWN = 5
CLOSED = {
    Category.INVALID: 1008,
    Category.UNSUPPORTED: 1008,
    Category.REFUSED: 1008,
    Category.NOT_FOUND: 1008,
    Category.TOO_LARGE: 1009,
    Category.BUSY: 1013,
    Category.UNAVAILABLE: 1013,
    Category.INTERNAL: 1011,
}
"""Codes of RFC 6455, section 7.4.1, and IANA's registry: by what went wrong."""
NOT_JSON, NOT_TEXT, RESTART = 1007, 1003, 1012


class NoText(Invalid):
    """A message that is binary."""

    code = "not_text"


class SocketIdle(Fault):
    """A socket whose client said nothing, or took nothing, for too long."""

    code = "socket_idle"
    category, area = Category.INVALID, Area.NETWORK


@dataclass(frozen=True, kw_only=True)
class Talk:
    """What is asked of a socket once, for all that is spoken over it."""

    model: str
    wish: speech.Wish
    manner: Mapping[str, str]
    speed: float
    use: Use


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Text that is to be spoken next; the last of a file, or not."""

    text: str
    speed: float
    end: Break = Break.SENTENCE
    """What comes after it."""
    final: bool = False


class Sockets:
    """The resource."""

    def __init__(self, service: Service, idle_s: float = IDLE_S) -> None:
        self._service = service
        self.idle_s = idle_s
        """How long a socket stays open that neither says nor is told anything."""

    async def open(self, socket: WebSocket) -> None:
        await socket.accept()
        try:
            await self._serve(socket)
        except WebSocketDisconnect:
            return  # the client has gone, and what was spoken for it was cancelled
        except Exception as error:
            seen = fault.unforeseen(error)
            if seen is not error:
                fault.log.error("a socket failed", exc_info=error)
            await _tell(socket, seen)

    async def _serve(self, socket: WebSocket) -> None:
        try:
            talk = await self._read(socket)
        except Fault as refusal:
            raise _refused(self._service, refusal) from None
        await Conversation(self._service, socket, talk).run(self.idle_s)

    async def _read(self, socket: WebSocket) -> Talk:
        """The query, completed by the model's rule. Raises Invalid, Unsupported, EngineMissing."""
        service, query = self._service, {name: Written(value) for name, value in socket.query_params.items()}
        if not query.get("model"):
            default = service.config.default_model
            query["model"] = Written(await service.threads.slow(_usual, service.runtime, default))
        fields = Fields(await service.defaults.over(query))
        wish = speech.wish(fields, "pcm")
        await service.threads.quick(prepare, wish.form)
        use = Use(keep_alive_s=fields.duration("keep_alive"))
        talk = Talk(
            model=str(fields.need_text("model")),
            wish=wish,
            manner=speech.manner(fields),
            speed=speech.speed(fields),
            use=use,
        )
        await service.find(talk.model)
        return talk


def _usual(runtime: Runtime, default: str) -> str:
    """The model of who names none: *default*, if it speaks, or the only one that does. Raises Missing."""
    names = [entry.name for entry, _ in speaking(runtime)]
    if default:
        with suppress(ModelNotFound):
            if runtime.find(default).name in names:
                return default
    if len(names) == 1:
        return names[0]
    shown = f"Models here that speak: {', '.join(names[:SHOWN])}." if names else "No model here speaks."
    raise Missing("Missing required parameter: 'model'.", shown, param="model")


def _refused(service: Service, refusal: Fault) -> Fault:
    """Counted and logged."""
    service.metrics.refused(PATH, refusal)
    fault.tell(refusal, PATH)
    return refusal


async def _tell(socket: WebSocket, error: Fault) -> None:
    """Say it and close; a client that has gone, or does not read, hears neither."""
    with suppress(WebSocketDisconnect, OSError, RuntimeError, TimeoutError):
        async with asyncio.timeout(LAST_S):
            await socket.send_text(dumps({"type": "error", **fault.body(error)}))
            await socket.close(_code(error), str(error)[:100].encode("ascii", "replace").decode("ascii"))


def _code(error: Fault) -> int:
    if isinstance(error, body.NotJson):
        return NOT_JSON
    if isinstance(error, NoText):
        return NOT_TEXT
    return RESTART if isinstance(error, Closed) else CLOSED[error.category]


class Conversation:
    """One socket: a task reads and cuts text into sentences, another has them spoken, in their order."""

    def __init__(self, service: Service, socket: WebSocket, talk: Talk) -> None:
        self._service, self._socket, self._talk = service, socket, talk
        self._rest, self._speed, self._told = "", talk.speed, False
        """Text that is no sentence yet; at which speed; whether there was any since the last `final`."""
        self._pieces: deque[Piece] = deque()
        self._waiting = 0
        """Letters of these."""
        self._came = asyncio.Event()
        self._busy = False
        self._pauses: Mapping[str, float] = {}
        """What the model leaves between sentences and paragraphs of one text, in seconds at speed 1."""
        self._end: Break | None = None
        """What came after the last that was spoken of this file."""
        self._unspoken: Invalid | None = None
        self._last = asyncio.get_running_loop().time()

    async def run(self, idle_s: float) -> None:
        """Until the client closes. Raises the fault that ends it."""
        tasks = {asyncio.create_task(self._read()), asyncio.create_task(self._speak())}
        try:
            done: set[asyncio.Task[None]] = set()
            while not done:
                left = self._left_s(idle_s)
                if left <= 0:
                    raise SocketIdle(f"No text came for {idle_s:g} seconds.", "Open another socket when there is some.")
                done, _ = await asyncio.wait(tasks, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            if task.cancelled():
                raise stopping()
            if error := task.exception():
                raise error

    def _left_s(self, idle_s: float) -> float:
        now = asyncio.get_running_loop().time()
        return idle_s if self._busy or self._pieces else self._last + idle_s - now

    async def _read(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            self._last = asyncio.get_running_loop().time()
            try:
                self._take(message)
            except Fault as refusal:
                raise _refused(self._service, refusal) from None

    def _take(self, message: Mapping[str, Any]) -> None:
        """What is whole goes to be spoken. Raises Invalid, TooLarge."""
        if message.get("text") is None:
            raise NoText("A binary message came.", 'Send text, such as {"text": "Hello."}.')
        fields = Fields(body.parse(message["text"].encode("utf-8")))
        text, final = fields.text("text"), bool(fields.flag("final"))
        self._speed = speech.speed(fields, self._speed)
        if text is None and not final:
            fields.missing("text")
        waiting = self._waiting + len(self._rest) + len(text or "")
        if waiting > self._service.config.speech_letters:
            raise speech.too_long("text", waiting, self._service.config.speech_letters)
        self._rest += text or ""
        whole, end = (self._rest, Break.PARAGRAPH) if final else self._sentences()
        self._told = self._told or bool(whole.strip())
        if final and not self._told:
            raise Missing("Missing required parameter: 'text'.", "Nothing came that could be spoken.", param="text")
        if whole.strip() or final:
            self._put(Piece(text=whole, speed=self._speed, end=end, final=final))
        if final:
            self._rest, self._speed, self._told = "", self._talk.speed, False

    def _sentences(self) -> tuple[str, Break]:
        """The sentences that are whole, taken from the rest; cut anew they are the same. And what comes after them."""
        *whole, rest = split(self._rest + PROBE, LONGEST)
        if not whole:
            return "", Break.WORD
        parts = [part for piece in whole for part in (piece.text, _SEPARATORS[piece.end])]
        text, blank = _leading(self._rest) + "".join(parts[:-1]), self._rest[len(self._rest.rstrip()) :]
        self._rest = rest.text[: -len(PROBE)] or blank
        return text, whole[-1].end

    def _put(self, piece: Piece) -> None:
        """To be spoken, at once with what waits before it, if it can be."""
        before = self._pieces[-1] if self._pieces else None
        if before and not before.final and before.speed == piece.speed:
            between = _SEPARATORS[_after(before.end, piece.text)]
            piece = replace(piece, text=f"{before.text.rstrip()}{between}{piece.text.lstrip()}")
            self._waiting -= len(self._pieces.pop().text)
        self._pieces.append(piece)
        self._waiting += len(piece.text)
        self._came.set()

    def _next(self) -> Piece | None:
        if not self._pieces:
            return None
        piece = self._pieces.popleft()
        self._waiting -= len(piece.text)
        return piece

    async def _speak(self) -> None:
        track = speech.Track(self._talk.wish)
        while True:
            piece = self._next()
            if piece is None:
                self._busy = False
                self._last = asyncio.get_running_loop().time()
                self._came.clear()
                await self._came.wait()
                continue
            self._busy = True
            if piece.text.strip():
                await self._say(piece, track)
            if piece.final:
                await self._finish(track)
                track = speech.Track(self._talk.wish)

    async def _finish(self, track: speech.Track) -> None:
        """End the file. Raises Invalid where nothing of the text could be spoken."""
        rest = await self._service.threads.quick(track.end)
        if self._unspoken and not track.seconds:
            raise self._unspoken
        self._end, self._unspoken = None, None
        await self._send(rest)
        await self._socket.send_text(dumps(speech.done(track)))

    async def _say(self, piece: Piece, track: speech.Track) -> None:
        """Have it spoken, as any request is: in the line for the model, and ended with the server."""
        service, talk, task = self._service, self._talk, asyncio.current_task()
        assert task is not None
        meter = service.metrics.begin(PATH, talk.model)
        job = Speak(text=piece.text.strip(), speed=piece.speed, **talk.manner)
        ask = speech.ask(talk.model, job, talk.wish, speech.Stream)
        service.running.add(task)
        try:
            async with service.events(ask, talk.use, len(piece.text) > LARGE) as source:
                ended = False
                pause_s = self._pause_s(piece)
                while not ended:
                    _, events = await source.read()
                    meter.take(0, events)
                    if isinstance(events[-1], Done):
                        ended, self._pauses = True, events[-1].extra.get("pauses", {})
                    await self._send(await service.threads.quick(partial(_written, track, events, pause_s)))
                    pause_s = 0.0 if any(isinstance(event, Blob) for event in events) else pause_s
                self._end = piece.end
        except (asyncio.CancelledError, WebSocketDisconnect, SocketIdle):
            meter.end("cancelled")
            raise
        except Exception as error:
            seen = meter.failed(error)
            if not _says_nothing(seen):
                raise seen from error
            seen.details["param"], self._unspoken = "text", seen
            return
        finally:
            service.running.discard(task)
        meter.end("ok")

    def _pause_s(self, piece: Piece) -> float:
        """Before *piece*, as long as it would be within one text."""
        if self._end is None:
            return 0.0
        return self._pauses.get(_after(self._end, piece.text).name.lower(), 0.0) / piece.speed

    async def _send(self, data: bytes) -> None:
        for piece in speech.cut(data, PIECE):
            try:
                async with asyncio.timeout(STALLED_S):
                    await self._socket.send_bytes(piece)
            except TimeoutError:
                raise SocketIdle(f"No sound was taken for {STALLED_S} seconds.", "Read as it comes.") from None


def _leading(text: str) -> str:
    """Its white space."""
    return text[: len(text) - len(text.lstrip())]


def _after(end: Break, text: str) -> Break:
    """What lies between what ended so and *text*, which may begin with an empty line."""
    return Break.PARAGRAPH if _leading(text).count("\n") > 1 else end


def _written(track: speech.Track, events: list[Event], pause_s: float) -> bytes:
    """What they add to the file, after so much silence."""
    data = bytearray()
    for event in events:
        if isinstance(event, Blob) and pause_s:
            silence = bytes(SAMPLE_BYTES * round(pause_s * int(event.extra["sample_rate"])))
            event, pause_s = replace(event, data=silence + event.data), 0.0
        data += track.take(event)
    return bytes(data)


def _says_nothing(error: Fault) -> TypeGuard[Invalid]:
    """Whether it refuses a text that is sound, but has nothing to be spoken, such as a row of stars."""
    return isinstance(error, Invalid) and error.details.get("param") == "input"
