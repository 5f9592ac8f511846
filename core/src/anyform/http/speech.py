"""POST /v1/audio/speech: text to speech, as a sound file that comes as it is made, or whole, or as events."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from anyform.contract.errors import TooLarge
from anyform.contract.events import Blob, Done, Event
from anyform.contract.jobs import Speak
from anyform.http.fields import Fields, mistyped, wrong
from anyform.http.media import Media
from anyform.http.reply import SSE, Ask, Head, Writer, sse
from anyform.sound.encode import FORMATS, MEDIA_TYPES, Encoder, prepare, rates

STREAM_FORMATS = ("audio", "sse")
PCM_RATE = 24_000
"""Samples a second of bare PCM, whatever the model's: nothing else tells a client."""
PIECE = 24 * 1024
"""Bytes of sound in one event: readers of lines refuse long ones."""
NOT_FOLLOWED = "Leave it out. No model here follows instructions: choose a voice and a speed."


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the sound is to be like."""

    form: str = "mp3"
    sample_rate: int | None = None
    """None: the model's, as far as the format can."""


def read(body: Mapping[str, Any], media: Media, letters: int) -> Ask:
    """The request as a Speak job of *letters* at the most. Raises Invalid, Unsupported, TooLarge."""
    fields = Fields(body)
    model, shape = fields.need_text("model"), _shape(fields)
    wanted = wish(fields, "pcm" if shape is Events else "mp3")
    return ask(model, Speak(text=_input(fields, letters), speed=speed(fields), **manner(fields)), wanted, shape)


def ask(model: str, job: Speak, wanted: Wish, shape: Callable[[Wish], Writer]) -> Ask:
    """*job* for *model*, answered in a *shape* of those below."""

    def writer(head: Head) -> Writer:
        prepare(wanted.form)
        return shape(wanted)

    return Ask(
        model=model,
        jobs=(job,),
        writer=writer,
        stream=shape is not Whole,
        prompt="input",
        heavy=True,
        typed=True,
        judged=("voice", "speed", "language"),
    )


def _shape(fields: Fields) -> Callable[[Wish], Writer]:
    stream, form = fields.flag("stream"), fields.choice("stream_format", *STREAM_FORMATS)
    if form == "sse":
        if stream is False:
            wrong(fields.path("stream"), "false, and stream_format is 'sse'", "Leave one of them out.")
        return Deltas
    if stream is False:
        return Whole
    return Events if stream and form is None else Stream


def wish(fields: Fields, default: str) -> Wish:
    """*default*: the format where none is named. Raises Invalid, Unsupported."""
    form = str(fields.choice("response_format", *FORMATS) or default)
    fields.refuse("instructions", NOT_FOLLOWED)
    rate = fields.integer("sample_rate")
    if rate is not None and rate not in rates(form):
        wrong(fields.path("sample_rate"), f"{rate}", f"'{form}' has {', '.join(map(str, rates(form)))}.")
    return Wish(form=form, sample_rate=rate)


def manner(fields: Fields) -> dict[str, str]:
    """Voice and language as Speak has them; empty: the model's own. OpenAI also has a voice as an object of its id."""
    voice = fields.data.get("voice")
    if isinstance(voice, dict):
        voice = Fields(voice, fields.path("voice") + ".").need_text("id")
    elif voice is not None and not isinstance(voice, str):
        mistyped(fields.path("voice"), "a string or an object with an id", voice)
    return {"voice": str(voice or ""), "language": str(fields.text("language") or "")}


def speed(fields: Fields, usual: float = 1.0) -> float:
    """Above 0; which of these the model can is its own matter."""
    given = fields.number("speed")
    if given is not None and given <= 0:
        wrong(fields.path("speed"), f"{given:g} is no speed", "1 is the usual one, 2 is twice as fast.")
    return usual if given is None else given


def _input(fields: Fields, letters: int) -> str:
    text = fields.need_text("input")
    if len(text) > letters:
        raise too_long(fields.path("input"), len(text), letters)
    if not text.strip():
        wrong(fields.path("input"), "it is empty", "Expected some text.")
    return str(text)


def too_long(param: str, given: int, letters: int) -> TooLarge:
    """The refusal of text of *given* letters."""
    return TooLarge(
        f"'{param}' has {given} letters, and at most {letters} are spoken at once.",
        "Send it in parts, or raise the server's speech_letters.",
        param=param,
        limit=letters,
    )


class Track:
    """What a model says, as one sound file of the form that was wished for."""

    def __init__(self, wanted: Wish, whole: bool = False) -> None:
        """*whole*: all of it comes at the end, and its head says how long it is."""
        self._wish, self._whole = wanted, whole
        self._encoder: Encoder | None = None

    def take(self, event: Event) -> bytes:
        """What *event* adds. Raises EngineMissing."""
        if not isinstance(event, Blob):
            return b""
        return self._opened(int(event.extra.get("sample_rate", PCM_RATE))).write(event.data)

    def end(self) -> bytes:
        """The rest. A file without any sound has a head at the most."""
        return self._opened(PCM_RATE).end()

    @property
    def rate(self) -> int:
        """Samples a second of the file."""
        return self._opened(PCM_RATE).rate

    @property
    def seconds(self) -> float:
        """Of sound so far."""
        return self._encoder.seconds if self._encoder else 0.0

    def _opened(self, rate: int) -> Encoder:
        if self._encoder is None:
            wanted = self._wish.sample_rate or (PCM_RATE if self._wish.form == "pcm" else None)
            self._encoder = Encoder(self._wish.form, rate, wanted, self._whole)
        return self._encoder


class Stream:
    """Writes a sound file as it is made."""

    _whole = False

    def __init__(self, wanted: Wish) -> None:
        self.media_type = MEDIA_TYPES[wanted.form]
        self._track = Track(wanted, self._whole)

    def write(self, event: Event, job: int = 0) -> bytes:
        return self._track.take(event)

    def end(self) -> bytes:
        return self._track.end()


class Whole(Stream):
    """Writes a sound file once all of it is there."""

    _whole = True


class Deltas:
    """Writes OpenAI's speech events; their audio joined is the file."""

    media_type = SSE

    def __init__(self, wanted: Wish) -> None:
        self._track = Track(wanted)
        self._done = Done()

    def write(self, event: Event, job: int = 0) -> bytes:
        if isinstance(event, Done):
            self._done = event
        return self._told(self._track.take(event))

    def end(self) -> bytes:
        usage = self._done.usage
        counted = {
            "input_tokens": usage.prompt_tokens,
            "output_tokens": usage.completion_tokens,
            "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        }
        return self._told(self._track.end()) + sse({"type": "speech.audio.done", "usage": counted})

    def _told(self, data: bytes) -> bytes:
        return _joined({"type": "speech.audio.delta", "audio": audio} for audio in _pieces(data))


class Events:
    """Writes the runtime's own speech events; their data joined are the file."""

    media_type = SSE

    def __init__(self, wanted: Wish) -> None:
        self._form = wanted.form
        self._track = Track(wanted)

    def write(self, event: Event, job: int = 0) -> bytes:
        return self._told(self._track.take(event))

    def end(self) -> bytes:
        return self._told(self._track.end()) + sse(done(self._track))

    def _told(self, data: bytes) -> bytes:
        kind = {"format": self._form, "sample_rate": self._track.rate} if data else {}
        return _joined({"type": "audio", "data": audio, **kind} for audio in _pieces(data))


def done(track: Track) -> dict[str, Any]:
    """The last event; the duration in seconds."""
    return {"type": "done", "duration": round(track.seconds, 6)}


def _pieces(data: bytes) -> Iterator[str]:
    return (b64encode(piece).decode("ascii") for piece in cut(data, PIECE))


def cut(data: bytes, most: int) -> Iterator[bytes]:
    """*data* in pieces of *most* bytes at the most."""
    return (data[at : at + most] for at in range(0, len(data), most))


def _joined(events: Iterable[Mapping[str, Any]]) -> bytes:
    return b"".join(map(sse, events))
