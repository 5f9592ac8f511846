"""A loaded model of speech: checks a text, and hands out its sentences as sound, one after another."""

from __future__ import annotations

import re
import time
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

from anyform.contract.errors import Fault, Invalid, LoadFailed, OutOfMemory, TooLarge, Unsupported
from anyform.contract.events import Blob, Done, Event, Finish, Progress, Usage
from anyform.contract.facts import Plan
from anyform.contract.jobs import Job, Speak
from anyform.contract.model import Stop
from anyform.sound import sentence
from anyform.sound.sentence import Break, Piece
from anyform_audio.speech import lane, pcm
from anyform_audio.speech.backend import Running, Session, out_of_memory
from anyform_audio.speech.options import Options
from anyform_audio.speech.turn import Request, Turns

PROGRESS = "text"
"""The stage whose Progress counts sentences."""
MEDIA_TYPE = "audio/pcm"
_MOST_PARALLEL = 256
_SPOKEN = ("Ll", "Lo", "Lu", "Nd")
_CONTROLS = {code: " " for code in (*range(32), *range(127, 160)) if not chr(code).isspace()}
"""What stands for nothing, and where espeak-ng, which is given C strings, would end a text."""
_POINT = re.compile(r"(?<![.\u2026])\.(?: |(?=\w))")
LISTED = re.compile(r"[0-9]+\. ")
"""How a sentence begins that is one of a list; its point stands for a pause."""


@dataclass(frozen=True, slots=True)
class Window:
    """What is spoken in one go."""

    tokens: Sequence[int]
    said: str
    """Its phonemes."""
    end: Break
    """What comes after it."""


class Manner(Protocol):
    """How one request wants a text to be spoken: voice, language, speed."""

    @property
    def most(self) -> int:
        """Characters that are spoken in one go at the most, as far as letters can tell."""

    @property
    def speed(self) -> float:
        """1 is the voice's own."""

    def told(self) -> dict[str, Any]:
        """What to say of it at the end: JSON values."""


class Speaker(Protocol):
    """An engine. Safe to call from several threads."""

    session: Session
    rate: int
    """Samples a second."""

    def manner(self, job: Speak) -> Any:
        """A Manner. Raises Invalid that names the parameter, Unsupported."""

    def windows(self, piece: Piece, manner: Any) -> list[Window]:
        """What is to be spoken for *piece*; empty: nothing can be."""

    def sound(self, window: Window, manner: Any) -> Any:
        """The samples, 1.0 the loudest. Raises what the engine raises."""


class SpeechModel:
    """What `load` gives for a model that speaks."""

    def __init__(self, speaker: Speaker, options: Options, plan: Plan) -> None:
        """Raises Invalid."""
        self.parallel = plan.settings.parallel or lane.PARALLEL
        if not 1 <= self.parallel <= _MOST_PARALLEL:
            raise Invalid(f"parallel is {self.parallel}.", f"It must be 1 to {_MOST_PARALLEL}.")
        self._speaker, self._options = speaker, options
        self._turns = Turns(lane.lanes(self.parallel, speaker.session.threads))

    def generate(self, job: Job, stop: Stop) -> Iterator[Event]:
        """Do *job*. Raises, before any event, Unsupported, Invalid, TooLarge and Closed."""
        self._turns.check()
        if not isinstance(job, Speak):
            raise Unsupported(
                f"this model speaks; it does not do the task {job.task}.",
                "Use a model that lists the task (`anyform list`).",
            )
        self._check(job.text)
        manner = self._speaker.manner(job)
        pieces = sentence.split(job.text.translate(_CONTROLS), manner.most)
        windows = self._windows(pieces, manner, stop)
        first = next(windows, None)
        if first is None and not stop.is_set():
            raise Invalid("the text has nothing that can be spoken.", "Send words.", param="input")
        return self._events(chain([first] if first else [], windows), manner, len(pieces), stop)

    def close(self) -> None:
        """End running jobs with Closed, free everything. Idempotent."""
        self._turns.close()
        self._speaker.session.close()

    def _check(self, text: str) -> None:
        if not text.strip():
            raise Invalid("the text is empty.", "Send words.", param="input")
        if any("\ud800" <= one <= "\udfff" for one in text):
            raise Invalid("the text has half of a surrogate pair, which is no character.", "Send UTF-8.", param="input")
        if len(text) > self._options.letters:
            raise TooLarge(
                f"the text has {len(text):,} characters; one may have {self._options.letters:,}.",
                "Send it in parts; the load option `letters` is the limit.",
                param="input",
                limit=self._options.letters,
            )

    def _windows(self, pieces: Sequence[Piece], manner: Manner, stop: Stop) -> Iterator[tuple[int, Window]]:
        """Of which sentence, and what; made as they are asked for, until *stop* is set. Raises Closed."""
        for number, piece in enumerate(pieces):
            self._turns.check()
            if stop.is_set():
                return
            for window in self._speaker.windows(piece, manner):
                yield number, window

    def _events(
        self, windows: Iterator[tuple[int, Window]], manner: Manner, sentences: int, stop: Stop
    ) -> Iterator[Event]:
        yield Progress(stage=PROGRESS, total=sentences)
        started, samples, tokens, rate = time.perf_counter(), 0, 0, self._speaker.rate
        running, pause_s = Running(), 0.0
        with self._turns.request(stop, running.end) as request:
            while not request.ended and (found := next(windows, None)) is not None:
                number, window = found
                sound = self._sound(window, manner, request, running)
                if sound is None:
                    break
                data = pcm.joined(pcm.checked(sound, window.said), rate, pause_s / manner.speed)
                samples, tokens = samples + len(data) // 2, tokens + len(window.tokens)
                pause_s = self._pause_s(window.end)
                yield Blob(
                    data=data,
                    media_type=MEDIA_TYPE,
                    extra={"sample_rate": rate, "channels": 1, "sentence": number},
                )
            self._turns.check()
            cancelled = request.ended
        yield Done(
            finishes=(Finish(reason="cancelled" if cancelled else "stop"),),
            usage=Usage(prompt_tokens=tokens),
            generate_s=time.perf_counter() - started,
            extra={"duration": samples / rate, "sample_rate": rate, "pauses": self._pauses(), **manner.told()},
        )

    def _sound(self, window: Window, manner: Manner, request: Request, running: Running) -> Any:
        """Samples; None: *request* was ended first."""
        with self._turns.turn(request) as came:
            if not came:
                return None
            try:
                with self._speaker.session.under(running):
                    return self._speaker.sound(window, manner)
            except Fault:
                raise
            except Exception as error:  # onnxruntime has one class for each of its codes, and no common one
                if request.ended:
                    return None
                raise failed(error, window.said) from error

    def _pauses(self) -> dict[str, float]:
        """For who has a text spoken in several jobs: seconds at speed 1 that belong between them."""
        return {kind.name.lower(): self._pause_s(kind) for kind in (Break.CLAUSE, Break.SENTENCE, Break.PARAGRAPH)}

    def _pause_s(self, end: Break) -> float:
        chosen = self._options
        pauses = {
            Break.CLAUSE: chosen.clause_pause,
            Break.SENTENCE: chosen.sentence_pause,
            Break.PARAGRAPH: chosen.paragraph_pause,
        }
        return pauses.get(end, 0.0)


def checked_speed(speed: float, speeds: tuple[float, float]) -> float:
    """*speed* as a float. Raises Invalid where it is not within *speeds*; NaN is within nothing."""
    least, most = speeds
    if not least <= speed <= most:
        raise Invalid(f"speed is {speed:g}.", f"This model speaks at {least:g} to {most:g}.", param="speed")
    return float(speed)


def warm_up(speaker: Speaker, windows: Sequence[Window], manner: Manner, model: str) -> None:
    """Speak *windows* once. Raises LoadFailed, OutOfMemory."""
    for window in windows[:1]:
        try:
            pcm.checked(speaker.sound(window, manner), window.said)
        except Exception as error:  # onnxruntime has one class for each of its codes, and no common one
            if out_of_memory(error):
                raise OutOfMemory(f"there is no memory to run {model}.", "Use a quantized variant of it.") from error
            raise LoadFailed(f"{model} cannot be run: {error}", "Get the model again.") from error


def failed(error: Exception, said: str) -> Fault:
    """What to say where the engine failed with *error* at *said*."""
    if out_of_memory(error):
        return OutOfMemory(
            f"there is no memory to speak {len(said)} phonemes in one go.",
            "Ask for less at once (`parallel`), or use a quantized variant of the model.",
        )
    return Fault(f"the engine failed: {type(error).__name__}: {error}", "Say it differently, or get the model again.")


def spoken(phonemes: str) -> bool:
    """Whether any of *phonemes* sounds: punctuation, stress and blanks alone do not."""
    return any(unicodedata.category(one) in _SPOKEN for one in phonemes)


def flowing(phonemes: str, text: str) -> str:
    """*phonemes* of *text*, one sentence: without the points of abbreviations, at which a voice pauses.

    That of a list's number stays.
    """
    if not LISTED.match(text):
        return _POINT.sub(" ", phonemes)
    number, point, rest = phonemes.partition(".")
    return number + point + _POINT.sub(" ", rest)
