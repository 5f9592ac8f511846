"""WebSocket /v1/audio/speech/stream: text comes in pieces, and goes back as sound, sentence by sentence.

A message is JSON: `text`, `speed`, `final`. Sound comes as binary messages; a `final` is answered with
`{"type": "done", "duration": seconds}`, after which new text makes a new file. Whatever is wrong is said as
`{"type": "error", "error": {...}}`, once what came before it was spoken, and ends the socket. To close it cancels.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from anyform.contract.errors import Area, Category, Closed, Fault, Invalid, TooLarge
from anyform.contract.events import Blob, Done, Event
from anyform.contract.jobs import Speak
from anyform.http import body, fault, speech, voice
from anyform.http.arrival import stopping
from anyform.http.default import usual
from anyform.http.fields import Fields, Written, judged
from anyform.http.reply import dumps
from anyform.kernel.runtime import Use
from anyform.sound.encode import SAMPLE_BYTES, prepare
from anyform.sound.sentence import Break, split

if TYPE_CHECKING:
    from anyform.contract.facts import Metadata
    from anyform.http.service import Service

PATH = "/v1/audio/speech/stream"
IDLE_S = 300
STALLED_S = 60
"""A client that takes nothing of its sound for so long keeps the model from others."""
LAST_S = 5
"""For the last words."""
STOP_S = 1
"""For those of all sockets, when the server stops."""
MESSAGE_BYTES = 1024**2
"""A larger message ends the socket, with 1009."""
FRAME_BYTES = 4 * MESSAGE_BYTES
"""What is larger still is not even read: it ends the socket with 1009, and no word of what is wrong."""
PIECE = 32 * 1024
"""Bytes of sound in one message; clients take no more than 1 MiB, unless they are told to."""
LARGE = 32 * 1024
LONGEST = 1000
"""Letters of a sentence that are waited for; of a longer one the part before a clause or a word goes ahead."""
_SEPARATORS = {Break.WORD: " ", Break.CLAUSE: " ", Break.SENTENCE: "\n", Break.PARAGRAPH: "\n\n"}
"""What makes sentences that were joined come apart again."""
PROBE = "A"
"""What may come next: whether a sentence ends, the letter after it decides."""
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
    known: Metadata
    """What is known of the model."""


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
        self._talks: dict[asyncio.Task[None] | None, asyncio.Task[None]] = {}
        """Those that are open: what serves a socket, and what listens and speaks within it."""

    async def open(self, socket: WebSocket) -> None:
        try:
            await socket.accept()
        except (WebSocketDisconnect, OSError):
            return  # the client went before it was let in
        serving, talking = asyncio.current_task(), asyncio.create_task(self._serve(socket))
        self._talks[serving] = talking
        try:
            await talking
        except WebSocketDisconnect:
            return  # the client has gone, and what was spoken for it was cancelled
        except asyncio.CancelledError:
            await _tell(socket, stopping())
        except Exception as error:
            seen = fault.unforeseen(error)
            if seen is not error:
                fault.log.error("a socket failed", exc_info=error)
            await _tell(socket, seen)
        finally:
            del self._talks[serving]

    async def stop(self) -> None:
        """End all; their clients are told."""
        serving = [task for task in self._talks if task is not None]
        for talking in self._talks.values():
            talking.cancel()
        if serving:
            await asyncio.wait(serving, timeout=STOP_S)

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
            query["model"] = Written(await service.threads.slow(usual, service.runtime, default, Speak.task))
        fields = Fields(await service.defaults.over(query))
        wish = speech.wish(fields, "pcm")
        await service.threads.quick(prepare, wish.form)
        use = Use(keep_alive_s=fields.duration("keep_alive"))
        model, manner, speed = str(fields.need_text("model")), speech.manner(fields), speech.speed(fields)
        known = await service.threads.slow(voice.known, service.runtime, await service.find(model))
        voice.check(known, manner["voice"], speed)
        return Talk(model=model, wish=wish, manner=manner, speed=speed, use=use, known=known)


def _refused(service: Service, refusal: Fault) -> Fault:
    """Counted and logged."""
    service.metrics.refused(PATH, refusal)
    fault.tell(refusal, PATH)
    return refusal


async def _tell(socket: WebSocket, error: Fault) -> None:
    """Say it and close; a client that has gone, or does not read, hears neither."""
    with suppress(WebSocketDisconnect, OSError, RuntimeError, TimeoutError):
        async with asyncio.timeout(LAST_S):
            await socket.send_text(dumps(fault.typed(error)))
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
        self._rest, self._speed = "", talk.speed
        """Text that is no sentence yet, and at which speed."""
        self._pieces: deque[Piece] = deque()
        self._waiting = 0
        """Letters of these."""
        self._came = asyncio.Event()
        self._busy = False
        self._pauses: Mapping[str, float] = {}
        """What the model leaves between sentences and paragraphs of one text, in seconds at speed 1."""
        self._end: Break | None = None
        """What came after the last that was spoken of this file."""
        self._refusal: Fault | None = None
        """What is wrong with a message: told once what came before it was spoken. None that comes after it counts."""
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
            if self._refusal is None:
                self._hear(message)

    def _hear(self, message: Mapping[str, Any]) -> None:
        try:
            self._take(message)
        except Fault as refusal:
            self._refusal = _refused(self._service, refusal)
            self._came.set()

    def _take(self, message: Mapping[str, Any]) -> None:
        """What is whole goes to be spoken. Raises Invalid, TooLarge."""
        if message.get("text") is None:
            raise NoText("A binary message came.", 'Send text, such as {"text": "Hello."}.')
        data = message["text"].encode("utf-8")
        if len(data) > MESSAGE_BYTES:
            raise TooLarge(f"A message has {len(data)} bytes.", "Send at most 1 MiB in one.", limit=MESSAGE_BYTES)
        fields = Fields(body.parse(data))
        text, final = fields.text("text"), bool(fields.flag("final"))
        speed = speech.speed(fields, self._speed)
        voice.check(self._talk.known, "", speed)
        if text is None and not final:
            fields.missing("text")
        waiting = self._waiting + len(self._rest) + len(text or "")
        if waiting > self._service.config.speech_letters:
            raise speech.too_long("text", waiting, self._service.config.speech_letters)
        self._rest, self._speed = self._rest + (text or ""), speed
        whole, end = (self._rest, Break.PARAGRAPH) if final else self._sentences()
        if whole.strip() or final:
            self._put(Piece(text=whole, speed=speed, end=end, final=final))
        if final:
            self._rest, self._speed = "", self._talk.speed

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
            if piece is None and self._refusal is not None:
                await self._send(await self._ended(track))
                raise self._refusal
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
        """End the file; text of which nothing could be spoken makes none."""
        await self._send(await self._ended(track))
        self._end = None
        await self._socket.send_text(dumps(speech.done(track)))

    async def _ended(self, track: speech.Track) -> bytes:
        return await self._service.threads.quick(track.end) if track.seconds else b""

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
            seen = meter.failed(judged(error, ask.judged))
            if not _says_nothing(seen):
                raise seen from error
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


def _says_nothing(error: Fault) -> bool:
    """Whether it refuses a text that is sound, but has nothing to be spoken, such as a row of stars."""
    return type(error) is Invalid and error.details.get("param") == "input"
